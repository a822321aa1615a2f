"""One application over the real accounts, permission layer, catalog and ledger in PostgreSQL; only camera and engine
are stand-ins."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI

from api.app import create_app
from api.completion import Completion
from api.eventbus import EventBus
from api.services import ApiConfig, Services
from api.views import Views
from catalog.alarms import Alarms
from catalog.model import Channel, ChannelFilter, Device, NodeKey
from catalog.orders import Orders
from catalog.positions import Positions
from catalog.secrets import SecretBox
from catalog.settings import DeviceSettings
from catalog.store import CatalogStore
from ops.observe import make_registry
from sharing.lease import Client
from sharing.ledger import Ledger
from sharing.passwords import Hasher
from sharing.people import LoginOk, People, Role, User
from sharing.service import Sharing
from sipserver.protocol.ids import GbId
from tests.api.fakes import FakeDevices, FakePlay
from tests.api.signals import no_signals
from tests.fixtures_db import FakeClock

PASSWORD = "Right-horse-battery-7"
CODES = ("34020000001320000001", "34020000001320000002")


class CountingHasher(Hasher):
    """Cheap argon2id that counts how often a password was checked: the honest measure of equal time."""

    def __init__(self) -> None:
        super().__init__(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.checks = 0

    async def verify(self, stored: str | None, password: str) -> bool:
        self.checks += 1
        return await super().verify(stored, password)


class RealWorld:
    """Build with `await RealWorld.start(...)`, end with `await stop()`."""

    def __init__(self, pool: asyncpg.Pool, clock: FakeClock, console_dir: Path) -> None:
        self.clock = clock
        self.hasher = CountingHasher()
        self.store = CatalogStore(pool, box=SecretBox(secrets.token_bytes(32)))
        self.ledger = Ledger(pool, clock=clock)
        self.rights_changes = 0
        self.people = People(
            pool, ledger=self.ledger, clock=clock, hasher=self.hasher, on_rights_changed=self._rights_changed
        )
        self.sharing = Sharing(ledger=self.ledger, people=self.people, store=self.store, clock=clock)
        self.play = FakePlay()
        self.devices = FakeDevices()
        self.bus = EventBus()
        self.views = Views(clock=clock, publish=self.bus.publish)
        self.completion = Completion(sharing=self.sharing, views=self.views)
        self.play.on_lease_end = self.completion.on_lease_end
        self.services = Services(
            config=ApiConfig(console_dir=console_dir, media_port=8081),
            clock=clock,
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
            rights_changed=self._rights_changed,
            signals=replace(
                no_signals(console_dir),
                alarms=Alarms(pool),
                positions=Positions(pool),
                stored_orders=Orders(pool),
                settings=DeviceSettings(pool),
            ),
        )
        self.app: FastAPI = create_app(self.services)
        self.users: dict[Role, User] = {}

    def _rights_changed(self) -> None:
        self.rights_changes += 1

    @classmethod
    async def start(cls, pool: asyncpg.Pool, clock: FakeClock, console_dir: Path) -> RealWorld:
        world = cls(pool, clock, console_dir)
        await world.ledger.start()
        return world

    async def stop(self) -> None:
        await self.completion.settled()
        await self.app.state.background.close()
        await self.ledger.stop()

    async def populate(self) -> None:
        """Two cameras of which the watcher may see the first, and one account of each role."""
        devices = [await self.camera(code, name) for code, name in zip(CODES, ("东门", "西门"), strict=True)]
        for role in Role:
            scope = (NodeKey(devices[0].key),) if role is Role.WATCHER else ()
            self.users[role] = await self.person(f"{role.value}-{secrets.token_hex(3)}", role, scope)

    async def camera(self, code: str, name: str) -> Device:
        return await self.store.provision_device(GbId(code), name=name, password=None, now=self.clock())

    async def channel_of(self, device: Device) -> Channel:
        page = await self.store.channels(ChannelFilter(device=device.key))
        return page.items[0]

    async def person(self, name: str, role: Role, scope: tuple[NodeKey, ...] = ()) -> User:
        """An account that has changed its one-time password already."""
        user = await self.people.create_user(
            actor=None, username=name, display_name=name, password=PASSWORD, roles={role}, scope=scope
        )
        await self.people.change_password(user.key, PASSWORD, f"{PASSWORD}-changed")
        return user

    async def token(self, role: Role) -> str:
        answer = await self.people.login(
            self.users[role].username, f"{PASSWORD}-changed", Client(ip=f"10.0.0.{secrets.randbelow(200)}")
        )
        assert isinstance(answer, LoginOk)
        return answer.token

    def client(self, token: str | None = None, *, peer: str = "192.0.2.7") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app=self.app, client=(peer, 40000), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://console.test:8080", headers=headers)
