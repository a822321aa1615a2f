"""Measures ledger, sharing and catalog on an embedded, durable PostgreSQL of its own.

`python tests/bench/bench_data.py [--channels N]` prints JSON lines {"name","value","unit"} on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import structlog

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from catalog.model import ListedItem
from catalog.secrets import SecretBox
from catalog.store import CatalogStore
from ops.clock import system_clock
from ops.embedded import EmbeddedPostgres
from ops.migrate import prepare_embedded
from sharing.lease import Action, Client, Lease
from sharing.ledger import EntryKind, Ledger
from sharing.people import People, Role
from sharing.service import Sharing
from sipserver.protocol.ids import GbId

clock = system_clock()


def show(name: str, value: float, unit: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit}))


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    start = clock()
    await work()
    return clock() - start


async def ledger_rates(ledger: Ledger) -> None:
    for writers, each in ((1, 300), (64, 60), (1000, 8)):
        delays: list[float] = []

        async def write(each: int = each, delays: list[float] = delays) -> None:
            for number in range(each):
                delays.append(await timed(lambda n=number: ledger.append(EntryKind.SYSTEM, {"n": n})))  # type: ignore[misc]

        async def run(writers: int = writers) -> None:
            await asyncio.gather(*(write() for _ in range(writers)))

        seconds = await timed(run)
        delays.sort()
        show(f"ledger_appends_{writers}_writers", writers * each / seconds, "1/s")
        show(f"ledger_append_p99_{writers}_writers", delays[int(len(delays) * 0.99)] * 1000, "ms")
    size = (await ledger.head()).size
    show("ledger_verify", size / await timed(ledger.verify), "rows/s")


async def views(pool: asyncpg.Pool, ledger: Ledger, store: CatalogStore) -> None:
    people = People(pool, ledger=ledger, clock=clock)
    device = await store.provision_device(GbId("34020000001180000001"), name="n", password=None, now=clock())
    items = [ListedItem(gb_id=GbId(f"3402000000131{number:07d}"), name="c") for number in range(500)]
    await store.apply_catalog(device.key, items, complete=True, now=clock())
    user = await people.create_user(
        actor=None,
        username="w",
        display_name="w",
        password="Messung-2026-a",
        roles={Role.WATCHER},
        scope=[device.key],  # type: ignore[list-item]
    )
    await people.change_password(user.key, "Messung-2026-a", "Messung-2026-b")
    sharing = Sharing(ledger=ledger, people=people, store=store, clock=clock)
    channels = [channel.key for channel in (await store.channels(limit=500)).items]
    delays = []
    for number in range(1000):
        start = clock()
        channel = channels[number % len(channels)]
        lease = await sharing.authorize(user.key, channel, Action.VIEW_LIVE, "DUTY_WATCH", Client())
        delays.append(clock() - start)
        assert isinstance(lease, Lease)
    delays.sort()
    show("authorize_p50", delays[500] * 1000, "ms")
    show("authorize_p99", delays[990] * 1000, "ms")
    show("renew_all_1000_leases", await timed(sharing.renew_all), "s")


async def catalogue(store: CatalogStore, channels: int) -> None:
    device = await store.provision_device(GbId("34020100002000000001"), name="n", password=None, now=clock())
    items = [
        ListedItem(gb_id=GbId(f"3402010000131{n:07d}"), name=f"c {n}", civil_code=f"3402{n % 90:02d}", model="M")
        for n in range(channels)
    ]
    for name in ("first", "again"):
        seconds = await timed(lambda: store.apply_catalog(device.key, items, complete=True, now=clock()))
        show(f"catalogue_{channels}_{name}", seconds, "s")


async def main(channels: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory))
        show("postgres_first_start", await timed(server.start), "s")
        await server.stop()
        show("postgres_second_start", await timed(server.start), "s")
        try:
            address = await prepare_embedded(server)
            async with asyncpg.create_pool(**address.arguments(), min_size=2, max_size=12) as pool:
                ledger = Ledger(pool, clock=clock)
                await ledger.start()
                store = CatalogStore(pool, box=SecretBox(bytes(32)))
                await ledger_rates(ledger)
                await views(pool, ledger, store)
                await catalogue(store, channels)
                await ledger.stop()
        finally:
            await server.stop()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=100_000)
    asyncio.run(main(parser.parse_args().channels))
