"""The load generator, a process of its own: many devices on raw UDP sockets, open loop, with RFC 3261 retransmission.

Reads one JSON job on standard input and prints one JSON result. Jobs: "register" and "keepalive" (devices, rate a
second, seconds) and "catalog" (one lower platform answers a catalogue query in parts, others send keepalives).
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_NONCE = re.compile(rb'nonce="([0-9a-f]+)"')
_CALL = re.compile(rb"\r\nCall-ID: ([0-9]+)-([0-9]+)\r\n")
_SN = re.compile(rb"<SN>([0-9]+)</SN>")
T1, T2, TIMER_F = 0.5, 4.0, 32.0
SOURCES = 64
PASSWORD = "Messung-2026-geraet"


def code(number: int) -> str:
    return f"340200000013{2:01d}{number:07d}"


@dataclass(slots=True)
class Exchange:
    device: int
    begun: float
    data: bytes
    interval: float = T1
    authorized: bool = False


class Load:
    """All exchanges under way; `finish(exchange, status, data)` decides what a final answer means."""

    def __init__(self, server: tuple[str, int], domain: str, platform: str, job_port: int) -> None:
        self.server, self.domain, self.platform = server, domain, platform
        self.poller = select.epoll()
        self.sockets: list[socket.socket] = []
        self.by_number: dict[int, int] = {}
        for index in range(SOURCES):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
            one.bind((f"127.0.1.{index + 1}", job_port))
            one.connect(server)
            one.setblocking(False)
            self.by_number[one.fileno()] = index
            self.poller.register(one.fileno(), select.EPOLLIN)
            self.sockets.append(one)
        self.open: dict[int, Exchange] = {}
        self.timers: list[tuple[float, int]] = []
        self.serial = 0
        self.delays: list[float] = []
        self.results: Counter[str] = Counter()
        self.on_request: Callable[[int, bytes], None] = lambda source, data: None

    def head(self, method: str, device: int, serial: int, number: int) -> str:
        host, port = self.sockets[device % SOURCES].getsockname()
        who = code(device)
        return (
            f"{method} sip:{self.platform}@{self.domain} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{serial:x}x{number}\r\n"
            f"From: <sip:{who}@{self.domain}>;tag={serial:x}\r\nTo: <sip:{who}@{self.domain}>\r\n"
            f"Call-ID: {serial}-{number}\r\nCSeq: {number} {method}\r\nMax-Forwards: 70\r\n"
            f"User-Agent: IP Camera\r\nContact: <sip:{who}@{host}:{port}>\r\n"
        )

    def begin(self, exchange: Exchange, make: Callable[[int], bytes]) -> None:
        self.serial += 1
        exchange.data = make(self.serial)
        self.open[self.serial] = exchange
        self.send(exchange.device, exchange.data)
        heapq.heappush(self.timers, (time.perf_counter() + T1, self.serial))

    def send(self, device: int, data: bytes) -> None:
        try:
            self.sockets[device % SOURCES].send(data)
        except (BlockingIOError, ConnectionRefusedError):
            self.results["not_sent"] += 1

    def register(self, device: int) -> None:
        def first(serial: int) -> bytes:
            return f"{self.head('REGISTER', device, serial, 1)}Expires: 3600\r\nContent-Length: 0\r\n\r\n".encode()

        self.begin(Exchange(device, time.perf_counter(), b""), first)

    def authorize(self, serial: int, exchange: Exchange, nonce: str) -> None:
        who, uri = code(exchange.device), f"sip:{self.platform}@{self.domain}"
        first = hashlib.md5(f"{who}:{self.domain}:{PASSWORD}".encode(), usedforsecurity=False).hexdigest()
        second = hashlib.md5(f"REGISTER:{uri}".encode(), usedforsecurity=False).hexdigest()
        answer = hashlib.md5(f"{first}:{nonce}:{second}".encode(), usedforsecurity=False).hexdigest()
        exchange.authorized = True
        exchange.interval = T1
        exchange.data = (
            f"{self.head('REGISTER', exchange.device, serial, 2)}"
            f'Authorization: Digest username="{who}", realm="{self.domain}", nonce="{nonce}", uri="{uri}", '
            f'response="{answer}", algorithm=MD5\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n'
        ).encode()
        self.send(exchange.device, exchange.data)
        heapq.heappush(self.timers, (time.perf_counter() + T1, serial))

    def message(self, device: int, body: bytes, begun: float | None = None) -> None:
        def make(serial: int) -> bytes:
            head = self.head("MESSAGE", device, serial, 1)
            return f"{head}Content-Type: Application/MANSCDP+xml\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

        self.begin(Exchange(device, time.perf_counter() if begun is None else begun, b""), make)

    def keepalive(self, device: int) -> None:
        self.message(
            device,
            b'<?xml version="1.0" encoding="GB2312"?>\r\n<Notify>\r\n<CmdType>Keepalive</CmdType>\r\n<SN>7</SN>\r\n'
            b"<DeviceID>%s</DeviceID>\r\n<Status>OK</Status>\r\n</Notify>\r\n" % code(device).encode(),
        )

    def work(self, until: float) -> None:
        """Receive and retransmit for a moment."""
        wait = max(0.0, min(until - time.perf_counter(), 0.005))
        for number, _ in self.poller.poll(wait):
            source = self.by_number[number]
            try:
                for _ in range(64):
                    self.received(source, self.sockets[source].recv(65_535))
            except (BlockingIOError, ConnectionRefusedError):
                pass
        now = time.perf_counter()
        while self.timers and self.timers[0][0] <= now:
            due, serial = heapq.heappop(self.timers)
            exchange = self.open.get(serial)
            if exchange is None:
                continue
            if now - exchange.begun > TIMER_F:
                del self.open[serial]
                self.results["timed_out"] += 1
                continue
            if due < now + 0.001:
                self.results["retransmissions"] += 1
                self.send(exchange.device, exchange.data)
                exchange.interval = min(2 * exchange.interval, T2)
                heapq.heappush(self.timers, (now + exchange.interval, serial))

    def received(self, source: int, data: bytes) -> None:
        if not data.startswith(b"SIP/2.0 "):
            self.on_request(source, data)
            return
        status, call = int(data[8:11]), _CALL.search(data)
        if call is None or status < 200:
            return
        serial, number = int(call[1]), int(call[2])
        exchange = self.open.get(serial)
        if exchange is None or (exchange.authorized and number == 1):
            return
        nonce = _NONCE.search(data)
        if status == 401 and nonce is not None and not exchange.authorized:
            self.authorize(serial, exchange, nonce[1].decode())
            return
        del self.open[serial]
        self.results["ok" if status == 200 else f"status_{status}"] += 1
        self.delays.append(time.perf_counter() - exchange.begun)

    def run(self, start: Callable[[int], None], devices: range, rate: float, seconds: float) -> None:
        begun = time.perf_counter()
        sent = 0
        while (now := time.perf_counter()) < begun + seconds:
            due = int((now - begun) * rate) - sent
            for _ in range(min(due, 200)):
                start(devices[sent % len(devices)])
                sent += 1
            self.work(now + 0.002)
        self.results["offered"] += sent

    def drain(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while self.open and time.perf_counter() < end:
            self.work(end)

    def summary(self) -> dict[str, Any]:
        delays = sorted(self.delays) or [0.0]
        return {
            **self.results,
            "unfinished": len(self.open),
            "p50_ms": delays[len(delays) // 2] * 1000,
            "p99_ms": delays[int(len(delays) * 0.99)] * 1000,
            "max_ms": delays[-1] * 1000,
        }


ITEM = (
    "<Item>\r\n<DeviceID>{id}</DeviceID>\r\n<Name>园区通道摄像机{n}</Name>\r\n<Manufacturer>MJ</Manufacturer>\r\n"
    "<Model>IPC-2</Model>\r\n<CivilCode>340201</CivilCode>\r\n<Address>东大街{n}号</Address>\r\n<Parental>0</Parental>"
    "\r\n<ParentID>{parent}</ParentID>\r\n<SafetyWay>0</SafetyWay>\r\n<RegisterWay>1</RegisterWay>\r\n"
    "<Secrecy>0</Secrecy>\r\n<IPAddress>10.1.2.3</IPAddress>\r\n<Port>5060</Port>\r\n<Status>ON</Status>\r\n"
    "<Longitude>117.{n}</Longitude>\r\n<Latitude>31.8</Latitude>\r\n<Info><PTZType>1</PTZType></Info>\r\n</Item>\r\n"
)


def part(sn: str, device: int, first: int, count: int, total: int) -> bytes:
    items = "".join(
        ITEM.format(id=f"3402010000131{n:07d}", n=n, parent=code(device)) for n in range(first, first + count)
    )
    return (
        f'<?xml version="1.0" encoding="GB2312"?>\r\n<Response>\r\n<CmdType>Catalog</CmdType>\r\n<SN>{sn}</SN>\r\n'
        f'<DeviceID>{code(device)}</DeviceID>\r\n<SumNum>{total}</SumNum>\r\n<DeviceList Num="{count}">\r\n'
        f"{items}</DeviceList>\r\n</Response>\r\n"
    ).encode("gb18030")


def catalog(load: Load, job: dict[str, Any]) -> None:
    """Device 0 answers the query in parts, at most `window` unanswered; the others keep alive at their rate."""
    device, total, per = 0, job["channels"], 4
    wanted: list[str] = []

    def on_request(source: int, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        lines = [
            line for line in head.split(b"\r\n")[1:] if line.split(b":")[0] in (b"Via", b"From", b"Call-ID", b"CSeq")
        ]
        to = next(line for line in head.split(b"\r\n") if line.startswith(b"To:")) + b";tag=x"
        answer = b"\r\n".join((b"SIP/2.0 200 OK", *lines, to, b"Content-Length: 0", b"", b""))
        load.sockets[source].send(answer)
        sn = _SN.search(body)
        if sn is not None and b"Catalog" in body and sn[1].decode() not in wanted:
            wanted.append(sn[1].decode())

    load.on_request = on_request
    print(json.dumps({"ready": True}), flush=True)
    begun = time.perf_counter()
    sent = kept = 0
    others = range(1, job["devices"])
    keepalives: set[int] = set()
    delays: list[float] = []
    own: set[int] = set()
    while time.perf_counter() < begun + job["seconds"] and (sent < total or load.open):
        now = time.perf_counter()
        own &= load.open.keys()
        while wanted and sent < total and len(own) < job["window"]:
            load.message(device, part(wanted[0], device, sent, min(per, total - sent), total))
            own.add(load.serial)
            sent += per
        if sent < total:
            for _ in range(int((now - begun) * job["rate"]) - kept):
                load.keepalive(others[kept % len(others)])
                keepalives.add(load.serial)
                kept += 1
        before = len(load.delays)
        done = keepalives - load.open.keys()
        load.work(now + 0.001)
        delays += load.delays[before:] if done is not None else []
    load.results["keepalives"] += kept
    load.results["parts"] += (sent + per - 1) // per


def main() -> None:
    job = json.loads(sys.stdin.readline())
    load = Load(tuple(job["server"]), job["domain"], job["platform"], job["port"])
    if job["kind"] == "catalog":
        catalog(load, job)
    else:
        start = load.register if job["kind"] == "register" else load.keepalive
        if warm := job.get("warm", 0):  # connections to the database, caches: measured is what lasts
            load.run(start, range(job["devices"]), job["rate"] / 4, warm)
            load.drain(5)
            load.results.clear()
            load.delays.clear()
        load.run(start, range(job["devices"]), job["rate"], job["seconds"])
        load.drain(job.get("drain", TIMER_F))
    print(json.dumps(load.summary()), flush=True)


if __name__ == "__main__":
    main()
