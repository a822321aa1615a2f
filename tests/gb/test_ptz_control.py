"""Moving cameras: PTZCmd on the wire (§A.3), names by edition, and movements that end when nobody holds them."""

from __future__ import annotations

import asyncio

import pytest

from sipserver.control import ControlConfig
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import DeviceControl, PtzParameters
from sipserver.protocol.manscdp_limits import OutOfRangeError
from sipserver.protocol.ptz import STOP, Auxiliary, Cruise, Lens, Move, PresetCommand, Scan, decode, encode
from sipserver.queries import QueryError
from tests.gb.editions import asked, of_edition
from tests.gb.harness import FakeDevice, World, settle
from tests.gb.test_ptz import VECTORS

CHANNEL = GbId("34020000001310000001")
RIGHT = Move(pan=1, pan_speed=0x1F)


def frames(device: FakeDevice) -> list[str]:
    return [message.ptz for message in device.asked if isinstance(message, DeviceControl) and message.ptz]


@pytest.mark.parametrize(("command", "text"), VECTORS, ids=[text for _, text in VECTORS])
async def test_PTZ_01_every_vector_reaches_the_wire(world: World, command: object, text: str) -> None:
    key, device = await of_edition(world)
    await world.sessions.controls.command(key, CHANNEL, command)  # type: ignore[arg-type]
    assert asked(device, DeviceControl).ptz == text
    assert asked(device, DeviceControl).device_id == CHANNEL


DIRECTIONS = [
    ((1, 0), 0x01),
    ((-1, 0), 0x02),
    ((0, -1), 0x04),
    ((0, 1), 0x08),
    ((1, 1), 0x09),
    ((-1, 1), 0x0A),
    ((1, -1), 0x05),
    ((-1, -1), 0x06),
]


@pytest.mark.parametrize("speed", [0, 128, 255])
@pytest.mark.parametrize(("way", "bits"), DIRECTIONS)
def test_PTZ_02_directions_and_speeds(way: tuple[int, int], bits: int, speed: int) -> None:
    frame = bytes.fromhex(encode(Move(pan=way[0], tilt=way[1], pan_speed=speed, tilt_speed=speed)))
    assert (frame[3], frame[4], frame[5]) == (bits, speed, speed)
    assert frame[:2] == b"\xa5\x0f"
    assert frame[7] == sum(frame[:7]) % 256


@pytest.mark.parametrize("speed", range(16))
def test_PTZ_03_zoom_speed_is_the_high_nibble_of_byte_seven(speed: int) -> None:
    frame = bytes.fromhex(encode(Move(zoom=1, zoom_speed=speed)))
    assert (frame[3], frame[6]) == (0x10, speed << 4)


@pytest.mark.parametrize("move", [Move(zoom=1, zoom_speed=16), Move(pan=1, pan_speed=256), Move(pan=1, pan_speed=-1)])
async def test_PTZ_03_speeds_out_of_range_are_refused(world: World, move: Move) -> None:
    key, device = await of_edition(world)
    with pytest.raises(LocalProtocolError, match="ptz_out_of_range"):
        await world.sessions.controls.move(key, CHANNEL, move, owner="one")
    assert device.asked == []
    assert world.sessions.controls.moving() == 0


@pytest.mark.parametrize("move", [Move(pan=2), Move(tilt=-2), Move(zoom=3)])
def test_PTZ_04_an_axis_has_one_direction(move: Move) -> None:
    with pytest.raises(LocalProtocolError):
        encode(move)


@pytest.mark.parametrize("bits", [0x03, 0x0C, 0x30])
def test_PTZ_04_opposite_bits_are_never_read_as_a_movement(bits: int) -> None:
    frame = bytes((0xA5, 0x0F, 0, bits, 1, 1, 0x10))
    with pytest.raises(Exception, match="ptz_command_unknown"):
        decode((frame + bytes((sum(frame) % 256,))).hex())


async def test_PTZ_05_stop_is_command_zero_and_sent_twice(world: World) -> None:
    key, device = await of_edition(world)
    await world.sessions.controls.move(key, CHANNEL, RIGHT, owner="one")
    await world.sessions.controls.stop(key, CHANNEL)
    assert frames(device) == [encode(RIGHT), encode(STOP), encode(STOP)]
    assert world.sessions.controls.moving() == 0


async def test_PTZ_05_how_often_is_a_switch_of_the_profile(world: World) -> None:
    key, device = await of_edition(world)
    await world.sessions.profiles.choose(key, {"stop_repeats": 1})
    await world.sessions.controls.stop(key, CHANNEL)
    assert frames(device) == [encode(STOP)]


async def test_PTZ_05_a_stop_follows_a_start_that_was_lost(world: World) -> None:
    """The start is not answered yet (lost, and to be sent again): the second stop waits for its end."""
    key, device = await of_edition(world)
    device.sip_status = None
    moving = asyncio.ensure_future(world.sessions.controls.move(key, CHANNEL, RIGHT, owner="one"))
    await settle()
    device.sip_status = 200
    stopping = asyncio.ensure_future(world.sessions.controls.stop(key, CHANNEL))
    await settle()
    assert frames(device) == [encode(RIGHT), encode(STOP)]
    assert not stopping.done()
    # the answer to the start comes at last, without it having been a retransmission we can see
    moving.cancel()
    for task in tuple(world.sessions.controls._motions[(key, CHANNEL)].sending):
        task.cancel()
    await stopping
    assert frames(device)[-1] == encode(STOP)
    assert frames(device).count(encode(STOP)) >= 2
    await asyncio.gather(moving, return_exceptions=True)


async def test_PTZ_06_focus_and_iris(world: World) -> None:
    key, device = await of_edition(world)
    codes = []
    for lens in (
        Lens(focus=1, focus_speed=9),
        Lens(focus=-1, focus_speed=9),
        Lens(iris=1, iris_speed=9),
        Lens(iris=-1, iris_speed=9),
        Lens(),
        Lens(iris=-1, focus=1, focus_speed=9, iris_speed=9),
    ):
        await world.sessions.controls.command(key, CHANNEL, lens)
        codes.append(bytes.fromhex(asked(device, DeviceControl).ptz or "")[3])
    assert codes == [0x41, 0x42, 0x44, 0x48, 0x40, 0x49]


async def test_PTZ_06_a_moving_lens_gets_both_stops(world: World) -> None:
    key, device = await of_edition(world)
    await world.sessions.controls.move(key, CHANNEL, Lens(focus=1, focus_speed=9), owner="one")
    await world.sessions.controls.stop(key, CHANNEL)
    assert frames(device)[1:3] == [encode(STOP), encode(Lens())]


@pytest.mark.parametrize(("number", "fine"), [(0, False), (1, True), (255, True), (256, False)])
async def test_PTZ_07_presets_1_to_255(world: World, number: int, fine: bool) -> None:
    key, device = await of_edition(world)
    order = PresetCommand(action="call", number=number)
    if fine:
        await world.sessions.controls.command(key, CHANNEL, order)
        assert bytes.fromhex(asked(device, DeviceControl).ptz or "")[3:6] == bytes((0x82, 0, number))
    else:
        with pytest.raises(LocalProtocolError):
            await world.sessions.controls.command(key, CHANNEL, order)
        assert device.asked == []


@pytest.mark.parametrize(("version", "named"), [("3.0", True), ("2.0", False), (None, False)])
async def test_PTZ_08_preset_name_only_to_2022(world: World, version: str | None, named: bool) -> None:
    key, device = await of_edition(world, version)
    await world.sessions.controls.command(key, CHANNEL, PresetCommand(action="set", number=3), preset_name="东门")
    wanted = PtzParameters(preset_name="东门") if named else None
    assert asked(device, DeviceControl).ptz_parameters == wanted


async def test_PTZ_08_a_name_has_at_most_32_octets(world: World) -> None:
    key, device = await of_edition(world)
    with pytest.raises(OutOfRangeError) as caught:
        await world.sessions.controls.command(
            key, CHANNEL, PresetCommand(action="set", number=3), preset_name="门" * 17
        )
    assert caught.value.element == "PresetName"
    assert device.asked == []


def test_PTZ_09_dwell_of_300_seconds_and_the_rest_of_a_cruise() -> None:
    frame = bytes.fromhex(encode(Cruise(action="dwell", group=1, value=300)))
    assert (frame[3], frame[4], frame[5], frame[6] >> 4) == (0x87, 1, 0x2C, 1)
    codes = [
        bytes.fromhex(encode(Cruise(action=action, group=2, value=value)))[3:6]  # type: ignore[arg-type]
        for action, value in (("add", 7), ("delete", 7), ("delete", 0), ("speed", 5), ("start", 0))
    ]
    assert codes == [b"\x84\x02\x07", b"\x85\x02\x07", b"\x85\x02\x00", b"\x86\x02\x05", b"\x88\x02\x00"]
    with pytest.raises(LocalProtocolError):
        encode(Cruise(action="dwell", group=1, value=4096))


def test_PTZ_10_scan() -> None:
    codes = [
        bytes.fromhex(encode(Scan(action=action, group=1, value=value)))[3:7]  # type: ignore[arg-type]
        for action, value in (("start", 0), ("left", 0), ("right", 0), ("speed", 0xA0))
    ]
    assert codes == [b"\x89\x01\x00\x00", b"\x89\x01\x01\x00", b"\x89\x01\x02\x00", b"\x8a\x01\xa0\x00"]


def test_PTZ_11_wiper_is_switch_one() -> None:
    assert bytes.fromhex(encode(Auxiliary(number=1, on=True)))[3:5] == b"\x8c\x01"
    assert bytes.fromhex(encode(Auxiliary(number=1, on=False)))[3:5] == b"\x8d\x01"


async def test_PTZ_12_a_movement_nobody_renews_is_stopped(world: World) -> None:
    key, device = await of_edition(world)
    await world.sessions.controls.move(key, CHANNEL, RIGHT, owner="one")
    await world.pass_time(ControlConfig().hold - 1)
    assert frames(device) == [encode(RIGHT)]
    await world.pass_time(2)
    assert frames(device) == [encode(RIGHT), encode(STOP), encode(STOP)]
    await world.pass_time(60)
    assert len(frames(device)) == 3


async def test_PTZ_12_renewing_keeps_it_moving(world: World) -> None:
    key, device = await of_edition(world)
    for _ in range(4):
        await world.sessions.controls.move(key, CHANNEL, RIGHT, owner="one")
        await world.pass_time(8)
    assert frames(device) == [encode(RIGHT)] * 4


async def test_PTZ_12_a_session_that_ends_stops_what_it_moves_and_nothing_else(world: World) -> None:
    key, device = await of_edition(world)
    other = GbId("34020000001310000002")
    await world.sessions.controls.move(key, CHANNEL, RIGHT, owner="one")
    await world.sessions.controls.move(key, other, RIGHT, owner="two")
    world.sessions.controls.owner_gone("one")
    await settle()
    stopped = [m.device_id for m in device.asked if isinstance(m, DeviceControl) and m.ptz == encode(STOP)]
    assert stopped == [CHANNEL, CHANNEL]
    assert world.sessions.controls.moving() == 1


async def test_PTZ_12_a_start_without_answer_is_stopped_all_the_same(world: World) -> None:
    key, device = await of_edition(world)
    device.sip_status = None
    moving = asyncio.ensure_future(world.sessions.controls.move(key, CHANNEL, RIGHT, owner="one"))
    await settle()
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    device.sip_status = 200
    await settle()
    assert encode(STOP) in frames(device)


async def test_a_refused_start_leaves_nothing_behind(world: World) -> None:
    key, device = await of_edition(world)
    device.sip_status = 403
    with pytest.raises(QueryError) as caught:
        await world.sessions.controls.move(key, CHANNEL, RIGHT, owner="one")
    assert (caught.value.code, caught.value.status) == ("refused", 403)
    assert world.sessions.controls.moving() == 0


async def test_address_and_priority_are_switches(world: World) -> None:
    key, device = await of_edition(world, "1.0")
    await world.sessions.profiles.choose(key, {"ptz_address": 1, "control_priority": 5})
    await world.sessions.controls.command(key, CHANNEL, Move(pan=-1, pan_speed=0x1F))
    control = asked(device, DeviceControl)
    assert control.ptz == "A50F01021F0000D6"
    assert control.info is not None
    assert control.info.control_priority == 5
