"""Controls and configuration (§9.3, §A.2.3): form by edition, limits before sending, answers where there are any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sipserver.control import Controls
from sipserver.protocol import manscdp
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    AlarmInfo,
    AlarmReport,
    BasicParam,
    DeviceConfig,
    DeviceControl,
    DeviceControlResponse,
    DeviceUpgrade,
    DragZoom,
    HomePosition,
    MaskRegion,
    OsdConfig,
    OsdText,
    PictureMask,
    PtzPositionQuery,
    PtzPositionResponse,
    PtzPrecise,
    RecordSchedule,
    SnapShotConfig,
    SvacDecodeConfig,
    SvacEncodeConfig,
    TimeSegment,
    VideoAlarmRecord,
    VideoParam,
    VideoRecordPlan,
)
from sipserver.protocol.manscdp_config import (
    AudioEncode,
    RoiItem,
    RoiParam,
    SurveillanceDecode,
    SurveillanceEncode,
    SvcDecode,
    SvcEncode,
)
from sipserver.protocol.manscdp_limits import OutOfRangeError
from sipserver.protocol.ptz import STOP
from sipserver.queries import QueryError
from tests.gb.editions import asked, body_of, obeys, of_edition
from tests.gb.harness import CAMERA, World, settle

CHANNEL = GbId("34020000001310000001")
BOX = DragZoom(length=1920, width=1080, mid_x=400, mid_y=300, length_x=200, length_y=100)
SESSION = "a1" * 16
URL = "http://192.0.2.1/api/v1/snapshots/x"

Order = Callable[[Controls, DeviceKey], Awaitable[Any]]

SILENT: list[tuple[str, Order]] = [
    ("PTZCmd", lambda c, k: c.command(k, CHANNEL, STOP)),
    ("TeleBoot", lambda c, k: c.reboot(k)),
    ("IFrameCmd", lambda c, k: c.key_frame(k, CHANNEL)),
    ("DragZoomIn", lambda c, k: c.drag_zoom(k, CHANNEL, BOX, into=True)),
    ("PTZPreciseCtrl", lambda c, k: c.precise(k, CHANNEL, PtzPrecise(pan=10, tilt=5, zoom=2))),
    ("FormatSDCard", lambda c, k: c.format_card(k, 1)),
    ("TargetTrack", lambda c, k: c.track(k, CHANNEL, "Auto")),
]
ANSWERED: list[tuple[str, Order]] = [
    ("RecordCmd", lambda c, k: c.record(k, CHANNEL, on=True)),
    ("GuardCmd", lambda c, k: c.guard(k, armed=True)),
    ("AlarmCmd", lambda c, k: c.reset_alarm(k)),
    ("HomePosition", lambda c, k: c.home_position(k, CHANNEL, HomePosition(enabled=True, reset_time=30, preset=1))),
    (
        "DeviceUpgrade",
        lambda c, k: c.upgrade(k, DeviceUpgrade(firmware="V2", url=URL, manufacturer="M", session=SESSION)),
    ),
    ("BasicParam", lambda c, k: c.configure(k, DeviceConfig(basic=BasicParam(expiration=3600)))),
]


@pytest.mark.parametrize(("element", "order"), SILENT, ids=[name for name, _ in SILENT])
async def test_CTL_01_commands_without_answer_end_with_the_200(world: World, element: str, order: Order) -> None:
    key, device = await of_edition(world)
    await order(world.sessions.controls, key)
    assert f"<{element}>" in body_of(device)
    assert not world.sessions.queries._pending


@pytest.mark.parametrize(("element", "order"), ANSWERED, ids=[name for name, _ in ANSWERED])
async def test_CTL_02_commands_with_answer_wait_for_it(world: World, element: str, order: Order) -> None:
    key, device = await of_edition(world)
    waiting = asyncio.ensure_future(order(world.sessions.controls, key))
    await settle()
    assert f"<{element}>" in body_of(device)
    assert not waiting.done()
    await world.pass_time(10)
    with pytest.raises(QueryError, match="no_answer"):
        await waiting
    obeys(device)
    await order(world.sessions.controls, key)
    obeys(device, result=False, reason="busy")
    with pytest.raises(QueryError) as caught:
        await order(world.sessions.controls, key)
    assert (caught.value.code, caught.value.text) == ("device_error", "busy")


async def test_CTL_03_an_answer_nobody_awaits_is_taken_with_200(world: World) -> None:
    key, device = await of_edition(world)
    await world.sessions.controls.command(key, CHANNEL, STOP)
    answer = await device.exchange(DeviceControlResponse(sn=device.asked[-1].sn, device_id=CHANNEL))
    assert (answer.status, answer.body) == (200, b"")
    assert world.sessions.counters["ignored"] == 1


@pytest.mark.parametrize(("version", "spelling"), [("2.0", "IFameCmd"), ("3.0", "IFrameCmd"), (None, "IFameCmd")])
async def test_CTL_04_key_frame_by_edition(world: World, version: str | None, spelling: str) -> None:
    key, device = await of_edition(world, version)
    await world.sessions.controls.key_frame(key, CHANNEL)
    assert f"<{spelling}>Send</{spelling}>" in body_of(device)


async def test_CTL_04_both_spellings_by_profile(world: World) -> None:
    key, device = await of_edition(world, "2.0")
    await world.sessions.profiles.choose(key, {"key_frame": "both"})
    await world.sessions.controls.key_frame(key, CHANNEL)
    sent = [message for message in device.asked if isinstance(message, DeviceControl)]
    assert [(m.iframe_2016, m.iframe) for m in sent] == [("Send", None), (None, "Send")]


@pytest.mark.parametrize("into", [True, False])
async def test_CTL_05_drag_zoom_has_six_integers_in_order(world: World, into: bool) -> None:
    key, device = await of_edition(world)
    await world.sessions.controls.drag_zoom(key, CHANNEL, BOX, into=into)
    name = "DragZoomIn" if into else "DragZoomOut"
    assert (
        f"<{name}><Length>1920</Length><Width>1080</Width><MidPointX>400</MidPointX><MidPointY>300</MidPointY>"
        f"<LengthX>200</LengthX><LengthY>100</LengthY></{name}>"
    ) in body_of(device)


def plan(*segments: TimeSegment, day: int = 1) -> VideoRecordPlan:
    return VideoRecordPlan(on=True, days=(RecordSchedule(day=day, segments=segments),))


HOUR = TimeSegment(start_hour=8, start_minute=0, start_second=0, stop_hour=9, stop_minute=0, stop_second=0)
LINE = OsdText(text="东门", x=10, y=10)
OSD = OsdConfig(length=1920, width=1080, time_x=0, time_y=0, lines=(LINE,))
SNAP = SnapShotConfig(count=3, interval=1, url=URL, session=SESSION)


def osd(*lines: OsdText) -> OsdConfig:
    return OsdConfig(length=1920, width=1080, time_x=0, time_y=0, lines=lines)


BAD: list[tuple[str, str, Order]] = [
    ("CTL_06", "PresetIndex", lambda c, k: c.home_position(k, CHANNEL, HomePosition(enabled=True, preset=256))),
    ("CTL_06", "Enabled", lambda c, k: c.home_position(k, CHANNEL, HomePosition(preset=1))),
    ("CTL_07", "Pan", lambda c, k: c.precise(k, CHANNEL, PtzPrecise(pan=400))),
    ("CTL_07", "Tilt", lambda c, k: c.precise(k, CHANNEL, PtzPrecise(tilt=-31))),
    ("CTL_08", "FormatSDCard", lambda c, k: c.format_card(k, -1)),
    ("CTL_09", "TargetArea", lambda c, k: c.track(k, CHANNEL, "Manual")),
    ("CTL_17", "TimeSegment", lambda c, k: c.configure(k, DeviceConfig(record_plan=plan(*[HOUR] * 9)))),
    ("CTL_17", "WeekDayNum", lambda c, k: c.configure(k, DeviceConfig(record_plan=plan(HOUR, day=8)))),
    ("CTL_18", "Item", lambda c, k: c.configure(k, DeviceConfig(osd=osd(*[LINE] * 9)))),
    ("CTL_18", "Text", lambda c, k: c.configure(k, DeviceConfig(osd=osd(OsdText(text="长" * 33, x=1, y=1))))),
    *(
        ("CTL_16", element, lambda c, k, snap=snap: c.configure(k, DeviceConfig(snapshot=snap)))
        for element, snap in (
            ("SnapNum", SnapShotConfig(count=0, interval=1, url=URL, session=SESSION)),
            ("SnapNum", SnapShotConfig(count=11, interval=1, url=URL, session=SESSION)),
            ("Interval", SnapShotConfig(count=1, interval=0, url=URL, session=SESSION)),
            ("SessionID", SnapShotConfig(count=1, interval=1, url=URL, session="a" * 31)),
        )
    ),
]


async def refused(world: World, row: str) -> None:
    key, device = await of_edition(world)
    cases = [(element, order) for name, element, order in BAD if name == row]
    assert cases
    for element, order in cases:
        with pytest.raises(OutOfRangeError) as caught:
            await order(world.sessions.controls, key)
        assert caught.value.element == element
    assert device.asked == []


async def test_CTL_06_guard_position_out_of_range_is_refused_here(world: World) -> None:
    await refused(world, "CTL_06")


async def test_CTL_07_precise_position_out_of_range_is_refused_and_a_good_one_goes(world: World) -> None:
    await refused(world, "CTL_07")
    key = next(iter(world.store.devices))
    device = next(iter(world.devices.values()))
    await world.sessions.controls.precise(key, CHANNEL, PtzPrecise(pan=359.99, tilt=-30, zoom=1.5))
    assert "<Pan>359.99</Pan><Tilt>-30</Tilt><Zoom>1.5</Zoom>" in body_of(device)


async def test_CTL_07_position_is_read_back_where_the_profile_says_so(world: World) -> None:
    key, device = await of_edition(world)
    await world.sessions.profiles.choose(key, {"precise_read_back": True})
    device.script = lambda message: (
        (PtzPositionResponse(sn=message.sn, device_id=CHANNEL, pan=9.5),)
        if isinstance(message, PtzPositionQuery)
        else ()
    )
    found = await world.sessions.controls.precise(key, CHANNEL, PtzPrecise(pan=10))
    assert found is not None
    assert found.pan == 9.5


@pytest.mark.parametrize("number", [0, 1])
async def test_CTL_08_cards_by_number_and_none_below_zero(world: World, number: int) -> None:
    key, device = await of_edition(world)
    await world.sessions.controls.format_card(key, number)
    assert f"<FormatSDCard>{number}</FormatSDCard>" in body_of(device)
    with pytest.raises(OutOfRangeError):
        await world.sessions.controls.format_card(key, -1)


async def test_CTL_09_manual_tracking_needs_its_area(world: World) -> None:
    await refused(world, "CTL_09")
    key = next(iter(world.store.devices))
    device = next(iter(world.devices.values()))
    await world.sessions.controls.track(key, CHANNEL, "Manual", panorama=CAMERA, area=BOX)
    text = body_of(device)
    assert f"<TargetTrack>Manual</TargetTrack><DeviceID2>{CAMERA.value}</DeviceID2><TargetArea><Length>" in text


@pytest.mark.parametrize(
    ("version", "methods", "wire"), [("3.0", (2, 5), "2/5"), ("2.0", (2, 5), "25"), ("3.0", (5,), "5")]
)
async def test_CTL_10_alarm_reset_says_which(world: World, version: str, methods: tuple[int, ...], wire: str) -> None:
    key, device = await of_edition(world, version)
    obeys(device)
    await world.sessions.controls.reset_alarm(key, methods=methods, kind=6)
    control = asked(device, DeviceControl)
    assert control.alarm == "ResetAlarm"
    assert control.info == AlarmInfo(alarm_method=wire, alarm_type=6)


async def test_CTL_10_before_2016_the_reset_is_bare(world: World) -> None:
    key, device = await of_edition(world, "1.1")
    obeys(device)
    await world.sessions.controls.reset_alarm(key, methods=(5,), kind=6)
    assert asked(device, DeviceControl).info is None


@pytest.mark.parametrize(("version", "number"), [("3.0", 1), ("2.0", None), (None, None)])
async def test_CTL_11_stream_number_of_a_recording_only_to_2022(
    world: World, version: str | None, number: int | None
) -> None:
    key, device = await of_edition(world, version)
    obeys(device)
    await world.sessions.controls.record(key, CHANNEL, on=True, stream_number=1)
    assert asked(device, DeviceControl).stream_number == number
    await world.sessions.controls.record(key, CHANNEL, on=False)
    assert asked(device, DeviceControl).record == "StopRecord"


async def test_CTL_12_guard_answer_is_the_duty_state(world: World) -> None:
    key, device = await of_edition(world)
    obeys(device)
    told: list[tuple[GbId, bool]] = []
    world.sessions.controls.on_duty = lambda bound, target, armed: told.append((target, armed))
    await world.sessions.controls.guard(key, armed=True)
    assert asked(device, DeviceControl).guard == "SetGuard"
    await world.sessions.controls.guard(key, armed=False, target=CHANNEL)
    assert asked(device, DeviceControl).guard == "ResetGuard"
    obeys(device, result=False)
    with pytest.raises(QueryError):
        await world.sessions.controls.guard(key, armed=True)
    assert told == [(CAMERA, True), (CHANNEL, False)]


BLOCKS: list[tuple[str, DeviceConfig, str]] = [
    (
        "BasicParam",
        DeviceConfig(basic=BasicParam(name="门", expiration=3600, heartbeat_interval=60, heartbeat_count=3)),
        "<Name>门</Name><Expiration>3600</Expiration><HeartBeatInterval>60</HeartBeatInterval>"
        "<HeartBeatCount>3</HeartBeatCount>",
    ),
    (
        "SVACEncodeConfig",
        DeviceConfig(
            svac_encode=SvacEncodeConfig(
                roi=RoiParam(on=True, items=(RoiItem(number=1, top_left=0, bottom_right=9, quality=2),)),
                svc=SvcEncode(space_mode=1, time_mode=2, ratio="4:3"),
                surveillance=SurveillanceEncode(time=True, osd=False, analysis=True, position=False),
                audio=AudioEncode(recognition=True),
            )
        ),
        "<ROIParam><ROIFlag>1</ROIFlag><ROINumber>1</ROINumber><Item><ROISeq>1</ROISeq><TopLeft>0</TopLeft>"
        "<BottomRight>9</BottomRight><ROIQP>2</ROIQP></Item></ROIParam><SVCParam>"
        "<SVCSpaceDomainMode>1</SVCSpaceDomainMode><SVCTimeDomainMode>2</SVCTimeDomainMode>"
        "<SSVCRatioValue>4:3</SSVCRatioValue></SVCParam><SurveillanceParam><TimeFlag>1</TimeFlag><OSDFlag>0</OSDFlag>"
        "<AIFlag>1</AIFlag><GISFlag>0</GISFlag></SurveillanceParam><AudioParam>"
        "<AudioRecognitionFlag>1</AudioRecognitionFlag></AudioParam>",
    ),
    (
        "SVACDecodeConfig",
        DeviceConfig(
            svac_decode=SvacDecodeConfig(
                svc=SvcDecode(mode=2),
                surveillance=SurveillanceDecode(time=True, osd=True, analysis=False, position=False),
            )
        ),
        "<SVCParam><SVCSTMMode>2</SVCSTMMode></SVCParam><SurveillanceParam><TimeShowFlag>1</TimeShowFlag>"
        "<OSDShowFlag>1</OSDShowFlag><AIShowFlag>0</AIShowFlag><GISShowFlag>0</GISShowFlag></SurveillanceParam>",
    ),
    (
        "VideoParamAttribute",
        DeviceConfig(
            video_streams=(
                VideoParam(
                    stream_number=0,
                    video_format="5",
                    resolution="1920x1080",
                    frame_rate="25",
                    bit_rate_type="1",
                    bit_rate="4096",
                ),
            )
        ),
        "<Item><StreamNumber>0</StreamNumber><VideoFormat>5</VideoFormat><Resolution>1920x1080</Resolution>"
        "<FrameRate>25</FrameRate><BitRateType>1</BitRateType><VideoBitRate>4096</VideoBitRate></Item>",
    ),
    (
        "VideoRecordPlan",
        DeviceConfig(record_plan=plan(HOUR)),
        "<RecordEnable>1</RecordEnable><RecordScheduleSumNum>1</RecordScheduleSumNum><RecordSchedule>"
        "<WeekDayNum>1</WeekDayNum><TimeSegmentSumNum>1</TimeSegmentSumNum><TimeSegment><StartHour>8</StartHour>"
        "<StartMin>0</StartMin><StartSec>0</StartSec><StopHour>9</StopHour><StopMin>0</StopMin><StopSec>0</StopSec>"
        "</TimeSegment></RecordSchedule>",
    ),
    (
        "VideoAlarmRecord",
        DeviceConfig(alarm_record=VideoAlarmRecord(on=True, after=30, before=5, stream_number=0)),
        "<RecordEnable>1</RecordEnable><RecordTime>30</RecordTime><PreRecordTime>5</PreRecordTime>"
        "<StreamNumber>0</StreamNumber>",
    ),
    (
        "PictureMask",
        DeviceConfig(picture_mask=PictureMask(on=True, regions=(MaskRegion(number=1, corners="0,0,100,100"),))),
        '<On>1</On><SumNum>1</SumNum><RegionList Num="1"><Item><Seq>1</Seq><Point>0,0,100,100</Point></Item>'
        "</RegionList>",
    ),
    ("FrameMirror", DeviceConfig(frame_mirror=0), "0"),
    (
        "AlarmReport",
        DeviceConfig(alarm_report=AlarmReport(motion=True, area=False)),
        "<MotionDetection>1</MotionDetection><FieldDetection>0</FieldDetection>",
    ),
    (
        "OSDConfig",
        DeviceConfig(osd=OSD),
        "<Length>1920</Length><Width>1080</Width><TimeX>0</TimeX><TimeY>0</TimeY><TimeEnable>1</TimeEnable>"
        "<TextEnable>1</TextEnable><SumNum>1</SumNum><Item><Text>东门</Text><X>10</X><Y>10</Y></Item>",
    ),
    (
        "SnapShotConfig",
        DeviceConfig(snapshot=SNAP),
        f"<SnapNum>3</SnapNum><Interval>1</Interval><UploadURL>{URL}</UploadURL><SessionID>{SESSION}</SessionID>",
    ),
]


@pytest.mark.parametrize(("name", "config", "inside"), BLOCKS, ids=[name for name, _, _ in BLOCKS])
async def test_CTL_15_every_writable_block_in_order(world: World, name: str, config: DeviceConfig, inside: str) -> None:
    key, device = await of_edition(world)
    obeys(device)
    await world.sessions.controls.configure(key, config)
    text = body_of(device)
    opening = f'<{name} Num="1">' if name == "VideoParamAttribute" else f"<{name}>"
    assert f"{opening}{inside}</{name}>" in text
    assert text.index("<CmdType>DeviceConfig</CmdType>") < text.index("<SN>") < text.index("<DeviceID>")
    assert manscdp.parse(device.requests[-1].body) == device.asked[-1]


@pytest.mark.parametrize(
    ("config", "element"),
    [
        (DeviceConfig(frame_mirror=4), "FrameMirror"),
        (DeviceConfig(picture_mask=PictureMask(on=True, regions=(MaskRegion(number=5, corners="0,0,1,1"),))), "Seq"),
        (DeviceConfig(picture_mask=PictureMask(on=True, regions=(MaskRegion(number=1, corners="x"),))), "Point"),
        (DeviceConfig(basic=BasicParam(heartbeat_interval=0)), "HeartBeatInterval"),
        (DeviceConfig(alarm_record=VideoAlarmRecord(on=True)), "StreamNumber"),
        (DeviceConfig(svac_encode=SvacEncodeConfig(svc=SvcEncode(space_support=1))), "SVCSpaceSupportMode"),
        (
            DeviceConfig(
                video_streams=(
                    VideoParam(stream_number=0, video_format="5", resolution="6", frame_rate="25", bit_rate_type="1"),
                )
            ),
            "VideoBitRate",
        ),
        (DeviceConfig(), "DeviceConfig"),
    ],
)
async def test_CTL_15_ranges(world: World, config: DeviceConfig, element: str) -> None:
    key, device = await of_edition(world)
    with pytest.raises(OutOfRangeError) as caught:
        await world.sessions.controls.configure(key, config)
    assert caught.value.element == element
    assert device.asked == []


async def test_CTL_15_a_block_the_edition_does_not_know_is_not_sent(world: World) -> None:
    key, device = await of_edition(world, "2.0")
    with pytest.raises(QueryError, match="not_supported"):
        await world.sessions.controls.configure(key, DeviceConfig(osd=OSD))
    assert device.asked == []


async def test_CTL_16_snapshot_limits(world: World) -> None:
    await refused(world, "CTL_16")


async def test_CTL_17_record_plan_limits(world: World) -> None:
    await refused(world, "CTL_17")


async def test_CTL_18_osd_limits(world: World) -> None:
    await refused(world, "CTL_18")


async def test_CTL_19_KPA_12_the_new_heartbeat_binds_the_platform(world: World) -> None:
    key, device = await of_edition(world)
    obeys(device)
    basic = BasicParam(heartbeat_interval=30, heartbeat_count=5)
    await world.sessions.controls.configure(key, DeviceConfig(basic=basic))
    await world.pass_time(150)
    assert world.bindings.get(key) is not None
    await world.pass_time(1)
    assert world.bindings.get(key) is None


async def test_CTL_19_a_refused_write_changes_nothing(world: World) -> None:
    key, device = await of_edition(world)
    obeys(device, result=False)
    with pytest.raises(QueryError):
        await world.sessions.controls.configure(key, DeviceConfig(basic=BasicParam(heartbeat_interval=3600)))
    await world.pass_time(181)
    assert world.bindings.get(key) is None


async def test_configuration_goes_to_the_device_or_where_the_profile_says(world: World) -> None:
    key, device = await of_edition(world)
    obeys(device)
    write = DeviceConfig(basic=BasicParam(name="x"))
    await world.sessions.controls.configure(key, write, target=CHANNEL)
    assert asked(device, DeviceConfig).device_id == CAMERA
    await world.sessions.profiles.choose(key, {"config_target": "channel"})
    await world.sessions.controls.configure(key, write, target=CHANNEL)
    assert asked(device, DeviceConfig).device_id == CHANNEL


async def test_a_device_that_reboots_in_place_of_answering(world: World) -> None:
    key, _ = await of_edition(world)
    await world.sessions.profiles.choose(key, {"config_answer": False})
    await world.sessions.controls.configure(key, DeviceConfig(basic=BasicParam(name="x")))


async def test_offline_devices_are_told_apart(world: World) -> None:
    key = world.store.add(CAMERA)
    with pytest.raises(QueryError, match="device_offline"):
        await world.sessions.controls.reboot(key)
