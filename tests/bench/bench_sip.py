"""Signalling under load on this machine: registrations, keepalives, a storm, and a catalogue of 100,000 channels.

`python -m tests.bench.bench_sip [--seconds 20] [--only register,keepalive,storm,catalog]` prints JSON lines
{"name","value","unit","anchor","ratio"} on standard output and a table on standard error. The binding is durable:
PostgreSQL with fsync on disk, started here; server and load generator are processes of their own.
`anchor` is the target; `ratio` is value/anchor, turned so that 1 or more means reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg

from catalog.secrets import SecretBox
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.migrate import prepare_embedded
from sipserver.protocol.ids import new_key
from tests.bench.sip_load import PASSWORD, code

DOMAIN, PLATFORM = "3402000000", "34020000002000000001"
FLEET = 10_000
PORT = 15_060  # of the devices, each group of them on an address of its own
ROOT = Path(__file__).resolve().parents[2]


def show(name: str, value: float, unit: str, anchor: float | None = None, *, least: bool = False) -> None:
    """One figure. `least`: smaller is better."""
    ratio = None
    if anchor is not None:
        ratio = round(anchor / max(value, 1e-9) if least else value / anchor, 3)
    print(
        json.dumps({"name": name, "value": round(value, 3), "unit": unit, "anchor": anchor, "ratio": ratio}), flush=True
    )
    verdict = "" if ratio is None else "reached" if ratio >= 1 else "MISSED"
    print(f"{name:<44} {value:>12.2f} {unit:<8} {'' if anchor is None else anchor:>8} {verdict}", file=sys.stderr)


QUIET = 2_900.0  # kloop/s of processor time on this kind of machine when nobody else uses it


def calibrate() -> float:
    """Thousand rounds of a fixed loop a second of processor time: how fast a core is while others use the machine."""
    begun, digest = time.process_time(), b""
    for _ in range(200_000):
        digest = hashlib.sha256(digest).digest()
    return 200 / (time.process_time() - begun)


class Child:
    """A Python process that talks JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, module: str, first: dict[str, Any]) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        child = cls(process)
        await child.tell(first)
        return child

    async def tell(self, message: dict[str, Any] | str) -> None:
        assert self.process.stdin is not None
        text = message if isinstance(message, str) else json.dumps(message)
        self.process.stdin.write(text.encode() + b"\n")
        await self.process.stdin.drain()

    async def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process under measurement ended")
        return dict(json.loads(line))

    async def ask(self, command: str) -> dict[str, Any]:
        await self.tell(command)
        return await self.read()

    async def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()


async def provision(pool: asyncpg.Pool, count: int) -> list[str]:
    """Devices with sealed passwords; gives their keys."""
    box, rows = SecretBox(bytes(32)), []
    for number in range(count):
        key = new_key("dev", lambda n: os.urandom(n).hex())
        rows.append((key, code(number), "camera", "nvr", box.seal(PASSWORD, context=key), time.time()))
    columns = ("device_key", "gb_id", "name", "kind", "credential", "created_at")
    await pool.copy_records_to_table("devices", records=rows, columns=columns)
    await pool.execute("VACUUM ANALYZE devices")
    return [row[0] for row in rows]


class Bench:
    """The running server and what is asked of it."""

    def __init__(self, server: Child, address: list[Any], keys: list[str], profile: bool) -> None:
        self.server, self.address, self.keys, self.profile = server, address, keys, profile

    async def load(self, kind: str, **job: Any) -> Child:
        base = {"kind": kind, "server": self.address, "domain": DOMAIN, "platform": PLATFORM, "port": PORT}
        return await Child.start("tests.bench.sip_load", base | job)

    async def measured(self, kind: str, **job: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], float]:
        """(result of the load, server before, server after, seconds)."""
        if self.profile:
            await self.server.ask("profile start")
        before = await self.server.ask("figures")
        begun = time.perf_counter()
        child = await self.load(kind, **job)
        result = await child.read()
        await child.end()
        seconds = time.perf_counter() - begun
        after = await self.server.ask("figures")
        if self.profile:
            await self.server.ask("profile stop tottime 60")
        return result, before, after, seconds

    async def registrations(self, name: str, rate: float, seconds: float) -> None:
        result, before, after, _ = await self.measured("register", devices=FLEET, rate=rate, seconds=seconds, warm=2)
        failed = result["offered"] - result.get("ok", 0)
        cpu = after["cpu"] - before["cpu"]
        show(f"{name}_per_second", result.get("ok", 0) / seconds, "1/s", rate)
        show(f"{name}_failed", failed, "", None)
        show(f"{name}_p50", result["p50_ms"], "ms")
        show(f"{name}_p99", result["p99_ms"], "ms", 300, least=True)
        show(f"{name}_retransmissions", result.get("retransmissions", 0), "")
        show(f"{name}_core", cpu / seconds * 100, "% core")
        show(f"{name}_cpu_each", cpu / max(1, result.get("ok", 0)) * 1e6, "us")
        if name == "storm":
            show("storm_loop_lag_p99", after["lag_p99_ms"], "ms", 100, least=True)
            show("storm_rss_growth", after["rss_mib"] - before["rss_mib"], "MiB", 64, least=True)
            show("storm_devices_online", after["online"], "", FLEET)
            show("storm_devices_shown_offline", sum(after["offline"].values()), "")
        print(f"   {result} {after['counters']} {after['load']}", file=sys.stderr)

    async def keepalives(self, seconds: float) -> None:
        rate, speed = 2_000, calibrate()
        result, before, after, _ = await self.measured("keepalive", devices=FLEET, rate=rate, seconds=seconds, warm=1)
        cpu = after["cpu"] - before["cpu"]
        show("keepalives_per_second", result.get("ok", 0) / seconds, "1/s", rate)
        show("keepalives_failed", result["offered"] - result.get("ok", 0), "")
        show("keepalives_core", cpu / seconds * 100, "% core", 50, least=True)
        show("keepalives_core_quiet", cpu / seconds * 100 * speed / QUIET, "% core", 50, least=True)
        show("keepalives_p99", result["p99_ms"], "ms")
        show("keepalives_rss", after["rss_mib"], "MiB")
        print(f"   {result} {after['counters']}", file=sys.stderr)

    async def catalogue(self, channels: int) -> None:
        before = await self.server.ask("figures")
        child = await self.load("catalog", devices=5_000, rate=84, seconds=150, channels=channels, window=32)
        await child.read()
        if self.profile:
            await self.server.ask("profile start")
        stored = await self.server.ask(f"sync {self.keys[0]}")
        if self.profile:
            await self.server.ask("profile stop tottime 60")
        result = await child.read()
        await child.end()
        after = await self.server.ask("figures")
        show("catalog_stored", stored["stored"], "channels", channels)
        show("catalog_seconds", stored["seconds"], "s", 60, least=True)
        show("catalog_complete", float(stored["complete"]), "", 1)
        show("catalog_peak_growth", after["peak_mib"] - before["rss_mib"], "MiB")
        show("catalog_keepalives_lost", result.get("timed_out", 0) + result["unfinished"], "")
        show("catalog_message_p99", result["p99_ms"], "ms")
        show("catalog_loop_lag_p99", after["lag_p99_ms"], "ms", 100, least=True)
        print(f"   {result} {stored}", file=sys.stderr)


@contextlib.asynccontextmanager
async def running(profile: bool) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory() as directory:
        postgres, valkey = EmbeddedPostgres(Path(directory)), EmbeddedValkey(Path(directory))
        await postgres.start()
        await valkey.start()
        try:
            address = await prepare_embedded(postgres)
            async with asyncpg.create_pool(**address.arguments(), min_size=1, max_size=2) as pool:
                keys = await provision(pool, FLEET)
            settings = {
                "id": PLATFORM,
                "domain": DOMAIN,
                "postgres": address.arguments(),
                "valkey": valkey.address().url(),
            }
            server = await Child.start("tests.bench.sip_server", settings)
            try:
                yield Bench(server, (await server.read())["udp"], keys, profile)
            finally:
                await server.end()
        finally:
            await valkey.stop()
            await postgres.stop()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=1_000)
    parser.add_argument("--channels", type=int, default=100_000)
    parser.add_argument("--only", default="register,keepalive,storm,catalog")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    chosen = options.only.split(",")
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}", file=sys.stderr)
    show("calibration", calibrate(), "kloop/s")
    async with running(options.profile) as bench:
        if "register" in chosen:
            await bench.registrations("registrations", options.rate, options.seconds)
        elif "keepalive" in chosen or "catalog" in chosen or "storm" in chosen:
            child = await bench.load("register", devices=FLEET, rate=700, seconds=FLEET / 700 + 0.5)
            await child.read()
            await child.end()
        if "keepalive" in chosen:
            await bench.keepalives(options.seconds)
        if "storm" in chosen:
            await bench.registrations("storm", 1_670, options.seconds)
        if "catalog" in chosen:
            await bench.catalogue(options.channels)
    show("calibration_after", calibrate(), "kloop/s")
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
