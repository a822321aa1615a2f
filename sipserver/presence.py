"""Who is online: recovery at start, heartbeats, expiry, lost connections, moves of a binding (§9.1.1, §9.6).

Going offline takes effect in memory and for all listeners at once, the store follows; coming online is the other way
round: nothing is bound that is not durable.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog

from catalog.events import DeviceOffline, DeviceOnline, DomainEvent
from catalog.store import CatalogTooLargeError, UnknownDeviceError
from sipserver.bindings import STORE_DOWN, Bindings, Bound, OfflineReason, Store
from sipserver.protocol.errors import GbError
from sipserver.protocol.events import Flow
from sipserver.protocol.ids import DeviceKey, GbId

log = structlog.get_logger("mingjian.sip")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Policy; times in seconds.

    ``rebind``: from where a keepalive may move a binding. ``readmit``: a keepalive takes a device back whose connection
    was lost (or whose platform restarted) before its registration ran out; otherwise it gets 403 and registers anew.
    ``query_on_register``: ask DeviceInfo and Catalog after a first registration, ``parallel`` devices at a time.
    """

    keepalive_interval: float = 60.0
    keepalive_misses: int = 3
    expiry_grace: float = 30.0
    rebind: Literal["never", "same-host", "any-host"] = "same-host"
    readmit: bool = False
    query_on_register: bool = True
    parallel: int = 8
    touch_interval: float = 5.0
    tick_interval: float = 0.5
    refusal_log_interval: float = 1.0


class Background:
    """Work after an answer: one task each, bounded by ``limit``; what it may run into is logged."""

    def __init__(self, limit: int = 10_000) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._limit = limit
        self.counters: Counter[str] = Counter()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it; above the limit it is dropped, counted and logged."""
        if len(self._tasks) >= self._limit:
            work.close()
            self.counters["dropped"] += 1
            log.error("background_work_dropped", running=len(self._tasks))
            return
        task = asyncio.get_running_loop().create_task(_contained(work))
        # A task cancelled before its first step never touches the work it was given.
        task.add_done_callback(lambda done: work.close())
        self.keep(task)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task until it ends and log a fault of it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)

    async def stop(self) -> None:
        """Cancel what runs and wait for its end."""
        running = tuple(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _contained(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except GbError as error:
        log.warning("device_news_failed", code=str(error))
    except (CatalogTooLargeError, UnknownDeviceError) as error:
        log.warning("device_news_refused", error=type(error).__name__)
    except STORE_DOWN as error:
        log.error("device_news_not_stored", error=type(error).__name__)


def _log_failure(task: asyncio.Task[Any]) -> None:
    """A fault of the program in the background: its type and place, no text that may quote a message."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, GbError):
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
        log.error("device_task_failed", error=type(error).__name__, at=where)


class Presence:
    """The online state of all devices. ``arrived(bound)`` is called when a device is back without registering.

    ``heartbeat(key)``: the (interval, misses) a device was configured to, if not the platform's own (§9.6.1).
    """

    def __init__(
        self,
        store: Store,
        bindings: Bindings,
        background: Background,
        *,
        clock: Callable[[], float],
        publish: Callable[[DomainEvent], None],
        config: SessionConfig,
        arrived: Callable[[Bound], None],
        heartbeat: Callable[[DeviceKey], tuple[int, int] | None] = lambda key: None,
    ) -> None:
        self._store = store
        self._bindings = bindings
        self._background = background
        self._clock = clock
        self._publish = publish
        self._config = config
        self._arrived = arrived
        self._heartbeat = heartbeat
        self._seen: dict[DeviceKey, float] = {}
        self._seen_written = 0.0
        self._departed: dict[DeviceKey, tuple[GbId, OfflineReason]] = {}

    async def load(self) -> int:
        """Take over the bindings that the store knows, after a restart; gives how many devices are usable.

        UDP devices stay usable and get a whole keepalive period to show themselves. TCP connections died with the
        process: those devices are offline until they register (or, with ``readmit``, send a keepalive).
        """
        now = self._clock()
        for key, gb_id, binding, seen in await self._store.bindings():
            udp = binding.transport == "udp"
            flow = Flow("udp" if udp else "tcp", _address(binding.remote), _address(binding.local))
            bound = Bound(
                key=key,
                gb_id=gb_id,
                flow=flow,
                contact=binding.contact,
                call_id=binding.call_id,
                version=binding.version,
                registered_at=binding.registered_at,
                expires_at=binding.expires_at,
                last_seen=max(seen, now),
                confirmed=False,
            )
            if binding.expires_at + self._config.expiry_grace <= now:
                self._departed[key] = (gb_id, "expired")
            elif udp:
                self._bindings.put(bound)
            else:
                self._bindings.park(bound)
                self._departed[key] = (gb_id, "transport_lost")
        await self._write_departed()
        log.info("bindings_loaded", devices=len(self._bindings))
        return len(self._bindings)

    async def tick(self, now: float) -> None:
        """Take silent and expired devices offline, write what was seen."""
        for bound in self._bindings.all():
            reason = self.due(bound, now)
            # A device with a registration under way is left to it.
            if reason is not None and not self._bindings.locks.waiting(bound.gb_id):
                self._depart(bound, reason)
        self._bindings.purge_parked(now)
        await self._write_departed()
        await self._write_seen(now)

    async def stop(self) -> None:
        """Write what is known of the devices."""
        await self._write_departed()
        await self._write_seen(self._clock(), at_once=True)

    def due(self, bound: Bound, now: float) -> OfflineReason | None:
        if now >= bound.expires_at + self._config.expiry_grace:
            return "expired"
        told = self._heartbeat(bound.key)
        interval, misses = told or (self._config.keepalive_interval, self._config.keepalive_misses)
        if now - bound.last_seen > interval * misses:
            return "keepalive_lost"
        return None

    def connection_lost(self, flow: Flow) -> None:
        """A TCP connection is gone: abnormal offline for every device bound to it (§9.1.1 f)."""
        self._bindings.mark_lost(flow)
        for key in self._bindings.on_flow(flow):
            bound = self._bindings.get(key)
            if bound is not None:
                self._depart(bound, "transport_lost")
        if self._departed:
            self._background.spawn(self._write_departed())

    async def removed(self, key: DeviceKey) -> None:
        """An administrator withdrew the device: forget its binding at once (the store already has)."""
        if self._bindings.remove(key, "removed") is not None:
            self._publish(DeviceOffline(device=key, at=self._clock(), reason="removed"))

    def _depart(self, bound: Bound, reason: OfflineReason) -> None:
        """Offline in memory and for all listeners now; the store follows in _write_departed."""
        log.info("device_offline", device=bound.key, reason=reason)
        self._departed[bound.key] = (bound.gb_id, reason)
        self._bindings.remove(bound.key, reason, park=reason in ("transport_lost", "keepalive_lost"))

    async def _write_departed(self) -> None:
        """Write departures; what cannot be written stays for the next tick."""
        for key, (gb_id, reason) in tuple(self._departed.items()):
            if self._bindings.locks.waiting(gb_id):
                continue
            try:
                async with self._bindings.locks.hold(gb_id):
                    if self._departed.pop(key, None) is None or self._bindings.get(key) is not None:
                        continue
                    now = self._clock()
                    try:
                        await self._store.offline(key, now=now)
                    except STORE_DOWN:
                        self._departed[key] = (gb_id, reason)
                        raise
            except STORE_DOWN as error:
                log.error("offline_not_written", device=key, error=type(error).__name__)
                return
            self._publish(DeviceOffline(device=key, at=now, reason=reason))

    async def _write_seen(self, now: float, *, at_once: bool = False) -> None:
        if not self._seen or not (at_once or now - self._seen_written >= self._config.touch_interval):
            return
        seen, self._seen, self._seen_written = self._seen, {}, now
        try:
            await self._store.touch(seen)
        except STORE_DOWN as error:
            log.error("last_seen_not_written", devices=len(seen), error=type(error).__name__)
            self._seen = seen | self._seen

    def heard(self, bound: Bound) -> None:
        """A device said something."""
        now = self._clock()
        self._bindings.seen(bound.key, now)
        self._seen[bound.key] = now

    def returned(self, key: DeviceKey) -> None:
        """A device registered: a departure not yet written is void."""
        self._departed.pop(key, None)

    async def move(self, flow: Flow, before: Bound) -> None:
        """The device speaks from another port or connection: bind it there, durably first."""
        async with self._bindings.locks.hold(before.gb_id):
            current = self._bindings.get(before.key)
            if current is None or current.flow == flow or self._bindings.is_lost(flow):
                return
            bound = replace(current, flow=flow)
            await self._store.bind(bound.key, bound.stored())
            self._bindings.put(bound)
        log.info("device_moved", device=before.key, transport=flow.transport)

    def returnable(self, sender: GbId, flow: Flow) -> Bound | None:
        """The binding that a keepalive on this flow may revive: policy, same host, registration still running."""
        parked = self._bindings.parked(sender)
        if not self._config.readmit or parked is None or flow.remote[0] != parked.flow.remote[0]:
            return None
        return parked if parked.expires_at > self._clock() and not self._bindings.on_flow(flow) else None

    async def readmit(self, flow: Flow, parked: Bound) -> None:
        """Bind a device again whose binding was lost though its registration still runs."""
        async with self._bindings.locks.hold(parked.gb_id):
            now = self._clock()
            bound = replace(parked, flow=flow, last_seen=now, confirmed=True)
            await self._store.bind(bound.key, bound.stored())
            self._bindings.put(bound)
        self.returned(bound.key)
        log.info("device_readmitted", device=bound.key)
        self._publish(DeviceOnline(device=bound.key, at=now))
        self._arrived(bound)


def _address(address: tuple[str, int]) -> tuple[str, int]:
    """An address as Flow compares it (stores may give lists)."""
    host, port = address
    return str(host), int(port)
