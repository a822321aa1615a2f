"""What the standard allows in controls and configuration blocks that we send (§A.2.1, §A.2.3): one table, one walker.

Peers may write what they like; the table binds only us.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final

from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.manscdp_config import BasicParam as Basic
from sipserver.protocol.manscdp_config import DeviceConfig as Config
from sipserver.protocol.manscdp_config import (
    MaskRegion,
    OsdConfig,
    OsdText,
    PictureMask,
    RecordSchedule,
    RoiItem,
    RoiParam,
    SnapShotConfig,
    SvcDecode,
    SvcEncode,
    TimeSegment,
    VideoAlarmRecord,
    VideoParam,
    VideoRecordPlan,
)
from sipserver.protocol.manscdp_control import (
    DeviceControl,
    DeviceUpgrade,
    DragZoom,
    HomePosition,
    PtzParameters,
    PtzPrecise,
)

Check = Callable[[Any], bool]

_POINT = re.compile(r"^\d{1,5},\d{1,5},\d{1,5},\d{1,5}$", re.ASCII)
_SESSION = re.compile(r"^[A-Za-z0-9_-]{32,128}$", re.ASCII)
_URL = re.compile(r"^(?:https?|ftp)://[\x21-\x7e]{1,500}$", re.ASCII)


class OutOfRangeError(LocalProtocolError):
    """A value the standard does not allow; ``element`` is the wire name of where it stands."""

    def __init__(self, element: str) -> None:
        super().__init__("value_out_of_range")
        self.element = element


def between(low: float, high: float) -> Check:
    """A number from low to high; absent is fine."""
    return lambda value: value is None or low <= value <= high


def needed(check: Check) -> Check:
    """As ``check``, and present."""
    return lambda value: value is not None and check(value)


def at_most(count: int) -> Check:
    """A list of at most so many members."""
    return lambda value: len(value) <= count


def short(characters: int) -> Check:
    """A text of at most so many characters."""
    return lambda value: value is None or len(value) <= characters


def octets(count: int) -> Check:
    """A text of at most so many octets in GB18030."""
    return lambda value: value is None or len(value.encode("gb18030", "replace")) <= count


def one_of(*words: str) -> Check:
    """One of the words, or absent."""
    return lambda value: value is None or value in words


def like(pattern: re.Pattern[str]) -> Check:
    """A text of that form."""
    return lambda value: value is not None and pattern.match(value) is not None


_PIXELS: Final = between(0, 65_535)
_BOX: Final = needed(_PIXELS)
_SECONDS: Final = between(0, 86_400)

LIMITS: Final[dict[type[Any], dict[str, Check]]] = {
    Basic: {
        "name": short(128),
        "expiration": between(60, 864_000),
        "heartbeat_interval": between(5, 3600),
        "heartbeat_count": between(1, 255),
    },
    RoiParam: {"count": between(0, 16), "items": at_most(16)},
    RoiItem: {"number": between(1, 16), "quality": between(0, 3)},
    SvcEncode: {
        "space_mode": between(0, 3),
        "time_mode": between(0, 3),
        "space_support": lambda value: value is None,
        "time_support": lambda value: value is None,
        "ratio_support": lambda value: value is None,
    },
    SvcDecode: {
        "mode": between(0, 3),
        "space_support": lambda value: value is None,
        "time_support": lambda value: value is None,
    },
    VideoParam: {
        "stream_number": needed(between(0, 255)),
        "video_format": needed(short(8)),
        "resolution": needed(short(16)),
        "frame_rate": needed(short(8)),
        "bit_rate_type": needed(one_of("1", "2")),
    },
    TimeSegment: {
        "start_hour": needed(between(0, 24)),
        "start_minute": needed(between(0, 59)),
        "start_second": needed(between(0, 59)),
        "stop_hour": needed(between(0, 24)),
        "stop_minute": needed(between(0, 59)),
        "stop_second": needed(between(0, 59)),
    },
    RecordSchedule: {"day": needed(between(1, 7)), "segments": lambda value: 1 <= len(value) <= 8},
    VideoRecordPlan: {"on": needed(lambda value: True), "days": at_most(7), "stream_number": between(0, 255)},
    VideoAlarmRecord: {
        "on": needed(lambda value: True),
        "after": _SECONDS,
        "before": _SECONDS,
        "stream_number": needed(between(0, 255)),
    },
    MaskRegion: {"number": needed(between(1, 4)), "corners": like(_POINT)},
    PictureMask: {"on": needed(lambda value: True), "regions": at_most(4)},
    OsdText: {"text": needed(short(32)), "x": _BOX, "y": _BOX},
    OsdConfig: {
        "length": _BOX,
        "width": _BOX,
        "time_x": _BOX,
        "time_y": _BOX,
        "time_type": between(0, 1),
        "lines": at_most(8),
    },
    SnapShotConfig: {
        "count": needed(between(1, 10)),
        "interval": needed(between(1, 86_400)),
        "url": like(_URL),
        "session": like(_SESSION),
    },
    Config: {"frame_mirror": between(0, 3), "video_streams": at_most(16)},
    DragZoom: {name: _BOX for name in ("length", "width", "mid_x", "mid_y", "length_x", "length_y")},
    HomePosition: {
        "enabled": needed(lambda value: True),
        "reset_time": _SECONDS,
        "preset": between(0, 255),
    },
    PtzPrecise: {"pan": between(0, 360), "tilt": between(-30, 90), "zoom": between(1, 1000)},
    PtzParameters: {"preset_name": octets(32), "cruise_track_name": octets(32)},
    DeviceUpgrade: {
        "firmware": needed(short(128)),
        "url": like(_URL),
        "manufacturer": needed(short(128)),
        "session": like(_SESSION),
    },
    DeviceControl: {
        "format_sd_card": between(0, 8),
        "stream_number": between(0, 255),
        "record": one_of("Record", "StopRecord"),
        "guard": one_of("SetGuard", "ResetGuard"),
        "alarm": one_of("ResetAlarm"),
        "teleboot": one_of("Boot"),
        "track": one_of("Auto", "Manual", "Stop"),
    },
}


def check(record: Any) -> None:
    """Look at a control or configuration and everything in it. Raises OutOfRangeError for the first bad value."""
    limits = LIMITS.get(type(record), {})
    for entry in dataclasses.fields(record):
        if "tag" not in entry.metadata:
            continue
        value = getattr(record, entry.name)
        verdict = limits.get(entry.name)
        if verdict is not None and not verdict(value):
            raise OutOfRangeError(entry.metadata["tag"])
        for inner in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(inner):
                check(inner)
    if isinstance(record, DeviceControl) and record.track == "Manual" and record.track_area is None:
        raise OutOfRangeError("TargetArea")
    if isinstance(record, VideoParam) and record.bit_rate_type == "1" and not record.bit_rate:
        raise OutOfRangeError("VideoBitRate")


def counted(config: Config) -> Config:
    """The same configuration with every number-of-members element saying what its list holds."""
    changes: dict[str, Any] = {}
    if config.picture_mask is not None:
        changes["picture_mask"] = dataclasses.replace(config.picture_mask, count=len(config.picture_mask.regions))
    if config.osd is not None:
        changes["osd"] = dataclasses.replace(config.osd, count=len(config.osd.lines))
    if config.record_plan is not None:
        days = tuple(dataclasses.replace(day, count=len(day.segments)) for day in config.record_plan.days)
        changes["record_plan"] = dataclasses.replace(config.record_plan, days=days, count=len(days))
    if config.svac_encode is not None and config.svac_encode.roi is not None:
        roi = dataclasses.replace(config.svac_encode.roi, count=len(config.svac_encode.roi.items))
        changes["svac_encode"] = dataclasses.replace(config.svac_encode, roi=roi)
    return dataclasses.replace(config, **changes)
