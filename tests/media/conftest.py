"""Footage encoded once a run, and a media plane per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.sim.footage import AudioCodec, Footage, FootageSpec, VideoCodec, load_footage, make_footage
from tests.media.harness import Stage


def _make(folder: Path, spec: FootageSpec) -> Footage:
    path = folder / spec.file_name()
    make_footage(spec, path)
    return load_footage(path)


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Footage]:
    """`h264-g711a`, `h264-aac` and `h265-aac`, each 8 s at 5 pictures a second, a key picture every 2 s."""
    folder = tmp_path_factory.mktemp("footage")
    kinds: tuple[tuple[VideoCodec, AudioCodec], ...] = (("h264", "g711a"), ("h264", "aac"), ("h265", "aac"))
    made = {}
    for video, audio in kinds:
        made[f"{video}-{audio}"] = _make(
            folder,
            FootageSpec(
                name=f"{video}-{audio}",
                scene="crossing",
                label="中山北路路口",
                camera=7,
                video=video,
                audio=audio,
                seconds=8,
                fps=5,
                gop=10,
                width=640,
                height=360,
                bitrate=400_000,
            ),
        )
    return made


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A running media plane on ports of its own."""
    made = Stage()
    made.start()
    yield made
    await made.stop()
