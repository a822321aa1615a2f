"""The eight-byte PTZCmd of §A.3: every command as a value, to hex for sending and back for receiving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError

_RIGHT, _LEFT, _DOWN, _UP, _ZOOM_IN, _ZOOM_OUT = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_FOCUS_FAR, _FOCUS_NEAR, _IRIS_OPEN, _IRIS_CLOSE = 0x01, 0x02, 0x04, 0x08

PresetAction = Literal["set", "call", "delete"]
CruiseAction = Literal["add", "delete", "speed", "dwell", "start"]
ScanAction = Literal["start", "left", "right", "speed"]

_PRESET: Final[dict[PresetAction, int]] = {"set": 0x81, "call": 0x82, "delete": 0x83}
_CRUISE: Final[dict[CruiseAction, int]] = {"add": 0x84, "delete": 0x85, "speed": 0x86, "dwell": 0x87, "start": 0x88}
_PRESET_OF: Final = {code: action for action, code in _PRESET.items()}
_CRUISE_OF: Final = {code: action for action, code in _CRUISE.items()}
_SCAN_OF: Final[dict[int, ScanAction]] = {0: "start", 1: "left", 2: "right"}
_SCAN_DATA: Final = {action: code for code, action in _SCAN_OF.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Continuous movement as seen in the picture; all zero is stop, which also ends cruise and scan.

    ``pan``: -1 left, 0, 1 right; ``tilt``: -1 down, 0, 1 up; ``zoom``: -1 wide, 0, 1 tele.
    Speeds: pan and tilt 0-255, zoom 0-15.
    """

    pan: int = 0
    tilt: int = 0
    zoom: int = 0
    pan_speed: int = 0
    tilt_speed: int = 0
    zoom_speed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """``focus``: -1 near, 0, 1 far; ``iris``: -1 close, 0, 1 open; speeds 0-255. All zero stops both."""

    focus: int = 0
    iris: int = 0
    focus_speed: int = 0
    iris_speed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetCommand:
    """Set, call or delete preset 1-255."""

    action: PresetAction
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cruise:
    """Cruise ``group`` 0-255. ``value``: preset (add; delete, 0 = the whole cruise), speed or dwell in s (0-4095)."""

    action: CruiseAction
    group: int
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Automatic scan ``group`` 0-255: start, set a limit here, or speed (``value`` 0-4095)."""

    action: ScanAction
    group: int
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Auxiliary:
    """Switch ``number`` 0-255 on or off; 1 is the wiper."""

    number: int
    on: bool


Command = Move | Lens | PresetCommand | Cruise | Scan | Auxiliary
STOP: Final = Move()


def encode(command: Command, *, address: int = 0) -> str:
    """16 upper-case hex digits. Raises LocalProtocolError("ptz_out_of_range") for values the frame cannot hold."""
    code, first, second, high = _body(command)
    if not (0 <= first <= 0xFF and 0 <= second <= 0xFF and 0 <= high <= 0xF and 0 <= address <= 0xFFF):
        raise LocalProtocolError("ptz_out_of_range")
    frame = bytes((0xA5, 0x0F, address & 0xFF, code, first, second, high << 4 | address >> 8))
    return (frame + bytes((sum(frame) & 0xFF,))).hex().upper()


def decode(text: str) -> Command:
    """The command in a PTZCmd; blanks and lower case are accepted, the address is ignored.

    Raises RemoteProtocolError (400) for wrong length, start, check nibble, checksum, or a command not in the table.
    """
    try:
        frame = bytes.fromhex(text)
    except ValueError as error:
        raise RemoteProtocolError("ptz_malformed", status=400) from error
    if len(frame) != 8 or frame[0] != 0xA5:
        raise RemoteProtocolError("ptz_malformed", status=400)
    if frame[1] & 0x0F != (0xA + 0x5 + (frame[1] >> 4)) & 0x0F or sum(frame[:7]) & 0xFF != frame[7]:
        raise RemoteProtocolError("ptz_checksum_wrong", status=400)
    command = _read(frame[3], frame[4], frame[5], frame[6] >> 4)
    if command is None:
        raise RemoteProtocolError("ptz_command_unknown", status=400)
    return command


def _sign(value: int, positive: int, negative: int) -> int:
    if value not in (-1, 0, 1):
        raise LocalProtocolError("ptz_out_of_range")
    return (0, positive, negative)[value]


def _body(command: Command) -> tuple[int, int, int, int]:
    """Bytes 4, 5, 6 and the high nibble of byte 7."""
    if isinstance(command, Move):
        code = _sign(command.pan, _RIGHT, _LEFT) | _sign(command.tilt, _UP, _DOWN)
        code |= _sign(command.zoom, _ZOOM_IN, _ZOOM_OUT)
        return code, command.pan_speed, command.tilt_speed, command.zoom_speed
    if isinstance(command, Lens):
        code = 0x40 | _sign(command.focus, _FOCUS_FAR, _FOCUS_NEAR) | _sign(command.iris, _IRIS_OPEN, _IRIS_CLOSE)
        return code, command.focus_speed, command.iris_speed, 0
    if isinstance(command, PresetCommand):
        return _PRESET[command.action], 0, command.number if command.number else -1, 0
    if isinstance(command, Cruise):
        return _cruise(command)
    if isinstance(command, Scan):
        if command.action == "speed":
            return 0x8A, command.group, command.value & 0xFF, command.value >> 8
        return 0x89, command.group, _SCAN_DATA[command.action], 0
    return (0x8C if command.on else 0x8D), command.number, 0, 0


def _cruise(command: Cruise) -> tuple[int, int, int, int]:
    code = _CRUISE[command.action]
    if command.action in ("speed", "dwell"):
        return code, command.group, command.value & 0xFF, command.value >> 8
    if command.action == "start":
        return code, command.group, 0, 0
    return code, command.group, command.value if command.value or command.action == "delete" else -1, 0


def _read(code: int, first: int, second: int, high: int) -> Command | None:
    if code & 0xC0 == 0:
        return _read_move(code, first, second, high)
    if code & 0xF0 == 0x40:
        return _read_lens(code, first, second)
    if code in _PRESET_OF:
        return PresetCommand(action=_PRESET_OF[code], number=second) if second else None
    if code in _CRUISE_OF:
        action = _CRUISE_OF[code]
        wide = action in ("speed", "dwell")
        value = high << 8 | second if wide else 0 if action == "start" else second
        return Cruise(action=action, group=first, value=value)
    if code == 0x89 and second in _SCAN_OF:
        return Scan(action=_SCAN_OF[second], group=first)
    if code == 0x8A:
        return Scan(action="speed", group=first, value=high << 8 | second)
    if code in (0x8C, 0x8D):
        return Auxiliary(number=first, on=code == 0x8C)
    return None


def _axis(code: int, positive: int, negative: int) -> int | None:
    """1, -1 or 0; None when both opposite bits are set."""
    both = bool(code & positive), bool(code & negative)
    return None if all(both) else both[0] - both[1]


def _read_move(code: int, first: int, second: int, high: int) -> Move | None:
    pan, tilt, zoom = _axis(code, _RIGHT, _LEFT), _axis(code, _UP, _DOWN), _axis(code, _ZOOM_IN, _ZOOM_OUT)
    if pan is None or tilt is None or zoom is None:
        return None
    return Move(
        pan=pan,
        tilt=tilt,
        zoom=zoom,
        pan_speed=first if pan else 0,
        tilt_speed=second if tilt else 0,
        zoom_speed=high if zoom else 0,
    )


def _read_lens(code: int, first: int, second: int) -> Lens | None:
    focus, iris = _axis(code, _FOCUS_FAR, _FOCUS_NEAR), _axis(code, _IRIS_OPEN, _IRIS_CLOSE)
    if focus is None or iris is None:
        return None
    return Lens(focus=focus, iris=iris, focus_speed=first if focus else 0, iris_speed=second if iris else 0)
