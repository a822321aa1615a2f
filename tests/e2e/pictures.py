"""Viewers that pull a stream as any player does, and read what is burnt into its pictures."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import av
from av.video.frame import VideoFrame

from ops.sim.barcode import CELLS_PER_WIDTH, STRIP_CELLS, FrameMark, encode_cells, read_frame_number
from tests.e2e.rig import PATIENCE, need

# A player that takes its time at the beginning keeps what comes meanwhile; `nobuffer` would throw it away.
_OPTIONS = {"probesize": "65536", "analyzeduration": "0"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture: burnt-in number (None: not readable), time in ms, digest of its pixels."""

    number: int | None
    milliseconds: int
    digest: bytes
    size: tuple[int, int]


def read(frame: VideoFrame) -> Picture:
    """What a decoded picture says."""
    grey = frame.reformat(format="gray").planes[0]
    mark = read_frame_number(bytes(grey), width=frame.width, height=frame.height, stride=grey.line_size)
    digest = hashlib.sha256()
    for plane in frame.planes:
        rows = bytes(plane)
        for row in range(plane.height):
            digest.update(rows[row * plane.line_size : row * plane.line_size + plane.width])
    time = frame.time
    return Picture(
        mark.frame if mark else None,
        -1 if time is None else round(time * 1000),
        digest.digest(),
        (frame.width, frame.height),
    )


def pull(url: str, *, pictures: int | None = None, timeout: float = 15.0) -> list[Picture]:
    """Decode `url` (or a file) until `pictures` came or it ends. Blocks; raises av.FFmpegError when nothing comes."""
    return list(_pull(url, pictures, timeout))


def _pull(url: str, pictures: int | None, timeout: float) -> Iterator[Picture]:
    with av.open(url, options=_OPTIONS if "://" in url else {}, timeout=(timeout, timeout)) as container:
        container.streams.video[0].thread_type = "SLICE"  # frame threads hold pictures back
        for count, frame in enumerate(container.decode(video=0), 1):
            yield read(frame)
            if count == pictures:
                return


def numbered_stream(path: Path, *, pictures: int, width: int = 640, height: int = 360, fps: int = 25) -> None:
    """An H.264 elementary stream as cameras send it (delimiters, closed GOPs of 2 s, no B pictures), each picture
    numbered in its strip; the picture is ffmpeg's moving test card."""
    ffmpeg = need("ffmpeg")
    card = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={fps}"]
    card += ["-frames:v", str(pictures), "-pix_fmt", "yuv420p", "-f", "rawvideo", "pipe:1"]
    coder = [ffmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}"]
    coder += ["-r", str(fps), "-i", "pipe:0", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "1500k"]
    coder += ["-x264-params", f"aud=1:keyint={2 * fps}:min-keyint={2 * fps}:scenecut=0:bframes=0:repeat-headers=1"]
    coder += ["-f", "h264", "-y", str(path)]
    raw = subprocess.run(card, check=True, capture_output=True).stdout
    size = width * height * 3 // 2
    frames = (raw[at : at + size] for at in range(0, len(raw), size))
    subprocess.run(coder, check=True, input=b"".join(_numbered(frames, width)))


def _numbered(frames: Iterable[bytes], width: int) -> Iterator[bytes]:
    cell = width // CELLS_PER_WIDTH
    for number, frame in enumerate(frames):
        strip = b"".join(
            (b"\xeb" if bit else b"\x10") * cell for bit in encode_cells(FrameMark(camera=7, frame=number))
        )
        assert len(strip) == STRIP_CELLS * cell
        picture = bytearray(frame)
        for row in range(cell):
            picture[row * width : row * width + len(strip)] = strip
        yield bytes(picture)


@dataclass(frozen=True, slots=True)
class Tag:
    """One FLV tag: 8 audio, 9 video, 18 script; `header` when it carries codec parameters instead of a picture."""

    kind: int
    milliseconds: int
    data: bytes

    @property
    def header(self) -> bool:
        if self.kind == 9:
            return self.data[0] & 0x0F == 0 if self.data[0] & 0x80 else self.data[1] == 0
        return self.kind != 8 or (self.data[0] >> 4 == 10 and self.data[1] == 0)


class FlvViewer:
    """A raw viewer of one FLV address: head of the answer, then tag after tag."""

    def __init__(self, reader: asyncio.StreamReader, status: int) -> None:
        self._reader = reader
        self.status = status

    async def header(self) -> None:
        """Read the file header."""
        async with asyncio.timeout(PATIENCE):
            assert (await self._reader.readexactly(13))[:4] == b"FLV\x01"

    async def tag(self) -> Tag:
        """The next tag; asyncio.IncompleteReadError at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readexactly(11)
            data = await self._reader.readexactly(int.from_bytes(head[1:4], "big"))
            await self._reader.readexactly(4)
        return Tag(head[0], head[7] << 24 | int.from_bytes(head[4:7], "big"), data)

    async def picture(self) -> Tag:
        """The next video tag that carries a picture."""
        while True:
            tag = await self.tag()
            if tag.kind == 9 and not tag.header:
                return tag

    async def rest(self) -> bytes:
        """Everything until the end; a reset counts as one."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[FlvViewer]:
    """Connect and read the head of the answer; leave at once at the end."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
    try:
        writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
        yield FlvViewer(reader, int(head.split(b" ")[1]))
    finally:
        writer.transport.abort()
