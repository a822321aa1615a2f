"""The whole signalling side on real loopback sockets with a store in memory, and a peer that sends octets as they are.

The clock is written, so nothing is retransmitted and no timer fires unless a test says so.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from sipserver.admission import AdmissionConfig
from sipserver.bindings import Bindings
from sipserver.devices import DeviceSessions
from sipserver.dispatch import Dispatch
from sipserver.presence import SessionConfig
from sipserver.protocol.digest import NonceIssuer
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.events import Event, RequestReceived
from sipserver.registrar import MemoryReplayGuard, Registrar, RegistrarConfig
from sipserver.transport import SipTransport
from tests.gb.harness import DOMAIN, PLATFORM, Clock, FakeStore, counting_token

Framing = Literal["udp", "tcp", "tcp-bytes", "tcp-glued"]
FRAMINGS: tuple[Framing, ...] = ("udp", "tcp", "tcp-bytes", "tcp-glued")
LOCAL = ("127.0.0.1", 0)
PATIENCE = 5.0

CONTROL = (
    "OPTIONS sip:control@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;rport;branch=z9hG4bKcontrol{n}\r\n"
    "From: <sip:control@example.com>;tag=c{n}\r\nTo: <sip:control@example.com>\r\nCall-ID: control-{n}\r\n"
    "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


@dataclass
class Rig:
    """The platform under test."""

    transport: SipTransport
    store: FakeStore
    bindings: Bindings
    sessions: DeviceSessions
    registrar: Registrar
    clock: Clock
    seen: list[str] = field(default_factory=list)  # methods of the requests that reached the handlers
    controls: int = 0
    control_seconds: list[float] = field(default_factory=list)

    @property
    def udp(self) -> tuple[str, int]:
        assert self.transport.udp_address is not None
        return self.transport.udp_address

    @property
    def tcp(self) -> tuple[str, int]:
        assert self.transport.tcp_address is not None
        return self.transport.tcp_address

    def control(self) -> bytes:
        self.controls += 1
        return CONTROL.format(n=self.controls).encode()

    def is_control(self, data: bytes) -> bool:
        return f"Call-ID: control-{self.controls}\r\n".encode() in data and data.startswith(b"SIP/2.0 200 ")

    async def run_out(self, seconds: float) -> None:
        """Let time pass and the core's timers fire."""
        self.clock.advance(seconds)
        self.transport._timed_out()
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    registrar: RegistrarConfig | None = None, *, admission: AdmissionConfig | None = None, clock: Clock | None = None
) -> AsyncIterator[Rig]:
    clock, store, bindings, token = clock or Clock(), FakeStore(), Bindings(), counting_token()
    endpoint = Endpoint(identity=PLATFORM, domain=DOMAIN, user_agent="platform", token=token)
    transport = SipTransport(endpoint, clock=clock, udp=LOCAL, tcp=LOCAL, admission=admission)
    sessions = DeviceSessions(
        transport,
        store,
        bindings,
        clock=clock,
        token=token,
        publish=lambda event: None,
        config=SessionConfig(query_on_register=False),
    )
    registry = Registrar(
        transport,
        store,
        MemoryReplayGuard(clock),
        clock=clock,
        config=registrar or RegistrarConfig(realm=DOMAIN),
        nonces=NonceIssuer(b"0123456789abcdef"),
        bindings=bindings,
        publish=lambda event: None,
        on_bound=sessions.bound,
    )
    dispatch = Dispatch(transport, registry, sessions)
    rig = Rig(transport, store, bindings, sessions, registry, clock)

    def on_event(event: Event) -> None:
        if isinstance(event, RequestReceived):
            rig.seen.append(event.request.method)
        dispatch.on_event(event)

    transport.on_event = on_event
    transport.on_connection_lost = sessions.connection_lost
    transport.admission.is_known = lambda remote: bindings.knows(transport.udp_flow(remote))
    endpoint.is_stranger = lambda flow: not bindings.knows_host(flow.remote[0])
    transport.admission.proves = registry.proves_address
    await transport.start()
    try:
        yield rig
    finally:
        await sessions.stop()
        await transport.stop()


def statuses(answers: list[bytes]) -> list[int]:
    """Status codes, read without our own parser; requests of ours count as 0."""
    return [int(answer[8:11]) if answer.startswith(b"SIP/2.0 ") else 0 for answer in answers]


class Datagrams:
    """A UDP peer."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(LOCAL)
        self.socket.setblocking(False)

    async def ask(self, rig: Rig, *messages: bytes) -> list[bytes]:
        """Send, then ask the control question: everything that came back before its answer."""
        loop = asyncio.get_running_loop()
        for message in messages:
            await loop.sock_sendto(self.socket, message, rig.udp)
        begun = time.perf_counter()
        answers = await self._until_control(rig)
        rig.control_seconds.append(time.perf_counter() - begun)
        # A request that waits for its handler may be overtaken by the control: ask once more.
        return answers + await self._until_control(rig)

    async def _until_control(self, rig: Rig) -> list[bytes]:
        loop = asyncio.get_running_loop()
        await loop.sock_sendto(self.socket, rig.control(), rig.udp)
        answers: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            while not rig.is_control(data := await loop.sock_recv(self.socket, 65_535)):
                answers.append(data)
        return answers

    def close(self) -> None:
        self.socket.close()


class Stream:
    """A TCP peer; reads whole messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, rig: Rig) -> Stream:
        reader, writer = await asyncio.open_connection(*rig.tcp)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(reader, writer)

    async def send(self, data: bytes, *, byte_by_byte: bool = False) -> None:
        if not byte_by_byte:
            self.writer.write(data)
            return
        for position in range(len(data)):
            self.writer.write(data[position : position + 1])
            await asyncio.sleep(0)

    async def receive(self) -> bytes | None:
        """One message; None at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return None
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    return head + await self.reader.readexactly(int(value))
            return head

    async def until_control(self, rig: Rig) -> tuple[list[bytes], bool]:
        """(answers before that of the control, whether the connection is still open)."""
        answers: list[bytes] = []
        while (data := await self.receive()) is not None:
            if rig.is_control(data):
                return answers, True
            answers.append(data)
        return answers, False

    def close(self) -> None:
        self.writer.close()
