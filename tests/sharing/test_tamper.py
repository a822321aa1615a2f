"""Somebody with all rights over the database changes the ledger: recomputation names the first position that is wrong.

Each case is done to one ledger, at several positions, by a superuser who has switched the triggers off; then undone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from ops.embedded import EmbeddedPostgres
from sharing import audit
from sharing.ledger import EntryKind, Ledger, TreeHead
from sharing.record import canonical, leaf, parse
from sharing.verify import Verification, verify_rows
from sipserver.protocol.ids import ChannelKey, LeaseKey, UserKey
from tests.fixtures_db import Database, FakeClock, create_database

SIZE = 41
POSITIONS = (0, 1, 7, 8, 20, 31, 39)
Change = Callable[[asyncpg.Connection, int], Awaitable[None]]


@pytest.fixture(scope="module")
async def written(postgres: EmbeddedPostgres) -> AsyncIterator[tuple[Database, TreeHead]]:
    """A database with 41 rows, and its head as an outsider remembers it."""
    admin = await asyncpg.connect(**postgres.address().arguments())
    database = await create_database(postgres, admin)
    async with asyncpg.create_pool(**database.app.arguments(), min_size=1, max_size=3) as pool:
        clock = FakeClock()
        ledger = Ledger(pool, clock=clock)
        await ledger.start()
        for number in range(SIZE):
            clock.advance(1)
            await ledger.append(
                EntryKind.INTENT,
                {"n": number, "who": f"person {number}"},
                user=UserKey(f"usr_{number}"),
                channel=ChannelKey(f"chn_{number}"),
                lease=LeaseKey(f"lea_{number}"),
            )
        head = await ledger.head()
        await ledger.stop()
    yield database, head
    await admin.execute(f"DROP DATABASE {database.name} WITH (FORCE)")
    await admin.close()


async def found(written: tuple[Database, TreeHead], change: Change, position: int, *, remember: bool) -> Verification:
    """Verify the ledger as it is after `change` at `position`; nothing of it stays."""
    database, head = written
    connection = await asyncpg.connect(**database.superuser.arguments())
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        for table in ("ledger", "ledger_records", "ledger_nodes"):
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        await change(connection, position)
        return await verify_rows(connection, remembered=head if remember else None)
    finally:
        await transaction.rollback()
        await connection.close()


async def nothing(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("SELECT 1")


async def edit_record(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute(
        "UPDATE ledger_records SET record = replace(record, 'person', 'nobody') WHERE seq = $1", position
    )


async def edit_salt(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute(
        "UPDATE ledger_records SET salt = set_byte(salt, 3, 255 - get_byte(salt, 3)) WHERE seq = $1", position
    )


async def edit_user(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("UPDATE ledger SET user_key = 'usr_x' WHERE seq = $1", position)


async def edit_time(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("UPDATE ledger SET at = at - 3600 WHERE seq = $1", position)


async def edit_kind(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("UPDATE ledger SET kind = 'refusal' WHERE seq = $1", position)


async def edit_lease(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("UPDATE ledger SET lease_key = NULL WHERE seq = $1", position)


async def flip_leaf(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute(
        "UPDATE ledger SET leaf = set_byte(leaf, 0, 255 - get_byte(leaf, 0)) WHERE seq = $1", position
    )


async def flip_root(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute(
        "UPDATE ledger SET root = set_byte(root, 31, 255 - get_byte(root, 31)) WHERE seq = $1", position
    )


async def delete_row(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("DELETE FROM ledger_records WHERE seq = $1", position)
    await connection.execute("DELETE FROM ledger WHERE seq = $1", position)


async def delete_and_close_the_gap(connection: asyncpg.Connection, position: int) -> None:
    await delete_row(connection, position)
    await connection.execute("ALTER TABLE ledger DROP CONSTRAINT ledger_seq_check")
    await connection.execute("UPDATE ledger_records SET seq = -seq WHERE seq > $1", position)
    await connection.execute("UPDATE ledger SET seq = -seq WHERE seq > $1", position)
    await connection.execute("UPDATE ledger SET seq = -seq - 1 WHERE seq < 0")
    await connection.execute("UPDATE ledger_records SET seq = -seq - 1 WHERE seq < 0")


async def delete_record(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("DELETE FROM ledger_records WHERE seq = $1", position)


async def swap_records(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute(
        "UPDATE ledger_records a SET salt = b.salt, record = b.record FROM ledger_records b "
        "WHERE (a.seq, b.seq) IN (($1::bigint, $1::bigint + 1), ($1::bigint + 1, $1::bigint))",
        position,
    )


async def swap_rows_whole(connection: asyncpg.Connection, position: int) -> None:
    """Everything but the roots changes places."""
    await swap_records(connection, position)
    await connection.execute("DROP INDEX ledger_one_intent")
    await connection.execute(
        "UPDATE ledger a SET leaf = b.leaf, at = b.at, user_key = b.user_key, channel_key = b.channel_key, "
        "lease_key = b.lease_key FROM ledger b "
        "WHERE (a.seq, b.seq) IN (($1::bigint, $1::bigint + 1), ($1::bigint + 1, $1::bigint))",
        position,
    )


async def flip_node(connection: asyncpg.Connection, position: int) -> None:
    """The inner node that an odd row completes (for an even one: the next)."""
    await connection.execute(
        "UPDATE ledger_nodes SET hash = set_byte(hash, 9, 255 - get_byte(hash, 9)) WHERE level = 1 AND position = $1",
        position // 2,
    )


async def delete_node(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("DELETE FROM ledger_nodes WHERE level = 1 AND position = $1", position // 2)


async def rewrite_from(connection: asyncpg.Connection, position: int) -> None:
    """The patient forger: changes a record and recomputes every leaf, root and node after it."""
    await edit_record(connection, position)
    rows = await connection.fetch("SELECT seq, salt, record FROM ledger_records ORDER BY seq")
    frontier = audit.Frontier()
    for row in rows:
        made = leaf(row["salt"], canonical(parse(row["record"])))
        frontier, completed = frontier.append(made)
        await connection.execute(
            "UPDATE ledger SET leaf = $2, root = $3 WHERE seq = $1", row["seq"], made, frontier.root()
        )
        for (level, place), value in completed:
            await connection.execute(
                "UPDATE ledger_nodes SET hash = $3 WHERE level = $1 AND position = $2", level, place, value
            )


async def cut_tail(connection: asyncpg.Connection, position: int) -> None:
    await connection.execute("DELETE FROM ledger_records WHERE seq >= $1", position)
    await connection.execute("DELETE FROM open_leases WHERE intent_seq >= $1", position)
    await connection.execute("DELETE FROM ledger WHERE seq >= $1", position)
    await connection.execute("DELETE FROM ledger_nodes WHERE (position + 1) * (1::bigint << level) > $1", position)


async def cut_tail_carelessly(connection: asyncpg.Connection, position: int) -> None:
    """Inner nodes of the rows that are gone remain."""
    await connection.execute("DELETE FROM ledger_records WHERE seq >= $1", position)
    await connection.execute("DELETE FROM ledger WHERE seq >= $1", position)


SEEN_FROM_INSIDE = [
    edit_record,
    edit_salt,
    edit_user,
    edit_time,
    edit_kind,
    edit_lease,
    flip_leaf,
    flip_root,
    delete_row,
    delete_and_close_the_gap,
    delete_record,
    swap_records,
    swap_rows_whole,
]
SEEN_FROM_OUTSIDE = [rewrite_from, cut_tail]


async def test_control_an_untouched_copy_is_whole(written: tuple[Database, TreeHead]) -> None:
    result = await found(written, nothing, 0, remember=True)
    assert result.ok, result
    assert result.head.root == written[1].root


@pytest.mark.parametrize("change", SEEN_FROM_INSIDE, ids=lambda one: one.__name__)
@pytest.mark.parametrize("position", POSITIONS)
async def test_a_change_is_named(written: tuple[Database, TreeHead], change: Change, position: int) -> None:
    result = await found(written, change, position, remember=False)
    assert (result.ok, result.first_bad) == (False, position), result


@pytest.mark.parametrize("change", [flip_node, delete_node], ids=lambda one: one.__name__)
@pytest.mark.parametrize("position", POSITIONS)
async def test_a_changed_inner_node_is_named(written: tuple[Database, TreeHead], change: Change, position: int) -> None:
    result = await found(written, change, position, remember=False)
    assert (result.ok, result.first_bad) == (False, position | 1), result


@pytest.mark.parametrize("position", POSITIONS)
async def test_a_careless_cut_is_named(written: tuple[Database, TreeHead], position: int) -> None:
    result = await found(written, cut_tail_carelessly, position, remember=False)
    assert (result.ok, result.first_bad) == (False, position), result


@pytest.mark.parametrize("change", SEEN_FROM_OUTSIDE, ids=lambda one: one.__name__)
@pytest.mark.parametrize("position", POSITIONS)
async def test_a_perfect_forgery_is_found_by_whoever_remembers(
    written: tuple[Database, TreeHead], change: Change, position: int
) -> None:
    blind = await found(written, change, position, remember=False)
    assert blind.ok  # this is why a root must be kept elsewhere
    result = await found(written, change, position, remember=True)
    assert not result.ok
    assert result.first_bad == (position if change is cut_tail else SIZE - 1)
