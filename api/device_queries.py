"""Asking devices: what operators may know of a channel, and what administrators need for maintenance."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field, StringConstraints

from api.asking import AskedPurpose, Signalling, device_errors, found_device, online, permitted
from api.authority import GuardedRoute
from api.problems import invalid
from api.schemas import Answer, AnyKey, Body, ChannelPath, DevicePath, Instant, instant, instant_or_none
from api.sessions import Backend, Caller, CurrentUser
from catalog.orders import Order
from catalog.settings import WantedSubscription
from sharing.lease import Action
from sharing.ledger import EntryKind
from sipserver.inquiries import RecordFilter
from sipserver.protocol import gbtime
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId
from sipserver.protocol.manscdp import DeviceConfig, RecordItem
from sipserver.protocol.manscdp_config import BLOCKS
from sipserver.protocol.manscdp_json import JsonShapeError, from_json, to_json
from sipserver.protocol.quirks import SWITCHES
from sipserver.subscriptions import Wanted

channels = APIRouter(prefix="/api/v1/channels", route_class=GuardedRoute, tags=["channels"])
router = APIRouter(prefix="/api/v1/devices", route_class=GuardedRoute, tags=["devices"])

MAX_RANGE = 31 * 86_400.0
Moment = Annotated[str, Query(max_length=40, description="RFC 3339; without a zone Beijing time.")]
Loose = dict[str, Any]


def moment(text: str, name: str) -> float:
    """Unix seconds of a point in time in a query. 422 for anything else."""
    at = gbtime.parse(text)
    if at is None:
        raise invalid(f"query.{name}", "A point in time is required.")
    return at


class RecordOut(Answer):
    """One recording of a device."""

    start: Instant | None
    end: Instant | None
    kind: str | None
    size: int | None
    location: str | None
    stream_number: int | None
    secrecy: bool | None


class RecordsOut(Answer):
    """Recordings by start. `complete` False: the device announced more than it sent."""

    items: list[RecordOut]
    complete: bool


class ListOut(Answer):
    """What the device answered, with the element names of the standard."""

    items: list[Loose]


class ObjectOut(Answer):
    """What the device answered, with the element names of the standard; null when there is nothing."""

    value: Loose | None


def _record(item: RecordItem) -> RecordOut:
    return RecordOut(
        start=instant_or_none(item.start_time),
        end=instant_or_none(item.end_time),
        kind=item.type,
        size=item.size,
        location=item.location,
        stream_number=item.stream_number,
        secrecy=item.secrecy,
    )


@channels.get("/{key}/records", summary="What the device has recorded")
async def records(
    *,
    key: ChannelPath,
    start: Moment,
    end: Moment,
    purpose: AskedPurpose,
    services: Backend,
    signals: Signalling,
    me: CurrentUser,
    client: Caller,
    kind: Annotated[Literal["all", "time", "alarm", "manual"], Query(description="Why it was recorded.")] = "all",
) -> RecordsOut:
    """Sends RecordInfo queries for at most 31 days. The list is no recording; the act is a ledger row (RECORDINFO)."""
    begin, stop = moment(start, "start"), moment(end, "end")
    if not 0 < stop - begin <= MAX_RANGE:
        raise invalid("query.end", "The range must be longer than nothing and at most 31 days.")
    channel = online(await permitted(services, me, key, Action.RECORDINFO, purpose, client, "records"))
    with device_errors():
        found = await signals.inquiries.records(
            channel.device, channel.gb_id, start=begin, end=stop, wanted=RecordFilter(kind=kind)
        )
    return RecordsOut(items=[_record(item) for item in found.items], complete=found.complete)


@channels.get("/{key}/presets", summary="The presets of a camera")
async def presets(
    *, key: ChannelPath, purpose: AskedPurpose, services: Backend, signals: Signalling, me: CurrentUser, client: Caller
) -> ListOut:
    """Needs the right to control."""
    channel = online(await permitted(services, me, key, Action.PTZ, purpose, client, "presets"))
    with device_errors():
        found = await signals.inquiries.presets(channel.device, channel.gb_id)
    return ListOut(items=[to_json(item) for item in found])


@channels.get("/{key}/home-position", summary="The guard position of a camera")
async def home_position(
    *, key: ChannelPath, purpose: AskedPurpose, services: Backend, signals: Signalling, me: CurrentUser, client: Caller
) -> ObjectOut:
    """Needs the right to control."""
    channel = online(await permitted(services, me, key, Action.PTZ, purpose, client, "home_position"))
    with device_errors():
        found = await signals.inquiries.home_position(channel.device, channel.gb_id)
    return ObjectOut(value=None if found is None else to_json(found))


@channels.get("/{key}/cruise-tracks", summary="The cruise tracks of a camera")
async def cruise_tracks(
    *, key: ChannelPath, purpose: AskedPurpose, services: Backend, signals: Signalling, me: CurrentUser, client: Caller
) -> ListOut:
    """Needs the right to control."""
    channel = online(await permitted(services, me, key, Action.PTZ, purpose, client, "cruise_tracks"))
    with device_errors():
        found = await signals.inquiries.cruise_tracks(channel.device, channel.gb_id)
    return ListOut(items=[to_json(item) for item in found])


@channels.get("/{key}/cruise-tracks/{number}", summary="One cruise track with its stops")
async def cruise_track(
    *,
    key: ChannelPath,
    number: Annotated[int, Path(ge=0, le=255, description="0 is the first.")],
    purpose: AskedPurpose,
    services: Backend,
    signals: Signalling,
    me: CurrentUser,
    client: Caller,
) -> ListOut:
    """Needs the right to control."""
    channel = online(await permitted(services, me, key, Action.PTZ, purpose, client, "cruise_track"))
    with device_errors():
        found = await signals.inquiries.cruise_track(channel.device, channel.gb_id, number)
    return ListOut(items=[to_json(point) for point in found.points])


@channels.get("/{key}/ptz-position", summary="Where a camera looks")
async def ptz_position(
    *, key: ChannelPath, purpose: AskedPurpose, services: Backend, signals: Signalling, me: CurrentUser, client: Caller
) -> ObjectOut:
    """Needs the right to control."""
    channel = online(await permitted(services, me, key, Action.PTZ, purpose, client, "ptz_position"))
    with device_errors():
        found = await signals.inquiries.ptz_position(channel.device, channel.gb_id)
    shown = {name: value for name, value in to_json(found).items() if name not in ("SN", "DeviceID")}
    return ObjectOut(value=shown)


# maintenance


class QuirksOut(Answer):
    """Switches of a device: what each is for, what it may be, and where its value comes from."""

    items: list[Loose]


class QuirksIn(Body):
    """The switches an operator chooses; all others go back to what was detected, or to their default."""

    chosen: dict[Annotated[str, StringConstraints(max_length=40)], bool | int | str] = Field(max_length=64)


class ConfigIn(Body):
    """Configuration blocks by ConfigType name, with the element names of the standard. `channel`: of a channel."""

    config: Loose = Field(max_length=16)
    channel: AnyKey | None = None


class ControlIn(Body):
    """Maintenance of a device; `channel` for a channel of it."""

    kind: Literal["record_start", "record_stop", "guard_set", "guard_reset", "alarm_reset", "format_card"]
    channel: AnyKey | None = None
    stream_number: Annotated[int, Field(ge=0, le=255)] | None = None
    alarm_methods: list[Annotated[int, Field(ge=1, le=7)]] = Field(default_factory=list, max_length=7)
    alarm_type: Annotated[int, Field(ge=1, le=99)] | None = None
    card: Annotated[int, Field(ge=0, le=8)] | None = None


class UpgradeIn(Body):
    """A firmware the device shall fetch and install."""

    firmware: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    url: Annotated[str, StringConstraints(min_length=8, max_length=500)]
    manufacturer: Annotated[str, StringConstraints(min_length=1, max_length=128)]


class OrderOut(Answer):
    """A snapshot or upgrade order."""

    key: str
    kind: str
    state: str
    channel: str | None
    ordered_at: Instant
    ended_at: Instant | None
    reason: str | None


class OrdersOut(Answer):
    """The latest orders, newest first."""

    items: list[OrderOut]


class SubscriptionIn(Body):
    """A subscription that shall be held."""

    kind: Literal["catalog", "alarm", "position", "ptz"]
    expires: Annotated[int, Field(ge=30, le=864_000)] = 600
    interval: Annotated[int, Field(ge=1, le=86_400)] = 5


class SubscriptionsIn(Body):
    """All subscriptions that shall be held at the device, one of a kind."""

    items: list[SubscriptionIn] = Field(max_length=4)


class Done(Answer):
    """The device has taken it."""

    done: bool = True


def order_out(order: Order) -> OrderOut:
    return OrderOut(
        key=order.key,
        kind=order.kind,
        state=order.state,
        channel=order.channel,
        ordered_at=instant(order.ordered_at),
        ended_at=instant_or_none(order.ended_at),
        reason=order.reason,
    )


async def _target(services: Backend, device: DeviceKey, channel: str | None) -> GbId | None:
    if channel is None:
        return None
    found = await services.store.channel(ChannelKey(channel))
    if found is None or found.device != device:
        raise invalid("body.channel", "The device has no such channel.")
    return found.gb_id


async def _recorded(services: Backend, me: CurrentUser, device: DeviceKey, action: str, **facts: Any) -> None:
    """No maintenance without its row."""
    await services.ledger.append(EntryKind.ADMIN, {"action": action, "device": device, **facts}, user=me.key)


@router.get("/{key}/info", summary="Ask the device what it is")
async def info(*, key: DevicePath, services: Backend, signals: Signalling) -> ObjectOut:
    """Sends a DeviceInfo query and keeps the answer."""
    device = await found_device(services, key)
    with device_errors():
        found = to_json(await signals.query_info(device.key))
    return ObjectOut(value={name: value for name, value in found.items() if name not in ("SN", "DeviceID")})


@router.get("/{key}/config", summary="Read configuration blocks")
async def read_config(
    *,
    key: DevicePath,
    types: Annotated[str, Query(max_length=200, description="ConfigType names joined by `/`.")],
    services: Backend,
    signals: Signalling,
    channel: Annotated[
        str | None, Query(pattern=r"^chn_[a-z0-9]{1,60}$", description="Key of a channel of it.")
    ] = None,
) -> ObjectOut:
    """Sends a ConfigDownload query. Passwords in the answer are left out."""
    device = await found_device(services, key)
    names = types.split("/")
    if not names or any(name not in BLOCKS for name in names):
        raise invalid("query.types", "There is no such ConfigType.")
    target = await _target(services, device.key, channel)
    with device_errors():
        found = to_json(await signals.inquiries.config(device.key, names, target=target))
    shown = {name: value for name, value in found.items() if name not in ("SN", "DeviceID", "Result")}
    if isinstance(shown.get("BasicParam"), dict):
        shown["BasicParam"].pop("Password", None)
    return ObjectOut(value=shown)


@router.post("/{key}/config", summary="Write configuration blocks")
async def write_config(
    *, key: DevicePath, body: ConfigIn, services: Backend, signals: Signalling, me: CurrentUser
) -> Done:
    """422 for values the standard does not allow; the change is a ledger row first."""
    device = await found_device(services, key)
    if "SnapShotConfig" in body.config or not body.config or any(name not in BLOCKS for name in body.config):
        raise invalid("body.config", "There is no such block, or it has a resource of its own.")
    try:
        config = from_json(DeviceConfig, body.config)
    except JsonShapeError as error:
        raise invalid(f"body.config.{error.element}".rstrip("."), "The value does not fit the block.") from error
    target = await _target(services, device.key, body.channel)
    await _recorded(services, me, device.key, "DEVICE_CONFIGURED", blocks=sorted(body.config))
    with device_errors():
        await signals.controls.configure(device.key, config, target=target)
    return Done()


@router.post("/{key}/control", summary="Maintain a device")
async def control(*, key: DevicePath, body: ControlIn, services: Backend, signals: Signalling, me: CurrentUser) -> Done:
    """Recording in the device, arming, alarm reset, memory cards; the act is a ledger row first."""
    device = await found_device(services, key)
    target = await _target(services, device.key, body.channel)
    if body.kind == "format_card" and body.card is None:
        raise invalid("body.card", "The number of a card is required, 0 for all.")
    await _recorded(services, me, device.key, "DEVICE_CONTROLLED", control=body.kind, channel=body.channel)
    controls = signals.controls
    with device_errors():
        if body.kind in ("record_start", "record_stop"):
            await controls.record(
                device.key,
                target or device.gb_id,
                on=body.kind == "record_start",
                stream_number=body.stream_number,
            )
        elif body.kind in ("guard_set", "guard_reset"):
            await controls.guard(device.key, armed=body.kind == "guard_set", target=target)
        elif body.kind == "alarm_reset":
            await controls.reset_alarm(
                device.key, target=target, methods=tuple(body.alarm_methods), kind=body.alarm_type
            )
        else:
            await controls.format_card(device.key, body.card or 0, target=target)
    return Done()


@router.post("/{key}/reboot", summary="Restart a device")
async def reboot(*, key: DevicePath, services: Backend, signals: Signalling, me: CurrentUser) -> Done:
    """The act is a ledger row first; the pictures of the device end."""
    device = await found_device(services, key)
    await _recorded(services, me, device.key, "DEVICE_REBOOTED")
    with device_errors():
        await signals.controls.reboot(device.key)
    return Done()


@router.post("/{key}/upgrade", status_code=202, summary="Upgrade a device")
async def upgrade(
    *, key: DevicePath, body: UpgradeIn, services: Backend, signals: Signalling, me: CurrentUser
) -> OrderOut:
    """The end comes as live event `order_ended`, after the device has registered anew."""
    device = await found_device(services, key)
    await _recorded(services, me, device.key, "DEVICE_UPGRADED", firmware=body.firmware)
    with device_errors():
        order = await signals.orders.upgrade(
            device.key, firmware=body.firmware, url=body.url, manufacturer=body.manufacturer
        )
    return order_out(order)


@router.get("/{key}/orders", summary="Snapshot and upgrade orders")
async def orders(*, key: DevicePath, services: Backend, signals: Signalling) -> OrdersOut:
    """The latest, newest first."""
    device = await found_device(services, key)
    return OrdersOut(items=[order_out(order) for order in await signals.stored_orders.orders(device.key)])


@router.get("/{key}/sd-cards", summary="The memory cards of a device")
async def sd_cards(*, key: DevicePath, services: Backend, signals: Signalling) -> ListOut:
    """Sends an SDCardStatus query."""
    device = await found_device(services, key)
    with device_errors():
        found = await signals.inquiries.sd_cards(device.key)
    return ListOut(items=[to_json(card) for card in found])


@router.get("/{key}/quirks", summary="How a device differs")
async def read_quirks(*, key: DevicePath, services: Backend, signals: Signalling) -> QuirksOut:
    """Every switch with its value."""
    device = await found_device(services, key)
    return _quirks(signals, device.key)


@router.put("/{key}/quirks", summary="Set how a device differs")
async def write_quirks(
    *, key: DevicePath, body: QuirksIn, services: Backend, signals: Signalling, me: CurrentUser
) -> QuirksOut:
    """422 for a switch that does not exist or cannot have the value; the change is a ledger row first."""
    device = await found_device(services, key)
    bad = [name for name, value in body.chosen.items() if name not in SWITCHES or not SWITCHES[name].accepts(value)]
    if bad:
        raise invalid("body.chosen", "There is no such switch, or it cannot have this value.")
    await _recorded(services, me, device.key, "DEVICE_QUIRKS", switches=sorted(body.chosen))
    await signals.profiles.choose(device.key, body.chosen)
    return _quirks(signals, device.key)


def _quirks(signals: Signalling, key: DeviceKey) -> QuirksOut:
    settings, items = signals.profiles.settings(key), []
    for switch in SWITCHES.values():
        place = settings.chosen if switch.name in settings.chosen else settings.detected
        items.append(
            {
                "name": switch.name,
                "value": place.get(switch.name, switch.default),
                "default": switch.default,
                "source": "chosen"
                if switch.name in settings.chosen
                else "detected"
                if switch.name in settings.detected
                else "default",
                "choices": list(switch.choices),
                "purpose": switch.purpose,
                "seen": switch.source,
            }
        )
    return QuirksOut(items=items)


@router.get("/{key}/subscriptions", summary="Subscriptions to a device")
async def read_subscriptions(*, key: DevicePath, services: Backend, signals: Signalling) -> ListOut:
    """What is wanted and how it stands."""
    device = await found_device(services, key)
    return ListOut(
        items=[
            {
                "kind": wanted.kind,
                "state": held.state.value,
                "expires": wanted.expires,
                "granted": held.granted,
                "status": held.last_status,
                "since": instant_or_none(held.since),
            }
            for wanted, held in signals.subscriptions.of(device.key)
        ]
    )


@router.put("/{key}/subscriptions", summary="Set the subscriptions to a device")
async def write_subscriptions(
    *, key: DevicePath, body: SubscriptionsIn, services: Backend, signals: Signalling, me: CurrentUser
) -> ListOut:
    """Kinds that are left out end. The change is a ledger row first."""
    device = await found_device(services, key)
    kinds = {item.kind for item in body.items}
    if len(kinds) != len(body.items):
        raise invalid("body.items", "Every kind at most once.")
    await _recorded(services, me, device.key, "DEVICE_SUBSCRIPTIONS", kinds=sorted(kinds))
    wanted = [WantedSubscription(**item.model_dump()) for item in body.items]
    await signals.settings.want_subscriptions(device.key, wanted)
    for old, _ in signals.subscriptions.of(device.key):
        if old.kind not in kinds:
            signals.subscriptions.unwant(device.key, old.kind, old.target)
    for item in wanted:
        signals.subscriptions.want(device.key, Wanted(kind=item.kind, expires=item.expires, interval=item.interval))
    return await read_subscriptions(key=key, services=services, signals=signals)
