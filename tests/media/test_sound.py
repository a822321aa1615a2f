"""One stream, two viewers: who may listen hears it, the other gets the same pictures without a byte of sound."""

from __future__ import annotations

import asyncio
import io
import json
import time

import av
import pytest
from websockets.asyncio.client import connect

from ops.sim.footage import Footage
from tests.media.harness import PATIENCE, Stage, frame_numbers, make_lease

PICTURES = 12


def sounds(recording: bytes, form: str) -> int:
    """Audio packets in a recording; -1 when it does not even have a track for them."""
    with av.open(io.BytesIO(recording), mode="r", format=form) as container:
        if not container.streams.audio:
            return -1
        return sum(packet.size > 0 for packet in container.demux(container.streams.audio[0]))


@pytest.mark.parametrize("kind", ["h264-g711a", "h264-aac"])
async def test_flv_sounds_for_one_and_not_for_the_other(stage: Stage, footage: dict[str, Footage], kind: str) -> None:
    session, heard, camera = stage.open(footage[kind])
    silent = make_lease(audio=False)
    stage.plane.grant(session, silent)
    viewers = [await stage.watch(stage.url(lease, "flv")) for lease in (heard, silent)]
    await stage.send(camera, PICTURES)
    assert [await viewer.flv_header() for viewer in viewers] == [5, 1]
    for viewer in viewers:
        await viewer.pictures(PICTURES)
    with_sound, without = (bytes(viewer.body) for viewer in viewers)
    assert sounds(with_sound, "flv") > 0
    assert sounds(without, "flv") == -1
    assert [number for number, _ in frame_numbers(without, "flv")] == list(range(PICTURES))


async def test_fmp4_sounds_for_one_and_not_for_the_other(stage: Stage, footage: dict[str, Footage]) -> None:
    session, heard, camera = stage.open(footage["h264-aac"])
    silent = make_lease(audio=False)
    stage.plane.grant(session, silent)
    viewers = [await stage.watch(stage.url(lease, "http-fmp4")) for lease in (heard, silent)]
    await stage.send(camera, PICTURES)
    for viewer in viewers:
        pictures = 0
        while pictures < PICTURES:
            box = await viewer.box()
            pictures += box[4:8] == b"moof" and box[44:48] == b"\0\0\0\1"
        await viewer.box()
    with_sound, without = (bytes(viewer.body) for viewer in viewers)
    assert sounds(with_sound, "mp4") > 0
    assert sounds(without, "mp4") == -1
    assert [number for number, _ in frame_numbers(without, "mp4")] == list(range(PICTURES))


async def test_sound_that_is_withdrawn_ends_and_the_picture_goes_on(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, camera = stage.open(footage["h264-aac"])
    url = stage.url(lease, "ws-fmp4")
    async with asyncio.timeout(PATIENCE), connect(url, origin="https://console.example") as viewer:  # type: ignore[arg-type]
        await stage.send(camera, 4)
        first = json.loads(await viewer.recv(decode=True))
        assert "mp4a" in first["codecs"]
        stage.plane.renew(lease.key, time.time() + 20, audio=False)
        await stage.send(camera, 8)
        recording, told, pictures = bytearray(), None, 0
        while pictures < PICTURES:
            message = await viewer.recv()
            if not isinstance(message, str):
                recording += message
                pictures += message[4:8] == b"moof" and message[44:48] == b"\0\0\0\1"
            elif json.loads(message)["type"] == "init":
                # The player starts anew, from the newest key picture on.
                recording, told, pictures = bytearray(), json.loads(message), 0
    assert told is not None
    assert told["audio_omitted"] == "not_granted"
    assert "mp4a" not in told["codecs"]
    assert sounds(bytes(recording), "mp4") == -1
    numbers = [number for number, _ in frame_numbers(bytes(recording), "mp4")]
    assert numbers == list(range(PICTURES)), "not a picture is missing"
    # Given back in the engine, it stays away: this lease was opened without it since.
    stage.plane.renew(lease.key, time.time() + 20, audio=True)
    again = await stage.watch(stage.url(lease, "flv"))
    await stage.send(camera, 2)
    assert await again.flv_header() == 1


async def test_the_first_message_says_that_sound_was_not_granted(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, camera = stage.open(footage["h264-g711a"], lease=make_lease(audio=False))
    url = stage.url(lease, "ws-fmp4")
    async with asyncio.timeout(PATIENCE), connect(url, origin="https://console.example") as viewer:  # type: ignore[arg-type]
        await stage.send(camera, 2)
        init = json.loads(await viewer.recv(decode=True))
    assert init["audio_omitted"] == "not_granted"
