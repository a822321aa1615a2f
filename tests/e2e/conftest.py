"""Fixtures of the end-to-end tests: one platform a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.sim.footage import ensure_footage
from ops.sim.library import DEMO_FOOTAGE
from tests.e2e.rig import Rig, configuration, rig_of


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The module's own platform on an empty data directory; a source nobody watches is given up at once."""
    config = configuration(tmp_path_factory.mktemp("platform"), media={"linger": 0.2})
    async with rig_of(config) as running:
        yield running


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where footage is kept."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="session")
def demo_footage(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of the demo's cameras. They take long to make and never change, so they are kept between runs."""
    cache = pytestconfig.cache
    folder = tmp_path_factory.mktemp("footage") if cache is None else cache.mkdir("footage")
    ensure_footage(DEMO_FOOTAGE, folder)
    return folder
