"""Which UDP packets are worth parsing: the checks before the parser, cheap to dear (reliability rule §1.4).

Order: flow of a registered device (always admitted: its place cannot be taken by strangers, who would have to forge
address and port) → banned source → first line looks like SIP → budget of the source address → budget of all strangers
together. Over the common budget two kinds of strangers still get through: one that shows a nonce we gave to its
address, and one that repeats itself as a SIP client must, after a pause, octet by octet; floods with invented sources
do neither. Everything is bounded; every refusal is counted by its reason and answered by nothing.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sipserver.protocol import codec

#: Reasons, as they appear in `counters`.
BANNED, NOT_SIP, SOURCE, STRANGERS = "dropped_banned", "not_sip", "dropped_source_rate", "dropped_strangers_rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """Packets a second and at once; seconds; entries.

    ``source``: strangers at one address (a gateway may bring thousands of devices at once). ``strangers``: all of them
    together. ``patient``: those over that budget who repeat themselves. A source that was refused ``ban_after`` times
    in a second is not looked at for ``ban_seconds``: short, because its address may be forged.
    """

    source_rate: float = 2_000.0
    source_burst: float = 4_000.0
    strangers_rate: float = 4_000.0
    strangers_burst: float = 8_000.0
    patient_rate: float = 1_000.0
    patient_burst: float = 2_000.0
    patience: float = 0.3
    ban_after: int = 2_000
    ban_seconds: float = 5.0
    sources: int = 65_536
    remembered: int = 131_072


class Bucket:
    """Tokens that come back at `rate` a second, at most `burst`."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._tokens, self._at = rate, burst, burst, now

    def take(self, now: float) -> bool:
        tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens = tokens - 1.0 if tokens >= 1.0 else tokens
        return tokens >= 1.0


class _Source:
    __slots__ = ("banned_until", "bucket", "refused", "refusing_since")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.refused = 0
        self.refusing_since = 0.0
        self.banned_until = 0.0


class Admission:
    """`is_known(remote)`: a registered device sends from there. `proves(data, ip)`: the packet shows a nonce that was
    given to that address. `counters` gets the reasons above, bounded by their number."""

    def __init__(
        self,
        *,
        counters: Counter[str],
        now: float,
        is_known: Callable[[tuple[str, int]], bool] = lambda remote: False,
        proves: Callable[[bytes, str], bool] = lambda data, ip: False,
        config: AdmissionConfig | None = None,
    ) -> None:
        self.is_known = is_known
        self.proves = proves
        self._config = config or AdmissionConfig()
        self._counters = counters
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._strangers = Bucket(self._config.strangers_rate, self._config.strangers_burst, now)
        self._patient = Bucket(self._config.patient_rate, self._config.patient_burst, now)
        self._waiting: OrderedDict[int, float] = OrderedDict()

    def admit(self, data: bytes, remote: tuple[str, int], *, now: float) -> bool:
        """True when the packet is to be parsed."""
        if self.is_known(remote):
            if codec.looks_like_sip(data):
                return True
            self._counters[NOT_SIP] += not codec.is_keepalive(data)
            return False
        source = self._source(remote[0], now)
        if source.banned_until > now:
            self._counters[BANNED] += 1
            return False
        if not codec.looks_like_sip(data):
            self._counters[NOT_SIP] += not codec.is_keepalive(data)
            return False
        if not source.bucket.take(now):
            self._counters[SOURCE] += 1
            if now - source.refusing_since >= 1.0:
                source.refused, source.refusing_since = 0, now
            source.refused += 1
            if source.refused >= self._config.ban_after:
                source.banned_until = now + self._config.ban_seconds
            return False
        if self._strangers.take(now) or self._is_worth_it(data, remote, now):
            return True
        self._counters[STRANGERS] += 1
        return False

    def _source(self, ip: str, now: float) -> _Source:
        source = self._sources.get(ip)
        if source is None:
            source = self._sources[ip] = _Source(Bucket(self._config.source_rate, self._config.source_burst, now))
            while len(self._sources) > self._config.sources:
                self._sources.popitem(last=False)
        return source

    def _is_worth_it(self, data: bytes, remote: tuple[str, int], now: float) -> bool:
        """Over the common budget: a nonce of ours, or the same packet again after a pause."""
        if b"nonce=" in data and self.proves(data, remote[0]):
            return True
        print_ = hash((data, remote))
        seen = self._waiting.get(print_)
        if seen is None:
            self._waiting[print_] = now
            while len(self._waiting) > self._config.remembered:
                self._waiting.popitem(last=False)
            return False
        return now - seen >= self._config.patience and self._patient.take(now)

    def load(self) -> tuple[int, int]:
        """(sources, packets) remembered."""
        return len(self._sources), len(self._waiting)
