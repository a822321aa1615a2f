"""What a simulated device is and has: its description, its catalogue, its pictures; and its answers to MANSCDP queries.

Pure: a query in, the messages owed out. Answers are built with ``sn`` of the query (§A.2.6); a catalogue is cut into
parts that fit the transport (annex M; 1 300 octets over UDP, RFC 3261 §18.1.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ops.sim.footage import Footage
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import (
    BasicParam,
    CatalogInfo,
    CatalogItem,
    CatalogQuery,
    CatalogResponse,
    ConfigDownloadQuery,
    ConfigDownloadResponse,
    DeviceConfig,
    DeviceConfigResponse,
    DeviceControl,
    DeviceControlResponse,
    DeviceInfoQuery,
    DeviceInfoResponse,
    DeviceStatusQuery,
    DeviceStatusResponse,
    Message,
    PresetQuery,
    PresetResponse,
    RecordInfoQuery,
    RecordInfoResponse,
    Unknown,
    build,
)

UDP_BODY_ROOM = 900  # octets left for the body in a message of 1 300
TCP_PART_ITEMS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """One simulated device or platform. ``cameras``: address code → footage of every playable channel.

    ``items`` is the whole catalogue in the order it is sent; ``aliases``: codes that mean the device itself, played
    with ``cameras`` of the first channel (an IPC is device and channel in one).
    """

    device: GbId
    name: str
    model: str
    items: tuple[CatalogItem, ...]
    cameras: Mapping[str, Footage] = field(repr=False)
    manufacturer: str = "Mingjian Sim"
    firmware: str = "V1.0.0"

    def footage_of(self, channel: str) -> Footage | None:
        """The pictures behind an address code; None when it names nothing that plays."""
        return self.cameras.get(channel)

    def scope(self, code: str) -> tuple[CatalogItem, ...]:
        """The items a catalogue query about ``code`` owes (annex J): all for the device itself, else the subtree."""
        if code == self.device.value:
            return self.items
        wanted = {code}
        grown = True
        while grown:
            grown = False
            for item in self.items:
                if item.device_id is None or item.device_id.value in wanted:
                    continue
                above = {parent.value for parent in item.parents} | ({item.group.value} if item.group else set())
                in_division = len(code) <= 8 and (item.civil_code or item.device_id.value).startswith(code)
                if above & wanted or in_division:
                    wanted.add(item.device_id.value)
                    grown = True
        return tuple(item for item in self.items if item.device_id is not None and item.device_id.value in wanted)


def catalogue_parts(query: CatalogQuery, items: Sequence[CatalogItem], *, tcp: bool) -> list[CatalogResponse]:
    """The messages that answer a catalogue query, every one with the total in SumNum; one empty message for nothing."""
    groups: list[list[CatalogItem]] = [[]]
    for item in items:
        trial = [*groups[-1], item]
        full = len(trial) > TCP_PART_ITEMS if tcp else len(build(_part(query, trial, len(items)))) > UDP_BODY_ROOM
        if full and groups[-1]:
            groups.append([item])
        else:
            groups[-1] = trial
    return [_part(query, group, len(items)) for group in groups]


def _part(query: CatalogQuery, items: Sequence[CatalogItem], total: int) -> CatalogResponse:
    return CatalogResponse(sn=query.sn or 1, device_id=query.device_id, sum_num=total, items=tuple(items))


def answers(
    inventory: Inventory, query: Message | Unknown, *, now: float, tcp: bool, keepalive: float
) -> list[Message]:
    """The business responses owed to a message of the platform, in sending order; none for what has no response."""
    sn, target = query.sn or 1, query.device_id or inventory.device
    known = target == inventory.device or any(item.device_id == target for item in inventory.items)
    match query:
        case CatalogQuery():
            return list(catalogue_parts(query, inventory.scope(target.value), tcp=tcp))
        case DeviceInfoQuery():
            return [_device_info(inventory, sn, target, known=known)]
        case DeviceStatusQuery():
            return [
                DeviceStatusResponse(
                    sn=sn, device_id=target, result=known, online=known, ok=known, encode=known, record=False,
                    device_time=now,
                )
            ]  # fmt: skip
        case RecordInfoQuery():
            return [RecordInfoResponse(sn=sn, device_id=target, name=inventory.name, sum_num=0)]
        case PresetQuery():
            return [PresetResponse(sn=sn, device_id=target, sum_num=0)]
        case ConfigDownloadQuery():
            basic = BasicParam(
                name=inventory.name, expiration=3600, heartbeat_interval=round(keepalive), heartbeat_count=3
            )
            return [ConfigDownloadResponse(sn=sn, device_id=target, result=known, basic=basic)]
        case DeviceConfig():
            return [DeviceConfigResponse(sn=sn, device_id=target, result=known)]
        case DeviceControl() if query.guard or query.alarm or query.record or query.drag_zoom_in or query.drag_zoom_out:
            return [DeviceControlResponse(sn=sn, device_id=target, result=known)]
        case _:
            return []


def _device_info(inventory: Inventory, sn: int, target: GbId, *, known: bool) -> DeviceInfoResponse:
    return DeviceInfoResponse(
        sn=sn,
        device_id=target,
        name=inventory.name,
        result=known,
        manufacturer=inventory.manufacturer,
        model=inventory.model,
        firmware=inventory.firmware,
        channels=len(inventory.cameras),
    )


def camera_item(
    code: str,
    name: str,
    *,
    parents: Sequence[str],
    civil_code: str,
    address: str = "",
    place: tuple[float, float] | None = None,
    ptz_type: str = "3",
    group: str | None = None,
    online: bool = True,
) -> CatalogItem:
    """A catalogue item for a camera, mandatory elements filled (§A.2.1.9); ``place`` = longitude, latitude (WGS-84)."""
    return CatalogItem(
        device_id=GbId(code),
        name=name,
        manufacturer="Mingjian Sim",
        model="SIM-IPC",
        civil_code=civil_code,
        address=address or name,
        parental=False,
        parents=tuple(GbId(parent) for parent in parents),
        register_way=1,
        secrecy=False,
        online=online,
        longitude=place[0] if place else None,
        latitude=place[1] if place else None,
        business_group_id=GbId(group) if group else None,
        info=CatalogInfo(ptz_type=ptz_type, grassroots_code="000000", room_type="1"),
    )
