"""PTZCmd against the table of §A.3 and the vectors of the field guide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from sipserver.protocol.ptz import STOP, Auxiliary, Command, Cruise, Lens, Move, PresetCommand, Scan, decode, encode

VECTORS: list[tuple[Command, str]] = [
    (STOP, "A50F0000000000B4"),
    (Move(pan=1, pan_speed=0x1F), "A50F00011F0000D4"),
    (Move(pan=-1, pan_speed=0x1F), "A50F00021F0000D5"),
    (Move(tilt=-1, tilt_speed=0x7D), "A50F0004007D0035"),
    (Move(tilt=1, tilt_speed=0x7D), "A50F0008007D0039"),
    (Move(zoom=1, zoom_speed=5), "A50F001000005014"),
    (Move(zoom=-1, zoom_speed=5), "A50F002000005024"),
    (Move(pan=1, tilt=1, zoom=-1, pan_speed=0x20, tilt_speed=0x30, zoom_speed=3), "A50F00292030305D"),
    (Lens(), "A50F0040000000F4"),
    (Lens(focus=1, focus_speed=0x40), "A50F004140000035"),
    (Lens(focus=-1, focus_speed=0x40), "A50F004240000036"),
    (Lens(iris=1, iris_speed=0x40), "A50F004400400038"),
    (Lens(iris=-1, iris_speed=0x40), "A50F00480040003C"),
    (PresetCommand(action="set", number=1), "A50F008100010036"),
    (PresetCommand(action="call", number=1), "A50F008200010037"),
    (PresetCommand(action="delete", number=1), "A50F008300010038"),
    (Cruise(action="add", group=1, value=2), "A50F00840102003B"),
    (Cruise(action="delete", group=1, value=2), "A50F00850102003C"),
    (Cruise(action="delete", group=1), "A50F00850100003A"),
    (Cruise(action="speed", group=1, value=0x123), "A50F00860123106E"),
    (Cruise(action="dwell", group=1, value=300), "A50F0087012C1078"),
    (Cruise(action="start", group=1), "A50F00880100003D"),
    (Scan(action="start", group=1), "A50F00890100003E"),
    (Scan(action="left", group=1), "A50F00890101003F"),
    (Scan(action="right", group=1), "A50F008901020040"),
    (Scan(action="speed", group=1, value=0xA0), "A50F008A01A000DF"),
    (Auxiliary(number=1, on=True), "A50F008C01000041"),
    (Auxiliary(number=1, on=False), "A50F008D01000042"),
]


@pytest.mark.parametrize(("command", "text"), VECTORS, ids=[text for _, text in VECTORS])
def test_vectors_both_ways(command: Command, text: str) -> None:
    assert encode(command) == text
    assert decode(text) == command
    assert decode(text.lower()) == command


def test_address_is_sent_and_ignored() -> None:
    left = Move(pan=-1, pan_speed=0x1F)
    assert encode(left, address=1) == "A50F01021F0000D6"
    assert decode("A50F01021F0000D6") == left
    assert decode(encode(left, address=0xFFF)) == left


@pytest.mark.parametrize(
    "command",
    [
        Move(pan=2),
        Move(pan=1, pan_speed=256),
        Move(zoom=1, zoom_speed=16),
        Move(tilt=1, tilt_speed=-1),
        PresetCommand(action="call", number=0),
        PresetCommand(action="call", number=256),
        Cruise(action="dwell", group=1, value=4096),
        Cruise(action="add", group=1, value=0),
        Auxiliary(number=-1, on=True),
    ],
)
def test_out_of_range_is_refused(command: Command) -> None:
    with pytest.raises(LocalProtocolError, match="ptz_out_of_range"):
        encode(command)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ptz_malformed"),
        ("A50F", "ptz_malformed"),
        ("zz0F0000000000B4", "ptz_malformed"),
        ("A60F0000000000B5", "ptz_malformed"),
        ("A50F0000000000B5", "ptz_checksum_wrong"),
        ("A50E0000000000B3", "ptz_checksum_wrong"),
        ("A50F0003000000B7", "ptz_command_unknown"),
        ("A50F00FF000000B3", "ptz_command_unknown"),
    ],
)
def test_frames_of_others_are_checked(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        decode(text)
    assert (refused.value.reason, refused.value.status) == (reason, 400)


def outcome(text: str) -> Command | int | None:
    try:
        return decode(text)
    except RemoteProtocolError as error:
        return error.status


@given(st.one_of(st.text(max_size=20), st.binary(min_size=8, max_size=8).map(bytes.hex)))
def test_garbage(text: str) -> None:
    found = outcome(text)
    assert isinstance(found, int) or (found is not None and decode(encode(found)) == found)


@given(st.binary(min_size=4, max_size=4))
def test_every_command_byte_with_right_checksums(data: bytes) -> None:
    frame = b"\xa5\x0f\x00" + data
    found = outcome((frame + bytes((sum(frame) & 0xFF,))).hex())
    assert found == 400 or (found is not None and not isinstance(found, int) and decode(encode(found)) == found)
