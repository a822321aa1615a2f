"""Directories of parts of a lower platform (annex J)."""

from __future__ import annotations

import asyncio

import pytest

from catalog.model import ListedItem
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import CatalogItem, CatalogQuery, CatalogResponse
from tests.gb.editions import asked
from tests.gb.harness import LOWER, World, settle

CAMERA_A = GbId("34020100001310000001")
CAMERA_B = GbId("34020100001310000002")


@pytest.mark.parametrize("target", ["340201", "34020100002150000001", "34020100002160000001"])
async def test_CAT_15_a_part_is_asked_for_by_its_code_and_merged(world: World, target: str) -> None:
    key, device = await world.registered(LOWER, remote=("198.51.100.20", 5060))
    world.store.catalogs[key] = {CAMERA_A: ListedItem(gb_id=CAMERA_A, name="a")}
    device.script = lambda message: (
        CatalogResponse(
            sn=message.sn, device_id=GbId(target), sum_num=1, items=(CatalogItem(device_id=CAMERA_B, name="b"),)
        ),
    )
    syncing = asyncio.ensure_future(world.sessions.sync_below(key, GbId(target)))
    await settle()
    await world.pass_time(6)
    change = await syncing
    assert asked(device, CatalogQuery).device_id == GbId(target)
    assert device.requests[-1].to.uri.user == LOWER.value
    assert (change.added, change.removed) == (1, 0)
    assert set(world.store.catalogs[key]) == {CAMERA_A, CAMERA_B}
