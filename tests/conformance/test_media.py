"""Program streams as devices send them, through the whole platform: what codec it finds, and that pictures come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.sim.footage import VideoCodec
from ops.sim.ps_mux import CONFORMING, Deviations
from sipserver.protocol.ids import StreamKey
from tests.conformance.stage import Camera, camera, invited, opened, stream_of
from tests.e2e.pictures import watching
from tests.e2e.rig import Client, Rig
from tests.e2e.sender import Sender, accept, footage, mpeg4_units, pictures


@dataclass(slots=True)
class Flowing:
    """An open view and the device's sender."""

    one: Camera
    source: Sender
    url: str
    stream: StreamKey


@asynccontextmanager
async def flowing(
    rig: Rig, duty: Client, films: Path, video: VideoCodec, *, deviations: Deviations = CONFORMING
) -> AsyncIterator[Flowing]:
    async with camera(rig, duty) as one:
        asking = asyncio.create_task(one.watcher.ask(one.channel.key))
        offer = accept(one.double, await invited(one))
        await one.double.next("ACK")
        view = opened(await asking)
        with Sender(offer, footage(films, video), deviations=deviations) as source:
            yield Flowing(one, source, view["urls"]["flv"], stream_of(rig, one))


async def codec(rig: Rig, flow: Flowing, *, wanted: str) -> None:
    """Wait until the engine says what it receives."""

    def told() -> bool:
        stats = rig.platform.media.session_stats(flow.stream)
        return stats is not None and stats.codec == wanted

    await rig.until(told, f"the engine finds {wanted}")


@pytest.mark.parametrize(("video", "name"), [("h264", "H264"), ("h265", "H265")])
async def test_MED_01_codec_by_the_stream_map(
    rig: Rig, duty: Client, films: Path, video: VideoCodec, name: str
) -> None:
    async with flowing(rig, duty, films, video) as flow, watching(flow.url) as viewer:
        flow.source.send(pictures(footage(films, video), 5))
        await codec(rig, flow, wanted=name)
        await viewer.header()
        await viewer.picture()


@pytest.mark.parametrize(("stream_type", "name"), [(0x10, "MPEG4"), (0x80, "SVAC")])
async def test_MED_01_codec_that_is_only_passed_on_is_named(
    rig: Rig, duty: Client, films: Path, stream_type: int, name: str
) -> None:
    async with flowing(rig, duty, films, "h264") as flow:
        units = mpeg4_units(10) if name == "MPEG4" else pictures(footage(films, "h264"), 5)
        flow.source.send(units, stream_type=stream_type)
        await codec(rig, flow, wanted=name)


@pytest.mark.parametrize(("video", "name"), [("h264", "H264"), ("h265", "H265")])
async def test_MED_03_without_a_stream_map_the_codec_is_found_within_two_groups(
    rig: Rig, duty: Client, films: Path, video: VideoCodec, name: str
) -> None:
    bare, two_groups = Deviations(no_psm=True), 50
    async with flowing(rig, duty, films, video, deviations=bare) as flow, watching(flow.url) as viewer:
        flow.source.send(pictures(footage(films, video), two_groups))
        await codec(rig, flow, wanted=name)
        await viewer.header()
        await viewer.picture()
