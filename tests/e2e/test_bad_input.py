"""Over the wire: everything broken gets the right status and one log line, stores nothing, and hurts nobody else."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx
import pytest

from catalog.model import ChannelFilter
from ops.clock import system_clock
from sipserver.protocol.ids import GbId
from tests.e2e.double import Double, catalog, device_info, double_at, item, keepalive, xml
from tests.e2e.rig import LOCALHOST, PATIENCE, PLATFORM, Record, Rig, configuration, rig_of

KNOWN, STRANGER, PASSWORD = "34020000001320000931", "34020000001320000932", "a patient Camera 3"
PROMPT = 1.0  # seconds in which the platform must go on answering


class Skipping:
    """The system's clock, moved on by hand between attacks, because faults are summed up once a second."""

    def __init__(self) -> None:
        self._base = system_clock()
        self._skipped = 0.0

    def __call__(self) -> float:
        return self._base() + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += seconds


@dataclass(slots=True)
class Stage:
    """The platform, a registered device, a device nobody knows."""

    rig: Rig
    clock: Skipping
    known: Double
    stranger: Double
    before: tuple[int, ...] = ()
    mark: int = field(default=0)

    async def stored(self) -> tuple[int, ...]:
        """How much there is of everything that is kept."""
        platform = self.rig.platform
        channels = await platform.store.channels(ChannelFilter(playable=None), limit=500)
        devices = await platform.store.devices(limit=500)
        head = await platform.ledger.head()
        return (
            len(devices.items),
            len(channels.items),
            head.size,
            len(platform.signalling.bindings),
            platform.play.load()["dialogs"],
            platform.media.stats().sessions,
        )

    def faults(self) -> list[Record]:
        return self.rig.journal.faults(since=self.mark)


@pytest.fixture(scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    clock = Skipping()
    config = configuration(tmp_path_factory.mktemp("platform"))
    async with rig_of(config, clock=clock) as rig:
        key = await rig.admit(KNOWN, PASSWORD)
        async with double_at(rig.sip, KNOWN, PASSWORD) as known, double_at(rig.sip, STRANGER, "guess") as stranger:
            known.answers["DeviceInfo"] = device_info
            known.answers["Catalog"] = lambda query: [catalog(KNOWN, query.field("SN"), [item(KNOWN, "门")]).encode()]
            assert (await known.register())[1].status == 200
            await rig.synced(key, channels=1)
            yield Stage(rig, clock, known, stranger)


@pytest.fixture
async def stage(standing: Stage) -> AsyncIterator[Stage]:
    """Each attack begins a second after the one before; afterwards nothing is stored and everything still answers."""
    standing.clock.skip(5)
    standing.before, standing.mark = await standing.stored(), len(standing.rig.journal.records)
    yield standing
    assert await standing.stored() == standing.before
    async with asyncio.timeout(PROMPT):
        assert (await standing.stranger.ask("OPTIONS")).status == 200
        assert (await standing.known.register())[1].status == 200


def message(device: Double, method: str = "MESSAGE") -> str:
    """A good keepalive as text, for spoiling."""
    data, _ = device.request(method, [("Content-Type", "Application/MANSCDP+xml")], keepalive(device.code).encode())
    return data.decode()


def without(name: str) -> Callable[[str], str]:
    return lambda text: "\r\n".join(line for line in text.split("\r\n") if not line.startswith(f"{name}:"))


def swap(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


MALFORMED: dict[str, tuple[int, Callable[[str], str]]] = {
    "no CSeq": (400, without("CSeq")),
    "no From": (400, without("From")),
    "no Call-ID": (400, without("Call-ID")),
    "CSeq of another method": (400, swap(" MESSAGE\r\nMax", " REGISTER\r\nMax")),
    "CSeq no number": (400, swap("CSeq: ", "CSeq: x")),
    "SIP/3.0": (505, swap("SIP/2.0\r\nVia", "SIP/3.0\r\nVia")),
    "Content-Length beyond the datagram": (400, swap("Content-Length: ", "Content-Length: 9")),
    "Content-Length negative": (400, swap("Content-Length: ", "Content-Length: -")),
    "From without an address": (400, swap("From: <sip:", "From: <:")),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed_requests(stage: Stage, case: str) -> None:
    status, spoil = MALFORMED[case]
    text = message(stage.known)
    branch = text.split("branch=")[1].split("\r\n")[0]
    data = spoil(text).encode()
    assert data != text.encode()
    stage.known.raw(data)
    async with asyncio.timeout(PROMPT):
        assert await stage.known.status(branch) == status
    (fault,) = stage.faults()
    assert fault["event"] == "sip_faults"


async def test_unknown_method_is_405_with_allow(stage: Stage) -> None:
    answer = await stage.known.ask("PUBLISH")
    assert answer.status == 405
    assert "MESSAGE" in answer["allow"]


@pytest.mark.parametrize("size", [1, 4, 37, 1400, 60_000])
async def test_garbage_on_the_signalling_port(stage: Stage, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(20):
            sender.sendto(secrets.token_bytes(size), stage.rig.sip)
    async with asyncio.timeout(PROMPT):
        assert (await stage.stranger.ask("OPTIONS")).status == 200  # it has read them all
    assert len(stage.faults()) <= 1


async def test_garbage_on_a_signalling_connection_closes_it(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, stage.rig.platform.sip_tcp_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"A" * 100_000)
    try:
        async with asyncio.timeout(PROMPT):
            await reader.read()
    except ConnectionResetError:
        pass
    writer.close()
    assert len(stage.faults()) <= 1


async def test_garbage_on_the_media_ports(stage: Stage) -> None:
    udp, tcp, http = stage.rig.platform.media.ports
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in (0, 1, 11, 12, 13, 1400, 60_000):
            sender.sendto(secrets.token_bytes(size), (LOCALHOST, udp))
    for port, words in ((tcp, b"\xff\xff" + b"\x00" * 70_000), (tcp, b"$\x00\xff"), (http, b"\x00" * 10_000)):
        reader, writer = await asyncio.open_connection(LOCALHOST, port)
        writer.write(words)
        writer.write_eof()
        try:
            async with asyncio.timeout(PATIENCE):
                await reader.read()
        except ConnectionResetError:
            pass
        writer.close()
    assert stage.faults() == []
    assert stage.rig.platform.media.stats().sessions == 0


BROKEN = {
    "cut off": keepalive(KNOWN).encode()[:-20],
    "no document": b"not a document",
    "empty": b"",
    "external entity": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b"<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>&x;</DeviceID></Notify>",
    "a thousand laughs": b'<!DOCTYPE l [<!ENTITY a "ha">'
    + b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><Notify>&b;</Notify>',
    "deep": b"<Notify>" + b"<a>" * 2000 + b"</a>" * 2000 + b"</Notify>",
}


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_documents(stage: Stage, case: str) -> None:
    answer = await stage.known.say(BROKEN[case])
    assert (answer.status, answer.body) == (400, b"")
    (fault,) = stage.faults()
    assert (fault["event"], fault["code"]) == ("message_refused", 400)


async def test_wrong_password_and_unknown_device_look_the_same(stage: Stage) -> None:
    _, wrong = await stage.known.register(password="not this one")
    (first,) = stage.faults()
    _, unknown = await stage.stranger.register()
    first, second = stage.faults()
    assert (wrong.status, wrong.start) == (403, unknown.start)
    assert [name for name, _ in wrong.lines] == [name for name, _ in unknown.lines]
    assert (first["event"], first["reason"]) == ("register_refused", "credentials_wrong")
    assert (second["event"], second["reason"]) == ("register_refused", "not_admitted")


async def test_a_stranger_is_not_listened_to(stage: Stage) -> None:
    answer = await stage.stranger.say(keepalive(STRANGER))
    assert (answer.status, answer.body) == (403, b"")
    (fault,) = stage.faults()
    assert (fault["event"], fault["reason"]) == ("message_refused", "sender_not_registered")


async def test_nobody_speaks_for_another(stage: Stage) -> None:
    """A stranger on the same host borrows the code of a device: only the flow of its binding may move anything."""
    lie = xml("Notify", "Catalog", 7, KNOWN, f"<DeviceList Num='1'>{item(STRANGER, 'x', Event='ADD')}</DeviceList>")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.connect(stage.rig.sip)
        other.setblocking(False)
        data, _ = stage.known.request("MESSAGE", [("Content-Type", "Application/MANSCDP+xml")], lie.encode("gb18030"))
        other.send(data)
        async with asyncio.timeout(PROMPT):
            answer = await asyncio.get_running_loop().sock_recv(other, 65_536)
    assert answer.startswith(b"SIP/2.0 403")
    (fault,) = stage.faults()
    assert (fault["event"], fault["reason"]) == ("message_refused", "source_not_bound")


LIES = {
    "nobody asked": lambda: catalog(KNOWN, "99999", [item(STRANGER, "假")]),
    "for somebody else": lambda: catalog(STRANGER, "99999", [item(STRANGER, "假")]),
    "a million announced": lambda: catalog(KNOWN, "99998", [item(STRANGER, "假")], total=1_000_000),
    "fewer than sent": lambda: catalog(
        KNOWN, "99997", [item(f"3402000000132{n:07d}", "假") for n in range(50)], total=1
    ),
    "negative": lambda: catalog(KNOWN, "-1", [item(STRANGER, "假")], total=-5),
    "rings": lambda: catalog(
        KNOWN, "99996", [item(STRANGER, "假", ParentID=STRANGER), item(KNOWN, "x", ParentID=STRANGER)]
    ),
}


@pytest.mark.parametrize("case", LIES)
async def test_catalog_of_lies_nobody_asked_for(stage: Stage, case: str) -> None:
    answer = await stage.known.say(LIES[case]())
    assert answer.status in (200, 400)
    assert len(stage.faults()) <= 1


async def test_catalog_of_lies_in_answer_to_a_question_hides_nothing_and_deletes_nothing(stage: Stage) -> None:
    """Announces a thousand items, sends nothing but rings and itself: what was known stays."""
    honest = stage.known.answers["Catalog"]
    stage.known.answers["Catalog"] = lambda query: [
        catalog(KNOWN, query.field("SN"), [item(KNOWN, "门", ParentID=f"{KNOWN}/{KNOWN}")], total=1000).encode(
            "gb18030"
        )
    ]
    device = await stage.rig.platform.store.device_by_gb(GbId(KNOWN))
    assert device is not None
    asking = asyncio.create_task(stage.rig.platform.signalling.devices.sync_catalog(device.key))
    await stage.known.next("MESSAGE")

    def waiting() -> bool:
        stage.clock.skip(10)  # it will not come
        return asking.done()

    await stage.rig.until(waiting, "the query ends by its own clock")
    result = asking.result()
    assert (result.complete, result.received, result.change.removed) == (False, 1, 0)
    stage.known.answers["Catalog"] = honest


async def test_rest_interface(stage: Stage) -> None:
    async with httpx.AsyncClient(base_url=stage.rig.web) as http:
        cases = [
            (await http.post("/api/v1/login", content=b"{not json"), 422),
            (await http.post("/api/v1/login", json={"username": "x" * 1000, "password": "y"}), 422),
            (await http.post("/api/v1/login", content=b"x" * 5_000_000), 413),
            (await http.get("/api/v1/nothing"), 404),
            (await http.get("/api/v1/me", headers={"Authorization": "Bearer " + "x" * 40}), 401),
            (await http.get("/api/v1/streams"), 401),
        ]
    for answer, status in cases:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert {"type", "title", "status", "code", "detail"} <= set(answer.json())
    assert PLATFORM not in "".join(answer.text for answer, _ in cases)
