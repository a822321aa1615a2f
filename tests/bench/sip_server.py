"""The signalling process under load: everything the platform runs between socket and database, and nothing else.

Speaks JSON lines: the configuration on the first line of standard input, then commands; an answer a command.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from valkey.asyncio import Valkey

from catalog.events import DeviceOffline, DomainEvent
from catalog.secrets import SecretBox
from catalog.store import CatalogStore
from ops.clock import system_clock
from ops.memory import calm_collector
from ops.replay import ValkeyReplayGuard
from sipserver.bindings import Bindings
from sipserver.devices import DeviceSessions
from sipserver.dispatch import Dispatch
from sipserver.presence import SessionConfig
from sipserver.protocol.digest import NonceIssuer
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.queries import QueryConfig
from sipserver.registrar import Registrar, RegistrarConfig
from sipserver.transport import SipTransport

LAG_STEP = 0.02


class Server:
    """The parts, and what is measured about them."""

    def __init__(self, pool: asyncpg.Pool, valkey: Valkey, settings: dict[str, Any]) -> None:
        self.clock = system_clock()
        self.offline: Counter[str] = Counter()
        self.lags: list[float] = []
        self.profile: cProfile.Profile | None = None
        bindings, token = Bindings(), secrets.token_hex
        endpoint = Endpoint(
            identity=GbId(settings["id"]), domain=settings["domain"], user_agent="Mingjian", token=token
        )
        self.transport = SipTransport(endpoint, clock=self.clock, udp=("127.0.0.1", 0), tcp=("127.0.0.1", 0))
        self.bindings = bindings
        self.store = CatalogStore(pool, box=SecretBox(bytes(32)))
        self.sessions = DeviceSessions(
            self.transport,
            self.store,
            bindings,
            clock=self.clock,
            token=token,
            publish=self.published,
            config=SessionConfig(query_on_register=False),
            query_config=QueryConfig(),
        )
        self.registrar = Registrar(
            self.transport,
            self.store,
            ValkeyReplayGuard(valkey),
            clock=self.clock,
            config=RegistrarConfig(realm=settings["domain"]),
            nonces=NonceIssuer(secrets.token_bytes(32)),
            bindings=bindings,
            publish=self.published,
            on_bound=self.sessions.bound,
        )
        self.transport.on_event = Dispatch(self.transport, self.registrar, self.sessions).on_event
        self.transport.admission.is_known = lambda remote: bindings.knows(self.transport.udp_flow(remote))
        self.transport.admission.proves = self.registrar.proves_address
        self.transport.on_connection_lost = self.sessions.connection_lost

    def published(self, event: DomainEvent) -> None:
        if isinstance(event, DeviceOffline):
            self.offline[event.reason] += 1

    def measure_lag(self, due: float | None = None) -> None:
        """How late the loop gets to what is due: what every device feels."""
        loop = asyncio.get_running_loop()
        if due is not None:
            self.lags.append(loop.time() - due)
        loop.call_at(loop.time() + LAG_STEP, self.measure_lag, loop.time() + LAG_STEP)

    def figures(self) -> dict[str, Any]:
        lags, self.lags = sorted(self.lags) or [0.0], []
        counters = Counter(self.transport.counters)
        for prefix, more in (
            ("reg", self.registrar.counters),
            ("msg", self.sessions.counters),
            ("sip", self.transport.endpoint.counters),
        ):
            counters.update({f"{prefix}_{name}": number for name, number in more.items()})
        status = Path("/proc/self/status").read_text(encoding="ascii")
        resident = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
        return {
            "cpu": sum(os.times()[:2]),
            "rss_mib": int(resident["VmRSS"]) / 1024,
            "peak_mib": int(resident["VmHWM"]) / 1024,
            "lag_p99_ms": lags[int(len(lags) * 0.99)] * 1000,
            "online": len(self.bindings),
            "offline": dict(self.offline),
            "counters": dict(counters),
            "load": dict(self.transport.endpoint.load()),
        }

    async def command(self, words: list[str]) -> dict[str, Any]:
        if words[0] == "profile" and words[1] == "start":
            self.profile = cProfile.Profile()
            self.profile.enable()
            return {}
        if words[0] == "profile" and self.profile is not None:
            self.profile.disable()
            pstats.Stats(self.profile, stream=sys.stderr).sort_stats(words[2]).print_stats(int(words[3]))
            return {}
        if words[0] == "sync":
            begun = time.perf_counter()
            result = await self.sessions.sync_catalog(DeviceKey(words[1]))
            return {
                "seconds": time.perf_counter() - begun,
                "received": result.received,
                "complete": result.complete,
                "stored": result.change.total,
            }
        return self.figures()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = json.loads(await reader.readline())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    pool = await asyncpg.create_pool(**settings["postgres"], min_size=4, max_size=16, command_timeout=120)
    valkey = Valkey.from_url(settings["valkey"], socket_timeout=2, socket_connect_timeout=2)
    server = Server(pool, valkey, settings)
    await server.transport.start()
    calm_collector()
    ticking = loop.create_task(server.sessions.run())
    server.measure_lag()
    print(json.dumps({"udp": server.transport.udp_address, "tcp": server.transport.tcp_address}), flush=True)
    while line := await reader.readline():
        print(json.dumps(await server.command(line.decode().split())), flush=True)
    ticking.cancel()
    await server.sessions.stop()
    await server.transport.stop()
    await valkey.aclose()
    await pool.close()


if __name__ == "__main__":
    asyncio.run(serve())
