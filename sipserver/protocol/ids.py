"""Names of things: opaque keys for URLs and logs, 20-digit address codes and SSRCs for the wire.

Address codes are protected information: `str()` and `repr()` of a GbId are redacted, only `.value` gives the digits.
Layout of the codes: GB/T 28181-2022 annex E; SSRC: annex G (`y=`).
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError

DeviceKey = NewType("DeviceKey", str)  # dev_…
ChannelKey = NewType("ChannelKey", str)  # chn_…
LeaseKey = NewType("LeaseKey", str)  # lea_…
StreamKey = NewType("StreamKey", str)  # str_…
UserKey = NewType("UserKey", str)  # usr_…

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_KEY_LENGTH = 20
_PREFIXES = frozenset({"dev", "chn", "lea", "str", "usr"})
_KEY = re.compile(r"(?:dev|chn|lea|str|usr)_[a-z2-7]{20}\Z")

# Makes the four redaction digits useless outside this process: with a fixed hash the six digits of the serial
# number could be found by trying them all.
_REDACTION_SALT = os.urandom(16)


def new_key(prefix: str, token: Callable[[int], str]) -> str:
    """An opaque key `prefix_` + 20 lower-case base32 characters (100 bits); token(n) must give 2n random hex digits."""
    if prefix not in _PREFIXES:
        raise LocalProtocolError("key_prefix_unknown")
    digest = hashlib.sha256(token(_KEY_LENGTH).encode()).digest()
    return f"{prefix}_" + "".join(_BASE32[octet & 31] for octet in digest[:_KEY_LENGTH])


def is_key(text: str, prefix: str | None = None) -> bool:
    """True for the form of an opaque key (of one prefix if given)."""
    return bool(_KEY.match(text)) and (prefix is None or text.startswith(f"{prefix}_"))


class Kind(enum.Enum):
    """What an address code names, by its type code (annex E, table E.1) or its length."""

    DEVICE = "device"  # 111-130: main device that has channels (NVR, DVR, encoder …)
    CAMERA = "camera"  # 131, 132: plays by itself
    ALARM_INPUT = "alarm_input"  # 134
    ALARM_OUTPUT = "alarm_output"  # 135, 140
    AUDIO_INPUT = "audio_input"  # 136
    AUDIO_OUTPUT = "audio_output"  # 137
    MOBILE = "mobile"  # 138
    PERIPHERAL = "peripheral"  # other 131-199
    PLATFORM = "platform"  # 200-214, 217-299 and 500-599
    BUSINESS_GROUP = "business_group"  # 215
    VIRTUAL_ORGANISATION = "virtual_organisation"  # 216
    USER = "user"  # 300-499
    DIVISION = "division"  # 2, 4, 6 or 8 digits
    UNKNOWN = "unknown"  # extension codes and opaque identifiers of other forms


_EXACT_KINDS = {
    131: Kind.CAMERA,
    132: Kind.CAMERA,
    134: Kind.ALARM_INPUT,
    135: Kind.ALARM_OUTPUT,
    136: Kind.AUDIO_INPUT,
    137: Kind.AUDIO_OUTPUT,
    138: Kind.MOBILE,
    140: Kind.ALARM_OUTPUT,
    215: Kind.BUSINESS_GROUP,
    216: Kind.VIRTUAL_ORGANISATION,
}
_RANGE_KINDS = (
    (range(111, 131), Kind.DEVICE),
    (range(131, 200), Kind.PERIPHERAL),
    (range(200, 300), Kind.PLATFORM),
    (range(300, 500), Kind.USER),
    (range(500, 600), Kind.PLATFORM),
)
_DIGITS = re.compile(r"[0-9]+\Z")
_OPAQUE = re.compile(r"[0-9A-Za-z._~+-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class GbId:
    """An address code as the wire carries it: 20 digits in the norm.

    Codes of other lengths from registered peers are kept as opaque identifiers (facts §1.9): 1-64 characters out of
    letters, digits and `._~+-`. Anything else raises RemoteProtocolError("address_code_malformed", status=400).
    """

    value: str

    def __post_init__(self) -> None:
        if not _OPAQUE.match(self.value):
            raise RemoteProtocolError("address_code_malformed", status=400)

    @classmethod
    def parse(cls, text: str) -> GbId:
        """Code from the wire, surrounding blanks allowed."""
        return cls(text.strip(" \t\r\n"))

    @property
    def is_standard(self) -> bool:
        """True for exactly 20 ASCII digits."""
        return len(self.value) == 20 and bool(_DIGITS.match(self.value))

    @property
    def type_code(self) -> int | None:
        """Digits 11-13; None when the code has not 20 digits."""
        return int(self.value[10:13]) if self.is_standard else None

    @property
    def is_platform(self) -> bool:
        return self.classify() is Kind.PLATFORM

    @property
    def domain(self) -> str:
        """SIP domain of the code: its first ten digits (facts §1.8)."""
        return self.value[:10]

    @property
    def ssrc_domain(self) -> str:
        """Digits 4-8, which form digits 2-6 of an SSRC (facts §15.4)."""
        if not self.is_standard:
            raise LocalProtocolError("ssrc_domain_needs_20_digits")
        return self.value[3:8]

    def classify(self) -> Kind:
        """What the code names; unknown extension codes give Kind.UNKNOWN, never an error."""
        code = self.type_code
        if code is None:
            if len(self.value) in (2, 4, 6, 8) and _DIGITS.match(self.value):
                return Kind.DIVISION
            return Kind.UNKNOWN
        exact = _EXACT_KINDS.get(code)
        if exact is not None:
            return exact
        for codes, kind in _RANGE_KINDS:
            if code in codes:
                return kind
        return Kind.UNKNOWN

    def __str__(self) -> str:
        tag = hashlib.blake2s(self.value.encode(), key=_REDACTION_SALT, digest_size=2).hexdigest()
        return f"GbId({self.value[:4]}…#{tag})"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Ssrc:
    """A GB synchronisation source: ten decimal digits, also the 32-bit number in RTP (annex G; facts §15.4)."""

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 0xFFFFFFFF:
            raise RemoteProtocolError("ssrc_out_of_range", status=488)

    @property
    def text(self) -> str:
        """The ten digits of `y=`, leading zeros kept."""
        return f"{self.value:010d}"

    @property
    def number(self) -> int:
        """The last four digits: number of the stream within its domain."""
        return self.value % 10_000

    @classmethod
    def compose(cls, domain_id: GbId, history: bool, number: int) -> Ssrc:
        """Digit 1: 0 live, 1 history; digits 2-6: digits 4-8 of the domain's code; digits 7-10: number 0-9999."""
        if not 0 <= number <= 9999:
            raise LocalProtocolError("ssrc_number_out_of_range")
        return cls(int(f"{int(history)}{domain_id.ssrc_domain}{number:04d}"))

    @classmethod
    def parse(cls, text: str) -> Ssrc:
        """Value of a `y=` line: 1-10 ASCII digits (short ones are seen) within 32 bits, else RemoteProtocolError."""
        stripped = text.strip()
        if not 1 <= len(stripped) <= 10 or not _DIGITS.match(stripped):
            raise RemoteProtocolError("ssrc_malformed", status=488)
        return cls(int(stripped))
