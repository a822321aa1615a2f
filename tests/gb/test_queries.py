"""Questions to devices and their answers: info, status, recordings, catalogue, controls (§9.3, §9.5, §9.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from catalog.events import CatalogProgress, CatalogSynced
from catalog.model import CatalogChange, DeviceInfo
from catalog.store import CatalogTooLargeError
from sipserver.presence import SessionConfig
from sipserver.protocol import manscdp
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    AlarmDuty,
    CatalogInfo,
    CatalogItem,
    CatalogQuery,
    CatalogResponse,
    DeviceControl,
    DeviceControlResponse,
    DeviceInfoQuery,
    DeviceInfoResponse,
    DeviceStatusResponse,
    Message,
    RecordInfoQuery,
    RecordInfoResponse,
    RecordItem,
    Unknown,
)
from sipserver.protocol.ptz import STOP, Move
from sipserver.queries import QueryError
from tests.gb.harness import CAMERA, PLATFORM, RECORDER, START, FakeDevice, World, settle

MakeWorld = Callable[..., World]
T = TypeVar("T")


def channel(number: int) -> GbId:
    return GbId(f"3402000000131{number:07d}")


def item(number: int, **more: Any) -> CatalogItem:
    return CatalogItem(device_id=channel(number), name=f"Channel {number}", online=True, **more)


async def start(work: Awaitable[T]) -> asyncio.Future[T]:
    """Begin a question and let it travel."""
    task = asyncio.ensure_future(work)
    await settle()
    return task


def sn_of(device: FakeDevice) -> int:
    return device.asked[-1].sn


def part(sn: int, items: Iterable[CatalogItem], total: int | None) -> CatalogResponse:
    return CatalogResponse(sn=sn, device_id=RECORDER, sum_num=total, items=tuple(items))


async def recorder(world: World) -> tuple[DeviceKey, FakeDevice]:
    return await world.registered(RECORDER, remote=("198.51.100.8", 5060))


async def test_QRY_01_XML_01_device_info_is_stored(world: World) -> None:
    key, device = await world.registered()

    def script(message: Message | Unknown) -> Sequence[Message]:
        assert isinstance(message, DeviceInfoQuery)
        assert message.device_id == CAMERA
        return (
            DeviceInfoResponse(
                sn=message.sn, device_id=CAMERA, name="Gate", manufacturer="HIK", model="DS", firmware="V5", channels=4
            ),
        )

    device.script = script
    answer = await world.sessions.query_device_info(key)
    assert answer.model == "DS"
    assert world.store.devices[key].info == DeviceInfo(
        manufacturer="HIK", model="DS", firmware="V5", channel_count=4, device_name="Gate"
    )
    assert device.requests[0].headers.get("Content-Type") == "Application/MANSCDP+xml"
    assert device.requests[0].to.uri.user == CAMERA.value


async def test_QRY_01_answer_may_overtake_the_200(world: World) -> None:
    key, device = await world.registered()
    device.answer_first = True
    device.script = lambda message: (DeviceInfoResponse(sn=message.sn, device_id=CAMERA, model="fast"),)
    assert (await world.sessions.query_device_info(key)).model == "fast"


@pytest.mark.parametrize("duty", ["DutyStatus", "StatusDutyStatus", "Status"])
@pytest.mark.parametrize("attribute", ["Num", "num"])
async def test_QRY_02_QRY_03_device_status(world: World, duty: str, attribute: str) -> None:
    key, device = await world.registered()
    device.script = lambda message: (
        f"""<?xml version="1.0"?><Response><CmdType>DeviceStatus</CmdType><SN>{message.sn}</SN>
        <DeviceID>{CAMERA.value}</DeviceID><Result>OK</Result><Online>ONLINE</Online><Status>OK</Status>
        <DeviceTime>2023-11-15T06:13:20</DeviceTime><Encode>ON</Encode><Record>OFF</Record>
        <Alarmstatus {attribute}="1"><Item><DeviceID>{channel(1).value}</DeviceID><{duty}>ALARM</{duty}></Item>
        </Alarmstatus></Response>""".encode(),
    )
    status = await world.sessions.device_status(key)
    assert (status.online, status.ok, status.encode, status.record) == (True, True, True, False)
    assert status.device_time == START
    assert status.alarms == (AlarmDuty(device_id=channel(1), duty="ALARM"),)


async def test_QRY_15_no_business_answer_times_out_within_ten_seconds(world: World) -> None:
    key, device = await world.registered()
    asked = await start(world.sessions.device_status(key))
    await world.pass_time(9)
    assert not asked.done()
    await world.pass_time(1)
    with pytest.raises(QueryError, match="no_answer"):
        await asked
    late = DeviceStatusResponse(sn=sn_of(device), device_id=CAMERA, online=True)
    assert (await device.exchange(late)).status == 200


async def test_QRY_15_silent_device_and_refusing_device(world: World) -> None:
    key, device = await world.registered()
    device.sip_status = 404
    with pytest.raises(QueryError) as refused:
        await world.sessions.device_status(key)
    assert (refused.value.code, refused.value.status) == ("refused", 404)
    device.sip_status = None
    silent = await start(world.sessions.device_status(key))
    await world.pass_time(10)
    with pytest.raises(QueryError, match="no_answer"):
        await silent


async def test_QRY_15_device_that_goes_away_ends_its_questions(world: World) -> None:
    key, device = await world.registered(RECORDER, connection=3)
    asked: list[asyncio.Future[Any]] = [
        await start(world.sessions.device_status(key)),
        await start(world.sessions.sync_catalog(key)),
        await start(world.sessions.record_info(key, channel(1), start=START, end=START + 60)),
    ]
    world.sessions.connection_lost(device.flow)
    for question in asked:
        with pytest.raises(QueryError, match="device_offline"):
            await question
    with pytest.raises(QueryError, match="device_offline"):
        await world.sessions.device_status(key)


async def test_QRY_16_error_result_carries_the_reason(world: World) -> None:
    key, device = await world.registered()
    device.script = lambda message: (
        DeviceStatusResponse(sn=message.sn, device_id=CAMERA, result=False, reason="not supported"),
    )
    with pytest.raises(QueryError) as failed:
        await world.sessions.device_status(key)
    assert (failed.value.code, failed.value.text) == ("device_error", "not supported")


async def test_answers_of_one_device_do_not_fit_questions_to_another(world: World) -> None:
    key, camera = await world.registered()
    _, other = await recorder(world)
    asked = await start(world.sessions.device_status(key))
    await other.exchange(DeviceStatusResponse(sn=sn_of(camera), device_id=CAMERA, online=False))
    assert not asked.done()
    await camera.exchange(DeviceStatusResponse(sn=sn_of(camera), device_id=CAMERA, online=True))
    assert (await asked).online is True


def recording(number: int) -> RecordItem:
    return RecordItem(
        device_id=channel(1), name="r", start_time=START + 60 * number, end_time=START + 60 * number + 59, type="time"
    )


async def test_QRY_05_QRY_07_records_in_thirty_parts(world: World) -> None:
    key, device = await recorder(world)

    def script(message: Message | Unknown) -> Iterable[Message]:
        assert isinstance(message, RecordInfoQuery)
        assert (message.type, message.start_time) == ("all", START)
        numbers = list(range(3000))
        parts = [numbers[at : at + 100] for at in range(0, 3000, 100)]
        for chosen in [parts[7], *reversed(parts)]:
            yield RecordInfoResponse(
                sn=message.sn,
                device_id=channel(1),
                name="r",
                sum_num=3000,
                items=tuple(recording(number) for number in chosen),
            )

    device.script = script
    found = await world.sessions.record_info(key, channel(1), start=START, end=START + 200_000)
    assert found.complete
    assert found.items == tuple(recording(number) for number in range(3000))


async def test_QRY_06_no_records_is_an_empty_answer(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (RecordInfoResponse(sn=message.sn, device_id=channel(1), name="", sum_num=0),)
    found = await world.sessions.record_info(key, channel(1), start=START, end=START + 60)
    assert (found.items, found.complete) == ((), True)


async def test_QRY_05_lost_part_gives_what_came(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (
        RecordInfoResponse(sn=message.sn, device_id=channel(1), sum_num=4, items=(recording(2), recording(1))),
    )
    asked = await start(world.sessions.record_info(key, channel(1), start=START, end=START + 60))
    await world.pass_time(6)
    found = await asked
    assert (found.items, found.complete) == ((recording(1), recording(2)), False)


async def test_CAT_01_query_form(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (part(message.sn, [item(1)], 1),)
    await world.sessions.sync_catalog(key)
    query = device.asked[0]
    assert query == CatalogQuery(sn=query.sn, device_id=RECORDER)
    assert query.sn >= 1
    assert device.requests[0].from_.uri.user == PLATFORM.value
    assert b"StartTime" not in device.requests[0].body


async def test_CAT_02_three_parts_make_one_result(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (
        part(message.sn, [item(1), item(2)], 6),
        part(message.sn, [item(3), item(4)], 6),
        part(message.sn, [item(5), item(6)], 6),
    )
    result = await world.sessions.sync_catalog(key)
    assert (result.complete, result.received, result.total) == (True, 6, 6)
    assert result.change.added == 6
    assert [event for event in world.published if isinstance(event, CatalogProgress)] == [
        CatalogProgress(device=key, at=START, received=2, expected=6),
        CatalogProgress(device=key, at=START, received=4, expected=6),
    ]
    assert world.events(CatalogSynced) == [
        CatalogSynced(device=key, at=START, complete=True, total=6, added=6, changed=0, removed=0)
    ]


async def test_CAT_03_shuffled_and_doubled_parts(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (
        part(message.sn, [item(5), item(6)], 6),
        part(message.sn, [item(1), item(2)], 6),
        part(message.sn, [item(5), item(6)], 6),
        part(message.sn, [item(3), item(4)], 6),
    )
    result = await world.sessions.sync_catalog(key)
    assert (result.complete, result.received) == (True, 6)
    assert set(world.store.catalogs[key]) == {channel(number) for number in range(1, 7)}


async def test_CAT_04_missing_part_deletes_nothing(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (part(message.sn, [item(1), item(2), item(3)], 3),)
    await world.sessions.sync_catalog(key)
    device.script = lambda message: (part(message.sn, [item(1), item(9)], 3),)
    asked = await start(world.sessions.sync_catalog(key))
    await world.pass_time(11)
    result = await asked
    assert (result.complete, result.reason, result.received) == (False, "idle", 2)
    assert set(world.store.catalogs[key]) == {channel(1), channel(2), channel(3), channel(9)}


async def test_CAT_05_empty_answer_is_complete(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (part(message.sn, [], 0),)
    result = await world.sessions.sync_catalog(key)
    assert (result.complete, result.received) == (True, 0)


async def test_CAT_05_channels_that_are_gone_go_after_the_settling_time(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (part(message.sn, [item(1), item(2), item(3)], 3),)
    await world.sessions.sync_catalog(key)
    device.script = lambda message: (part(message.sn, [item(2)], 1),)
    asked = await start(world.sessions.sync_catalog(key))
    assert not asked.done()
    await world.pass_time(5)
    assert (await asked).complete
    assert set(world.store.catalogs[key]) == {channel(2)}


async def test_CAT_06_size_of_the_part_announced_as_the_whole(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (part(message.sn, [item(1), item(2), item(3)], 3),)
    await world.sessions.sync_catalog(key)
    device.script = lambda message: [part(message.sn, [item(number)], 1) for number in (1, 2, 3)]
    asked = await start(world.sessions.sync_catalog(key))
    await world.pass_time(6)
    result = await asked
    assert (result.complete, result.reason, result.received) == (False, "inconsistent", 3)
    assert set(world.store.catalogs[key]) == {channel(1), channel(2), channel(3)}


async def test_CAT_07_late_part_does_not_wipe(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (part(message.sn, [item(1), item(2), item(3)], 3),)
    await world.sessions.sync_catalog(key)
    assert (await device.exchange(part(sn_of(device), [item(2)], 1))).status == 200
    await settle()
    assert set(world.store.catalogs[key]) == {channel(1), channel(2), channel(3)}
    assert world.store.calls[-1] == "apply_catalog complete=False"
    assert (await device.exchange(part(sn_of(device) + 77, [item(9)], 1))).status == 200
    await settle()
    assert channel(9) not in world.store.catalogs[key]


async def test_CAT_08_every_field_reaches_the_store(world: World) -> None:
    key, device = await recorder(world)
    full = item(
        1,
        manufacturer="M",
        model="X",
        civil_code="340200",
        address="Road 1",
        parents=(RECORDER, GbId("34020000002160000001")),
        secrecy=True,
        password="item-secret",
        port=5060,
        longitude=118.5,
        latitude=31.25,
        business_group_id=GbId("34020000002150000001"),
        info=CatalogInfo(
            ptz_type="1", resolution="6", stream_number_list="0/1", install_time=START, record_save_days=90
        ),
    )
    device.script = lambda message: (part(message.sn, [full], 1),)
    await world.sessions.sync_catalog(key)
    kept = world.store.catalogs[key][channel(1)]
    assert kept.parents == full.parents
    assert (kept.business_group, kept.civil_code, kept.ptz_type) == (full.business_group_id, "340200", "1")
    assert (kept.manufacturer, kept.model, kept.secrecy, kept.longitude) == ("M", "X", True, 118.5)
    assert kept.attributes == {
        "Address": "Road 1",
        "Port": "5060",
        "Resolution": "6",
        "StreamNumberList": "0/1",
        "InstallTime": "2023-11-15T06:13:20",
        "RecordSaveDays": "90",
    }


async def test_CAT_09_item_of_2016(world: World) -> None:
    key, device = await recorder(world)
    device.script = lambda message: (
        f"""<Response><CmdType>Catalog</CmdType><SN>{message.sn}</SN><DeviceID>{RECORDER.value}</DeviceID>
        <SumNum>1</SumNum><DeviceList Num="1"><Item><DeviceID>{channel(1).value}</DeviceID><Name>n</Name>
        <Owner>Owner</Owner><SafetyWay>0</SafetyWay><CertNum>77</CertNum><Certifiable>1</Certifiable>
        <Parental>65535</Parental><Status>ONLINE</Status>
        <Info><PTZType>3</PTZType><BusinessGroupID>34020000002150000001</BusinessGroupID></Info>
        </Item></DeviceList></Response>""".encode(),
    )
    await world.sessions.sync_catalog(key)
    kept = world.store.catalogs[key][channel(1)]
    assert kept.business_group == GbId("34020000002150000001")
    assert (kept.parental, kept.online) == (True, True)
    assert kept.attributes == {"Owner": "Owner", "SafetyWay": "0", "CertNum": "77", "Certifiable": "1"}


async def test_CAT_16_one_silent_device_does_not_block_the_others(world: World) -> None:
    devices = []
    for number in range(20):
        gb_id = GbId(f"340200000011800{number:05d}")
        devices.append(await world.registered(gb_id, remote=(f"198.51.100.{number + 20}", 5060)))
    for _, device in devices[1:]:
        device.script = lambda message: (part(message.sn, [item(1)], 1),)
    tasks = [asyncio.ensure_future(world.sessions.sync_catalog(key)) for key, _ in devices]
    await settle(300)
    assert [task.done() for task in tasks] == [False] + [True] * 19
    await world.pass_time(61)
    with pytest.raises(QueryError, match="no_answer"):
        await tasks[0]


async def test_two_callers_share_one_synchronisation(world: World) -> None:
    key, device = await recorder(world)
    first = await start(world.sessions.sync_catalog(key))
    second = await start(world.sessions.sync_catalog(key))
    assert len(device.asked) == 1
    await device.exchange(part(sn_of(device), [item(1)], 1))
    assert await first == await second


async def test_controls_with_and_without_answer(world: World) -> None:
    key, device = await world.registered()
    await world.sessions.controls.command(key, channel(1), Move(pan=-1, pan_speed=0x1F))
    await world.sessions.controls.command(key, channel(1), STOP)
    sent = [message for message in device.asked if isinstance(message, DeviceControl)]
    assert [message.ptz for message in sent] == ["A50F00021F0000D5", "A50F0000000000B4"]
    assert all(message.device_id == channel(1) for message in sent)
    device.script = lambda message: (DeviceControlResponse(sn=message.sn, device_id=CAMERA, result=False),)
    with pytest.raises(QueryError, match="device_error"):
        await world.sessions.control(key, DeviceControl(device_id=CAMERA, guard="SetGuard"))


@pytest.mark.parametrize(("version", "spelling"), [(None, b"IFameCmd"), ("2.0", b"IFameCmd"), ("3.0", b"IFrameCmd")])
async def test_REG_07_key_frame_and_charset_follow_the_version(
    world: World, version: str | None, spelling: bytes
) -> None:
    key = world.store.add(CAMERA)
    device = world.device()
    await device.register(headers=(("X-GB-Ver", version),) if version else ())
    await world.sessions.request_key_frame(key, channel(1))
    body = device.requests[0].body
    assert b"<" + spelling + b">Send<" in body
    assert (b'encoding="GB18030"' in body) == (version == "3.0")
    assert manscdp.parse(body) == device.asked[0]


async def test_catalogue_beyond_the_store_limit_is_an_error_of_the_device(world: World) -> None:
    key, device = await recorder(world)

    async def too_large(*arguments: object, **more: object) -> CatalogChange:
        raise CatalogTooLargeError("too large")

    world.store.apply_catalog = too_large  # type: ignore[method-assign]
    device.script = lambda message: (part(message.sn, [item(1)], 1),)
    with pytest.raises(QueryError) as failed:
        await world.sessions.sync_catalog(key)
    assert (failed.value.code, failed.value.text) == ("device_error", "catalogue_too_large")


async def test_a_failing_tick_is_logged_and_the_ticking_goes_on(make_world: MakeWorld) -> None:
    world = make_world(sessions=SessionConfig(tick_interval=0, query_on_register=False))
    ticked = asyncio.Event()
    calls: list[float] = []

    async def tick(now: float) -> None:
        calls.append(now)
        if len(calls) == 1:
            raise ZeroDivisionError
        ticked.set()

    world.sessions.tick = tick  # type: ignore[method-assign]
    with capture_logs() as lines:
        running = asyncio.ensure_future(world.sessions.run())
        async with asyncio.timeout(10):
            await ticked.wait()
        running.cancel()
        await asyncio.wait([running])
    failures = [line for line in lines if line["event"] == "device_task_failed"]
    assert [line["error"] for line in failures] == ["ZeroDivisionError"]
