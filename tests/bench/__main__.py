"""Measures what a viewer feels: time to the first picture, and the delay the platform adds to every picture.

`python -m tests.bench [--quick]` prints JSON lines {"name","value","unit","anchor","ratio"} on stdout, a table with the
method on stderr. `ratio` = value / anchor, below 1 is better than the anchor; what has no anchor stands beside others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.video.frame import VideoFrame

from ops.sim.fleet import SimSpec, Upper, start_fleet
from ops.sim.footage import Footage, FootageSpec, LoopedFootage, load_footage, make_footage
from tests.e2e.double import Double, catalog, device_info, double_at, item
from tests.e2e.rig import DOMAIN, LOCALHOST, PLATFORM, Client
from tests.e2e.sender import Offer, Sender, accept
from tests.e2e.served import Served, sign_in

FIRST_PICTURE_ANCHOR = 1.5
FRAME = 0.040
ADDED_ANCHOR = FRAME + 0.020
PASSWORD = "a-measured-Camera-1"
SIMULATED, SCRIPTED = "34020000001320000961", "34020000001320000962"
FILM = FootageSpec(name="bench", scene="crossing", label="bench", camera=5, audio=None, seconds=4)
METHOD = """
first_picture   `mingjian serve` in a process of its own, a simulated 1280x720 H.264 camera (2 Mbit/s, 25 pictures/s) in
                another. From the POST /streams of a signed-in watcher until PyAV has decoded the first picture of the
                HTTP-FLV address in the answer: decision, ledger row on disk, INVITE, camera, PS, FLV, decoder. Every
                run is a new call to the camera. Anchor: 1.5 s.
added_latency   A scripted camera in this process sends the same pictures, one every 40 ms, over UDP; from the moment
                the last packet of one was handed to the kernel until the whole FLV tag was read by a viewer's
                socket, on one clock. Anchor: one picture interval and 20 ms, 60 ms.
""".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value and what it is held against."""

    name: str
    value: float
    unit: str
    anchor: float | None = None

    def line(self) -> str:
        ratio = None if self.anchor is None else round(self.value / self.anchor, 4)
        return json.dumps(
            {"name": self.name, "value": self.value, "unit": self.unit, "anchor": self.anchor, "ratio": ratio}
        )


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(slots=True)
class Site:
    """A running platform, the watcher, a channel of each camera."""

    served: Served
    watcher: Client
    simulated: str
    scripted: str
    device: Double
    film: Footage


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    film = folder / FILM.file_name()
    await asyncio.to_thread(make_footage, FILM, film)
    served = Served(folder / "platform")
    served.environment["MINGJIAN_MEDIA_LINGER"] = "0"  # every view is a new call
    await served.start()
    try:
        async with served.http() as boss, served.http() as http, double_at(served.sip, SCRIPTED, PASSWORD) as device:
            administrator = await sign_in(boss, "admin", served.first_password, "Own-and-long-1")
            keys = [await provision(administrator, code) for code in (SIMULATED, SCRIPTED)]
            body = {"username": "bench", "role": "watcher", "scope": keys}
            made = (await administrator.http.post("/users", json=body)).json()
            watcher = await sign_in(http, "bench", made["password"], "Own-and-long-2")
            device.answers["DeviceInfo"] = device_info
            device.answers["Catalog"] = lambda query: [
                catalog(SCRIPTED, query.field("SN"), [item(SCRIPTED, "scripted")]).encode()
            ]
            upper = Upper(address=f"{LOCALHOST}:{served.sip[1]}", code=PLATFORM, domain=DOMAIN)
            spec = SimSpec(kind="ipc", code=SIMULATED, name="simulated", password=PASSWORD, media=(film,))
            async with await start_fleet([spec], upper) as fleet:
                await fleet.wait_registered()
                assert (await device.register())[1].status == 200
                channels = {key: await channel_of(watcher, key) for key in keys}
                yield Site(served, watcher, channels[keys[0]], channels[keys[1]], device, load_footage(film))
    finally:
        await served.stop()


async def provision(administrator: Client, code: str) -> str:
    answer = await administrator.http.post("/devices", json={"gb_id": code, "name": code[-3:], "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


async def channel_of(watcher: Client, device: str) -> str:
    items = (await watcher.http.get("/channels", params={"device": device})).json()["items"]
    return str(items[0]["key"])


def decode_first(url: str) -> VideoFrame:
    """The first picture behind `url`."""
    with av.open(url, options={"probesize": "65536", "analyzeduration": "0"}, timeout=(10, 10)) as container:
        container.streams.video[0].thread_type = "SLICE"
        return next(container.decode(video=0))


async def first_pictures(stage: Site, runs: int) -> list[float]:
    """Seconds from the request to the decoded picture."""
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        view = await stage.watcher.open(stage.simulated)
        await asyncio.to_thread(decode_first, view["urls"]["flv"])
        seconds.append(time.perf_counter() - begin)
        await stage.watcher.close(view["id"])
    return seconds


class Reader(threading.Thread):
    """A viewer that notes when each picture was there; a thread of its own, so that nothing else delays it."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(daemon=True)
        address, _, self._path = url.removeprefix("http://").partition("/")
        host, _, port = address.partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._count = count
        self.arrived: list[float] = []

    def run(self) -> None:
        self._socket.sendall(f"GET /{self._path} HTTP/1.1\r\nHost: {LOCALHOST}\r\n\r\n".encode())
        with self._socket, self._socket.makefile("rb") as stream:
            while stream.readline().strip():
                continue
            stream.read(13)
            while len(self.arrived) < self._count:
                head = stream.read(11)
                data = stream.read(int.from_bytes(head[1:4], "big") + 4)
                if head[0] == 9 and data[1] == 1:  # a picture, no codec header
                    self.arrived.append(time.perf_counter())


def send_paced(offer: Offer, film: Footage, count: int) -> list[float]:
    """Send `count` pictures, one every 40 ms; when the last packet of each was out."""
    sent = []
    wait = threading.Event()  # nobody sets it: a pause to a given moment
    with Sender(offer, film) as sender:
        begin = time.perf_counter()
        for number, unit in zip(range(count), LoopedFootage(film), strict=False):
            wait.wait(max(0.0, begin + number * FRAME - time.perf_counter()))
            sender.send([unit])
            sent.append(time.perf_counter())
    return sent


async def added_latencies(stage: Site, count: int) -> list[float]:
    """Seconds from the last packet sent to the tag received, picture by picture."""
    asking = asyncio.create_task(stage.watcher.open(stage.scripted, transport="udp"))
    offer = accept(stage.device, await stage.device.next("INVITE"))
    await stage.device.next("ACK")
    view = await asking
    reader = Reader(view["urls"]["flv"], count)
    reader.start()
    sent = await asyncio.to_thread(send_paced, offer, stage.film, count)
    await asyncio.to_thread(reader.join, 10.0)
    await stage.watcher.close(view["id"])
    if len(reader.arrived) != count:
        raise SystemExit(f"{count - len(reader.arrived)} of {count} pictures did not arrive")
    # the first two wait for the viewer to come and for the codec to be known
    return [there - out for out, there in zip(sent[2:], reader.arrived[2:], strict=True)]


def figures(name: str, values: list[float], anchor: float, *shares: float) -> Iterator[Figure]:
    unit, scale = ("ms", 1000.0) if anchor < 1 else ("s", 1.0)
    for share in shares:
        value = round(quantile(values, share) * scale, 3)
        yield Figure(name=f"{name}_p{share * 100:.0f}", value=value, unit=unit, anchor=anchor * scale)
    yield Figure(name=f"{name}_samples", value=len(values), unit="")


async def measure(*, quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder)) as stage:
            await first_pictures(stage, 2)  # what is loaded once
            first = await first_pictures(stage, 30 if quick else 60)
            added = await added_latencies(stage, 250 if quick else 1500)
    return [
        *figures("first_picture", first, FIRST_PICTURE_ANCHOR, 0.5, 0.95),
        *figures("added_latency", added, ADDED_ANCHOR, 0.5, 0.99),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 first pictures and 10 s of latency, not 60 and 60 s")
    found = asyncio.run(measure(quick=parser.parse_args().quick))
    for figure in found:
        print(figure.line(), flush=True)
    for figure in found:
        anchor = "" if figure.anchor is None else f"anchor {figure.anchor:g} {figure.unit}"
        print(f"{figure.name:24}{figure.value:10.3f} {figure.unit:4}{anchor}", file=sys.stderr)
    print(f"\n{METHOD}", file=sys.stderr)


if __name__ == "__main__":
    main()
