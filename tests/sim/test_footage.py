"""Footage: the strip survives encoding, loops go on in time, files are complete or refused."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ops.sim.barcode import STRIP_CELLS, FrameMark, crc8, encode_cells, read_frame_number
from ops.sim.footage import (
    AUDIO_OFFSET,
    Footage,
    FootageError,
    FootageSpec,
    LoopedFootage,
    ensure_footage,
    load_footage,
)


def decode(footage: Footage) -> list[VideoFrame]:
    decoder = av.CodecContext.create({"h264": "h264", "h265": "hevc"}[footage.video], "r")
    assert isinstance(decoder, VideoCodecContext)
    frames: list[VideoFrame] = []
    for unit in footage.units:
        if unit.track == "video":
            frames += decoder.decode(av.Packet(unit.data))
    return frames + decoder.decode(None)


def marks(frames: list[VideoFrame], **scale: int) -> list[FrameMark | None]:
    result = []
    for frame in frames:
        grey = frame.reformat(format="gray", **scale)
        plane = grey.planes[0]
        result.append(read_frame_number(bytes(plane), width=grey.width, height=grey.height, stride=plane.line_size))
    return result


def test_crc8_matches_the_published_check_value() -> None:
    assert crc8(b"123456789") == 0xF4  # CRC-8/SMBUS in the CRC catalogue


def test_every_decoded_picture_of_h264_tells_its_number(short: Footage) -> None:
    assert marks(decode(short)) == [FrameMark(camera=7, frame=number) for number in range(20)]


def test_every_decoded_picture_of_h265_tells_its_number(short_h265: Footage) -> None:
    assert marks(decode(short_h265)) == [FrameMark(camera=8, frame=number) for number in range(40)]


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (320, 180), (854, 480)])
def test_the_strip_survives_scaling(short: Footage, width: int, height: int) -> None:
    pictures = decode(short)[3:6]
    assert marks(pictures, width=width, height=height) == [FrameMark(camera=7, frame=number) for number in (3, 4, 5)]


def test_the_strip_is_read_from_rgba_at_an_offset(short: Footage) -> None:
    rgba = decode(short)[9].reformat(format="rgba")
    plane, left, top = rgba.planes[0], 13, 29
    rows = bytes(plane)
    width = rgba.width + left
    screen = bytearray(b"\x40" * (width * top * 4))
    for y in range(rgba.height):
        screen += b"\x80" * (left * 4) + rows[y * plane.line_size : y * plane.line_size + rgba.width * 4]
    mark = read_frame_number(
        screen, width=rgba.width, height=rgba.height, stride=width * 4, channels=4, origin=(left, top)
    )
    assert mark == FrameMark(camera=7, frame=9)


def test_one_flipped_cell_is_noticed() -> None:
    cells = list(encode_cells(FrameMark(camera=5, frame=1234)))

    def picture() -> bytes:
        row = b"".join((b"\xeb" if cell else b"\x10") * 8 for cell in cells).ljust(640, b"\x55")
        return row * 16

    assert read_frame_number(picture(), width=640, height=16) == FrameMark(camera=5, frame=1234)
    for place in range(STRIP_CELLS):
        cells[place] ^= 1
        assert read_frame_number(picture(), width=640, height=16) is None
        cells[place] ^= 1


def test_a_picture_without_strip_gives_nothing_and_a_short_buffer_is_refused() -> None:
    assert read_frame_number(b"\x60" * (640 * 360), width=640, height=360) is None
    with pytest.raises(ValueError, match="smaller"):
        read_frame_number(b"\x60" * 100, width=640, height=360)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="fit"):
        encode_cells(FrameMark(camera=256, frame=0))


def test_groups_of_pictures_and_parameter_sets(short: Footage, short_h265: Footage) -> None:
    for footage, parameter_sets in ((short, {7, 8}), (short_h265, {32, 33, 34})):
        pictures = [unit for unit in footage.units if unit.track == "video"]
        assert [place for place, unit in enumerate(pictures) if unit.key] == list(range(0, len(pictures), 10))
        assert all(unit.pts == unit.dts for unit in pictures)
        for unit in pictures:
            types = {
                head & 0x1F if footage.video == "h264" else head >> 1 & 0x3F
                for head in (part[0] for part in unit.data.split(b"\x00\x00\x01")[1:])
            }
            assert parameter_sets <= types if unit.key else not parameter_sets & types


def test_g711_is_forty_milliseconds_a_frame_and_as_long_as_the_pictures(short: Footage) -> None:
    sound = [unit for unit in short.units if unit.track == "audio"]
    assert {len(unit.data) for unit in sound} == {320}
    assert len(sound) * 3600 == short.duration
    assert sound[0].pts == AUDIO_OFFSET


def test_aac_frames_are_adts_of_their_own_length_and_fill_the_loop(short_h265: Footage) -> None:
    sound = [unit for unit in short_h265.units if unit.track == "audio"]
    assert len(sound) * 5760 == short_h265.duration
    for unit in sound:
        assert unit.data[:2] == b"\xff\xf1"
        assert (unit.data[3] & 3) << 11 | unit.data[4] << 3 | unit.data[5] >> 5 == len(unit.data)


def test_no_sound_shares_its_time_with_a_picture(short: Footage, short_h265: Footage) -> None:
    for footage in (short, short_h265):
        times = [unit.pts for unit in itertools.islice(LoopedFootage(footage), 500)]
        assert len(set(times)) == len(times)
        assert times == sorted(times)


def test_a_loop_goes_on_monotonically_and_keeps_its_period(short: Footage) -> None:
    units = list(itertools.islice(LoopedFootage(short), 2 * len(short.units)))
    first, second = units[: len(short.units)], units[len(short.units) :]
    assert [later.pts - earlier.pts for earlier, later in zip(first, second, strict=True)] == [short.duration] * len(
        first
    )
    assert [unit.data for unit in first] == [unit.data for unit in second]


def test_a_loop_may_begin_at_any_key_frame(short: Footage) -> None:
    first = next(LoopedFootage(short, start=17))
    assert first.key
    assert first.pts == 0
    assert first.data == [unit for unit in short.units if unit.track == "video"][10].data


def test_damaged_files_are_refused(short_path: Path, tmp_path: Path) -> None:
    content = short_path.read_bytes()
    for name, broken in (("cut", content[:-10]), ("foreign", b"RIFF" + content), ("head", content[:20])):
        path = tmp_path / f"{name}.mjf"
        path.write_bytes(broken)
        with pytest.raises(FootageError):
            load_footage(path)
    with pytest.raises(FootageError):
        load_footage(tmp_path / "absent.mjf")


def test_footage_is_made_once_and_again_when_its_specification_changes(tmp_path: Path) -> None:
    spec = FootageSpec(
        name="tiny", scene="carpark", label="地下停车场", camera=1, audio=None, seconds=2, fps=5, gop=5, width=320,
        height=180, bitrate=200_000,
    )  # fmt: skip
    reports: list[tuple[str, int, int]] = []
    first = ensure_footage([spec], tmp_path, report=lambda *told: reports.append(told))
    again = ensure_footage([spec], tmp_path, report=lambda *told: reports.append(told))
    assert reports == [("tiny", 1, 1)]
    assert first == again
    assert [path.name for path in tmp_path.iterdir()] == [spec.file_name()]
    other = FootageSpec(**{name: getattr(spec, name) for name in FootageSpec.__slots__} | {"camera": 2})
    assert other.file_name() != spec.file_name()


def test_the_infra_red_scene_has_no_colour(tmp_path: Path) -> None:
    spec = FootageSpec(
        name="night", scene="carpark", label="", camera=1, audio=None, seconds=1, fps=5, gop=5, width=320, height=180,
        bitrate=400_000,
    )  # fmt: skip
    footage = load_footage(ensure_footage([spec], tmp_path)["night"])
    for frame in decode(footage):
        for plane in list(frame.planes)[1:]:
            assert all(math.isclose(value, 128, abs_tol=3) for value in bytes(plane)[: plane.width])
