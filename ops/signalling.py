"""Builds and starts the signalling side: SIP endpoint and sockets, registrar, device sessions, dispatch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from catalog.alarms import Alarms
from catalog.events import DomainEvent, SubscriptionChanged
from catalog.orders import Orders as StoredOrders
from catalog.positions import Positions
from catalog.settings import DeviceSettings
from catalog.store import CatalogStore
from ops.clock import Clock
from ops.config import Config
from ops.files import secret_text
from sipserver.alarms import Desk
from sipserver.bindings import Bindings, Bound, OfflineReason
from sipserver.devices import DeviceSessions
from sipserver.dispatch import Dispatch
from sipserver.orders import Orders
from sipserver.play import LivePlay
from sipserver.presence import SessionConfig
from sipserver.profiles import Profiles
from sipserver.protocol.digest import NonceIssuer
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.ids import GbId
from sipserver.registrar import Registrar, RegistrarConfig, ReplayGuard
from sipserver.subscriptions import Subscriptions, Wanted
from sipserver.told import connect
from sipserver.transport import SipTransport

USER_AGENT = "Mingjian"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalling:
    """The running SIP side of the platform."""

    transport: SipTransport
    bindings: Bindings
    registrar: Registrar
    devices: DeviceSessions
    dispatch: Dispatch
    subscriptions: Subscriptions
    orders: Orders
    settings: DeviceSettings
    alarms: Alarms
    positions: Positions
    stored_orders: StoredOrders

    def serve(self, play: LivePlay) -> None:
        """From now on live play gets its events, and hears of devices that are gone."""
        self.dispatch.play = play.on_event

        def gone(bound: Bound, reason: OfflineReason) -> None:
            play.device_offline(bound.key)

        self.bindings.listen(gone)


async def start_signalling(
    config: Config,
    *,
    clock: Clock,
    token: Callable[[int], str],
    store: CatalogStore,
    pool: asyncpg.Pool,
    replay: ReplayGuard,
    nonce_secret: bytes,
    publish: Callable[[DomainEvent], None],
    stack: AsyncExitStack,
) -> Signalling:
    """Bind the SIP sockets and take over the bindings kept in the store. `stack` gets what must be stopped."""
    section, identity = config.sip, GbId(config.platform.id)
    endpoint = Endpoint(identity=identity, domain=config.platform.domain, user_agent=USER_AGENT, token=token)
    transport = SipTransport(
        endpoint,
        clock=clock,
        udp=(section.host, section.port),
        tcp=(section.host, section.port),
        advertised_host=section.advertise or None,
    )
    bindings = Bindings()
    settings, alarms, positions, stored = DeviceSettings(pool), Alarms(pool), Positions(pool), StoredOrders(pool)
    profiles = Profiles(settings)
    await profiles.load()
    password_file = section.shared_password_file
    devices = DeviceSessions(
        transport,
        store,
        bindings,
        clock=clock,
        token=token,
        publish=publish,
        config=SessionConfig(
            keepalive_interval=float(section.keepalive_interval),
            keepalive_misses=section.keepalive_misses,
            readmit=section.readmit_on_keepalive,
        ),
        profiles=profiles,
    )
    desk = Desk(
        queries=devices.queries,
        controls=devices.controls,
        bindings=bindings,
        profiles=profiles,
        background=devices.background,
        channels=store,
        alarms=alarms,
        positions=positions,
        states=settings,
        clock=clock,
        publish=publish,
    )
    subscriptions = Subscriptions(
        transport,
        bindings,
        profiles,
        devices.background,
        identity=identity,
        domain=config.platform.domain,
        clock=clock,
        token=token,
        next_sn=devices.queries.next_sn,
        on_change=lambda device, wanted, state: publish(
            SubscriptionChanged(device=device, at=clock(), subscription=wanted.kind, state=state.value)
        ),
    )
    orders = Orders(
        store=stored,
        controls=devices.controls,
        channels=store,
        background=devices.background,
        clock=clock,
        token=token,
        publish=publish,
    )
    connect(devices, desk=desk, subscriptions=subscriptions, orders=orders)
    devices.on_tick += [orders.tick, _Pruning(alarms, positions).tick]
    registrar = Registrar(
        transport,
        store,
        replay,
        clock=clock,
        config=RegistrarConfig(
            realm=config.platform.domain,
            shared_password=secret_text(Path(password_file)) if password_file else None,
        ),
        nonces=NonceIssuer(nonce_secret),
        bindings=bindings,
        publish=publish,
        on_bound=devices.bound,
    )
    dispatch = Dispatch(transport, registrar, devices)
    transport.on_event = dispatch.on_event
    transport.on_connection_lost = devices.connection_lost
    transport.admission.is_known = lambda remote: bindings.knows(transport.udp_flow(remote))
    endpoint.is_stranger = lambda flow: not bindings.knows_host(flow.remote[0])
    transport.admission.proves = registrar.proves_address
    await devices.load()
    for device, wanted in await settings.subscriptions():
        subscriptions.want(device, Wanted(kind=wanted.kind, expires=wanted.expires, interval=wanted.interval))
    stack.push_async_callback(devices.stop)
    await transport.start()
    stack.push_async_callback(transport.stop)
    ticking = asyncio.create_task(devices.run(), name="device-sessions")
    stack.push_async_callback(_end, ticking)
    return Signalling(
        transport=transport,
        bindings=bindings,
        registrar=registrar,
        devices=devices,
        dispatch=dispatch,
        subscriptions=subscriptions,
        orders=orders,
        settings=settings,
        alarms=alarms,
        positions=positions,
        stored_orders=stored,
    )


class _Pruning:
    """Forgets old alarms and tracks once an hour."""

    def __init__(self, alarms: Alarms, positions: Positions) -> None:
        self._alarms = alarms
        self._positions = positions
        self._due = 0.0

    async def tick(self, now: float) -> None:
        if now >= self._due:
            self._due = now + 3600.0
            await self._alarms.prune(now=now)
            await self._positions.prune(now=now)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
