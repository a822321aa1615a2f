"""The ledger: durable, gapless, provable, closed when it cannot write, and whole after any crash."""

import asyncio
import hashlib
import json
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from ops.embedded import EmbeddedPostgres, running_in
from ops.migrate import prepare_embedded
from sharing import audit
from sharing.ledger import Entry, EntryConflictError, EntryKind, Ledger, LedgerUnavailableError
from sharing.record import RecordError
from sipserver.protocol.ids import ChannelKey, LeaseKey, UserKey
from tests.fixtures_db import Database, FakeClock

USER, CHANNEL = UserKey("usr_" + "a" * 20), ChannelKey("chn_" + "b" * 20)


@pytest.fixture
async def ledger(pool: asyncpg.Pool, clock: FakeClock) -> AsyncIterator[Ledger]:
    made = Ledger(pool, clock=clock)
    await made.start()
    yield made
    await made.stop()


_leases = iter(range(10**6))


def fresh_lease() -> LeaseKey:
    return LeaseKey(f"lea_{next(_leases):020d}")


async def test_a_row_says_what_was_given(ledger: Ledger, clock: FakeClock) -> None:
    facts = {"purpose": "值班", "n": 1, "deep": {"b": [1, 2.5, None, True], "a": "x"}}
    before = await ledger.head()
    entry = await ledger.append(EntryKind.ADMIN, facts, user=USER, channel=CHANNEL)
    assert entry.seq == before.size
    assert (entry.kind, entry.at, entry.user, entry.channel) == (EntryKind.ADMIN, clock.now, USER, CHANNEL)
    stored = await ledger.entry(entry.seq)
    assert stored == entry
    assert (await ledger.head()).size == before.size + 1
    assert await ledger.entry(entry.seq + 1) is None
    assert await ledger.entry(-1) is None


async def test_the_leaf_is_a_salted_hash_of_the_record(ledger: Ledger) -> None:
    first = await ledger.append(EntryKind.SYSTEM, {"same": True})
    second = await ledger.append(EntryKind.SYSTEM, {"same": True})
    assert first.leaf != second.leaf  # the salt: equal rows cannot be found by hashing guesses
    proof = await ledger.inclusion(first.seq)
    assert proof is not None
    commitment = hashlib.sha256(proof.salt + proof.record.encode()).digest()
    assert hashlib.sha256(b"\x00" + commitment).digest() == first.leaf == proof.leaf
    assert json.loads(proof.record)["facts"] == {"same": True}


async def test_a_thousand_at_once_are_gapless(ledger: Ledger) -> None:
    before = await ledger.head()
    entries = await asyncio.gather(*(ledger.append(EntryKind.SYSTEM, {"n": n}) for n in range(1000)))
    assert sorted(entry.seq for entry in entries) == list(range(before.size, before.size + 1000))
    assert [entry.facts["n"] for entry in sorted(entries, key=lambda one: one.seq)] == list(range(1000))
    result = await ledger.verify(remembered=before)
    assert result.ok, result
    assert result.head.root == (await ledger.head()).root


async def test_every_proof_verifies(ledger: Ledger) -> None:
    for number in range(20):
        await ledger.append(EntryKind.SYSTEM, {"n": number})
    head = await ledger.head()
    for seq in range(max(0, head.size - 25), head.size):
        proof = await ledger.inclusion(seq)
        assert proof is not None
        audit.verify_inclusion(leaf=proof.leaf, index=seq, size=head.size, path=proof.path, root=head.root)
    for first in range(max(0, head.size - 25), head.size + 1):
        old = await ledger.head_at(first)
        assert old is not None
        audit.verify_consistency(
            first=first,
            second=head.size,
            first_root=old.root,
            second_root=head.root,
            proof=await ledger.consistency(first, head.size),
        )
    assert await ledger.inclusion(head.size) is None
    with pytest.raises(audit.ProofError):
        await ledger.consistency(0, head.size + 1)


async def test_an_old_proof_speaks_of_the_old_head(ledger: Ledger) -> None:
    entry = await ledger.append(EntryKind.SYSTEM, {})
    old = await ledger.head()
    await ledger.append(EntryKind.SYSTEM, {})
    proof = await ledger.inclusion(entry.seq, size=old.size)
    assert proof is not None
    assert proof.head.root == old.root
    audit.verify_inclusion(leaf=entry.leaf, index=entry.seq, size=old.size, path=proof.path, root=old.root)
    assert await ledger.inclusion(entry.seq, size=10**9) is None


async def test_a_lease_begins_once_and_ends_once(ledger: Ledger) -> None:
    lease = fresh_lease()
    await ledger.append(EntryKind.INTENT, {}, user=USER, channel=CHANNEL, lease=lease)
    with pytest.raises(EntryConflictError):
        await ledger.append(EntryKind.INTENT, {}, user=USER, channel=CHANNEL, lease=lease)
    assert [one.lease for one in await ledger.open_leases()] == [lease]
    ends = await asyncio.gather(
        *(ledger.append(EntryKind.END, {"n": n}, user=USER, channel=CHANNEL, lease=lease) for n in range(5)),
        ledger.append(EntryKind.END_BY_CRASH, {}, user=USER, channel=CHANNEL, lease=lease),
        ledger.append(EntryKind.SYSTEM, {"innocent": True}),
        return_exceptions=True,
    )
    assert sum(isinstance(one, EntryConflictError) for one in ends) == 5
    assert isinstance(ends[-1], Entry)  # a contradiction fails alone
    assert await ledger.open_leases() == []
    assert (await ledger.verify()).ok


async def test_pages_run_backwards_without_gap(ledger: Ledger) -> None:
    for number in range(7):
        await ledger.append(EntryKind.LOGOUT, {"n": number}, user=USER)
    seen, cursor = list[int](), None
    while True:
        page, cursor = await ledger.entries(cursor=cursor, limit=3)
        seen.extend(entry.seq for entry in page)
        if cursor is None:
            break
    assert seen == list(range((await ledger.head()).size - 1, -1, -1))
    logouts, _ = await ledger.entries(kind=EntryKind.LOGOUT, limit=500)
    assert [entry.facts["n"] for entry in logouts] == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "facts", [{"x": float("nan")}, {"x": b"octets"}, {"x": object()}, {1: "x"}, {"x": "y" * 70_000}]
)
async def test_what_cannot_be_written_twice_alike_is_refused(ledger: Ledger, facts: dict[str, object]) -> None:
    before = await ledger.head()
    with pytest.raises(RecordError):
        await ledger.append(EntryKind.SYSTEM, facts)
    assert await ledger.head() == before


async def test_texts_the_database_cannot_hold_become_visible(ledger: Ledger) -> None:
    entry = await ledger.append(EntryKind.SYSTEM, {"a\x00b": "c\x00d", "s": "\ud800"})
    stored = await ledger.entry(entry.seq)
    assert stored is not None
    assert dict(stored.facts) == {"a\\u0000b": "c\\u0000d", "s": "\\ud800"}
    assert (await ledger.verify()).ok


async def test_two_processes_write_one_sequence(pool: asyncpg.Pool, clock: FakeClock, ledger: Ledger) -> None:
    other = Ledger(pool, clock=clock)
    await other.start()
    try:
        before = await ledger.head()
        entries = await asyncio.gather(*((ledger, other)[n % 2].append(EntryKind.SYSTEM, {"n": n}) for n in range(200)))
        one_by_one = [await (ledger, other)[n % 2].append(EntryKind.SYSTEM, {"n": n}) for n in range(6)]
        seqs = sorted(entry.seq for entry in (*entries, *one_by_one))
        assert seqs == list(range(before.size, before.size + 206))
        assert (await other.verify(remembered=before)).ok
    finally:
        await other.stop()


async def test_a_ledger_that_does_not_run_refuses(pool: asyncpg.Pool, clock: FakeClock) -> None:
    ledger = Ledger(pool, clock=clock)
    with pytest.raises(LedgerUnavailableError):
        await ledger.append(EntryKind.SYSTEM, {})
    await ledger.start()
    await ledger.append(EntryKind.SYSTEM, {})
    await ledger.stop()
    with pytest.raises(LedgerUnavailableError):
        await ledger.append(EntryKind.SYSTEM, {})


async def test_stopping_writes_what_is_waiting(pool: asyncpg.Pool, clock: FakeClock) -> None:
    ledger = Ledger(pool, clock=clock)
    await ledger.start()
    waiting = [asyncio.ensure_future(ledger.append(EntryKind.SYSTEM, {"n": n})) for n in range(10)]
    await asyncio.sleep(0)
    await ledger.stop()
    entries = await asyncio.gather(*waiting)
    assert len({entry.seq for entry in entries}) == 10


async def test_too_many_waiting_rows_are_refused_at_once(pool: asyncpg.Pool, clock: FakeClock) -> None:
    ledger = Ledger(pool, clock=clock, max_pending=3)
    await ledger.start()
    results = await asyncio.gather(*(ledger.append(EntryKind.SYSTEM, {}) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(one, Entry) for one in results) == 3
    assert sum(isinstance(one, LedgerUnavailableError) for one in results) == 7
    await ledger.stop()


async def test_a_caller_who_leaves_leaves_the_row(ledger: Ledger) -> None:
    before = await ledger.head()
    leaving = asyncio.ensure_future(ledger.append(EntryKind.SYSTEM, {"left": True}))
    await asyncio.sleep(0)
    leaving.cancel()
    entry = await ledger.append(EntryKind.SYSTEM, {"after": True})
    assert entry.seq == before.size + 1


async def test_a_frozen_database_is_refused_and_comes_back(
    database: Database, clock: FakeClock, pool: asyncpg.Pool
) -> None:
    """Somebody holds the sequencer: the append gives up in time, nothing half-written remains."""
    ledger = Ledger(pool, clock=clock, commit_timeout=0.2)
    await ledger.start()
    holder = await asyncpg.connect(**database.superuser.arguments())
    try:
        before = await ledger.head()
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE ledger IN EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailableError):
            await ledger.append(EntryKind.SYSTEM, {"lost": True})
        await transaction.rollback()
        assert await ledger.head() == before
        assert (await ledger.append(EntryKind.SYSTEM, {"found": True})).seq == before.size
    finally:
        await holder.close()
        await ledger.stop()


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(20_000)
    os.close(descriptor)


async def write_until_it_fails(ledger: Ledger, writer: int, killer: "Killer") -> list[tuple[int, bytes]]:
    acknowledged: list[tuple[int, bytes]] = []
    while True:
        try:
            entry = await ledger.append(EntryKind.SYSTEM, {"writer": writer, "n": len(acknowledged)})
        except LedgerUnavailableError:
            return acknowledged
        acknowledged.append((entry.seq, entry.leaf))
        killer.count()


class Killer:
    """Kills every process of a server after a number of acknowledgements: always in the middle of appends."""

    def __init__(self, cluster: Path, after: int) -> None:
        self._cluster = cluster
        self._left = after
        self.killed: list[int] = []

    def count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.killed = running_in(self._cluster)
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)


async def test_kill_9_loses_no_acknowledged_row(tmp_path: Path, clock: FakeClock) -> None:
    """L2 in small: the server is killed, all its processes at once, while 40 writers append; five times over."""
    server = EmbeddedPostgres(tmp_path)
    acknowledged: dict[int, bytes] = {}
    for after in (1, 57, 300, 411, 1000):
        await server.start()
        address = await prepare_embedded(server)
        pool = await asyncpg.create_pool(**address.arguments(), min_size=1, max_size=4)
        ledger = Ledger(pool, clock=clock)
        await ledger.start()
        killer = Killer(tmp_path / "postgres" / "cluster", after)
        for rows in await asyncio.gather(*(write_until_it_fails(ledger, writer, killer) for writer in range(40))):
            acknowledged.update(rows)
        for pid in killer.killed:
            wait_for_end(pid)
        await ledger.stop()
        pool.terminate()
        await server.stop()
    assert len(acknowledged) >= 1 + 57 + 300 + 411 + 1000
    await server.start()
    try:
        address = await prepare_embedded(server)
        async with asyncpg.create_pool(**address.arguments(), min_size=1, max_size=4) as pool:
            rows = await pool.fetch("SELECT seq, leaf FROM ledger")
            stored = {row["seq"]: row["leaf"] for row in rows}
            assert {seq: stored.get(seq) for seq in acknowledged} == acknowledged
            result = await Ledger(pool, clock=clock).verify()
            assert result.ok, result
            assert result.head.size == len(stored)
    finally:
        await server.stop()
