"""The application behind its real web server: what only sockets can show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ops.web import WebServer
from sharing.people import Role
from tests.api.fakes import World


@asynccontextmanager
async def served(world: World) -> AsyncIterator[WebServer]:
    server = WebServer(world.app, host="127.0.0.1", port=0)
    await server.start()
    try:
        yield server
    finally:
        world.bus.close()
        await server.stop()


async def send(server: WebServer, head: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"{head}\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return reader, writer


async def test_a_cut_connection_cancels_the_camera_and_ends_the_lease(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.play.gate = asyncio.Event()
    body = json.dumps({"channel": world.channel.key, "purpose": "DUTY_WATCH"}).encode()
    head = (
        "POST /api/v1/streams HTTP/1.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {world.tokens[Role.WATCHER]}"
    )
    async with served(world) as server:
        with world.bus.subscribe() as bus:
            _, writer = await send(server, head, body)
            await asyncio.wait_for(world.play.asked.wait(), 5)
            writer.close()
            await writer.wait_closed()
            ended = await asyncio.wait_for(bus.next(), 5)
        await world.completion.settled()
    assert ended.reason == "viewer_left"
    assert world.play.cancelled == 1
    assert list(world.sharing.completed.values()) == ["viewer_left"]


async def test_live_events_flow_and_stopping_the_server_ends_them(tmp_path: Path) -> None:
    world = World(tmp_path)
    head = f"GET /api/v1/events HTTP/1.1\r\nAuthorization: Bearer {world.tokens[Role.WATCHER]}"
    async with served(world) as server:
        reader, writer = await send(server, head)
        answer = await asyncio.wait_for(reader.readuntil(b": connected\n\n"), 5)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"\r\nserver:" not in answer.lower()
        assert world.bus.subscribers == 1
    assert await asyncio.wait_for(reader.read(), 5) == b"\r\n0\r\n\r\n"
    writer.close()
    await writer.wait_closed()


async def test_a_reader_who_leaves_frees_the_place(tmp_path: Path) -> None:
    world = World(tmp_path)
    head = f"GET /api/v1/events HTTP/1.1\r\nAuthorization: Bearer {world.tokens[Role.WATCHER]}"
    async with served(world) as server:
        reader, writer = await send(server, head)
        await asyncio.wait_for(reader.readuntil(b": connected\n\n"), 5)
        (subscription,) = world.bus._readers
        freed = asyncio.Event()
        forget = world.bus.forget

        def forgotten(reader: object) -> None:
            forget(subscription)
            freed.set()

        world.bus.forget = forgotten  # type: ignore[method-assign]
        writer.close()
        await writer.wait_closed()
        await asyncio.wait_for(freed.wait(), 5)
    assert world.bus.subscribers == 0


async def test_a_body_announced_as_too_large_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with served(world) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 9999999999\r\n\r\n"
        )
        writer.write(b" " * (2 << 20))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert answer.startswith(b"HTTP/1.1 413")
        writer.close()
