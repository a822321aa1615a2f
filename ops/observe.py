"""Logs and metrics of the process: one JSON line an event, nothing private in either, everything bounded.

Logs: every record of ours and of the libraries passes the same chain: time, level, coalescing of repeated faults,
redaction, one line. Redaction is the last step before rendering, so no later step can add what it removed.
Metrics: a registry that takes only `mingjian_*` names and label names from a closed list, and that refuses to show a
sample whose labels look like an address code or whose metric has grown past its series limit.
Sources: CQ22 and TC26 (address codes in no log and no label), N16 (credentials), ASVS 5.0 16.2.5 and 16.4.1.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from structlog.typing import EventDict, WrappedLogger

from ops.clock import Clock

REDACTED: Final = "[redacted]"
CODE_REDACTED: Final = "[code]"

# No pattern below may start with an unbounded repetition: on a long line of a peer's making that takes quadratic time.
# Address codes have 20 digits, older ones 18; longer runs are scrubbed too, because one may be hidden inside. An
# identity-card number is 17 digits and a check character.
_CODES = re.compile(r"\d{18,}|\d{17}[Xx]")
_SECRETS: Final = (
    # a header or a field that carries credentials loses everything to the end of its line
    (re.compile(r"(?im)\b((?:proxy-|www-)?auth(?:orization|enticate)\b[\"']?\s*[:=]\s*).*$"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+(?=[^\s]*[\d=+/_-]|\w{11})[\w.~+/=-]{8,}"), rf"\1 {REDACTED}"),
    (re.compile(r"(?i)\bdigest\s+\w+\s*=[^\r\n]*"), f"Digest {REDACTED}"),
    (re.compile(r"(?i)(/live/)[\w~.-]{1,256}?(\.(?:flv|mp4)\b|(?=[\s?\"'#]|$))"), rf"\1{REDACTED}\2"),
    (re.compile(r"(://[^\s:/@]{0,64}:)[^\s@/]{1,256}@"), rf"\1{REDACTED}@"),
    (
        re.compile(r"(?i)((?:password|passwd|pwd|secret|token|ticket|nonce|口令|密码)[\"']?\s*[:=]\s*)"
                   r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&}\])]+)"),
        rf"\1{REDACTED}",
    ),
)  # fmt: skip
_SECRET_KEYS = re.compile(r"(?i)password|passwd|secret|token|ticket|authorization|credential|cookie|nonce|private_key")
MAX_TEXT: Final = 8_192
MAX_DEPTH: Final = 5
MAX_ITEMS: Final = 64


def scrub(text: str) -> str:
    """Removes runs of 18 and more digits, bearer and digest credentials, passwords, tickets and DSN passwords."""
    # cut twice: before, so that the cost is bounded whatever a peer sends, and after, so that a secret across the
    # cut is recognised whole
    long = len(text) > MAX_TEXT
    text = text[: MAX_TEXT + 256]
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    text = _CODES.sub(CODE_REDACTED, text)
    return text[:MAX_TEXT] + "…" if long else text


def _clean(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**17 else CODE_REDACTED
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return scrub(bytes(value[:MAX_TEXT]).decode("utf-8", "backslashreplace"))
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {scrub(str(key)): _member(str(key), member, depth + 1) for key, member in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(member, depth + 1) for member in list(value)[:MAX_ITEMS]]
    return scrub(str(value))


def _member(key: str, value: Any, depth: int) -> Any:
    # a flag or a count under such a key ("token_expired": true) tells no secret
    if _SECRET_KEYS.search(key) and not isinstance(value, bool | int | float | None):
        return REDACTED
    return _clean(value, depth)


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """structlog processor: the whole record through `scrub`, nested values and exception texts included."""
    return {key: _member(key, value, 0) for key, value in event.items()}


@dataclass(slots=True)
class _Repeat:
    since: float
    shown: int = 1
    hidden: int = 0
    sample: dict[str, Any] = field(default_factory=dict)


class Coalescer:
    """structlog processor that shows the first `burst` equal faults of a window and then only their number.

    Equal means logger, level, event name and error type. The number comes out as one record (`repeated`, `window_s`)
    with the first record logged after the window's end, and at `flush`. Bounded by `keys` distinct faults; the
    oldest is summed up early when there are more. Information and debug records pass untouched.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Callable[[EventDict], None],
        window: float = 30.0,
        burst: int = 5,
        keys: int = 256,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._window = window
        self._burst = burst
        self._keys = keys
        self._seen: OrderedDict[tuple[str, str, str, str], _Repeat] = OrderedDict()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = self._clock()
        self._expire(now)
        level = str(event.get("level", method))
        if level not in ("warning", "error", "critical"):
            return event
        key = (str(event.get("logger", "")), level, str(event.get("event", "")), _error_type(event))
        known = self._seen.get(key)
        if known is None:
            if len(self._seen) >= self._keys:
                self._sum_up(*self._seen.popitem(last=False), now)
            self._seen[key] = _Repeat(since=now)
            return event
        if known.shown < self._burst:
            known.shown += 1
            return event
        known.hidden += 1
        raise structlog.DropEvent

    def flush(self) -> None:
        """Emits the number of every fault held back so far."""
        now = self._clock()
        while self._seen:
            self._sum_up(*self._seen.popitem(last=False), now)

    def _expire(self, now: float) -> None:
        # insertion order is age order, so the scan ends at the first young one
        while self._seen:
            key, oldest = next(iter(self._seen.items()))
            if now - oldest.since < self._window:
                return
            del self._seen[key]
            self._sum_up(key, oldest, now)

    def _sum_up(self, key: tuple[str, str, str, str], repeat: _Repeat, now: float) -> None:
        if repeat.hidden:
            logger, level, event, error = key
            record: EventDict = {
                "logger": logger,
                "level": level,
                "event": event,
                "repeated": repeat.hidden,
                "window_s": round(now - repeat.since, 1),
            }
            if error:
                record["error"] = error
            self._emit(record)


def _error_type(event: EventDict) -> str:
    info = event.get("exc_info")
    if isinstance(info, BaseException):
        return type(info).__name__
    if isinstance(info, tuple) and info and isinstance(info[0], type):
        return info[0].__name__
    return str(event.get("error", ""))[:80]


class LineLogger:
    """Writes finished lines to one stream; `name` is the dotted logger name."""

    def __init__(self, name: str, stream: IO[str]) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


class _Bridge(logging.Handler):
    """Sends records of libraries that use the standard module through our chain; `event` is `library`."""

    def emit(self, record: logging.LogRecord) -> None:
        method = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}.get(record.levelno, "info")
        log = structlog.get_logger(record.name)
        try:
            getattr(log, method)("library", message=record.getMessage(), exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001 - the contract of logging.Handler: faults go to handleError
            self.handleError(record)


@dataclass(frozen=True, slots=True)
class Logging:
    """What `configure` set up; `flush` at the end of the process."""

    coalescer: Coalescer

    def flush(self) -> None:
        self.coalescer.flush()


_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(
    *,
    clock: Clock,
    fmt: Literal["json", "text"] = "json",
    level: Literal["debug", "info", "warning", "error"] = "info",
    stream: IO[str] | None = None,
    counter: Counter | None = None,
) -> Logging:
    """Sets up structlog and the standard module for the whole process.

    `counter` (from `log_counter`) counts records by level, held-back ones included.
    """
    out = stream if stream is not None else sys.stdout
    render = _renderer(fmt)

    def stamp(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        at = datetime.fromtimestamp(clock(), UTC).isoformat(timespec="milliseconds")
        name = getattr(logger, "name", "")
        return {"time": at, "level": _level(method), "logger": name, **event}

    def count(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if counter is not None:
            counter.labels(level=str(event["level"])).inc()
        return event

    def emit(event: EventDict) -> None:
        at = datetime.fromtimestamp(clock(), UTC).isoformat(timespec="milliseconds")
        line = render(None, "", redact(None, "", {"time": at, **event}))
        LineLogger("", out).msg(str(line))

    coalescer = Coalescer(clock=clock, emit=emit)

    def factory(*names: object) -> LineLogger:
        return LineLogger(str(names[0]) if names else "mingjian", out)

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            stamp,
            count,
            coalescer,
            structlog.processors.format_exc_info,
            redact,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(_LEVELS[level], logging.INFO))
    # the access log repeats URLs; ours has routes only
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "httpx"):
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
    for name in ("uvicorn.access", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return Logging(coalescer)


def _level(method: str) -> str:
    return {"warn": "warning", "exception": "error", "fatal": "critical", "msg": "info"}.get(method, method)


def _renderer(fmt: Literal["json", "text"]) -> Callable[[WrappedLogger, str, EventDict], str]:
    if fmt == "json":

        def as_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
            return json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)

        return as_json

    def as_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
        rest = dict(event)
        time, level, name = rest.pop("time", ""), str(rest.pop("level", "")), rest.pop("logger", "")
        head = f"{time} {level:<8} {name} {rest.pop('event', '')}"
        trace = rest.pop("exception", None)
        tail = " ".join(f"{key}={value}" for key, value in rest.items())
        line = f"{head}  {tail}".rstrip().replace("\n", "\\n")
        return f"{line}\n{trace}" if trace else line

    return as_text


# --- metrics -------------------------------------------------------------------------------------------------------

# Label names are a closed list, each with a domain that cannot grow with cameras, users or callers.
LABELS: Final = frozenset(
    {
        "route", "method", "status", "level", "kind", "state", "reason", "outcome", "code", "role", "transport",
        "direction", "output", "codec", "event", "result", "component", "proto", "le", "quantile",
    }
)  # fmt: skip
MAX_SERIES: Final = 600


class RefusedMetric(ValueError):
    """A metric's name or a label's name is outside the rule; found when it is registered, that is at start."""


class BoundedRegistry(CollectorRegistry):
    """A Prometheus registry that refuses foreign names, unknown labels, address codes and unbounded series."""

    def __init__(self) -> None:
        super().__init__(auto_describe=False)
        self.refused = 0

    def register(self, collector: Collector) -> None:
        describe = getattr(collector, "describe", None)
        for metric in describe() if describe is not None else ():
            if not metric.name.startswith("mingjian_"):
                raise RefusedMetric(f"metric names start with mingjian_: {metric.name}")
        unknown = set(getattr(collector, "_labelnames", ())) - LABELS
        if unknown:
            raise RefusedMetric(f"labels outside the closed list: {', '.join(sorted(unknown))}")
        super().register(collector)

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            yield self.checked(metric)

    def checked(self, metric: Metric) -> Metric:
        """The metric without samples that break the rule; each is counted in `refused`, never shown."""
        kept = [sample for sample in metric.samples if self._fit(metric.name, sample.labels)]
        if len(kept) > MAX_SERIES:
            kept = kept[:MAX_SERIES]
        self.refused += len(metric.samples) - len(kept)
        metric.samples = kept
        return metric

    @staticmethod
    def _fit(name: str, labels: Mapping[str, str]) -> bool:
        if not name.startswith("mingjian_") or not set(labels) <= LABELS:
            return False
        return not any(_CODES.search(value) or len(value) > 80 for value in labels.values())


class _Refusals(Collector):
    """Shows how many samples the registry itself held back, so that the rule cannot hide a fault."""

    def __init__(self, registry: BoundedRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        metric = Metric("mingjian_metrics_refused", "Samples held back by the label rule.", "counter")
        metric.add_sample("mingjian_metrics_refused_total", {}, float(self._registry.refused))
        yield metric


def make_registry() -> BoundedRegistry:
    """The process's registry with CPU, memory and descriptor figures (`mingjian_process_*`)."""
    registry = BoundedRegistry()
    registry.register(_Refusals(registry))
    ProcessCollector(namespace="mingjian", registry=registry)
    return registry


def log_counter(registry: CollectorRegistry) -> Counter:
    """`mingjian_log_records_total{level}`: hand it to `configure`."""
    return Counter("mingjian_log_records", "Log records by level.", ["level"], registry=registry)
