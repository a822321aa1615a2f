"""The platform behind the interface, in memory: small, exact about signatures, switchable to every kind of fault."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.completion import Completion
from api.eventbus import EventBus
from api.services import ApiConfig, Check, MediaTransport, Output, Services
from api.views import Views
from catalog.model import (
    Channel,
    ChannelFilter,
    Device,
    DeviceKind,
    ItemKind,
    NodeKey,
    Page,
    TreeMode,
    TreeNode,
)
from catalog.store import CatalogStore, DuplicateDeviceError, UnknownDeviceError
from ops.observe import make_registry
from sharing.lease import Action, Client, Lease, Permit, Refusal, Renewals, ViewStats
from sharing.ledger import Entry, EntryKind, InclusionProof, Ledger, LedgerUnavailableError, TreeHead
from sharing.people import LoginOk, LoginRefused, People, PeopleError, Role, Session, User
from sharing.service import Sharing
from sipserver.play import PlayError
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId, LeaseKey, StreamKey, UserKey, new_key
from sipserver.protocol.manscdp_types import DeviceStatusResponse
from tests.api.signals import no_signals

NOW = 1_795_233_600.0
CAMERA_CODE = "34020000001320000001"
PASSWORD = "right-Password-1"


def key(prefix: str) -> str:
    return new_key(prefix, secrets.token_hex)


class Tick:
    """A clock that stands until told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class FakePeople(People):
    """Accounts and sessions in dictionaries; `password` is the same for all."""

    def __init__(self, clock: Tick) -> None:
        self.clock = clock
        self.known: dict[UserKey, User] = {}
        self.sessions: dict[str, Session] = {}
        self.failures = 0

    def add(self, name: str, role: Role, *, must_change: bool = False, scope: tuple[NodeKey, ...] = ()) -> User:
        user = User(
            key=UserKey(key("usr")),
            username=name,
            display_name=name,
            roles=frozenset({role}),
            scope=scope,
            enabled=True,
            must_change_password=must_change,
            created_at=NOW,
        )
        self.known[user.key] = user
        return user

    def open(self, user: User) -> str:
        token = secrets.token_urlsafe(32)
        self.sessions[token] = Session(user=user, created_at=NOW, expires_at=NOW + 43200, idle_expires_at=NOW + 900)
        return token

    async def login(self, username: str, password: str, client: Client) -> LoginOk | LoginRefused:
        user = next((user for user in self.known.values() if user.username == username), None)
        if self.failures >= 5:
            return LoginRefused(code="E_LOGIN_THROTTLED", http_status=429, retry_after=900)
        if user is None or password != PASSWORD:
            self.failures += 1
            return LoginRefused(code="E_LOGIN", http_status=401)
        token = self.open(user)
        return LoginOk(token=token, session=self.sessions[token])

    async def session(self, token: str) -> Session | None:
        session = self.sessions.get(token)
        if session is None or self.clock() >= session.expires_at or not self.known[session.user.key].enabled:
            return None
        return replace(session, user=self.known[session.user.key])

    async def logout(self, token: str) -> None:
        self.sessions.pop(token, None)

    async def change_password(self, user: UserKey, old: str, new: str, *, keep_token: str | None = None) -> None:
        if old != PASSWORD:
            raise PeopleError("E_LOGIN", 422, "The current password is wrong.")
        self.known[user] = replace(self.known[user], must_change_password=False)

    async def user(self, key: UserKey) -> User | None:
        return self.known.get(key)

    async def users(self) -> list[User]:
        return sorted(self.known.values(), key=lambda user: user.username)

    async def create_user(
        self,
        *,
        actor: UserKey | None,
        username: str,
        display_name: str,
        password: str,
        roles: Collection[Role],
        scope: Collection[NodeKey] = (),
        may_listen: bool = False,
    ) -> User:
        if any(user.username == username for user in self.known.values()):
            raise PeopleError("user_exists", 409, "There is an account of this name.")
        (role,) = roles
        user = replace(self.add(username, role, must_change=True, scope=tuple(scope)), may_listen=may_listen)
        self.known[user.key] = user
        return user

    async def update_user(
        self,
        key: UserKey,
        *,
        actor: UserKey | None,
        display_name: str | None = None,
        roles: Collection[Role] | None = None,
        scope: Collection[NodeKey] | None = None,
        enabled: bool | None = None,
        password: str | None = None,
        may_listen: bool | None = None,
    ) -> User:
        user = self.known.get(key)
        if user is None:
            raise PeopleError("not_found", 404, "There is no such resource.")
        user = replace(
            user,
            display_name=display_name or user.display_name,
            roles=frozenset(roles) if roles is not None else user.roles,
            scope=tuple(scope) if scope is not None else user.scope,
            enabled=user.enabled if enabled is None else enabled,
            must_change_password=user.must_change_password or password is not None,
            may_listen=user.may_listen if may_listen is None else may_listen,
        )
        self.known[key] = user
        return user

    async def remove_user(self, key: UserKey, *, actor: UserKey | None) -> None:
        if self.known.pop(key, None) is None:
            raise PeopleError("not_found", 404, "There is no such resource.")


class FakeStore(CatalogStore):
    """Two devices with two channels; `outside` lies outside every watcher's scope."""

    def __init__(self) -> None:
        self.rows: dict[DeviceKey, Device] = {}
        self.items: dict[ChannelKey, Channel] = {}
        self.outside: set[str] = set()
        self.down = False

    def add(self, code: str = CAMERA_CODE, *, online: bool = True) -> Channel:
        device = Device(
            key=DeviceKey(key("dev")),
            gb_id=GbId(code),
            name="东门",
            kind=DeviceKind.IPC,
            media_transport=None,
            has_password=True,
            online=online,
            created_at=NOW,
            channel_count=1,
        )
        channel = Channel(
            key=ChannelKey(key("chn")),
            device=device.key,
            device_gb_id=device.gb_id,
            gb_id=device.gb_id,
            name="东门枪机",
            kind=ItemKind.CAMERA,
            playable=True,
            online=online,
            item_online=online,
            device_online=online,
            secrecy=False,
            ptz_type="1",
        )
        self.rows[device.key] = device
        self.items[channel.key] = channel
        return channel

    def _check(self) -> None:
        if self.down:
            raise ConnectionRefusedError("database is away")

    async def provision_device(
        self, gb_id: GbId, *, name: str, password: str | None, now: float, media_transport: str | None = None
    ) -> Device:
        self._check()
        if any(device.gb_id == gb_id for device in self.rows.values()):
            raise DuplicateDeviceError
        channel = self.add(gb_id.value, online=False)
        return self.rows[channel.device]

    async def remove_device(self, key: DeviceKey, *, now: float) -> None:
        if self.rows.pop(key, None) is None:
            raise UnknownDeviceError

    async def device(self, key: DeviceKey) -> Device | None:
        self._check()
        return self.rows.get(key)

    async def devices(self, *, cursor: str | None = None, limit: int = 100, text: str | None = None) -> Page[Device]:
        self._check()
        if cursor is not None:
            raise ValueError("cursor")
        return Page(items=tuple(self.rows.values()), cursor=None)

    async def channel(self, key: ChannelKey, *, within: Sequence[NodeKey] | None = None) -> Channel | None:
        self._check()
        return None if within is not None and key in self.outside else self.items.get(key)

    async def channels(
        self,
        wanted: ChannelFilter | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        within: Sequence[NodeKey] | None = None,
    ) -> Page[Channel]:
        self._check()
        if cursor is not None:
            raise ValueError("cursor")
        found = [
            item
            for item in self.items.values()
            if (within is None or item.key not in self.outside)
            and (wanted is None or wanted.device in (None, item.device))
            and (wanted is None or wanted.online in (None, item.online))
        ]
        return Page(items=tuple(found), cursor=None)

    async def tree(
        self,
        parent: NodeKey | None = None,
        *,
        mode: TreeMode = "device",
        cursor: str | None = None,
        limit: int = 500,
        within: Sequence[NodeKey] | None = None,
    ) -> Page[TreeNode]:
        self._check()
        nodes = [
            TreeNode(
                key=NodeKey(item.key), name=item.name, kind="camera", parent=None, status="on", playable=True,
                child_count=0,
            )
            for item in self.items.values()
            if within is None or item.key not in self.outside
        ]  # fmt: skip
        return Page(items=tuple(nodes if parent is None else []), cursor=None)


class FakeLedger(Ledger):
    """Rows in a list; `down` refuses them."""

    def __init__(self) -> None:
        self.rows: list[Entry] = []
        self.down = False

    async def append(
        self,
        kind: EntryKind,
        facts: Mapping[str, Any],
        *,
        user: UserKey | None = None,
        channel: ChannelKey | None = None,
        lease: LeaseKey | None = None,
    ) -> Entry:
        if self.down:
            raise LedgerUnavailableError
        entry = Entry(
            seq=len(self.rows), kind=kind, at=NOW, user=user, channel=channel, lease=lease, facts=facts,
            leaf=bytes(32),
        )  # fmt: skip
        self.rows.append(entry)
        return entry

    async def head(self) -> TreeHead:
        if self.down:
            raise LedgerUnavailableError
        return TreeHead(size=len(self.rows), root=bytes(32))

    async def entries(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        kind: EntryKind | None = None,
        user: UserKey | None = None,
        channel: ChannelKey | None = None,
    ) -> tuple[list[Entry], int | None]:
        if self.down:
            raise LedgerUnavailableError
        return list(reversed(self.rows))[:limit], None

    async def inclusion(self, seq: int, *, size: int | None = None) -> InclusionProof | None:
        if seq >= len(self.rows):
            return None
        return InclusionProof(
            seq=seq, head=await self.head(), leaf=bytes(32), path=(bytes(32),), salt=bytes(16), record="{}"
        )


class FakeSharing(Sharing):
    """Says yes to everything inside the scope, unless `refusal` is set; rows go to the fake ledger."""

    def __init__(self, ledger: FakeLedger, store: FakeStore, people: FakePeople) -> None:
        self.ledger = ledger
        self.store = store
        self.people = people
        self.refusal: Refusal | None = None
        self.open: dict[LeaseKey, Lease] = {}
        self.completed: dict[LeaseKey, str] = {}

    async def authorize(
        self, user: UserKey, channel: ChannelKey, action: Action, purpose: str, client: Client
    ) -> Lease | Refusal:
        if self.ledger.down:
            return Refusal(code="E_LEDGER_UNAVAILABLE", http_status=503, sip_status=503, reason="No ledger.")
        if self.refusal is not None or channel in self.store.outside or channel not in self.store.items:
            await self.ledger.append(EntryKind.REFUSAL, {"purpose": purpose}, user=user, channel=channel)
            hidden = Refusal(code="E_HIDDEN", http_status=404, sip_status=404, reason="hidden")
            return self.refusal or hidden
        entry = await self.ledger.append(EntryKind.INTENT, {"purpose": purpose}, user=user, channel=channel)
        person = self.people.known.get(user)
        sound = {Action.AUDIO} if person is not None and person.may_listen else set()
        lease = Lease(
            key=LeaseKey(key("lea")), user=user, channel=channel, actions=frozenset({action, *sound}), purpose=purpose,
            not_after=NOW + 30, ledger_seq=entry.seq, started_at=NOW,
        )  # fmt: skip
        self.open[lease.key] = lease
        return lease

    async def permit(
        self,
        user: UserKey,
        channel: ChannelKey,
        action: Action,
        purpose: str,
        client: Client,
        *,
        detail: str | None = None,
    ) -> Permit | Refusal:
        decision = await self.authorize(user, channel, action, purpose, client)
        if isinstance(decision, Refusal):
            return decision
        del self.open[decision.key]
        return Permit(user=user, channel=channel, action=action, ledger_seq=decision.ledger_seq)

    async def renew(self, lease: LeaseKey) -> Lease | Refusal:
        if self.refusal is not None:
            return self.refusal
        return self.open[lease]

    async def renew_all(self) -> Renewals:
        return Renewals(renewed=tuple(self.open.values()))

    async def complete(self, lease: LeaseKey, reason: str, stats: ViewStats | None = None) -> Entry | None:
        if self.open.pop(lease, None) is None:
            return None
        self.completed[lease] = reason
        return await self.ledger.append(EntryKind.END, {"reason": reason}, lease=lease)

    def leases(self) -> list[Lease]:
        return list(self.open.values())

    async def within(self, user: UserKey) -> Sequence[NodeKey] | None:
        known = self.people.known.get(user)
        if known is not None and Role.ADMINISTRATOR in known.roles:
            return None
        return () if known is None else known.scope or (NodeKey("dev_root"),)


@dataclass(frozen=True)
class FakeSource:
    """A live stream that plays."""

    key: StreamKey
    state: str = "playing"


class FakePlay:
    """Answers at once, or waits for `gate`, or raises `error`; counts what it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.opened: list[LeaseKey] = []
        self.closed: list[tuple[LeaseKey, str]] = []
        self.cancelled = 0
        self.tickets: list[tuple[LeaseKey, str, str | None]] = []
        self.transports: list[str | None] = []
        self.on_lease_end: Callable[[LeaseKey, str], None] = lambda lease, reason: None
        self.live: set[LeaseKey] = set()

    async def open(self, lease: Lease, channel: Channel, *, transport: MediaTransport | None = None) -> FakeSource:
        self.opened.append(lease.key)
        self.transports.append(transport)
        self.live.add(lease.key)
        self.asked.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancelled += 1
            self._end(lease.key, "viewer_left")
            raise
        except PlayError as error:
            self._end(lease.key, error.code)
            raise
        return FakeSource(StreamKey(key("str")))

    async def close(self, lease_key: LeaseKey, *, reason: str) -> None:
        self.closed.append((lease_key, reason))
        self._end(lease_key, reason)

    def _end(self, lease_key: LeaseKey, reason: str) -> None:
        if lease_key in self.live:
            self.live.discard(lease_key)
            self.on_lease_end(lease_key, reason)

    def ticket(self, lease_key: LeaseKey, output: Output, *, client_ip: str | None = None, ttl: float = 30) -> str:
        self.tickets.append((lease_key, output, client_ip))
        return f"/live/{secrets.token_urlsafe(24)}.{'flv' if output == 'flv' else 'mp4'}"


class FakeDevices:
    """Remembers what it was asked; a sync waits for `gate` when there is one."""

    def __init__(self) -> None:
        self.synced: list[DeviceKey] = []
        self.forgotten: list[DeviceKey] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def sync_catalog(self, device: DeviceKey) -> None:
        self.synced.append(device)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def device_status(self, device: DeviceKey) -> DeviceStatusResponse:
        if self.error is not None:
            raise self.error
        return DeviceStatusResponse(sn=1, device_id=GbId(CAMERA_CODE), online=True, ok=True, device_time=NOW + 2)

    async def removed(self, key: DeviceKey) -> None:
        self.forgotten.append(key)


async def _fine() -> bool:
    return True


class World:
    """One application over fakes, with one signed-in person of each role."""

    def __init__(self, console_dir: Path, **config: Any) -> None:
        self.clock = Tick()
        self.people = FakePeople(self.clock)
        self.store = FakeStore()
        self.ledger = FakeLedger()
        self.sharing = FakeSharing(self.ledger, self.store, self.people)
        self.play = FakePlay()
        self.devices = FakeDevices()
        self.bus = EventBus()
        self.views = Views(clock=self.clock, publish=self.bus.publish)
        self.completion = Completion(sharing=self.sharing, views=self.views)
        self.play.on_lease_end = self.completion.on_lease_end
        self.rights_changes = 0
        self.channel = self.store.add()
        self.hidden = self.store.add("34020000001320000002")
        self.store.outside.add(self.hidden.key)
        self.users = {role: self.people.add(role.value, role) for role in Role}
        self.tokens = {role: self.people.open(user) for role, user in self.users.items()}
        self.services = Services(
            config=ApiConfig(console_dir=console_dir, media_port=8081, metrics_token="m" * 32, **config),
            clock=self.clock,
            token=secrets.token_hex,
            people=self.people,
            sharing=self.sharing,
            store=self.store,
            ledger=self.ledger,
            play=self.play,
            devices=self.devices,
            bus=self.bus,
            views=self.views,
            completion=self.completion,
            registry=make_registry(),
            checks=(Check(name="database", probe=_fine),),
            rights_changed=self._rights_changed,
            signals=no_signals(console_dir),
        )
        self.app: FastAPI = create_app(self.services)

    def _rights_changed(self) -> None:
        self.rights_changes += 1

    def client(self, token: str | None = None, *, peer: str = "192.0.2.7") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app=self.app, client=(peer, 40000), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://console.test:8080", headers=headers)

    async def token(self, role: Role) -> str:
        return self.people.open(self.users[role])

    def as_(self, role: Role) -> httpx.AsyncClient:
        return self.client(self.tokens[role])


@contextmanager
def built_console(directory: Path) -> Iterator[Path]:
    """A console build of three files."""
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text("<title>明鉴</title>", "utf-8")
    (directory / "assets" / "index-abc123.js").write_text("export {}", "utf-8")
    (directory / "favicon.svg").write_text("<svg/>", "utf-8")
    yield directory
