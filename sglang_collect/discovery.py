"""Where the targets of a fleet come from, besides a list in the program: files, an HTTP service, a name.

::

    with sc.Fleet(discovery=[FileSD("/etc/sglang/*.json"), DnsSD("sglang.svc", 30000)]) as fleet: ...

Files and services are those that Prometheus reads (``file_sd``, ``http_sd``): a list of groups
``{"targets": ["host:30000", ...], "labels": {...}}``. Each target is a server called ``host:30000``, and
read at ``http://host:30000/metrics``, where the labels ``__scheme__`` and ``__metrics_path__`` say nothing
else; other labels that begin with two underscores are left out. A group with a label ``instance`` is one
server of that name, whose nodes are the group's targets.

What was known stays known while a source fails, and the log says so.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import socket
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from . import _core
from .errors import SGLangCollectError
from .fleet import Target
from .options import DEFAULT_TIMEOUT, Path, make_endpoint

if TYPE_CHECKING:
    from ._roster import Roster

__all__ = ["Discovery", "DnsSD", "FileSD", "HttpSD", "targets_of"]

logger = logging.getLogger("sglang_collect")

_JOIN_SECONDS = 2.0  # closing a fleet waits no longer for a source that does not answer


class Discovery(ABC):
    """A source of targets.

    Attributes:
        refresh: seconds from one look to the next.
    """

    def __init__(self, refresh: float) -> None:
        if not 0.01 <= refresh <= 86_400:
            raise ValueError("refresh is 0.01 to 86400 seconds")
        self.refresh = refresh
        self._known: list[Target] = []
        self._fails = False

    @abstractmethod
    def find(self) -> list[Target]:
        """The targets there are now; it may block.

        Raises:
            Exception: that could not be told.
        """

    def look(self) -> list[Target]:
        """The targets there are now, or those known before where that cannot be told."""
        try:
            self._known = self.find()
            self._fails = False
        except Exception as error:
            if not self._fails:
                logger.warning("%s: %s; its %d known targets stay", self, error, len(self._known))
            self._fails = True
        return self._known


# --------------------------------------------------------------------- groups


def targets_of(groups: object) -> list[Target]:
    """The targets of a list of groups, as in files and answers.

    Raises:
        ValueError: it is no such list; nothing of it is used.
    """
    if not isinstance(groups, list):
        raise ValueError("expected a list of groups")
    return [target for number, group in enumerate(groups, 1) for target in _of_group(group, number)]


def _of_group(group: object, number: int) -> list[Target]:
    if not isinstance(group, dict):
        raise ValueError(f"group {number}: expected an object with targets and labels")
    addresses = group.get("targets")
    labels = group.get("labels") or {}
    if not isinstance(addresses, list) or not all(isinstance(each, str) and each for each in addresses):
        raise ValueError(f"group {number}: targets is a list of texts")
    if not isinstance(labels, dict) or not all(
        isinstance(part, str) for pair in labels.items() for part in pair
    ):
        raise ValueError(f"group {number}: labels has texts only")
    scheme, path = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
    shown = {name: value for name, value in labels.items() if not name.startswith("__")}
    urls = {address: f"{scheme}://{address}{path}" for address in addresses}
    if "instance" in shown and urls:
        return [Target(shown["instance"], tuple(urls.values()), shown)]
    return [Target(address, url, shown) for address, url in urls.items()]


# -------------------------------------------------------------------- sources


class FileSD(Discovery):
    """Files of groups: JSON or, where they are called ``*.yml`` or ``*.yaml``, YAML. Read when they change.

    A file that cannot be read as a whole keeps the targets that it had. Of a pattern, a file that is gone
    has none; a path without a pattern is expected to be there.

    Args:
        pattern: a path, or a pattern of ``glob``: ``"/etc/sglang/*.json"``.
        refresh: seconds from one look at the files to the next.

    Raises:
        ModuleNotFoundError: the pattern is of YAML files, and PyYAML is not installed.
    """

    def __init__(self, pattern: Path, *, refresh: float = 5.0) -> None:
        super().__init__(refresh)
        self._pattern = os.fspath(pattern)
        self._files: dict[str, _File] = {}
        if _is_yaml(self._pattern):
            import yaml  # noqa: F401 - so that what is missing is said now

    def __str__(self) -> str:
        return self._pattern

    def find(self) -> list[Target]:
        is_pattern = glob.has_magic(self._pattern)
        paths = sorted(glob.glob(self._pattern)) if is_pattern else [self._pattern]
        self._files = {path: self._files.get(path) or _File(path, self.refresh) for path in paths}
        files = self._files.values()
        return [target for file in files for target in (file.look() if is_pattern else file.find())]


class _File(Discovery):
    """One of the files, read when it is another than before."""

    def __init__(self, path: str, refresh: float) -> None:
        super().__init__(refresh)
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._targets: list[Target] = []

    def __str__(self) -> str:
        return self._path

    def find(self) -> list[Target]:
        with open(self._path, "rb") as file:
            status = os.fstat(file.fileno())
            stamp = status.st_ino, status.st_size, status.st_mtime_ns
            if stamp != self._stamp:
                try:
                    self._targets = targets_of(_parsed(file.read(), _is_yaml(self._path)))
                except ValueError as error:
                    raise ValueError(f"{self._path}: {error}") from None
                self._stamp = stamp
        return self._targets


def _is_yaml(path: str) -> bool:
    return path.endswith((".yml", ".yaml"))


def _parsed(text: bytes, is_yaml: bool) -> object:
    """What the text says; ValueError where it is not JSON, or not YAML."""
    if not is_yaml:
        return json.loads(text)
    import yaml

    class Texts(yaml.SafeLoader):
        """Every value as it is written, so that a label may be 3 or 1.10: Prometheus takes them so."""

        yaml_implicit_resolvers = {  # noqa: RUF012 - as the class above has it
            first: [pair for pair in pairs if pair[0].endswith((":merge", ":null"))]
            for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        return yaml.load(text, Loader=Texts)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


class HttpSD(Discovery):
    """A service that answers with groups, as JSON. The options not explained here are those of ``scrape``.

    Args:
        url: the whole URL.
        refresh: seconds from one request to the next.

    Raises:
        ValueError, TargetRefused, TLSError: as for ``Fleet``.
    """

    def __init__(
        self,
        url: str,
        *,
        refresh: float = 60.0,
        timeout: float = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
        bearer_token: str | None = None,
        basic_auth: tuple[str, str] | None = None,
        ca_file: Path | None = None,
        client_cert: Path | tuple[Path, Path] | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__(refresh)
        self._endpoint = make_endpoint(
            url,
            timeout=timeout,
            headers=headers,
            bearer_token=bearer_token,
            basic_auth=basic_auth,
            ca_file=ca_file,
            client_cert=client_cert,
            verify=verify,
            json=True,
        )

    def __str__(self) -> str:
        return self._endpoint.label

    def find(self) -> list[Target]:
        results: list[_core.Result] = []
        with _core.Scraper() as scraper:
            scraper.submit(self._endpoint)
            while not results:
                results = scraper.wait()
        result = results.pop()
        if result.error is not None:
            raise result.error
        try:
            return targets_of(json.loads(bytes(result.body or b"")))
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from None


Resolve = Callable[[str, int], Iterable[str]]
"""The addresses of a name; it may block."""


def _resolve(name: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]


class DnsSD(Discovery):
    """A name with several addresses, such as a headless service of Kubernetes: each is a target.

    A target is called ``address:port``. Certificates are checked for the address.

    Args:
        name: the name to look up.
        port: of every server.
        scheme: of their metrics pages.
        path: of their metrics pages.
        refresh: seconds from one look-up to the next.
        resolve: gives the addresses of a name, in the place of the system's resolver.

    Raises:
        ValueError: the name is empty.
        TargetRefused: no server can be asked by such a port, scheme or path.
    """

    def __init__(
        self,
        name: str,
        port: int = 30000,
        *,
        scheme: str = "http",
        path: str = "/metrics",
        refresh: float = 30.0,
        resolve: Resolve = _resolve,
    ) -> None:
        super().__init__(refresh)
        if not name:
            raise ValueError("a name to look up is expected")
        make_endpoint(f"{scheme}://localhost:{port}{path}")  # what cannot be used is an error here
        self._name, self._port = name, port
        self._scheme, self._path = scheme, path
        self._resolve = resolve

    def __str__(self) -> str:
        return f"{self._name}:{self._port}"

    def find(self) -> list[Target]:
        addresses = sorted(set(self._resolve(self._name, self._port)))
        if not addresses:
            raise ValueError("the name has no address")
        hosts = [f"[{address}]" if ":" in address else address for address in addresses]
        places = [f"{host}:{self._port}" for host in hosts]
        return [
            Target(place, f"{self._scheme}://{place}{self._path}", {"name": self._name}) for place in places
        ]


# -------------------------------------------------------------------- refreshing


class Refresher:
    """Keeps a roster up to date with its sources, from a thread of its own."""

    def __init__(self, sources: Sequence[Discovery], roster: Roster) -> None:
        for source in sources:
            if not isinstance(source, Discovery):
                raise TypeError(f"expected a Discovery, such as FileSD, not {type(source).__name__}")
        self._sources = sources
        self._roster = weakref.ref(roster)  # a fleet that is dropped is to go
        self._found: list[list[Target]] = [[] for _ in sources]
        self._taken: list[Target] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sglang_collect discovery", daemon=True)
        weakref.finalize(roster, self._stopped.set)

    def start(self) -> None:
        """Looks at every source once, and then goes on in the thread."""
        self._look(range(len(self._sources)))
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        due = [time.monotonic() + source.refresh for source in self._sources]
        while not self._stopped.wait(max(0.0, min(due) - time.monotonic())):
            now = time.monotonic()
            ready = [number for number, moment in enumerate(due) if moment <= now]
            self._look(ready)
            for number in ready:
                due[number] = time.monotonic() + self._sources[number].refresh

    def _look(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._found[number] = self._sources[number].look()
        found = [target for targets in self._found for target in targets]
        roster = self._roster()
        if found != self._taken and roster is not None and not self._stopped.is_set():
            self._taken = found
            _take(roster, found)


def _take(roster: Roster, found: Sequence[Target]) -> None:
    """Makes these the members that were found; a target that is as before keeps all that is known of it."""
    wanted: dict[str, Target] = {}
    for target in found:
        if wanted.setdefault(target.instance_id, target) != target:
            logger.warning("two targets were found that are called %r: the first stands", target.instance_id)
    known = {member.target.instance_id: member for member in roster.members() if member.found}
    for name, member in known.items():
        if wanted.get(name) == member.target:
            del wanted[name]
        else:
            with suppress(KeyError):  # removed by hand meanwhile
                roster.remove(name)
    for target in wanted.values():
        try:
            roster.add(target, found=True)
        except (SGLangCollectError, ValueError, TypeError) as error:
            logger.warning("the target %r that was found is left out: %s", target.instance_id, error)
