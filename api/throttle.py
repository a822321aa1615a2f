"""Pure rate limit per source in front of everything that costs a password hash and a ledger row.

The lock of (account, source) after repeated failures is `sharing.people`'s; this bucket keeps one source from trying
many accounts, and one session from guessing its own current password. Bounded: `limit` sources, the longest
untouched one leaves first.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class SourceLimit:
    """A token bucket a source: `burst` attempts at once, then `rate` a second."""

    def __init__(self, *, burst: int = 20, rate: float = 0.5, limit: int = 10_000) -> None:
        self._burst = float(burst)
        self._rate = rate
        self._limit = limit
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: str, *, now: float) -> int:
        """0 when the attempt may go on, else whole seconds to wait. `source` is an address or an opaque key."""
        unit = source_of(source)
        bucket = self._buckets.pop(unit, None) or _Bucket(self._burst, now)
        self._buckets[unit] = bucket
        while len(self._buckets) > self._limit:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return math.ceil((1 - bucket.tokens) / self._rate)
        bucket.tokens -= 1
        return 0


def source_of(source: str) -> str:
    """The unit that is counted: an IPv4 address, the /64 of an IPv6 address (one host owns it all), or the text."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
