"""The access ledger: append-only rows in PostgreSQL over an RFC 6962 tree, durable before anything is shown.

Many appends share one transaction (group commit); the transaction holds an advisory lock while it extends the tree,
so that any number of processes write one sequence. Tables and triggers: ops/migrations/0002_ledger.sql.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import structlog

from sharing import audit
from sharing.record import SALT_SIZE, Draft, EntryKind, canonical, leaf, parse
from sharing.verify import TreeHead, Verification, verify_rows
from sipserver.protocol.ids import ChannelKey, LeaseKey, UserKey

__all__ = [
    "Entry",
    "EntryConflictError",
    "EntryKind",
    "InclusionProof",
    "Ledger",
    "LedgerUnavailableError",
    "TreeHead",
    "Verification",
]

log = structlog.get_logger("mingjian.ledger")

_SEQUENCER = 0x4D4A_0002
_BATCH = 512
_DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_SELECT = "SELECT l.seq, l.kind, l.leaf, r.record FROM ledger l JOIN ledger_records r USING (seq)"


class LedgerUnavailableError(Exception):
    """The row could not be made durable: whatever depended on it must not happen (E_LEDGER_UNAVAILABLE, I44)."""


class EntryConflictError(Exception):
    """The row contradicts one that is there: a lease begins once and ends once. Nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One durable row. `seq` is its leaf index (from 0), `leaf` its RFC 6962 leaf hash, `facts` what it says."""

    seq: int
    kind: EntryKind
    at: float
    user: UserKey | None
    channel: ChannelKey | None
    lease: LeaseKey | None
    facts: Mapping[str, Any] = field(repr=False)
    leaf: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """RFC 6962 §2.1.1 audit path of one entry, with what its leaf was made of: SHA-256(salt ‖ record)."""

    seq: int
    head: TreeHead
    leaf: bytes
    path: tuple[bytes, ...]
    salt: bytes = field(repr=False)
    record: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLease:
    """A lease that has begun and not ended, as the ledger knows it."""

    lease: LeaseKey
    user: UserKey
    channel: ChannelKey
    intent_seq: int
    started_at: float


@dataclass(frozen=True, slots=True)
class _Pending:
    draft: Draft
    record: str
    salt: bytes
    leaf: bytes
    done: "asyncio.Future[Entry]"


class Ledger:
    """Append and read. Reads raise LedgerUnavailableError too when the database is away."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        clock: Callable[[], float],
        max_pending: int = 4096,
        commit_timeout: float = 10.0,
    ) -> None:
        """`max_pending` bounds the rows waiting for a commit; more are refused at once. Seconds for the timeout."""
        self._pool = pool
        self._clock = clock
        self._commit_timeout = commit_timeout
        self._queue: asyncio.Queue[_Pending | None] = asyncio.Queue(max_pending)
        self._writer: asyncio.Task[None] | None = None
        self._frontier: audit.Frontier | None = None
        self._connection: Any = None

    async def start(self) -> None:
        """Start the writer. It keeps one connection of the pool for itself."""
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_forever(), name="ledger-writer")

    async def stop(self) -> None:
        """Write what is pending, then stop."""
        if self._writer is not None:
            if not self._writer.done():
                await self._queue.put(None)
            writer, self._writer = self._writer, None
            await writer

    async def append(
        self,
        kind: EntryKind,
        facts: Mapping[str, Any],
        *,
        user: UserKey | None = None,
        channel: ChannelKey | None = None,
        lease: LeaseKey | None = None,
    ) -> Entry:
        """Append one row; it is durable on return, and stands even if the caller is cancelled meanwhile.

        Raises LedgerUnavailableError (whether the row exists is then unknown: act as if it did not),
        EntryConflictError for a second intent or end of one lease, RecordError for facts that are not plain JSON.
        """
        if self._writer is None or self._writer.done():
            raise LedgerUnavailableError("the ledger is not running")
        draft = Draft(kind=kind, at=self._clock(), user=user, channel=channel, lease=lease, facts=facts)
        record, salt = canonical(draft), secrets.token_bytes(SALT_SIZE)
        done: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Pending(draft, record, salt, leaf(salt, record), done))
        except asyncio.QueueFull:
            raise LedgerUnavailableError("too many rows are waiting for the ledger") from None
        return await done

    async def _write_forever(self) -> None:
        try:
            while (first := await self._queue.get()) is not None:
                batch, stopping = [first], False
                while len(batch) < _BATCH and not self._queue.empty():
                    following = self._queue.get_nowait()
                    if following is None:
                        stopping = True
                        break
                    batch.append(following)
                await self._write(batch)
                if stopping:
                    return
        finally:
            waiting = [one for one in iter(self._next_waiting, None)]
            _fail(waiting, LedgerUnavailableError("the ledger was stopped"))
            await self._drop_connection()

    def _next_waiting(self) -> _Pending | None:
        while not self._queue.empty():
            one = self._queue.get_nowait()
            if one is not None:
                return one
        return None

    async def _write(self, batch: Sequence[_Pending]) -> None:
        """Commit a batch and tell every waiter. A row that contradicts another fails alone."""
        try:
            async with asyncio.timeout(self._commit_timeout):
                entries = await self._commit(batch)
        except asyncpg.UniqueViolationError:
            if len(batch) == 1:
                _fail(batch, EntryConflictError("the lease has such a row already"))
            await self._drop_connection()
            if len(batch) > 1:
                for one in batch:
                    await self._write([one])
        except (*_DATABASE_ERRORS, audit.ProofError) as error:
            log.error("ledger_write_failed", rows=len(batch), error=type(error).__name__)
            _fail(batch, LedgerUnavailableError("the ledger cannot be written"))
            await self._drop_connection()
        except BaseException:
            _fail(batch, LedgerUnavailableError("the ledger writer was stopped"))
            raise
        else:
            for one, entry in zip(batch, entries, strict=True):
                if not one.done.done():
                    one.done.set_result(entry)

    async def _drop_connection(self) -> None:
        """Give up the connection and what was derived from it. Cutting it rolls back, even if the server is frozen."""
        connection, self._connection, self._frontier = self._connection, None, None
        if connection is not None:
            try:
                connection.terminate()
                await self._pool.release(connection)
            except asyncpg.InterfaceError:
                log.info("ledger_connection_gone")  # the pool took it back when the server cut it

    async def _commit(self, batch: Sequence[_Pending]) -> list[Entry]:
        if self._connection is None:
            self._connection = await self._pool.acquire()
        connection = self._connection
        # synchronous_commit is not an operator's to lower here: an acknowledged row survives power loss.
        await connection.execute(
            f"BEGIN; SET LOCAL synchronous_commit = on; SELECT pg_advisory_xact_lock({_SEQUENCER})"
        )
        frontier = await self._present_frontier(connection)
        entries: list[Entry] = []
        roots: list[bytes] = []
        nodes: list[tuple[audit.Node, bytes]] = []
        for one in batch:
            entries.append(_entry(frontier.size, one.draft, one.leaf))
            frontier, completed = frontier.append(one.leaf)
            roots.append(frontier.root())
            nodes.extend(completed)
        await _insert(connection, batch, entries, roots, nodes)
        await connection.execute("COMMIT")
        self._frontier = frontier
        return entries

    async def _present_frontier(self, connection: asyncpg.Connection) -> audit.Frontier:
        """The frontier of what is committed; read again when another process has written since."""
        size = await connection.fetchval("SELECT coalesce(max(seq) + 1, 0) FROM ledger")
        if self._frontier is None or self._frontier.size != size:
            names = audit.frontier_nodes(size)
            nodes = await _nodes(connection, set(names))
            self._frontier = audit.Frontier(size, tuple(nodes[name] for name in names))
        return self._frontier

    async def head(self) -> TreeHead:
        """The current size and root."""
        row = await self._fetchrow("SELECT seq, root, at FROM ledger ORDER BY seq DESC LIMIT 1")
        if row is None:
            return TreeHead(size=0, root=audit.EMPTY_ROOT)
        return TreeHead(size=row["seq"] + 1, root=row["root"], at=row["at"])

    async def entries(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        kind: EntryKind | None = None,
        user: UserKey | None = None,
        channel: ChannelKey | None = None,
    ) -> tuple[list[Entry], int | None]:
        """Rows newest first (at most 500), and the cursor of the next page (None on the last)."""
        limit = max(1, min(limit, 500))
        rows = await self._fetch(
            f"{_SELECT} WHERE ($1::bigint IS NULL OR l.seq < $1) AND ($2::text IS NULL OR l.kind = $2) "
            "AND ($3::text IS NULL OR l.user_key = $3) AND ($4::text IS NULL OR l.channel_key = $4) "
            "ORDER BY l.seq DESC LIMIT $5",
            cursor,
            kind.value if kind else None,
            user,
            channel,
            limit + 1,
        )
        found = [_entry(row["seq"], parse(row["record"]), row["leaf"]) for row in rows[:limit]]
        return found, found[-1].seq if len(rows) > limit else None

    async def entry(self, seq: int) -> Entry | None:
        """One row, or None."""
        if not 0 <= seq < 1 << 62:
            return None
        row = await self._fetchrow(f"{_SELECT} WHERE l.seq = $1", seq)
        return None if row is None else _entry(row["seq"], parse(row["record"]), row["leaf"])

    async def open_leases(self) -> list[OpenLease]:
        """Leases without an end row: at start, what a crash left behind."""
        rows = await self._fetch("SELECT * FROM open_leases ORDER BY intent_seq")
        return [
            OpenLease(
                lease=row["lease_key"],
                user=row["user_key"],
                channel=row["channel_key"],
                intent_seq=row["intent_seq"],
                started_at=row["started_at"],
            )
            for row in rows
        ]

    async def inclusion(self, seq: int, *, size: int | None = None) -> InclusionProof | None:
        """Proof that row `seq` is in the tree of `size` (default: now); None when it is not."""
        head = await self.head_at(size) if size is not None else await self.head()
        if head is None or not 0 <= seq < head.size:
            return None
        nodes = await self._stored_nodes(audit.inclusion_nodes(seq, head.size))
        row = await self._fetchrow(
            "SELECT l.leaf, r.salt, r.record FROM ledger l JOIN ledger_records r USING (seq) WHERE l.seq = $1", seq
        )
        if row is None:
            return None
        path = audit.inclusion_proof(seq, head.size, nodes.__getitem__)
        return InclusionProof(seq=seq, head=head, leaf=row["leaf"], path=path, salt=row["salt"], record=row["record"])

    async def head_at(self, size: int) -> TreeHead | None:
        """The head the ledger had when it was of `size`; None when it never was."""
        if size == 0:
            return TreeHead(size=0, root=audit.EMPTY_ROOT)
        if not 0 < size < 1 << 62:
            return None
        row = await self._fetchrow("SELECT root, at FROM ledger WHERE seq = $1", size - 1)
        return None if row is None else TreeHead(size=size, root=row["root"], at=row["at"])

    async def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """Proof that the tree of `first` is a prefix of that of `second` (RFC 6962 §2.1.2). Raises ProofError."""
        if second > (await self.head()).size:
            raise audit.ProofError(f"the ledger has no {second} rows yet")
        nodes = await self._stored_nodes(audit.consistency_nodes(first, second))
        return audit.consistency_proof(first, second, nodes.__getitem__)

    async def verify(self, *, remembered: TreeHead | None = None) -> Verification:
        """Recompute every leaf, node and root from the rows; compare with what is stored and with `remembered`.

        `remembered` is a head kept outside this database: only that finds a cut tail or a rewritten history.
        """
        try:
            async with self._pool.acquire() as connection:
                return await verify_rows(connection, remembered=remembered)
        except _DATABASE_ERRORS as error:
            raise LedgerUnavailableError("the ledger cannot be read") from error

    async def _stored_nodes(self, names: set[audit.Node]) -> dict[audit.Node, bytes]:
        try:
            async with self._pool.acquire() as connection:
                return await _nodes(connection, names)
        except _DATABASE_ERRORS as error:
            raise LedgerUnavailableError("the ledger cannot be read") from error

    async def _fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            return list(await self._pool.fetch(query, *arguments))
        except _DATABASE_ERRORS as error:
            raise LedgerUnavailableError("the ledger cannot be read") from error

    async def _fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        rows = await self._fetch(query, *arguments)
        return rows[0] if rows else None


def _entry(seq: int, draft: Draft, leaf_hash: bytes) -> Entry:
    return Entry(
        seq=seq,
        kind=draft.kind,
        at=draft.at,
        user=draft.user,
        channel=draft.channel,
        lease=draft.lease,
        facts=draft.facts,
        leaf=leaf_hash,
    )


def _fail(batch: Sequence[_Pending], error: Exception) -> None:
    for one in batch:
        if not one.done.done():
            one.done.set_exception(error)


async def _nodes(connection: asyncpg.Connection, names: set[audit.Node]) -> dict[audit.Node, bytes]:
    """Stored hashes of leaves (level 0) and complete subtrees. Raises ProofError when one is missing."""
    wanted = sorted(names)
    rows = await connection.fetch(
        "SELECT 0 AS level, seq AS position, leaf AS hash FROM ledger WHERE seq = ANY($1::bigint[]) "
        "UNION ALL SELECT n.level, n.position, n.hash FROM ledger_nodes n "
        "JOIN unnest($2::smallint[], $3::bigint[]) AS w (level, position) USING (level, position)",
        [position for level, position in wanted if level == 0],
        [level for level, _ in wanted if level],
        [position for level, position in wanted if level],
    )
    found = {(row["level"], row["position"]): row["hash"] for row in rows}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise audit.ProofError(f"the ledger has lost node {missing[0]}: verify it")
    return found


async def _insert(
    connection: asyncpg.Connection,
    batch: Sequence[_Pending],
    entries: Sequence[Entry],
    roots: Sequence[bytes],
    nodes: Sequence[tuple[audit.Node, bytes]],
) -> None:
    await connection.execute(
        "INSERT INTO ledger (seq, kind, at, user_key, channel_key, lease_key, leaf, root) SELECT * FROM "
        "unnest($1::bigint[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[])",
        [entry.seq for entry in entries],
        [entry.kind.value for entry in entries],
        [entry.at for entry in entries],
        [entry.user for entry in entries],
        [entry.channel for entry in entries],
        [entry.lease for entry in entries],
        [entry.leaf for entry in entries],
        list(roots),
    )
    await connection.execute(
        "INSERT INTO ledger_records (seq, salt, record) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::text[])",
        [entry.seq for entry in entries],
        [one.salt for one in batch],
        [one.record for one in batch],
    )
    if nodes:
        await connection.execute(
            "INSERT INTO ledger_nodes (level, position, hash) SELECT * FROM "
            "unnest($1::smallint[], $2::bigint[], $3::bytea[])",
            [level for (level, _), _ in nodes],
            [position for (_, position), _ in nodes],
            [value for _, value in nodes],
        )
