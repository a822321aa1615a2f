"""What 2022 added: guard position, cruise tracks, PTZ position, memory cards, snapshots, upgrades, upload requests.

Angles in degrees, times in seconds, sizes in megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sipserver.protocol.manscdp_base import EXTRA, Message, Root
from sipserver.protocol.manscdp_control import HomePosition
from sipserver.protocol.manscdp_fields import INTEGER, NUMBER, RESULT, TEXT, TIME, Block, ItemList, Texts, tag


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePositionQuery(Message):
    """Query of the guard position."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "HomePositionQuery"


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePositionResponse(Message):
    """The guard position; one vendor answers with the CmdType HomePosition."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "HomePositionQuery"
    aliases: ClassVar[tuple[str, ...]] = ("HomePosition",)

    result: bool | None = field(default=None, metadata=tag("Result", RESULT))
    home: HomePosition | None = field(default=None, metadata=tag("HomePosition", Block(HomePosition)))
    reason: str | None = field(default=None, metadata=tag("Reason"))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class CruiseTrackListQuery(Message):
    """Query of the cruise tracks there are."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "CruiseTrackListQuery"


@dataclass(frozen=True, slots=True, kw_only=True)
class CruiseTrack:
    """One cruise track: 0 is the first."""

    number: int | None = field(default=None, metadata=tag("Number", INTEGER))
    name: str | None = field(default=None, metadata=tag("Name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CruiseTrackListResponse(Message):
    """The cruise tracks of a channel."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "CruiseTrackListQuery"

    result: bool | None = field(default=None, metadata=tag("Result", RESULT))
    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    tracks: tuple[CruiseTrack, ...] = field(
        default=(), metadata=tag("CruiseTrackList", ItemList(CruiseTrack, "CruiseTrack"))
    )
    reason: str | None = field(default=None, metadata=tag("Reason"))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class CruiseTrackQuery(Message):
    """Query of one cruise track, by number from 0."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "CruiseTrackQuery"

    number: int | None = field(default=None, metadata=tag("Number", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class CruisePoint:
    """A stop of a cruise: preset, seconds of stay, speed 1-15."""

    preset: int | None = field(default=None, metadata=tag("PresetIndex", INTEGER))
    stay: int | None = field(default=None, metadata=tag("StayTime", INTEGER))
    speed: int | None = field(default=None, metadata=tag("Speed", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class CruiseTrackResponse(Message):
    """One cruise track with its stops."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "CruiseTrackQuery"

    result: bool | None = field(default=None, metadata=tag("Result", RESULT))
    number: int | None = field(default=None, metadata=tag("Number", INTEGER))
    name: str | None = field(default=None, metadata=tag("Name"))
    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    points: tuple[CruisePoint, ...] = field(
        default=(), metadata=tag("CruisePointList", ItemList(CruisePoint, "CruisePoint"))
    )
    reason: str | None = field(default=None, metadata=tag("Reason"))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class PtzPositionQuery(Message):
    """Query of where the camera looks, also the body of a subscription to it."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "PTZPosition"


@dataclass(frozen=True, slots=True, kw_only=True)
class PtzView(Message):
    """Where the camera looks; every element may be absent."""

    pan: float | None = field(default=None, metadata=tag("Pan", NUMBER))
    tilt: float | None = field(default=None, metadata=tag("Tilt", NUMBER))
    zoom: float | None = field(default=None, metadata=tag("Zoom", NUMBER))
    horizontal_angle: float | None = field(default=None, metadata=tag("HorizontalFieldAngle", NUMBER))
    vertical_angle: float | None = field(default=None, metadata=tag("VerticalFieldAngle", NUMBER))
    view_distance: float | None = field(default=None, metadata=tag("MaxViewDistance", NUMBER))


@dataclass(frozen=True, slots=True, kw_only=True)
class PtzPositionResponse(PtzView):
    """Answer to PtzPositionQuery."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "PTZPosition"

    result: bool | None = field(default=None, metadata=tag("Result", RESULT))
    reason: str | None = field(default=None, metadata=tag("Reason"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PtzPositionNotify(PtzView):
    """The camera looks elsewhere now."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "PTZPosition"


@dataclass(frozen=True, slots=True, kw_only=True)
class SdCardQuery(Message):
    """Query of the memory cards."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "SDCardStatus"


@dataclass(frozen=True, slots=True, kw_only=True)
class SdCard:
    """One memory card: ``status`` ok, formatting, unformatted, idle or error; progress in percent; sizes in MB."""

    number: int | None = field(default=None, metadata=tag("ID", INTEGER))
    name: str | None = field(default=None, metadata=tag("HddName"))
    status: str | None = field(default=None, metadata=tag("Status"))
    progress: int | None = field(default=None, metadata=tag("FormatProgress", INTEGER))
    capacity: int | None = field(default=None, metadata=tag("Capacity", INTEGER))
    free: int | None = field(default=None, metadata=tag("FreeSpace", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class SdCardResponse(Message):
    """The memory cards of a device, at most eight."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "SDCardStatus"

    result: bool | None = field(default=None, metadata=tag("Result", RESULT))
    sum_num: int | None = field(default=None, metadata=tag("SumNum", INTEGER))
    cards: tuple[SdCard, ...] = field(default=(), metadata=tag("SDCardStatusInfo", ItemList(SdCard)))
    reason: str | None = field(default=None, metadata=tag("Reason"))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFinished(Message):
    """The pictures of a snapshot order are uploaded; fewer ids than ordered mean a failure (§9.14)."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "UploadSnapShotFinished"

    session: str | None = field(default=None, metadata=tag("SessionID"))
    files: tuple[str, ...] = field(default=(), metadata=tag("SnapShotList", Texts("SnapShotFileID", TEXT)))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoUploadNotify(Message):
    """A mobile device asks the platform to fetch its live picture."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "VideoUploadNotify"

    time: float | None = field(default=None, metadata=tag("Time", TIME))
    longitude: float | None = field(default=None, metadata=tag("Longitude", NUMBER))
    latitude: float | None = field(default=None, metadata=tag("Latitude", NUMBER))


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeResult(Message):
    """End of an upgrade; ``failure`` 01 download timeout, 02 package damaged, 03 system error, 99 other."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "DeviceUpgradeResult"

    session: str | None = field(default=None, metadata=tag("SessionID"))
    ok: bool | None = field(default=None, metadata=tag("UpgradeResult", RESULT))
    firmware: str | None = field(default=None, metadata=tag("Firmware"))
    failure: str | None = field(default=None, metadata=tag("UpgradeFailedReason"))
