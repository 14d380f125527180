"""The command line: ``sglang-collect scrape | fleet | top | simulate | serve | demo | completion``.

Exit codes: 0; 1 for an expected failure, told in one line on stderr with a hint where one helps; 2 for bad
usage; 130 after Ctrl-C. ``simulate``, ``serve``, and without ``--once`` ``fleet`` and ``top`` are meant
to be ended by SIGINT or SIGTERM, and then exit with 0. Whatever a command does not need is not imported.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ._completion import SHELLS, script
from ._version import __version__
from .errors import ConnectError, HTTPStatusError, SGLangCollectError, TLSError
from .options import DEFAULT_TIMEOUT, endpoint_url
from .top import SORTS

if TYPE_CHECKING:
    from .fleet import Fleet, ScrapeResult, Target
    from .models import SGLangMetricsSnapshot

__all__ = ["main"]

_PROGRAM = "sglang-collect"
_DEMO_SECONDS = 90
_WATCH_INTERVAL = 2.0  # seconds
_EXTRAS = {("top", "textual"): "top", ("serve", "uvicorn"): "api", ("serve", "fastapi"): "api"}
"""What brings a module that a command needs; the others come with cli."""
_EPILOG = """\
A first look, without a server:  sglang-collect top --demo
The options of a command:        sglang-collect COMMAND --help
Exit status: 0; 1 where a server could not be read, or something else failed that may
fail; 2 for bad usage; 130 after Ctrl-C."""


class _Failure(Exception):
    """An expected failure that is no exception of the package's; its text is shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except (SGLangCollectError, _Failure, OSError) as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return _complain(args, error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("sglang_collect"):
            raise
        extra = _EXTRAS.get((args.command, error.name), "cli")
        return _complain(args, _Failure(f"{error.name} is not installed: pip install '{_PROGRAM}[{extra}]'"))
    except KeyboardInterrupt:
        return 130


def _complain(args: argparse.Namespace, error: Exception) -> int:
    hint = _hint(error, getattr(args, "url", ""))
    told = f"{_PROGRAM} {args.command}: {_told(error)}"
    print(f"{told}. Hint: {hint}" if hint else told, file=sys.stderr)
    return 1


def _told(error: Exception) -> str:
    """An error in words: of the system's without its number, and with the file first."""
    if isinstance(error, OSError) and not isinstance(error, SGLangCollectError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _hint(error: Exception, url: str) -> str:
    """What most often is behind an error; empty where that cannot be known."""
    if isinstance(error, HTTPStatusError):
        if error.reason == "redirect":
            return f"ask for {_other_path(url)}"
        if error.status == 404:
            asks = "does the server run with --enable-metrics?"
            return asks if url.endswith("/metrics") else "an SGLang server's page is /metrics"
        if error.status in (401, 403):
            return "an older SGLang with an API key? --bearer-token-file FILE"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "--port 0 picks a free one"
    if isinstance(error, ConnectError) and error.reason == "connect_failed" and url:
        return "is the server up, and is this its port? SGLang's own default is 30000"
    if isinstance(error, TLSError) and error.reason == "tls_untrusted":
        return "--ca-file FILE names the authority to trust"
    if isinstance(error, TLSError) and error.reason == "tls_handshake" and url:
        return f"a server without TLS is http{url.removeprefix('https')}"
    return ""


def _other_path(url: str) -> str:
    """The URL to which servers most often redirect: the one with, or without, a slash at its end."""
    return url[:-1] if url.endswith("/") else f"{url}/"


# --------------------------------------------------------------------- usage


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Reads the metrics of SGLang servers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_scrape(commands)
    _add_fleet(commands)
    _add_top(commands)
    _add_simulate(commands)
    _add_serve(commands)
    demo = commands.add_parser(
        "demo",
        help="scrape a simulated server and compare with its truth",
        description="Starts a simulated SGLang server, scrapes it, shows the snapshot and compares it with "
        "what is true of the server. Exits with 0 only where every field is equal.",
    )
    demo.set_defaults(run=_demo)
    completion = commands.add_parser(
        "completion",
        help="print a script that completes commands in a shell",
        description="Prints a script that completes commands, options and their values. For bash or zsh: "
        'eval "$(sglang-collect completion bash)" in ~/.bashrc; for fish: sglang-collect completion fish '
        "> ~/.config/fish/completions/sglang-collect.fish",
    )
    completion.add_argument(
        "shell", choices=SHELLS, help="the shell that reads it: %(choices)s", metavar="SHELL"
    )
    completion.set_defaults(run=lambda args: _completion(parser, args.shell))
    return parser


def _add_scrape(commands: Any) -> None:
    scrape = commands.add_parser(
        "scrape",
        help="read one server's metrics page",
        description="Reads one SGLang server's metrics page and shows the snapshot. "
        "'-' is a value that the page does not have.",
    )
    add = scrape.add_argument
    add("url", type=endpoint_url, metavar="URL", help="host:port, or the whole URL of the page")
    add("--json", action="store_true", help="print the snapshot as JSON")
    add("--instance-id", metavar="ID", help="name of the server in the snapshot (default: host:port)")
    _add_how_to_ask(add)
    scrape.set_defaults(run=_scrape, usage_error=scrape.error)


def _add_how_to_ask(add: Callable[..., object]) -> None:
    """The options that ``_how_to_ask`` reads."""
    add(
        "--timeout",
        type=float,
        metavar="S",
        default=DEFAULT_TIMEOUT,
        help="seconds, for the whole scrape (%(default)s)",
    )
    add("--bearer-token-file", metavar="F", help="file with the token for an Authorization header")
    add("--ca-file", metavar="F", help="PEM file of the authorities to trust instead of the system's")
    add(
        "--client-cert",
        metavar="F",
        help="PEM file of a client certificate, and its key where --client-key is not given",
    )
    add("--client-key", metavar="F", help="PEM file of its key")
    add(
        "--header",
        action="append",
        type=_header,
        default=[],
        metavar="'N: V'",
        help="one more request header",
    )
    add("--insecure", action="store_true", help="do not check the server's certificate")


def _add_fleet(commands: Any) -> None:
    fleet = commands.add_parser(
        "fleet",
        help="read many servers, once or again and again",
        description="Reads many SGLang servers until it is interrupted, and shows them: a table on a "
        "terminal, else a line of JSON for each scrape. With --once it ends after one scrape of each, with "
        "exit code 1 where one failed.",
    )
    add = fleet.add_argument
    _add_targets(add)
    add("--interval", type=float, default=5.0, metavar="S", help="seconds between two scrapes (%(default)s)")
    add("--once", action="store_true", help="scrape each target once")
    add("--json", action="store_true", help="print lines of JSON on a terminal too")
    _add_how_to_ask(add)
    fleet.set_defaults(run=_fleet, usage_error=fleet.error)


def _add_targets(add: Callable[..., object]) -> None:
    """The options that ``_fleet_of`` reads, ``_how_to_ask`` and the interval excepted."""
    add("targets", nargs="*", type=endpoint_url, metavar="TARGET", help="host:port, or the URL of a page")
    add(
        "--file-sd",
        action="append",
        default=[],
        metavar="F",
        help="file with targets, as Prometheus' file_sd reads it: JSON or YAML, 'targets/*.json'",
    )
    add(
        "--http-sd",
        action="append",
        default=[],
        metavar="URL",
        help="service that answers with targets, as Prometheus' http_sd asks it",
    )


def _add_top(commands: Any) -> None:
    top = commands.add_parser(
        "top",
        help="watch many servers on a live screen",
        description="Shows many SGLang servers on a terminal, live: a row for each, sparklines, and one of "
        "them in depth. '?' shows the keys, 'q' ends it. With --once it reads each server twice, an interval "
        "apart, prints the table and ends, with exit code 1 where one failed. '–' is a value that a page has "
        "not.",
    )
    add = top.add_argument
    _add_targets(add)
    add("--demo", action="store_true", help="start simulated servers, and show these too")
    add("--interval", type=float, default=1.0, metavar="S", help="seconds between two scrapes (%(default)s)")
    add(
        "--window",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds that rates, hit rates and latencies are of (%(default)s)",
    )
    add("--once", action="store_true", help="print the table and end; on pipes too, and without textual")
    add(
        "--sort",
        choices=SORTS,
        default=SORTS[0],
        metavar="COLUMN",
        help=f"sort by {', '.join(SORTS)} (%(default)s: their order)",
    )
    add("--reverse", action="store_true", help="sort the other way round")
    add(
        "--filter",
        default="",
        metavar="WORDS",
        help="only servers whose name, URL, labels, models or state have these words",
    )
    _add_how_to_ask(add)
    top.set_defaults(run=_top, usage_error=top.error)


def _add_simulate(commands: Any) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="run a simulated SGLang server",
        description="Runs a server that behaves like SGLang's /metrics under made-up load, until it is "
        "interrupted. Prints its URL first. /simulator/truth answers what is true of it.",
    )
    add = simulate.add_argument
    add("--dp", type=int, default=1, metavar="N", help="data-parallel groups (%(default)s)")
    add("--tp", type=int, default=1, metavar="N", help="tensor-parallel ranks of each (%(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="the same seed gives the same load (%(default)s)")
    add("--load", type=float, default=0.5, metavar="X", help="0 is idle, 1 is busy (%(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=30000, help="0 picks a free one (%(default)s)")
    add("--steps", type=int, default=0, metavar="N", help="seconds it has lived when it starts (%(default)s)")
    add("--freeze", action="store_true", help="let no time pass: POST /simulator/step?n=N does")
    simulate.set_defaults(run=_simulate, usage_error=simulate.error)


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="run the HTTP service that collects on request, and its page",
        description="Serves a page of the servers at /, and under /api/v1: POST /collect/sglang and "
        "/collect/sglang/batch, GET /fleet, /fleet/events, /metrics and /metrics/sglang/{instance_id}. Every "
        "option can come from the environment instead: SGLANG_COLLECT_MAX_TIMEOUT=5 is --max-timeout 5, and "
        "SGLANG_COLLECT_ALLOW=A,B is --allow A B.",
    )
    serve.add_argument(
        "targets",
        nargs="*",
        type=endpoint_url,
        metavar="TARGET",
        help="a server to show, called host:port: host:port, or the URL of its page",
    )

    def add(flag: str, help: str, **kwargs: Any) -> None:
        name = f"SGLANG_COLLECT_{flag[2:].replace('-', '_').upper()}"
        if name in os.environ:
            kwargs["default"] = os.environ[name]
        serve.add_argument(flag, help=help, **kwargs)

    add("--host", "address to listen on (127.0.0.1)", default="127.0.0.1")
    add("--port", "0 picks a free one (8000)", type=_port, default=8000)
    add(
        "--allow",
        "targets that a caller may name: 10.1.0.0/16:30000",
        type=_commas,
        nargs="+",
        metavar="ENTRY",
    )
    add("--instance", "a server that callers ask for by its ID", type=_commas, nargs="+", metavar="ID=URL")
    add("--timeout", "seconds for a scrape whose caller names none", type=float, metavar="S")
    add("--max-timeout", "the most seconds that a caller gets", type=float, metavar="S")
    add("--max-concurrent", "connections open at once", type=int, metavar="N")
    add("--max-queue", "collections that may wait for one", type=int, metavar="N")
    add("--max-body-bytes", "size of a page after decompression", type=int, metavar="N")
    add(
        "--watch-interval",
        f"seconds to scrape every instance in, all the time ({_WATCH_INTERVAL:g} where there are TARGETs)",
        type=float,
        metavar="S",
    )
    add("--max-viewers", "who may follow the instances at once", type=int, metavar="N")
    add("--include-raw", "yes: an answer holds every sample of the page", type=_yes, metavar="YES")
    add("--token-file", "file with the bearer token that callers must send", metavar="F")
    serve.add_argument("--demo", action="store_true", help="start simulated servers, and show these too")
    serve.set_defaults(run=_serve, usage_error=serve.error)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("expected 'Name: value'")
    return name.strip(), value.strip()


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("expected a port, 0 to 65535")
    return int(text)


def _commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _yes(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false", "1", "0"):
        raise argparse.ArgumentTypeError("expected yes or no")
    return text.lower() in ("yes", "true", "1")


def _flat(values: Sequence[str | list[str]] | None) -> list[str]:
    """A list option: a list for each word of the command line, or one list from the environment."""
    return [part for value in values or () for part in ([value] if isinstance(value, str) else value)]


def _bad_usage(args: argparse.Namespace, message: str) -> NoReturn:
    usage_error: Callable[[str], NoReturn] = args.usage_error
    usage_error(message)


# ------------------------------------------------------------------ commands


def _scrape(args: argparse.Namespace) -> int:
    from .collector import scrape

    try:
        snapshot = scrape(args.url, instance_id=args.instance_id, **_how_to_ask(args))
    except SGLangCollectError:
        raise
    except ValueError as error:
        _bad_usage(args, str(error))
    if not snapshot.raw_metrics:
        raise _Failure(
            f"{snapshot.endpoint}: the page has no SGLang metrics. Hint: an empty page is a fresh server "
            "that has run no batch yet; otherwise, is this the port of an SGLang server?"
        )
    _show(snapshot, as_json=args.json)
    return 0


def _how_to_ask(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword options of a scrape."""
    if args.client_key and not args.client_cert:
        _bad_usage(args, "--client-key needs --client-cert")
    return {
        "timeout": args.timeout,
        "headers": dict(args.header) or None,
        "bearer_token": _secret(args.bearer_token_file),
        "ca_file": _there(args.ca_file),
        "client_cert": _there(args.client_cert, args.client_key),
        "verify": not args.insecure,
    }


def _secret(path: str | None) -> str | None:
    """The token in a file, without the line break after it."""
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        token = file.read().strip()
    if not token:
        raise _Failure(f"{path}: the file is empty")
    return token


def _there(*paths: str | None) -> Any:
    """The files that were given, which can be read: None, one, or a tuple. The core's errors name no file."""
    given = [path for path in paths if path is not None]
    for path in given:
        open(path, "rb").close()
    return tuple(given) if len(given) > 1 else next(iter(given), None)


def _show(snapshot: SGLangMetricsSnapshot, *, as_json: bool) -> None:
    if as_json:
        print(snapshot.model_dump_json(indent=2))
        return
    from ._table import write_snapshot

    write_snapshot(snapshot, sys.stdout)


def _fleet(args: argparse.Namespace) -> int:
    with _fleet_of(args) as fleet:
        return _sweep(fleet, args) if args.once else _watch(fleet, args)


def _fleet_of(args: argparse.Namespace, more: Sequence[Target] = ()) -> Fleet:
    """The fleet of the targets that were given or are found, and of some more."""
    from .collector import _host_port
    from .discovery import FileSD, HttpSD
    from .fleet import Fleet, Target, check_interval

    try:
        sources = [*map(FileSD, args.file_sd), *(HttpSD(url, timeout=args.timeout) for url in args.http_sd)]
        targets = [*(Target(_host_port(url), url) for url in args.targets), *more]
        fleet = Fleet(targets, discovery=sources, **_how_to_ask(args))
        check_interval(args.interval)
    except SGLangCollectError:
        raise
    except ValueError as error:
        _bad_usage(args, str(error))
    if not sources and not targets:
        _bad_usage(args, "no TARGET, --file-sd or --http-sd")
    try:
        found = [target for source in sources for target in source.find()]
    except ValueError as error:
        raise _Failure(str(error)) from None
    if not targets and not found:
        raise _Failure("no targets were found")
    return fleet


def _sweep(fleet: Fleet, args: argparse.Namespace) -> int:
    from ._fleet_table import write_fleet

    results = fleet.scrape()
    if _wants_json(args):
        _show_lines(results)
    else:
        write_fleet(fleet, sys.stdout)
    return 0 if all(result.up for result in results) else 1


def _watch(fleet: Fleet, args: argparse.Namespace) -> int:
    from ._fleet_table import live

    with _until_interrupted(), contextlib.ExitStack() as stack:
        show = None
        if not _wants_json(args):
            show = stack.enter_context(live(fleet, sys.stdout, pause=args.interval))
        for results in fleet.watch(args.interval):
            if show is None:
                _show_lines(results)
            else:
                show()
    return 0


def _top(args: argparse.Namespace) -> int:
    from .top.rows import Board, View

    if not (args.targets or args.file_sd or args.http_sd or args.demo):
        _bad_usage(args, "no TARGET, --file-sd, --http-sd or --demo")
    if not 0.01 <= args.window <= 3600:
        _bad_usage(args, "a window is 0.01 to 3600 seconds")
    view = View(args.sort, args.reverse, tuple(args.filter.lower().split()))
    if not args.once:
        import textual  # noqa: F401  what is missing is told before servers are asked

        terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
        if not terminal or os.environ.get("TERM", "dumb") == "dumb":
            raise _Failure(
                "the screen needs a terminal. Hint: --once prints the table, 'fleet' lines of JSON"
            )
    with contextlib.ExitStack() as stack:
        more = []
        if args.demo:
            from ._demo import simulated

            more = stack.enter_context(simulated())
        fleet = stack.enter_context(_fleet_of(args, more))
        if not args.once:
            from .top.app import run

            return run(fleet, interval=args.interval, window=args.window, view=view)
        from .top.plain import read_twice, write_board

        board = Board(fleet, interval=args.interval, window=args.window)
        read_twice(fleet, board)
        write_board(board, view, sys.stdout)
        return 0 if all(row.up for row in board.rows) else 1


def _wants_json(args: argparse.Namespace) -> bool:
    return bool(args.json) or not sys.stdout.isatty()


def _show_lines(results: Sequence[ScrapeResult]) -> None:
    """A line of JSON for each result: its summary and its snapshot, without the samples of the page."""
    import json

    for result in results:
        snapshot = result.snapshot
        if snapshot is not None:
            snapshot.raw_metrics = []
        text = "null" if snapshot is None else snapshot.to_json().decode()
        print(f'{json.dumps(result.summary())[:-1]}, "snapshot": {text}}}')
    sys.stdout.flush()


def _simulate(args: argparse.Namespace) -> int:
    from .simulator import LoadModel, Simulator

    try:
        model = LoadModel(dp=args.dp, tp=args.tp, seed=args.seed, load=args.load)
    except ValueError as error:
        _bad_usage(args, str(error))
    with _until_interrupted():
        model.step(args.steps)
        with Simulator(model, host=args.host, port=args.port, frozen=args.freeze) as simulator:
            print(simulator.url, flush=True)
            signal.pause()
    return 0


def _serve(args: argparse.Namespace) -> int:
    from ._serve import serve
    from .collector import _host_port

    instances = {_host_port(url): url for url in args.targets}
    for entry in _flat(args.instance):
        name, equals, url = entry.partition("=")
        if not equals:
            _bad_usage(args, f"--instance {entry}: expected ID=URL")
        instances[name] = endpoint_url(url)
    names = (
        *("timeout", "max_timeout", "max_concurrent", "max_queue", "max_body_bytes", "watch_interval"),
        *("max_viewers", "include_raw"),
    )
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.targets or args.demo:
        given.setdefault("watch_interval", _WATCH_INTERVAL)
    with _until_interrupted(), contextlib.ExitStack() as stack:
        if args.demo:
            from ._demo import simulated

            instances |= {
                target.instance_id: target.endpoints[0] for target in stack.enter_context(simulated())
            }
        try:
            serve(
                {"allow": _flat(args.allow), "instances": instances, **given},
                token=_secret(args.token_file),
                host=args.host,
                port=args.port,
            )
        except SGLangCollectError:
            raise
        except ValueError as error:
            _bad_usage(args, str(error))
    return 0


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
    """SIGINT and SIGTERM end what is inside, and that is no failure."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _completion(parser: argparse.ArgumentParser, shell: str) -> int:
    print(script(parser, shell), end="")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from .collector import scrape
    from .simulator import LoadModel, Simulator

    with Simulator(LoadModel(dp=2, tp=2, seed=1, load=0.9), frozen=True) as simulator:
        simulator.step(_DEMO_SECONDS)
        snapshot = scrape(simulator.url, instance_id="simulated")
        truth = simulator.truth()
    _show(snapshot, as_json=False)
    print(
        f"\n{_DEMO_SECONDS} simulated seconds, 2 data-parallel groups of 2 ranks. Compared with the truth:\n"
    )
    fields: dict[str, float | None] = truth["plan"]
    print(f"  {'field':<45} {'snapshot':>20} {'truth':>20}")
    equal = 0
    for name, want in fields.items():
        group, field = name.split(".")
        got = None if name in snapshot.absent else getattr(getattr(snapshot, group), field)
        same = got == want or (got is not None and want is not None and math.isclose(got, want, rel_tol=1e-9))
        equal += same
        print(f"  {name:<45} {got!s:>20} {want!s:>20}  {'equal' if same else 'DIFFERS'}")
    print(f"\nfields equal: {equal} of {len(fields)}")
    return 0 if equal == len(fields) else 1
