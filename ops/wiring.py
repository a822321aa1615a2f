"""The composition root: builds every part of the platform from its configuration, starts them in order, stops them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from api.app import create_app
from api.completion import Completion
from api.eventbus import EventBus
from api.services import ApiConfig, Check, Services, Signals
from api.views import Views
from catalog.secrets import SecretBox
from catalog.store import CatalogStore
from media.session import MediaConfig, MediaEvent, MediaPlane
from ops.clock import Clock, system_clock
from ops.config import Config
from ops.files import secret_bytes, secret_text
from ops.keeper import LeaseKeeper
from ops.measures import metric_sources
from ops.memory import calm_collector
from ops.observe import configure, log_counter, make_registry
from ops.ports import check_ports
from ops.replay import ValkeyReplayGuard
from ops.signalling import Signalling, start_signalling
from ops.storage import Storage, open_storage
from ops.web import WebServer
from sharing.ledger import Ledger
from sharing.people import People, PeopleConfig
from sharing.service import Sharing, SharingConfig
from sipserver.play import LivePlay, PlayConfig
from sipserver.protocol.ids import GbId

log = structlog.get_logger("mingjian.platform")

CONSOLE_DIR = Path(__file__).resolve().parents[1] / "api" / "console" / "dist"


@dataclass(slots=True, kw_only=True)
class Platform:
    """A running platform. `first_password` is (name, one-time password) at the very first start, else None."""

    config: Config
    clock: Clock
    store: CatalogStore
    people: People
    sharing: Sharing
    ledger: Ledger
    media: MediaPlane
    play: LivePlay
    signalling: Signalling
    keeper: LeaseKeeper
    bus: EventBus
    views: Views
    registry: CollectorRegistry
    http_port: int = 0
    started_in: float = 0.0
    first_password: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def sip_port(self) -> int:
        """The SIP port in use (UDP; the same number over TCP unless it was 0)."""
        address = self.signalling.transport.udp_address
        return address[1] if address else 0

    @property
    def sip_tcp_port(self) -> int:
        address = self.signalling.transport.tcp_address
        return address[1] if address else 0


class _Rights:
    """Tells the keeper, once there is one, that somebody's rights have changed."""

    keeper: LeaseKeeper | None = None

    def changed(self) -> None:
        if self.keeper is not None:
            self.keeper.rights_changed()


@asynccontextmanager
async def running_platform(
    config: Config, *, clock: Clock | None = None, token: Callable[[int], str] = secrets.token_hex
) -> AsyncIterator[Platform]:
    """Start everything, yield the platform, stop everything. Raises PortTakenError, EmbeddedError, MigrationError."""
    clock = clock or system_clock()
    begun = clock()
    check_ports(config)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    registry = make_registry()
    async with AsyncExitStack() as stack:
        _start_log(config, clock, registry, stack)
        storage = await stack.enter_async_context(open_storage(config))
        platform = await _build(config, clock=clock, token=token, registry=registry, storage=storage, stack=stack)
        platform.started_in = clock() - begun
        log.info("platform_ready", seconds=round(platform.started_in, 2))
        yield platform
        log.info("platform_stopping")


def _start_log(config: Config, clock: Clock, registry: CollectorRegistry, stack: AsyncExitStack) -> None:
    stream = (config.data_dir / "mingjian.log").open("a", encoding="utf-8")
    stack.callback(stream.close)
    logging = configure(
        clock=clock, fmt="json" if config.log_format == "json" else "text", stream=stream, counter=log_counter(registry)
    )
    stack.callback(logging.flush)


async def _build(
    config: Config,
    *,
    clock: Clock,
    token: Callable[[int], str],
    registry: CollectorRegistry,
    storage: Storage,
    stack: AsyncExitStack,
) -> Platform:
    secret_dir = config.data_dir / "secrets"
    store = CatalogStore(storage.pool, box=SecretBox.open_file(secret_dir / "catalog.key"))
    ledger = Ledger(storage.pool, clock=clock)
    await ledger.start()
    stack.push_async_callback(ledger.stop)
    http = config.http
    rights = _Rights()
    people = People(
        storage.pool,
        ledger=ledger,
        clock=clock,
        on_rights_changed=rights.changed,
        config=PeopleConfig(idle_seconds=http.session_idle_minutes * 60, session_seconds=http.session_hours * 3600),
    )
    sharing = Sharing(
        ledger=ledger, store=store, people=people, clock=clock, config=SharingConfig(unit=config.platform.name)
    )
    if closed := await sharing.recover():
        log.warning("leases_ended_by_crash", count=closed)
    bus = EventBus()
    views = Views(clock=clock, publish=bus.publish)
    completion = Completion(sharing=sharing, views=views)
    stack.push_async_callback(completion.settled)

    media_events: list[Callable[[MediaEvent], None]] = []
    media = _media_plane(config, media_events)
    media.start()
    stack.callback(media.stop)
    media.attach(asyncio.get_running_loop())

    signalling = await start_signalling(
        config,
        clock=clock,
        token=token,
        store=store,
        pool=storage.pool,
        replay=ValkeyReplayGuard(storage.valkey),
        nonce_secret=secret_bytes(secret_dir / "nonce.key"),
        publish=bus.publish,
        stack=stack,
    )
    play = LivePlay(
        transport=signalling.transport,
        bindings=signalling.bindings,
        media=media,
        identity=GbId(config.platform.id),
        config=PlayConfig(
            grace=config.media.linger,
            first_packet_timeout=config.media.source_timeout,
            transport="tcp-passive" if config.media.default_transport == "tcp-passive" else "udp",
        ),
        clock=clock,
        publish=bus.publish,
        token=token,
        on_lease_end=completion.on_lease_end,
        ask_key_frame=signalling.devices.ask_key_frame,
    )
    stack.push_async_callback(play.stop)
    keeper = LeaseKeeper(sharing=sharing, play=play, media=media, clock=clock, refused=completion.refused)
    rights.keeper = keeper
    keeper.start()
    stack.push_async_callback(keeper.stop)
    media_events += [play.on_media_event, keeper.on_media_event]
    signalling.serve(play)

    platform = Platform(
        config=config,
        clock=clock,
        store=store,
        people=people,
        sharing=sharing,
        ledger=ledger,
        media=media,
        play=play,
        signalling=signalling,
        keeper=keeper,
        bus=bus,
        views=views,
        registry=registry,
    )
    services = Services(
        config=_api_config(config, media),
        clock=clock,
        token=token,
        people=people,
        sharing=sharing,
        store=store,
        ledger=ledger,
        play=play,
        devices=signalling.devices,
        bus=bus,
        views=views,
        completion=completion,
        registry=registry,
        source_stats=media.session_stats,
        metric_sources=metric_sources(platform),
        checks=_checks(storage, media, signalling),
        rights_changed=rights.changed,
        signals=_signals(config, signalling),
    )
    web = WebServer(create_app(services), host=http.host, port=http.port)
    await web.start()
    stack.push_async_callback(web.stop)
    stack.callback(bus.close)  # before the web server stops: open event streams end instead of holding it up
    platform.http_port = web.port
    # last, so that a start that fails does not use up the password nobody has seen
    platform.first_password = await people.ensure_administrator()
    calm_collector()
    return platform


def _signals(config: Config, signalling: Signalling) -> Signals:
    folder = config.data_dir / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    devices = signalling.devices
    return Signals(
        inquiries=devices.inquiries,
        controls=devices.controls,
        profiles=devices.profiles,
        subscriptions=signalling.subscriptions,
        orders=signalling.orders,
        settings=signalling.settings,
        alarms=signalling.alarms,
        positions=signalling.positions,
        stored_orders=signalling.stored_orders,
        query_info=devices.query_device_info,
        snapshot_dir=folder,
    )


def _media_plane(config: Config, listeners: list[Callable[[MediaEvent], None]]) -> MediaPlane:
    section = config.media

    def on_event(event: MediaEvent) -> None:
        for listener in listeners:
            listener(event)

    return MediaPlane(
        MediaConfig(
            udp_port=section.udp_port,
            tcp_port=section.tcp_port,
            http_port=section.http_port,
            public_host=section.advertise,  # empty: the address signalling reached us at
            bind=section.host,
            allowed_origins=config.http.origins,
            private_ports=(section.private_ports_from, section.private_ports_to),
            source_timeout=section.source_timeout,
        ),
        on_event=on_event,
    )


def _api_config(config: Config, media: MediaPlane) -> ApiConfig:
    token_file = config.http.metrics_token_file
    return ApiConfig(
        console_dir=CONSOLE_DIR,
        media_port=media.ports[2],
        metrics_token=secret_text(Path(token_file)) if token_file else "",
    )


def _checks(storage: Storage, media: MediaPlane, signalling: Signalling) -> tuple[Check, ...]:
    async def database() -> bool:
        return bool(await storage.pool.fetchval("SELECT true", timeout=2))

    async def engine() -> bool:
        return media.stats() is not None

    async def sip() -> bool:
        return signalling.transport.udp_address is not None and signalling.transport.tcp_address is not None

    async def cache() -> bool:
        return bool(await storage.valkey.ping())

    return (
        Check(name="database", probe=database),
        Check(name="engine", probe=engine),
        Check(name="sip", probe=sip),
        Check(name="cache", probe=cache, required=False),
    )
