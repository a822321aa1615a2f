"""The controls of §A.2.3.1 and their answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp_base import EXTRA, Message, ResultResponse, Root
from sipserver.protocol.manscdp_fields import FLAG, ID, INTEGER, NUMBER, Block, tag
from sipserver.protocol.manscdp_types import AlarmInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class DragZoom:
    """A box of the play window in pixels from its top left corner."""

    length: int | None = field(default=None, metadata=tag("Length", INTEGER))
    width: int | None = field(default=None, metadata=tag("Width", INTEGER))
    mid_x: int | None = field(default=None, metadata=tag("MidPointX", INTEGER))
    mid_y: int | None = field(default=None, metadata=tag("MidPointY", INTEGER))
    length_x: int | None = field(default=None, metadata=tag("LengthX", INTEGER))
    length_y: int | None = field(default=None, metadata=tag("LengthY", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePosition:
    """Guard position: return to ``preset`` after ``reset_time`` seconds without control."""

    enabled: bool | None = field(default=None, metadata=tag("Enabled", FLAG))
    reset_time: int | None = field(default=None, metadata=tag("ResetTime", INTEGER))
    preset: int | None = field(default=None, metadata=tag("PresetIndex", INTEGER))


@dataclass(frozen=True, slots=True, kw_only=True)
class PtzPrecise:
    """Absolute position in degrees (tilt: up is smaller) and zoom factor (2022)."""

    pan: float | None = field(default=None, metadata=tag("Pan", NUMBER))
    tilt: float | None = field(default=None, metadata=tag("Tilt", NUMBER))
    zoom: float | None = field(default=None, metadata=tag("Zoom", NUMBER))


@dataclass(frozen=True, slots=True, kw_only=True)
class PtzParameters:
    """Names that go with a PTZCmd: of the preset set, or of the cruise track (2022, at most 32 bytes)."""

    preset_name: str | None = field(default=None, metadata=tag("PresetName"))
    cruise_track_name: str | None = field(default=None, metadata=tag("CruiseTrackName"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUpgrade:
    """Firmware to fetch and install; ``session`` has 32 to 128 characters (§9.13)."""

    firmware: str | None = field(default=None, metadata=tag("Firmware"))
    url: str | None = field(default=None, repr=False, metadata=tag("FileURL"))
    manufacturer: str | None = field(default=None, metadata=tag("Manufacturer"))
    session: str | None = field(default=None, metadata=tag("SessionID"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceControl(Message):
    """A control (§9.3); exactly one sub-command is set.

    ``ptz`` is 16 hexadecimal digits (see ptz.py); ``iframe`` is any non-empty text (``Send``), ``iframe_2016`` the
    spelling IFameCmd that 2016 devices understand; ``record`` Record/StopRecord, ``guard`` SetGuard/ResetGuard,
    ``alarm`` ResetAlarm with the reset alarm in ``info``, ``teleboot`` Boot, ``track`` Auto/Manual/Stop with the
    panorama channel in ``track_source`` and the box in ``track_area``.
    """

    root: ClassVar[Root] = "Control"
    cmd_type: ClassVar[str] = "DeviceControl"

    ptz: str | None = field(default=None, metadata=tag("PTZCmd"))
    ptz_parameters: PtzParameters | None = field(default=None, metadata=tag("PTZCmdParams", Block(PtzParameters)))
    teleboot: str | None = field(default=None, metadata=tag("TeleBoot"))
    record: str | None = field(default=None, metadata=tag("RecordCmd"))
    stream_number: int | None = field(default=None, metadata=tag("StreamNumber", INTEGER))
    guard: str | None = field(default=None, metadata=tag("GuardCmd"))
    alarm: str | None = field(default=None, metadata=tag("AlarmCmd"))
    info: AlarmInfo | None = field(default=None, metadata=tag("Info", Block(AlarmInfo)))
    iframe: str | None = field(default=None, metadata=tag("IFrameCmd"))
    iframe_2016: str | None = field(default=None, metadata=tag("IFameCmd"))
    drag_zoom_in: DragZoom | None = field(default=None, metadata=tag("DragZoomIn", Block(DragZoom)))
    drag_zoom_out: DragZoom | None = field(default=None, metadata=tag("DragZoomOut", Block(DragZoom)))
    home_position: HomePosition | None = field(default=None, metadata=tag("HomePosition", Block(HomePosition)))
    ptz_precise: PtzPrecise | None = field(default=None, metadata=tag("PTZPreciseCtrl", Block(PtzPrecise)))
    upgrade: DeviceUpgrade | None = field(default=None, metadata=tag("DeviceUpgrade", Block(DeviceUpgrade)))
    format_sd_card: int | None = field(default=None, metadata=tag("FormatSDCard", INTEGER))
    track: str | None = field(default=None, metadata=tag("TargetTrack"))
    track_source: GbId | None = field(default=None, metadata=tag("DeviceID2", ID))
    track_area: DragZoom | None = field(default=None, metadata=tag("TargetArea", Block(DragZoom)))
    extra: tuple[str, ...] = field(default=(), metadata=EXTRA)

    @property
    def key_frame(self) -> bool:
        """True when an immediate key frame is asked for, in either spelling."""
        return bool(self.iframe or self.iframe_2016)

    @property
    def answered(self) -> bool:
        """True for the sub-commands that have a business answer (§9.3.1 e); the others end with the SIP 200."""
        return bool(self.record or self.guard or self.alarm or self.home_position or self.upgrade)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceControlResponse(ResultResponse):
    """Answer to those controls that have one (§9.3.1 e)."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceControl"
