"""The signalling side starts over a real database with what it kept: switches, heartbeats, subscriptions."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from catalog.secrets import SecretBox
from catalog.settings import DeviceSettings, WantedSubscription
from catalog.store import CatalogStore
from ops.signalling import start_signalling
from sipserver.protocol.ids import GbId
from sipserver.protocol.subscription import State
from sipserver.registrar import MemoryReplayGuard
from tests.e2e.rig import configuration
from tests.fixtures_db import NOON, FakeClock


async def test_what_is_kept_of_devices_is_in_force_after_a_start(
    pool: asyncpg.Pool, clock: FakeClock, tmp_path: Path
) -> None:
    store = CatalogStore(pool, box=SecretBox(bytes(32)))
    device = await store.provision_device(GbId("34020000001320000001"), name="d", password=None, now=NOON)
    settings = DeviceSettings(pool)
    await settings.store_settings(device.key, chosen={"stop_repeats": 3}, detected={}, heartbeat=(30, 5))
    await settings.want_subscriptions(device.key, [WantedSubscription(kind="alarm", expires=300)])
    async with AsyncExitStack() as stack:
        running = await start_signalling(
            configuration(tmp_path),
            clock=clock,
            token=secrets.token_hex,
            store=store,
            pool=pool,
            replay=MemoryReplayGuard(clock),
            nonce_secret=bytes(16),
            publish=lambda event: None,
            stack=stack,
        )
        assert running.devices.profiles.of(device.key).number("stop_repeats") == 3
        assert running.devices.profiles.heartbeat(device.key) == (30, 5)
        ((wanted, held),) = running.subscriptions.of(device.key)
        assert (wanted.kind, wanted.expires, held.state) == ("alarm", 300, State.PARKED)
        await running.devices.tick(clock())
