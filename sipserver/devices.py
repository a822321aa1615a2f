"""Sessions of registered devices: MESSAGE dispatch, keepalive and expiry, questions, catalogue synchronisation.

A MESSAGE is believed only when it comes from a bound device and from the host of its binding; from another port there
it may move the binding (NAT) by a keepalive, never onto a flow that another device owns. The 200 has no body and goes
out before any business (§9.3.3, §9.6.3); a body that cannot be read gets 400, one log line, and leaves no trace.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from catalog.events import CatalogProgress, CatalogSynced, DomainEvent
from catalog.model import CatalogChange, DeviceInfo
from catalog.store import CatalogTooLargeError, UnknownDeviceError
from sipserver.bindings import STORE_DOWN, Bindings, Bound, Store, Transport
from sipserver.control import ControlConfig, Controls
from sipserver.directory import Directory
from sipserver.inquiries import Inquiries, RecordFilter, RecordList
from sipserver.listing import listed
from sipserver.presence import Background, Presence, SessionConfig
from sipserver.profiles import Profiles
from sipserver.protocol import manscdp
from sipserver.protocol.catalogue import Progress
from sipserver.protocol.errors import ProtocolError
from sipserver.protocol.events import Flow, RequestReceived
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    Alarm,
    AlarmResponse,
    CatalogItem,
    CatalogNotify,
    DeviceControl,
    DeviceInfoQuery,
    DeviceInfoResponse,
    DeviceStatusResponse,
    Keepalive,
    MediaStatus,
    Message,
    Unknown,
)
from sipserver.queries import Queries, QueryConfig, QueryError
from sipserver.subscriptions import Subscriptions

log = structlog.get_logger("mingjian.sip")

M = TypeVar("M", bound=Message)

_BIG_BODY: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What a catalogue query brought: ``received`` items of ``total`` announced; ``complete`` as in Collected."""

    device: DeviceKey
    complete: bool
    reason: str
    received: int
    total: int | None
    change: CatalogChange


class DeviceSessions:
    """Everything a registered device says and is asked. Hooks: ``on_alarm(bound, alarm)``, ``on_media_status(dialog or
    None, message)``. ``counters``: messages, refused, malformed, ignored.
    """

    def __init__(
        self,
        transport: Transport,
        store: Store,
        bindings: Bindings,
        *,
        clock: Callable[[], float],
        token: Callable[[int], str],
        publish: Callable[[DomainEvent], None],
        config: SessionConfig | None = None,
        query_config: QueryConfig | None = None,
        on_alarm: Callable[[Bound, Alarm], None] = lambda bound, alarm: None,
        on_media_status: Callable[[str | None, MediaStatus], None] = lambda dialog, message: None,
        profiles: Profiles | None = None,
        control_config: ControlConfig | None = None,
    ) -> None:
        self._transport = transport
        self._store = store
        self._bindings = bindings
        self._clock = clock
        self._publish = publish
        self._config = config or SessionConfig()
        self.on_alarm = on_alarm
        self.on_media_status = on_media_status
        self.counters: Counter[str] = Counter()
        self.profiles = profiles or Profiles()
        self.queries = Queries(
            transport,
            bindings,
            clock=clock,
            token=token,
            config=query_config,
            on_late=self._late_items,
            profile=self.profiles.of,
        )
        self.inquiries = Inquiries(self.queries)
        self._background = Background()
        self.controls = Controls(
            self.queries, self.profiles, self.inquiries, self._background, clock=clock, config=control_config
        )
        self.directory = Directory(
            store, self.profiles, self._background, clock=clock, publish=publish, refresh=self.refresh
        )
        self._notices: dict[type[Message], Callable[[RequestReceived, Bound, Any], None]] = {}
        self.presence = Presence(
            store,
            bindings,
            self._background,
            clock=clock,
            publish=publish,
            config=self._config,
            arrived=lambda bound: self.bound(bound, True),
            heartbeat=self.profiles.heartbeat,
        )
        self.subscriptions: Subscriptions | None = None
        self.on_tick: list[Callable[[float], Awaitable[None]]] = []
        self._faulty: dict[DeviceKey, frozenset[GbId]] = {}
        bindings.listen(lambda bound, reason: self._forget_faults(bound.key))
        self._refreshing: dict[DeviceKey, asyncio.Task[None]] = {}
        self._syncing: dict[DeviceKey, asyncio.Task[SyncResult]] = {}
        self._slots = asyncio.Semaphore(self._config.parallel)
        self._big = asyncio.Semaphore(2)
        self._refusals = 0
        self._refusal_logged = 0.0

    # life

    async def load(self) -> int:
        """Take over the stored bindings after a restart: see Presence.load."""
        return await self.presence.load()

    async def run(self) -> None:
        """Tick until cancelled. A tick that fails is logged and does not end the ticking."""
        while True:
            await asyncio.sleep(self._config.tick_interval)
            tick = asyncio.get_running_loop().create_task(self.tick(self._clock()))
            self._background.keep(tick)
            await asyncio.wait((tick,))

    async def stop(self) -> None:
        """End what runs in the background and write what is known of the devices."""
        await self._background.stop()
        await self.presence.stop()

    async def tick(self, now: float) -> None:
        """Let questions run out, take silent and expired devices offline, write what was seen."""
        self.queries.tick(now)
        self.controls.tick(now)
        if self.subscriptions is not None:
            self.subscriptions.tick(now)
        await self.presence.tick(now)
        for also in self.on_tick:
            try:
                await also(now)
            except STORE_DOWN as error:
                log.error("housekeeping_failed", error=type(error).__name__)

    def connection_lost(self, flow: Flow) -> None:
        """A TCP connection is gone: abnormal offline for every device bound to it (§9.1.1 f)."""
        self.presence.connection_lost(flow)

    async def removed(self, key: DeviceKey) -> None:
        """An administrator withdrew the device: forget its binding at once (the store already has)."""
        if self.subscriptions is not None:
            self.subscriptions.forget(key)
        await self.presence.removed(key)

    def bound(self, bound: Bound, fresh: bool) -> None:
        """A device was bound: for Registrar(on_bound=…). ``fresh`` ones are asked who they are and what they have."""
        self.presence.returned(bound.key)
        if self.subscriptions is not None:
            self.subscriptions.bound(bound, fresh)
        if self.profiles.of(bound.key).flag("arm_on_register") and fresh:
            self._background.spawn(self._arm(bound.key))
        if fresh and self._config.query_on_register:
            self.refresh(bound.key)

    async def _arm(self, key: DeviceKey) -> None:
        await self.controls.guard(key, armed=True)

    @property
    def background(self) -> Background:
        """Where work runs that outlives a message; stopped by ``stop``."""
        return self._background

    # MESSAGE

    def handle(self, event: RequestReceived) -> None:
        """Deal with one MESSAGE."""
        self.counters["messages"] += 1
        try:
            sender = GbId.parse(event.request.from_.uri.username or "")
        except ProtocolError:
            self._refuse(event, "sender_malformed")
            return
        bound = self._sender(event, sender)
        if bound is None:
            parked = self.presence.returnable(sender, event.flow)
            if parked is not None and len(event.request.body) <= _BIG_BODY:
                self._transport.run(event, self._readmit(event, parked))
            else:
                self._refuse(event, "sender_not_registered")
        elif not self._is_from(event.flow, bound):
            self._refuse(event, "source_not_bound", bound)
        elif (kind := event.request.content_type) and "xml" not in kind:
            accept = (("Accept", manscdp.CONTENT_TYPE),)
            self._transport.respond(event.transaction, 415, headers=accept)
        elif len(event.request.body) > _BIG_BODY:
            self._transport.run(event, self._handle_big(event, bound))
        else:
            message = self._parsed(event, bound, event.request.body)
            if message is not None:
                self._take(event, bound, message)

    def _sender(self, event: RequestReceived, sender: GbId) -> Bound | None:
        """The bound device that speaks. In a dialog its From may be a channel or platform: then the flow tells."""
        bound = self._bindings.by_gb(sender)
        if bound is None and event.dialog is not None:
            owners = self._bindings.on_flow(event.flow)
            bound = self._bindings.get(owners[0]) if len(owners) == 1 else None
        if bound is not None and self.presence.due(bound, self._clock()) == "expired":
            return None
        return bound

    def _is_from(self, flow: Flow, bound: Bound) -> bool:
        """True for the bound flow, and for other ports and transports of its host unless another device owns them.

        Large answers come over TCP from devices registered over UDP (annex M), and NAT changes ports.
        """
        if flow == bound.flow:
            return True
        if self._config.rebind == "never" and flow.remote != bound.flow.remote:
            return False
        if self._config.rebind != "any-host" and flow.remote[0] != bound.flow.remote[0]:
            return False
        owners = self._bindings.on_flow(flow)
        return not owners or bound.key in owners

    async def _handle_big(self, event: RequestReceived, bound: Bound) -> None:
        """Parse a large body beside the loop, two at a time, which bounds the memory of their trees."""
        async with self._big:
            outcome = await asyncio.to_thread(_parse, event.request.body)
        message = self._parsed(event, bound, outcome)
        if message is not None:
            self._take(event, bound, message)

    def _parsed(
        self, event: RequestReceived, bound: Bound, body: bytes | Message | Unknown | ProtocolError
    ) -> Message | Unknown | None:
        """The message after its 200 went out, or None after its 400 did."""
        outcome = _parse(body) if isinstance(body, bytes) else body
        if not isinstance(outcome, ProtocolError) and not outcome.sn and _is_response(outcome):
            outcome = ProtocolError("response_without_sn", status=400)
        if isinstance(outcome, ProtocolError):
            self.counters["malformed"] += 1
            log.warning(
                "message_refused", device=bound.key, call_id=event.request.call_id, code=400, reason=outcome.reason
            )
            self._transport.respond(event.transaction, outcome.status or 400)
            return None
        self._transport.respond(event.transaction, 200)
        return outcome

    def _take(self, event: RequestReceived, bound: Bound, message: Message | Unknown) -> None:
        """Business, after the 200."""
        self.presence.heard(bound)
        if not bound.confirmed and self._config.query_on_register:
            self.refresh(bound.key)
        if isinstance(message, Keepalive):
            self._keepalive(event, bound, message)
        elif isinstance(message, Alarm):
            if message.sn and message.device_id is not None and self.profiles.of(bound.key).flag("alarm_answer"):
                answer = AlarmResponse(sn=message.sn, device_id=message.device_id)
                self._background.spawn(self.queries.send(bound, answer))
            self.on_alarm(bound, message)
        elif isinstance(message, CatalogNotify):
            self.directory.changed(bound, message.items)
        elif isinstance(message, MediaStatus):
            self.on_media_status(event.dialog, message)
        elif (taker := self._notices.get(type(message))) is not None:  # type: ignore[arg-type]
            taker(event, bound, message)
        elif not (isinstance(message, Message) and _is_response(message)) or not self.queries.take(
            bound, message, octets=len(event.request.body)
        ):
            self.counters["ignored"] += 1
            log.info("message_ignored", device=bound.key, call_id=event.request.call_id, kind=_kind(message))

    def _refuse(self, event: RequestReceived, reason: str, bound: Bound | None = None) -> None:
        """403, so that the device registers again. Strangers can cause this: at most one log line an interval."""
        self.counters["refused"] += 1
        self._refusals += 1
        now = self._clock()
        if now - self._refusal_logged >= self._config.refusal_log_interval:
            log.warning(
                "message_refused",
                device=bound.key if bound else None,
                call_id=event.request.headers.get("Call-ID"),
                code=403,
                reason=reason,
                refusals=self._refusals,
            )
            self._refusals, self._refusal_logged = 0, now
        self._transport.respond(event.transaction, 403)

    # keepalive

    def _keepalive(self, event: RequestReceived, bound: Bound, message: Keepalive) -> None:
        if event.flow != bound.flow:
            self._background.spawn(self.presence.move(event.flow, bound))
        faulty = frozenset(message.faulty)
        before = self._faulty.get(bound.key, frozenset())
        if message.ok is False:
            log.warning("device_reports_fault", device=bound.key, call_id=event.request.call_id, parts=len(faulty))
        if faulty != before:
            self._faulty[bound.key] = faulty
            self._background.spawn(
                self.directory.set_online(
                    bound.key, {gb: False for gb in faulty} | {gb: True for gb in before - faulty}
                )
            )

    def _forget_faults(self, key: DeviceKey) -> None:
        self._faulty.pop(key, None)

    async def _readmit(self, event: RequestReceived, parked: Bound) -> None:
        """A keepalive of a device whose binding was lost though its registration still runs."""
        if isinstance(_parse(event.request.body), Keepalive):
            await self.presence.readmit(event.flow, parked)
            self._transport.respond(event.transaction, 200)
        else:
            self._refuse(event, "sender_not_registered")

    # notifications

    def on_notice(self, kind: type[M], taker: Callable[[RequestReceived, Bound, M], None]) -> None:
        """Hand notices of that kind to ``taker``, after their 200."""
        self._notices[kind] = taker

    def _late_items(self, key: DeviceKey, items: tuple[CatalogItem, ...]) -> None:
        self._background.spawn(self._store_late(key, items))

    async def _store_late(self, key: DeviceKey, items: tuple[CatalogItem, ...]) -> None:
        await self._store.apply_catalog(key, listed(items), complete=False, now=self._clock())

    # questions

    def refresh(self, key: DeviceKey) -> None:
        """Ask DeviceInfo and Catalog in the background, once at a time per device."""
        if key not in self._refreshing:
            task = asyncio.get_running_loop().create_task(self._refresh(key))
            self._refreshing[key] = task
            task.add_done_callback(lambda done: self._refreshing.pop(key, None))
            self._background.keep(task)

    async def _refresh(self, key: DeviceKey) -> None:
        async with self._slots:
            for ask in (self.query_device_info, self.sync_catalog):
                try:
                    await ask(key)
                except QueryError as error:
                    log.warning("device_query_failed", device=key, query=ask.__name__, code=error.code)
                except STORE_DOWN as error:
                    log.error("device_answer_not_stored", device=key, query=ask.__name__, error=type(error).__name__)

    async def query_device_info(self, device: DeviceKey) -> DeviceInfoResponse:
        """Ask for vendor, model, firmware and channel count, and store them. Raises QueryError."""
        bound = self.queries.require(device)
        query = DeviceInfoQuery(sn=self.queries.next_sn(), device_id=bound.gb_id)
        answer = await self.queries.ask(bound, query, DeviceInfoResponse)
        info = DeviceInfo(
            manufacturer=answer.manufacturer,
            model=answer.model,
            firmware=answer.firmware,
            channel_count=answer.channels,
            device_name=answer.name,
        )
        try:
            await self._store.set_device_info(device, info)
            await self.profiles.noticed(device, answer.manufacturer)
        except UnknownDeviceError as error:
            raise QueryError("device_offline") from error
        return answer

    async def device_status(self, device: DeviceKey, *, target: GbId | None = None) -> DeviceStatusResponse:
        """Ask for the working state of the device, or of a channel of it. Raises QueryError."""
        return await self.inquiries.status(device, target=target)

    async def record_info(
        self, device: DeviceKey, channel: GbId, *, start: float, end: float, kind: str = "all"
    ) -> RecordList:
        """Recordings of a channel between two unix times; none is an empty list, not an error. Raises QueryError."""
        return await self.inquiries.records(device, channel, start=start, end=end, wanted=RecordFilter(kind=kind))

    async def control(self, device: DeviceKey, control: DeviceControl) -> None:
        """Send a control as it is and await the answer of those that have one: see Controls.send."""
        await self.controls.send(device, control)

    async def request_key_frame(self, device: DeviceKey, channel: GbId) -> None:
        """Ask for a key frame, in the spelling of the device's edition. Raises QueryError."""
        await self.controls.key_frame(device, channel)

    def ask_key_frame(self, device: DeviceKey, channel: GbId) -> None:
        """The same in the background: a camera that does not understand it sends its next key frame in time anyway."""
        self._background.spawn(self._ask_key_frame(device, channel))

    async def _ask_key_frame(self, device: DeviceKey, channel: GbId) -> None:
        try:
            await self.request_key_frame(device, channel)
        except QueryError as error:
            log.info("key_frame_not_asked", device=device, code=error.code)

    async def sync_catalog(self, device: DeviceKey) -> SyncResult:
        """Fetch and store the directory of a device; who comes while one runs joins it. Raises QueryError.

        Publishes CatalogProgress for every part and CatalogSynced at the end. An incomplete answer deletes nothing.
        """
        task = self._syncing.get(device)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._sync(device))
            self._syncing[device] = task
            task.add_done_callback(lambda done: self._syncing.pop(device, None))
            self._background.keep(task)
        return await asyncio.shield(task)

    async def sync_below(self, device: DeviceKey, target: GbId) -> CatalogChange:
        """Fetch what lies below one object of a lower platform (annex J) and merge it; nothing is removed. Raises
        QueryError."""
        bound = self.queries.require(device)
        found = await self.queries.catalog(bound, target)
        return await self._store.apply_catalog(device, listed(found.items), complete=False, now=self._clock())

    async def _sync(self, device: DeviceKey) -> SyncResult:
        bound = self.queries.require(device)
        known = await self._store.device(device)

        def progress(part: Progress) -> None:
            self._publish(CatalogProgress(device=device, at=self._clock(), received=part.received, expected=part.total))

        found = await self.queries.catalog(
            bound, bound.gb_id, expected=known.channel_count if known else 0, progress=progress
        )
        now = self._clock()
        # A large directory takes seconds to convert, in which the others are served.
        items = await asyncio.to_thread(listed, found.items) if len(found.items) > 1_000 else listed(found.items)
        try:
            change = await self._store.apply_catalog(device, items, complete=found.complete, now=now)
        except CatalogTooLargeError as error:
            raise QueryError("device_error", text="catalogue_too_large") from error
        except UnknownDeviceError as error:
            raise QueryError("device_offline") from error
        log.info("catalog_synced", device=device, complete=found.complete, reason=found.reason, items=len(found.items))
        self._publish(
            CatalogSynced(
                device=device,
                at=now,
                complete=found.complete,
                total=change.total,
                added=change.added,
                changed=change.changed,
                removed=change.removed,
            )
        )
        return SyncResult(
            device=device,
            complete=found.complete,
            reason=found.reason,
            received=len(found.items),
            total=found.total,
            change=change,
        )


def _parse(body: bytes) -> Message | Unknown | ProtocolError:
    try:
        return manscdp.parse(body)
    except ProtocolError as error:
        return error


def _is_response(message: Message | Unknown) -> bool:
    return message.root.lower() == "response"


def _kind(message: Message | Unknown) -> str:
    """Name for the log: known messages by class, unknown ones only if it is a plain word."""
    if isinstance(message, Message):
        return type(message).__name__
    word = message.cmd_type
    return word if word.isascii() and word.isalpha() else "unreadable"
