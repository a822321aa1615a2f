"""One platform for all conformance tests, spoken to over its sockets by scripted devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.rig import Client, Rig, configuration, rig_of


@pytest.fixture(scope="package")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One platform; a source is lost after one silent second."""
    config = configuration(tmp_path_factory.mktemp("platform"), media={"source_timeout": 1.0, "linger": 0.2})
    async with rig_of(config) as running:
        yield running


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where footage is kept."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="package")
async def duty(rig: Rig) -> AsyncIterator[Client]:
    """Somebody on duty; `camera()` puts its device into the scope."""
    async with rig.signed_in("duty") as client:
        yield client
