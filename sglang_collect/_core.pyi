"""The C core as Python sees it: pages, histograms, plans and the scraper.

Objects are immutable and may be shared between threads unless said otherwise.
Labels are ``dict[str, str]``; an absent label and an empty one are the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
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
) -> Page:
    """Reads one exposition whole, or refuses it whole.

    data: bytes (held, not copied), str (as UTF-8) or any contiguous buffer (copied).
    format: 'text' (Prometheus text 0.0.4), 'openmetrics', or 'auto' (OpenMetrics where the
        last line is '# EOF').
    strict: every MUST of the OpenMetrics specification; nothing more for text.
    limits: object with the attributes of LIMITS; None for the defaults.

    Returns a Page. Raises ExpositionError for a page that is malformed, LimitExceeded for
    one that is larger than allowed, TypeError, BufferError and ValueError for arguments.
    """

def process() -> int:
    """A number of this process that none has that it was forked from. Its id may be the same, in
    a PID namespace of its own.
    """

def pick(fields: tuple[tuple[str, str | None, bool], ...], fold: Mapping[str, Any], /) -> dict[str, Any]:
    """A dict of many values of a fold, as the numbers that a model has.

    fields: tuple of (name, slot, whole). A float becomes the nearest int where whole is
        True; None stands for what no 64-bit integer holds, and for what is not finite.
        Likewise the floats of a dict, where nothing stands for it, nor for what has no key;
        None stands for a dict without keys. Other values stay. Where the slot is None, so
        is the value.
    """

def fallen(later: Fold, earlier: Fold, names: tuple[str, ...], /) -> tuple[str, ...]:
    """Those of the names (tuple[str, ...]) of which the later fold has less than the earlier one: a
    smaller number, count or sum, other bounds, an entry that is gone, no series any more.
    """

def build(
    mould: tuple[type[_T], dict[str, Any], tuple[str, ...], dict[str, Any] | None],
    values: tuple[Any, ...],
    private: dict[str, Any] | None,
    /,
) -> _T:
    """An object of a pydantic model, of values that are what its fields want.

    mould: what it has in common with others: its class, a dict of its fields, a tuple of
        the names of those that are set, and what the class keeps of others, None or a dict.
    values: tuple of the values of the fields that are set.
    private: dict of its private attributes; None where it has none.
    """

def build_groups(
    groups: tuple[tuple[str, type[Any], dict[str, Any], tuple[tuple[str, str | None, bool], ...]], ...],
    fold: Mapping[str, Any],
    /,
) -> dict[str, Any]:
    """A dict of objects of pydantic models by name, and `absent`: the list of the slots
    of which pick() gives None, whose fields are not set.

    groups: tuple of (name, model, defaults, fields): a dict of all fields, and those of
        them to be set, as for pick().
    """

def add_fields(object: Any, values: dict[str, Any], /) -> None:
    """Gives an object of a pydantic model the fields of a dict that it has not yet; all of
    them then count as set.
    """

def moment(seconds: float, /) -> datetime:
    """The datetime, in UTC, of so many seconds since 1970, to the nearest microsecond.

    Raises ValueError for what is in no calendar: years 1 to 9999.
    """

@final
class Exemplar:
    """One observation behind a sample. Compares by labels, value and timestamp."""
    @property
    def labels(self) -> dict[str, str]:
        """dict[str, str]: a new dict, in page order."""
    @property
    def value(self) -> float:
        """float: the value of the observation."""
    @property
    def timestamp(self) -> float | None:
        """float | None: seconds since 1970; None where the page gives none."""

@final
class Sample:
    """One line of a page. Compares by name, labels, value and timestamp."""
    @property
    def name(self) -> str:
        """str: the name as written, suffix included."""
    @property
    def labels(self) -> dict[str, str]:
        """dict[str, str]: a new dict, in page order."""
    @property
    def value(self) -> float:
        """float: the value; it may be NaN or infinite."""
    @property
    def timestamp(self) -> float | None:
        """float | None: seconds since 1970; None where the page gives none."""
    @property
    def exemplar(self) -> Exemplar | None:
        """Exemplar | None: OpenMetrics only."""
    @property
    def family(self) -> Family:
        """Family: the family it belongs to."""

@final
class Samples(Sequence[Sample]):
    """A sequence of Sample, each made when asked for. A slice is a view as well."""
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
    """The samples that share a TYPE line. Compares by all that it says."""
    @property
    def name(self) -> str:
        """str: the name, without the suffixes of its samples."""
    @property
    def type(self) -> str:
        """str: what TYPE says: 'gauge', ...; 'unknown' where nothing does."""
    @property
    def help(self) -> str:
        """str: what HELP says, '' where nothing does."""
    @property
    def unit(self) -> str:
        """str: what UNIT says, '' where nothing does."""
    @property
    def samples(self) -> Samples:
        """Samples: its samples, in page order."""

@final
class Families(Mapping[str, Family]):
    """A mapping of Family by name, in page order, each made when asked for."""
    def __len__(self) -> int: ...
    def __getitem__(self, name: str, /) -> Family: ...
    def __iter__(self) -> Iterator[str]: ...
    @overload
    def get(self, key: str, default: None = None) -> Family | None: ...
    @overload
    def get(self, key: str, default: Family) -> Family: ...
    @overload
    def get(self, key: str, default: _T) -> Family | _T: ...

@final
class Values:
    """The values of a page: what Page.values is a view of."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview[float]: ...

@final
class Series:
    """What the values of many pages belong to. Hashable; compares by name and labels."""

    @property
    def name(self) -> str:
        """str: the name as written, suffix included."""
    @property
    def labels(self) -> MappingProxyType[str, str]:
        """MappingProxyType[str, str]: read-only, always the same, in page order."""

@final
class Columns:
    """A page by columns: values[i] is the value of series[i]. Keeps its page alive.

    Columns made `like` those of an earlier page have the same Series where the page has
    the same text, and the same tuple where all of it is the same: what was worked out
    for the tuple then still holds::

        columns = page.columns(like=columns)
        if columns.series is not known:
            known = columns.series
            running = [i for i, one in enumerate(known) if one.name == 'sglang:num_running_reqs']
        total = sum(columns.values[i] for i in running)
    """

    @property
    def series(self) -> tuple[Series, ...]:
        """tuple[Series, ...]: the series of every sample, in page order."""
    @property
    def values(self) -> memoryview[float]:
        """memoryview of float64: Page.values, one for each series."""

@final
class Page:
    """One exposition, parsed and checked whole. Made by parse(); immutable."""
    @property
    def samples(self) -> Samples:
        """Samples: every sample, in page order."""
    @property
    def families(self) -> Families:
        """Families: family by name, in page order."""
    @property
    def format(self) -> Literal["text", "openmetrics"]:
        """str: 'text' or 'openmetrics', as it was read."""
    @property
    def values(self) -> memoryview[float]:
        """memoryview of float64: the value of every sample, in page order; read-only, not copied.

        It is strided, keeps the page alive, and is taken by numpy.asarray(). A value may be NaN
        or infinite. Of length 0 where the page has no sample.
        """

    def columns(self, like: Columns | None = None) -> Columns:
        """The page by columns: which series it has, and their values.

        like: the Columns of an earlier page of the same target, or None. Each series whose
            text is on both pages is then the same object, but for names with escapes, and
            `series` the same tuple where both have the same ones in the same order.

        Returns Columns. Raises TypeError for any other `like`.
        """

    def value(self, name: str, /, **labels: str) -> float | None:
        """The value of the one sample of that name, suffix included, that has these labels.

        An empty label equals an absent one; labels that are not given may be any.
        Returns None where there is no such sample. Raises LookupError where there
        are several: nothing is added up unasked.
        """
    def histogram(self, name: str, /, **labels: str) -> Histogram | None:
        """The histograms (or summaries) of the family of that name that have these
        labels, added up.

        An empty label equals an absent one. Returns None where there is none, and
        where its buckets make no histogram (a count that falls, no +Inf bucket).
        """

@final
class Histogram:
    """Cumulative buckets: counts[i] observations were <= bounds[i].

    Bounds rise strictly and end with inf; counts do not fall. sum is the sum of
    all observations, None where it is not known. A summary is a histogram with
    the inf bucket alone. Raises ValueError for anything else. Immutable;
    compares by value; can be pickled.

    a + b and a - b take the bounds that both have; a - b is since() without
    the word whether a restart was seen.
    """
    def __new__(
        cls,
        bounds: Iterable[float],
        counts: Iterable[float],
        *,
        sum: float | None = None,
    ) -> Self: ...
    @property
    def bounds(self) -> tuple[float, ...]:
        """tuple[float, ...]: upper bounds, rising to inf."""
    @property
    def counts(self) -> tuple[float, ...]:
        """tuple[float, ...]: observations up to each bound."""
    @property
    def count(self) -> float:
        """float: all observations."""
    @property
    def sum(self) -> float | None:
        """float | None: sum of all observations; None where not known."""
    @property
    def mean(self) -> float | None:
        """float | None: sum / count; None where empty or without sum."""
    def quantile(self, q: float, /) -> float | None:
        """PromQL's histogram_quantile, for q from 0 to 1: linear inside a bucket.

        Where it falls into the +Inf bucket it is the last finite bound, so a value
        may be larger: see resolution(). None where the histogram is empty or has
        the +Inf bucket alone. Raises ValueError for any other q.
        """
    def resolution(self, q: float, /) -> tuple[float, float] | None:
        """Bounds (lower, upper) of the bucket that quantile(q) fell into: all that is known.

        The first bucket begins at 0 where its bound is positive, at -inf elsewhere;
        the last ends at inf. None where quantile(q) is None.
        """
    def since(self, earlier: Histogram, /) -> tuple[Histogram, bool]:
        """(self - earlier, restarted): what came between two scrapes of one server.

        Where any count fell the server began again from zero: restarted is True and
        the difference is this histogram itself.
        """
    def summary(self, quantiles: dict[str, float], /) -> dict[str, Any] | None:
        """All of it as a dict: count, sum, mean, a quantile for each name of the dict
        quantiles, and resolution, a dict of the bounds of their buckets.

        The count is the nearest int; what is not finite is None. None where no 64-bit
        integer holds the count.
        """
    def __add__(self, other: Histogram, /) -> Histogram: ...
    def __radd__(self, other: Histogram, /) -> Histogram: ...
    def __sub__(self, other: Histogram, /) -> Histogram: ...
    def __rsub__(self, other: Histogram, /) -> Histogram: ...

@final
class Extract:
    """One wanted number of a Plan.

    names: metric names without prefix; the first that a page has is read.
    kind: 'value' (samples outside histograms and summaries), 'histogram' (families whose
        TYPE is histogram or summary; they add up), or 'label' (the values of the label `by`
        over all series of the plan's prefixes, each with its number of samples).
    where: conditions (label, operation, values), all of which hold; the operations are
        'is', 'is not', 'starts', 'not starts', 'ends', 'not ends' one of the values.
    without: labels that only repeat a measurement; of the series that differ in nothing
        else the one with the lowest numbers in the labels `lowest` stands.
    by: one label, for a dict by its values.
    reduce: 'sum', 'max' or 'mean' over the rest.

    An empty label equals an absent one. Raises TypeError and ValueError. Immutable.
    """

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

@final
class Plan:
    """Which numbers a page is read for, compiled.

    prefixes: spellings tried before every name, in order ('' for none).
    extracts: mapping of names, as the fold will know them, to Extract.
    formulas: mapping of further names to numbers made of extracts, each a tuple of
        steps: (("number", "a"), ("number", "b"), ("ratio",)).

    Raises TypeError and ValueError. Immutable.
    """
    def __new__(
        cls,
        prefixes: Sequence[str],
        extracts: Mapping[str, Extract],
        formulas: Mapping[str, tuple[tuple[Any, ...], ...]] = {},
    ) -> Self: ...
    @property
    def names(self) -> tuple[str, ...]:
        """tuple[str, ...]: names of the extracts and the formulas, in order."""
    def fold(
        self,
        data: Buffer | str | Page,
        /,
        *,
        format: _Format = "text",
        strict: bool = False,
        limits: object | None = None,
    ) -> Fold:
        """Reads a page and fills every slot of the plan, without keeping its samples.

        data, format, strict and limits are those of parse(), and so are the errors. A
        Page is read again as it was read before, whatever the keywords say.
        """

@final
class Fold(Mapping[str, Any]):
    """What a Plan found on one page: a mapping of the names of its extracts and formulas.

    Each slot is a float, a Histogram, a dict of either (with `by`), or None where
    the page has no such series or their values make no number; see reason().
    A formula is a float or None, and has no series. Values are made when first
    asked for. Unknown names raise KeyError.
    """

    @property
    def n_samples(self) -> int:
        """int: samples on the whole page."""
    @property
    def found_nothing(self) -> bool:
        """bool: the page has samples, and none of them is of any slot."""
    @property
    def flaws(self) -> tuple[str, ...]:
        """tuple[str, ...]: slots that have a reason() or whose bounds_differ()."""
    def __len__(self) -> int: ...
    def __getitem__(self, name: str, /) -> Any: ...
    def __iter__(self) -> Iterator[str]: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def n_series(self, name: str, /) -> int:
        """int: series that were combined, repeats excluded."""
    def reason(self, name: str, /) -> str | None:
        """str | None: why it, or an entry of it, is absent though series were there."""
    def labels(self, name: str, /) -> tuple[str, ...]:
        """tuple[str, ...]: the keys of a dict but '', sorted; empty where there is none."""
    def bounds_differ(self, name: str, /) -> bool:
        """bool: histograms of different bounds were merged."""

@final
class Layout:
    """How values of the folds of a plan are written as a JSON object.

    fields: tuple of (name, slot, whole) as for pick(), and of (name, fields) for an object
        inside. (name, slot, whole, True) has a map by HTTP statuses by their classes: '2xx',
        ..., 'other'; null where a value of it is NaN.
    quantiles: tuple of (name, q), which a histogram is told by as by summary().

    Raises TypeError, and KeyError for a slot that the plan does not have. Immutable.
    """
    def __new__(
        cls, fields: tuple[Any, ...], plan: Plan, quantiles: tuple[tuple[str, float], ...] = ()
    ) -> Layout: ...
    def write(self, fold: Fold, made: tuple[float | None, ...] = (), /) -> bytes:
        """A JSON object (bytes) of these values of a fold, as the numbers that a model has.

        made: tuple of the values of fields without a slot, in order: None or a float.

        Raises KeyError where the fold is of another plan that has not all the slots.
        """

@final
class Steady:
    """Folds the pages of one target: of a page that has the lines of the one before,
    only the values are read.

    Holds a copy of one page. Used by one thread at a time.
    """

    def __new__(cls, plan: Plan) -> Self: ...
    @property
    def hit(self) -> bool:
        """bool: the last page had the lines of the one before; False where none was read."""

    def fold(
        self,
        data: Buffer | str,
        /,
        *,
        format: _Format = "text",
        limits: object | None = None,
    ) -> Fold:
        """What Plan.fold() gives for this page, errors included, and faster where the
        page has the lines of the one before.

        Raises RuntimeError while another thread folds.
        """

@final
class Guard:
    """Which targets may be connected to.

    allow: entries such as '*' (any address but those always denied),
    '10.1.0.0/16:30000-30099', '10.1.2.3', '[fd00::/8]:30000', 'sglang-*.svc:30000';
    ports 30000 to 30099 where an entry gives none. Without an entry every target is
    refused. Raises ValueError for an entry it cannot read. Immutable; compares by
    its entries; can be pickled.
    """
    def __new__(cls, allow: Iterable[str] = ()) -> Self: ...
    @property
    def allow(self) -> tuple[str, ...]:
        """tuple[str, ...]: the entries, as they were given."""

@final
class Endpoint:
    """A URL and how to ask it.

    url: http or https, without user info.
    timeout: seconds from submission to the last number, 0.001 to 3600.
    headers: mapping of further request headers.
    basic_auth: (user, password).
    ca_file, client_cert: PEM files; (certificate, key) where they are two.
    verify: check the certificate and the host name.
    json: the answer is JSON and no page; it is asked for as such, and not read.
    limits: object with the attributes of LIMITS; None for the defaults.

    Raises TypeError and ValueError for arguments, TargetRefused for a URL that is
    none, TLSError for files that cannot be used. Immutable.
    """
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
    def url(self) -> str:
        """str: the URL as it was given."""
    @property
    def label(self) -> str:
        """str: the URL as it may be shown, without query values."""
    @property
    def timeout(self) -> float:
        """float: seconds a whole scrape may take."""

@final
class Body:
    """The bytes of a page, inflated. Read-only; bytes(body) copies."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Result:
    """What one scrape gave: a page, or the error that came in its place."""

    @property
    def id(self) -> int:
        """int: what submit() gave."""
    @property
    def endpoint(self) -> Endpoint:
        """Endpoint: whom it asked."""
    @property
    def error(self) -> Exception | None:
        """Exception | None: the exception to raise, the same each time; None where it went well."""
    @property
    def fold(self) -> Fold | None:
        """Fold | None: None where it failed or had no plan."""
    @property
    def body(self) -> Body | None:
        """Body | None: the page, inflated; None where it failed."""
    @property
    def page(self) -> Page | None:
        """Page | None: the body, parsed when first asked for; None where it failed.

        Raises what parse() raises, where no plan has read the body before.
        """
    @property
    def format(self) -> Literal["text", "openmetrics"]:
        """str: 'text' or 'openmetrics', by the Content-Type."""
    @property
    def status(self) -> int:
        """int: HTTP status; 0 where none came."""
    @property
    def framing(self) -> Literal["", "length", "chunked", "close"]:
        """str: how the end of the body was told: 'length', 'chunked', 'close'; '' where none came."""
    @property
    def started(self) -> float:
        """float: seconds since 1970 at submission."""
    @property
    def at(self) -> float:
        """float: the same moment by time.monotonic()."""
    @property
    def elapsed(self) -> float:
        """float: seconds from submission to the end."""
    @property
    def timings(self) -> dict[str, float]:
        """dict[str, float]: seconds from submission to the end of each stage, 0.0 where it did not come:
        resolved, connected, tls, first_byte, received, done.
        """
    @property
    def wire_bytes(self) -> int:
        """int: bytes of the body as they were sent."""
    @property
    def reused(self) -> bool:
        """bool: over a connection that was kept."""
    @property
    def retried(self) -> bool:
        """bool: a kept connection had died; asked again on a new one."""
    def __deepcopy__(self, memo: object, /) -> Result:
        """The result itself."""

@final
class Scraper:
    """Scrapes endpoints over kept connections.

    guard: which targets may be connected to; None for all.
    max_connections: connections open at once.
    max_lookups: name look-ups in flight at once.

    Any thread submits and cancels; one thread at a time waits. Close it, or use it
    in a with statement: one that is dropped unclosed gives a ResourceWarning.
    """
    def __new__(
        cls,
        *,
        guard: Guard | None = None,
        max_connections: int = 1000,
        max_lookups: int = 64,
    ) -> Self: ...
    def submit(self, endpoint: Endpoint, plan: Plan | None = None, /) -> int:
        """Queues one scrape, folded by the plan, and returns its id (int).

        Without a plan the page is fetched and not read. Its timeout runs from here.
        Any thread may call it. Raises RuntimeError after close().
        """
    def submit_all(self, endpoints: Iterable[Endpoint], plan: Plan | None = None, /) -> list[int]:
        """Queues a scrape of each endpoint, or of none where it raises, and returns their ids
        (list[int]). The thread inside wait() is woken once. Else as submit().
        """
    def attend(self, *, max_results: int = 256) -> list[Result]:
        """As wait(), also while nothing is pending: returns [] when wake() or close() is called.

        For a thread that does nothing else, and no signal's handler: Ctrl-C does not end it.
        """
    def wait(self, timeout: float | None = None, /, *, max_results: int = 256) -> list[Result]:
        """Moves the transfers on until at least one is finished, and returns the finished
        ones (list[Result], at most max_results).

        Returns [] after `timeout` seconds, when wake() is called, and at once when
        nothing is pending. A scrape that failed is a result, not an exception. Signals
        are handled within 0.1 s, and what is pending stays pending when one raises.
        Raises RuntimeError while another thread waits, and after close().
        """
    def cancel(self, id: int | None = None, /) -> None:
        """Ends one pending scrape, or all: the next wait() returns it with a ScrapeError
        whose reason is 'cancelled'. Unknown ids are ignored. Any thread may call it.
        """
    def wake(self) -> None:
        """Makes the thread inside wait(), or the next that calls it, return at once. Any
        thread may call it.
        """
    @property
    def pending(self) -> int:
        """int: scrapes submitted that no wait() has returned."""
    def close(self) -> None:
        """Drops what is pending and closes every connection.

        A thread inside wait() gets what is finished and what this cancelled, and
        returns. Whatever is called afterwards raises RuntimeError, but for close().
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
