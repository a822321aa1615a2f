"""Moving cameras and what else an operator may tell a channel: each act is decided and a ledger row first.

A continuous movement ends by a stop, when it is not renewed for ten seconds, and when its session ends.
"""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter
from pydantic import Field, StringConstraints

from api.asking import Signalling, device_errors, online, permitted
from api.authority import GuardedRoute
from api.problems import Problem, not_found
from api.schemas import Answer, AnyKey, Body, ChannelPath, Plain, Purpose
from api.sessions import Backend, Caller, CurrentUser, Principal
from catalog.model import Channel
from sharing.lease import Action
from sipserver.control import Controls
from sipserver.protocol import ptz
from sipserver.protocol.manscdp import DragZoom, HomePosition, PtzPrecise

log = structlog.get_logger("mingjian.api")

router = APIRouter(prefix="/api/v1/channels", route_class=GuardedRoute, tags=["control"])

Sign = Annotated[int, Field(ge=-1, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]
Wide = Annotated[int, Field(ge=0, le=4095)]
PresetNumber = Annotated[int, Field(ge=1, le=255)]
ShortName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=32), Plain]
Pixels = Annotated[int, Field(ge=0, le=65_535)]


class Move(Body):
    """Turn and zoom for as long as it is renewed. Signs: 1 right, up, tele; -1 left, down, wide."""

    kind: Literal["move"]
    pan: Sign = 0
    tilt: Sign = 0
    zoom: Sign = 0
    pan_speed: Byte = 64
    tilt_speed: Byte = 64
    zoom_speed: Annotated[int, Field(ge=0, le=15)] = 5


class Lens(Body):
    """Focus (1 far, -1 near) and iris (1 open, -1 close) for as long as it is renewed."""

    kind: Literal["lens"]
    focus: Sign = 0
    iris: Sign = 0
    focus_speed: Byte = 64
    iris_speed: Byte = 64


class Stop(Body):
    """End every movement, cruise and scan."""

    kind: Literal["stop"]


class Cruise(Body):
    """A cruise: add or delete a stop (`value` preset; deleting 0 deletes the cruise), speed, dwell in s, start."""

    kind: Literal["cruise"]
    action: Literal["add", "delete", "speed", "dwell", "start"]
    group: Byte
    value: Wide = 0
    name: ShortName | None = None


class Scan(Body):
    """An automatic scan: start, set its limits here, or its speed."""

    kind: Literal["scan"]
    action: Literal["start", "left", "right", "speed"]
    group: Byte
    value: Wide = 0


class Auxiliary(Body):
    """A switch of the camera; 1 is the wiper."""

    kind: Literal["auxiliary"]
    number: Byte
    on: bool


class Precise(Body):
    """Look exactly there: degrees (tilt: up is smaller) and zoom factor."""

    kind: Literal["precise"]
    pan: Annotated[float, Field(ge=0, le=360)] | None = None
    tilt: Annotated[float, Field(ge=-30, le=90)] | None = None
    zoom: Annotated[float, Field(ge=1, le=1000)] | None = None


class Box(Body):
    """A box in a play window of `length` × `width` pixels."""

    length: Pixels
    width: Pixels
    mid_x: Pixels
    mid_y: Pixels
    length_x: Pixels
    length_y: Pixels

    def wire(self) -> DragZoom:
        return DragZoom(**self.model_dump())


class Zoom(Body):
    """Fill the window with the box (`into`), or put the window into the box."""

    kind: Literal["drag_zoom"]
    into: bool = True
    box: Box


class Home(Body):
    """The guard position: return to `preset` after `reset_time` seconds."""

    kind: Literal["home_position"]
    enabled: bool
    reset_time: Annotated[int, Field(ge=0, le=86_400)] | None = None
    preset: Byte | None = None


class Track(Body):
    """Follow a target; Manual needs the box on the panorama channel."""

    kind: Literal["track"]
    mode: Literal["Auto", "Manual", "Stop"]
    panorama: AnyKey | None = None
    area: Box | None = None


class KeyFrame(Body):
    """Send a key frame at once."""

    kind: Literal["key_frame"]


Command = Move | Lens | Stop | Cruise | Scan | Auxiliary | Precise | Zoom | Home | Track | KeyFrame


class PtzIn(Body):
    """What the camera shall do. The purpose goes into the ledger with the caller's name."""

    purpose: Purpose = Field(examples=["DUTY_WATCH"])
    command: Annotated[Command, Field(discriminator="kind")]


class PresetIn(Body):
    """Set (here), call or delete a preset; the name reaches devices of the 2022 edition."""

    purpose: Purpose = Field(examples=["DUTY_WATCH"])
    action: Literal["set", "call", "delete"]
    number: PresetNumber
    name: ShortName | None = None


class DoneOut(Answer):
    """The device has taken the order."""

    done: bool = True
    hold: float | None = Field(default=None, description="Renew a movement within so many seconds, or it ends.")


@router.post("/{key}/ptz", summary="Move a camera")
async def move(
    *, key: ChannelPath, body: PtzIn, services: Backend, signals: Signalling, me: CurrentUser, client: Caller
) -> DoneOut:
    """403 with `code` and `articles` unless the account may control the channel; the refusal is a ledger row too."""
    command = body.command
    controls = signals.controls
    if isinstance(command, Stop):
        await _stop(key, body.purpose, services=services, controls=controls, me=me, client=client)
        return DoneOut()
    channel = online(await permitted(services, me, key, Action.PTZ, body.purpose, client, command.kind))
    with device_errors():
        if isinstance(command, Move | Lens):
            order = _movement(command)
            await controls.move(channel.device, channel.gb_id, order, owner=me.session_id)
            return DoneOut(hold=controls.hold)
        if isinstance(command, Track):
            await _track(
                channel, command, services=services, controls=controls, me=me, purpose=body.purpose, client=client
            )
        else:
            await _order(controls, channel, command)
    return DoneOut()


def _movement(command: Move | Lens) -> ptz.Move | ptz.Lens:
    """The frame's values: an axis at rest has no speed."""
    if isinstance(command, Lens):
        return ptz.Lens(
            focus=command.focus,
            iris=command.iris,
            focus_speed=command.focus_speed if command.focus else 0,
            iris_speed=command.iris_speed if command.iris else 0,
        )
    return ptz.Move(
        pan=command.pan,
        tilt=command.tilt,
        zoom=command.zoom,
        pan_speed=command.pan_speed if command.pan else 0,
        tilt_speed=command.tilt_speed if command.tilt else 0,
        zoom_speed=command.zoom_speed if command.zoom else 0,
    )


async def _stop(
    key: str, purpose: str, *, services: Backend, controls: Controls, me: Principal, client: Caller
) -> None:
    """A stop of one's own movement goes out even when it cannot be recorded: a turning camera is worse."""
    try:
        channel = await permitted(services, me, key, Action.PTZ, purpose, client, "stop")
    except Problem as problem:
        if problem.code == "E_LEDGER_UNAVAILABLE":
            log.warning("stop_not_recorded", channel=key)
            controls.owner_gone(me.session_id)
        raise
    with device_errors():
        await controls.stop(channel.device, channel.gb_id)


async def _track(
    channel: Channel,
    command: Track,
    *,
    services: Backend,
    controls: Controls,
    me: Principal,
    purpose: str,
    client: Caller,
) -> None:
    panorama = None
    if command.panorama is not None:
        panorama = await permitted(services, me, command.panorama, Action.PTZ, purpose, client, "track_source")
        if panorama.device != channel.device:
            raise not_found()
    await controls.track(
        channel.device,
        channel.gb_id,
        command.mode,
        panorama=panorama.gb_id if panorama else None,
        area=command.area.wire() if command.area else None,
    )


async def _order(controls: Controls, channel: Channel, command: Command) -> None:
    device, gb_id = channel.device, channel.gb_id
    if isinstance(command, Cruise):
        order = ptz.Cruise(action=command.action, group=command.group, value=command.value)
        await controls.command(device, gb_id, order, track_name=command.name)
    elif isinstance(command, Scan):
        await controls.command(device, gb_id, ptz.Scan(action=command.action, group=command.group, value=command.value))
    elif isinstance(command, Auxiliary):
        await controls.command(device, gb_id, ptz.Auxiliary(number=command.number, on=command.on))
    elif isinstance(command, Precise):
        await controls.precise(device, gb_id, PtzPrecise(**command.model_dump(exclude={"kind"})))
    elif isinstance(command, Zoom):
        await controls.drag_zoom(device, gb_id, command.box.wire(), into=command.into)
    elif isinstance(command, Home):
        await controls.home_position(device, gb_id, HomePosition(**command.model_dump(exclude={"kind"})))
    else:
        await controls.key_frame(device, gb_id)


@router.post("/{key}/presets", summary="Set, call or delete a preset")
async def preset(
    *, key: ChannelPath, body: PresetIn, services: Backend, signals: Signalling, me: CurrentUser, client: Caller
) -> DoneOut:
    """As moving the camera."""
    detail = f"preset_{body.action}"
    channel = online(await permitted(services, me, key, Action.PTZ, body.purpose, client, detail))
    order = ptz.PresetCommand(action=body.action, number=body.number)
    with device_errors():
        await signals.controls.command(channel.device, channel.gb_id, order, preset_name=body.name)
    return DoneOut()
