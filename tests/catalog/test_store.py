"""The catalog in PostgreSQL: provisioning, bindings, catalogue answers, pages, the trees of annex J, scopes."""

import asyncio
import dataclasses
import os

import asyncpg
import pytest

from catalog.model import Binding, Channel, ChannelFilter, Device, DeviceInfo, DeviceKind, ItemKind, ListedItem, NodeKey
from catalog.secrets import SecretBox
from catalog.store import CatalogStore, DuplicateDeviceError, UnknownDeviceError
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId
from tests.fixtures_db import NOON

PASSWORD = "correct horse"


@pytest.fixture
async def store(pool: asyncpg.Pool) -> CatalogStore:
    return CatalogStore(pool, box=SecretBox(bytes(32)))


_numbers = iter(range(1, 1_000_000))


def fresh_gb(kind: int) -> GbId:
    return GbId(f"3402000000{kind:03d}0{next(_numbers):06d}")


async def provision(store: CatalogStore, kind: int, name: str = "设备") -> Device:
    return await store.provision_device(fresh_gb(kind), name=name, password=PASSWORD, now=NOON)


async def channels_of(store: CatalogStore, device: Device) -> list[Channel]:
    page = await store.channels(ChannelFilter(device=device.key, playable=None), limit=500)
    return list(page.items)


def camera(number: int, *parents: GbId, **more: object) -> ListedItem:
    return ListedItem(gb_id=GbId(f"3402010000131{number:07d}"), name=f"枪机 {number}", parents=parents, **more)  # type: ignore[arg-type]


async def test_a_camera_gets_its_channel_at_once(store: CatalogStore) -> None:
    device = await provision(store, 132, "门口")
    assert device.kind is DeviceKind.IPC
    (channel,) = await channels_of(store, device)
    assert (channel.name, channel.gb_id, channel.playable) == ("门口", device.gb_id, True)
    assert channel.online is False  # the device is not there yet
    assert await store.channel(channel.key) == channel


async def test_a_recorder_waits_for_its_catalogue(store: CatalogStore) -> None:
    device = await provision(store, 118)
    assert device.kind is DeviceKind.NVR
    assert await channels_of(store, device) == []


async def test_an_address_code_is_provisioned_once(store: CatalogStore) -> None:
    device = await provision(store, 118)
    with pytest.raises(DuplicateDeviceError):
        await store.provision_device(device.gb_id, name="x", password=None, now=NOON)
    await store.remove_device(device.key, now=NOON)
    assert await store.device(device.key) is None
    again = await store.provision_device(device.gb_id, name="x", password=None, now=NOON)
    assert again.key != device.key
    with pytest.raises(UnknownDeviceError):
        await store.remove_device(device.key, now=NOON)


async def test_passwords_are_sealed(store: CatalogStore, pool: asyncpg.Pool) -> None:
    device = await provision(store, 118)
    assert await store.credential(device.gb_id) == PASSWORD
    sealed = await pool.fetchval("SELECT credential FROM devices WHERE device_key = $1", device.key)
    assert PASSWORD.encode() not in sealed
    await store.update_device(device.key, password="another one")
    assert await store.credential(device.gb_id) == "another one"
    assert await store.credential(fresh_gb(118)) is None
    bare = await store.provision_device(fresh_gb(118), name="x", password=None, now=NOON)
    assert bare.has_password is False
    assert await store.credential(bare.gb_id) is None


def binding(at: float) -> Binding:
    return Binding(
        transport="tcp",
        remote=("192.0.2.7", 40001),
        local=("192.0.2.1", 5060),
        contact="sip:x@192.0.2.7",
        call_id="abc",
        registered_at=at,
        expires_at=at + 3600,
    )


async def test_bindings_come_and_go(store: CatalogStore) -> None:
    device = await provision(store, 132)
    assert await store.bind(device.key, binding(NOON)) is True
    assert await store.bind(device.key, binding(NOON + 5)) is False
    spoken = dataclasses.replace(binding(NOON + 5), version="3.0")
    await store.bind(device.key, spoken)
    assert [row[2] for row in await store.bindings() if row[0] == device.key] == [spoken]
    await store.bind(device.key, binding(NOON + 5))
    await store.touch({device.key: NOON + 60})
    await store.touch({device.key: NOON + 30})  # a batch that comes late moves nothing back
    present = await store.device(device.key)
    assert present is not None
    assert (present.online, present.last_seen_at, present.binding) == (True, NOON + 60, binding(NOON + 5))
    (channel,) = await channels_of(store, device)
    assert channel.online
    assert (device.key, device.gb_id, binding(NOON + 5), NOON + 60) in await store.bindings()
    assert await store.offline(device.key, now=NOON + 90) is True
    assert await store.offline(device.key, now=NOON + 91) is False
    assert device.key not in [row[0] for row in await store.bindings()]
    with pytest.raises(UnknownDeviceError):
        await store.bind(DeviceKey("dev_" + "a" * 20), binding(NOON))


async def test_device_info_keeps_what_is_known(store: CatalogStore) -> None:
    device = await provision(store, 118)
    await store.set_device_info(device.key, DeviceInfo(manufacturer="A\x00B", model="M", channel_count=4))
    await store.set_device_info(device.key, DeviceInfo(firmware="1.2"))
    present = await store.device(device.key)
    assert present is not None
    assert present.info == DeviceInfo(manufacturer="AB", model="M", firmware="1.2", channel_count=4)


async def test_a_complete_answer_replaces_and_a_partial_one_adds(store: CatalogStore) -> None:
    """CAT-02, CAT-04, CAT-07: nothing disappears because a part was lost."""
    device = await provision(store, 118)
    items = [camera(number, device.gb_id) for number in range(5)]
    first = await store.apply_catalog(device.key, items, complete=True, now=NOON)
    assert (first.added, first.changed, first.removed, first.total) == (5, 0, 0, 5)
    keys = {channel.gb_id: channel.key for channel in await channels_of(store, device)}
    partial = await store.apply_catalog(device.key, items[:2], complete=False, now=NOON + 1)
    assert (partial.added, partial.changed, partial.removed, partial.total) == (0, 0, 0, 5)
    renamed = [dataclasses.replace(items[0], name="新名", online=False), *items[1:3]]
    second = await store.apply_catalog(device.key, renamed, complete=True, now=NOON + 2)
    assert (second.added, second.changed, second.removed, second.total) == (0, 1, 2, 3)
    names = {channel.gb_id: (channel.name, channel.item_online) for channel in await channels_of(store, device)}
    assert names[items[0].gb_id] == ("新名", False)
    back = await store.apply_catalog(device.key, items, complete=True, now=NOON + 3)
    assert (back.added, back.changed, back.removed) == (0, 3, 0)
    assert {channel.gb_id: channel.key for channel in await channels_of(store, device)} == keys
    present = await store.device(device.key)
    assert present is not None
    assert (present.channel_count, present.catalog_complete, present.catalog_synced_at) == (5, True, NOON + 3)


async def test_an_empty_answer_and_an_unknown_device(store: CatalogStore) -> None:
    device = await provision(store, 118)
    change = await store.apply_catalog(device.key, [], complete=True, now=NOON)
    assert (change.total, change.added) == (0, 0)
    with pytest.raises(UnknownDeviceError):
        await store.apply_catalog(DeviceKey("dev_" + "a" * 20), [], complete=True, now=NOON)


async def test_a_camera_with_a_catalogue_of_its_own(store: CatalogStore) -> None:
    """Its stand-in goes when it lists a channel, and comes back when it lists none."""
    device = await provision(store, 132, "球机")
    (own,) = await channels_of(store, device)
    listed = camera(901, device.gb_id)
    await store.apply_catalog(device.key, [listed], complete=True, now=NOON)
    assert [channel.gb_id for channel in await channels_of(store, device)] == [listed.gb_id]
    assert await store.channel(own.key) is None
    await store.apply_catalog(device.key, [], complete=True, now=NOON)
    assert [channel.key for channel in await channels_of(store, device)] == [own.key]
    await store.update_device(device.key, name="改名")
    assert [channel.name for channel in await channels_of(store, device)] == ["改名"]


async def test_hostile_texts_are_data(store: CatalogStore) -> None:
    device = await provision(store, 118)
    nasty = ["'; DROP TABLE channels; --", "a\x00b", "\ud800x", "%_\\", "<script>", "x" * 5000, ""]
    items = [
        dataclasses.replace(camera(800 + number), name=text, attributes={text: text}, manufacturer=text)
        for number, text in enumerate(nasty)
    ]
    await store.apply_catalog(device.key, items, complete=True, now=NOON)
    names = [channel.name for channel in await channels_of(store, device)]
    assert sorted(names) == sorted(["'; DROP TABLE channels; --", "ab", "x", "%_\\", "<script>", "x" * 256, "未命名"])
    found = await store.channels(ChannelFilter(text="%_\\", device=device.key))
    assert [channel.name for channel in found.items] == ["%_\\"]


async def test_two_answers_at_once_make_one_catalogue(store: CatalogStore) -> None:
    device = await provision(store, 200)
    other = await provision(store, 200)
    items = [camera(number, civil_code="500101") for number in range(200)]
    await asyncio.gather(
        *(store.apply_catalog(one.key, items, complete=True, now=NOON) for one in (device, other, device, other))
    )
    assert len(await channels_of(store, device)) == 200
    assert len(await channels_of(store, other)) == 200


async def test_pages_cover_everything_once(store: CatalogStore) -> None:
    device = await provision(store, 118)
    items = [dataclasses.replace(camera(number), name="同名") for number in range(25)]
    await store.apply_catalog(device.key, items, complete=True, now=NOON)
    wanted, seen, cursor = ChannelFilter(device=device.key), list[ChannelKey](), None
    while True:
        page = await store.channels(wanted, cursor=cursor, limit=10)
        seen.extend(channel.key for channel in page.items)
        cursor = page.cursor
        if cursor is None:
            break
        assert "同名" not in cursor
    assert len(seen) == len(set(seen)) == 25
    for foreign in ("chn_" + "z" * 20, "nonsense", "' OR 1=1"):
        with pytest.raises(ValueError, match="cursor"):
            await store.channels(wanted, cursor=foreign)


async def city(store: CatalogStore) -> tuple[Device, dict[str, ListedItem]]:
    device = await provision(store, 200, "下级平台")
    items = {
        "group": ListedItem(gb_id=fresh_gb(215), name="分组", parents=(device.gb_id,)),
        "org": ListedItem(gb_id=fresh_gb(216), name="组织"),
        "nvr": ListedItem(gb_id=fresh_gb(118), name="录像机", parental=True, civil_code="460105"),
    }
    items["org"] = dataclasses.replace(items["org"], business_group=items["group"].gb_id)
    items["a"] = camera(701, device.gb_id, items["org"].gb_id, civil_code="460105")
    items["b"] = camera(702, items["nvr"].gb_id, civil_code="460106")
    items["c"] = camera(703, device.gb_id)
    items["hn"] = ListedItem(gb_id=GbId("460105"), name="秀英区")
    await store.apply_catalog(device.key, items.values(), complete=True, now=NOON)
    return device, items


async def names(
    store: CatalogStore, parent: NodeKey | None, mode: str, **more: object
) -> dict[str, tuple[NodeKey, int]]:
    page = await store.tree(parent, mode=mode, **more)  # type: ignore[arg-type]
    return {node.name: (node.key, node.child_count) for node in page.items}


async def test_the_three_trees(store: CatalogStore) -> None:
    device, _ = await city(store)
    root = NodeKey(device.key)
    groups = await names(store, root, "group")
    assert {name: count for name, (_, count) in groups.items()} == {"分组": 1, "录像机": 1, "枪机 703": 0}
    organisations = await names(store, groups["分组"][0], "group")
    assert {name: count for name, (_, count) in organisations.items()} == {"组织": 1}
    assert list(await names(store, organisations["组织"][0], "group")) == ["枪机 701"]
    devices = await names(store, root, "device")
    assert {name: count for name, (_, count) in devices.items()} == {"录像机": 1, "枪机 701": 0, "枪机 703": 0}
    top = await names(store, None, "division")
    assert device.name in top  # it has a camera without a division
    province = await names(store, top["海南省"][0], "division")
    districts = await names(store, province["4601"][0], "division")
    assert set(districts) == {"秀英区", "460106"}
    assert set(await names(store, districts["秀英区"][0], "division")) == {"录像机", "枪机 701"}
    assert set(await names(store, districts["460106"][0], "division")) == {"枪机 702"}


async def test_a_scope_hides_everything_else(store: CatalogStore) -> None:
    device, items = await city(store)
    by_gb = {channel.gb_id: channel for channel in await channels_of(store, device)}
    organisation, recorder = by_gb[items["org"].gb_id], by_gb[items["nvr"].gb_id]
    scope = [NodeKey(organisation.key)]
    assert set(await names(store, None, "group", within=scope)) == {"组织"}
    assert set(await names(store, scope[0], "group", within=scope)) == {"枪机 701"}
    assert await names(store, NodeKey(device.key), "device", within=scope) == {}
    assert await names(store, NodeKey(recorder.key), "device", within=scope) == {}
    page = await store.channels(within=scope)
    assert [channel.name for channel in page.items] == ["枪机 701"]
    assert await store.channel(by_gb[items["c"].gb_id].key, within=scope) is None
    assert await store.channel(by_gb[items["a"].gb_id].key, within=scope) is not None
    assert (await store.channels(within=[])).items == ()
    assert await names(store, None, "device", within=[]) == {}
    whole = await store.channels(ChannelFilter(playable=None), within=[NodeKey(device.key)])
    assert len(whole.items) == 6


async def test_a_division_is_a_scope_across_devices(store: CatalogStore) -> None:
    first, second = await provision(store, 200), await provision(store, 200)
    for number, device in enumerate((first, second)):
        inside, outside = camera(10 + number, civil_code="630102"), camera(20 + number, civil_code="630203")
        await store.apply_catalog(device.key, [inside, outside], complete=True, now=NOON)
    top = await names(store, None, "division")
    province = await names(store, top["青海省"][0], "division")
    city_key = province["6301"][0]
    assert len((await store.channels(within=[city_key])).items) == 2
    assert len((await store.channels(within=[top["青海省"][0]])).items) == 4
    assert set(await names(store, None, "division", within=[city_key])) == {"6301"}
    assert await names(store, province["6302"][0], "division", within=[city_key]) == {}
    district = await names(store, city_key, "division", within=[city_key])
    assert set(await names(store, district["630102"][0], "division", within=[city_key])) == {"枪机 10", "枪机 11"}


async def test_every_field_is_kept(store: CatalogStore) -> None:
    """CAT-08."""
    device = await provision(store, 118)
    item = camera(
        601,
        civil_code="340200",
        manufacturer="厂",
        model="型",
        ptz_type="1",
        longitude=118.4,
        latitude=31.3,
        secrecy=True,
        attributes={"Address": "某路", "RegisterWay": "1"},
    )
    await store.apply_catalog(device.key, [item], complete=True, now=NOON)
    channel = await store.channel_by_gb(device.key, item.gb_id)
    assert channel is not None
    assert (channel.kind, channel.secrecy, channel.ptz_type) == (ItemKind.CAMERA, True, "1")
    assert (channel.civil_code, channel.longitude, channel.latitude) == ("340200", 118.4, 31.3)
    assert (channel.manufacturer, channel.model) == ("厂", "型")
    assert dict(channel.attributes) == {"Address": "某路", "RegisterWay": "1"}


async def test_notified_states_change_one_channel(store: CatalogStore) -> None:
    device = await provision(store, 118)
    item = camera(501)
    await store.apply_catalog(device.key, [item], complete=True, now=NOON)
    changed = await store.set_channel_online(device.key, item.gb_id, False)
    assert changed is not None
    assert changed.item_online is False
    assert await store.set_channel_online(device.key, item.gb_id, False) is None
    assert await store.set_channel_online(device.key, fresh_gb(131), False) is None
    # The state was not the catalogue's: the next answer sets it right.
    await store.apply_catalog(device.key, [item], complete=True, now=NOON)
    channel = await store.channel(changed.key)
    assert channel is not None
    assert channel.item_online is True


async def test_no_address_code_in_any_text_of_a_value(store: CatalogStore) -> None:
    device = await provision(store, 132)
    await store.bind(device.key, binding(NOON))
    (channel,) = await channels_of(store, device)
    present = await store.device(device.key)
    for value in (channel, present):
        assert device.gb_id.value not in repr(value)
        assert device.gb_id.value not in str(value)


def test_the_key_file_is_made_once_and_private(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("keys") / "inner" / "catalog.key"
    sealed = SecretBox.open_file(path).seal("geheim", context="dev_1")
    assert SecretBox.open_file(path).open(sealed, context="dev_1") == "geheim"
    assert os.stat(path).st_mode & 0o777 == 0o600
