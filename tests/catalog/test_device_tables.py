"""Settings, alarms, positions and orders in PostgreSQL: what the stand-ins of the signalling tests promise."""

from __future__ import annotations

import itertools
from dataclasses import replace

import asyncpg
import pytest

from catalog.alarms import AlarmConfig, AlarmReport, Alarms
from catalog.model import ListedItem, NodeKey
from catalog.orders import Order, Orders, Snapshot
from catalog.positions import Fix, Positions
from catalog.secrets import SecretBox
from catalog.settings import DeviceSettings, WantedSubscription
from catalog.store import CatalogStore
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId
from tests.fixtures_db import NOON

_numbers = itertools.count(1)
CHANNEL = GbId("34020000001310000001")


@pytest.fixture
def store(pool: asyncpg.Pool) -> CatalogStore:
    return CatalogStore(pool, box=SecretBox(bytes(32)))


@pytest.fixture
async def device(store: CatalogStore) -> DeviceKey:
    gb_id = GbId(f"3402000000118{next(_numbers):07d}")
    made = await store.provision_device(gb_id, name="d", password=None, now=NOON)
    await store.apply_catalog(made.key, [ListedItem(gb_id=CHANNEL, name="c")], complete=True, now=NOON)
    return made.key


async def channel_of(store: CatalogStore, device: DeviceKey) -> ChannelKey:
    found = await store.channel_by_gb(device, CHANNEL)
    assert found is not None
    return found.key


async def test_settings_come_back(pool: asyncpg.Pool, device: DeviceKey) -> None:
    settings = DeviceSettings(pool)
    await settings.store_settings(device, chosen={"stop_repeats": 3}, detected={}, heartbeat=(30, 5))
    assert (await settings.settings())[device] == ({"stop_repeats": 3}, {}, (30, 5))
    await settings.store_settings(device, chosen={}, detected={"record_type": True}, heartbeat=None)
    assert (await settings.settings())[device] == ({}, {"record_type": True}, None)


async def test_subscriptions_are_replaced(pool: asyncpg.Pool, device: DeviceKey) -> None:
    settings = DeviceSettings(pool)
    await settings.want_subscriptions(device, [WantedSubscription(kind="alarm"), WantedSubscription(kind="ptz")])
    await settings.want_subscriptions(device, [WantedSubscription(kind="position", interval=9)])
    mine = [wanted for key, wanted in await settings.subscriptions() if key == device]
    assert mine == [WantedSubscription(kind="position", interval=9)]


async def test_what_an_object_says_is_kept_side_by_side(
    pool: asyncpg.Pool, store: CatalogStore, device: DeviceKey
) -> None:
    settings = DeviceSettings(pool)
    await settings.note_duty(device, CHANNEL, True, now=NOON)
    await settings.note_view(device, CHANNEL, {"pan": 1.5}, now=NOON + 1)
    await store.note_condition(device, CHANNEL, "vlost", now=NOON + 2)
    state = await settings.state(device, CHANNEL)
    assert state is not None
    assert (state.armed, state.view, state.condition, state.at) == (True, {"pan": 1.5}, "vlost", NOON + 2)


def report(device: DeviceKey, channel: ChannelKey | None, **more: object) -> AlarmReport:
    made = AlarmReport(
        device=device,
        channel=channel,
        source="channel",
        at=NOON,
        priority=1,
        method=5,
        kind=2,
        event=None,
        label="移动",
        valid=True,
    )
    return replace(made, **more)  # type: ignore[arg-type]


async def test_equal_alarms_are_one_in_the_window_until_acknowledged(
    pool: asyncpg.Pool, store: CatalogStore, device: DeviceKey
) -> None:
    alarms, channel = Alarms(pool), await channel_of(store, device)
    first, fresh = await alarms.report(report(device, channel), now=NOON)
    assert fresh
    again, fresh = await alarms.report(report(device, channel, at=NOON + 5), now=NOON + 5)
    assert (again.key, again.count, fresh) == (first.key, 2, False)
    other, fresh = await alarms.report(report(device, channel, kind=3), now=NOON + 6)
    assert fresh
    late, fresh = await alarms.report(report(device, channel), now=NOON + 60)
    assert fresh
    seen = await alarms.acknowledge(late.key, by="usr_x", note="看过", now=NOON + 61)
    assert seen is not None
    assert (seen.acknowledged_by, seen.note) == ("usr_x", "看过")
    twice = await alarms.acknowledge(late.key, by="usr_y", note=None, now=NOON + 62)
    assert twice is not None
    assert twice.acknowledged_by == "usr_x"
    _, fresh = await alarms.report(report(device, channel), now=NOON + 63)
    assert fresh
    page = await alarms.alarms(device=device, open_only=True, limit=2)
    assert [entry.report.kind for entry in page.items] == [2, 3]
    rest = await alarms.alarms(device=device, open_only=True, limit=2, cursor=page.cursor)
    assert [entry.key for entry in rest.items] == [first.key]
    assert other.key != first.key


async def test_alarms_are_seen_within_ones_scope_only(
    pool: asyncpg.Pool, store: CatalogStore, device: DeviceKey
) -> None:
    alarms, channel = Alarms(pool), await channel_of(store, device)
    entry, _ = await alarms.report(report(device, channel), now=NOON + 1000)
    own, _ = await alarms.report(report(device, None, source="device"), now=NOON + 1000)
    assert await alarms.alarm(entry.key, within=[NodeKey(channel)]) is not None
    assert await alarms.alarm(entry.key, within=[NodeKey(device)]) is not None
    assert await alarms.alarm(entry.key, within=[NodeKey("dev_other")]) is None
    assert await alarms.alarm(entry.key, within=[]) is None
    assert await alarms.alarm(own.key, within=[NodeKey(device)]) is not None
    assert await alarms.alarm(own.key, within=[NodeKey(channel)]) is None


async def test_old_and_too_many_alarms_go(pool: asyncpg.Pool, device: DeviceKey) -> None:
    alarms = Alarms(pool, config=AlarmConfig(window=1, keep_seconds=100, keep_rows=2))
    for step in range(5):
        await alarms.report(report(device, None), now=NOON + 10_000 + step * 40)
    assert await alarms.prune(now=NOON + 10_000 + 200) >= 3
    assert len((await alarms.alarms(device=device)).items) == 2


async def test_latest_position_and_track(pool: asyncpg.Pool, device: DeviceKey) -> None:
    positions = Positions(pool, keep_seconds=50)
    fixes = [Fix(gb_id=CHANNEL, at=NOON + step, longitude=118 + step, latitude=31) for step in (0, 20, 10)]
    await positions.store(device, fixes)
    await positions.store(device, fixes[:1])
    latest = await positions.latest(device, CHANNEL)
    assert latest is not None
    assert latest.longitude == 138
    track = await positions.track(device, CHANNEL, since=NOON, until=NOON + 20)
    assert [fix.longitude for fix in track] == [118, 128]
    assert await positions.prune(now=NOON + 65) >= 2
    assert len(await positions.track(device, CHANNEL, since=0, until=NOON + 100)) == 1


async def test_orders_end_once_and_take_only_so_many_pictures(pool: asyncpg.Pool, device: DeviceKey) -> None:
    orders, ticket = Orders(pool), bytes(31) + b"\1"
    order = Order(
        key="ord_1", device=device, channel=None, kind="snapshot", session="s" * 32, state="ordered",
        ordered_at=NOON, wanted=2,
    )  # fmt: skip
    await orders.begin(order, ticket_hash=ticket)
    assert await orders.by_ticket(ticket) == order
    pictures = [
        Snapshot(
            key=f"pic_{n}", file_id=f"f{n}", taken_at=None, received_at=NOON + n, media_type="image/jpeg", size=1,
            sha256=bytes(32),
        )
        for n in range(3)
    ]  # fmt: skip
    assert [await orders.keep(order.key, picture, limit=2) for picture in pictures] == [True, True, False]
    assert not await orders.keep(order.key, replace(pictures[0], key="pic_again"), limit=9)
    assert (await orders.uploaded(order.key), len(await orders.snapshots(order.key))) == (2, 2)
    announced = await orders.announced(order.key, ("f0", "f1"))
    assert announced is not None
    assert announced.finished
    done = await orders.finish(order.key, "done", now=NOON + 9)
    assert done is not None
    assert done.over
    assert await orders.finish(order.key, "failed", now=NOON + 10) is None
    assert await orders.by_ticket(ticket) is None
    assert await orders.by_session("s" * 32) == done
    assert (await orders.orders(device)) == [done]


async def test_items_a_device_has_no_more_go(store: CatalogStore, device: DeviceKey) -> None:
    assert await store.remove_items(device, [CHANNEL, GbId("34020000001310000099")], now=NOON + 1) == 1
    assert await store.channel_by_gb(device, CHANNEL) is None
    found = await store.device(device)
    assert found is not None
    assert found.channel_count == 0
    assert await store.remove_items(device, [CHANNEL], now=NOON + 2) == 0


async def test_offline_items_are_named(store: CatalogStore, device: DeviceKey) -> None:
    assert await store.offline_items(device) == []
    await store.set_channel_online(device, CHANNEL, False)
    assert await store.offline_items(device) == [CHANNEL]
