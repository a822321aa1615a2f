"""RTP: numbering, stamping and pacing as pure functions of a written clock; the sockets over loopback with it."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import av
import pytest

from ops.sim.footage import Footage
from ops.sim.ps_mux import Deviations
from ops.sim.rtp_sender import MAX_PAYLOAD, MediaSender, PacedStream, Role, RtpPacketizer

START = 1_750_000_000.0


@dataclass(frozen=True)
class Packet:
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        first, second, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", data)
        assert first >> 6 == 2
        start = 12
        if first & 0x10:
            start += 4 + 4 * struct.unpack_from(">HH", data, 12)[1]
        end = len(data) - (data[-1] if first & 0x20 else 0)
        return cls(bool(second & 0x80), second & 0x7F, sequence, timestamp, ssrc, data[start:end])


def stream_of(footage: Footage, deviations: Deviations | None = None, **more: int) -> PacedStream:
    return PacedStream(footage, ssrc=200_003_312, started=START, deviations=deviations or Deviations(), **more)


def pictures_in(packets: list[bytes]) -> list[bytes]:
    stream = b"".join(Packet.parse(packet).payload for packet in packets)
    with av.open(io.BytesIO(stream), "r", format="mpeg") as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_the_first_thing_due_is_a_key_frame_with_parameter_sets(short: Footage) -> None:
    stream = stream_of(short, start_picture=13)
    packets = [Packet.parse(packet) for packet in stream.due(START)]
    payload = b"".join(packet.payload for packet in packets)
    assert payload[:4] == b"\x00\x00\x01\xba"
    assert b"\x00\x00\x01\xbc" in payload
    assert b"\x00\x00\x00\x01\x67" in payload
    assert stream.sent.pictures == 1


def test_nothing_is_due_before_its_time(short: Footage) -> None:
    stream = stream_of(short)
    stream.due(START)
    assert stream.next_due() == pytest.approx(START + 0.01)  # the sound begins 10 ms after the picture
    assert stream.due(START + 0.009) == []
    assert stream.due(START + 0.2 - 1e-6)
    assert stream.sent.pictures == 1
    stream.due(START + 0.2)
    assert stream.sent.pictures == 2


def test_packets_of_a_frame_share_their_timestamp_and_the_last_has_the_marker(short: Footage) -> None:
    stream = stream_of(short, first_sequence=65_530, first_timestamp=(1 << 32) - 3)
    packets = [Packet.parse(packet) for packet in stream.due(START + 8)]
    frames: list[list[Packet]] = [[]]
    for packet in packets:
        frames[-1].append(packet)
        if packet.marker:
            frames.append([])
    assert frames.pop() == []
    assert all(len({packet.timestamp for packet in frame}) == 1 for frame in frames)
    stamps = [frame[0].timestamp for frame in frames]
    assert len(set(stamps)) == len(stamps)
    assert stamps[0] == (1 << 32) - 3
    assert stamps[1] == 897  # 900 ticks later, over the wrap
    assert [packet.sequence for packet in packets] == [(65_530 + place) & 0xFFFF for place in range(len(packets))]
    assert all(len(packet.payload) <= MAX_PAYLOAD for packet in packets)
    assert {packet.payload_type for packet in packets} == {96}
    assert {packet.ssrc for packet in packets} == {200_003_312}


def test_the_received_stream_is_the_footage_over_the_loops_end(short: Footage) -> None:
    expected = [unit.data for unit in short.units if unit.track == "video"] * 2
    assert pictures_in(stream_of(short).due(START + 8 - 0.001)) == expected


@pytest.mark.parametrize("deviations", [Deviations(header_extension=True), Deviations(padding=True)])
def test_header_extension_and_padding_can_be_taken_off_again(short: Footage, deviations: Deviations) -> None:
    assert pictures_in(stream_of(short, deviations).due(START + 1)) == pictures_in(stream_of(short).due(START + 1))


def test_deviations_of_rtp(short: Footage) -> None:
    wrong = Deviations(wrong_ssrc=0, no_marker=True, frozen_timestamp=True)
    packets = [Packet.parse(packet) for packet in stream_of(short, wrong).due(START + 1)]
    assert {(packet.ssrc, packet.marker, packet.timestamp) for packet in packets} == {(0, False, 0)}


def test_loss_and_disorder_touch_each_nth_packet(short: Footage) -> None:
    usual = [Packet.parse(packet).sequence for packet in stream_of(short).due(START + 1)]
    lost = [Packet.parse(packet).sequence for packet in stream_of(short, Deviations(drop_every=5)).due(START + 1)]
    assert lost == [number for place, number in enumerate(usual, 1) if place % 5]
    mixed = [Packet.parse(packet).sequence for packet in stream_of(short, Deviations(swap_every=4)).due(START + 1)]
    assert mixed[:6] == [0, 1, 2, 4, 3, 5]
    assert set(usual) - set(mixed) <= {usual[-1]}


def test_a_payload_that_just_fits_is_one_packet() -> None:
    packetizer = RtpPacketizer(ssrc=1)
    assert [len(packet) for packet in packetizer.packets(b"x" * 1400, 0)] == [1412]
    assert [len(packet) for packet in packetizer.packets(b"x" * 1401, 0)] == [1412, 13]


class WrittenClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Collector(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.packets: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.packets.put_nowait(data)


@asynccontextmanager
async def sending(sender: MediaSender, footage: Footage, remote: tuple[str, int]) -> AsyncIterator[asyncio.Task[None]]:
    def make(now: float) -> PacedStream:
        return PacedStream(footage, ssrc=7, started=now)

    task = asyncio.create_task(sender.run(remote, make))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await sender.close()


async def test_udp_sends_to_the_place_of_the_offer(short: Footage) -> None:
    clock = WrittenClock()
    loop = asyncio.get_running_loop()
    transport, collector = await loop.create_datagram_endpoint(Collector, local_addr=("127.0.0.1", 0))
    sender = MediaSender("udp", clock=clock, sleep=clock.sleep)
    port = await sender.prepare("127.0.0.1")
    assert port > 0
    async with sending(sender, short, transport.get_extra_info("sockname")[:2]):
        packets = [await collector.packets.get() for _ in range(100)]
    transport.close()
    assert pictures_in(packets)[0] == short.units[0].data


async def read_framed(reader: asyncio.StreamReader, *, dollar: bool = False) -> bytes:
    if dollar:
        assert await reader.readexactly(2) == b"$\x00"
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


@pytest.mark.parametrize("dollar", [False, True])
async def test_tcp_active_dials_and_frames(short: Footage, dollar: bool) -> None:
    clock = WrittenClock()
    arrived: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    arrived = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *pair: arrived.set_result(pair), "127.0.0.1", 0)
    sender = MediaSender("tcp-active", clock=clock, sleep=clock.sleep, dollar_framing=dollar)
    assert await sender.prepare("127.0.0.1") == 9
    async with sending(sender, short, server.sockets[0].getsockname()[:2]) as task:
        reader, writer = await arrived
        packets = [await read_framed(reader, dollar=dollar) for _ in range(100)]
        writer.transport.abort()
        await asyncio.wait([task])
        assert isinstance(task.exception(), OSError)
    server.close()
    assert pictures_in(packets)[0] == short.units[0].data


async def test_tcp_passive_waits_for_the_platform(short: Footage) -> None:
    clock = WrittenClock()
    sender = MediaSender("tcp-passive", clock=clock, sleep=clock.sleep)
    port = await sender.prepare("127.0.0.1")
    async with sending(sender, short, ("127.0.0.1", 9)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        packets = [await read_framed(reader) for _ in range(100)]
        writer.transport.abort()
    assert pictures_in(packets)[0] == short.units[0].data


async def test_a_refused_connection_is_tried_three_times_a_second_apart(short: Footage) -> None:
    clock = WrittenClock()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    remote = server.sockets[0].getsockname()[:2]
    server.close()
    await server.wait_closed()
    role: Role = "tcp-active"
    sender = MediaSender(role, clock=clock, sleep=clock.sleep)
    await sender.prepare("127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        await sender.run(remote, lambda now: stream_of(short))
    assert clock.now == START + 2
