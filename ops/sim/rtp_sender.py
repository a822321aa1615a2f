"""Sends footage as RTP: PS packs cut into packets (RFC 2250 use in GB/T 28181 annex C), paced in real time, UDP or TCP.

The timing is pure (PacedStream: what is due at ``now``); the shells open the socket and wait. Over TCP every packet has
its 16-bit length in front (RFC 4571, annex D) and we dial out, or listen when the offer says so.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from ops.sim.footage import CLOCK_RATE, Footage, LoopedFootage
from ops.sim.ps_mux import CONFORMING, Deviations, PsMuxer

MAX_PAYLOAD: Final = 1400
PAYLOAD_TYPE_PS: Final = 96
_BURST = 24  # packets sent in one go; a key frame is spread over several bursts
_BURST_GAP = 0.002
_CONNECT_ATTEMPTS = 3  # annex D: at least 3, at least 1 s apart
_CONNECT_GAP = 1.0
_ACCEPT_WAIT = 10.0
_MAX_BACKLOG = 4 * 1024 * 1024

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]
log = structlog.get_logger("mingjian.sim.rtp")


class RtpPacketizer:
    """Numbers and stamps RTP packets of one source (RFC 3550 §5.1)."""

    def __init__(
        self,
        *,
        ssrc: int,
        payload_type: int = PAYLOAD_TYPE_PS,
        deviations: Deviations = CONFORMING,
        first_sequence: int = 0,
        max_payload: int = MAX_PAYLOAD,
    ) -> None:
        self._ssrc = ssrc if deviations.wrong_ssrc is None else deviations.wrong_ssrc
        self._payload_type = payload_type
        self._deviations = deviations
        self._sequence = first_sequence & 0xFFFF
        self._max_payload = max_payload

    def packets(self, payload: bytes, ticks: int) -> list[bytes]:
        """Packets for one frame: all with timestamp ``ticks`` (90 kHz, modulo 2**32), the marker on the last."""
        wrong = self._deviations
        stamp = 0 if wrong.frozen_timestamp else ticks & 0xFFFFFFFF
        result = []
        for start in range(0, len(payload), self._max_payload):
            chunk = payload[start : start + self._max_payload]
            last = start + self._max_payload >= len(payload)
            first_byte = 0x80 | 0x10 * wrong.header_extension | 0x20 * wrong.padding
            second = self._payload_type | (0x80 if last and not wrong.no_marker else 0)
            head = struct.pack(">BBHII", first_byte, second, self._sequence, stamp, self._ssrc)
            if wrong.header_extension:
                head += b"\xbe\xde\x00\x01\x10\x2a\x00\x00"
            result.append(head + chunk + (b"\x00\x00\x00\x04" if wrong.padding else b""))
            self._sequence = (self._sequence + 1) & 0xFFFF
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a sender has sent so far."""

    packets: int = 0
    octets: int = 0
    pictures: int = 0


class PacedStream:
    """Footage as RTP packets in time: the first picture, a key frame, is due at ``started``. Pure; takes ``now``."""

    def __init__(
        self,
        footage: Footage,
        *,
        ssrc: int,
        started: float,
        deviations: Deviations = CONFORMING,
        first_sequence: int = 0,
        first_timestamp: int = 0,
        start_picture: int = 0,
    ) -> None:
        self._units = LoopedFootage(footage, start=start_picture)
        self._muxer = PsMuxer(video=footage.video, audio=footage.audio, deviations=deviations)
        self._packetizer = RtpPacketizer(ssrc=ssrc, deviations=deviations, first_sequence=first_sequence)
        self._deviations = deviations
        self._offset = first_timestamp
        self._started = started
        self._next = next(self._units)
        self._count = 0
        self._held: bytes | None = None
        self.sent = Sent()

    def next_due(self) -> float:
        """When the next frame must go out, unix seconds."""
        return self._started + self._next.dts / CLOCK_RATE

    def due(self, now: float) -> list[bytes]:
        """RTP packets of every frame that is due at ``now``."""
        result: list[bytes] = []
        pictures = 0
        while self.next_due() <= now:
            unit = self._next
            self._next = next(self._units)
            pictures += unit.track == "video"
            result += self._disturb(self._packetizer.packets(self._muxer.mux(unit), unit.pts + self._offset))
        self.sent = Sent(
            packets=self.sent.packets + len(result),
            octets=self.sent.octets + sum(map(len, result)),
            pictures=self.sent.pictures + pictures,
        )
        return result

    def _disturb(self, packets: list[bytes]) -> list[bytes]:
        wrong = self._deviations
        if not wrong.drop_every and not wrong.swap_every:
            return packets
        result = []
        for packet in packets:
            self._count += 1
            if wrong.drop_every and self._count % wrong.drop_every == 0:
                continue
            if wrong.swap_every and self._count % wrong.swap_every == 0 and self._held is None:
                self._held = packet
                continue
            result.append(packet)
            if self._held is not None:
                result.append(self._held)
                self._held = None
        return result


Role = Literal["udp", "tcp-active", "tcp-passive"]


class MediaSender:
    """One outgoing stream: prepares the socket first (the SDP answer must name the port), then sends until closed.

    Errors of the network end ``run()`` with OSError; the caller decides what the session does then.
    """

    def __init__(self, role: Role, *, clock: Clock, sleep: Sleep = asyncio.sleep, dollar_framing: bool = False) -> None:
        self._role = role
        self._clock = clock
        self._sleep = sleep
        self._dollar = dollar_framing
        self._datagrams: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._accepted: asyncio.Future[asyncio.StreamWriter] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.sent = Sent()

    async def prepare(self, host: str) -> int:
        """Open what the SDP answer must name; returns our port (9, the discard port, when we dial out)."""
        loop = asyncio.get_running_loop()
        if self._role == "udp":
            self._datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(host, 0))
            return int(self._datagrams.get_extra_info("sockname")[1])
        if self._role == "tcp-passive":
            self._accepted = loop.create_future()
            self._server = await asyncio.start_server(self._accept, host, 0)
            return int(self._server.sockets[0].getsockname()[1])
        return 9

    async def run(self, remote: tuple[str, int], make: Callable[[float], PacedStream]) -> None:
        """Send to ``remote`` until cancelled. ``make(now)`` creates the stream at the moment it may start."""
        send = await self._open(remote)
        stream = make(self._clock())
        while True:
            packets = stream.due(self._clock())
            for start in range(0, len(packets), _BURST):
                if start:
                    await self._sleep(_BURST_GAP)
                for packet in packets[start : start + _BURST]:
                    send(packet)
                if self._writer is not None:
                    await self._writer.drain()
            self.sent = stream.sent
            await self._sleep(max(stream.next_due() - self._clock(), 0.0))

    async def close(self) -> None:
        """Release the socket at once; idempotent."""
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _open(self, remote: tuple[str, int]) -> Callable[[bytes], object]:
        if self._datagrams is not None:
            transport = self._datagrams
            return lambda packet: transport.sendto(packet, remote)
        if self._accepted is not None:
            self._writer = await asyncio.wait_for(self._accepted, _ACCEPT_WAIT)
        else:
            self._writer = await self._dial(remote)
        self._writer.transport.set_write_buffer_limits(high=_MAX_BACKLOG)
        return self._send_framed

    async def _dial(self, remote: tuple[str, int]) -> asyncio.StreamWriter:
        for attempt in range(1, _CONNECT_ATTEMPTS + 1):
            try:
                _, writer = await asyncio.open_connection(*remote)
            except OSError as error:
                log.warning("media_connect_failed", attempt=attempt, error=type(error).__name__)
                if attempt == _CONNECT_ATTEMPTS:
                    raise
                await self._sleep(_CONNECT_GAP)
            else:
                return writer
        raise AssertionError("unreachable")

    async def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(writer)
        else:
            writer.transport.abort()

    def _send_framed(self, packet: bytes) -> None:
        if self._writer is None or self._writer.transport.is_closing():
            raise ConnectionResetError("the receiver closed the media connection")
        head = struct.pack(">BBH", 0x24, 0, len(packet)) if self._dollar else struct.pack(">H", len(packet))
        self._writer.write(head + packet)
