"""A whole platform inside the test process, on free loopback ports, and what the tests need to wait for it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import structlog

from catalog.model import Channel, Device, NodeKey
from ops.clock import Clock
from ops.config import Config, load
from ops.sim.fleet import Upper
from ops.wiring import Platform, running_platform
from sharing.people import Role
from sipserver.protocol.ids import DeviceKey, GbId, UserKey

LOCALHOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
PLATFORM, DOMAIN = "34020000002000000001", "3402000000"
PATIENCE = 20.0  # seconds until a test gives up waiting for something that should have happened
_BEAT = 0.05  # what tells nobody that it has changed is looked at this often
_given: set[int] = set()

Record = MutableMapping[str, Any]


def need(program: str) -> str:
    """The path of a program that only tests use; fails the test where it is missing."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is not installed; run ops/setup/test_packages.sh")
    return found


def free_port() -> int:
    """A loopback port that is free over UDP and TCP and was not handed out before."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((LOCALHOST, 0))
            port = int(udp.getsockname()[1])
            if port in _given:
                continue
            try:
                tcp.bind((LOCALHOST, port))
            except OSError:
                continue
        _given.add(port)
        return port


class Journal:
    """Every log record of the platform, before redaction, and a bell that rings at each."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.bell = asyncio.Event()

    def __call__(self, logger: object, method: str, event: Record) -> Record:
        self.records.append({"level": method, **event})
        self.bell.set()
        return event

    def of(self, event: str, **fields: object) -> list[Record]:
        """The records with that event name and these fields."""
        return [
            record
            for record in self.records
            if record["event"] == event and all(record.get(name) == value for name, value in fields.items())
        ]

    def faults(self, *, since: int = 0) -> list[Record]:
        """Warnings and errors, for a test that expects none or exactly one."""
        return [record for record in self.records[since:] if record["level"] in ("warning", "error", "critical")]


@dataclass(slots=True)
class Rig:
    """A running platform, its data directory and its log."""

    platform: Platform
    directory: Path
    journal: Journal

    @property
    def sip(self) -> tuple[str, int]:
        return LOCALHOST, self.platform.sip_port

    @property
    def upper(self) -> Upper:
        return Upper(address=f"{LOCALHOST}:{self.platform.sip_port}", code=PLATFORM, domain=DOMAIN)

    @property
    def web(self) -> str:
        return f"http://{LOCALHOST}:{self.platform.http_port}"

    async def until(self, done: Callable[[], bool | Awaitable[bool]], what: str, *, within: float = PATIENCE) -> None:
        """Wait until `done()` holds; looked at after every event and log record. Fails the test after `within` s."""
        try:
            async with asyncio.timeout(within):
                while True:
                    self.journal.bell.clear()
                    result = done()
                    if result if isinstance(result, bool) else await result:
                        return
                    await _rung(self.journal.bell)
        except TimeoutError:
            tail = "\n".join(json.dumps(record, default=str) for record in self.journal.records[-12:])
            pytest.fail(f"not within {within:g} s: {what}\nlast log records:\n{tail}")

    async def admit(self, code: str, password: str | None, *, name: str = "camera") -> DeviceKey:
        """Provision a device directly in the store."""
        made = await self.platform.store.provision_device(
            GbId(code), name=name, password=password, now=self.platform.clock()
        )
        return made.key

    async def device(self, key: DeviceKey) -> Device:
        found = await self.platform.store.device(key)
        assert found is not None
        return found

    async def online(self, key: DeviceKey, *, wanted: bool = True) -> None:
        async def there() -> bool:
            return (await self.device(key)).online is wanted

        await self.until(there, f"device {'online' if wanted else 'offline'}")

    async def synced(self, key: DeviceKey, *, channels: int) -> list[Channel]:
        """The channels of a device once its catalogue is stored."""

        async def there() -> bool:
            device = await self.device(key)
            return device.catalog_synced_at is not None and device.channel_count >= channels

        await self.until(there, f"catalogue of {channels} channels")
        return await self.channels(key)

    async def channels(self, key: DeviceKey) -> list[Channel]:
        return list((await self.platform.store.channels(within=(NodeKey(key),), limit=500)).items)

    @asynccontextmanager
    async def signed_in(
        self, name: str, *, role: Role = Role.WATCHER, scope: Sequence[str] = ()
    ) -> AsyncIterator[Client]:
        """A new account, signed in over HTTP, its one-time password changed."""
        first, own = f"First-{os.urandom(6).hex()}", f"Chosen-{os.urandom(6).hex()}"
        user = await self.platform.people.create_user(
            actor=None,
            username=name,
            display_name=name,
            password=first,
            roles={role},
            scope=tuple(NodeKey(key) for key in scope),
        )
        async with httpx.AsyncClient(base_url=f"{self.web}/api/v1", timeout=30) as http:
            client = Client(http, name, own, user.key)
            await client.login(first)
            body = {"current_password": first, "new_password": own}
            assert (await http.post("/me/password", json=body)).status_code == 204
            yield client

    async def watches(self, client: Client, *keys: str) -> None:
        """From now on these, and only these, subtrees are in the client's scope."""
        await self.platform.people.update_user(client.key, actor=None, scope=[NodeKey(key) for key in keys])


async def _rung(bell: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_BEAT):
            await bell.wait()
    except TimeoutError:
        return


@dataclass(slots=True)
class Client:
    """A person at the REST interface."""

    http: httpx.AsyncClient
    name: str
    password: str = field(repr=False)
    key: UserKey

    async def login(self, password: str | None = None) -> dict[str, Any]:
        answer = await self.http.post("/login", json={"username": self.name, "password": password or self.password})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        self.http.headers["Authorization"] = f"Bearer {body['token']}"
        return body

    async def ask(
        self, channel: str, *, transport: Literal["udp", "tcp-passive"] | None = None, purpose: str = "DUTY_WATCH"
    ) -> httpx.Response:
        """POST /streams, whatever the answer."""
        body: dict[str, str] = {"channel": channel, "purpose": purpose}
        if transport is not None:
            body["transport"] = transport
        return await self.http.post("/streams", json=body)

    async def open(self, channel: str, *, transport: Literal["udp", "tcp-passive"] | None = None) -> dict[str, Any]:
        """A view that opens."""
        answer = await self.ask(channel, transport=transport)
        assert answer.status_code == 201, answer.text
        view: dict[str, Any] = answer.json()
        return view

    async def tickets(self, view: str) -> dict[str, str]:
        """Fresh addresses of an open view."""
        answer = await self.http.post(f"/streams/{view}/tickets")
        assert answer.status_code == 201, answer.text
        urls: dict[str, str] = answer.json()["urls"]
        return urls

    async def close(self, view: str) -> None:
        assert (await self.http.delete(f"/streams/{view}")).status_code == 204


def configuration(directory: Path, **sections: Any) -> Config:
    """The platform on loopback; SIP on a port known beforehand, everything else where the system likes."""
    given: dict[str, Any] = {
        "sip": {"host": LOCALHOST, "port": free_port()},
        "http": {"host": LOCALHOST, "port": 0},
        "media": {"host": LOCALHOST, "udp_port": 0, "tcp_port": 0, "http_port": 0},
    }
    for name, section in sections.items():
        given[name] = given.get(name, {}) | section
    return load(environ={}, data_dir=directory, **given)


@asynccontextmanager
async def rig_of(config: Config, *, clock: Clock | None = None) -> AsyncIterator[Rig]:
    """Boot, hand out, stop; log settings of the process are put back afterwards."""
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    try:
        async with running_platform(config, clock=clock) as platform:
            journal = Journal()
            structlog.configure(processors=[journal, *structlog.get_config()["processors"]])
            yield Rig(platform, config.data_dir, journal)
    finally:
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)
