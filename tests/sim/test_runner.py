"""The runner over TCP: one connection for everything, opened again when the platform closes it; media over TCP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ops.clock import system_clock
from ops.sim.footage import Footage
from ops.sim.runner import DeviceRunner, Wire
from ops.sim.user_agent import AgentConfig, UserAgent
from tests.sim.scripted import DEVICE, DOMAIN, SERVER, Text, camera, config

PATIENCE = 20.0
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Platform:
    """A listening platform; ``arrivals`` yields connections."""

    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[Pair] = asyncio.Queue()
        self.address = ("", 0)

    def arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrivals.put_nowait((reader, writer))


async def read_message(reader: asyncio.StreamReader) -> Text:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return Text.read(head + await reader.readexactly(length))


def answer(writer: asyncio.StreamWriter, request: Text, status: str, *extra: str) -> None:
    lines = [f"SIP/2.0 {status}", *extra]
    lines += [f"{name}: {request.headers[name.lower()]}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
    writer.write(("\r\n".join([*lines, "Content-Length: 0"]) + "\r\n\r\n").encode())


async def accept_registration(pair: Pair) -> Text:
    """Challenge, accept, answer the heartbeat; returns the accepted REGISTER."""
    reader, writer = pair
    answer(
        writer, await read_message(reader), "401 Unauthorized", f'WWW-Authenticate: Digest realm="{DOMAIN}", nonce="n"'
    )
    register = await read_message(reader)
    answer(writer, register, "200 OK", "Expires: 3600")
    answer(writer, await read_message(reader), "200 OK")
    return register


@asynccontextmanager
async def running(
    footage: Footage, settings: AgentConfig
) -> AsyncIterator[tuple[Platform, DeviceRunner, asyncio.Task[int]]]:
    platform = Platform()
    server = await asyncio.start_server(platform.arrived, "127.0.0.1", 0)
    platform.address = server.sockets[0].getsockname()[:2]
    agent = UserAgent(camera(footage=footage), settings, token=secrets.token_hex)
    runner = DeviceRunner(agent, Wire(server=platform.address, transport="tcp"), clock=system_clock())
    task = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield platform, runner, task
    finally:
        task.cancel()
        await asyncio.wait([task])
        server.close()


async def test_everything_runs_in_one_connection_and_ends_in_order(short: Footage) -> None:
    async with running(short, config(transport="tcp")) as (platform, runner, task):
        reader, writer = pair = await platform.arrivals.get()
        await accept_registration(pair)
        runner.stop()
        leave = await read_message(reader)
        assert leave.headers["expires"] == "0"
        answer(writer, leave, "200 OK")
        assert await task == 0
        assert await reader.read() == b""
        writer.close()
        assert platform.arrivals.empty()


async def test_a_closed_connection_is_opened_again_with_a_new_registration(short: Footage) -> None:
    async with running(short, config(transport="tcp", retry=0.0)) as (platform, _, _):
        pair = await platform.arrivals.get()
        before = await accept_registration(pair)
        pair[1].transport.abort()
        again = await platform.arrivals.get()
        after = await accept_registration(again)
        again[1].transport.abort()
    assert after.headers["call-id"] == before.headers["call-id"]
    assert int(after.headers["cseq"].split()[0]) > int(before.headers["cseq"].split()[0])


async def test_media_over_tcp_goes_where_the_offer_says_and_its_loss_ends_the_call(short: Footage) -> None:
    async with running(short, config(transport="tcp")) as (platform, _, _):
        reader, writer = pair = await platform.arrivals.get()
        await accept_registration(pair)
        media = Platform()
        listener = await asyncio.start_server(media.arrived, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        offer = f"v=0\r\no={SERVER} 0 0 IN IP4 127.0.0.1\r\ns=Play\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        offer += f"m=video {port} TCP/RTP/AVP 96\r\na=recvonly\r\na=rtpmap:96 PS/90000\r\na=setup:passive\r\n"
        offer += "a=connection:new\r\ny=0200003312\r\n"

        def ask(method: str, to: str, body: str = "") -> None:
            lines = [
                f"{method} sip:{DEVICE}@{DOMAIN} SIP/2.0",
                f"Via: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK{method}",
            ]
            lines += [f"From: <sip:{SERVER}@{DOMAIN}>;tag=up", f"To: {to}", "Call-ID: c", f"CSeq: 1 {method}"]
            lines += [f"Contact: <sip:{SERVER}@127.0.0.1:5060>", f"Content-Length: {len(body)}"]
            writer.write(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())

        ask("INVITE", f"<sip:{DEVICE}@{DOMAIN}>", offer)
        while (answered := await read_message(reader)).status == 100:
            pass
        assert answered.status == 200
        ask("ACK", answered.headers["to"])
        incoming, outgoing = await media.arrivals.get()
        size = int.from_bytes(await incoming.readexactly(2), "big")
        packet = await incoming.readexactly(size)
        assert packet[8:12] == (200_003_312).to_bytes(4, "big")
        assert packet[12:16] == b"\x00\x00\x01\xba"
        outgoing.transport.abort()
        bye = await read_message(reader)
        assert bye.method == "BYE"
        answer(writer, bye, "200 OK")
        listener.close()
        writer.transport.abort()
