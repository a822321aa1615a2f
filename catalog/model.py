"""The values the catalog deals in: devices, bindings, channels, listed items and tree nodes.

Nothing here knows who may see a camera; that is `sharing`. Times are unix seconds (UTC) from the injected clock.
Address codes (`GbId`) are protected information: they stay inside these values and never become part of a key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Literal, NewType, TypeVar

from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId

T = TypeVar("T")

NodeKey = NewType("NodeKey", str)
"""Any node of a tree: a `dev_…` device, a `chn_…` catalog item or a `div_…` administrative division."""

TreeMode = Literal["division", "group", "device"]


class ItemKind(StrEnum):
    """What a catalog item is (GB/T 28181 annex E type codes, the classification rule of annex J)."""

    CAMERA = "camera"
    ALARM_INPUT = "alarm_input"
    ALARM_OUTPUT = "alarm_output"
    AUDIO_INPUT = "audio_input"
    AUDIO_OUTPUT = "audio_output"
    POSITION = "position"
    DEVICE = "device"
    SYSTEM = "system"
    GROUP = "group"
    ORGANISATION = "organisation"
    DIVISION = "division"
    OTHER = "other"


PLAYABLE = frozenset({ItemKind.CAMERA})


class DeviceKind(StrEnum):
    """What registered with us, from the type code of its own address code."""

    IPC = "ipc"
    NVR = "nvr"
    PLATFORM = "platform"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Where a registered device can be reached (GB/T 28181 §9.1; RFC 3261 §10).

    `transport` is "udp" or "tcp"; `remote` is the address packets really came from (NAT), `local` ours.
    `contact` is the Contact URI as received, `call_id` the registration's. `expires_at` in unix seconds. `version` is
    the edition it says it speaks (X-GB-Ver, annex I), None when it does not say.
    """

    transport: str
    remote: tuple[str, int]
    local: tuple[str, int]
    contact: str
    call_id: str
    registered_at: float
    expires_at: float
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """The answer to a DeviceInfo query (GB/T 28181 A.2.6.5) as far as the catalog keeps it."""

    manufacturer: str | None = None
    model: str | None = None
    firmware: str | None = None
    channel_count: int | None = None
    device_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device or lower platform that may register here. `gb_id` is for administrators only."""

    key: DeviceKey
    gb_id: GbId
    name: str
    kind: DeviceKind
    media_transport: str | None
    has_password: bool
    online: bool
    created_at: float
    last_seen_at: float | None = None
    binding: Binding | None = None
    info: DeviceInfo = field(default_factory=DeviceInfo)
    channel_count: int = 0
    catalog_synced_at: float | None = None
    catalog_complete: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedItem:
    """One item of a peer's catalogue answer, ready for the store (GB/T 28181 A.2.1.9).

    `gb_id` is the item's DeviceID as sent (2/4/6/8/20 digits, or an opaque id of an odd peer), `parents` its ParentID
    split at `/`. `attributes` keeps every other element by its element name, so nothing a peer said is lost (CAT-08).
    """

    gb_id: GbId
    name: str
    parents: tuple[GbId, ...] = ()
    civil_code: str | None = None
    business_group: GbId | None = None
    parental: bool = False
    online: bool = True
    secrecy: bool = False
    manufacturer: str | None = None
    model: str | None = None
    ptz_type: str | None = None
    longitude: float | None = None
    latitude: float | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A catalog item of a device. `playable` says a picture can be asked of it; `online` that device and item are up.

    `gb_id`, `civil_code`, position and `attributes` are base information (META, F-06): for administrators only.
    """

    key: ChannelKey
    device: DeviceKey
    device_gb_id: GbId
    gb_id: GbId
    name: str
    kind: ItemKind
    playable: bool
    online: bool
    item_online: bool
    device_online: bool
    secrecy: bool
    ptz_type: str | None = None
    civil_code: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    longitude: float | None = None
    latitude: float | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFilter:
    """What to list. `text` matches the name (case-insensitive); `online` None means both."""

    text: str | None = None
    device: DeviceKey | None = None
    online: bool | None = None
    playable: bool | None = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list. `cursor` is None on the last page; pass it back unchanged for the next."""

    items: tuple[T, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNode:
    """A node as the console's tree shows it. `status` is "on", "off" or None where a node has no state of its own."""

    key: NodeKey
    name: str
    kind: str
    parent: NodeKey | None
    status: Literal["on", "off"] | None
    playable: bool
    child_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogChange:
    """What one catalogue answer changed, in items. `broken_cycles` counts ParentID rings that were cut (CAT-14)."""

    added: int
    changed: int
    removed: int
    total: int
    orphans: int = 0
    broken_cycles: int = 0
