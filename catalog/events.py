"""What happened to devices, catalogs and streams: the domain events that live views and the console listen to.

Events carry opaque keys only, never address codes or names. `at` is unix seconds. They may be lost (Redis protocol or
an in-process bus): nothing may depend on them that the database does not also know.
"""

from dataclasses import dataclass
from typing import Literal

from sipserver.protocol.ids import ChannelKey, DeviceKey, StreamKey


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOnline:
    """A device registered and was accepted."""

    device: DeviceKey
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOffline:
    """A device unregistered, let its binding run out, or missed its keepalives."""

    device: DeviceKey
    at: float
    reason: Literal["unregistered", "expired", "keepalive_lost", "transport_lost", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogProgress:
    """Parts of a catalogue answer arrived: `received` of `expected` items so far."""

    device: DeviceKey
    at: float
    received: int
    expected: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSynced:
    """A catalogue answer was stored. `complete` False: the peer sent fewer items than it announced."""

    device: DeviceKey
    at: float
    complete: bool
    total: int
    added: int
    changed: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelChanged:
    """A channel's state changed."""

    channel: ChannelKey
    device: DeviceKey
    at: float
    online: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted:
    """The first frame of a live stream arrived."""

    stream: StreamKey
    channel: ChannelKey
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded:
    """A live stream ended, whoever ended it."""

    stream: StreamKey
    channel: ChannelKey
    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRaised:
    """A device reported an alarm that was not running already. `channel` None: of the device itself."""

    alarm: str
    device: DeviceKey
    channel: ChannelKey | None
    at: float
    priority: int | None
    method: int | None
    type: int | None
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmAcknowledged:
    """Somebody has seen an alarm."""

    alarm: str
    device: DeviceKey
    channel: ChannelKey | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionChanged:
    """A mobile object is somewhere else (WGS-84 degrees)."""

    device: DeviceKey
    channel: ChannelKey | None
    at: float
    longitude: float
    latitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTurned:
    """A camera says where it looks: degrees and zoom factor, None for what it left out."""

    device: DeviceKey
    channel: ChannelKey | None
    at: float
    pan: float | None
    tilt: float | None
    zoom: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionChanged:
    """A subscription to a device is in another state."""

    device: DeviceKey
    at: float
    subscription: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEnded:
    """A snapshot or upgrade order came to its end: done, partial or failed."""

    order: str
    device: DeviceKey
    channel: ChannelKey | None
    at: float
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRequested:
    """A mobile device asks to have its live picture fetched."""

    device: DeviceKey
    channel: ChannelKey | None
    at: float


DomainEvent = (
    DeviceOnline
    | DeviceOffline
    | CatalogProgress
    | CatalogSynced
    | ChannelChanged
    | StreamStarted
    | StreamEnded
    | AlarmRaised
    | AlarmAcknowledged
    | PositionChanged
    | CameraTurned
    | SubscriptionChanged
    | OrderEnded
    | UploadRequested
)
