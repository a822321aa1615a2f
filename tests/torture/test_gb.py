"""Our own torture cases for GB/T 28181 (S3): status, what is stored, and never a second log line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import asyncpg
import pytest
import structlog

from catalog.model import ListedItem
from catalog.secrets import SecretBox
from catalog.store import CatalogStore
from sipserver.protocol import sdp
from sipserver.protocol.errors import RemoteProtocolError
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import Keepalive
from tests.gb.harness import PASSWORD, RECORDER, FakeDevice, FakeStore, World, settle
from tests.torture.gb_cases import CASES, CHANNEL, INJECTIONS, ME, OTHER, Case, item, xml

LEVELS = ("warning", "error", "critical")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.stop()


def learned(store: FakeStore) -> tuple[str, ...]:
    """Everything the store was told besides that the device registered."""
    names = [f"{gb.value}={one.name}" for known in store.catalogs.values() for gb, one in known.items()]
    states = [f"{gb.value} {'on' if online else 'off'}" for gb, online in store.states.items()]
    infos = [f"info {device.info}" for device in store.devices.values() if device.info.manufacturer]
    return (*names, *states, *infos)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_message(world: World, case: Case) -> None:
    key, device = await world.registered(RECORDER, connection=7 if len(case.body) > 60_000 else None)
    with structlog.testing.capture_logs() as logs:
        answer = await device.exchange(case.body)
        await settle()
    assert answer.status == case.status
    assert answer.body == b""
    assert learned(world.store) == case.stored
    assert (world.bindings.get(key) is None) == case.offline
    lines = [entry for entry in logs if entry["log_level"] in LEVELS]
    assert len(lines) <= 1, lines
    assert ME not in str(logs), "address codes stay out of the log"
    assert all("\n" not in str(value) for entry in logs for value in entry.values()), "no second line"
    assert (await device.exchange(Keepalive(sn=1, device_id=RECORDER))).status == 200, "the device is still served"
    assert world.transport.counters["handler_failures"] == 0


def test_there_are_enough_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 120


# lies about the catalogue, as answers to a question


def answer_part(sn: int, items: str, sum_num: str) -> bytes:
    return xml(
        f"<Response><CmdType>Catalog</CmdType><SN>{sn}</SN><DeviceID>{ME}</DeviceID>{sum_num}"
        f'<DeviceList Num="1">{items}</DeviceList></Response>'
    )


def total(number: object) -> str:
    return f"<SumNum>{number}</SumNum>"


LIES: list[tuple[str, list[tuple[str, str]], bool, int]] = [
    ("truth", [(item() + item(OTHER), total(2))], True, 2),
    ("sum of each part", [(item(), total(1)), (item(OTHER), total(1))], False, 2),
    ("sum too large", [(item(), total(5))], False, 1),
    ("sum too small", [(item() + item(OTHER), total(1))], True, 2),
    ("sum zero with items", [(item(), total(0))], True, 1),
    ("sum missing", [(item(), "")], False, 1),
    ("sum negative", [(item(), total(-3))], False, 1),
    ("sum in words", [(item(), total("two"))], False, 1),
    ("sum of 2^64", [(item(), total(2**64))], False, 1),
    ("sum changes its mind", [(item(), total(3)), (item(OTHER), total(2))], True, 2),
    ("the same part twice", [(item(), total(2)), (item(), total(2))], False, 1),
    ("an item doubled in one part", [(item() + item() + item(OTHER), total(3))], True, 2),
    ("items without a code", [(item("") + item(), total(2))], True, 1),
    ("nothing at all", [("", total(0))], True, 0),
]


@pytest.mark.parametrize(("parts", "complete", "count"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
async def test_catalogue_of_lies(world: World, parts: list[tuple[str, str]], complete: bool, count: int) -> None:
    """What is known (three items) is removed only by an answer that can be the whole truth."""
    world.store.add(RECORDER, channel_count=3)
    key, device = await world.registered(RECORDER)
    asked: list[int] = []

    def script(message: object) -> Iterable[bytes]:
        sn = getattr(message, "sn", 0)
        asked.append(sn)
        return [answer_part(sn, items, sum_num) for items, sum_num in parts]

    device.script = script
    sync = world.loop.create_task(world.sessions.sync_catalog(key))
    await settle()
    for _ in range(8):
        await world.pass_time(6)
        device.say(Keepalive(sn=1, device_id=RECORDER))
    result = await sync
    assert (result.complete, result.received) == (complete, count)
    assert f"apply_catalog complete={complete}" in world.store.calls


# REGISTER: every header is written by a stranger


def header_cases() -> list[tuple[str, list[tuple[str, str]], int]]:
    texts = {name: text for name, text in INJECTIONS.items() if "\r" not in text and "\x00" not in text}
    cases = [(f"{name} in User-Agent", [("User-Agent", text)], 200) for name, text in texts.items()]
    cases += [(f"{name} in X-GB-Ver", [("X-GB-Ver", text)], 200) for name, text in texts.items()]
    cases += [(f"Date {text!r}", [("Date", text)], 200) for text in DATES]
    cases += [(f"Note {text!r}", [("Note", text)], 200) for text in NOTES]
    cases += [(f"X-GB-Ver {text!r}", [("X-GB-Ver", text)], 200) for text in ("", "3.0.0.0", "99", "-1", "x" * 9_000)]
    cases += [(f"Expires {text!r}", [("Expires", text)], status) for text, status in EXPIRES]
    return cases


DATES = (
    "",
    "now",
    "2026-02-30T25:61:61.000",
    "2026-11-21T12:00:00.000",
    "9999-12-31T23:59:59.999",
    "1e99",
    "٢٠٢٦-11-21",
)
NOTES = (
    "",
    "Digest",
    'Digest nonce="",algorithm=',
    'Digest nonce="x", algorithm=SM3',
    "Digest nonce=" + "a" * 5_000,
    'Digest nonce="unfinished',
    "Basic abc",
)
EXPIRES = (
    ("1", 423),
    ("-1", 400),
    ("", 400),
    ("abc", 400),
    ("0x10", 400),
    ("3600;x", 400),
    ("99999999999999999999", 200),
    ("1e3", 400),
    ("٣٦٠٠", 400),
    (" 3600 ", 200),
)


@pytest.mark.parametrize(("headers", "status"), [one[1:] for one in header_cases()], ids=[c[0] for c in header_cases()])
async def test_register_headers(world: World, headers: list[tuple[str, str]], status: int) -> None:
    world.store.add(RECORDER)
    device = world.device(RECORDER)
    with structlog.testing.capture_logs() as logs:
        final = await registered_with(device, headers)
    assert final == status
    assert len(world.store.bound) == (status == 200)
    assert len([entry for entry in logs if entry["log_level"] in LEVELS]) <= 2, "one a refused REGISTER"
    assert ME not in str(logs)
    assert world.transport.counters["handler_failures"] == 0


async def registered_with(device: FakeDevice, headers: list[tuple[str, str]]) -> int:
    """Status of the challenge if it is a refusal, else of the answer to the credentials."""
    has_expires = any(name == "Expires" for name, _ in headers)
    common = [("Contact", f"<sip:{ME}@10.0.0.9>"), *headers, *([] if has_expires else [("Expires", "3600")])]
    device.request("REGISTER", [*common, ("CSeq", "1 REGISTER")])
    challenge = await device.answer()
    if challenge.status != 401:
        return challenge.status
    authorization = device.authorization(challenge, password=PASSWORD)
    device.request("REGISTER", [*common, ("CSeq", "2 REGISTER"), ("Authorization", authorization)])
    return (await device.answer()).status


# y= and f= in answers of devices


SDP = "v=0\r\no={id} 0 0 IN IP4 192.0.2.7\r\ns=Play\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=video 6000 RTP/AVP 96\r\n{more}"


@pytest.mark.parametrize(
    ("line", "ssrc"),
    [
        ("y=0100000001\r\n", 100000001),
        ("y=100000001\r\n", 100000001),
        ("y=0\r\n", 0),
        ("y=4294967295\r\n", 4294967295),
        ("y=4294967296\r\n", None),
        ("y=00000000001\r\n", None),
        ("y=\r\n", None),
        ("y=-1\r\n", None),
        ("y=0x10\r\n", None),
        ("y=abc\r\n", None),
        ("y=0100000001 \r\n", 100000001),
        ("y=１２３\r\n", None),
        ("y=1' OR 1=1\r\n", None),
        ("Y=0100000001\r\n", 100000001),
        ("y=0100000001", 100000001),
        ("f=v/2/4/25/1/4096a/1/8/1\r\ny=7\r\n", 7),
        ("y=7\r\nf=\r\n", 7),
        ("y=7\r\nf=v/////a/////////////\r\n", 7),
        ("y=7\r\nf=" + "v/" * 20_000 + "\r\n", 7),
        ("y=7\r\nf=v/;DROP TABLE\r\n", 7),
        ("y=7\r\na=" + "x" * 30_000 + "\r\n", 7),
    ],
)
def test_y_and_f(line: str, ssrc: int | None) -> None:
    described = sdp.parse(SDP.format(id=ME, more=line).encode("gb18030"))
    assert (described.ssrc.value if described.ssrc else None) == ssrc
    assert len(described.media) == 1


@pytest.mark.parametrize("more", ["m=" + "x" * 70_000, "a=x\r\n" * 600], ids=["too long", "too many lines"])
def test_sdp_beyond_bounds(more: str) -> None:
    with pytest.raises(RemoteProtocolError):
        sdp.parse(SDP.format(id=ME, more=more).encode())


# SQL for real


async def test_what_looks_like_sql_is_stored_as_text(pool: asyncpg.Pool) -> None:
    """Every injection through the real store, and the control: put into SQL text, they do break it."""
    store = CatalogStore(pool, box=SecretBox(bytes(32)))
    device = await store.provision_device(RECORDER, name=INJECTIONS["sql"], password=INJECTIONS["quote"], now=1.0)
    items = [
        ListedItem(gb_id=GbId(f"3402000000131{number:07d}"), name=text, model=text, civil_code=text)
        for number, text in enumerate(INJECTIONS.values())
    ]
    change = await store.apply_catalog(device.key, items, complete=True, now=2.0)
    assert change.total == len(INJECTIONS)
    page = await store.channels(limit=500)
    found = {channel.gb_id.value: channel.name for channel in page.items}
    dropped = dict.fromkeys((*range(32), 127))
    assert found == {one.gb_id.value: one.name.translate(dropped).strip() for one in items}
    assert await store.credential(RECORDER) == INJECTIONS["quote"]
    with pytest.raises(asyncpg.PostgresError):
        await pool.execute(f"UPDATE devices SET name = '{INJECTIONS['quote']}'")  # noqa: S608 - the control
    assert CHANNEL
