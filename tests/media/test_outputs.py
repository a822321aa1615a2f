"""What a viewer sees is what the camera sent: every picture, at its time, in every output and codec."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect

from media.session import Transport
from ops.sim.footage import AccessUnit, Footage
from tests.media.harness import PATIENCE, Stage, frame_numbers

PICTURES = 20
SOUND_FORMAT = {"g711a": 7, "aac": 10}


def times(units: list[AccessUnit], track: str) -> list[int]:
    """Milliseconds since the first picture of the units of a track, those before it left out."""
    start = next(unit.dts for unit in units if unit.track == "video")
    return [(unit.dts - start) // 90 for unit in units if unit.track == track and unit.dts >= start]


@pytest.mark.parametrize("transport", ["udp", "tcp-passive"])
@pytest.mark.parametrize("kind", ["h264-g711a", "h264-aac", "h265-aac"])
async def test_http_flv(stage: Stage, footage: dict[str, Footage], kind: str, transport: Transport) -> None:
    _, lease, camera = stage.open(footage[kind], transport=transport)
    viewer = await stage.watch(stage.url(lease, "flv"))
    assert "200 OK" in viewer.head
    assert "video/x-flv" in viewer.head
    sent = await stage.send(camera, PICTURES)
    assert await viewer.flv_header() == 5
    tags = await viewer.pictures(PICTURES)
    video = [tag for tag in tags if tag.kind == 9]
    audio = [tag for tag in tags if tag.kind == 8]
    assert [tag.milliseconds for tag in video] == times(sent, "video")[: len(video)]
    assert {tag.data[0] >> 4 for tag in audio} == {SOUND_FORMAT[kind.split("-")[1]]}
    expected = times(sent, "audio")
    assert len(audio) >= len(expected) * 3 // 4
    assert all(abs(tag.milliseconds - wanted) <= 1 for tag, wanted in zip(audio, expected, strict=False))
    seen = frame_numbers(bytes(viewer.body), "flv")
    assert [number for number, _ in seen] == list(range(len(seen)))
    assert len(seen) == PICTURES
    assert [round(seconds * 5) for _, seconds in seen] == list(range(len(seen)))


@pytest.mark.parametrize("kind", ["h264-g711a", "h264-aac", "h265-aac"])
async def test_websocket_fmp4(stage: Stage, footage: dict[str, Footage], kind: str) -> None:
    _, lease, camera = stage.open(footage[kind])
    url = stage.url(lease, "ws-fmp4")
    async with asyncio.timeout(PATIENCE), connect(url, origin="https://console.example") as viewer:  # type: ignore[arg-type]
        await stage.send(camera, PICTURES)
        init = json.loads(await viewer.recv(decode=True))
        recording = bytearray()
        pictures, stats = 0, []
        while pictures < PICTURES:
            message = await viewer.recv()
            if isinstance(message, str):
                stats.append(json.loads(message))
                continue
            recording += message
            # Track 1 in the fragment header: a picture.
            pictures += message[4:8] == b"moof" and message[44:48] == b"\0\0\0\1"
    assert init["type"] == "init"
    assert init["codecs"].startswith("hvc1." if kind.startswith("h265") else "avc1.")
    assert (init["video"], init["width"], init["height"]) == ("H265" if "h265" in kind else "H264", 640, 360)
    if kind.endswith("g711a"):
        assert (init["audio"], init["audio_omitted"]) == ("G711A", "G711A")
        assert "mp4a" not in init["codecs"]
    else:
        assert init["codecs"].endswith(",mp4a.40.2")
        assert "audio_omitted" not in init
    assert all(stat["type"] == "stat" and stat["dropped"] == 0 for stat in stats)
    seen = frame_numbers(bytes(recording), "mp4")
    assert [number for number, _ in seen] == list(range(PICTURES))
    assert [round(seconds * 5) for _, seconds in seen] == list(range(PICTURES))


async def test_http_fmp4(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, camera = stage.open(footage["h264-aac"])
    viewer = await stage.watch(stage.url(lease, "http-fmp4"))
    assert "video/mp4" in viewer.head
    await stage.send(camera, 12)
    pictures = 0
    while pictures < 12:
        box = await viewer.box()
        pictures += box[4:8] == b"moof" and box[44:48] == b"\0\0\0\1"
    await viewer.box()
    assert [number for number, _ in frame_numbers(bytes(viewer.body), "mp4")] == list(range(12))


async def test_a_late_viewer_starts_at_the_last_key_picture_at_zero(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, camera = stage.open(footage["h264-g711a"])
    early = await stage.watch(stage.url(lease, "flv"))
    await stage.send(camera, 15)
    await early.flv_header()
    await early.pictures(15)
    late = await stage.watch(stage.url(lease, "flv"))
    await late.flv_header()
    tags = [tag for tag in await late.pictures(3) if tag.kind == 9]
    assert [tag.milliseconds for tag in tags] == [0, 200, 400]
    assert tags[0].data[0] >> 4 == 1
    assert [number for number, _ in frame_numbers(bytes(late.body), "flv")] == [10, 11, 12]


async def test_first_frame_and_viewer_events_are_told(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, camera = stage.open(footage["h264-g711a"])
    viewer = await stage.watch(stage.url(lease, "flv"))
    opened = await stage.event("viewer_opened")
    assert (opened.session, opened.lease, opened.detail["output"]) == (session, lease.key, "flv")
    await stage.send(camera, 3)
    assert (await stage.event("source_started")).session == session
    assert (await stage.event("first_frame")).session == session
    await viewer.flv_header()
    await viewer.pictures(2)
    stats = stage.plane.session_stats(session)
    assert stats is not None
    assert (stats.codec, stats.audio_codec, stats.viewers, stats.lost) == ("H264", "G711A", 1, 0)
    assert stage.plane.stats().viewers == 1
    assert stage.plane.healthy()
    viewer.close()
    closed = await stage.event("viewer_closed")
    assert closed.detail["reason"] == "viewer_left"
    assert int(closed.detail["frames"]) >= 2
    stats = stage.plane.session_stats(session)
    assert stats is not None
    assert stats.viewers == 0
