"""Recomputes the whole ledger from its rows and names the first position that is wrong."""

from dataclasses import dataclass, field

import asyncpg

from sharing import audit
from sharing.record import RecordError, leaf, parse

_PAGE = 500
_Completed = list[tuple[int, audit.Node, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """Size and root of the ledger at one moment (RFC 6962 §2.1)."""

    size: int
    root: bytes = field(repr=False)
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Result of recomputing everything. `first_bad` is the first position that is wrong, `fault` says how."""

    ok: bool
    head: TreeHead
    first_bad: int | None = None
    fault: str | None = None


class _Fault(Exception):
    def __init__(self, position: int, text: str) -> None:
        super().__init__(text)
        self.position = position


async def verify_rows(connection: asyncpg.Connection, *, remembered: TreeHead | None) -> Verification:
    """Check one snapshot of the ledger: order, leaves, roots, nodes, columns against records, the remembered head."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        check = _Check(remembered)
        try:
            cursor = await connection.cursor(
                "SELECT l.*, r.salt, r.record FROM ledger l LEFT JOIN ledger_records r USING (seq) ORDER BY l.seq"
            )
            while rows := await cursor.fetch(_PAGE):
                fault = check.rows(rows)
                await _check_nodes(connection, check.completed)
                if fault is not None:
                    raise fault
            if remembered is not None and remembered.size > check.frontier.size:
                text = f"the tail is cut off: {remembered.size} rows were there before"
                raise _Fault(check.frontier.size, text)
            await _check_leftovers(connection, check.frontier.size)
        except _Fault as fault:
            return Verification(ok=False, head=check.head(), first_bad=fault.position, fault=str(fault))
        return Verification(ok=True, head=check.head())


class _Check:
    """Grows a tree over the rows and compares each of them with it."""

    def __init__(self, remembered: TreeHead | None) -> None:
        self.frontier = audit.Frontier()
        self.completed: _Completed = []
        self._at = 0.0
        self._remembered = remembered

    def head(self) -> TreeHead:
        """The head of what was found right so far."""
        return TreeHead(size=self.frontier.size, root=self.frontier.root(), at=self._at)

    def rows(self, rows: list[asyncpg.Record]) -> _Fault | None:
        """Check a page; `completed` holds the inner nodes it completes, up to the fault if there is one."""
        self.completed = []
        for row in rows:
            try:
                self._row(row)
            except _Fault as fault:
                return fault
        return None

    def _row(self, row: asyncpg.Record) -> None:
        seq = self.frontier.size
        if row["seq"] != seq:
            raise _Fault(seq, f"the row is missing; the next one is {row['seq']}")
        _check_record(seq, row)
        grown, completed = self.frontier.append(row["leaf"])
        root = grown.root()
        if root != row["root"]:
            raise _Fault(seq, "the root does not follow from the rows up to here")
        if self._remembered is not None and self._remembered.size == grown.size and self._remembered.root != root:
            raise _Fault(seq, "the history up to here is not the one remembered")
        self.completed.extend((seq, name, value) for name, value in completed)
        self.frontier, self._at = grown, row["at"]


def _check_record(seq: int, row: asyncpg.Record) -> None:
    if row["record"] is None:
        raise _Fault(seq, "the record is missing")
    if leaf(row["salt"], row["record"]) != row["leaf"]:
        raise _Fault(seq, "the record is not the one the leaf was made of")
    try:
        draft = parse(row["record"])
    except RecordError as error:
        raise _Fault(seq, str(error)) from error
    stored = (row["kind"], row["at"], row["user_key"], row["channel_key"], row["lease_key"])
    if stored != (draft.kind.value, draft.at, draft.user, draft.channel, draft.lease):
        raise _Fault(seq, "the columns differ from the record")


async def _check_nodes(connection: asyncpg.Connection, completed: _Completed) -> None:
    rows = await connection.fetch(
        "SELECT level, position, hash FROM ledger_nodes "
        "JOIN unnest($1::smallint[], $2::bigint[]) AS w (level, position) USING (level, position)",
        [level for _, (level, _), _ in completed],
        [position for _, (_, position), _ in completed],
    )
    stored = {(row["level"], row["position"]): row["hash"] for row in rows}
    for seq, name, value in completed:
        if stored.get(name) != value:
            raise _Fault(seq, "an inner node does not follow from the rows up to here")


async def _check_leftovers(connection: asyncpg.Connection, size: int) -> None:
    """Records or nodes beyond the last row: the tail was cut off carelessly."""
    if await connection.fetchval("SELECT 1 FROM ledger_records WHERE seq >= $1 LIMIT 1", size):
        raise _Fault(size, "records are left of rows that are missing")
    if await connection.fetchval(
        "SELECT 1 FROM ledger_nodes WHERE (position + 1) * (1::bigint << level) > $1 LIMIT 1", size
    ):
        raise _Fault(size, "inner nodes are left of rows that are missing")
