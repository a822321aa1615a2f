"""The asyncio shell of a simulated device: signalling socket and media senders, driven by ops/sim/user_agent.py."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Literal

import structlog

from ops.sim.calls import Call
from ops.sim.ps_mux import CONFORMING, Deviations
from ops.sim.rtp_sender import MediaSender, PacedStream
from ops.sim.user_agent import Connect, Disconnect, Finished, MediaGo, MediaStop, MediaWanted, Note, UserAgent
from sipserver.protocol.events import Flow
from sipserver.protocol.ids import Ssrc

log = structlog.get_logger("mingjian.sim.runner")
Clock = Callable[[], float]
_CONNECT_PATIENCE = 10.0
_MAX_BACKLOG = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How the runner reaches its platform. ``local_host``/``local_port``: own address, port 0 = any."""

    server: tuple[str, int]
    transport: Literal["udp", "tcp"] = "udp"
    local_host: str | None = None
    local_port: int = 0
    media_host: str | None = None


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._received(data)

    def error_received(self, exc: Exception) -> None:
        # ICMP "port unreachable": the platform is away; timers of the user agent decide what follows
        log.info("udp_unreachable", error=type(exc).__name__)


class DeviceRunner:
    """Runs one user agent until it has finished. ``report(word, detail)`` hears its notes and the sender's figures."""

    def __init__(
        self,
        agent: UserAgent,
        wire: Wire,
        *,
        clock: Clock,
        report: Callable[[str, str], None] = lambda _word, _detail: None,
        deviations: Deviations = CONFORMING,
    ) -> None:
        self._agent = agent
        self._wire = wire
        self._clock = clock
        self._report = report
        self._deviations = deviations
        self._wake = asyncio.Event()
        self._connections = itertools.count(1)
        self._local_host = ""
        self._datagrams: asyncio.DatagramTransport | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._senders: dict[str, MediaSender] = {}
        self._sending: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Unregister and end run()."""
        self._agent.stop(now=self._clock())
        self._wake.set()

    def hang_up(self) -> None:
        """End every call from the device's side."""
        for dialog in self._agent.calls:
            self._agent.hang_up(dialog, now=self._clock())
        self._wake.set()

    async def run(self) -> int:
        """Serve until unregistered or given up; returns the exit code (see Finished)."""
        try:
            while True:
                code = await self._obey()
                self._flush()
                if code is not None:
                    return code
                await self._wait()
                if (due := self._agent.next_timeout()) is not None and due <= self._clock():
                    self._agent.handle_timeout(now=self._clock())
        finally:
            await self._close()

    async def _wait(self) -> None:
        due = self._agent.next_timeout()
        try:
            async with asyncio.timeout(None if due is None else max(due - self._clock(), 0.0)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _obey(self) -> int | None:
        while (action := self._agent.next_action()) is not None:
            match action:
                case Connect():
                    self._spawn(self._connect())
                case Disconnect():
                    if self._writer is not None:
                        self._writer.transport.abort()
                case MediaWanted():
                    self._spawn(self._prepare(action.call))
                case MediaGo():
                    self._start(action.call, action.ssrc)
                case MediaStop():
                    await self._stop_media(action.dialog)
                    self._report("media_stopped", action.reason)
                case Note():
                    self._report(action.word, action.detail)
                case Finished():
                    return action.code
            self._flush()
        return None

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _flush(self) -> None:
        for data in self._agent.datagrams_to_send(now=self._clock()):
            if self._datagrams is not None:
                self._datagrams.sendto(data)
            elif self._writer is not None:
                self._writer.write(data)

    # --- signalling -----------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_PATIENCE):
                flow = await (self._open_udp() if self._wire.transport == "udp" else self._open_tcp())
        except (OSError, TimeoutError) as error:
            log.info("connect_failed", error=type(error).__name__)
            self._agent.connect_failed(now=self._clock())
        else:
            self._local_host = flow.local[0]
            self._agent.connected(flow, now=self._clock())
        self._wake.set()

    async def _open_udp(self) -> Flow:
        if self._datagrams is None:
            local = (self._wire.local_host or "", self._wire.local_port)
            self._datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self._received),
                remote_addr=self._wire.server,
                local_addr=local if self._wire.local_host or self._wire.local_port else None,
            )
        address = self._datagrams.get_extra_info("sockname")
        return Flow(transport="udp", remote=self._wire.server, local=(address[0], address[1]))

    async def _open_tcp(self) -> Flow:
        local = (self._wire.local_host, self._wire.local_port) if self._wire.local_host else None
        reader, self._writer = await asyncio.open_connection(*self._wire.server, local_addr=local)
        address = self._writer.get_extra_info("sockname")
        self._spawn(self._read(reader, self._writer))
        number = next(self._connections)
        return Flow(transport="tcp", remote=self._wire.server, local=(address[0], address[1]), connection=number)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self._received(data)
                if writer.transport.get_write_buffer_size() > _MAX_BACKLOG:
                    break  # the platform stopped reading
        except OSError as error:
            log.info("connection_broken", error=type(error).__name__)
        writer.transport.abort()
        if self._writer is writer:
            self._writer = None
            self._agent.connection_lost(now=self._clock())
            self._wake.set()

    def _received(self, data: bytes) -> None:
        self._agent.receive(data, now=self._clock())
        self._wake.set()

    # --- media ----------------------------------------------------------------------------------------------------

    async def _prepare(self, call: Call) -> None:
        sender = MediaSender(call.role, clock=self._clock, dollar_framing=self._deviations.dollar_framing)
        host = self._wire.media_host or self._local_host
        try:
            port = await sender.prepare(host)
        except OSError as error:
            log.warning("media_socket_failed", error=type(error).__name__)
            self._agent.refuse(call, 486, now=self._clock())
        else:
            if call.dialog in self._agent.calls:
                self._senders[call.dialog] = sender
                self._agent.accept(call, host=host, port=port, now=self._clock())
            else:
                await sender.close()
        self._wake.set()

    def _start(self, call: Call, ssrc: Ssrc) -> None:
        sender = self._senders.get(call.dialog)
        if sender is not None and call.dialog not in self._sending:
            self._report("media_started", call.role)
            self._sending[call.dialog] = asyncio.create_task(self._send(call, ssrc, sender))

    async def _send(self, call: Call, ssrc: Ssrc, sender: MediaSender) -> None:
        def make(now: float) -> PacedStream:
            frames, fps = call.footage.frames, call.footage.fps
            return PacedStream(
                call.footage,
                ssrc=ssrc.value,
                started=now,
                deviations=self._deviations,
                first_sequence=secrets.randbelow(1 << 16),
                first_timestamp=secrets.randbelow(1 << 32),
                # like a camera: what a viewer sees depends on when he comes, not on his coming
                start_picture=int(now * fps) % frames,
            )

        try:
            await sender.run(call.remote, make)
        except (OSError, TimeoutError) as error:
            log.info("media_ended", error=type(error).__name__)
            self._report("media_failed", type(error).__name__)
            self._agent.media_failed(call.dialog, now=self._clock())
            self._wake.set()

    async def _stop_media(self, dialog: str) -> None:
        task, sender = self._sending.pop(dialog, None), self._senders.pop(dialog, None)
        if task is not None:
            await _cancelled(task)
        if sender is not None:
            await sender.close()
            self._report("media_sent", f"pictures={sender.sent.pictures} packets={sender.sent.packets}")

    async def _close(self) -> None:
        for dialog in list(self._senders):
            await self._stop_media(dialog)
        for task in list(self._tasks):
            await _cancelled(task)
        if self._datagrams is not None:
            self._datagrams.close()
        if self._writer is not None:
            # what was just written (the last request) must still get out
            writer, self._writer = self._writer, None
            writer.close()


async def _cancelled(task: asyncio.Task[None]) -> None:
    if task is asyncio.current_task():
        return
    task.cancel()
    await asyncio.wait([task])
