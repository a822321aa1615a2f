"""The media side of a scripted device: reads the platform's offer by hand, answers it, sends footage at once."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path

import av

from ops.sim.footage import (
    AccessUnit,
    AudioCodec,
    Footage,
    FootageSpec,
    LoopedFootage,
    VideoCodec,
    load_footage,
    make_footage,
)
from ops.sim.ps_mux import CONFORMING, Deviations, PsMuxer
from ops.sim.rtp_sender import RtpPacketizer
from tests.e2e.double import Double, Text


@dataclass(frozen=True, slots=True)
class Offer:
    """An SDP body as its lines."""

    lines: tuple[str, ...]

    @classmethod
    def of(cls, invite: Text) -> Offer:
        text = invite.body.decode("ascii")
        assert text.endswith("\r\n")
        return cls(tuple(text[:-2].split("\r\n")))

    def line(self, kind: str) -> str:
        """The value of the only line of that kind."""
        (found,) = (line[2:] for line in self.lines if line.startswith(f"{kind}="))
        return found

    def attributes(self) -> list[str]:
        return [line[2:] for line in self.lines if line.startswith("a=")]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.line("c").split(" ")[-1], self.line("m").split(" ")[1]
        return host, int(port)

    @property
    def tcp(self) -> bool:
        return self.line("m").split(" ")[2] == "TCP/RTP/AVP"

    @property
    def ssrc(self) -> str:
        return self.line("y")


def answer(device: Double, offer: Offer, *, y: str | None = "same", f: bool = True, session: str = "Play") -> bytes:
    """The SDP of a 200: PS, sendonly, the offered `y=` unless told otherwise (None leaves the line out)."""
    lines = ["v=0", f"o={device.code} 0 0 IN IP4 127.0.0.1", f"s={session}", "c=IN IP4 127.0.0.1", "t=0 0"]
    lines.append(f"m=video 15060 {'TCP/RTP/AVP' if offer.tcp else 'RTP/AVP'} 96")
    lines += ["a=sendonly", "a=rtpmap:96 PS/90000"]
    if offer.tcp:
        lines += ["a=setup:active", "a=connection:new"]
    if y is not None:
        lines.append(f"y={offer.ssrc if y == 'same' else y}")
    if f:
        lines.append("f=v/2/4/25/2/1024a/1/8/1")
    return ("\r\n".join(lines) + "\r\n").encode()


def accept(device: Double, invite: Text, **how: object) -> Offer:
    """Answer an INVITE with 200; the ACK is still to come."""
    offer = Offer.of(invite)
    body = answer(device, offer, **how)  # type: ignore[arg-type]
    contact = ("Contact", f"<sip:{device.code}@{device.local[0]}:{device.local[1]}>")
    device.reply(invite, 200, headers=[contact, ("Content-Type", "application/sdp")], body=body)
    return offer


class Sender:
    """Footage as PS over RTP to the offered address, as fast as it goes; over TCP framed as in RFC 4571."""

    def __init__(
        self,
        offer: Offer,
        footage: Footage,
        *,
        ssrc: int | None = None,
        deviations: Deviations = CONFORMING,
        segment: int | None = None,
    ) -> None:
        """`segment`: octets a TCP segment, None for whole packets."""
        self._muxer = PsMuxer(video=footage.video, audio=footage.audio, deviations=deviations)
        self._packets = RtpPacketizer(ssrc=int(offer.ssrc) if ssrc is None else ssrc, deviations=deviations)
        self._framed, self._segment = offer.tcp, segment
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if offer.tcp else socket.SOCK_DGRAM)
        self._socket.connect(offer.address)
        if offer.tcp:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pictures = 0

    def send(self, units: Iterable[AccessUnit], *, stream_type: int | None = None) -> None:
        """Send units; `stream_type` replaces the video's type in the stream map."""
        for unit in units:
            data = self._muxer.mux(unit)
            if stream_type is not None:
                data = relabel(data, stream_type)
            for packet in self._packets.packets(data, unit.pts):
                self._out(struct.pack(">H", len(packet)) + packet if self._framed else packet)
            self.pictures += unit.track == "video"

    def _out(self, data: bytes) -> None:
        step = self._segment or len(data)
        for at in range(0, len(data), step):
            self._socket.sendall(data[at : at + step])

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


_MAP = re.compile(rb"\x00\x00\x01\xbc(..)(.*)", re.DOTALL)


def relabel(data: bytes, stream_type: int) -> bytes:
    """The same PS with another type for stream 0xE0 in its map (ISO/IEC 13818-1 2.5.4); the check sum is not renewed,
    as with many cameras, and the platform does not ask for it."""
    found = _MAP.search(data)
    if found is None:
        return data
    entry = found.start() + 12
    assert data[entry + 1] == 0xE0
    return data[:entry] + bytes([stream_type]) + data[entry + 1 :]


@cache
def footage(folder: Path, video: VideoCodec, audio: AudioCodec | None = None) -> Footage:
    """Two seconds of a small picture, two groups of pictures."""
    spec = FootageSpec(
        name=f"small-{video}-{audio}", scene="crossing", label="e2e", camera=9, video=video, audio=audio,
        seconds=2, gop=25, width=320, height=180, bitrate=300_000,
    )  # fmt: skip
    path = folder / spec.file_name()
    make_footage(spec, path)
    return load_footage(path)


def pictures(source: Footage, count: int) -> list[AccessUnit]:
    """The first units of endless footage."""
    return list(islice(LoopedFootage(source), count))


def mpeg4_units(count: int) -> list[AccessUnit]:
    """An MPEG-4 Visual stream (ISO/IEC 14496-2), headers on its key pictures."""
    coder = av.VideoCodecContext.create("mpeg4", "w")
    coder.width, coder.height, coder.pix_fmt, coder.time_base = 320, 180, "yuv420p", Fraction(1, 25)
    units: list[AccessUnit] = []
    for number in range(count):
        frame = av.VideoFrame(320, 180, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([(number * 8) % 256]) * plane.buffer_size)
        frame.pts = number
        for packet in coder.encode(frame):
            time = len(units) * 3600
            # the codec's name is the muxer's business: `relabel` writes the type that counts
            units.append(
                AccessUnit(track="video", codec="h264", pts=time, dts=time, key=packet.is_keyframe, data=bytes(packet))
            )
    return units
