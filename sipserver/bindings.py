"""Which device is where right now: the in-memory picture of the durable bindings, and the ports to store and transport.

PostgreSQL holds the truth (CatalogStore.bind/offline); this table is loaded from it at start and changed only after the
store has committed. One entry per registered device, so it is bounded by the number of provisioned devices.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol

import asyncpg
import structlog

from catalog.model import Binding, CatalogChange, Channel, Device, DeviceInfo, ListedItem
from sipserver.protocol.events import Flow, RequestReceived
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import Charset
from sipserver.protocol.message import NameAddr, Request, Response, Uri

log = structlog.get_logger("mingjian.sip")

OfflineReason = Literal["unregistered", "expired", "keepalive_lost", "transport_lost", "removed"]

_LOST_REMEMBERED: Final = 4_096

#: What a store raises while it cannot be reached.
STORE_DOWN: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Store(Protocol):
    """What the SIP shells need of catalog.store.CatalogStore; its docstrings say what each method promises."""

    async def provision_device(
        self, gb_id: GbId, *, name: str, password: str | None, now: float, media_transport: str | None = None
    ) -> Device: ...
    async def device(self, key: DeviceKey) -> Device | None: ...
    async def device_by_gb(self, gb_id: GbId) -> Device | None: ...
    async def credential(self, gb_id: GbId) -> str | None: ...
    async def registrant(self, gb_id: GbId) -> tuple[Device | None, str | None]: ...
    async def bind(self, key: DeviceKey, binding: Binding) -> bool: ...
    async def touch(self, seen: Mapping[DeviceKey, float]) -> None: ...
    async def offline(self, key: DeviceKey, *, now: float) -> bool: ...
    async def bindings(self) -> list[tuple[DeviceKey, GbId, Binding, float]]: ...
    async def set_device_info(self, key: DeviceKey, info: DeviceInfo) -> None: ...
    async def apply_catalog(
        self, key: DeviceKey, items: Iterable[ListedItem], *, complete: bool, now: float
    ) -> CatalogChange: ...
    async def set_channel_online(self, device: DeviceKey, gb_id: GbId, online: bool) -> Channel | None: ...
    async def note_condition(
        self, device: DeviceKey, gb_id: GbId, condition: Literal["on", "off", "vlost", "defect"], *, now: float
    ) -> None: ...
    async def offline_items(self, device: DeviceKey) -> list[GbId]: ...
    async def remove_items(self, device: DeviceKey, gb_ids: Iterable[GbId], *, now: float) -> int: ...
    async def channel_by_gb(self, device: DeviceKey, gb_id: GbId) -> Channel | None: ...


class Transport(Protocol):
    """What the SIP shells need of sipserver.transport.SipTransport."""

    def respond(
        self,
        transaction: str,
        status: int,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> bool: ...
    def run(self, event: RequestReceived, work: Coroutine[Any, Any, None]) -> None: ...
    async def request(self, request: Request, flow: Flow, timeout: float = 32.0) -> Response: ...  # noqa: ASYNC109


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A registered device: requests for it go down ``flow``, whatever its Contact says (it sits behind NAT).

    ``version`` is its ``X-GB-Ver`` (None: not said, taken as ≤ 2016). ``confirmed`` False: loaded at start and not
    heard of since. Times are unix seconds.
    """

    key: DeviceKey
    gb_id: GbId
    flow: Flow
    contact: str
    call_id: str
    version: str | None
    registered_at: float
    expires_at: float
    last_seen: float
    confirmed: bool = True

    @property
    def target(self) -> Uri:
        """Request-URI that reaches the device: its code at the address its packets come from."""
        params = (("transport", "tcp"),) if self.flow.transport == "tcp" else ()
        return Uri(user=self.gb_id.value, host=self.flow.remote[0], port=self.flow.remote[1], params=params)

    @property
    def to(self) -> str:
        """To header for requests outside dialogs."""
        return str(NameAddr(uri=Uri(user=self.gb_id.value, host=self.gb_id.domain)))

    @property
    def is_2022(self) -> bool:
        """True when the device said it speaks the 2022 edition or a later one (annex I)."""
        major = (self.version or "").partition(".")[0]
        return major.isascii() and major.isdigit() and int(major[:4]) >= 3

    @property
    def charset(self) -> Charset:
        """Label of the bodies we send it: GB18030 since 2022, GB2312 before (§6.10)."""
        return "GB18030" if self.is_2022 else "GB2312"

    def stored(self) -> Binding:
        """The durable form."""
        return Binding(
            transport=self.flow.transport,
            remote=self.flow.remote,
            local=self.flow.local,
            contact=self.contact,
            call_id=self.call_id,
            registered_at=self.registered_at,
            expires_at=self.expires_at,
            version=self.version,
        )


OfflineListener = Callable[[Bound, OfflineReason], None]


class Bindings:
    """DeviceKey → Bound, with the indices by address code and by flow, and listeners for devices that go away."""

    def __init__(self) -> None:
        self._by_key: dict[DeviceKey, Bound] = {}
        self._by_gb: dict[GbId, DeviceKey] = {}
        self._by_flow: dict[Flow, set[DeviceKey]] = {}
        self._hosts: Counter[str] = Counter()
        self._parked: dict[DeviceKey, Bound] = {}
        self._parked_keys: dict[GbId, DeviceKey] = {}
        self._listeners: list[OfflineListener] = []
        self._lost: OrderedDict[Flow, None] = OrderedDict()
        self.locks: Final = KeyedLocks()

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: DeviceKey) -> Bound | None:
        """Where that device is; None when it is offline."""
        return self._by_key.get(key)

    def flow(self, key: DeviceKey) -> Flow | None:
        """The flow of an online device."""
        bound = self._by_key.get(key)
        return bound.flow if bound is not None else None

    def by_gb(self, gb_id: GbId) -> Bound | None:
        """The online device with that address code."""
        key = self._by_gb.get(gb_id)
        return self._by_key.get(key) if key is not None else None

    def on_flow(self, flow: Flow) -> tuple[DeviceKey, ...]:
        """Devices bound to a flow; gateways register several over one."""
        return tuple(self._by_flow.get(flow, ()))

    def knows(self, flow: Flow) -> bool:
        """True when a device is bound to that flow."""
        return flow in self._by_flow

    def knows_host(self, host: str) -> bool:
        """True when a device is bound to some flow from that address."""
        return host in self._hosts

    def all(self) -> tuple[Bound, ...]:
        """Every online device."""
        return tuple(self._by_key.values())

    def parked(self, gb_id: GbId) -> Bound | None:
        """The last binding of a device whose connection was lost before its registration ran out."""
        key = self._parked_keys.get(gb_id)
        return self._parked.get(key) if key is not None else None

    def mark_lost(self, flow: Flow) -> None:
        """Note that a TCP connection is gone, for registrations that are being stored meanwhile."""
        self._lost[flow] = None
        while len(self._lost) > _LOST_REMEMBERED:
            self._lost.popitem(last=False)

    def is_lost(self, flow: Flow) -> bool:
        """True for a TCP connection that is known to be gone."""
        return flow in self._lost

    def listen(self, listener: OfflineListener) -> None:
        """Call ``listener(bound, reason)`` in the loop whenever a device went offline (its streams must end)."""
        self._listeners.append(listener)

    def put(self, bound: Bound) -> None:
        """Add or replace; only after the store has it."""
        self._drop(bound.key)
        self.unpark(bound.key)
        self._by_key[bound.key] = bound
        self._by_gb[bound.gb_id] = bound.key
        self._by_flow.setdefault(bound.flow, set()).add(bound.key)
        self._hosts[bound.flow.remote[0]] += 1

    def seen(self, key: DeviceKey, now: float) -> None:
        """Note that a bound device was heard of."""
        bound = self._by_key.get(key)
        if bound is not None:
            self._by_key[key] = replace(bound, last_seen=max(now, bound.last_seen), confirmed=True)

    def remove(self, key: DeviceKey, reason: OfflineReason, *, park: bool = False) -> Bound | None:
        """Forget a device and tell the listeners; ``park`` remembers where it was for re-admission by heartbeat."""
        self.unpark(key)
        bound = self._drop(key)
        if bound is None:
            return None
        if park:
            self.park(bound)
        for listener in self._listeners:
            listener(bound, reason)
        return bound

    def park(self, bound: Bound) -> None:
        """Remember the binding of a device that cannot be reached now."""
        self._parked[bound.key] = bound
        self._parked_keys[bound.gb_id] = bound.key

    def unpark(self, key: DeviceKey) -> None:
        """Forget a parked binding: the device registered, unregistered, or was withdrawn."""
        bound = self._parked.pop(key, None)
        if bound is not None:
            self._parked_keys.pop(bound.gb_id, None)

    def purge_parked(self, now: float) -> None:
        """Forget parked bindings whose registration ran out."""
        for key in [key for key, bound in self._parked.items() if bound.expires_at <= now]:
            self.unpark(key)

    def _drop(self, key: DeviceKey) -> Bound | None:
        bound = self._by_key.pop(key, None)
        if bound is None:
            return None
        self._by_gb.pop(bound.gb_id, None)
        self._hosts[bound.flow.remote[0]] -= 1
        if not self._hosts[bound.flow.remote[0]]:
            del self._hosts[bound.flow.remote[0]]
        sharing = self._by_flow.get(bound.flow)
        if sharing is not None:
            sharing.discard(key)
            if not sharing:
                del self._by_flow[bound.flow]
        return bound


class KeyedLocks:
    """One lock per device while somebody holds or awaits it, so the table is bounded by running work."""

    def __init__(self) -> None:
        self._locks: dict[GbId, tuple[asyncio.Lock, list[int]]] = {}

    def waiting(self, gb_id: GbId) -> int:
        """How many hold or await the lock of a device."""
        entry = self._locks.get(gb_id)
        return entry[1][0] if entry is not None else 0

    @asynccontextmanager
    async def hold(self, gb_id: GbId) -> AsyncIterator[None]:
        """Serialise work on one device."""
        lock, users = self._locks.setdefault(gb_id, (asyncio.Lock(), [0]))
        users[0] += 1
        try:
            async with lock:
                yield
        finally:
            users[0] -= 1
            if not users[0]:
                del self._locks[gb_id]
