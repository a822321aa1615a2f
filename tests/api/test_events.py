"""The live event stream: scope, own views, heartbeat, slow clients, end of session, shutdown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.events import frame, kind_of, payload
from api.views import ViewEnded
from catalog.events import CatalogProgress, ChannelChanged, DeviceOffline, DeviceOnline, StreamEnded, StreamStarted
from sharing.people import Role
from sipserver.protocol.ids import LeaseKey, StreamKey
from tests.api.fakes import NOW, World, key


class Listener:
    """One connection to /events, spoken to as a server would."""

    def __init__(self, world: World, token: str) -> None:
        self.world = world
        self.token = token
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.status = asyncio.get_running_loop().create_future()
        self.headers: dict[bytes, bytes] = {}
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async def receive() -> dict[str, Any]:
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.headers = dict(message["headers"])
                self.status.set_result(message["status"])
            else:
                await self.chunks.put(message["body"] or None)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/api/v1/events",
            "raw_path": b"/api/v1/events",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"x"), (b"authorization", f"Bearer {self.token}".encode())],
            "client": ("192.0.2.7", 1),
            "server": ("x", 80),
        }
        await self.world.app(scope, receive, send)

    async def chunk(self) -> str | None:
        raw = await asyncio.wait_for(self.chunks.get(), 5)
        return None if raw is None else raw.decode()

    async def event(self) -> dict[str, Any]:
        while (text := await self.chunk()) is not None:
            if text.startswith(":"):
                continue
            head, _, data = text.removesuffix("\n\n").partition("\n")
            parsed: dict[str, Any] = json.loads(data.removeprefix("data: "))
            assert head == f"event: {parsed['kind']}"
            return parsed
        raise AssertionError("the stream ended")


@asynccontextmanager
async def listening(world: World, who: Role | str) -> AsyncIterator[Listener]:
    token = world.tokens[who] if isinstance(who, Role) else who
    listener = Listener(world, token)
    listener.task = asyncio.create_task(listener.run())
    assert await asyncio.wait_for(listener.status, 5) == 200
    assert await listener.chunk() == ": connected\n\n"
    try:
        yield listener
    finally:
        listener.gone.set()
        await asyncio.wait_for(listener.task, 5)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_watcher_gets_the_events_of_its_scope_only(world: World) -> None:
    inside, outside = world.channel, world.hidden
    async with listening(world, Role.WATCHER) as listener:
        assert listener.headers[b"content-type"].startswith(b"text/event-stream")
        assert listener.headers[b"cache-control"] == b"no-store"
        for channel in (outside, inside):
            world.bus.publish(ChannelChanged(channel=channel.key, device=channel.device, at=NOW, online=False))
            world.bus.publish(DeviceOffline(device=channel.device, at=NOW, reason="expired"))
        first, second = await listener.event(), await listener.event()
    assert first == {
        "kind": "channel_changed",
        "channel": inside.key,
        "device": inside.device,
        "at": "2026-11-21T04:00:00.000Z",
        "online": False,
    }
    assert (second["kind"], second["device"]) == ("device_offline", inside.device)


async def test_an_administrator_gets_all_device_events_and_an_auditor_none(world: World) -> None:
    async with listening(world, Role.ADMINISTRATOR) as admin, listening(world, Role.AUDITOR) as auditor:
        world.bus.publish(DeviceOnline(device=world.hidden.device, at=NOW))
        world.bus.publish(CatalogProgress(device=world.hidden.device, at=NOW, received=1, expected=2))
        assert (await admin.event())["kind"] == "device_online"
        assert (await admin.event())["expected"] == 2
        mine = ViewEnded(
            view=LeaseKey(key("lea")), user=world.users[Role.AUDITOR].key, channel=world.channel.key, at=NOW, reason="x"
        )
        world.bus.publish(mine)
        assert (await auditor.event())["kind"] == "stream_ended"


async def test_the_end_of_a_view_is_told_to_its_owner_alone(world: World) -> None:
    async with listening(world, Role.WATCHER) as owner, listening(world, Role.ADMINISTRATOR) as admin:
        async with world.as_(Role.WATCHER) as client:
            opened = await client.post("/api/v1/streams", json={"channel": world.channel.key, "purpose": "DUTY_WATCH"})
            view = opened.json()["id"]
            await client.delete(f"/api/v1/streams/{view}")
        world.bus.publish(DeviceOnline(device=world.channel.device, at=NOW))
        ended = await owner.event()
        assert (await admin.event())["kind"] == "device_online"
    assert ended["kind"] == "stream_ended"
    assert ended["stream"] == view
    assert ended["reason"] == "viewer_closed"
    assert "user" not in ended


async def test_a_slow_client_is_told_that_it_lost_events(world: World) -> None:
    async with listening(world, Role.ADMINISTRATOR) as listener:
        for _ in range(1000):
            world.bus.publish(DeviceOnline(device=world.channel.device, at=NOW))
        lagged = await listener.event()
    assert lagged == {"kind": "lagged", "lost": 1000 - 256}


async def test_heartbeats_come_even_while_only_foreign_events_happen(tmp_path: Path) -> None:
    world = World(tmp_path, heartbeat=0.02)
    async with listening(world, Role.AUDITOR) as listener:
        done = asyncio.Event()

        async def noise() -> None:
            while not done.is_set():
                world.bus.publish(DeviceOnline(device=world.channel.device, at=NOW))
                await asyncio.sleep(0)

        making = asyncio.create_task(noise())
        assert await listener.chunk() == ": heartbeat\n\n"
        done.set()
        await making


async def test_the_stream_ends_with_its_session(tmp_path: Path) -> None:
    world = World(tmp_path, heartbeat=0.01)
    token = world.people.open(world.users[Role.WATCHER])
    async with listening(world, token) as listener:
        await world.people.logout(token)
        while await listener.chunk() is not None:
            continue
        assert listener.task is not None
        await asyncio.wait_for(listener.task, 5)
    assert world.bus.subscribers == 0


async def test_leaving_frees_the_place_and_closing_the_bus_ends_everybody(world: World) -> None:
    async with listening(world, Role.WATCHER):
        assert world.bus.subscribers == 1
    assert world.bus.subscribers == 0
    async with listening(world, Role.WATCHER) as listener:
        world.bus.close()
        assert await listener.chunk() is None
    async with world.as_(Role.WATCHER) as client:
        assert (await client.get("/api/v1/events")).status_code == 503


async def test_a_user_who_is_disabled_gets_nothing_more_after_the_next_heartbeat(tmp_path: Path) -> None:
    world = World(tmp_path, heartbeat=0.01)
    async with listening(world, Role.WATCHER) as listener, world.as_(Role.ADMINISTRATOR) as admin:
        await admin.patch(f"/api/v1/users/{world.users[Role.WATCHER].key}", json={"disabled": True})
        while await listener.chunk() is not None:
            continue


def test_the_names_of_events() -> None:
    stream = StreamKey(key("str"))
    channel = "chn_x"
    assert kind_of(StreamStarted(stream=stream, channel=channel, at=NOW)) == "source_started"  # type: ignore[arg-type]
    ended = StreamEnded(stream=stream, channel=channel, at=NOW, reason="device_bye")  # type: ignore[arg-type]
    assert payload(ended)["kind"] == "source_ended"
    assert payload(ended)["stream"] == stream


def test_a_frame_is_one_line_of_json_whatever_the_text() -> None:
    raw = frame("x", {"reason": "a\nb\r\n\ndata: c"})
    assert raw.count(b"\n") == 3
