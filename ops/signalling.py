"""Builds and starts the signalling side: SIP endpoint and sockets, registrar, device sessions, dispatch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from catalog.events import DomainEvent
from catalog.store import CatalogStore
from ops.clock import Clock
from ops.config import Config
from ops.files import secret_text
from sipserver.bindings import Bindings, Bound, OfflineReason
from sipserver.devices import DeviceSessions
from sipserver.dispatch import Dispatch
from sipserver.play import LivePlay
from sipserver.presence import SessionConfig
from sipserver.protocol.digest import NonceIssuer
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.ids import GbId
from sipserver.registrar import Registrar, RegistrarConfig, ReplayGuard
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
    )
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
    stack.push_async_callback(devices.stop)
    await transport.start()
    stack.push_async_callback(transport.stop)
    ticking = asyncio.create_task(devices.run(), name="device-sessions")
    stack.push_async_callback(_end, ticking)
    return Signalling(transport=transport, bindings=bindings, registrar=registrar, devices=devices, dispatch=dispatch)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
