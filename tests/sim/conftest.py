"""Short footage for the tests of the simulators, encoded once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.sim.footage import Footage, FootageSpec, load_footage, make_footage

SHORT = FootageSpec(
    name="short", scene="crossing", label="中山北路路口", camera=7, seconds=4, fps=5, gop=10, width=640, height=360,
    bitrate=600_000,
)  # fmt: skip
SHORT_H265 = FootageSpec(
    name="short-h265", scene="gate", label="学校门口", camera=8, video="h265", audio="aac", seconds=8, fps=5, gop=10,
    width=640, height=360, bitrate=600_000,
)  # fmt: skip


@pytest.fixture(scope="session")
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of SHORT (H.264 with G.711 A)."""
    path = tmp_path_factory.mktemp("footage") / "short.mjf"
    make_footage(SHORT, path)
    return path


@pytest.fixture(scope="session")
def short(short_path: Path) -> Footage:
    """SHORT, loaded."""
    return load_footage(short_path)


@pytest.fixture(scope="session")
def short_h265(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """SHORT_H265 (H.265 with AAC), loaded."""
    path = tmp_path_factory.mktemp("footage") / "short-h265.mjf"
    make_footage(SHORT_H265, path)
    return load_footage(path)
