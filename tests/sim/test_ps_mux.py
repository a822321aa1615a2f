"""The PS muxer against a foreign demultiplexer (FFmpeg, by PyAV) and against hand-made bytes."""

from __future__ import annotations

import io

import av
import pytest

from ops.sim.footage import AccessUnit, Footage
from ops.sim.ps_mux import Deviations, PsMuxer, crc32_mpeg, pack_header, timestamp


def mux(footage: Footage, deviations: Deviations | None = None) -> bytes:
    muxer = PsMuxer(video=footage.video, audio=footage.audio, deviations=deviations or Deviations())
    return b"".join(muxer.mux(unit) for unit in footage.units)


def demux(stream: bytes) -> dict[str, list[tuple[int | None, bytes]]]:
    """Codec name → (pts, data) as FFmpeg's demultiplexer and parsers give them."""
    result: dict[str, list[tuple[int | None, bytes]]] = {}
    with av.open(io.BytesIO(stream), "r", format="mpeg") as container:
        for packet in container.demux():
            if packet.size:
                name = packet.stream.codec_context.name
                result.setdefault(name, []).append((packet.pts, bytes(packet)))
    return result


def track(footage: Footage, name: str) -> list[AccessUnit]:
    return [unit for unit in footage.units if unit.track == name]


@pytest.mark.parametrize(
    "deviations",
    [
        Deviations(),
        Deviations(private_units=True),
        Deviations(pts_on_every_pes=True),
        Deviations(audio_without_pack=True),
        Deviations(no_system_header=True),
    ],
)
def test_ffmpeg_finds_the_same_pictures_and_sound(short: Footage, deviations: Deviations) -> None:
    found = demux(mux(short, deviations))
    assert set(found) == {"h264", "pcm_alaw"}
    pictures = track(short, "video")
    assert [data for _, data in found["h264"]] == [unit.data for unit in pictures]
    assert [pts for pts, _ in found["h264"]] == [unit.pts for unit in pictures]
    assert b"".join(data for _, data in found["pcm_alaw"]) == b"".join(unit.data for unit in track(short, "audio"))


def test_ffmpeg_finds_h265_and_aac(short_h265: Footage) -> None:
    found = demux(mux(short_h265))
    assert set(found) == {"hevc", "aac"}
    assert [data for _, data in found["hevc"]] == [unit.data for unit in track(short_h265, "video")]
    assert [data for _, data in found["aac"]] == [unit.data for unit in track(short_h265, "audio")]


def test_a_picture_above_64_kib_is_split_and_comes_back_whole() -> None:
    picture = b"\x00\x00\x00\x01\x65" + bytes((value * 7 + 1) % 250 + 2 for value in range(200_000))
    unit = AccessUnit(track="video", codec="h264", pts=90_000, dts=90_000, key=True, data=picture)
    pack = PsMuxer(video="h264", audio=None).mux(unit)
    place, parts, lengths = pack.index(b"\x00\x00\x01\xe0"), b"", []
    while place < len(pack):
        assert pack[place : place + 4] == b"\x00\x00\x01\xe0"
        length = int.from_bytes(pack[place + 4 : place + 6], "big")
        parts += pack[place + 9 + pack[place + 8] : place + 6 + length]
        lengths.append((length, pack[place + 7]))
        place += 6 + length
    assert parts == picture
    assert [length for length, _ in lengths[:3]] == [0xFFFF] * 3
    assert [flags for _, flags in lengths] == [0x80, 0, 0, 0]


def test_key_frames_carry_system_header_and_map_and_others_do_not(short: Footage) -> None:
    muxer = PsMuxer(video="h264", audio="g711a")
    for unit in track(short, "video"):
        pack = muxer.mux(unit)
        head = pack[: pack.index(b"\x00\x00\x01\xe0")]
        assert head[:4] == b"\x00\x00\x01\xba"
        assert (b"\x00\x00\x01\xbb" in head, b"\x00\x00\x01\xbc" in head) == (unit.key, unit.key)


def test_the_map_lists_both_streams_and_its_crc_checks(short: Footage) -> None:
    pack = PsMuxer(video="h264", audio="g711a").mux(short.units[0])
    start = pack.index(b"\x00\x00\x01\xbc")
    table = pack[start : start + 6 + int.from_bytes(pack[start + 4 : start + 6], "big")]
    assert table[12:20] == bytes([0x1B, 0xE0, 0, 0, 0x90, 0xC0, 0, 0])
    assert crc32_mpeg(table) == 0  # the remainder over text and CRC together


def test_crc_matches_the_published_check_value() -> None:
    assert crc32_mpeg(b"123456789") == 0x0376E6E7  # CRC-32/MPEG-2 in the CRC catalogue


def test_times_are_written_as_the_standard_lays_them_out() -> None:
    # all 33 bits set: every marker bit must be set between them
    assert timestamp(2, (1 << 33) - 1) == bytes([0x2F, 0xFF, 0xFF, 0xFF, 0xFF])
    assert timestamp(2, 1 << 33) == bytes([0x21, 0x00, 0x01, 0x00, 0x01])
    assert timestamp(3, 90_000) == bytes([0x31, 0x00, 0x05, 0xBF, 0x21])
    header = pack_header(0, mux_rate=1)
    assert header == bytes.fromhex("000001ba440004000401000007f8")


@pytest.mark.parametrize(
    ("deviations", "absent"),
    [
        (Deviations(no_psm=True), b"\x00\x00\x01\xbc"),
        (Deviations(no_system_header=True), b"\x00\x00\x01\xbb"),
        (Deviations(audio_without_pack=True), None),
    ],
)
def test_deviations_leave_out_what_they_say(short: Footage, deviations: Deviations, absent: bytes | None) -> None:
    usual, odd = mux(short), mux(short, deviations)
    if absent is None:
        missing = len(track(short, "audio"))
        assert usual.count(b"\x00\x00\x01\xba") - odd.count(b"\x00\x00\x01\xba") == missing
    else:
        assert usual.count(absent) == 2
        assert odd.count(absent) == 0


def test_zero_pes_length_is_one_unbounded_packet_a_picture(short: Footage) -> None:
    odd = mux(short, Deviations(zero_pes_length=True))
    assert odd.count(b"\x00\x00\x01\xe0\x00\x00") == len(track(short, "video"))
    # FFmpeg itself cannot read such packets reliably, so the pictures are looked for as bytes
    assert all(unit.data in odd for unit in track(short, "video"))


def test_32_bit_times_wrap() -> None:
    unit = AccessUnit(
        track="video", codec="h264", pts=(1 << 32) + 5, dts=(1 << 32) + 5, key=False, data=b"\x00\x00\x01\x41x"
    )
    right = PsMuxer(video="h264", audio=None).mux(unit)
    wrong = PsMuxer(video="h264", audio=None, deviations=Deviations(pts_32_bits=True)).mux(unit)
    assert timestamp(2, (1 << 32) + 5) in right
    assert timestamp(2, 5) in wrong
