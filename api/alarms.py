"""Alarms, positions and snapshots: listed for administrators and for those on duty, acknowledged by those on duty."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, Response
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from api.asking import AskedPurpose, Signalling, device_errors, online, permitted
from api.authority import GuardedRoute
from api.device_queries import OrderOut, moment, order_out
from api.problems import Problem, conflict, invalid, not_found
from api.schemas import (
    Answer,
    Body,
    ChannelPath,
    Cursor,
    Instant,
    Limit,
    PageOf,
    Plain,
    Purpose,
    instant,
    instant_or_none,
)
from api.sessions import Backend, Caller, CurrentUser
from catalog.alarms import AlarmEntry
from catalog.events import AlarmAcknowledged
from catalog.orders import Order, Snapshot
from catalog.positions import Fix
from sharing.lease import Action
from sipserver.protocol import gbtime
from sipserver.protocol.alarm_types import METHODS
from sipserver.protocol.ids import ChannelKey, DeviceKey

log = structlog.get_logger("mingjian.api")

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["alarms"])

MAX_PICTURE: Final = 1 << 20  # the interface's own limit of a body
SPARE_PICTURES: Final = 2
_FILE_NAME = re.compile(r"(\d{20})02(\d{17})(\d{2})", re.ASCII)
_MAGIC: Final = ((b"\xff\xd8\xff", "image/jpeg", ".jpg"), (b"\x89PNG\r\n\x1a\n", "image/png", ".png"))
_PART = re.compile(rb'filename="([^"\r\n]{1,120})"', re.IGNORECASE)


AlarmPath = Annotated[str, PathParameter(max_length=64, description="Key of the alarm.")]
OrderPath = Annotated[str, PathParameter(max_length=64, description="Key of the order.")]
PicturePath = Annotated[str, PathParameter(max_length=64, description="Key of the picture.")]
Ticket = Annotated[str, PathParameter(max_length=128, description="The secret of the address.")]


class AlarmOut(Answer):
    """An alarm: `count` equal reports. `valid` False: a combination the standard does not know."""

    key: str
    device: str
    channel: str | None
    source: str
    at: Instant
    received_at: Instant
    last_at: Instant
    count: int
    priority: int | None
    method: int | None
    method_name: str | None
    type: int | None
    event: int | None
    label: str
    valid: bool
    description: str | None
    acknowledged_at: Instant | None
    note: str | None


class AckIn(Body):
    """What was seen or done."""

    note: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), Plain] | None = None


class FixOut(Answer):
    """A position, WGS-84."""

    at: Instant
    longitude: float
    latitude: float
    speed: float | None
    direction: float | None
    altitude: float | None


class TrackOut(Answer):
    """Positions of an object, oldest first; `latest` whatever the range."""

    latest: FixOut | None
    items: list[FixOut]


class SnapshotIn(Body):
    """Order pictures of a camera."""

    purpose: Purpose = Field(examples=["DUTY_WATCH"])
    count: Annotated[int, Field(ge=1, le=10)] = 1
    interval: Annotated[int, Field(ge=1, le=3600)] = 1


class SnapshotsOut(OrderOut):
    """An order and its pictures."""

    pictures: list[str]


def _alarm(entry: AlarmEntry) -> AlarmOut:
    report = entry.report
    return AlarmOut(
        key=entry.key,
        device=report.device,
        channel=report.channel,
        source=report.source,
        at=instant(report.at),
        received_at=instant(entry.received_at),
        last_at=instant(entry.last_at),
        count=entry.count,
        priority=report.priority,
        method=report.method,
        method_name=METHODS.get(report.method or 0),
        type=report.kind,
        event=report.event,
        label=report.label,
        valid=report.valid,
        description=report.description,
        acknowledged_at=instant_or_none(entry.acknowledged_at),
        note=entry.note,
    )


def _fix(fix: Fix) -> FixOut:
    return FixOut(
        at=instant(fix.at),
        longitude=fix.longitude,
        latitude=fix.latitude,
        speed=fix.speed,
        direction=fix.direction,
        altitude=fix.altitude,
    )


@router.get("/alarms", summary="Alarms, newest first")
async def alarms(
    *,
    services: Backend,
    signals: Signalling,
    me: CurrentUser,
    device: Annotated[
        str | None, Query(pattern=r"^[a-z]{3}_[a-z0-9]{1,60}$", description="Key; leave out for all.")
    ] = None,
    channel: Annotated[
        str | None, Query(pattern=r"^[a-z]{3}_[a-z0-9]{1,60}$", description="Key; leave out for all.")
    ] = None,
    open_only: Annotated[bool, Query(description="Only those nobody has acknowledged.")] = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> PageOf[AlarmOut]:
    """Those of the caller's scope; administrators see all."""
    try:
        page = await signals.alarms.alarms(
            device=DeviceKey(device) if device else None,
            channel=ChannelKey(channel) if channel else None,
            open_only=open_only,
            cursor=cursor or None,
            limit=limit,
            within=await services.sharing.within(me.key),
        )
    except ValueError as error:
        raise invalid("query.cursor", "The cursor is not one of ours.") from error
    return PageOf(items=[_alarm(entry) for entry in page.items], next_cursor=page.cursor)


@router.post("/alarms/{alarm}/acknowledge", summary="Acknowledge an alarm")
async def acknowledge(
    *, alarm: AlarmPath, body: AckIn, services: Backend, signals: Signalling, me: CurrentUser
) -> AlarmOut:
    """The first acknowledgement counts; 404 outside the caller's scope."""
    within = await services.sharing.within(me.key)
    if await signals.alarms.alarm(alarm[:64], within=within) is None:
        raise not_found()
    entry = await signals.alarms.acknowledge(alarm, by=me.key, note=body.note, now=services.clock())
    if entry is None:
        raise not_found()
    report = entry.report
    services.bus.publish(
        AlarmAcknowledged(alarm=entry.key, device=report.device, channel=report.channel, at=services.clock())
    )
    return _alarm(entry)


@router.get("/channels/{key}/positions", summary="Where a mobile object is and was")
async def positions(
    *,
    key: ChannelPath,
    purpose: AskedPurpose,
    services: Backend,
    signals: Signalling,
    me: CurrentUser,
    client: Caller,
    since: Annotated[str | None, Query(max_length=40, description="RFC 3339; without a zone Beijing time.")] = None,
    until: Annotated[str | None, Query(max_length=40, description="RFC 3339; without a zone Beijing time.")] = None,
) -> TrackOut:
    """The act is a ledger row (EVENTSUB)."""
    channel = await permitted(services, me, key, Action.EVENTSUB, purpose, client, "positions")
    now = services.clock()
    begin = moment(since, "since") if since else now - 86_400
    end = moment(until, "until") if until else now + 1
    latest = await signals.positions.latest(channel.device, channel.gb_id)
    track = await signals.positions.track(channel.device, channel.gb_id, since=begin, until=end)
    return TrackOut(latest=None if latest is None else _fix(latest), items=[_fix(fix) for fix in track])


# snapshots


@router.post("/channels/{key}/snapshots", status_code=202, summary="Order pictures of a camera")
async def order_snapshots(
    *,
    key: ChannelPath,
    body: SnapshotIn,
    request: Request,
    services: Backend,
    signals: Signalling,
    me: CurrentUser,
    client: Caller,
) -> OrderOut:
    """Decided like a live view, with its ledger row; the camera uploads, and `order_ended` tells when all are there."""
    channel = online(await permitted(services, me, key, Action.VIEW_LIVE, body.purpose, client, "snapshot"))
    base = signals.upload_base or str(request.base_url).rstrip("/") + "/api/v1/snapshot-uploads"
    with device_errors():
        order = await signals.orders.snapshot(
            channel.device, channel.key, channel.gb_id, count=body.count, interval=body.interval, base=base
        )
    return order_out(order)


async def _order(services: Backend, signals: Signalling, me: CurrentUser, key: str) -> Order:
    """A snapshot order of a channel in the caller's scope."""
    order = await signals.stored_orders.order(key[:64])
    if order is None or order.channel is None or order.kind != "snapshot":
        raise not_found()
    if await services.store.channel(order.channel, within=await services.sharing.within(me.key)) is None:
        raise not_found()
    return order


@router.get("/snapshots/{order}", summary="An order of pictures")
async def snapshots(*, order: OrderPath, services: Backend, signals: Signalling, me: CurrentUser) -> SnapshotsOut:
    """With the keys of the pictures that came."""
    found = await _order(services, signals, me, order)
    pictures = [one.key for one in await signals.stored_orders.snapshots(found.key)]
    return SnapshotsOut(**order_out(found).model_dump(), pictures=pictures)


@router.get("/snapshots/{order}/{picture}", summary="One picture", response_class=FileResponse)
async def picture(
    *,
    order: OrderPath,
    picture: PicturePath,
    purpose: AskedPurpose,
    services: Backend,
    signals: Signalling,
    me: CurrentUser,
    client: Caller,
) -> FileResponse:
    """Decided like a live view, with its ledger row."""
    found = await _order(services, signals, me, order)
    kept = {one.key: one for one in await signals.stored_orders.snapshots(found.key)}.get(picture)
    if kept is None or found.channel is None:
        raise not_found()
    await permitted(services, me, found.channel, Action.VIEW_LIVE, purpose, client, "snapshot_read")
    return FileResponse(signals.snapshot_dir / kept.key, media_type=kept.media_type)


@router.post("/snapshot-uploads/{ticket}", status_code=204, summary="A camera uploads a picture")
async def upload(*, ticket: Ticket, request: Request, services: Backend, signals: Signalling) -> Response:
    """Open to whoever knows the address, which is secret, for one order and some minutes; JPEG or PNG, at most 1 MiB.

    Raw or multipart bodies. 404 for an address that is not (or no longer) good, 409 when the order has all it wants.
    """
    order = await signals.stored_orders.by_ticket(hashlib.sha256(ticket.encode()).digest())
    now = services.clock()
    if order is None or now - order.ordered_at > signals.orders.config.upload_seconds:
        raise not_found()
    body, name = _payload(await request.body(), request)
    kind = next(((media, suffix) for magic, media, suffix in _MAGIC if body.startswith(magic)), None)
    if kind is None:
        raise Problem(status=415, code="not_a_picture", detail="Only JPEG and PNG pictures are taken.")
    digest = hashlib.sha256(body).digest()
    file_id, taken = _named(name, digest)
    kept = Snapshot(
        key="pic_" + secrets.token_hex(16) + kind[1],
        file_id=file_id,
        taken_at=taken,
        received_at=now,
        media_type=kind[0],
        size=len(body),
        sha256=digest,
    )
    path = signals.snapshot_dir / kept.key
    await run_in_threadpool(_write, path, body)
    if not await signals.stored_orders.keep(order.key, kept, limit=order.wanted + SPARE_PICTURES):
        path.unlink(missing_ok=True)
        raise conflict("order_full", "The order has this picture, or all it wants.")
    await signals.orders.look(order.session)
    return Response(status_code=204)


@router.put("/snapshot-uploads/{ticket}", status_code=204, summary="A camera puts a picture")
async def put(*, ticket: Ticket, request: Request, services: Backend, signals: Signalling) -> Response:
    """As POST; the standard names no method."""
    return await upload(ticket=ticket, request=request, services=services, signals=signals)


def _write(path: Path, body: bytes) -> None:
    path.write_bytes(body)


def _payload(body: bytes, request: Request) -> tuple[bytes, str]:
    """The picture and the name it goes by, from a raw body or the first file of a multipart one (RFC 7578)."""
    name = request.query_params.get("name") or request.query_params.get("SnapShotFileID") or ""
    disposition = _PART.search(request.headers.get("content-disposition", "").encode("latin-1", "replace"))
    if disposition is not None:
        name = name or disposition[1].decode("latin-1")
    kind = request.headers.get("content-type", "")
    match = re.search(r'boundary="?([^";,\s]{1,70})"?', kind) if kind.lower().startswith("multipart/") else None
    if match is None:
        return body, name
    for part in body.split(b"--" + match[1].encode("latin-1", "replace"))[1:]:
        head, separator, content = part.partition(b"\r\n\r\n")
        named = _PART.search(head)
        if separator and (named is not None or content.startswith(tuple(magic for magic, _, _ in _MAGIC))):
            return content.removesuffix(b"\r\n"), name or (named[1].decode("latin-1") if named else "")
    return b"", name


def _named(name: str, digest: bytes) -> tuple[str, float | None]:
    """Identity and time of a picture: by the 41-digit name of annex T, else by its content (no code is kept)."""
    match = _FILE_NAME.search(Path(name).name)
    if match is None:
        return digest.hex()[:32], None
    stamp = match[2]
    text = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}:{stamp[10:12]}:{stamp[12:14]}.{stamp[14:]}"
    return stamp + match[3], gbtime.parse(text)
