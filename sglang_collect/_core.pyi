"""The C core as Python sees it: pages, histograms, plans and the scraper.

Objects are immutable and may be shared between threads unless said otherwise.
Labels are ``dict[str, str]``; an absent label and an empty one are the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import Any, Final, Literal, SupportsIndex, TypeVar, final, overload

from typing_extensions import Buffer, Self

CURL_VERSION: Final[str]
LIMITS: Final[dict[str, int]]
"""Default ceilings by name: ``body_bytes``, ``samples``, ``labels_per_sample``, ..."""
REASONS: Final[dict[str, str]]
"""Every ``ScrapeError.reason`` and the name of the exception class it comes with."""

_Format = Literal["text", "openmetrics", "auto"]
_Path = str | PathLike[str]
_T = TypeVar("_T")

def parse(
    data: Buffer | str,
    /,
    *,
    format: _Format = "text",
    strict: bool = False,
    limits: object | None = None,
) -> Page: ...

@final
class Exemplar:
    @property
    def labels(self) -> dict[str, str]: ...
    @property
    def value(self) -> float: ...
    @property
    def timestamp(self) -> float | None: ...

@final
class Sample:
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> dict[str, str]: ...
    @property
    def value(self) -> float: ...
    @property
    def timestamp(self) -> float | None: ...
    @property
    def exemplar(self) -> Exemplar | None: ...
    @property
    def family(self) -> Family: ...

@final
class Samples(Sequence[Sample]):
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Sample: ...
    @overload
    def __getitem__(self, index: slice, /) -> Sequence[Sample]: ...
    def __iter__(self) -> Iterator[Sample]: ...
    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int: ...
    def count(self, value: Any) -> int: ...

@final
class Family:
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def samples(self) -> Samples: ...

@final
class Families(Mapping[str, Family]):
    def __len__(self) -> int: ...
    def __getitem__(self, name: str, /) -> Family: ...
    def __iter__(self) -> Iterator[str]: ...
    @overload
    def get(self, key: str, default: None = None) -> Family | None: ...
    @overload
    def get(self, key: str, default: _T) -> Family | _T: ...

@final
class Values:
    """The values of a page; supports the buffer protocol. Seen as ``Page.values.obj``."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview[float]: ...

@final
class Series:
    """What the values of many pages belong to. Hashable; compares by name and labels."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> MappingProxyType[str, str]:
        """Read-only and always the same, in page order."""

@final
class Columns:
    """A page by columns: ``values[i]`` is the value of ``series[i]``. Keeps its page alive.

    Columns made ``like`` those of an earlier page have the same Series where the page has the same text, and
    the same tuple where all of it is the same: ``columns.series is earlier.series`` says that what was worked
    out for the tuple still holds::

        columns = page.columns(like=columns)
        if columns.series is not known:
            known = columns.series
            running = [i for i, series in enumerate(known) if series.name == "sglang:num_running_reqs"]
        total = sum(columns.values[i] for i in running)
    """

    @property
    def series(self) -> tuple[Series, ...]: ...
    @property
    def values(self) -> memoryview[float]:
        """``Page.values``: float64, one for each series."""

@final
class Page:
    @property
    def samples(self) -> Samples: ...
    @property
    def families(self) -> Families: ...
    @property
    def format(self) -> Literal["text", "openmetrics"]: ...
    @property
    def values(self) -> memoryview[float]:
        """The value of every sample in page order, as read-only float64, strided and not copied.

        Keeps the page alive. A value may be NaN or infinite; a page without samples has none.
        """

    def columns(self, like: Columns | None = None) -> Columns:
        """``like``: the Columns of an earlier page of the same target, whose Series are used again.

        A series is known by its text, so one whose name has escapes is made anew each time.
        """

    def value(self, name: str, /, **labels: str) -> float | None: ...
    def histogram(self, name: str, /, **labels: str) -> Histogram | None: ...

@final
class Histogram:
    def __new__(
        cls,
        bounds: Iterable[float],
        counts: Iterable[float],
        *,
        sum: float | None = None,
    ) -> Self: ...
    @property
    def bounds(self) -> tuple[float, ...]: ...
    @property
    def counts(self) -> tuple[float, ...]: ...
    @property
    def count(self) -> float: ...
    @property
    def sum(self) -> float | None: ...
    @property
    def mean(self) -> float | None: ...
    def quantile(self, q: float, /) -> float | None: ...
    def resolution(self, q: float, /) -> tuple[float, float] | None: ...
    def since(self, earlier: Histogram, /) -> tuple[Histogram, bool]: ...
    def __add__(self, other: Histogram, /) -> Histogram: ...
    def __radd__(self, other: Histogram, /) -> Histogram: ...
    def __sub__(self, other: Histogram, /) -> Histogram: ...
    def __rsub__(self, other: Histogram, /) -> Histogram: ...

@final
class Extract:
    """One wanted number of a Plan. See sgc_extract in csrc/core/sgc.h."""

    def __new__(
        cls,
        names: Sequence[str],
        *,
        kind: Literal["value", "histogram", "label"] = "value",
        where: Sequence[tuple[str, str, Sequence[str]]] = (),
        without: Sequence[str] = (),
        lowest: Sequence[str] = (),
        by: str = "",
        reduce: Literal["sum", "max", "mean"] = "sum",
    ) -> Self: ...

_Number = float | None
_Slot = float | Histogram | dict[str, float] | dict[str, Histogram] | None

@final
class Plan:
    def __new__(cls, prefixes: Sequence[str], extracts: Mapping[str, Extract]) -> Self: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    def fold(
        self,
        data: Buffer | str | Page,
        /,
        *,
        format: _Format = "text",
        strict: bool = False,
        limits: object | None = None,
    ) -> Fold: ...

@final
class Fold(Mapping[str, Any]):
    """Slots by extract name: a float, a Histogram, a dict of either, or None (absent)."""

    @property
    def n_samples(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, name: str, /) -> _Slot: ...
    def __iter__(self) -> Iterator[str]: ...
    @overload
    def get(self, key: str, default: None = None) -> Any: ...
    @overload
    def get(self, key: str, default: _T) -> Any | _T: ...
    def n_series(self, name: str, /) -> int: ...
    def reason(self, name: str, /) -> str | None: ...
    def bounds_differ(self, name: str, /) -> bool: ...

@final
class Steady:
    """Folds the pages of one target: of one that has the lines of the one before, only the values are read.

    Scrapers do so by themselves. Holds a copy of one page. Used by one thread at a time.
    """

    def __new__(cls, plan: Plan) -> Self: ...
    @property
    def hit(self) -> bool:
        """The last page had the lines of the one before."""

    def fold(
        self,
        data: Buffer | str,
        /,
        *,
        format: _Format = "text",
        limits: object | None = None,
    ) -> Fold:
        """What ``Plan.fold`` gives, errors included. RuntimeError while another thread folds."""

@final
class Guard:
    def __new__(cls, allow: Iterable[str] = ()) -> Self: ...
    @property
    def allow(self) -> tuple[str, ...]: ...

@final
class Endpoint:
    def __new__(
        cls,
        url: str,
        *,
        timeout: float = 10.0,
        headers: Mapping[str, str] | None = None,
        user_agent: str = "",
        bearer_token: str | None = None,
        basic_auth: tuple[str, str] | None = None,
        ca_file: _Path | None = None,
        client_cert: _Path | tuple[_Path, _Path] | None = None,
        verify: bool = True,
        json: bool = False,
        limits: object | None = None,
    ) -> Self: ...
    @property
    def url(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def timeout(self) -> float: ...

@final
class Body:
    """The bytes of a page, held by the core; supports the buffer protocol."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Result:
    """What one scrape gave: ``error`` is None, or the exception to raise."""

    @property
    def id(self) -> int: ...
    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def error(self) -> Exception | None: ...
    @property
    def fold(self) -> Fold | None: ...
    @property
    def body(self) -> Body | None: ...
    @property
    def page(self) -> Page | None: ...
    @property
    def format(self) -> Literal["text", "openmetrics"]: ...
    @property
    def status(self) -> int: ...
    @property
    def framing(self) -> Literal["", "length", "chunked", "close"]: ...
    @property
    def started(self) -> float: ...
    @property
    def elapsed(self) -> float: ...
    @property
    def timings(self) -> dict[str, float]: ...
    @property
    def wire_bytes(self) -> int: ...
    @property
    def reused(self) -> bool: ...
    @property
    def retried(self) -> bool: ...

@final
class Scraper:
    def __new__(
        cls,
        *,
        guard: Guard | None = None,
        max_connections: int = 1000,
        max_lookups: int = 64,
    ) -> Self: ...
    def submit(self, endpoint: Endpoint, plan: Plan | None = None, /) -> int: ...
    def wait(self, timeout: float | None = None, /, *, max_results: int = 256) -> list[Result]: ...
    def cancel(self, id: int | None = None, /) -> None: ...
    def wake(self) -> None: ...
    @property
    def pending(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
