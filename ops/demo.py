"""`mingjian demo`: the platform, simulated devices with real pictures, and a viewer that proves the first one."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import httpx

from catalog.model import Channel, Device, NodeKey
from ops.config import Config
from ops.ports import check_ports
from ops.serve import stop_event
from ops.sim.fleet import DEMO_DEVICES, DEMO_NAMES, Upper, demo_specs, start_fleet
from ops.sim.footage import ensure_footage
from ops.sim.library import DEMO_FOOTAGE
from ops.wiring import Platform, running_platform
from sharing.people import Role, User
from sipserver.protocol.ids import GbId

WATCHER = "watch"
PROBE = "demo-probe"


def say(text: str) -> None:
    print(text, flush=True)


def new_password() -> str:
    """Four groups of four letters and digits without look-alikes, 78 bits."""
    letters = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4)) + "!"


def make_footage(directory: Path) -> dict[str, Path]:
    """Encode what is missing; the first run takes some seconds and says how far it is."""

    def report(name: str, done: int, total: int) -> None:
        say(f"  footage {done}/{total}: {name}")

    if not all((directory / spec.file_name()).exists() for spec in DEMO_FOOTAGE):
        say("making the pictures of the simulated cameras (first run only) ...")
    return ensure_footage(DEMO_FOOTAGE, directory, report=report)


async def provision(platform: Platform) -> dict[str, str]:
    """Admit the simulated devices, each with a new password; returns the passwords by kind."""
    passwords = {}
    for kind, code in DEMO_DEVICES.items():
        password = passwords[kind] = secrets.token_urlsafe(18)
        known = await platform.store.device_by_gb(GbId(code))
        if known is None:
            await platform.store.provision_device(
                GbId(code), name=DEMO_NAMES[kind], password=password, now=platform.clock()
            )
        else:
            await platform.store.update_device(known.key, password=password)
    return passwords


async def account(
    platform: Platform, username: str, display_name: str, *, renew: bool, may_listen: bool
) -> tuple[User, str | None]:
    """A watcher of every demo device. The password is None when the person has chosen his own and `renew` is off."""
    devices = [d for code in DEMO_DEVICES.values() if (d := await platform.store.device_by_gb(GbId(code)))]
    scope = tuple(NodeKey(device.key) for device in devices)
    known = next((user for user in await platform.people.users() if user.username == username), None)
    password = new_password()
    if known is None:
        user = await platform.people.create_user(
            actor=None,
            username=username,
            display_name=display_name,
            password=password,
            roles={Role.WATCHER},
            scope=scope,
            may_listen=may_listen,
        )
        return user, password
    fresh = password if renew or known.must_change_password else None
    user = await platform.people.update_user(known.key, actor=None, password=fresh, scope=scope, may_listen=may_listen)
    return user, fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPicture:
    """What the demo's own viewer saw: from the request for the stream to a decoded picture, in seconds."""

    channel: str
    seconds: float
    width: int
    height: int


async def first_online_channel(platform: Platform) -> Channel:
    """Wait until a registered device has a channel that plays; the H.264 camera first."""
    with platform.bus.subscribe() as events:
        while True:
            device: Device | None = await platform.store.device_by_gb(GbId(DEMO_DEVICES["ipc"]))
            if device is not None and device.online:
                page = await platform.store.channels(limit=10, within=(NodeKey(device.key),))
                for channel in page.items:
                    if channel.online:
                        return channel
            await events.next()


async def watch_first_picture(platform: Platform, channel: Channel, username: str, password: str) -> FirstPicture:
    """Sign in over HTTP as any viewer does, ask for the stream, pull it, decode one picture, and let go."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{platform.http_port}/api/v1", timeout=30) as http:
        answer = await http.post("/login", json={"username": username, "password": password})
        answer.raise_for_status()
        http.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        if answer.json()["must_change_password"]:
            chosen = new_password()
            body = {"current_password": password, "new_password": chosen}
            (await http.post("/me/password", json=body)).raise_for_status()
        begin = time.perf_counter()
        answer = await http.post("/streams", json={"channel": channel.key, "purpose": "DUTY_WATCH: demo"})
        answer.raise_for_status()
        view = answer.json()
        try:
            width, height = await asyncio.to_thread(decode_one, view["urls"]["flv"])
            seconds = time.perf_counter() - begin
        finally:
            await http.delete(f"/streams/{view['id']}")
        await http.post("/logout")
    return FirstPicture(channel=channel.name, seconds=seconds, width=width, height=height)


def decode_one(url: str) -> tuple[int, int]:
    """Pull `url` and decode one picture; returns its size. Raises av.FFmpegError or EOFError."""
    options = {"probesize": "65536", "analyzeduration": "200000"}
    with av.open(url, options=options, timeout=(10, 10)) as container:
        container.streams.video[0].codec_context.thread_count = 1  # more threads hold back a picture each
        for frame in container.decode(video=0):
            return frame.width, frame.height
    raise EOFError("the stream ended before its first picture")


async def demo(config: Config, *, seconds: float = 0) -> int:
    """Run until Ctrl-C, SIGTERM or `seconds`; 0 when the first picture was seen, 1 when it was not."""
    told = stop_event()
    config = _demo_config(config)
    check_ports(config)
    async with AsyncExitStack() as stack:
        footage = await asyncio.to_thread(make_footage, config.data_dir / "footage")
        if told.is_set():
            return 0
        say("starting PostgreSQL, Valkey and the platform ...")
        platform = await stack.enter_async_context(running_platform(config))
        passwords = await provision(platform)
        _, watcher_password = await account(platform, WATCHER, "值班员", renew=False, may_listen=True)
        _, probe_password = await account(platform, PROBE, "演示自检", renew=True, may_listen=False)
        upper = Upper(address=f"127.0.0.1:{platform.sip_port}", code=config.platform.id, domain=config.platform.domain)
        fleet = await start_fleet(demo_specs(footage, passwords), upper, keepalive=20, retry=5)
        stack.push_async_callback(fleet.stop)
        say(f"ready after {platform.started_in:.1f} s")
        _say_where(platform, watcher_password)
        proof = asyncio.create_task(_prove(platform, probe_password or ""))
        stack.push_async_callback(_cancel, proof)
        with suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), seconds or None)
        say("stopping ...")
        return 0 if proof.done() and not proof.cancelled() and proof.result() else 1


async def _cancel(task: asyncio.Task[bool]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _demo_config(config: Config) -> Config:
    if config.data_dir == Config().data_dir:
        config = replace(config, data_dir=Path("demo-data"))
    return replace(config, data_dir=config.data_dir.absolute())


def _say_where(platform: Platform, watcher_password: str | None) -> None:
    say(f"console:        http://127.0.0.1:{platform.http_port}/")
    name, password = platform.first_password or ("admin", "(as you chose)")
    say(f"administrator:  {name} / {password}   (one-time password; devices and users, may not watch)")
    say(f"duty officer:   {WATCHER} / {watcher_password or '(as you chose)'}   (one-time password; watches)")
    say(f"SIP:            {platform.config.platform.id} at port {platform.sip_port}, UDP and TCP")
    say("logs:           " + str(platform.config.data_dir / "mingjian.log"))


async def _prove(platform: Platform, password: str) -> bool:
    try:
        async with asyncio.timeout(60):
            channel = await first_online_channel(platform)
            seen = await watch_first_picture(platform, channel, PROBE, password)
    except (TimeoutError, httpx.HTTPError, av.FFmpegError, EOFError) as error:
        print(f"no first picture: {type(error).__name__} {error}", file=sys.stderr, flush=True)
        return False
    say(f"first picture: {seen.channel} after {seen.seconds:.1f} s")
    return True
