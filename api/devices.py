"""Devices and lower platforms that may register: administrators provision, ask and withdraw them.

The address code appears here and nowhere else in the interface (META, CQ22).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Query, Request
from pydantic import Field, StringConstraints

from api.authority import GuardedRoute
from api.problems import Problem, conflict, invalid, not_found
from api.schemas import (
    Answer,
    Body,
    Cursor,
    DevicePath,
    Instant,
    Limit,
    Name,
    PageOf,
    SearchText,
    instant,
    instant_or_none,
)
from api.services import MediaTransport, Services
from api.sessions import Backend, CurrentUser
from catalog.model import Device
from catalog.store import DuplicateDeviceError, UnknownDeviceError
from sharing.ledger import EntryKind, LedgerUnavailableError
from sharing.passwords import one_time_password
from sipserver.protocol.ids import DeviceKey, GbId, Kind
from sipserver.queries import QueryError

log = structlog.get_logger("mingjian.api")

router = APIRouter(prefix="/api/v1/devices", route_class=GuardedRoute, tags=["devices"])

# What registers is a thing with an address, not a place, a person or a folder (annex E, table E.1).
_NO_DEVICE = frozenset({Kind.USER, Kind.DIVISION, Kind.BUSINESS_GROUP, Kind.VIRTUAL_ORGANISATION})

GbIdText = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[0-9]{20}$")]
DevicePassword = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{8,64}$")]


class DeviceIn(Body):
    """Admits a device to registration. Without `password` the platform makes one and shows it once."""

    gb_id: GbIdText = Field(description="Address code, 20 digits (annex E).", examples=["34020000001320000001"])
    name: Name = Field(examples=["东门枪机"])
    password: DevicePassword | None = Field(
        default=None, description="Digest password, 8 to 64 printable ASCII characters without blanks."
    )
    transport: MediaTransport | None = Field(default=None, description="How the device shall send media.")


class DeviceOut(Answer):
    """A device as administrators see it. `password` only in the answer that made it."""

    key: str = Field(examples=["dev_abcdefghij234567abcd"])
    gb_id: str = Field(examples=["34020000001320000001"])
    name: str
    kind: str = Field(examples=["ipc"])
    status: Literal["online", "offline"]
    transport: str | None = Field(default=None, description="Media transport asked of the device.", examples=["udp"])
    signalling: str | None = Field(default=None, description="Transport of its registration.", examples=["udp"])
    address: str | None = Field(default=None, description="Where its packets come from.", examples=["192.0.2.20:5060"])
    manufacturer: str | None = None
    model: str | None = None
    firmware: str | None = None
    channel_count: int
    created_at: Instant
    registered_at: Instant | None = None
    last_seen_at: Instant | None = None
    catalog_synced_at: Instant | None = None
    catalog_complete: bool | None = Field(
        default=None, description="False: the device announced more catalogue items than it sent."
    )
    password: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSyncFailed:
    """Bus event: a catalogue query that an administrator asked for brought nothing. `code` is the QueryError's."""

    device: DeviceKey
    at: float
    code: str


class SyncOut(Answer):
    """A catalogue query is under way; progress and end come as live events."""

    device: str
    state: Literal["started"] = "started"


class StatusOut(Answer):
    """What the device itself says now (GB/T 28181 A.2.6.6). Null: it did not say."""

    online: bool | None
    ok: bool | None = Field(description="False: the device reports a fault.")
    reason: str | None = None
    encoding: bool | None = None
    recording: bool | None = None
    device_time: Instant | None = None
    clock_offset: float | None = Field(default=None, description="Seconds the device's clock is ahead of ours.")


def _out(device: Device, password: str | None = None) -> DeviceOut:
    binding = device.binding
    host = f"[{binding.remote[0]}]" if binding and ":" in binding.remote[0] else binding and binding.remote[0]
    return DeviceOut(
        key=device.key,
        gb_id=device.gb_id.value,
        name=device.name,
        kind=device.kind,
        status="online" if device.online else "offline",
        transport=device.media_transport,
        signalling=binding.transport if binding else None,
        address=f"{host}:{binding.remote[1]}" if binding else None,
        manufacturer=device.info.manufacturer,
        model=device.info.model,
        firmware=device.info.firmware,
        channel_count=device.channel_count,
        created_at=instant(device.created_at),
        registered_at=instant_or_none(binding.registered_at if binding else None),
        last_seen_at=instant_or_none(device.last_seen_at),
        catalog_synced_at=instant_or_none(device.catalog_synced_at),
        catalog_complete=device.catalog_complete,
        password=password,
    )


async def _found(services: Services, key: str) -> Device:
    device = await services.store.device(DeviceKey(key))
    if device is None:
        raise not_found()
    return device


@router.get("", summary="Devices by name")
async def devices(
    services: Backend,
    q: Annotated[SearchText | None, Query(description="Part of the name.")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> PageOf[DeviceOut]:
    """All provisioned devices and lower platforms, whether they have registered or not."""
    try:
        page = await services.store.devices(cursor=cursor or None, limit=limit, text=q or None)
    except ValueError as error:
        raise invalid("query.cursor", "The cursor is not one of ours.") from error
    return PageOf(items=[_out(device) for device in page.items], next_cursor=page.cursor)


@router.post("", status_code=201, summary="Admit a device")
async def provision(body: DeviceIn, services: Backend, me: CurrentUser) -> DeviceOut:
    """409 `device_exists` when the address code is provisioned already. The change is a ledger row."""
    gb_id = GbId(body.gb_id)
    if gb_id.classify() in _NO_DEVICE:
        raise invalid("body.gb_id", "The type code (digits 11 to 13) is not that of a device or platform.")
    made = None if body.password else one_time_password()
    try:
        device = await services.store.provision_device(
            gb_id,
            name=body.name,
            password=body.password or made,
            now=services.clock(),
            media_transport=body.transport,
        )
    except DuplicateDeviceError as error:
        raise conflict("device_exists", "A device with this address code is provisioned already.") from error
    try:
        await services.ledger.append(EntryKind.ADMIN, {"action": "DEVICE_ADDED", "device": device.key}, user=me.key)
    except LedgerUnavailableError:
        # no change without its row: the key is needed in the row, so the device goes again
        await services.store.remove_device(device.key, now=services.clock())
        raise
    return _out(device, made)


@router.get("/{key}", summary="One device")
async def read(key: DevicePath, services: Backend) -> DeviceOut:
    """404 when there is none or it has been withdrawn."""
    return _out(await _found(services, key))


@router.delete("/{key}", status_code=204, summary="Withdraw a device")
async def remove(key: DevicePath, services: Backend, me: CurrentUser) -> None:
    """Its registration, channels and running pictures end; its keys stay readable in the ledger."""
    device = await _found(services, key)
    await services.ledger.append(EntryKind.ADMIN, {"action": "DEVICE_REMOVED", "device": device.key}, user=me.key)
    try:
        await services.store.remove_device(device.key, now=services.clock())
    except UnknownDeviceError as error:
        raise not_found() from error
    # after the store: a device that registers again in between would find no account
    await services.devices.removed(device.key)
    services.rights_changed()


@router.post("/{key}/catalog-sync", status_code=202, summary="Ask for the catalogue now")
async def sync(key: DevicePath, request: Request, services: Backend) -> SyncOut:
    """409 `device_offline`, or `sync_running` while one is under way."""
    device = await _found(services, key)
    if not device.online:
        raise conflict("device_offline", "The device is not registered now.")
    background = request.app.state.background
    if not background.start(f"sync:{device.key}", _synced(services, device.key)):
        raise conflict("sync_running", "A catalogue query of this device is under way.")
    return SyncOut(device=device.key)


async def _synced(services: Services, device: DeviceKey) -> None:
    try:
        await services.devices.sync_catalog(device)
    except QueryError as error:
        log.warning("catalog_sync_failed", device=device, code=error.code)
        services.bus.publish(CatalogSyncFailed(device=device, at=services.clock(), code=error.code))


_FAILURES: dict[str, tuple[int, str]] = {
    "device_offline": (409, "The device is not registered now."),
    "no_answer": (504, "The device did not answer in time."),
    "refused": (502, "The device refused the query."),
    "device_error": (502, "The device reports an error."),
    "too_many": (503, "Too many queries are under way."),
}


@router.get("/{key}/status", summary="Ask the device how it is")
async def device_status(key: DevicePath, services: Backend) -> StatusOut:
    """Sends a DeviceStatus query. 409 `device_offline`, 504 `no_answer`, 502 `refused` or `device_error`."""
    device = await _found(services, key)
    if not device.online:
        raise conflict("device_offline", "The device is not registered now.")
    try:
        answer = await services.devices.device_status(device.key)
    except QueryError as error:
        status, detail = _FAILURES[error.code]
        raise Problem(status=status, code=error.code, detail=detail) from error
    now = services.clock()
    return StatusOut(
        online=answer.online,
        ok=answer.ok,
        reason=answer.reason,
        encoding=answer.encode,
        recording=answer.record,
        device_time=instant_or_none(answer.device_time),
        clock_offset=None if answer.device_time is None else round(answer.device_time - now, 1),
    )
