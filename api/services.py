"""What the HTTP interface needs from the rest of the platform, as one value that the composition root fills in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from api.completion import Completion
from api.eventbus import EventBus
from api.views import Views
from catalog.alarms import Alarms
from catalog.model import Channel
from catalog.orders import Orders as StoredOrders
from catalog.positions import Positions
from catalog.settings import DeviceSettings
from catalog.store import CatalogStore
from sharing.lease import Lease, Zone
from sharing.ledger import Ledger
from sharing.people import People
from sharing.service import Sharing
from sipserver.control import Controls
from sipserver.inquiries import Inquiries
from sipserver.orders import Orders
from sipserver.profiles import Profiles
from sipserver.protocol.ids import DeviceKey, LeaseKey, StreamKey
from sipserver.protocol.manscdp_types import DeviceInfoResponse, DeviceStatusResponse
from sipserver.subscriptions import Subscriptions

MediaTransport = Literal["udp", "tcp-passive"]
Output = Literal["flv", "ws-fmp4", "http-fmp4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """Settings of the HTTP interface. Times in seconds.

    `media_origin` (`https://media.example:8443`) is where browsers reach the engine's outputs; empty means port
    `media_port` of whatever host the browser used for the console. `metrics_token` empty means loopback only.
    """

    console_dir: Path
    media_port: int
    media_origin: str = ""
    metrics_token: str = field(default="", repr=False)
    zone: Zone = Zone.PRIVATE
    heartbeat: float = 15.0
    ticket_ttl: float = 30.0
    open_timeout: float = 40.0
    max_views_per_user: int = 32


class Source(Protocol):
    """The live stream behind a view, shared by all views of one channel (`sipserver.streams.LiveStream`)."""

    @property
    def key(self) -> StreamKey: ...


class SourceStats(Protocol):
    """What is known of the media of a live stream (`media.session.SessionStats`)."""

    @property
    def codec(self) -> str | None: ...
    @property
    def audio_codec(self) -> str | None: ...


class Play(Protocol):
    """The part of `sipserver.play.LivePlay` that requests use; every lease given to `open` ends by `on_lease_end`.

    `open` raises PlayError, `ticket` raises MediaError.
    """

    async def open(self, lease: Lease, channel: Channel, *, transport: MediaTransport | None = None) -> Source: ...
    async def close(self, lease_key: LeaseKey, *, reason: str) -> None: ...
    def ticket(self, lease_key: LeaseKey, output: Output, *, client_ip: str | None = None, ttl: float = 30) -> str: ...


class Devices(Protocol):
    """The part of `sipserver.devices.DeviceSessions` that requests use. Questions raise QueryError."""

    async def sync_catalog(self, device: DeviceKey) -> object: ...
    async def device_status(self, device: DeviceKey) -> DeviceStatusResponse: ...
    async def removed(self, key: DeviceKey) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What requests use to ask, control and hear devices. ``snapshot_dir`` holds uploaded pictures."""

    inquiries: Inquiries
    controls: Controls
    profiles: Profiles
    subscriptions: Subscriptions
    orders: Orders
    settings: DeviceSettings
    alarms: Alarms
    positions: Positions
    stored_orders: StoredOrders
    query_info: Callable[[DeviceKey], Awaitable[DeviceInfoResponse]]
    snapshot_dir: Path
    upload_base: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of /readyz. `probe` returns or raises; a failing check that is not `required` only degrades."""

    name: str
    probe: Callable[[], Awaitable[bool]]
    required: bool = True


MetricSource = Callable[[], Iterable[Metric] | Awaitable[Iterable[Metric]]]
"""Called at each scrape; gives finished metric families. An error leaves its families out and is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a route may touch. Built by the composition root; tests build it around fakes."""

    config: ApiConfig
    clock: Callable[[], float]
    token: Callable[[int], str]
    people: People
    sharing: Sharing
    store: CatalogStore
    ledger: Ledger
    play: Play
    devices: Devices
    bus: EventBus
    views: Views
    completion: Completion
    registry: CollectorRegistry
    source_stats: Callable[[StreamKey], SourceStats | None] = lambda stream: None
    metric_sources: tuple[MetricSource, ...] = ()
    checks: tuple[Check, ...] = ()
    rights_changed: Callable[[], None] = lambda: None
    signals: Signals | None = None
