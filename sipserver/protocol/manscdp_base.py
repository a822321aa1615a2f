"""What every MANSCDP message starts with (§A.1), and the bare acknowledgement that many of them are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp_fields import ID, RESULT, Repeated, Scalar, read_int, tag

Root = Literal["Control", "Query", "Notify", "Response"]


def _read_sn(text: str) -> int | None:
    number = read_int(text)
    return number if number is not None and number >= 1 else None


SN: Final = Scalar(_read_sn, str)
EXTRA: Final = tag("ExtraInfo", Repeated())


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What every MANSCDP body starts with (§A.1): root element, CmdType, SN, DeviceID.

    ``aliases`` are other spellings of CmdType that mean the same message.
    """

    root: ClassVar[Root]
    cmd_type: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()

    sn: int = field(default=0, metadata=tag("SN", SN))
    device_id: GbId | None = field(default=None, metadata=tag("DeviceID", ID))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A well-formed body whose (root, CmdType) we do not know; ``root`` in lower case, ``cmd_type`` cut to 64."""

    root: str
    cmd_type: str
    sn: int = 0
    device_id: GbId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultResponse(Message):
    """What the bare acknowledgements share: ``result`` (OK True) and the ``Reason`` some devices add."""

    result: bool | None = field(default=True, metadata=tag("Result", RESULT))
    reason: str | None = field(default=None, metadata=tag("Reason"))
