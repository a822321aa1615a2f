"""Field tolerance as data: named switches for what real devices do differently, and which vendors need which.

A profile is the set of switches of one device. What is not in it has its default; what the field guide knows of a
vendor is proposed by ``detect`` from the manufacturer the device names, and never overrides what an operator has set.
Tolerances that harm nobody (tag case, ONLINE for ON, +08:00, …) have no switch: the reader always has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sipserver.protocol import edition
from sipserver.protocol.edition import Edition
from sipserver.protocol.manscdp import Charset

Value = bool | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One switch: its default, what it may be, what it is for and where that was seen (facts §31)."""

    name: str
    default: Value
    choices: tuple[Value, ...] = ()
    low: int = 0
    high: int = 0
    purpose: str
    source: str

    def accepts(self, value: object) -> bool:
        """True when the switch may have that value."""
        if type(value) is not type(self.default):
            return False
        if isinstance(value, bool):
            return True
        return self.low <= value <= self.high if isinstance(value, int) else value in self.choices


def _flag(name: str, default: bool, purpose: str, source: str) -> Switch:
    return Switch(name=name, default=default, purpose=purpose, source=source)


def _word(name: str, choices: tuple[str, ...], purpose: str, source: str) -> Switch:
    return Switch(name=name, default=choices[0], choices=choices, purpose=purpose, source=source)


def _number(name: str, default: int, span: tuple[int, int], purpose: str, source: str) -> Switch:
    low, high = span
    return Switch(name=name, default=default, low=low, high=high, purpose=purpose, source=source)


_ALL: Final = (
    _word(
        "edition",
        ("auto", "1.0", "1.1", "2.0", "3.0"),
        "Edition the device is taken for; auto believes its X-GB-Ver, and 2016 without one.",
        "annex I",
    ),
    _word(
        "charset",
        ("auto", "GB2312", "GB18030", "UTF-8"),
        "Label of the bodies sent; auto follows the edition.",
        "wvp#260, wvp#1341",
    ),
    _word(
        "key_frame",
        ("auto", "IFameCmd", "IFrameCmd", "both"),
        "Spelling of the key frame command; both sends one after the other.",
        "§9.2 of the field rules",
    ),
    _word(
        "config_target",
        ("device", "channel"),
        "DeviceID of BasicParam: one vendor takes only the device's.",
        "WVP code (Dahua)",
    ),
    _flag(
        "config_answer", True, "A configuration write is answered; off for devices that reboot first.", "WVP (Uniview)"
    ),
    _flag("record_type", True, "RecordInfo carries Type=all.", "WVP code (Dahua)"),
    _number("record_slice_hours", 0, (0, 168), "Longest range of one RecordInfo query in hours, 0 for any.", "wvp#291"),
    _flag("ignore_off", False, "OFF events of the directory are not believed.", "WVP code (Hikvision platform)"),
    _flag(
        "arm_on_register", False, "SetGuard after a registration: some report alarms only then.", "wvp#483, wvp#1164"
    ),
    _flag("alarm_reset", False, "Reset the device's alarm at once, so that it reports the next one.", "facts §22"),
    _flag("alarm_target", False, "Gets the alarms of other devices (clients, decoders).", "§9.4.2 steps 5-8"),
    _flag("alarm_answer", True, "Alarm MESSAGEs get their Response.", "§9.4.2"),
    _flag("alarm_position", True, "A GPS alarm (method 4) moves the object.", "facts §22"),
    _word(
        "catalog_event",
        ("auto", "Catalog", "presence"),
        "Event package of directory subscriptions; auto: presence for 2011 only.",
        "facts §13.1",
    ),
    _word(
        "answer_body",
        ("auto", "always", "never"),
        "Body in our 200 to a NOTIFY; auto: for peers up to 2016.",
        "facts §13.1",
    ),
    _number("ptz_address", 0, (0, 4095), "Address in the PTZCmd frame.", "facts §14.1"),
    _number("stop_repeats", 2, (1, 5), "How many times a stop is sent.", "facts §14.2"),
    _number("control_priority", 0, (0, 255), "Info/ControlPriority beside a PTZCmd, 0 for none.", "WVP code"),
    _flag("precise_read_back", False, "Ask where the camera looks after precise control.", "uvp docs (Hikvision)"),
    _flag(
        "channel_in_uri", False, "Queries about a channel are addressed to the channel in Request-URI.", "facts §5.1"
    ),
)
SWITCHES: Final[Mapping[str, Switch]] = {switch.name: switch for switch in _ALL}

#: (word in the manufacturer's name, lower case) → switches known to help.
_VENDORS: Final[tuple[tuple[tuple[str, ...], Mapping[str, Value]], ...]] = (
    (("hikvision", "海康"), {"record_slice_hours": 12}),
    (("uniview", "unv", "宇视"), {"config_answer": False}),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """The switches of one device that are not at their default, with the getters the shells use."""

    values: Mapping[str, Value]

    def flag(self, name: str) -> bool:
        """A switch that is on or off."""
        return bool(self._value(name))

    def number(self, name: str) -> int:
        """A switch that counts."""
        value = self._value(name)
        return value if isinstance(value, int) else 0

    def word(self, name: str) -> str:
        """A switch that names."""
        return str(self._value(name))

    def _value(self, name: str) -> Value:
        return self.values.get(name, SWITCHES[name].default)

    def edition(self, announced: str | None) -> Edition:
        """What the device is taken for: the switch, its X-GB-Ver, else 2016."""
        return edition.parse(self.word("edition")) or edition.parse(announced) or edition.ASSUMED

    def charset(self, of: Edition) -> Charset:
        """Label of bodies towards the device."""
        chosen: dict[str, Charset] = {"GB2312": "GB2312", "GB18030": "GB18030", "UTF-8": "UTF-8"}
        return chosen.get(self.word("charset"), "GB18030" if of >= edition.GB_2022 else "GB2312")

    def body_in_answer(self, of: Edition) -> bool:
        """Whether our 200 to its NOTIFY carries a Response body."""
        word = self.word("answer_body")
        return word == "always" or (word == "auto" and of < edition.GB_2022)

    def catalog_package(self, of: Edition) -> Literal["Catalog", "presence"]:
        """Event package for its directory."""
        word = self.word("catalog_event")
        return "presence" if word == "presence" or (word == "auto" and of <= edition.GB_2011) else "Catalog"


DEFAULT: Final = Profile({})


def checked(values: Mapping[str, object]) -> dict[str, Value]:
    """The values if each belongs to a switch that accepts it. Raises KeyError(name) for the first that does not."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        switch = SWITCHES.get(name)
        if switch is None or not switch.accepts(value) or not isinstance(value, bool | int | str):
            raise KeyError(name)
        found[name] = value
    return found


def detect(manufacturer: str | None) -> dict[str, Value]:
    """Switches that are safe to set for a device that names this manufacturer."""
    name = (manufacturer or "").lower()
    found: dict[str, Value] = {}
    for words, values in _VENDORS:
        if any(word in name for word in words):
            found.update(values)
    return found
