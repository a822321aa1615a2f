"""The queries of annex A.2.4 that have one answer or a short one: form by edition, merging, tolerance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sipserver.inquiries import MAX_SLICES, RecordFilter, slices
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import (
    AlarmQuery,
    AlarmReport,
    AlarmResponse,
    BasicParam,
    ConfigDownloadQuery,
    ConfigDownloadResponse,
    CruisePoint,
    CruiseTrack,
    CruiseTrackListQuery,
    CruiseTrackListResponse,
    CruiseTrackQuery,
    CruiseTrackResponse,
    HomePosition,
    Message,
    MobilePositionQuery,
    Preset,
    PresetQuery,
    PresetResponse,
    PtzPositionResponse,
    RecordInfoQuery,
    RecordInfoResponse,
    RecordItem,
    SdCard,
    SdCardResponse,
    SnapShotConfig,
    Unknown,
    VideoParamOpt,
)
from sipserver.queries import QueryError
from tests.gb.editions import asked, body_of, of_edition
from tests.gb.harness import CAMERA, START, FakeDevice, World, settle

CHANNEL = GbId("34020000001310000001")
Script = Callable[[Message | Unknown], tuple[Message | bytes, ...]]


def response(cmd_type: str, inside: str) -> Script:
    """A script that answers any query with a body written by hand."""
    return lambda message: (
        f"<?xml version='1.0' encoding='GB2312'?><Response><CmdType>{cmd_type}</CmdType><SN>{message.sn}</SN>"
        f"<DeviceID>{CHANNEL.value}</DeviceID>{inside}</Response>".encode("gb18030"),
    )


ALL_FILTERS = RecordFilter(
    kind="alarm",
    file_path="/a",
    address="东门",
    secrecy=True,
    recorder="rec",
    indistinct=1,
    stream_number=1,
    alarm_methods=(2, 5),
    alarm_types=(6,),
)


@pytest.mark.parametrize("version", ["3.0", "2.0"])
async def test_QRY_04_record_filters_by_edition(world: World, version: str) -> None:
    key, device = await of_edition(world, version)
    device.script = lambda message: (RecordInfoResponse(sn=message.sn, device_id=CHANNEL, sum_num=0),)
    asking = asyncio.ensure_future(
        world.sessions.inquiries.records(key, CHANNEL, start=START, end=START + 60, wanted=ALL_FILTERS)
    )
    await settle()
    await world.pass_time(0.1)
    assert (await asking).items == ()
    text = body_of(device)
    names = ["StartTime", "EndTime", "FilePath", "Address", "Secrecy", "Type", "RecorderID", "IndistinctQuery"]
    if version == "3.0":
        names += ["StreamNumber", "AlarmMethod", "AlarmType"]
        assert "<AlarmMethod>2/5</AlarmMethod>" in text
    else:
        assert "StreamNumber" not in text
        assert "AlarmMethod" not in text
    places = [text.index(f"<{name}>") for name in names]
    assert places == sorted(places)


async def test_QRY_07_type_is_there_unless_the_profile_says_no(world: World) -> None:
    key, device = await of_edition(world)
    device.script = lambda message: (RecordInfoResponse(sn=message.sn, device_id=CHANNEL, sum_num=0),)
    for choice, there in (({}, True), ({"record_type": False}, False)):
        await world.sessions.profiles.choose(key, choice)
        asking = asyncio.ensure_future(world.sessions.record_info(key, CHANNEL, start=START, end=START + 60))
        await settle()
        await world.pass_time(0.1)
        await asking
        assert ("<Type>all</Type>" in body_of(device)) is there


def test_ranges_are_cut_into_slices() -> None:
    assert slices(0, 100, 0) == [(0, 100)]
    assert slices(0, 100, 100) == [(0, 100)]
    assert slices(0, 100, 40) == [(0, 40), (40, 80), (80, 100)]
    many = slices(0, 1e6, 1)
    assert len(many) <= MAX_SLICES
    assert (many[0][0], many[-1][1]) == (0, 1e6)


async def test_long_ranges_are_asked_for_in_pieces_of_twelve_hours(world: World) -> None:
    key, device = await of_edition(world)
    await world.sessions.profiles.choose(key, {"record_slice_hours": 12})

    def script(message: Message | Unknown) -> tuple[Message, ...]:
        assert isinstance(message, RecordInfoQuery)
        items = tuple(
            RecordItem(device_id=CHANNEL, name="r", start_time=at, end_time=at + 60)
            for at in (START, START + 12 * 3600, START + 30 * 3600)  # the middle one is in two slices
            if message.start_time is not None and message.end_time is not None
            if message.start_time <= at <= message.end_time
        )
        return (RecordInfoResponse(sn=message.sn, device_id=CHANNEL, sum_num=len(items), items=items),)

    device.script = script
    asking = asyncio.ensure_future(world.sessions.record_info(key, CHANNEL, start=START, end=START + 36 * 3600))
    for _ in range(4):
        await settle()
        await world.pass_time(0.1)
    found = await asking
    assert [item.start_time for item in found.items] == [START, START + 12 * 3600, START + 30 * 3600]
    queries = [message for message in device.asked if isinstance(message, RecordInfoQuery)]
    assert [(q.start_time, q.end_time) for q in queries] == [
        (START + 12 * 3600 * n, START + 12 * 3600 * (n + 1)) for n in range(3)
    ]


def config_answers(device: FakeDevice, *, split: bool) -> None:
    basic = BasicParam(name="Gate", expiration=3600, heartbeat_interval=60, heartbeat_count=3)
    options = VideoParamOpt(download_speed="1/2/4", resolution="5/6")

    def script(message: Message | Unknown) -> tuple[Message, ...]:
        def part(**blocks: object) -> Message:
            return ConfigDownloadResponse(sn=message.sn, device_id=CAMERA, **blocks)  # type: ignore[arg-type]

        return (
            (part(basic=basic), part(video_options=options)) if split else (part(basic=basic, video_options=options),)
        )

    device.script = script


@pytest.mark.parametrize("split", [True, False])
async def test_QRY_09_several_types_in_one_or_several_answers(world: World, split: bool) -> None:
    key, device = await of_edition(world)
    config_answers(device, split=split)
    found = await world.sessions.inquiries.config(key, ["BasicParam", "VideoParamOpt"])
    assert asked(device, ConfigDownloadQuery).config_type == "BasicParam/VideoParamOpt"
    assert sorted(found.blocks()) == ["BasicParam", "VideoParamOpt"]
    assert found.basic is not None
    assert found.basic.heartbeat_interval == 60


async def test_QRY_09_a_part_that_never_comes_ends_the_wait_with_what_came(world: World) -> None:
    key, device = await of_edition(world)
    device.script = lambda message: (
        ConfigDownloadResponse(sn=message.sn, device_id=CAMERA, basic=BasicParam(name="x")),
    )
    asking = asyncio.ensure_future(world.sessions.inquiries.config(key, ["BasicParam", "VideoParamOpt"]))
    await settle()
    assert not asking.done()
    await world.pass_time(3)
    assert sorted((await asking).blocks()) == ["BasicParam"]


@pytest.mark.parametrize("spelling", ["SnapShot", "SnapShotConfig"])
async def test_QRY_09_the_snapshot_block_has_two_names(world: World, spelling: str) -> None:
    key, device = await of_edition(world)
    device.script = response(
        "ConfigDownload", f"<Result>OK</Result><{spelling}><SnapNum>3</SnapNum><Interval>2</Interval></{spelling}>"
    )
    found = await world.sessions.inquiries.config(key, ["SnapShotConfig"])
    assert found.snapshot == SnapShotConfig(count=3, interval=2)


async def test_QRY_09_a_block_of_another_name_than_asked_is_taken(world: World) -> None:
    key, device = await of_edition(world)
    device.script = response(
        "ConfigDownload", "<Result>OK</Result><AlarmReport><MotionDetection>1</MotionDetection></AlarmReport>"
    )
    assert (await world.sessions.inquiries.config(key, ["OSDConfig"])).alarm_report == AlarmReport(motion=True)


async def test_ALM_12_alarm_report_is_written_and_read_back(world: World) -> None:
    from tests.gb.editions import obeys

    key, device = await of_edition(world)
    obeys(device)
    from sipserver.protocol.manscdp import DeviceConfig

    report = AlarmReport(motion=True, area=True)
    await world.sessions.controls.configure(key, DeviceConfig(alarm_report=report))
    written = asked(device, DeviceConfig).alarm_report
    device.script = lambda message: (ConfigDownloadResponse(sn=message.sn, device_id=CAMERA, alarm_report=written),)
    assert (await world.sessions.inquiries.config(key, ["AlarmReport"])).alarm_report == report


@pytest.mark.parametrize(
    ("version", "spelling"),
    [("3.0", "PresetQuery"), ("2.0", "PresetQuery"), (None, "PresetQuery"), ("1.1", "PersetQuery")],
)
async def test_QRY_10_presets_in_both_spellings(world: World, version: str | None, spelling: str) -> None:
    key, device = await of_edition(world, version)
    device.script = response(
        spelling,
        "<SumNum>3</SumNum><PresetList Num='3'>"
        + "".join(f"<Item><PresetID>{n}</PresetID><PresetName>点{n}</PresetName></Item>" for n in (1, 2, 3))
        + "</PresetList>",
    )
    found = await world.sessions.inquiries.presets(key, CHANNEL)
    assert found == tuple(Preset(number=n, name=f"点{n}") for n in (1, 2, 3))
    assert f"<CmdType>{spelling}</CmdType>" in body_of(device)
    assert isinstance(device.asked[-1], PresetQuery)


@pytest.mark.parametrize("inside", ["<SumNum>0</SumNum><PresetList Num='0'></PresetList>", "<PresetList Num='0'/>", ""])
async def test_QRY_10_no_presets(world: World, inside: str) -> None:
    key, device = await of_edition(world)
    device.script = response("PresetQuery", inside)
    assert await world.sessions.inquiries.presets(key, CHANNEL) == ()


async def test_QRY_10_presets_in_two_messages(world: World) -> None:
    key, device = await of_edition(world)
    device.script = lambda message: tuple(
        PresetResponse(sn=message.sn, device_id=CHANNEL, sum_num=2, presets=(Preset(number=n, name="p"),))
        for n in (1, 2)
    )
    assert [preset.number for preset in await world.sessions.inquiries.presets(key, CHANNEL)] == [1, 2]


@pytest.mark.parametrize("cmd_type", ["HomePositionQuery", "HomePosition"])
async def test_QRY_11_guard_position(world: World, cmd_type: str) -> None:
    key, device = await of_edition(world)
    device.script = response(
        cmd_type,
        "<HomePosition><Enabled>1</Enabled><ResetTime>30</ResetTime><PresetIndex>255</PresetIndex></HomePosition>",
    )
    home = await world.sessions.inquiries.home_position(key, CHANNEL)
    assert home == HomePosition(enabled=True, reset_time=30, preset=255)
    assert "<CmdType>HomePositionQuery</CmdType>" in body_of(device)


async def test_QRY_12_cruise_tracks_and_one_of_them(world: World) -> None:
    key, device = await of_edition(world)
    points = (CruisePoint(preset=1, stay=10, speed=7), CruisePoint(preset=2, stay=5, speed=15))

    def script(message: Message | Unknown) -> tuple[Message, ...]:
        if isinstance(message, CruiseTrackListQuery):
            tracks = (CruiseTrack(number=0, name="东"), CruiseTrack(number=1))
            return (CruiseTrackListResponse(sn=message.sn, device_id=CHANNEL, sum_num=2, tracks=tracks),)
        assert isinstance(message, CruiseTrackQuery)
        return (
            CruiseTrackResponse(
                sn=message.sn, device_id=CHANNEL, number=message.number, name="东", sum_num=2, points=points
            ),
        )

    device.script = script
    tracks = await world.sessions.inquiries.cruise_tracks(key, CHANNEL)
    assert [(track.number, track.name) for track in tracks] == [(0, "东"), (1, None)]
    track = await world.sessions.inquiries.cruise_track(key, CHANNEL, 0)
    assert track.points == points
    assert "<Number>0</Number>" in body_of(device)


async def test_QRY_12_wire_form_of_the_lists(world: World) -> None:
    key, device = await of_edition(world)
    device.script = response(
        "CruiseTrackQuery",
        "<Number>0</Number><Name>a</Name><SumNum>1</SumNum><CruisePointList Num='1'><CruisePoint>"
        "<PresetIndex>3</PresetIndex><StayTime>9</StayTime><Speed>1</Speed></CruisePoint></CruisePointList>",
    )
    track = await world.sessions.inquiries.cruise_track(key, CHANNEL, 0)
    assert track.points == (CruisePoint(preset=3, stay=9, speed=1),)


@pytest.mark.parametrize(
    ("inside", "pan", "tilt", "distance"),
    [
        ("<Pan>12.5</Pan><Tilt>-3.25</Tilt><Zoom>2</Zoom><MaxViewDistance>80.5</MaxViewDistance>", 12.5, -3.25, 80.5),
        ("<Pan>359.99</Pan>", 359.99, None, None),
        ("", None, None, None),
        ("<Pan>much</Pan><Tilt></Tilt>", None, None, None),
    ],
)
async def test_QRY_13_ptz_position(
    world: World, inside: str, pan: float | None, tilt: float | None, distance: float | None
) -> None:
    key, device = await of_edition(world)
    device.script = response("PTZPosition", inside)
    found = await world.sessions.inquiries.ptz_position(key, CHANNEL)
    assert isinstance(found, PtzPositionResponse)
    assert (found.pan, found.tilt, found.view_distance) == (pan, tilt, distance)


async def test_QRY_14_memory_cards(world: World) -> None:
    key, device = await of_edition(world)
    device.script = response(
        "SDCardStatus",
        "<SumNum>2</SumNum><SDCardStatusInfo Num='2'>"
        "<Item><ID>1</ID><HddName>sd1</HddName><Status>ok</Status><Capacity>61440</Capacity><FreeSpace>512</FreeSpace>"
        "</Item><Item><ID>2</ID><HddName>sd2</HddName><Status>formatting</Status><FormatProgress>40</FormatProgress>"
        "<Capacity>61440</Capacity><FreeSpace>0</FreeSpace></Item></SDCardStatusInfo>",
    )
    assert await world.sessions.inquiries.sd_cards(key) == (
        SdCard(number=1, name="sd1", status="ok", capacity=61440, free=512),
        SdCard(number=2, name="sd2", status="formatting", progress=40, capacity=61440, free=0),
    )


async def test_QRY_15_late_answer_is_ignored(world: World) -> None:
    key, device = await of_edition(world)
    asking = asyncio.ensure_future(world.sessions.inquiries.sd_cards(key))
    await settle()
    await world.pass_time(9.9)
    with pytest.raises(QueryError, match="no_answer"):
        await asking
    answer = await device.exchange(SdCardResponse(sn=device.asked[-1].sn, device_id=CAMERA, sum_num=0))
    assert answer.status == 200
    assert world.sessions.counters["ignored"] == 1


@pytest.mark.parametrize(
    ("ask", "cmd_type"),
    [
        (lambda i, k: i.status(k), "DeviceStatus"),
        (lambda i, k: i.config(k, ["BasicParam"]), "ConfigDownload"),
        (lambda i, k: i.presets(k, CHANNEL), "PresetQuery"),
        (lambda i, k: i.home_position(k, CHANNEL), "HomePositionQuery"),
        (lambda i, k: i.cruise_tracks(k, CHANNEL), "CruiseTrackListQuery"),
        (lambda i, k: i.cruise_track(k, CHANNEL, 0), "CruiseTrackQuery"),
        (lambda i, k: i.ptz_position(k, CHANNEL), "PTZPosition"),
        (lambda i, k: i.sd_cards(k), "SDCardStatus"),
        (lambda i, k: i.alarms(k, AlarmQuery()), "Alarm"),
    ],
)
async def test_QRY_16_error_of_any_query_carries_its_reason(world: World, ask: object, cmd_type: str) -> None:
    key, device = await of_edition(world)
    device.script = response(cmd_type, "<Result>ERROR</Result><Reason>unsupported here</Reason>")
    with pytest.raises(QueryError) as caught:
        await ask(world.sessions.inquiries, key)  # type: ignore[operator]
    assert (caught.value.code, caught.value.text) == ("device_error", "unsupported here")


async def test_mobile_position_is_asked_for_without_awaiting_an_answer(world: World) -> None:
    key, device = await of_edition(world, "2.0")
    await world.sessions.inquiries.mobile_position(key, interval=10)
    assert asked(device, MobilePositionQuery).interval == 10


async def test_alarm_query_of_2016_is_acknowledged(world: World) -> None:
    key, device = await of_edition(world, "2.0")
    device.script = lambda message: (AlarmResponse(sn=message.sn, device_id=CAMERA),)
    await world.sessions.inquiries.alarms(
        key, AlarmQuery(start_priority=1, end_priority=4, method="0", start_time=START, end_time=START + 60)
    )
    text = body_of(device)
    names = ["StartAlarmPriority", "EndAlarmPriority", "AlarmMethod", "StartAlarmTime", "EndAlarmTime"]
    places = [text.index(f"<{name}>") for name in names]
    assert places == sorted(places)


@pytest.mark.parametrize("version", ["1.0", "1.1", "2.0"])
async def test_what_an_announced_edition_does_not_know_is_not_asked(world: World, version: str) -> None:
    key, device = await of_edition(world, version)
    with pytest.raises(QueryError, match="not_supported"):
        await world.sessions.inquiries.sd_cards(key)
    assert device.asked == []


async def test_who_announces_nothing_is_tried(world: World) -> None:
    key, device = await of_edition(world, None)
    device.script = response("SDCardStatus", "<SumNum>0</SumNum>")
    assert await world.sessions.inquiries.sd_cards(key) == ()
