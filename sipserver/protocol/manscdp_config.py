"""The configuration blocks of §A.2.1.11-24: read by ConfigDownload, written by DeviceConfig; one dataclass a block.

What a device answers is read as it comes; what we write is checked against LIMITS first (manscdp_limits.py).
Times are seconds, pictures pixels from the top left corner, codes those of the f field of SDP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp_base import EXTRA, Message, ResultResponse, Root
from sipserver.protocol.manscdp_fields import FLAG, ID, INTEGER, NUMBER, RESULT, Block, ItemList, Repeated, tag


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicParam:
    """Registration and heartbeat settings of a device, in seconds and counts; the rest only in older editions."""

    name: str | None = field(default=None, metadata=tag("Name"))
    own_id: GbId | None = field(default=None, metadata=tag("DeviceID", ID))  # this and the next five: edition 1.1
    server_id: GbId | None = field(default=None, metadata=tag("SIPServerID", ID))
    server_ip: str | None = field(default=None, metadata=tag("SIPServerIP"))
    server_port: int | None = field(default=None, metadata=tag("SIPServerPort", INTEGER))
    domain: str | None = field(default=None, metadata=tag("DomainName"))
    expiration: int | None = field(default=None, metadata=tag("Expiration", INTEGER))
    password: str | None = field(default=None, repr=False, metadata=tag("Password"))
    heartbeat_interval: int | None = field(default=None, metadata=tag("HeartBeatInterval", INTEGER))
    heartbeat_count: int | None = field(default=None, metadata=tag("HeartBeatCount", INTEGER))
    position_capability: int | None = field(default=None, metadata=tag("PositionCapability", INTEGER))  # some of 2016
    longitude: float | None = field(default=None, metadata=tag("Longitude", NUMBER))
    latitude: float | None = field(default=None, metadata=tag("Latitude", NUMBER))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoParamOpt:
    """What the device can do: download speeds ``1/2/4``, resolutions as codes joined by ``/``. Read only."""

    download_speed: str | None = field(default=None, metadata=tag("DownloadSpeed"))
    resolution: str | None = field(default=None, metadata=tag("Resolution"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiItem:
    """A region of interest: indices of its corner blocks (32×32 pixels, raster order) and its quality 0-3."""

    number: int | None = field(default=None, metadata=tag("ROISeq", INTEGER))
    top_left: int | None = field(default=None, metadata=tag("TopLeft", INTEGER))
    bottom_right: int | None = field(default=None, metadata=tag("BottomRight", INTEGER))
    quality: int | None = field(default=None, metadata=tag("ROIQP", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiParam:
    """Regions of interest, at most 16."""

    on: bool | None = field(default=None, metadata=tag("ROIFlag", FLAG))
    count: int | None = field(default=None, metadata=tag("ROINumber", INTEGER))
    items: tuple[RoiItem, ...] = field(default=(), metadata=tag("Item", Repeated(record=RoiItem)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SvcEncode:
    """Scalable coding of SVAC; the support modes and list only in answers (§30: emitted only there)."""

    space_mode: int | None = field(default=None, metadata=tag("SVCSpaceDomainMode", INTEGER))
    time_mode: int | None = field(default=None, metadata=tag("SVCTimeDomainMode", INTEGER))
    ratio: str | None = field(default=None, metadata=tag("SSVCRatioValue"))
    space_support: int | None = field(default=None, metadata=tag("SVCSpaceSupportMode", INTEGER))
    time_support: int | None = field(default=None, metadata=tag("SVCTimeSupportMode", INTEGER))
    ratio_support: str | None = field(default=None, metadata=tag("SSVCRatioSupportList"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveillanceEncode:
    """Which surveillance data SVAC carries."""

    time: bool | None = field(default=None, metadata=tag("TimeFlag", FLAG))
    osd: bool | None = field(default=None, metadata=tag("OSDFlag", FLAG))
    analysis: bool | None = field(default=None, metadata=tag("AIFlag", FLAG))
    position: bool | None = field(default=None, metadata=tag("GISFlag", FLAG))


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioEncode:
    """Sound recognition data of SVAC."""

    recognition: bool | None = field(default=None, metadata=tag("AudioRecognitionFlag", FLAG))


@dataclass(frozen=True, slots=True, kw_only=True)
class SvacEncodeConfig:
    """SVAC encoder."""

    roi: RoiParam | None = field(default=None, metadata=tag("ROIParam", Block(RoiParam)))
    svc: SvcEncode | None = field(default=None, metadata=tag("SVCParam", Block(SvcEncode)))
    surveillance: SurveillanceEncode | None = field(
        default=None, metadata=tag("SurveillanceParam", Block(SurveillanceEncode))
    )
    audio: AudioEncode | None = field(default=None, metadata=tag("AudioParam", Block(AudioEncode)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SvcDecode:
    """Scalable decoding of SVAC; support modes only in answers."""

    mode: int | None = field(default=None, metadata=tag("SVCSTMMode", INTEGER))
    space_support: int | None = field(default=None, metadata=tag("SVCSpaceSupportMode", INTEGER))
    time_support: int | None = field(default=None, metadata=tag("SVCTimeSupportMode", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveillanceDecode:
    """Which surveillance data are shown."""

    time: bool | None = field(default=None, metadata=tag("TimeShowFlag", FLAG))
    osd: bool | None = field(default=None, metadata=tag("OSDShowFlag", FLAG))
    analysis: bool | None = field(default=None, metadata=tag("AIShowFlag", FLAG))
    position: bool | None = field(default=None, metadata=tag("GISShowFlag", FLAG))


@dataclass(frozen=True, slots=True, kw_only=True)
class SvacDecodeConfig:
    """SVAC decoder."""

    svc: SvcDecode | None = field(default=None, metadata=tag("SVCParam", Block(SvcDecode)))
    surveillance: SurveillanceDecode | None = field(
        default=None, metadata=tag("SurveillanceParam", Block(SurveillanceDecode))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoParam:
    """One stream: codes of the f field; the bit rate (kbit/s) is owed for a constant one (``bit_rate_type`` 1)."""

    stream_number: int | None = field(default=None, metadata=tag("StreamNumber", INTEGER))
    video_format: str | None = field(default=None, metadata=tag("VideoFormat"))
    resolution: str | None = field(default=None, metadata=tag("Resolution"))
    frame_rate: str | None = field(default=None, metadata=tag("FrameRate"))
    bit_rate_type: str | None = field(default=None, metadata=tag("BitRateType"))
    bit_rate: str | None = field(default=None, metadata=tag("VideoBitRate"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSegment:
    """A part of a day."""

    start_hour: int | None = field(default=None, metadata=tag("StartHour", INTEGER))
    start_minute: int | None = field(default=None, metadata=tag("StartMin", INTEGER))
    start_second: int | None = field(default=None, metadata=tag("StartSec", INTEGER))
    stop_hour: int | None = field(default=None, metadata=tag("StopHour", INTEGER))
    stop_minute: int | None = field(default=None, metadata=tag("StopMin", INTEGER))
    stop_second: int | None = field(default=None, metadata=tag("StopSec", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSchedule:
    """The plan of one day, 1 Monday to 7 Sunday; at most eight segments."""

    day: int | None = field(default=None, metadata=tag("WeekDayNum", INTEGER))
    count: int | None = field(default=None, metadata=tag("TimeSegmentSumNum", INTEGER))
    segments: tuple[TimeSegment, ...] = field(default=(), metadata=tag("TimeSegment", Repeated(record=TimeSegment)))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRecordPlan:
    """When the device records; days without a plan may be left out."""

    on: bool | None = field(default=None, metadata=tag("RecordEnable", FLAG))
    count: int | None = field(default=None, metadata=tag("RecordScheduleSumNum", INTEGER))
    days: tuple[RecordSchedule, ...] = field(
        default=(), metadata=tag("RecordSchedule", Repeated(record=RecordSchedule))
    )
    stream_number: int | None = field(default=None, metadata=tag("StreamNumber", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoAlarmRecord:
    """Recording on alarm: seconds after and before it."""

    on: bool | None = field(default=None, metadata=tag("RecordEnable", FLAG))
    after: int | None = field(default=None, metadata=tag("RecordTime", INTEGER))
    before: int | None = field(default=None, metadata=tag("PreRecordTime", INTEGER))
    stream_number: int | None = field(default=None, metadata=tag("StreamNumber", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRegion:
    """A covered rectangle: number 1-4, corners ``lx,ly,rx,ry``."""

    number: int | None = field(default=None, metadata=tag("Seq", INTEGER))
    corners: str | None = field(default=None, metadata=tag("Point"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMask:
    """Privacy masks, at most four."""

    on: bool | None = field(default=None, metadata=tag("On", FLAG))
    count: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    regions: tuple[MaskRegion, ...] = field(default=(), metadata=tag("RegionList", ItemList(MaskRegion)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmReport:
    """Which detections the device reports as alarms."""

    motion: bool | None = field(default=None, metadata=tag("MotionDetection", FLAG))
    area: bool | None = field(default=None, metadata=tag("FieldDetection", FLAG))


@dataclass(frozen=True, slots=True, kw_only=True)
class OsdText:
    """A line of text in the picture, at most 32 characters."""

    text: str | None = field(default=None, metadata=tag("Text"))
    x: int | None = field(default=None, metadata=tag("X", INTEGER))
    y: int | None = field(default=None, metadata=tag("Y", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class OsdConfig:
    """Time and at most eight lines in a picture of ``length`` × ``width``; absent switches mean on (§30)."""

    length: int | None = field(default=None, metadata=tag("Length", INTEGER))
    width: int | None = field(default=None, metadata=tag("Width", INTEGER))
    time_x: int | None = field(default=None, metadata=tag("TimeX", INTEGER))
    time_y: int | None = field(default=None, metadata=tag("TimeY", INTEGER))
    show_time: bool | None = field(default=True, metadata=tag("TimeEnable", FLAG))
    time_type: int | None = field(default=None, metadata=tag("TimeType", INTEGER))
    show_text: bool | None = field(default=True, metadata=tag("TextEnable", FLAG))
    count: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    lines: tuple[OsdText, ...] = field(default=(), metadata=tag("Item", Repeated(record=OsdText)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapShotConfig:
    """An order for ``count`` pictures every ``interval`` seconds, to be uploaded to ``url`` (§9.14)."""

    count: int | None = field(default=None, metadata=tag("SnapNum", INTEGER))
    interval: int | None = field(default=None, metadata=tag("Interval", INTEGER))
    url: str | None = field(default=None, repr=False, metadata=tag("UploadURL"))
    session: str | None = field(default=None, metadata=tag("SessionID"))


#: ConfigType names (§A.2.4.7) and the fields of ConfigDownloadResponse and DeviceConfig that carry the blocks.
BLOCKS: Final[dict[str, str]] = {
    "BasicParam": "basic",
    "VideoParamOpt": "video_options",
    "SVACEncodeConfig": "svac_encode",
    "SVACDecodeConfig": "svac_decode",
    "VideoParamAttribute": "video_streams",
    "VideoRecordPlan": "record_plan",
    "VideoAlarmRecord": "alarm_record",
    "PictureMask": "picture_mask",
    "FrameMirror": "frame_mirror",
    "AlarmReport": "alarm_report",
    "OSDConfig": "osd",
    "SnapShotConfig": "snapshot",
}
#: Since which edition a block exists; VideoParamOpt is a capability and cannot be written.
SINCE: Final[dict[str, float]] = {
    name: 1.1 if name in ("BasicParam", "VideoParamOpt", "SVACEncodeConfig", "SVACDecodeConfig") else 3.0
    for name in BLOCKS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDownloadQuery(Message):
    """Query of configuration blocks, names joined by ``/`` in ``config_type``."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "ConfigDownload"

    config_type: str | None = field(default=None, metadata=tag("ConfigType"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDownloadResponse(Message):
    """Configuration of a device: whatever blocks the answer has, whatever was asked (one vendor confuses the names)."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "ConfigDownload"

    result: bool | None = field(default=True, metadata=tag("Result", RESULT))
    basic: BasicParam | None = field(default=None, metadata=tag("BasicParam", Block(BasicParam)))
    video_options: VideoParamOpt | None = field(default=None, metadata=tag("VideoParamOpt", Block(VideoParamOpt)))
    svac_encode: SvacEncodeConfig | None = field(
        default=None, metadata=tag("SVACEncodeConfig", Block(SvacEncodeConfig))
    )
    svac_decode: SvacDecodeConfig | None = field(
        default=None, metadata=tag("SVACDecodeConfig", Block(SvacDecodeConfig))
    )
    video_streams: tuple[VideoParam, ...] = field(default=(), metadata=tag("VideoParamAttribute", ItemList(VideoParam)))
    record_plan: VideoRecordPlan | None = field(default=None, metadata=tag("VideoRecordPlan", Block(VideoRecordPlan)))
    alarm_record: VideoAlarmRecord | None = field(
        default=None, metadata=tag("VideoAlarmRecord", Block(VideoAlarmRecord))
    )
    picture_mask: PictureMask | None = field(default=None, metadata=tag("PictureMask", Block(PictureMask)))
    frame_mirror: int | None = field(default=None, metadata=tag("FrameMirror", INTEGER))
    alarm_report: AlarmReport | None = field(default=None, metadata=tag("AlarmReport", Block(AlarmReport)))
    osd: OsdConfig | None = field(default=None, metadata=tag("OSDConfig", Block(OsdConfig)))
    # the schema calls the answer's block SnapShot although it is asked for and written as SnapShotConfig
    snapshot: SnapShotConfig | None = field(
        default=None, metadata=tag("SnapShot", Block(SnapShotConfig), "SnapShotConfig")
    )
    reason: str | None = field(default=None, metadata=tag("Reason"))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)

    def blocks(self) -> dict[str, object]:
        """The blocks the answer has, by ConfigType name."""
        return {name: value for name, spot in BLOCKS.items() if (value := getattr(self, spot)) not in (None, ())}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig(Message):
    """A configuration write, answered by DeviceConfigResponse; mirror 0 none, 1 horizontal, 2 vertical, 3 both."""

    root: ClassVar[Root] = "Control"
    cmd_type: ClassVar[str] = "DeviceConfig"

    basic: BasicParam | None = field(default=None, metadata=tag("BasicParam", Block(BasicParam)))
    svac_encode: SvacEncodeConfig | None = field(
        default=None, metadata=tag("SVACEncodeConfig", Block(SvacEncodeConfig))
    )
    svac_decode: SvacDecodeConfig | None = field(
        default=None, metadata=tag("SVACDecodeConfig", Block(SvacDecodeConfig))
    )
    video_streams: tuple[VideoParam, ...] = field(default=(), metadata=tag("VideoParamAttribute", ItemList(VideoParam)))
    record_plan: VideoRecordPlan | None = field(default=None, metadata=tag("VideoRecordPlan", Block(VideoRecordPlan)))
    alarm_record: VideoAlarmRecord | None = field(
        default=None, metadata=tag("VideoAlarmRecord", Block(VideoAlarmRecord))
    )
    picture_mask: PictureMask | None = field(default=None, metadata=tag("PictureMask", Block(PictureMask)))
    frame_mirror: int | None = field(default=None, metadata=tag("FrameMirror", INTEGER))
    alarm_report: AlarmReport | None = field(default=None, metadata=tag("AlarmReport", Block(AlarmReport)))
    osd: OsdConfig | None = field(default=None, metadata=tag("OSDConfig", Block(OsdConfig)))
    snapshot: SnapShotConfig | None = field(
        default=None, metadata=tag("SnapShotConfig", Block(SnapShotConfig), "SnapShot")
    )
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)

    def blocks(self) -> dict[str, object]:
        """The blocks written, by ConfigType name."""
        return {name: value for name, spot in BLOCKS.items() if (value := getattr(self, spot, None)) not in (None, ())}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfigResponse(ResultResponse):
    """Answer to a configuration write."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceConfig"
