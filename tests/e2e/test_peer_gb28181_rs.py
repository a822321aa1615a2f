"""A camera built on another author's GB/T 28181 library (crate gb28181-rs): all pictures arrive, unchanged, in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.e2e.peers import build_rust_device, rust_device
from tests.e2e.pictures import Picture, numbered_stream, pull
from tests.e2e.rig import PATIENCE, Client, Rig, need

PICTURES = 75
CODE, LOOPING, PASSWORD = "34020000001320000901", "34020000001320000902", "a foreign Camera 7"


@pytest.fixture(scope="module")
async def program() -> Path:
    return await build_rust_device()


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "numbered.h264"
    numbered_stream(path, pictures=PICTURES)
    return path


@pytest.fixture(scope="module")
async def watcher(
    rig: Rig, program: Path, stream: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """The signed-in viewer and the channel of a device that plays its file once to every caller."""
    folder = tmp_path_factory.mktemp("device")
    key = await rig.admit(CODE, PASSWORD)
    async with (
        rust_device(program, rig, folder, code=CODE, password=PASSWORD, stream=stream, mode="once"),
        rig.signed_in("fremde", scope=[key]) as client,
    ):
        await rig.online(key)
        (channel,) = await rig.synced(key, channels=1)
        yield client, channel.key
    await rig.online(key, wanted=False)


async def ended(rig: Rig) -> None:
    """No stream is left, so that the next one begins with a new INVITE."""
    for live in rig.platform.play.streams():
        for lease in live.leases:
            await rig.platform.play.close(lease, reason="test")
    for live in rig.platform.play.streams():
        rig.platform.play.device_offline(live.device)
    await rig.until(lambda: rig.platform.play.load()["dialogs"] == 0, "the device answers the BYE")


@pytest.mark.parametrize("transport", ["udp", "tcp-passive"])
async def test_every_picture_arrives_unchanged_and_in_time(
    rig: Rig, watcher: tuple[Client, str], stream: Path, transport: Literal["udp", "tcp-passive"]
) -> None:
    client, channel = watcher
    view = await client.open(channel, transport=transport)
    seen = await asyncio.to_thread(pull, view["urls"]["flv"], pictures=PICTURES)
    source = await asyncio.to_thread(pull, str(stream))
    check(seen, source)
    await client.close(view["id"])
    await ended(rig)


def check(seen: list[Picture], source: list[Picture]) -> None:
    """Same count, same numbers, same pixels, 40 ms apart.

    The library writes PES headers without their first octet (ISO/IEC 13818-1 2.4.3.6), so that no PTS can be read; the
    time is in its RTP stamps, which give the first picture the thirtieth of a second it takes for granted.
    """
    assert [picture.number for picture in seen] == list(range(PICTURES))
    assert [picture.digest for picture in seen] == [picture.digest for picture in source]
    times = [picture.milliseconds for picture in seen]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert steps[0] in (33, 40)
    assert set(steps[1:]) == {40}


def test_control_a_lost_late_or_altered_picture_is_found(stream: Path) -> None:
    source = [replace(picture, milliseconds=40 * place) for place, picture in enumerate(pull(str(stream)))]
    check(source, source)
    altered = replace(source[3], digest=b"other")
    late = replace(source[3], milliseconds=121)
    for wrong in ([*source[:5], *source[6:]], [*source[:3], altered, *source[4:]], [*source[:3], late, *source[4:]]):
        with pytest.raises(AssertionError):
            check(wrong, source)


async def test_ffprobe_reads_the_stream(rig: Rig, program: Path, stream: Path, tmp_path: Path) -> None:
    key = await rig.admit(LOOPING, PASSWORD)
    async with (
        rust_device(program, rig, tmp_path, code=LOOPING, password=PASSWORD, stream=stream, mode="loop"),
        rig.signed_in("sonde", scope=[key]) as client,
    ):
        await rig.online(key)
        (channel,) = await rig.synced(key, channels=1)
        assert channel.name == "gb28181-rs camera"
        view = await client.open(channel.key)
        told = await probe(view["urls"]["flv"])
        assert (told["codec_name"], told["width"], told["height"]) == ("h264", 640, 360)
        await client.close(view["id"])


async def probe(url: str) -> dict[str, Any]:
    """What ffprobe says of the video stream behind `url`."""
    line = [need("ffprobe"), "-v", "error", "-analyzeduration", "500000", "-select_streams", "v:0"]
    line += ["-show_streams", "-of", "json", url]
    child = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE):
        output, _ = await child.communicate()
    found: dict[str, Any] = json.loads(output)["streams"][0]
    return found
