"""A device written out by hand, over real sockets: plain text, its own digest, nothing of the platform's SIP code."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from tests.e2e.rig import DOMAIN, LOCALHOST, PATIENCE, PLATFORM

_FIELD = re.compile(r"<(CmdType|SN|DeviceID)>([^<]*)</")
_numbers = itertools.count(1)

Answers = Callable[["Text"], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Text:
    """One SIP message: start line, header lines in order, body."""

    start: str
    lines: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def read(cls, data: bytes) -> Text:
        head, _, body = data.partition(b"\r\n\r\n")
        start, *rest = head.decode().split("\r\n")
        split = (line.partition(":") for line in rest)
        message = cls(start, tuple((name.strip().lower(), value.strip()) for name, _, value in split), body)
        assert message["content-length"] == str(len(body)), "the platform counts its bodies"
        return message

    def __getitem__(self, name: str) -> str:
        return next((value for key, value in self.lines if key == name.lower()), "")

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1]) if self.start.startswith("SIP/") else 0

    @property
    def method(self) -> str:
        return "" if self.start.startswith("SIP/") else self.start.split(" ")[0]

    @property
    def uri_user(self) -> str:
        return self.start.split(" ")[1].removeprefix("sip:").partition("@")[0]

    @property
    def branch(self) -> str:
        found = re.search(r"branch=([^;,\s]+)", self["via"])
        assert found is not None
        return found[1]

    def field(self, name: str) -> str:
        """CmdType, SN or DeviceID of a MANSCDP body."""
        return next((value for key, value in _FIELD.findall(self.body.decode("gb18030")) if key == name), "")


def digest(challenge: str, *, username: str, password: str, method: str, uri: str) -> str:
    """An Authorization header for a WWW-Authenticate header (RFC 2617 without qop)."""
    parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    first = hashlib.md5(f"{username}:{parts['realm']}:{password}".encode()).hexdigest()  # noqa: S324 - the protocol's
    second = hashlib.md5(f"{method}:{uri}".encode()).hexdigest()  # noqa: S324 - the protocol's
    response = hashlib.md5(f"{first}:{parts['nonce']}:{second}".encode()).hexdigest()  # noqa: S324 - the protocol's
    return (
        f'Digest username="{username}", realm="{parts["realm"]}", nonce="{parts["nonce"]}", uri="{uri}", '
        f'response="{response}", algorithm=MD5'
    )


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._take(data)

    def error_received(self, exc: Exception) -> None:
        return  # the platform is away; a test that waits for its answer says so


class Double:
    """A device at one address. MESSAGEs are answered 200 at once, then with what `answers[CmdType]` makes of them;
    everything else waits in `asked[method]`. Retransmissions get the stored answer and are counted."""

    def __init__(self, code: str, password: str, *, domain: str = DOMAIN) -> None:
        self.code = code
        self.password = password
        self.domain = domain
        self.kind: Literal["udp", "tcp"] = "udp"
        self.local = ("", 0)
        self.answers: dict[str, Answers] = {}
        self.asked: dict[str, asyncio.Queue[Text]] = defaultdict(asyncio.Queue)
        self.got: list[Text] = []
        self.repeated = 0
        self.bell = asyncio.Event()
        self.message_status = 200
        self._waiting: dict[tuple[str, str], asyncio.Queue[Text]] = {}
        self._replied: dict[tuple[str, str], bytes] = {}
        self._cseq = itertools.count(1)
        self._datagrams: asyncio.DatagramTransport | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    # sockets

    async def open(self, server: tuple[str, int], kind: Literal["udp", "tcp"] = "udp") -> None:
        self.kind = kind
        if kind == "udp":
            self._datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self._take), remote_addr=server, local_addr=(LOCALHOST, 0)
            )
            self.local = self._datagrams.get_extra_info("sockname")[:2]
        else:
            reader, self._writer = await asyncio.open_connection(*server)
            self.local = self._writer.get_extra_info("sockname")[:2]
            self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._datagrams is not None:
            self._datagrams.sendto(data)
        elif self._writer is not None:
            self._writer.write(data)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while head := await _head(reader):
            length = re.search(rb"(?im)^content-length\s*:\s*(\d+)", head)
            self._take(head + await reader.readexactly(int(length[1]) if length else 0))

    # out

    def request(
        self,
        method: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        branch: str | None = None,
        call: str | None = None,
        cseq: int | None = None,
        to: str | None = None,
        sender: str | None = None,
    ) -> tuple[bytes, tuple[str, str]]:
        """The bytes of a request out of dialog, and what its answers are found by."""
        branch = branch or f"z9hG4bK{secrets.token_hex(6)}"
        who = sender or self.code
        lines = [
            f"{method} sip:{to or PLATFORM}@{self.domain} SIP/2.0",
            f"Via: SIP/2.0/{self.kind.upper()} {self.local[0]}:{self.local[1]};rport;branch={branch}",
            f"From: <sip:{who}@{self.domain}>;tag={secrets.token_hex(4)}",
            f"To: <sip:{to or (who if method == 'REGISTER' else PLATFORM)}@{self.domain}>",
            f"Call-ID: {call or f'double-{next(_numbers)}-{secrets.token_hex(4)}'}",
            f"CSeq: {cseq or next(self._cseq)} {method}",
            "Max-Forwards: 70",
            *(f"{name}: {value}" for name, value in headers),
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body, (branch, method)

    async def ask(self, method: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", **more: str) -> Text:
        """Send a request and give its final answer."""
        data, name = self.request(method, headers, body, **more)  # type: ignore[arg-type]
        return await self.exchange(data, name)

    async def exchange(self, data: bytes, name: tuple[str, str]) -> Text:
        """Send and wait for the final answer of the transaction `name`."""
        waiting = self._waiting.setdefault(name, asyncio.Queue())
        self.raw(data)
        async with asyncio.timeout(PATIENCE):
            while (answer := await waiting.get()).status < 200:
                continue
        return answer

    async def register(
        self, *, expires: int = 3600, password: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> tuple[Text, Text]:
        """(challenge, answer to the credentials)."""
        call = f"register-{secrets.token_hex(4)}"
        common = [
            ("Contact", f"<sip:{self.code}@{self.local[0]}:{self.local[1]}>"),
            ("Expires", str(expires)),
            *headers,
        ]
        challenge = await self.ask("REGISTER", common, call=call)
        if challenge.status != 401:
            return challenge, challenge
        proof = digest(
            challenge["www-authenticate"],
            username=self.code,
            password=password or self.password,
            method="REGISTER",
            uri=f"sip:{PLATFORM}@{self.domain}",
        )
        return challenge, await self.ask("REGISTER", [*common, ("Authorization", proof)], call=call)

    async def status(self, branch: str) -> int:
        """The status of the answer that carries this branch, whatever else of a broken request it could not copy."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.bell.clear()
                for got in self.got:
                    if got.status and branch in got["via"]:
                        return got.status
                await self.bell.wait()

    async def say(self, body: bytes | str, **more: str) -> Text:
        """Send a MESSAGE and give its answer; text goes out as GB2312."""
        data = body if isinstance(body, bytes) else body.encode("gb18030")
        return await self.ask("MESSAGE", [("Content-Type", "Application/MANSCDP+xml")], data, **more)

    def reply(
        self, request: Text, status: int, reason: str = "OK", headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        """Answer a request of the platform; its retransmissions get the same."""
        copied = [f"{name.title()}: {value}" for name, value in request.lines if name in ("via", "from", "call-id")]
        to = request["to"]
        if status > 100 and ";tag=" not in to:
            to += f";tag=double{request.branch[-6:]}"
        lines = [f"SIP/2.0 {status} {reason}", *copied, f"To: {to}", f"CSeq: {request['cseq']}"]
        lines += [f"{name}: {value}" for name, value in headers]
        data = ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode() + body
        self._replied[request.branch, request.method] = data
        self.raw(data)

    # in

    async def next(self, method: str) -> Text:
        """The next request of the platform with that method."""
        async with asyncio.timeout(PATIENCE):
            return await self.asked[method].get()

    def _take(self, data: bytes) -> None:
        message = Text.read(data)
        self.got.append(message)
        self.bell.set()
        if message.status:
            name = (message.branch, message["cseq"].split(" ")[-1])
            self._waiting.setdefault(name, asyncio.Queue()).put_nowait(message)
            return
        stored = self._replied.get((message.branch, message.method))
        if stored is not None and message.method != "ACK":
            self.repeated += 1
            self.raw(stored)
            return
        if message.method == "MESSAGE":
            self.reply(message, self.message_status)
            for body in self.answers.get(message.field("CmdType"), _nothing)(message):
                self.raw(self.request("MESSAGE", [("Content-Type", "Application/MANSCDP+xml")], body)[0])
        self.asked[message.method].put_nowait(message)


def _nothing(_query: Text) -> Iterable[bytes]:
    return ()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def double_at(
    server: tuple[str, int], code: str, password: str, *, kind: Literal["udp", "tcp"] = "udp"
) -> AsyncIterator[Double]:
    """A device with open sockets."""
    made = Double(code, password)
    await made.open(server, kind)
    try:
        yield made
    finally:
        await made.close()


# bodies


def xml(root: str, cmd: str, sn: str | int, device: str, inner: str = "", *, encoding: str = "GB2312") -> str:
    """A MANSCDP document."""
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\r\n<{root}>\r\n<CmdType>{cmd}</CmdType>\r\n<SN>{sn}</SN>\r\n'
        f"<DeviceID>{device}</DeviceID>\r\n{inner}</{root}>\r\n"
    )


def keepalive(device: str, sn: int = 1) -> str:
    return xml("Notify", "Keepalive", sn, device, "<Status>OK</Status>\r\n")


def item(code: str, name: str, **fields: str) -> str:
    """One catalogue item (A.2.1.9)."""
    values = {"Parental": "0", "ParentID": "", "Status": "ON", "Secrecy": "0"} | fields
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in values.items() if value)
    return f"<Item><DeviceID>{code}</DeviceID><Name>{name}</Name>{inner}</Item>\r\n"


def catalog(device: str, sn: str, items: Iterable[str], *, total: int | None = None) -> str:
    """One part of a catalogue answer."""
    listed = list(items)
    inner = f"<SumNum>{len(listed) if total is None else total}</SumNum>\r\n"
    if listed:
        inner += f'<DeviceList Num="{len(listed)}">\r\n{"".join(listed)}</DeviceList>\r\n'
    return xml("Response", "Catalog", sn, device, inner)


def device_info(query: Text) -> list[bytes]:
    """A DeviceInfo answer."""
    inner = "<Result>OK</Result><Manufacturer>Double</Manufacturer><Model>D-1</Model><Firmware>7</Firmware>"
    return [xml("Response", "DeviceInfo", query.field("SN"), query.field("DeviceID"), inner).encode("gb18030")]
