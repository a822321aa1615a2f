"""Questions to devices (§9.5, §9.7) and controls (§9.3): send a MESSAGE, find the answer by (peer, CmdType, SN).

The SIP 200 only says that the question arrived; the answer is a MESSAGE of the device, which may even come first. No
answer has a timer in the standard: ours run out in ``tick``. Bounded by ``max_pending`` open questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Literal, TypeVar, cast

import structlog

from sipserver.bindings import Bindings, Bound, OfflineReason, Transport
from sipserver.protocol import manscdp
from sipserver.protocol.catalogue import (
    Collected,
    Collector,
    CollectorLimits,
    Key,
    Late,
    Outcome,
    Progress,
    catalogue_identity,
    record_identity,
)
from sipserver.protocol.edition import Edition
from sipserver.protocol.errors import GbError, LocalProtocolError
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    CatalogItem,
    CatalogQuery,
    CatalogResponse,
    Message,
    RecordInfoQuery,
    RecordInfoResponse,
    RecordItem,
)
from sipserver.protocol.message import Headers, NameAddr, Request, Uri
from sipserver.protocol.quirks import DEFAULT, Profile
from sipserver.transport import SipTimeout, SipTransportError

log = structlog.get_logger("mingjian.sip")

M = TypeVar("M", bound=Message)
T = TypeVar("T")

QueryFailure = Literal["device_offline", "no_answer", "refused", "device_error", "too_many", "not_supported"]
_MAX_SN: Final = 999_999_999
_CATALOG_LIMITS: Final = CollectorLimits()
_RECORD_LIMITS: Final = CollectorLimits(first=9.5, gap=5.0, settle=0.0)


class QueryError(GbError):
    """A device did not give what was asked of it.

    ``code``: device_offline; no_answer (neither SIP nor business answer in time); refused (``status`` is the SIP
    status); device_error (Result=ERROR, ``text`` is the device's own reason, at most 200 characters); too_many.
    """

    def __init__(self, code: QueryFailure, *, status: int | None = None, text: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.text = text[:200] if text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryConfig:
    """Seconds and bounds. ``answer`` leaves the tick half a second of the ten that a caller is promised (QRY-15).

    ``gap`` is how long further parts of an answer in several messages are awaited.
    """

    answer: float = 9.5
    gap: float = 2.0
    max_parts: int = 256
    max_pending: int = 10_000
    catalog: CollectorLimits = _CATALOG_LIMITS
    records: CollectorLimits = _RECORD_LIMITS


class _Gathering(Generic[T]):
    """A collector with somebody waiting for each of its collections."""

    def __init__(self, identity: Callable[[T], Hashable | None], limits: CollectorLimits) -> None:
        self.collector: Collector[T] = Collector(identity, limits=limits)
        self.waiting: dict[Key, tuple[asyncio.Future[Collected[T]], Callable[[Progress], None] | None]] = {}

    def deliver(self, outcome: Outcome[T]) -> None:
        if not isinstance(outcome, Progress | Collected):
            return
        future, progress = self.waiting.get(outcome.key, (None, None))
        if isinstance(outcome, Progress):
            if progress is not None:
                progress(outcome)
        elif future is not None and not future.done():
            future.set_result(outcome)


@dataclass(slots=True)
class _Pending:
    """An open question: ends with its first answer, or with the part that makes ``enough`` true, or by time."""

    future: asyncio.Future[list[Message]]
    deadline: float
    parts: list[Message] = field(default_factory=list)
    enough: Callable[[list[Any]], bool] = lambda parts: True


class Queries:
    """Asks devices; ``take`` gets every Response they send, ``tick`` the time. ``on_late(bound, items)`` gets catalogue
    parts that came after the end of their answer."""

    def __init__(
        self,
        transport: Transport,
        bindings: Bindings,
        *,
        clock: Callable[[], float],
        token: Callable[[int], str],
        config: QueryConfig | None = None,
        on_late: Callable[[DeviceKey, tuple[CatalogItem, ...]], None] = lambda key, items: None,
        profile: Callable[[DeviceKey], Profile] = lambda key: DEFAULT,
    ) -> None:
        self.profile = profile
        self._transport = transport
        self._bindings = bindings
        self._clock = clock
        self._config = config or QueryConfig()
        self.on_late = on_late
        self._pending: dict[tuple[DeviceKey, str, int], _Pending] = {}
        self._catalogs: _Gathering[CatalogItem] = _Gathering(catalogue_identity, self._config.catalog)
        self._records: _Gathering[RecordItem] = _Gathering(record_identity, self._config.records)
        # Not from 1: an answer to a question asked before a restart must not fit one asked after it.
        self._sn = int(token(3), 16) + 1
        bindings.listen(self._device_gone)

    def next_sn(self) -> int:
        """A sequence number that no open question has."""
        self._sn = self._sn % _MAX_SN + 1
        return self._sn

    def require(self, device: DeviceKey) -> Bound:
        """Where the device is. Raises QueryError("device_offline")."""
        bound = self._bindings.get(device)
        if bound is None:
            raise QueryError("device_offline")
        return bound

    def edition(self, bound: Bound) -> Edition:
        """The edition a device is taken for."""
        return self.profile(bound.key).edition(bound.version)

    # asking

    async def send(self, bound: Bound, message: Message) -> None:
        """Deliver a message that has no business answer. Raises QueryError."""
        profile = self.profile(bound.key)
        target, to = bound.target, bound.to
        if message.device_id is not None and profile.flag("channel_in_uri"):
            target = replace(target, user=message.device_id.value)
            to = str(NameAddr(uri=Uri(user=message.device_id.value, host=bound.gb_id.domain)))
        request = Request(
            method="MESSAGE",
            uri=target,
            headers=Headers((("To", to), ("Content-Type", manscdp.CONTENT_TYPE))),
            body=manscdp.build(message, charset=profile.charset(self.edition(bound))),
        )
        try:
            response = await self._transport.request(request, bound.flow, timeout=self._config.answer)
        except SipTimeout as error:
            raise QueryError("no_answer") from error
        except SipTransportError as error:
            raise QueryError("device_offline") from error
        except LocalProtocolError as error:
            raise QueryError("too_many") from error
        if response.status >= 300:
            raise QueryError("refused", status=response.status)

    async def ask(self, bound: Bound, query: Message, answer: type[M]) -> M:
        """Send a query (with an SN of next_sn()) and await its one answer. Raises QueryError."""
        return (await self.ask_many(bound, query, answer, enough=lambda parts: True))[0]

    async def ask_many(
        self, bound: Bound, query: Message, answer: type[M], *, enough: Callable[[list[M]], bool]
    ) -> list[M]:
        """Send a query whose answer may come in several messages: all of them until ``enough`` says so, or what has
        come when nothing more follows. An answer with Result=ERROR ends it. Raises QueryError."""
        if len(self._pending) >= self._config.max_pending:
            raise QueryError("too_many")
        key = (bound.key, answer.cmd_type.lower(), query.sn)
        future: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()
        self._pending[key] = _Pending(future, self._clock() + self._config.answer, enough=enough)
        try:
            parts = cast(list[M], await self._deliver_and_wait(bound, query, future))
        finally:
            self._pending.pop(key, None)
        failed = next((part for part in parts if getattr(part, "result", None) is False), None)
        if failed is not None:
            raise QueryError("device_error", text=getattr(failed, "reason", None))
        return parts

    async def catalog(
        self,
        bound: Bound,
        target: GbId,
        *,
        expected: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> Collected[CatalogItem]:
        """All parts of a directory below ``target`` (annex J), as far as they came. Raises QueryError."""
        query = CatalogQuery(sn=self.next_sn(), device_id=target)
        return await self._gather(self._catalogs, bound, query, expected=expected, progress=progress)

    async def records(self, bound: Bound, query: RecordInfoQuery) -> Collected[RecordItem]:
        """All parts of a list of recordings, as far as they came. Raises QueryError."""
        return await self._gather(self._records, bound, query)

    async def _gather(
        self,
        gathering: _Gathering[T],
        bound: Bound,
        query: Message,
        *,
        expected: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> Collected[T]:
        key = Key(bound.key, query.cmd_type, query.sn)
        if len(gathering.collector) >= self._config.catalog.max_open:
            raise QueryError("too_many")
        gathering.collector.start(key, now=self._clock(), expected=expected)
        future: asyncio.Future[Collected[T]] = asyncio.get_running_loop().create_future()
        gathering.waiting[key] = (future, progress)
        try:
            collected = await self._deliver_and_wait(bound, query, future)
        finally:
            gathering.waiting.pop(key, None)
            gathering.collector.cancel(key, now=self._clock())
        if collected.reason == "no_answer":
            raise QueryError("no_answer")
        if collected.reason == "cancelled":
            raise QueryError("device_offline")
        return collected

    async def _deliver_and_wait(self, bound: Bound, query: Message, future: asyncio.Future[T]) -> T:
        """The answer may overtake the SIP 200, so both are awaited; a refusal ends the wait at once."""
        sending = asyncio.ensure_future(self.send(bound, query))
        waiting: set[asyncio.Future[Any]] = {sending, future}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                await sending
            return await future
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    # answers and time

    def take(self, bound: Bound, message: Message, *, octets: int) -> bool:
        """Hand in a Response of a device; False when nobody waits for it (late, doubled, or never asked)."""
        now = self._clock()
        if isinstance(message, CatalogResponse):
            key = Key(bound.key, message.cmd_type, message.sn)
            outcome = self._catalogs.collector.part(key, message.items, total=message.sum_num, now=now, octets=octets)
            self._catalogs.deliver(outcome)
            if isinstance(outcome, Late) and outcome.items:
                self.on_late(bound.key, outcome.items)
            return isinstance(outcome, Progress | Collected | Late)
        if isinstance(message, RecordInfoResponse):
            key = Key(bound.key, message.cmd_type, message.sn)
            found = self._records.collector.part(key, message.items, total=message.sum_num, now=now, octets=octets)
            self._records.deliver(found)
            return isinstance(found, Progress | Collected)
        pending = self._pending.get((bound.key, message.cmd_type.lower(), message.sn))
        if pending is None or pending.future.done():
            return False
        pending.parts.append(message)
        pending.deadline = min(pending.deadline, now + self._config.gap)
        over = getattr(message, "result", None) is False or len(pending.parts) >= self._config.max_parts
        if over or pending.enough(pending.parts):
            pending.future.set_result(pending.parts)
        return True

    def tick(self, now: float) -> None:
        """Let questions run out."""
        for pending in tuple(self._pending.values()):
            if pending.deadline <= now and not pending.future.done():
                if pending.parts:
                    pending.future.set_result(pending.parts)
                else:
                    pending.future.set_exception(QueryError("no_answer"))
        for catalog in self._catalogs.collector.expire(now=now):
            self._catalogs.deliver(catalog)
        for records in self._records.collector.expire(now=now):
            self._records.deliver(records)

    def _device_gone(self, bound: Bound, reason: OfflineReason) -> None:
        now = self._clock()
        for (device, _, _), pending in tuple(self._pending.items()):
            if device == bound.key and not pending.future.done():
                pending.future.set_exception(QueryError("device_offline"))
        for key in [key for key in self._catalogs.waiting if key.peer == bound.key]:
            catalog = self._catalogs.collector.cancel(key, now=now)
            if catalog is not None:
                self._catalogs.deliver(catalog)
        for key in [key for key in self._records.waiting if key.peer == bound.key]:
            records = self._records.collector.cancel(key, now=now)
            if records is not None:
                self._records.deliver(records)
