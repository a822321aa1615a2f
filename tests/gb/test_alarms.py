"""Alarms, snapshots and upgrades: what devices tell, kept, labelled, answered, and brought to an end."""

from __future__ import annotations

import itertools

import pytest

from catalog.events import AlarmRaised, OrderEnded, UploadRequested
from catalog.model import ListedItem
from catalog.orders import Snapshot
from sipserver.protocol import alarm_types, gbtime, manscdp
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    Alarm,
    AlarmInfo,
    AlarmResponse,
    AlarmTypeParameter,
    DeviceConfig,
    DeviceControl,
    Message,
    SnapshotFinished,
    Unknown,
    UpgradeResult,
    VideoUploadNotify,
)
from sipserver.protocol.quirks import SWITCHES, checked, detect
from sipserver.queries import QueryError
from tests.gb.editions import asked, obeys, of_edition
from tests.gb.harness import CAMERA, RECORDER, START, FakeDevice, World, settle
from tests.gb.office import Office, office
from tests.gb.stores import any_channel

CHANNEL = GbId("34020000001310000001")
INPUT = GbId("34020000001340000001")
CENTRE = GbId("3402000000")


async def scene(world: World, version: str = "3.0") -> tuple[Office, DeviceKey, FakeDevice]:
    desk = office(world)
    key, device = await of_edition(world, version)
    world.store.catalogs[key] = {CHANNEL: ListedItem(gb_id=CHANNEL, name="c"), INPUT: ListedItem(gb_id=INPUT, name="i")}
    return desk, key, device


async def tell(device: FakeDevice, message: Message) -> None:
    assert (await device.exchange(message)).status == 200
    await settle()


def alarm(
    method: int = 5, kind: int | None = None, *, sn: int = 1, gb_id: GbId = CHANNEL, event: int | None = None
) -> Alarm:
    parameter = AlarmTypeParameter(event_type=event) if event else None
    info = AlarmInfo(alarm_type=kind, parameter=parameter) if kind else None
    return Alarm(sn=sn, device_id=gb_id, priority=1, method=method, time=START, info=info)


async def test_ALM_01_an_alarm_gets_200_and_its_response(world: World) -> None:
    _, _, device = await scene(world)
    answer = await device.exchange(alarm(sn=55))
    assert (answer.status, answer.body) == (200, b"")
    await settle()
    assert device.asked == [AlarmResponse(sn=55, device_id=CHANNEL, result=True)]


KNOWN = [
    (method, kind, event)
    for method in alarm_types.METHODS
    for kind in (None, *alarm_types.TYPES.get(method, {}))
    for event in ((None, 1, 2) if (method, kind) == (5, 6) else (None,))
]


@pytest.mark.parametrize(("method", "kind", "event"), KNOWN)
async def test_ALM_02_every_method_type_and_event_is_kept_and_labelled(
    world: World, method: int, kind: int | None, event: int | None
) -> None:
    desk, _, device = await scene(world)
    await tell(device, alarm(method, kind, event=event))
    (entry,) = desk.alarms.entries
    assert (entry.report.method, entry.report.kind, entry.report.event, entry.report.valid) == (
        method,
        kind,
        event,
        True,
    )
    assert entry.report.label != "未知报警"
    raised = next(event for event in world.published if isinstance(event, AlarmRaised))
    assert raised.label == entry.report.label


def test_ALM_02_labels_tell_combinations_apart() -> None:
    labels = [alarm_types.label(*combination) for combination in KNOWN]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(("method", "kind"), [(5, 99), (9, None), (1, 1)])
async def test_ALM_03_unknown_combinations_are_kept_and_flagged(world: World, method: int, kind: int | None) -> None:
    desk, _, device = await scene(world)
    await tell(device, alarm(method, kind))
    (entry,) = desk.alarms.entries
    assert (entry.report.method, entry.report.kind, entry.report.valid) == (method, kind, False)


@pytest.mark.parametrize("automatic", [True, False])
async def test_ALM_04_reset_after_a_device_alarm(world: World, automatic: bool) -> None:
    desk, key, device = await scene(world)
    obeys(device)
    await world.sessions.profiles.choose(key, {"alarm_reset": automatic})
    await tell(device, alarm(2, 2, gb_id=INPUT))
    resets = [m for m in device.asked if isinstance(m, DeviceControl) and m.alarm == "ResetAlarm"]
    assert len(resets) == int(automatic)
    if not automatic:
        await world.sessions.controls.reset_alarm(key, target=INPUT, methods=(2,), kind=2)
        assert asked(device, DeviceControl).info == AlarmInfo(alarm_method="2", alarm_type=2)
    world.clock.advance(60)
    await tell(device, alarm(2, 2, gb_id=INPUT, sn=2))
    assert len(desk.alarms.entries) == 2


@pytest.mark.parametrize(
    ("gb_id", "source", "mapped"),
    [(CHANNEL, "channel", True), (CAMERA, "device", False), (INPUT, "input", True), (CENTRE, "centre", False)],
)
async def test_ALM_05_what_gave_the_alarm(world: World, gb_id: GbId, source: str, mapped: bool) -> None:
    desk, key, device = await scene(world)
    await tell(device, alarm(gb_id=gb_id))
    report = desk.alarms.entries[0].report
    assert (report.device, report.source, report.channel is not None) == (key, source, mapped)


async def test_ALM_06_interested_parties_are_told_each_on_its_own(world: World) -> None:
    desk, _, device = await scene(world)
    good_key, good = await of_edition(world, "3.0", RECORDER, ("198.51.100.8", 5060))
    bad_key, bad = await of_edition(world, "3.0", GbId("34020000002000000009"), ("198.51.100.9", 5060))
    for key in (good_key, bad_key):
        await world.sessions.profiles.choose(key, {"alarm_target": True})
    good.script = lambda message: (AlarmResponse(sn=message.sn, device_id=CHANNEL),)
    await tell(device, alarm(5, 6, event=1))
    for party in (good, bad):
        told = asked(party, Alarm)
        assert (told.device_id, told.method, told.info) == (
            CHANNEL,
            5,
            AlarmInfo(alarm_type=6, parameter=AlarmTypeParameter(event_type=1)),
        )
    await world.pass_time(10)
    assert (desk.desk.counters["forwarded"], desk.desk.counters["forward_failed"]) == (1, 1)


async def test_ALM_07_the_least_an_alarm_may_say(world: World) -> None:
    desk, _, device = await scene(world)
    body = (
        f"<?xml version='1.0'?><Notify><CmdType>Alarm</CmdType><SN>1</SN><DeviceID>{CHANNEL.value}</DeviceID>"
        "<AlarmPriority>4</AlarmPriority><AlarmMethod>7</AlarmMethod></Notify>"
    )
    assert (await device.exchange(body.encode())).status == 200
    await settle()
    report = desk.alarms.entries[0].report
    assert (report.priority, report.method, report.at) == (4, 7, world.clock())


async def test_equal_alarms_are_one_until_it_is_acknowledged(world: World) -> None:
    desk, _, device = await scene(world)
    for sn in range(1, 4):
        await tell(device, alarm(5, 2, sn=sn))
    (entry,) = desk.alarms.entries
    assert entry.count == 3
    assert len([event for event in world.published if isinstance(event, AlarmRaised)]) == 1
    await desk.alarms.acknowledge(entry.key, by="usr", note=None, now=world.clock())
    await tell(device, alarm(5, 2, sn=9))
    assert len(desk.alarms.entries) == 2


async def test_a_gps_alarm_moves_the_object(world: World) -> None:
    desk, key, device = await scene(world)
    await tell(device, Alarm(sn=1, device_id=CHANNEL, priority=4, method=4, time=START, longitude=118, latitude=31))
    fix = await desk.positions.latest(key, CHANNEL)
    assert fix is not None
    assert (fix.longitude, fix.latitude) == (118, 31)


async def test_positions_out_of_this_world_are_not_kept(world: World) -> None:
    desk, _, device = await scene(world)
    await tell(device, Alarm(sn=1, device_id=CHANNEL, priority=4, method=4, time=START, longitude=918, latitude=31))
    assert desk.positions.fixes == []


async def test_arming_after_registration_is_a_switch(world: World) -> None:
    office(world)
    key = world.store.add(CAMERA)
    await world.sessions.profiles.choose(key, {"arm_on_register": True})
    _, device = await of_edition(world)
    await settle()
    assert asked(device, DeviceControl).guard == "SetGuard"


async def test_a_request_to_fetch_video_is_told(world: World) -> None:
    _, key, device = await scene(world)
    await tell(device, VideoUploadNotify(sn=1, device_id=CHANNEL, time=START))
    (event,) = [event for event in world.published if isinstance(event, UploadRequested)]
    assert event.device == key
    assert event.channel is not None


# snapshots

_names = itertools.count(1)


async def ordered(world: World) -> tuple[Office, FakeDevice, str, str]:
    """An order of three pictures: (office, device, key of the order, session)."""
    desk, key, device = await scene(world)
    obeys(device)
    order = await desk.orders.snapshot(
        key, any_channel(), CHANNEL, count=3, interval=1, base="http://192.0.2.1/api/v1/snapshot-uploads"
    )
    return desk, device, order.key, order.session


async def upload(desk: Office, order: str, session: str, count: int = 1) -> None:
    for _ in range(count):
        number = next(_names)
        picture = Snapshot(
            key=f"pic_{number}",
            file_id=f"f{number}",
            taken_at=None,
            received_at=START,
            media_type="image/jpeg",
            size=3,
            sha256=bytes(32),
        )
        assert await desk.stored.keep(order, picture, limit=5)
        await desk.orders.look(session)


def ended(world: World) -> list[str]:
    return [event.state for event in world.published if isinstance(event, OrderEnded)]


async def test_SNP_01_order_upload_finished(world: World) -> None:
    desk, device, order, session = await ordered(world)
    config = asked(device, DeviceConfig).snapshot
    assert config is not None
    assert (config.count, config.interval, config.session) == (3, 1, session)
    assert (config.url or "").startswith("http://192.0.2.1/api/v1/snapshot-uploads/")
    assert 32 <= len(session) <= 128
    await upload(desk, order, session, 3)
    assert ended(world) == []
    await tell(device, SnapshotFinished(sn=1, device_id=CHANNEL, session=session, files=("a", "b", "c")))
    assert ended(world) == ["done"]
    assert desk.stored.rows[order].files == ("a", "b", "c")


async def test_SNP_02_fewer_ids_are_a_partial_failure(world: World) -> None:
    desk, device, order, session = await ordered(world)
    await upload(desk, order, session, 2)
    await tell(device, SnapshotFinished(sn=1, device_id=CHANNEL, session=session, files=("a", "b")))
    assert ended(world) == ["partial"]
    assert desk.stored.rows[order].reason == "fewer_than_ordered"


async def test_SNP_05_finished_before_the_upload(world: World) -> None:
    desk, device, order, session = await ordered(world)
    await tell(device, SnapshotFinished(sn=1, device_id=CHANNEL, session=session, files=("a", "b", "c")))
    assert ended(world) == []
    await upload(desk, order, session, 3)
    assert ended(world) == ["done"]


async def test_SNP_05_pictures_that_never_come_end_the_order_by_time(world: World) -> None:
    desk, _, order, session = await ordered(world)
    await upload(desk, order, session, 1)
    await world.pass_time(601)
    assert ended(world) == ["partial"]


async def test_an_order_the_device_refuses_has_failed(world: World) -> None:
    desk, key, device = await scene(world)
    obeys(device, result=False)
    with pytest.raises(QueryError):
        await desk.orders.snapshot(key, any_channel(), CHANNEL, count=1, interval=1, base="http://192.0.2.1")
    (order,) = desk.stored.rows.values()
    assert (order.state, order.reason) == ("failed", "device_error")


# upgrades


async def upgraded(world: World) -> tuple[Office, FakeDevice, str]:
    desk, key, device = await scene(world)
    obeys(device)
    order = await desk.orders.upgrade(key, firmware="V2", url="http://192.0.2.1/fw.bin", manufacturer="M")
    return desk, device, order.session


async def test_CTL_13_upgrade_through_an_offline_phase(world: World) -> None:
    _, device, session = await upgraded(world)
    control = asked(device, DeviceControl)
    assert control.upgrade is not None
    assert control.upgrade.session == session
    assert 32 <= len(session) <= 128
    assert session.isalnum()
    await world.pass_time(200)  # three heartbeats missed: offline
    assert world.bindings.by_gb(CAMERA) is None
    device.responses.clear()
    await device.register(headers=(("X-GB-Ver", "3.0"),))
    device.responses.clear()
    await tell(device, UpgradeResult(sn=1, device_id=CAMERA, session=session, ok=True, firmware="V2"))
    assert ended(world) == ["done"]


async def test_CTL_14_failure_with_its_reason(world: World) -> None:
    desk, device, session = await upgraded(world)
    await tell(device, UpgradeResult(sn=1, device_id=CAMERA, session=session, ok=False, firmware="V1", failure="02"))
    (order,) = desk.stored.rows.values()
    assert (order.state, order.reason, order.firmware) == ("failed", "package_damaged", "V1")


async def test_UPG_01_result_of_another_session_is_ignored(world: World) -> None:
    desk, device, session = await upgraded(world)
    await tell(device, UpgradeResult(sn=1, device_id=CAMERA, session="x" * 40, ok=True, firmware="V2"))
    other_key, other = await of_edition(world, "3.0", RECORDER, ("198.51.100.8", 5060))
    await tell(other, UpgradeResult(sn=1, device_id=RECORDER, session=session, ok=True, firmware="V2"))
    assert ended(world) == []
    assert other_key != next(iter(desk.stored.rows.values())).device


async def test_an_upgrade_without_result_ends_after_an_hour(world: World) -> None:
    await upgraded(world)
    await world.pass_time(3601)
    assert ended(world) == ["failed"]


# profiles


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_every_switch_takes_its_choices_and_nothing_else(name: str) -> None:
    switch = SWITCHES[name]
    good = [switch.default, *switch.choices]
    for value in good:
        assert checked({name: value}) == {name: value}
    bad: object
    for bad in (None, "no such word", -1, 10**9, 1.5):
        if bad not in good:
            with pytest.raises(KeyError):
                checked({name: bad})
    assert switch.purpose.endswith(".")
    assert switch.source


@pytest.mark.parametrize(
    ("maker", "found"),
    [
        ("HIKVISION", {"record_slice_hours": 12}),
        ("海康威视", {"record_slice_hours": 12}),
        ("UNIVIEW", {"config_answer": False}),
        ("Dahua", {}),
        (None, {}),
    ],
)
async def test_makers_are_recognised_and_an_operator_overrules(world: World, maker: str | None, found: object) -> None:
    assert detect(maker) == found
    key = world.store.add(CAMERA)
    await world.sessions.profiles.noticed(key, maker)
    await world.sessions.profiles.choose(key, {"record_slice_hours": 3})
    assert world.sessions.profiles.of(key).number("record_slice_hours") == 3
    await world.sessions.profiles.noticed(key, maker)
    assert world.sessions.profiles.of(key).number("record_slice_hours") == 3


async def test_channel_in_request_uri_is_a_switch(world: World) -> None:
    key, device = await of_edition(world)
    device.script = _status
    await world.sessions.profiles.choose(key, {"channel_in_uri": True})
    await world.sessions.inquiries.status(key, target=CHANNEL)
    assert device.requests[-1].uri.user == CHANNEL.value
    assert device.requests[-1].to.uri.user == CHANNEL.value


@pytest.mark.parametrize("label", ["GB2312", "GB18030", "UTF-8"])
async def test_charset_is_a_switch(world: World, label: str) -> None:
    key, device = await of_edition(world)
    device.script = _status
    await world.sessions.profiles.choose(key, {"charset": label})
    await world.sessions.inquiries.status(key)
    assert f'encoding="{label}"'.encode() in device.requests[-1].body


async def test_edition_is_a_switch(world: World) -> None:
    key, device = await of_edition(world, None)
    await world.sessions.profiles.choose(key, {"edition": "3.0"})
    await world.sessions.controls.key_frame(key, CHANNEL)
    assert asked(device, DeviceControl).iframe == "Send"


def _status(message: Message | Unknown) -> tuple[Message, ...]:
    return (manscdp.DeviceStatusResponse(sn=message.sn, device_id=CAMERA),)


# time


async def test_TIM_01_beijing_time_without_a_zone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert gbtime.format_date_header(START) == "2023-11-15T06:13:20.000"
    device = world.device()
    world.store.add(CAMERA)
    _, accepted = await device.register()
    assert accepted.headers.get("Date") == "2023-11-15T06:13:20.000"
