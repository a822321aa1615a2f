"""Putting multi-part answers together (annex M): Catalog and RecordInfo, keyed by (peer, CmdType, SN). Pure.

An answer is complete when as many different items as ``SumNum`` says have come. ``SumNum`` may lie, change or be
absent, parts may be lost, doubled, late or out of order, so every collection also ends by an idle timer, and then is
partial: whoever stores it must not delete what is absent from it.

Two rules keep a lie from wiping a tree. A complete answer with fewer items than ``expected`` (what is known of the
peer) is held back for ``settle`` seconds: a peer that announces the size of the part instead of the whole shows itself
by sending more, which makes the answer partial. Parts after the end are handed out as ``Late``, never as an answer.

Bounds: ``max_open`` collections, ``max_items`` items and ``max_octets`` octets of bodies over all open collections
together; ``max_finished`` ended keys remembered for ``remember`` seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp_item import CatalogItem
from sipserver.protocol.manscdp_types import RecordItem

T = TypeVar("T")

Reason = Literal["complete", "idle", "no_answer", "too_large", "inconsistent", "cancelled"]


class Key(NamedTuple):
    """What belongs together: the peer that answers (an opaque name), CmdType, SN."""

    peer: str
    cmd_type: str
    sn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorLimits:
    """Times in seconds (§12.4 of the field rules: long to the first part, 5-10 s between parts) and bounds."""

    first: float = 60.0
    gap: float = 10.0
    settle: float = 5.0
    remember: float = 300.0
    max_open: int = 1_024
    max_items: int = 200_000
    max_octets: int = 128 * 1024 * 1024
    max_finished: int = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A part was taken: ``received`` different items so far of ``total`` announced (None: nothing said yet)."""

    key: Key
    received: int
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected(Generic[T]):
    """The end of a collection. Only ``complete`` ones describe the whole; ``items`` in order of arrival, no doubles."""

    key: Key
    items: tuple[T, ...]
    complete: bool
    reason: Reason
    total: int | None
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Late(Generic[T]):
    """A part of an answer that had already ended: news about these items, nothing about others."""

    key: Key
    items: tuple[T, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexpected:
    """A part nobody asked for; to be ignored."""

    key: Key


Outcome = Progress | Collected[T] | Late[T] | Unexpected


@dataclass(slots=True, kw_only=True)
class _Open(Generic[T]):
    key: Key
    deadline: float
    expected: int
    items: dict[Hashable, T] = field(default_factory=dict)
    total: int | None = None
    doubles: int = 0
    parts: int = 0
    octets: int = 0
    settling: bool = False
    inconsistent: bool = False


class Collector(Generic[T]):
    """One per kind of item; ``identity`` says when two items are the same one, None that an item names nothing."""

    def __init__(self, identity: Callable[[T], Hashable | None], *, limits: CollectorLimits | None = None) -> None:
        self._identity = identity
        self._limits: Final = limits or CollectorLimits()
        self._open: dict[Key, _Open[T]] = {}
        self._finished: OrderedDict[Key, float] = OrderedDict()
        self._items = 0
        self._octets = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def load(self) -> tuple[int, int]:
        """(items, octets) held by open collections."""
        return self._items, self._octets

    def start(self, key: Key, *, now: float, expected: int = 0) -> None:
        """Expect an answer. ``expected``: how many items are known of that peer now (0 for none).

        Raises LocalProtocolError when the key is open already or too many are.
        """
        if key in self._open:
            raise LocalProtocolError("collection_already_open")
        if len(self._open) >= self._limits.max_open:
            raise LocalProtocolError("collections_full")
        self._finished.pop(key, None)
        self._open[key] = _Open(key=key, deadline=now + self._limits.first, expected=expected)

    def part(self, key: Key, items: Iterable[T], *, total: int | None, now: float, octets: int = 0) -> Outcome[T]:
        """Take one part. ``total`` is its SumNum (None or negative: not said), ``octets`` the size of its body."""
        current = self._open.get(key)
        if current is None:
            ended = self._finished.get(key)
            if ended is None or now - ended > self._limits.remember:
                return Unexpected(key=key)
            return Late(key=key, items=self._named(items))
        if total is not None and total >= 0:
            current.total = total
        current.parts += 1
        fresh = self._take(current, items, octets)
        if fresh is None:
            return self._finish(current, "too_large", now=now)
        if current.settling and not fresh:
            return self._progress(current)
        current.deadline = now + self._limits.gap
        if current.total is None or len(current.items) + current.doubles < current.total:
            current.settling = False
            return self._progress(current)
        current.inconsistent = current.inconsistent or current.settling
        if len(current.items) >= current.expected and not current.inconsistent:
            return self._finish(current, "complete", now=now)
        current.settling = True
        current.deadline = now + self._limits.settle
        return self._progress(current)

    def expire(self, *, now: float) -> list[Collected[T]]:
        """End what is due: idle collections as partial, settled ones as complete."""
        due = [current for current in self._open.values() if current.deadline <= now]
        return [self._finish(current, self._verdict(current), now=now) for current in due]

    def cancel(self, key: Key, *, now: float) -> Collected[T] | None:
        """Give up (the device went away, the query could not be sent); None when the key is not open."""
        current = self._open.get(key)
        return self._finish(current, "cancelled", now=now) if current is not None else None

    def next_timeout(self) -> float | None:
        """When expire() has something to do next."""
        return min((current.deadline for current in self._open.values()), default=None)

    def _verdict(self, current: _Open[T]) -> Reason:
        if current.inconsistent:
            return "inconsistent"
        if current.settling:
            return "complete"
        return "idle" if current.parts else "no_answer"

    def _progress(self, current: _Open[T]) -> Progress:
        return Progress(key=current.key, received=len(current.items), total=current.total)

    def _named(self, items: Iterable[T]) -> tuple[T, ...]:
        return tuple(item for item in items if self._identity(item) is not None)

    def _take(self, current: _Open[T], items: Iterable[T], octets: int) -> int | None:
        """Merge a part, newest item wins: how many items were new; None when a bound is reached (what fitted stays)."""
        if self._octets + octets > self._limits.max_octets:
            return None
        current.octets += octets
        self._octets += octets
        seen: set[Hashable] = set()
        fresh = doubles = 0
        for item in items:
            identity = self._identity(item)
            if identity is None or identity in seen:
                doubles += 1
                continue
            seen.add(identity)
            if identity not in current.items:
                if self._items >= self._limits.max_items:
                    return None
                self._items += 1
                fresh += 1
            current.items[identity] = item
        # The sender counted them although they are useless to us: without this the sum would never be reached. A part
        # that brings nothing new is a copy of an earlier one and has been counted.
        current.doubles += doubles if fresh else 0
        return fresh

    def _finish(self, current: _Open[T], reason: Reason, *, now: float) -> Collected[T]:
        del self._open[current.key]
        self._items -= len(current.items)
        self._octets -= current.octets
        self._finished[current.key] = now
        while self._finished:
            key, ended = next(iter(self._finished.items()))
            if len(self._finished) <= self._limits.max_finished and now - ended <= self._limits.remember:
                break
            del self._finished[key]
        return Collected(
            key=current.key,
            items=tuple(current.items.values()),
            complete=reason == "complete",
            reason=reason,
            total=current.total,
            parts=current.parts,
        )


def catalogue_identity(item: CatalogItem) -> GbId | None:
    """Items of a catalogue are the same when their address codes are."""
    return item.device_id


def record_identity(item: RecordItem) -> Hashable | None:
    """Recordings are the same when channel, times, file and stream are; one without a start names nothing."""
    if item.start_time is None:
        return None
    return (item.device_id, item.start_time, item.end_time, item.file_path, item.stream_number, item.location)
