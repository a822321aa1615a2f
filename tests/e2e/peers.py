"""Starts the foreign devices of tests/peers as processes of their own and reads what they say."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.rig import DOMAIN, LOCALHOST, PLATFORM, ROOT, Rig, free_port, need

PEERS = ROOT / "tests" / "peers"
_BUILD_SECONDS = 300


async def build_rust_device() -> Path:
    """Compile the device on the crate gb28181-rs (nothing to do when it is fresh)."""
    folder = PEERS / "gb28181-device"
    cargo = await asyncio.create_subprocess_exec(need("cargo"), "build", "--locked", "--quiet", cwd=folder, stderr=PIPE)
    async with asyncio.timeout(_BUILD_SECONDS):
        _, words = await cargo.communicate()
    assert cargo.returncode == 0, words.decode()
    return folder / "target" / "debug" / "gb28181-device"


@asynccontextmanager
async def process(*line: str, env: Mapping[str, str] | None = None, patience: float = 10.0) -> AsyncIterator[Process]:
    """A child that is told to end (SIGTERM) and killed when it does not listen within `patience` seconds."""
    child = await asyncio.create_subprocess_exec(*line, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        try:
            async with asyncio.timeout(patience):
                await child.communicate()
        except TimeoutError:
            child.kill()
            await child.communicate()


@asynccontextmanager
async def rust_device(
    program: Path, rig: Rig, folder: Path, *, code: str, password: str, stream: Path, mode: str
) -> AsyncIterator[Process]:
    """A camera on gb28181-rs; device and channel carry the same code."""
    settings = {
        "enabled": True,
        "platform_sip_address": LOCALHOST,
        "platform_sip_port": rig.platform.sip_port,
        "device_id": code,
        "channel_id": code,
        "sip_domain": DOMAIN,
        "password": password,
        "local_sip_port": free_port(),
        "register_interval_secs": 3600,
        "heartbeat_interval_secs": 30,
        "device_name": "gb28181-rs camera",
        "manufacturer": "mickeyzzc",
    }
    config = folder / f"{code[-4:]}.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()), "utf-8")
    async with process(str(program), str(config), str(stream), mode) as child:
        yield child


async def lines(child: Process) -> AsyncIterator[dict[str, Any]]:
    """The JSON lines a peer prints, until it ends; what its library prints beside them is passed over."""
    assert child.stdout is not None
    async for line in child.stdout:
        if line.startswith(b"{"):
            yield json.loads(line)


@asynccontextmanager
async def pjsua_device(rig: Rig, folder: Path, **settings: object) -> AsyncIterator[Process]:
    """A registering user agent on PJSIP (tests/peers/pjsua2_device.py)."""
    told = {"server": f"{LOCALHOST}:{rig.platform.sip_port}", "server_id": PLATFORM, "domain": DOMAIN, **settings}
    file = folder / f"{settings['id']}.json"
    file.write_text(json.dumps(told), "utf-8")
    async with process(sys.executable, str(PEERS / "pjsua2_device.py"), str(file)) as child:
        yield child
