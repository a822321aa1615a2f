"""A media plane on ports of its own, a camera that sends real PS over RTP, and the viewers that watch it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import av
from av.video.frame import VideoFrame

from media.session import EventKind, MediaConfig, MediaEvent, MediaPlane, Output, SessionStats, Transport
from ops.sim.barcode import read_frame_number
from ops.sim.footage import AccessUnit, Footage
from ops.sim.ps_mux import PsMuxer
from ops.sim.rtp_sender import RtpPacketizer
from sipserver.protocol.ids import LeaseKey, StreamKey

LOCALHOST = "127.0.0.1"
PATIENCE = 10.0  # seconds until a test gives up waiting for something that should have happened
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestLease:
    """A lease as the media plane wants it."""

    __test__ = False
    key: LeaseKey
    not_after: float
    audio: bool = True


def make_lease(seconds: float = 25.0, *, audio: bool = True) -> TestLease:
    """A fresh lease ending `seconds` from now."""
    return TestLease(key=LeaseKey(f"lea_{next(_numbers):020d}"), not_after=time.time() + seconds, audio=audio)


class Stage:
    """A running media plane and the events it has told."""

    def __init__(self, origins: tuple[str, ...] = ("https://console.example",)) -> None:
        config = MediaConfig(
            udp_port=0, tcp_port=0, http_port=0, bind=LOCALHOST, public_host=LOCALHOST, allowed_origins=origins,
            private_ports=(42000, 42099), source_timeout=20.0,
        )  # fmt: skip
        self.plane = MediaPlane(config, on_event=self._told)
        self._events: list[MediaEvent] = []
        self._news = asyncio.Event()
        self._cameras: list[Camera] = []
        self._writers: list[asyncio.StreamWriter] = []

    def start(self) -> None:
        """Binds ports the system chooses."""
        self.plane.start()
        self.plane.attach(asyncio.get_running_loop())

    def _told(self, event: MediaEvent) -> None:
        self._events.append(event)
        self._news.set()

    async def event(self, kind: EventKind, match: Callable[[MediaEvent], bool] = lambda _: True) -> MediaEvent:
        """The first event of this kind not handed out yet; waits for it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self._events:
                    if event.kind == kind and match(event):
                        self._events.remove(event)
                        return event
                self._news.clear()
                await self._news.wait()

    async def counted(self, session: StreamKey, reached: Callable[[SessionStats], bool]) -> SessionStats:
        """The counters of a session once they say so: packets are received by another thread."""
        async with asyncio.timeout(PATIENCE):
            while True:
                stats = self.plane.session_stats(session)
                assert stats is not None
                if reached(stats):
                    return stats
                # asking without a pause would keep the session's lock from the very thread that is to receive
                await asyncio.to_thread(os.sched_yield)

    async def send(self, camera: Camera, pictures: int) -> list[AccessUnit]:
        """Sends footage, picture by picture: the next when the last has arrived, lest the socket buffer overflow."""
        sent: list[AccessUnit] = []
        for _ in range(pictures):
            sent += camera.send_next()
            await self.counted(camera.session, lambda stats: stats.packets + stats.unleased >= camera.packets)
        return sent

    def told(self, kind: EventKind) -> int:
        """Events of this kind not handed out yet."""
        return sum(event.kind == kind for event in self._events)

    def open(
        self, footage: Footage, *, transport: Transport = "udp", lease: TestLease | None = None, private: bool = False
    ) -> tuple[StreamKey, TestLease, Camera]:
        """A session of its own with a camera that may send to it."""
        number = next(_numbers)
        session, lease = StreamKey(f"str_{number:020d}"), lease or make_lease()
        address = self.plane.open_session(
            session=session, ssrc=number, transport=transport, sources=[LOCALHOST], lease=lease, private_port=private
        )
        camera = Camera(footage, session=session, transport=transport, port=address.port, ssrc=number)
        self._cameras.append(camera)
        return session, lease, camera

    def url(self, lease: TestLease, output: Output, **bound: str) -> str:
        """URL of a fresh ticket."""
        scheme = "ws" if output == "ws-fmp4" else "http"
        path = self.plane.ticket(lease.key, output, client_ip=bound.get("client_ip"))
        return f"{scheme}://{LOCALHOST}:{self.plane.ports[2]}{path}"

    async def watch(self, url: str, headers: str = "", limit: int = 1 << 22) -> HttpViewer:
        """Requests a URL and reads the head of the answer; `limit` bounds what the viewer buffers."""
        host, _, path = url.removeprefix("http://").partition("/")
        name, _, port = host.partition(":")
        reader, writer = await asyncio.open_connection(name, int(port), limit=limit)
        self._writers.append(writer)
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
        return HttpViewer(reader, writer, head.decode())

    async def answer(self, url: str, headers: str = "") -> bytes:
        """The whole answer to a request that is refused."""
        viewer = await self.watch(url, headers)
        return viewer.head.encode() + await viewer.rest()

    async def stop(self) -> None:
        """Closes cameras and viewers, then the plane."""
        for camera in self._cameras:
            camera.close()
        for writer in self._writers:
            writer.close()
            # A viewer that was cut by a reset says so once more.
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self.plane.stop()


class Camera:
    """Sends footage as PS over RTP, unit by unit, when told to."""

    def __init__(self, footage: Footage, *, session: StreamKey, transport: Transport, port: int, ssrc: int) -> None:
        self.session = session
        self._muxer = PsMuxer(video=footage.video, audio=footage.audio)
        self.packets = 0
        self._packets = RtpPacketizer(ssrc=ssrc)
        self._units = iter(footage.units)
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.connect((LOCALHOST, port))
        self._framed = transport != "udp"

    def send(self, unit: AccessUnit) -> None:
        """Sends one unit at once."""
        for packet in self._packets.packets(self._muxer.mux(unit), unit.pts):
            self.packets += 1
            self._socket.sendall(struct.pack(">H", len(packet)) + packet if self._framed else packet)

    def send_next(self) -> list[AccessUnit]:
        """Sends the footage on until one picture more is out; returns what was sent."""
        sent: list[AccessUnit] = []
        while not sent or sent[-1].track != "video":
            sent.append(next(self._units))
            self.send(sent[-1])
        return sent

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


@dataclass(slots=True)
class FlvTag:
    """One FLV tag; `milliseconds` is its time stamp."""

    kind: int
    milliseconds: int
    data: bytes

    @property
    def is_header(self) -> bool:
        """Whether it is a sequence header."""
        if self.kind == 9:
            return self.data[0] & 0x0F == 0 if self.data[0] & 0x80 else self.data[1] == 0
        return self.data[0] >> 4 == 10 and self.data[1] == 0


@dataclass(slots=True)
class HttpViewer:
    """An HTTP connection to an output; `body` collects everything read behind the head."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str
    body: bytearray = field(default_factory=bytearray)

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        async with asyncio.timeout(PATIENCE):
            data = await self.reader.readexactly(count)
        self.body += data
        return data

    async def flv_header(self) -> int:
        """Flags of the file header."""
        header = await self.read(13)
        assert header[:4] == b"FLV\x01"
        return header[4]

    async def tag(self) -> FlvTag:
        """The next FLV tag."""
        head = await self.read(11)
        data = await self.read(int.from_bytes(head[1:4], "big"))
        assert int.from_bytes(await self.read(4), "big") == len(data) + 11
        return FlvTag(head[0], head[7] << 24 | int.from_bytes(head[4:7], "big"), data)

    async def pictures(self, count: int) -> list[FlvTag]:
        """The next tags up to and including `count` pictures; sequence headers are left out."""
        tags: list[FlvTag] = []
        while sum(tag.kind == 9 for tag in tags) < count:
            tag = await self.tag()
            if not tag.is_header:
                tags.append(tag)
        return tags

    async def box(self) -> bytes:
        """The next top-level MP4 box."""
        head = await self.read(8)
        return head + await self.read(int.from_bytes(head[:4], "big") - 8)

    async def rest(self) -> bytes:
        """What still comes until the end; a reset counts as the end."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.reader.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Leaves at once."""
        self.writer.transport.abort()


def decode(data: bytes, form: str) -> Iterator[VideoFrame]:
    """Decodes a whole recording."""
    with av.open(io.BytesIO(data), mode="r", format=form) as container:
        yield from container.decode(video=0)


def frame_numbers(data: bytes, form: str) -> list[tuple[int, float]]:
    """(burnt-in number, seconds) of every picture of a recording."""
    found = []
    for frame in decode(data, form):
        plane = frame.reformat(format="gray").planes[0]
        mark = read_frame_number(bytes(plane), width=frame.width, height=frame.height, stride=plane.line_size)
        assert mark is not None, "the picture is damaged"
        assert frame.time is not None
        found.append((mark.frame, frame.time))
    return found
