"""The messages of MANSCDP (annex A) as frozen dataclasses, one class per (root, CmdType).

Times are unix seconds (the wire has Beijing time), distances and speeds as the standard names them, absent elements are
None. Two-valued elements (ON/OFF, OK/ERROR, ONLINE/OFFLINE, 0/1) are booleans. ``sn`` is 0 when the sender gave none
or an invalid one: such a message cannot be correlated. ``device_id`` is the object meant, None when missing.
Field order is the emission order of the 2022 schema; superseded elements of older editions stand where those had them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp_base import EXTRA, Message, ResultResponse, Root
from sipserver.protocol.manscdp_fields import (
    FLAG,
    ID,
    INTEGER,
    NUMBER,
    ONLINE,
    RESULT,
    SWITCH,
    TIME,
    Block,
    ItemList,
    Scalar,
    Texts,
    tag,
)
from sipserver.protocol.manscdp_item import CatalogItem


def _read_duty(text: str) -> str | None:
    word = text.strip().upper()
    return word if word in {"ONDUTY", "OFFDUTY", "ALARM"} else None


# ── Notifications (§A.2.5) ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive(Message):
    """Heartbeat (§9.6). ``ok`` False means "working abnormally" and still online; ``faulty`` lists sub-devices."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Keepalive"

    ok: bool | None = field(default=True, metadata=tag("Status", RESULT))
    faulty: tuple[GbId, ...] = field(default=(), metadata=tag("Info", Texts("DeviceID", ID)))


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStatus(Message):
    """In-dialog notice of the sender of media; ``notify_type`` 121 = end of the file (§9.8)."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "MediaStatus"

    notify_type: int | None = field(default=121, metadata=tag("NotifyType", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast(Message):
    """Start of a voice broadcast (§9.12); has ``source``/``target`` in place of a DeviceID."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Broadcast"

    source: GbId | None = field(default=None, metadata=tag("SourceID", ID))
    target: GbId | None = field(default=None, metadata=tag("TargetID", ID))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmTypeParameter:
    """``AlarmTypeParam`` of an intrusion alarm: 1 entering, 2 leaving."""

    event_type: int | None = field(default=None, metadata=tag("EventType", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmInfo:
    """``Info`` of an alarm: the type within its method (table of §A.2.5.3). Also ``Info`` of an alarm reset."""

    control_priority: int | None = field(default=None, metadata=tag("ControlPriority", INTEGER))  # beside PTZCmd, ≤ 1.1
    alarm_method: str | None = field(default=None, metadata=tag("AlarmMethod"))
    alarm_type: int | None = field(default=None, metadata=tag("AlarmType", INTEGER))
    parameter: AlarmTypeParameter | None = field(
        default=None, metadata=tag("AlarmTypeParam", Block(AlarmTypeParameter))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm(Message):
    """Alarm (§9.4): ``priority`` 1 (highest) to 4, ``method`` 1-7; ``device_id`` may be a 10-digit alarm centre."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Alarm"

    priority: int | None = field(default=None, metadata=tag("AlarmPriority", INTEGER))
    method: int | None = field(default=None, metadata=tag("AlarmMethod", INTEGER))
    time: float | None = field(default=None, metadata=tag("AlarmTime", TIME))
    description: str | None = field(default=None, metadata=tag("AlarmDescription"))
    longitude: float | None = field(default=None, metadata=tag("Longitude", NUMBER))
    latitude: float | None = field(default=None, metadata=tag("Latitude", NUMBER))
    info: AlarmInfo | None = field(default=None, metadata=tag("Info", Block(AlarmInfo)))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One point of the 2022 list form; km/h, degrees clockwise from north, metres, WGS-84."""

    device_id: GbId | None = field(default=None, metadata=tag("DeviceID", ID))
    capture_time: float | None = field(default=None, metadata=tag("CaptureTime", TIME))
    longitude: float | None = field(default=None, metadata=tag("Longitude", NUMBER))
    latitude: float | None = field(default=None, metadata=tag("Latitude", NUMBER))
    speed: float | None = field(default=None, metadata=tag("Speed", NUMBER))
    direction: float | None = field(default=None, metadata=tag("Direction", NUMBER))
    altitude: float | None = field(default=None, metadata=tag("Altitude", NUMBER))
    height: float | None = field(default=None, metadata=tag("Height", NUMBER))


@dataclass(frozen=True, slots=True, kw_only=True)
class MobilePosition(Message):
    """Position notice: the single point of 2016 in the message itself, the list of 2022 in ``positions``."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "MobilePosition"

    target: GbId | None = field(default=None, metadata=tag("TargetID", ID))
    time: float | None = field(default=None, metadata=tag("Time", TIME))
    longitude: float | None = field(default=None, metadata=tag("Longitude", NUMBER))
    latitude: float | None = field(default=None, metadata=tag("Latitude", NUMBER))
    speed: float | None = field(default=None, metadata=tag("Speed", NUMBER))
    direction: float | None = field(default=None, metadata=tag("Direction", NUMBER))
    altitude: float | None = field(default=None, metadata=tag("Altitude", NUMBER))
    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    positions: tuple[Position, ...] = field(default=(), metadata=tag("DeviceList", ItemList(Position)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogNotify(Message):
    """Change of the directory (§9.11, annex N); items carry ``event``, a missing one means upsert."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Catalog"

    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    items: tuple[CatalogItem, ...] = field(default=(), metadata=tag("DeviceList", ItemList(CatalogItem)))


# ── Queries (§A.2.4) ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogQuery(Message):
    """Directory query (§9.5); an interval restricts to objects added in it."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "Catalog"

    start_time: float | None = field(default=None, metadata=tag("StartTime", TIME))
    end_time: float | None = field(default=None, metadata=tag("EndTime", TIME))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfoQuery(Message):
    """Query of vendor, model and channel count."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "DeviceInfo"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatusQuery(Message):
    """Query of the working state."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "DeviceStatus"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordInfoQuery(Message):
    """Query of recordings (§9.7). ``type`` is always sent: one vendor answers only then.

    ``indistinct`` 0: search where the To header points, 1: search both and merge. ``stream_number``, ``alarm_method``
    and ``alarm_type`` only towards peers of the 2022 edition.
    """

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "RecordInfo"

    start_time: float | None = field(default=None, metadata=tag("StartTime", TIME))
    end_time: float | None = field(default=None, metadata=tag("EndTime", TIME))
    file_path: str | None = field(default=None, metadata=tag("FilePath"))
    address: str | None = field(default=None, metadata=tag("Address"))
    secrecy: bool | None = field(default=None, metadata=tag("Secrecy", FLAG))
    type: str | None = field(default="all", metadata=tag("Type"))
    recorder_id: str | None = field(default=None, metadata=tag("RecorderID"))
    indistinct: int | None = field(default=None, metadata=tag("IndistinctQuery", INTEGER))
    stream_number: int | None = field(default=None, metadata=tag("StreamNumber", INTEGER))
    alarm_method: str | None = field(default=None, metadata=tag("AlarmMethod"))
    alarm_type: str | None = field(default=None, metadata=tag("AlarmType"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmQuery(Message):
    """Body of an alarm subscription; older samples spell the times ``StartTime``/``EndTime``."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "Alarm"

    start_priority: int | None = field(default=None, metadata=tag("StartAlarmPriority", INTEGER))
    end_priority: int | None = field(default=None, metadata=tag("EndAlarmPriority", INTEGER))
    method: str | None = field(default=None, metadata=tag("AlarmMethod"))
    type: str | None = field(default=None, metadata=tag("AlarmType"))
    start_time: float | None = field(default=None, metadata=tag("StartAlarmTime", TIME, "StartTime"))
    end_time: float | None = field(default=None, metadata=tag("EndAlarmTime", TIME, "EndTime"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MobilePositionQuery(Message):
    """Body of a position subscription; ``interval`` in seconds, 5 when absent."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "MobilePosition"

    interval: int | None = field(default=None, metadata=tag("Interval", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetQuery(Message):
    """Query of presets; edition 1.1 spells it ``PersetQuery``."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "PresetQuery"
    aliases: ClassVar[tuple[str, ...]] = ("PersetQuery",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersetQuery(PresetQuery):
    """PresetQuery as edition 1.1 spells it; only for sending, both spellings are read as PresetQuery."""

    cmd_type: ClassVar[str] = "PersetQuery"


# ── Responses (§A.2.6) ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmResponse(ResultResponse):
    """Acknowledgement of an alarm MESSAGE (§9.4)."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastResponse(ResultResponse):
    """Answer to a broadcast notice; ``device_id`` is the voice output."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Broadcast"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogResponse(Message):
    """One part of a directory (annex M): ``sum_num`` is the total of all parts and may lie."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Catalog"

    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    items: tuple[CatalogItem, ...] = field(default=(), metadata=tag("DeviceList", ItemList(CatalogItem)))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfoResponse(Message):
    """Vendor, model, firmware and channel count; the last three only in samples of editions up to 2016."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceInfo"

    name: str | None = field(default=None, metadata=tag("DeviceName"))
    result: bool | None = field(default=True, metadata=tag("Result", RESULT))
    manufacturer: str | None = field(default=None, metadata=tag("Manufacturer"))
    model: str | None = field(default=None, metadata=tag("Model"))
    firmware: str | None = field(default=None, metadata=tag("Firmware"))
    channels: int | None = field(default=None, metadata=tag("Channel", INTEGER))
    device_type: str | None = field(default=None, metadata=tag("DeviceType"))
    max_camera: int | None = field(default=None, metadata=tag("MaxCamera", INTEGER))
    max_alarm: int | None = field(default=None, metadata=tag("MaxAlarm", INTEGER))
    reason: str | None = field(default=None, metadata=tag("Reason"))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmDuty:
    """State of one alarm input: ONDUTY, OFFDUTY or ALARM; the element has had three names."""

    device_id: GbId | None = field(default=None, metadata=tag("DeviceID", ID))
    duty: str | None = field(
        default=None, metadata=tag("DutyStatus", Scalar(_read_duty, str), "StatusDutyStatus", "Status")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatusResponse(Message):
    """Working state: ``online``, ``ok`` (Status), ``encode``, ``record``, the device's clock, alarm inputs."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceStatus"

    result: bool | None = field(default=True, metadata=tag("Result", RESULT))
    online: bool | None = field(default=None, metadata=tag("Online", ONLINE))
    ok: bool | None = field(default=None, metadata=tag("Status", RESULT))
    reason: str | None = field(default=None, metadata=tag("Reason"))
    encode: bool | None = field(default=None, metadata=tag("Encode", SWITCH))
    record: bool | None = field(default=None, metadata=tag("Record", SWITCH))
    device_time: float | None = field(default=None, metadata=tag("DeviceTime", TIME))
    alarms: tuple[AlarmDuty, ...] = field(default=(), metadata=tag("Alarmstatus", ItemList(AlarmDuty)))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordItem:
    """One recording: times unix seconds, ``size`` bytes, ``type`` time/alarm/manual."""

    device_id: GbId | None = field(default=None, metadata=tag("DeviceID", ID))
    name: str | None = field(default=None, metadata=tag("Name"))
    file_path: str | None = field(default=None, metadata=tag("FilePath"))
    address: str | None = field(default=None, metadata=tag("Address"))
    start_time: float | None = field(default=None, metadata=tag("StartTime", TIME))
    end_time: float | None = field(default=None, metadata=tag("EndTime", TIME))
    secrecy: bool | None = field(default=None, metadata=tag("Secrecy", FLAG))
    type: str | None = field(default=None, metadata=tag("Type"))
    recorder_id: str | None = field(default=None, metadata=tag("RecorderID"))
    size: int | None = field(default=None, metadata=tag("FileSize", INTEGER))
    location: str | None = field(default=None, metadata=tag("RecordLocation"))
    stream_number: int | None = field(default=None, metadata=tag("StreamNumber", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordInfoResponse(Message):
    """One part of a list of recordings; nothing found is ``sum_num`` 0 without a list."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "RecordInfo"

    name: str | None = field(default=None, metadata=tag("Name"))
    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    items: tuple[RecordItem, ...] = field(default=(), metadata=tag("RecordList", ItemList(RecordItem)))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One stored position of a PTZ camera."""

    number: int | None = field(default=None, metadata=tag("PresetID", INTEGER))
    name: str | None = field(default=None, metadata=tag("PresetName"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetResponse(Message):
    """The presets of a channel."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "PresetQuery"
    aliases: ClassVar[tuple[str, ...]] = ("PersetQuery",)

    result: bool | None = field(default=None, metadata=tag("Result", RESULT))
    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    presets: tuple[Preset, ...] = field(default=(), metadata=tag("PresetList", ItemList(Preset, always=True)))
    reason: str | None = field(default=None, metadata=tag("Reason"))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)
