"""A platform and scripted devices joined in memory: real SIP endpoints on both sides, a written clock, no socket."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from catalog.events import DomainEvent
from catalog.model import Binding, CatalogChange, Channel, Device, DeviceInfo, DeviceKind, ItemKind, ListedItem
from sipserver.bindings import Bindings
from sipserver.devices import DeviceSessions
from sipserver.dispatch import Dispatch
from sipserver.presence import SessionConfig
from sipserver.protocol import digest, manscdp
from sipserver.protocol.digest import NonceIssuer
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.events import Flow, RequestReceived, ResponseReceived
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId
from sipserver.protocol.manscdp import Message, Unknown
from sipserver.protocol.message import Headers, Request, Response, Uri
from sipserver.queries import QueryConfig
from sipserver.registrar import MemoryReplayGuard, Registrar, RegistrarConfig
from sipserver.transport import SipTransport

PLATFORM = GbId("34020000002000000001")
DOMAIN = "3402000000"
CAMERA = GbId("34020000001320000001")
RECORDER = GbId("34020000001180000001")
LOWER = GbId("34020100002000000001")
PASSWORD = "correct horse 7"
SERVER = ("192.0.2.1", 5060)
START = 1_700_000_000.0


class Clock:
    """Unix seconds that only move when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def counting_token() -> Callable[[int], str]:
    """Unique hex strings of 2n digits, the same in every run."""
    numbers = itertools.count(1)
    return lambda n: f"{next(numbers):0{2 * n}x}"[-2 * n :]


async def settle(rounds: int = 60) -> None:
    """Let everything that is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class StoreDownError(OSError):
    """The database cannot be reached."""


@dataclass
class FakeStore:
    """The catalog in memory, with a record of the calls and a switch for the database being away."""

    passwords: dict[GbId, str | None] = field(default_factory=dict)
    devices: dict[DeviceKey, Device] = field(default_factory=dict)
    bound: dict[DeviceKey, Binding] = field(default_factory=dict)
    seen: dict[DeviceKey, float] = field(default_factory=dict)
    catalogs: dict[DeviceKey, dict[GbId, ListedItem]] = field(default_factory=dict)
    states: dict[GbId, bool] = field(default_factory=dict)
    conditions: dict[GbId, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    down: bool = False
    before_bind: Callable[[], None] = lambda: None
    applied: asyncio.Event = field(default_factory=asyncio.Event)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise StoreDownError("database down")

    def add(self, gb_id: GbId, password: str | None = PASSWORD, *, channel_count: int = 0) -> DeviceKey:
        key = DeviceKey(f"dev_{len(self.devices):020d}".replace("0", "a").replace("1", "b"))
        self.passwords[gb_id] = password
        self.devices[key] = Device(
            key=key,
            gb_id=gb_id,
            name="Gate",
            kind=DeviceKind.IPC,
            media_transport=None,
            has_password=password is not None,
            online=False,
            created_at=START,
            channel_count=channel_count,
        )
        return key

    async def provision_device(
        self, gb_id: GbId, *, name: str, password: str | None, now: float, media_transport: str | None = None
    ) -> Device:
        self._call("provision_device")
        return self.devices[self.add(gb_id, password)]

    async def device(self, key: DeviceKey) -> Device | None:
        self._call("device")
        return self.devices.get(key)

    async def device_by_gb(self, gb_id: GbId) -> Device | None:
        self._call("device_by_gb")
        return next((device for device in self.devices.values() if device.gb_id == gb_id), None)

    async def credential(self, gb_id: GbId) -> str | None:
        self._call("credential")
        return self.passwords.get(gb_id)

    async def registrant(self, gb_id: GbId) -> tuple[Device | None, str | None]:
        return await self.device_by_gb(gb_id), await self.credential(gb_id)

    async def bind(self, key: DeviceKey, binding: Binding) -> bool:
        self._call("bind")
        self.before_bind()
        before = self.bound.get(key)
        self.bound[key] = binding
        return before is None

    async def touch(self, seen: Mapping[DeviceKey, float]) -> None:
        self._call("touch")
        self.seen.update(seen)

    async def offline(self, key: DeviceKey, *, now: float) -> bool:
        self._call("offline")
        return self.bound.pop(key, None) is not None

    async def bindings(self) -> list[tuple[DeviceKey, GbId, Binding, float]]:
        self._call("bindings")
        return [(key, self.devices[key].gb_id, binding, START) for key, binding in self.bound.items()]

    async def set_device_info(self, key: DeviceKey, info: DeviceInfo) -> None:
        self._call("set_device_info")
        self.devices[key] = replace(self.devices[key], info=info)

    async def apply_catalog(
        self, key: DeviceKey, items: Iterable[ListedItem], *, complete: bool, now: float
    ) -> CatalogChange:
        self._call(f"apply_catalog complete={complete}")
        given = {item.gb_id: item for item in items}
        known = self.catalogs.setdefault(key, {})
        added = len(given.keys() - known.keys())
        removed = len(known.keys() - given.keys()) if complete else 0
        self.catalogs[key] = given if complete else known | given
        self.applied.set()
        self.devices[key] = replace(self.devices[key], channel_count=len(self.catalogs[key]))
        return CatalogChange(added=added, changed=0, removed=removed, total=len(self.catalogs[key]))

    async def set_channel_online(self, device: DeviceKey, gb_id: GbId, online: bool) -> Channel | None:
        self._call("set_channel_online")
        if self.states.get(gb_id, True) == online:
            return None
        self.states[gb_id] = online
        return replace(self._channel(device, gb_id), online=online, item_online=online)

    def _channel(self, device: DeviceKey, gb_id: GbId) -> Channel:
        letters = gb_id.value.translate(str.maketrans("0123456789", "abcdefghij"))
        return Channel(
            key=ChannelKey(f"chn_{letters[-20:]:a>20}"),
            device=device,
            device_gb_id=self.devices[device].gb_id,
            gb_id=gb_id,
            name="",
            kind=ItemKind.CAMERA,
            playable=True,
            online=True,
            item_online=True,
            device_online=True,
            secrecy=False,
        )

    async def note_condition(self, device: DeviceKey, gb_id: GbId, condition: str, *, now: float) -> None:
        self._call("note_condition")
        self.conditions[gb_id] = condition

    async def offline_items(self, device: DeviceKey) -> list[GbId]:
        return [gb_id for gb_id, online in self.states.items() if not online]

    async def remove_items(self, device: DeviceKey, gb_ids: Iterable[GbId], *, now: float) -> int:
        self._call("remove_items")
        known = self.catalogs.setdefault(device, {})
        return sum(known.pop(gb_id, None) is not None for gb_id in gb_ids)

    async def channel_by_gb(self, device: DeviceKey, gb_id: GbId) -> Channel | None:
        if gb_id not in self.catalogs.get(device, {}):
            return None
        return replace(self._channel(device, gb_id), online=self.states.get(gb_id, True))


class MemoryTransport(SipTransport):
    """The real shell without sockets: what it sends is handed to `deliver`."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        super().__init__(endpoint, clock=clock, udp=None, tcp=None)
        self.deliver: Callable[[bytes, Flow], None] = lambda data, flow: None

    def _flush(self) -> None:
        for data, flow in self.endpoint.datagrams_to_send(now=self._clock()):
            asyncio.get_running_loop().call_soon(self.deliver, data, flow)

    def arrive(self, data: bytes, flow: Flow) -> None:
        """Bytes from a device."""
        self.endpoint.receive(data, flow, now=self._clock())
        self._pump()

    def fire_timers(self) -> None:
        """What the loop's timer does, at the written time."""
        self._timed_out()


class FakeDevice:
    """The other end of a flow: its own endpoint, answers what `answers` says, keeps everything it was asked."""

    def __init__(self, world: World, gb_id: GbId, remote: tuple[str, int], connection: int | None = None) -> None:
        self.world = world
        self.gb_id = gb_id
        self.remote = remote
        self.connection = connection
        self.endpoint = Endpoint(identity=gb_id, domain=DOMAIN, user_agent="device", token=world.token)
        self.asked: list[Message | Unknown] = []
        self.requests: list[Request] = []
        self.responses: deque[Response] = deque()
        self.script: Callable[[Message | Unknown], Iterable[Message | bytes]] = lambda message: ()
        self.sip_status: int | None = 200
        self.answer_first = False
        self.subscribed: Callable[[RequestReceived], None] = lambda event: None
        self._sn = itertools.count(1)
        self._cseq = itertools.count(1)
        world.devices[(remote, connection)] = self

    @property
    def flow(self) -> Flow:
        """The flow as the platform sees it."""
        return Flow("tcp" if self.connection else "udp", self.remote, SERVER, self.connection)

    @property
    def own_flow(self) -> Flow:
        return Flow("tcp" if self.connection else "udp", SERVER, self.remote, self.connection)

    def request(self, method: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> str:
        uri = Uri(user=PLATFORM.value, host=DOMAIN)
        request = Request(method, uri, Headers(headers), body)
        name = self.endpoint.send_request(request, self.own_flow, now=self.world.clock())
        self.flush()
        return name

    def flush(self) -> None:
        for data, _ in self.endpoint.datagrams_to_send(now=self.world.clock()):
            self.world.loop.call_soon(self.world.transport.arrive, data, self.flow)

    def receive(self, data: bytes) -> None:
        self.endpoint.receive(data, self.own_flow, now=self.world.clock())
        while (event := self.endpoint.next_event()) is not None:
            if isinstance(event, ResponseReceived):
                self.responses.append(event.response)
            elif isinstance(event, RequestReceived):
                self._asked(event)
        self.flush()

    def _asked(self, event: RequestReceived) -> None:
        self.requests.append(event.request)
        if event.request.method == "SUBSCRIBE":
            self.subscribed(event)
            return
        message = manscdp.parse(event.request.body)
        self.asked.append(message)
        if self.answer_first:
            self._play(message)
        if self.sip_status is not None:
            self.endpoint.respond(event.transaction, self.sip_status, now=self.world.clock())
        if not self.answer_first:
            self._play(message)

    def _play(self, message: Message | Unknown) -> None:
        for answer in self.script(message):
            self.say(answer)

    def say(self, message: Message | bytes, *, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a MESSAGE without waiting for its answer."""
        body = message if isinstance(message, bytes) else manscdp.build(message)
        self.request("MESSAGE", (("Content-Type", manscdp.CONTENT_TYPE), *headers), body)

    async def exchange(self, message: Message | bytes) -> Response:
        """Send a MESSAGE and give its answer."""
        self.say(message)
        return await self.answer()

    async def answer(self) -> Response:
        await settle()
        assert self.responses, "the platform did not answer"
        return self.responses.popleft()

    async def register(
        self,
        *,
        password: str = PASSWORD,
        expires: int | None = 3600,
        headers: Iterable[tuple[str, str]] = (),
        username: str | None = None,
        qop: bool = False,
    ) -> tuple[Response, Response]:
        """(challenge, answer to the credentials)."""
        common = [("Contact", f"<sip:{self.gb_id.value}@10.0.0.9:5060>"), *headers]
        if expires is not None:
            common.append(("Expires", str(expires)))
        common.append(("CSeq", f"{next(self._cseq)} REGISTER"))
        self.request("REGISTER", common)
        challenge = await self.answer()
        authorization = self.authorization(challenge, password=password, username=username, qop=qop)
        common[-1] = ("CSeq", f"{next(self._cseq)} REGISTER")
        self.request("REGISTER", (*common, ("Authorization", authorization)))
        return challenge, await self.answer()

    def authorization(
        self, challenge: Response, *, password: str = PASSWORD, username: str | None = None, qop: bool = False
    ) -> str:
        parsed = digest.parse_challenge(challenge.headers.get("WWW-Authenticate") or "")
        assert parsed is not None
        if qop:
            parsed = replace(parsed, qop=("auth",))
        return digest.answer(
            parsed,
            username=username or self.gb_id.value,
            password=password,
            method="REGISTER",
            uri=f"sip:{PLATFORM.value}@{DOMAIN}",
            cnonce="0a4f113b",
        )


class World:
    """The platform under test, its clock, its store and its devices."""

    def __init__(
        self,
        *,
        registrar: RegistrarConfig | None = None,
        sessions: SessionConfig | None = None,
        queries: QueryConfig | None = None,
        store: FakeStore | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = Clock()
        self.token = counting_token()
        self.store = store or FakeStore()
        self.published: list[DomainEvent] = []
        self.devices: dict[tuple[tuple[str, int], int | None], FakeDevice] = {}
        self.endpoint = Endpoint(identity=PLATFORM, domain=DOMAIN, user_agent="platform", token=self.token)
        self.transport = MemoryTransport(self.endpoint, self.clock)
        self.transport.deliver = self._deliver
        self.bindings = Bindings()
        self.sessions = DeviceSessions(
            self.transport,
            self.store,
            self.bindings,
            clock=self.clock,
            token=self.token,
            publish=self.published.append,
            config=sessions or SessionConfig(query_on_register=False),
            query_config=queries,
        )
        self.registrar = Registrar(
            self.transport,
            self.store,
            MemoryReplayGuard(self.clock),
            clock=self.clock,
            config=registrar or RegistrarConfig(realm=DOMAIN),
            nonces=NonceIssuer(b"0123456789abcdef"),
            bindings=self.bindings,
            publish=self.published.append,
            on_bound=self.sessions.bound,
        )
        self.dispatch = Dispatch(self.transport, self.registrar, self.sessions)
        self.transport.on_event = self.dispatch.on_event
        self.sent: list[tuple[bytes, Flow]] = []

    def _deliver(self, data: bytes, flow: Flow) -> None:
        self.sent.append((data, flow))
        device = self.devices.get((flow.remote, flow.connection))
        if device is not None:
            device.receive(data)

    def device(
        self, gb_id: GbId = CAMERA, remote: tuple[str, int] = ("198.51.100.7", 5060), connection: int | None = None
    ) -> FakeDevice:
        return FakeDevice(self, gb_id, remote, connection)

    async def registered(self, gb_id: GbId = CAMERA, **where: object) -> tuple[DeviceKey, FakeDevice]:
        """A provisioned device that is online."""
        known = await self.store.device_by_gb(gb_id)
        key = known.key if known else self.store.add(gb_id)
        device = self.device(gb_id, **where)  # type: ignore[arg-type]
        _, accepted = await device.register()
        assert accepted.status == 200
        return key, device

    async def pass_time(self, seconds: float) -> None:
        """Move the clock and let the platform notice."""
        self.clock.advance(seconds)
        await self.sessions.tick(self.clock())
        await settle()

    def events(self, kind: type[DomainEvent]) -> list[DomainEvent]:
        return [event for event in self.published if isinstance(event, kind)]

    async def stop(self) -> None:
        await self.sessions.stop()
        await self.transport.stop()
