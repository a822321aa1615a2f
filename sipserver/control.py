"""The controls of §9.3 one by one, in the words of the device's edition; and cameras that stop when nobody holds them.

Values are checked against the standard before anything is sent (OutOfRangeError). Methods raise QueryError; the ones
without a business answer end with the SIP 200. Controls are never repeated by us, except a stop, which is harmless.

A continuous movement belongs to somebody (``owner``, a session of the console). It ends by ``stop``, and without one
when its owner leaves (``owner_gone``) or does not renew it within ``hold`` seconds: a camera must not turn for ever
because a browser was closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import structlog

from sipserver.bindings import Bound
from sipserver.inquiries import Inquiries, method_list, require
from sipserver.presence import Background
from sipserver.profiles import Profiles
from sipserver.protocol import edition, manscdp_limits, ptz
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    AlarmInfo,
    BasicParam,
    DeviceConfig,
    DeviceConfigResponse,
    DeviceControl,
    DeviceControlResponse,
    DeviceUpgrade,
    DragZoom,
    HomePosition,
    PtzParameters,
    PtzPositionResponse,
    PtzPrecise,
)
from sipserver.protocol.manscdp_config import SINCE
from sipserver.protocol.manscdp_limits import OutOfRangeError
from sipserver.queries import Queries, QueryError

log = structlog.get_logger("mingjian.sip")

Track = Literal["Auto", "Manual", "Stop"]
Owner = str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """``hold``: seconds a movement goes on without being renewed. ``max_motions`` bounds cameras moving at once."""

    hold: float = 10.0
    max_motions: int = 4096


@dataclass(slots=True, kw_only=True)
class _Motion:
    """A camera that moves, or whose stop is under way; ``lens`` says which stop it needs besides."""

    owner: Owner
    deadline: float
    moving: bool = False
    lens: bool = False
    sending: set[asyncio.Task[None]] = field(default_factory=set)


class Controls:
    """Sends controls. ``tick`` stops what nobody holds."""

    def __init__(
        self,
        queries: Queries,
        profiles: Profiles,
        inquiries: Inquiries,
        background: Background,
        *,
        clock: Callable[[], float],
        config: ControlConfig | None = None,
        on_duty: Callable[[Bound, GbId, bool], None] = lambda bound, target, armed: None,
    ) -> None:
        self._queries = queries
        self._profiles = profiles
        self._inquiries = inquiries
        self._background = background
        self._clock = clock
        self._config: Final = config or ControlConfig()
        self._motions: dict[tuple[DeviceKey, GbId], _Motion] = {}
        self.on_duty = on_duty

    # sending

    async def send(self, device: DeviceKey, control: DeviceControl) -> DeviceControlResponse | None:
        """Check and send a control as it is (its SN is replaced); its answer, if it has one."""
        manscdp_limits.check(control)
        bound = self._queries.require(device)
        control = replace(control, sn=self._queries.next_sn())
        if control.answered:
            return await self._queries.ask(bound, control, DeviceControlResponse)
        await self._queries.send(bound, control)
        return None

    def _edition(self, device: DeviceKey, since: edition.Edition = edition.GB_2011) -> edition.Edition:
        bound = self._queries.require(device)
        of = self._queries.edition(bound)
        require(of, bound.version, since)
        return of

    # pan, tilt, zoom and what else a PTZCmd says

    async def command(
        self,
        device: DeviceKey,
        channel: GbId,
        order: ptz.Command,
        *,
        preset_name: str | None = None,
        track_name: str | None = None,
    ) -> None:
        """One PTZCmd. Names of presets and tracks only reach devices of 2022 (§A.2.3.1.2)."""
        of = self._edition(device)
        profile = self._profiles.of(device)
        named = of >= edition.GB_2022 and (preset_name or track_name)
        priority = profile.number("control_priority")
        await self.send(
            device,
            DeviceControl(
                device_id=channel,
                ptz=ptz.encode(order, address=profile.number("ptz_address")),
                ptz_parameters=PtzParameters(preset_name=preset_name, cruise_track_name=track_name) if named else None,
                info=AlarmInfo(control_priority=priority) if priority else None,
            ),
        )

    async def move(self, device: DeviceKey, channel: GbId, command: ptz.Move | ptz.Lens, *, owner: Owner) -> None:
        """Start or renew a continuous movement of ``owner``; all-zero commands are a stop."""
        if command in (ptz.STOP, ptz.Lens()):
            await self.stop(device, channel)
            return
        self._queries.require(device)
        ptz.encode(command)  # raises before anything is noted
        key = (device, channel)
        motion = self._motions.get(key)
        if motion is None:
            if len(self._motions) >= self._config.max_motions:
                raise QueryError("too_many")
            motion = self._motions[key] = _Motion(owner=owner, deadline=0.0)
        motion.owner, motion.deadline = owner, self._clock() + self._config.hold
        motion.moving = True
        motion.lens = motion.lens or isinstance(command, ptz.Lens)
        task = asyncio.get_running_loop().create_task(self.command(device, channel, command))
        motion.sending.add(task)
        task.add_done_callback(motion.sending.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # The caller is gone; what it started may still start, so it is stopped after that.
            self._background.spawn(self._stop(key, motion))
            raise
        except QueryError as error:
            # Refused: nothing moves. After no_answer the camera may move, so somebody has to stop it.
            if error.code != "no_answer" and self._motions.get(key) is motion:
                del self._motions[key]
            raise

    async def stop(self, device: DeviceKey, channel: GbId) -> None:
        """Stop all movement: sent as often as the profile says, and once more after a start still under way."""
        self._queries.require(device)
        key = (device, channel)
        motion = self._motions.get(key)
        if motion is None:
            if len(self._motions) >= self._config.max_motions:
                await self.command(device, channel, ptz.STOP)
                return
            motion = self._motions[key] = _Motion(owner="", deadline=0.0)
        motion.moving = False
        await self._stop(key, motion)

    async def _stop(self, key: tuple[DeviceKey, GbId], motion: _Motion) -> None:
        motion.moving = False
        device, channel = key
        commands: list[ptz.Command] = [ptz.STOP, ptz.Lens()] if motion.lens else [ptz.STOP]
        failure: QueryError | None = None
        stopped = False
        for attempt in range(self._profiles.of(device).number("stop_repeats")):
            if attempt and motion.sending:
                # A start that was lost and is sent again would outlive a stop that overtook it.
                await asyncio.wait(tuple(motion.sending))
            if motion.moving:
                return
            try:
                for command in commands:
                    await self.command(device, channel, command)
                stopped = True
            except QueryError as error:
                failure = error
                if error.code == "device_offline":
                    break
        if not motion.moving and self._motions.get(key) is motion:
            del self._motions[key]
        if failure is not None and not stopped:
            log.warning("camera_not_stopped", device=device, code=failure.code)
            raise failure

    def owner_gone(self, owner: Owner) -> None:
        """A session ended: stop everything it moves."""
        for key, motion in tuple(self._motions.items()):
            if motion.moving and motion.owner == owner:
                self._dead(key, motion)

    def tick(self, now: float) -> None:
        """Stop what has not been renewed."""
        for key, motion in tuple(self._motions.items()):
            if motion.moving and motion.deadline <= now:
                self._dead(key, motion)

    @property
    def hold(self) -> float:
        """Seconds a movement goes on without being renewed."""
        return self._config.hold

    def moving(self) -> int:
        """How many cameras move or are being stopped, for metrics and tests."""
        return len(self._motions)

    def _dead(self, key: tuple[DeviceKey, GbId], motion: _Motion) -> None:
        log.info("camera_stopped_without_order", device=key[0])
        motion.moving = False
        self._background.spawn(self._stop(key, motion))

    # the other controls

    async def reboot(self, device: DeviceKey, *, target: GbId | None = None) -> None:
        """TeleBoot; the device is gone for a while."""
        await self.send(device, DeviceControl(device_id=self._target(device, target), teleboot="Boot"))

    async def record(self, device: DeviceKey, channel: GbId, *, on: bool, stream_number: int | None = None) -> None:
        """Start or stop recording in the device; the stream number only reaches devices of 2022."""
        modern = self._edition(device) >= edition.GB_2022
        word = "Record" if on else "StopRecord"
        control = DeviceControl(device_id=channel, record=word, stream_number=stream_number if modern else None)
        await self.send(device, control)

    async def guard(self, device: DeviceKey, *, armed: bool, target: GbId | None = None) -> None:
        """Arm or disarm; an OK is the new duty state of the object."""
        bound = self._queries.require(device)
        gb_id = target or bound.gb_id
        await self.send(device, DeviceControl(device_id=gb_id, guard="SetGuard" if armed else "ResetGuard"))
        self.on_duty(bound, gb_id, armed)

    async def reset_alarm(
        self, device: DeviceKey, *, target: GbId | None = None, methods: tuple[int, ...] = (), kind: int | None = None
    ) -> None:
        """Reset an alarm; which one, is said since 2016."""
        of = self._edition(device)
        info = None
        if of >= edition.GB_2016 and (methods or kind is not None):
            info = AlarmInfo(alarm_method=method_list(methods, of), alarm_type=kind)
        await self.send(device, DeviceControl(device_id=self._target(device, target), alarm="ResetAlarm", info=info))

    async def key_frame(self, device: DeviceKey, channel: GbId) -> None:
        """Ask for a key frame, in the spelling of the device's edition or profile."""
        modern = self._edition(device, edition.GB_2016) >= edition.GB_2022
        word = self._profiles.of(device).word("key_frame")
        if word in ("IFameCmd", "both") or (word == "auto" and not modern):
            await self.send(device, DeviceControl(device_id=channel, iframe_2016="Send"))
        if word in ("IFrameCmd", "both") or (word == "auto" and modern):
            await self.send(device, DeviceControl(device_id=channel, iframe="Send"))

    async def drag_zoom(self, device: DeviceKey, channel: GbId, box: DragZoom, *, into: bool) -> None:
        """Fill the window with the box (``into``), or put the window into the box."""
        self._edition(device, edition.GB_2014)
        control = DeviceControl(
            device_id=channel, drag_zoom_in=box if into else None, drag_zoom_out=None if into else box
        )
        await self.send(device, control)

    async def home_position(self, device: DeviceKey, channel: GbId, home: HomePosition) -> None:
        """Set the guard position."""
        self._edition(device, edition.GB_2016)
        await self.send(device, DeviceControl(device_id=channel, home_position=home))

    async def precise(self, device: DeviceKey, channel: GbId, view: PtzPrecise) -> PtzPositionResponse | None:
        """Look there. Where it looks afterwards, for devices that say 200 without moving (a switch of the profile)."""
        self._edition(device, edition.GB_2022)
        await self.send(device, DeviceControl(device_id=channel, ptz_precise=view))
        if self._profiles.of(device).flag("precise_read_back"):
            return await self._inquiries.ptz_position(device, channel)
        return None

    async def format_card(self, device: DeviceKey, number: int, *, target: GbId | None = None) -> None:
        """Format memory card ``number``, 0 for all."""
        self._edition(device, edition.GB_2022)
        await self.send(device, DeviceControl(device_id=self._target(device, target), format_sd_card=number))

    async def track(
        self,
        device: DeviceKey,
        channel: GbId,
        mode: Track,
        *,
        panorama: GbId | None = None,
        area: DragZoom | None = None,
    ) -> None:
        """Follow a target with the PTZ ``channel``; Manual needs the box on the panorama channel."""
        self._edition(device, edition.GB_2022)
        await self.send(device, DeviceControl(device_id=channel, track=mode, track_source=panorama, track_area=area))

    async def upgrade(self, device: DeviceKey, order: DeviceUpgrade) -> None:
        """Order an upgrade; its end comes as a notice, after the device has registered anew (§9.13)."""
        self._edition(device, edition.GB_2022)
        await self.send(device, DeviceControl(device_id=self._target(device, None), upgrade=order))

    # configuration

    async def configure(self, device: DeviceKey, config: DeviceConfig, *, target: GbId | None = None) -> None:
        """Write configuration blocks (SN and counts are filled in). Heartbeats the device took bind us as well."""
        config = manscdp_limits.counted(config)
        manscdp_limits.check(config)
        blocks = config.blocks()
        if not blocks:
            raise OutOfRangeError("DeviceConfig")
        for name in blocks:
            self._edition(device, edition.Edition(SINCE[name]))
        profile = self._profiles.of(device)
        bound = self._queries.require(device)
        whole = config.basic is not None and profile.word("config_target") == "device"
        gb_id = bound.gb_id if whole or target is None else target
        config = replace(config, sn=self._queries.next_sn(), device_id=gb_id)
        if profile.flag("config_answer"):
            await self._queries.ask(bound, config, DeviceConfigResponse)
        else:
            await self._queries.send(bound, config)
        if config.basic is not None and gb_id == bound.gb_id:
            await self._told(device, config.basic)

    async def _told(self, device: DeviceKey, basic: BasicParam) -> None:
        before = self._profiles.heartbeat(device)
        interval = basic.heartbeat_interval or (before[0] if before else 60)
        count = basic.heartbeat_count or (before[1] if before else 3)
        if basic.heartbeat_interval is not None or basic.heartbeat_count is not None:
            await self._profiles.told_heartbeat(device, interval, count)

    def _target(self, device: DeviceKey, target: GbId | None) -> GbId:
        return target or self._queries.require(device).gb_id
