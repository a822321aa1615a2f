"""MPEG program stream as GB/T 28181 devices send it (annex C.1, ISO/IEC 13818-1): one PS pack per access unit.

Key frames carry pack header, system header and program stream map; other units a pack header only. Pictures longer than
a PES packet are split, the first part carrying the PTS. Deviations reproduce what devices in the field do wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ops.sim.footage import AccessUnit, AudioCodec, Codec, VideoCodec

STREAM_TYPE: Final[dict[Codec, int]] = {"h264": 0x1B, "h265": 0x24, "g711a": 0x90, "aac": 0x0F}
VIDEO_STREAM, AUDIO_STREAM, PRIVATE_STREAM = 0xE0, 0xC0, 0xBD
_TIME_MASK = (1 << 33) - 1
_MAX_PES_LENGTH = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviations:
    """What a device does wrong or differently (as reported from the field); all off = conforming.

    Program stream: ``no_psm`` never sends a map; ``no_system_header``; ``zero_pes_length`` writes 0 as the length of
    video PES packets and does not split; ``bad_psm_length`` lies about elementary_stream_info_length (Tiandy);
    ``private_units`` puts a 0xBD unit before each picture (Hikvision); ``pts_on_every_pes`` repeats the PTS on later
    parts; ``audio_without_pack`` sends audio PES packets without a pack header; ``pts_32_bits`` wraps times at 2**32.

    RTP: ``wrong_ssrc`` replaces the agreed one; ``no_marker`` never sets the bit; ``frozen_timestamp`` sends 0 always;
    ``header_extension`` and ``padding`` use the X and P bits; ``dollar_framing`` puts the 4-byte ``$`` header of RTSP
    in front over TCP instead of RFC 4571; ``swap_every`` exchanges each n-th packet with its follower; ``drop_every``
    loses each n-th.
    """

    no_psm: bool = False
    no_system_header: bool = False
    zero_pes_length: bool = False
    bad_psm_length: bool = False
    private_units: bool = False
    pts_on_every_pes: bool = False
    audio_without_pack: bool = False
    pts_32_bits: bool = False
    wrong_ssrc: int | None = None
    no_marker: bool = False
    frozen_timestamp: bool = False
    header_extension: bool = False
    padding: bool = False
    dollar_framing: bool = False
    swap_every: int = 0
    drop_every: int = 0


CONFORMING: Final = Deviations()


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32_mpeg(data: bytes) -> int:
    """CRC-32 of ISO/IEC 13818-1 annex A: polynomial 0x04C11DB7, start all ones, not reflected, no final XOR."""
    value = 0xFFFFFFFF
    for byte in data:
        value = ((value << 8) & 0xFFFFFFFF) ^ _CRC_TABLE[(value >> 24) ^ byte]
    return value


def pack_header(scr: int, *, mux_rate: int) -> bytes:
    """Pack header (§2.5.3.3), 14 bytes. ``scr`` in 90 kHz ticks (extension 0), ``mux_rate`` in units of 50 byte/s."""
    base = scr & _TIME_MASK
    bits = 0b01
    bits = bits << 3 | base >> 30
    bits = bits << 1 | 1
    bits = bits << 15 | (base >> 15 & 0x7FFF)
    bits = bits << 1 | 1
    bits = bits << 15 | (base & 0x7FFF)
    bits = bits << 1 | 1
    bits = bits << 10 | 1  # extension 0 and its marker
    bits = bits << 22 | mux_rate & 0x3FFFFF
    bits = bits << 2 | 0b11
    bits = bits << 8 | 0xF8  # reserved ones, no stuffing
    return b"\x00\x00\x01\xba" + bits.to_bytes(10, "big")


def timestamp(prefix: int, value: int) -> bytes:
    """A PTS or DTS field (§2.4.3.6), 5 bytes; ``prefix`` 2 = PTS alone, 3 = PTS before DTS, 1 = DTS."""
    value &= _TIME_MASK
    return struct.pack(
        ">BHH", prefix << 4 | value >> 29 & 0x0E | 1, value >> 14 & 0xFFFE | 1, value << 1 & 0xFFFE | 1
    )  # fmt: skip


class PsMuxer:
    """Turns access units into PS packs. ``audio`` None = a stream without sound."""

    def __init__(
        self,
        *,
        video: VideoCodec,
        audio: AudioCodec | None,
        deviations: Deviations = CONFORMING,
        bitrate: int = 2_500_000,
    ) -> None:
        self._deviations = deviations
        self._mux_rate = max(bitrate // 8 // 50, 1)
        streams: list[tuple[int, int]] = [(STREAM_TYPE[video], VIDEO_STREAM)]
        if audio is not None:
            streams.append((STREAM_TYPE[audio], AUDIO_STREAM))
        self._system_header = self._make_system_header(streams)
        self._map = self._make_map(streams)

    def mux(self, unit: AccessUnit) -> bytes:
        """The PS bytes of one unit. Times are taken modulo 2**33."""
        wrong = self._deviations
        video = unit.track == "video"
        parts: list[bytes] = []
        if video or not wrong.audio_without_pack:
            parts.append(pack_header(unit.dts, mux_rate=self._mux_rate))
        if video and unit.key:
            if not wrong.no_system_header:
                parts.append(self._system_header)
            if not wrong.no_psm:
                parts.append(self._map)
        if video and wrong.private_units:
            parts.append(struct.pack(">IH", 0x00000100 | PRIVATE_STREAM, 12) + b"\x80\x00\x00HIKV-sim!"[:12])
        parts += self._pes_packets(unit, VIDEO_STREAM if video else AUDIO_STREAM)
        return b"".join(parts)

    def _pes_packets(self, unit: AccessUnit, stream: int) -> list[bytes]:
        wrong = self._deviations
        pts, dts = unit.pts, unit.dts
        if wrong.pts_32_bits:
            pts, dts = pts & 0xFFFFFFFF, dts & 0xFFFFFFFF
        times = timestamp(3, pts) + timestamp(1, dts) if pts != dts else timestamp(2, pts)
        packets = []
        place = 0
        while place < len(unit.data):
            first = place == 0
            stamps = times if first or wrong.pts_on_every_pes else b""
            flags = (0xC0 if pts != dts else 0x80) if stamps else 0
            # marker bits 10; data alignment on the packet that begins the access unit
            head = bytes([0x84 if first else 0x80, flags, len(stamps)]) + stamps
            if wrong.zero_pes_length and unit.track == "video":
                packets.append(struct.pack(">IH", 0x00000100 | stream, 0) + head + unit.data)
                break
            chunk = unit.data[place : place + _MAX_PES_LENGTH - len(head)]
            packets.append(struct.pack(">IH", 0x00000100 | stream, len(head) + len(chunk)) + head + chunk)
            place += len(chunk)
        return packets

    def _make_system_header(self, streams: list[tuple[int, int]]) -> bytes:
        audio = len(streams) - 1
        body = (0x800001 | self._mux_rate << 1).to_bytes(3, "big")
        body += bytes([audio << 2, 0xE0 | 1, 0x7F])  # bounds; locked audio and video; no packet rate restriction
        for _, stream in streams:
            # buffer bound: video 400 x 1024 bytes, audio 32 x 128 bytes
            body += bytes([stream]) + (0xE000 | 400 if stream == VIDEO_STREAM else 0xC000 | 32).to_bytes(2, "big")
        return struct.pack(">IH", 0x000001BB, len(body)) + body

    def _make_map(self, streams: list[tuple[int, int]]) -> bytes:
        lie = 0x1F00 if self._deviations.bad_psm_length else 0
        entries = b"".join(struct.pack(">BBH", kind, stream, lie) for kind, stream in streams)
        body = bytes([0xE0, 0xFF]) + struct.pack(">H", 0) + struct.pack(">H", len(entries)) + entries
        text = struct.pack(">IH", 0x000001BC, len(body) + 4) + body
        return text + struct.pack(">I", crc32_mpeg(text))
