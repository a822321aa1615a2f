"""What devices tell by themselves (§9.4, §9.11): alarms, positions, directory changes, where cameras look.

Everything comes twice in the field, by MESSAGE and by NOTIFY; the business is the same here. Stores are behind
protocols, so that signalling runs without them; what cannot be stored is logged and not retried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import structlog

from catalog.alarms import AlarmEntry, AlarmReport
from catalog.events import AlarmRaised, CameraTurned, DomainEvent, PositionChanged
from catalog.model import Channel
from catalog.positions import Fix
from sipserver.bindings import Bindings, Bound
from sipserver.control import Controls
from sipserver.presence import Background
from sipserver.profiles import Profiles
from sipserver.protocol import alarm_types
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import Alarm, AlarmResponse, MobilePosition, PtzView
from sipserver.queries import Queries, QueryError

log = structlog.get_logger("mingjian.sip")

_ALARM_INPUTS: Final = frozenset({134, 135})
_ONE_DAY: Final = 86_400.0


class AlarmStore(Protocol):
    """What is needed of catalog.alarms.Alarms."""

    async def report(self, report: AlarmReport, *, now: float) -> tuple[AlarmEntry, bool]: ...


class PositionStore(Protocol):
    """What is needed of catalog.positions.Positions."""

    async def store(self, device: DeviceKey, fixes: Iterable[Fix]) -> None: ...


class StateStore(Protocol):
    """What is needed of catalog.settings.DeviceSettings."""

    async def note_duty(self, key: DeviceKey, gb_id: GbId, armed: bool, *, now: float) -> None: ...
    async def note_view(self, key: DeviceKey, gb_id: GbId, view: Mapping[str, float], *, now: float) -> None: ...


class ChannelFinder(Protocol):
    """What is needed of catalog.store.CatalogStore."""

    async def channel_by_gb(self, device: DeviceKey, gb_id: GbId) -> Channel | None: ...


class Desk:
    """Takes alarms, positions and views. ``counters``: alarms, repeated, forwarded, forward_failed, positions."""

    def __init__(
        self,
        *,
        queries: Queries,
        controls: Controls,
        bindings: Bindings,
        profiles: Profiles,
        background: Background,
        channels: ChannelFinder,
        alarms: AlarmStore,
        positions: PositionStore,
        states: StateStore,
        clock: Callable[[], float],
        publish: Callable[[DomainEvent], None],
    ) -> None:
        self._queries = queries
        self._controls = controls
        self._bindings = bindings
        self._profiles = profiles
        self._background = background
        self._channels = channels
        self._alarms = alarms
        self._positions = positions
        self._states = states
        self._clock = clock
        self._publish = publish
        self.counters: Counter[str] = Counter()
        controls.on_duty = self._duty

    # alarms

    def alarm(self, bound: Bound, alarm: Alarm) -> None:
        """An alarm came, as MESSAGE (acknowledged already) or as NOTIFY (which has no Response, §9.4.2)."""
        self._background.spawn(self._take(bound, alarm))

    async def _take(self, bound: Bound, alarm: Alarm) -> None:
        now = self._clock()
        channel = await self._find(bound, alarm.device_id)
        info = alarm.info
        kind = info.alarm_type if info else None
        event = info.parameter.event_type if info and info.parameter else None
        report = AlarmReport(
            device=bound.key,
            channel=channel.key if channel else None,
            source=_source(alarm.device_id, bound, channel),
            at=alarm.time if alarm.time is not None else now,
            priority=alarm.priority,
            method=alarm.method,
            kind=kind,
            event=event,
            label=alarm_types.label(alarm.method, kind, event),
            valid=alarm_types.known(alarm.priority, alarm.method, kind, event),
            description=alarm.description,
            longitude=alarm.longitude,
            latitude=alarm.latitude,
        )
        entry, fresh = await self._alarms.report(report, now=now)
        self.counters["alarms" if fresh else "repeated"] += 1
        profile = self._profiles.of(bound.key)
        if fresh:
            self._publish(
                AlarmRaised(
                    alarm=entry.key,
                    device=bound.key,
                    channel=report.channel,
                    at=now,
                    priority=report.priority,
                    method=report.method,
                    type=kind,
                    label=report.label,
                )
            )
            for target in self._bindings.all():
                if target.key != bound.key and self._profiles.of(target.key).flag("alarm_target"):
                    self._background.spawn(self._forward(target, alarm))
        if alarm.method == alarm_types.GPS and profile.flag("alarm_position") and alarm.device_id is not None:
            await self._moved(bound, alarm.device_id, alarm.longitude, alarm.latitude, report.at)
        if alarm.method == alarm_types.DEVICE and profile.flag("alarm_reset"):
            # a device that gave a "device" alarm gives no second one before it is reset (§A.2.5.3)
            await self._controls.reset_alarm(
                bound.key, target=alarm.device_id, methods=(alarm_types.DEVICE,), kind=kind
            )

    async def _forward(self, target: Bound, alarm: Alarm) -> None:
        """Tell an interested party; one that does not answer harms no other."""
        told = Alarm(
            sn=self._queries.next_sn(),
            device_id=alarm.device_id,
            priority=alarm.priority,
            method=alarm.method,
            time=alarm.time,
            description=alarm.description,
            longitude=alarm.longitude,
            latitude=alarm.latitude,
            info=alarm.info,
        )
        try:
            await self._queries.ask(target, told, AlarmResponse)
            self.counters["forwarded"] += 1
        except QueryError as error:
            self.counters["forward_failed"] += 1
            log.warning("alarm_not_forwarded", device=target.key, code=error.code)

    async def _find(self, bound: Bound, gb_id: GbId | None) -> Channel | None:
        return None if gb_id is None else await self._channels.channel_by_gb(bound.key, gb_id)

    # positions and views

    def position(self, bound: Bound, message: MobilePosition, *, subscribed: GbId | None = None) -> None:
        """Positions came, as list (2022) or single point (2016: of what was subscribed to, when it names nothing)."""
        self._background.spawn(self._take_positions(bound, message, subscribed))

    async def _take_positions(self, bound: Bound, message: MobilePosition, subscribed: GbId | None) -> None:
        for point in message.positions:
            at = point.capture_time if point.capture_time is not None else message.time
            gb_id = point.device_id or message.device_id or subscribed or bound.gb_id
            await self._moved(
                bound,
                gb_id,
                point.longitude,
                point.latitude,
                at,
                speed=point.speed,
                direction=point.direction,
                altitude=point.altitude,
                height=point.height,
            )
        if not message.positions:
            gb_id = message.target or message.device_id or subscribed or bound.gb_id
            await self._moved(
                bound,
                gb_id,
                message.longitude,
                message.latitude,
                message.time,
                speed=message.speed,
                direction=message.direction,
                altitude=message.altitude,
            )

    async def _moved(
        self, bound: Bound, gb_id: GbId, longitude: float | None, latitude: float | None, at: float | None, **more: Any
    ) -> None:
        if longitude is None or latitude is None or not (abs(longitude) <= 180 and abs(latitude) <= 90):
            return
        now = self._clock()
        # A device whose clock is wrong must not own the latest position for ever.
        at = now if at is None or at > now + _ONE_DAY else at
        await self._positions.store(
            bound.key, [Fix(gb_id=gb_id, at=at, longitude=longitude, latitude=latitude, **more)]
        )
        self.counters["positions"] += 1
        channel = await self._find(bound, gb_id)
        self._publish(
            PositionChanged(
                device=bound.key,
                channel=channel.key if channel else None,
                at=now,
                longitude=longitude,
                latitude=latitude,
            )
        )

    def view(self, bound: Bound, message: PtzView, *, subscribed: GbId | None = None) -> None:
        """A camera says where it looks."""
        self._background.spawn(self._take_view(bound, message, subscribed))

    async def _take_view(self, bound: Bound, message: PtzView, subscribed: GbId | None) -> None:
        gb_id = message.device_id or subscribed or bound.gb_id
        now = self._clock()
        names = ("pan", "tilt", "zoom", "horizontal_angle", "vertical_angle", "view_distance")
        values = {name: value for name in names if (value := getattr(message, name)) is not None}
        await self._states.note_view(bound.key, gb_id, values, now=now)
        channel = await self._find(bound, gb_id)
        self._publish(
            CameraTurned(
                device=bound.key,
                channel=channel.key if channel else None,
                at=now,
                pan=message.pan,
                tilt=message.tilt,
                zoom=message.zoom,
            )
        )

    def _duty(self, bound: Bound, target: GbId, armed: bool) -> None:
        self._background.spawn(self._states.note_duty(bound.key, target, armed, now=self._clock()))


def _source(gb_id: GbId | None, bound: Bound, channel: Channel | None) -> str:
    """What sort of thing gave the alarm."""
    if gb_id is None:
        return "unknown"
    if gb_id == bound.gb_id:
        return "device"
    if len(gb_id.value) == 10:
        return "centre"
    if gb_id.type_code in _ALARM_INPUTS:
        return "input"
    return "channel" if channel is not None else "unknown"
