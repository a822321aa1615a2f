"""The reading side of the catalog: channels and the three trees, page by page.

Cursors are keys of the last item shown, never names: they travel in URLs.
"""

import json
import re
from collections.abc import Sequence

import asyncpg

from catalog.apply import MODES
from catalog.model import Channel, ChannelFilter, ItemKind, NodeKey, Page, TreeMode, TreeNode
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId

MAX_PAGE = 500
_NODE = re.compile(r"(?:dev|chn|div)_[a-z2-7]{20}\Z")
_CHANNEL = (
    "SELECT c.*, d.gb_id AS device_gb_id, d.online AS device_online "
    "FROM channels c JOIN devices d USING (device_key) WHERE c.removed_at IS NULL"
)
# A division is worth showing when something hangs below it.
_HAS_CONTENT = "EXISTS (SELECT 1 FROM channels x WHERE x.removed_at IS NULL AND x.ancestors @> ARRAY[v.division_key])"
_SELECT_DIVISION = (
    "SELECT 0 AS rank, v.division_key AS key, v.name, 'division' AS kind, NULL::boolean AS up, false AS playable "
    "FROM divisions v WHERE "
)
_SELECT_DEVICE = (
    "SELECT 1 AS rank, d.device_key AS key, d.name, d.kind, d.online AS up, false AS playable "
    "FROM devices d WHERE d.removed_at IS NULL AND "
)
_SELECT_CHANNEL = (
    "SELECT 2 AS rank, c.channel_key AS key, c.name, c.kind, "
    "CASE WHEN c.kind IN ('group', 'organisation') THEN NULL ELSE c.online AND d.online END AS up, c.playable "
    "FROM channels c JOIN devices d USING (device_key) WHERE c.removed_at IS NULL AND "
)


def is_node_key(text: str) -> bool:
    """True for the form of a device, channel or division key."""
    return bool(_NODE.match(text))


def check_cursor(cursor: str | None) -> str | None:
    """The cursor if it can be one of ours. Raises ValueError."""
    if cursor is not None and not is_node_key(cursor):
        raise ValueError("the cursor is not one of ours")
    return cursor


async def read_channel(connection: asyncpg.Pool, key: ChannelKey, within: Sequence[NodeKey] | None) -> Channel | None:
    """One channel inside `within`, or None."""
    row = await connection.fetchrow(
        f"{_CHANNEL} AND c.channel_key = $1 AND ($2::text[] IS NULL OR c.ancestors && $2)", key, _list(within)
    )
    return None if row is None else channel_of(row)


async def read_channels(
    connection: asyncpg.Pool,
    wanted: ChannelFilter,
    *,
    cursor: str | None,
    limit: int,
    within: Sequence[NodeKey] | None,
) -> Page[Channel]:
    """One page of channels by (name, key). Raises ValueError for a foreign cursor."""
    limit = max(1, min(limit, MAX_PAGE))
    after = await _name_of(connection, check_cursor(cursor))
    rows = await connection.fetch(
        f"{_CHANNEL} AND ($1::text IS NULL OR (c.name, c.channel_key) > ($1, $2)) "
        "AND ($3::text IS NULL OR c.name ILIKE $3) AND ($4::text IS NULL OR c.device_key = $4) "
        "AND ($5::boolean IS NULL OR (c.online AND d.online) = $5) AND ($6::boolean IS NULL OR c.playable = $6) "
        "AND ($7::text[] IS NULL OR c.ancestors && $7) ORDER BY c.name, c.channel_key LIMIT $8",
        after,
        cursor,
        like(wanted.text),
        wanted.device,
        wanted.online,
        wanted.playable,
        _list(within),
        limit + 1,
    )
    items = tuple(channel_of(row) for row in rows[:limit])
    return Page(items=items, cursor=items[-1].key if len(rows) > limit else None)


async def read_tree(
    connection: asyncpg.Pool,
    parent: NodeKey | None,
    *,
    mode: TreeMode,
    cursor: str | None,
    limit: int,
    within: Sequence[NodeKey] | None,
) -> Page[TreeNode]:
    """One page of the children of `parent`. Raises ValueError for a foreign cursor."""
    limit = max(1, min(limit, MAX_PAGE))
    check_cursor(cursor)
    if parent is not None and not is_node_key(parent):
        return Page(items=(), cursor=None)
    if within is not None and parent is not None and not await _is_within(connection, parent, within):
        return Page(items=(), cursor=None)
    after = await _position_of(connection, cursor)
    rows = await connection.fetch(
        f"SELECT * FROM ({_children(parent, mode, within)}) n "  # noqa: S608 - built from constants above
        "WHERE ($4::integer IS NULL OR (n.rank, n.name, n.key) > ($4, $5, $6)) ORDER BY n.rank, n.name, n.key LIMIT $7",
        MODES[mode],
        parent,
        _list(within),
        *(after or (None, None, None)),
        limit + 1,
    )
    counts = await _child_counts(connection, [row["key"] for row in rows[:limit]], mode, within)
    items = tuple(_node(row, parent, counts) for row in rows[:limit])
    return Page(items=items, cursor=items[-1].key if len(rows) > limit else None)


def _children(parent: NodeKey | None, mode: TreeMode, within: Sequence[NodeKey] | None) -> str:
    """The query for the children of a node; $1 mode, $2 parent, $3 scope."""
    used = '($1::"char" IS NOT NULL AND ($2::text IS NULL OR true) AND ($3::text[] IS NULL OR true))'
    if parent is None and within is not None:
        parts = [
            f"{_SELECT_DIVISION} v.division_key = ANY($3)",
            f"{_SELECT_DEVICE} d.device_key = ANY($3)",
            f"{_SELECT_CHANNEL} c.channel_key = ANY($3)",
        ]
    elif parent is None and mode == "division":
        loose = "EXISTS (SELECT 1 FROM tree_edges e WHERE e.mode = $1 AND e.parent_key = d.device_key)"
        parts = [f"{_SELECT_DIVISION} v.parent_key IS NULL AND {_HAS_CONTENT}", f"{_SELECT_DEVICE} {loose}"]
    elif parent is None:
        parts = [f"{_SELECT_DEVICE} true"]
    else:
        below = "c.channel_key IN (SELECT e.child_key FROM tree_edges e WHERE e.mode = $1 AND e.parent_key = $2)"
        parts = [f"{_SELECT_CHANNEL} {below} AND ($3::text[] IS NULL OR c.ancestors && $3)"]
        if mode == "division" and parent.startswith("div_"):
            parts.append(f"{_SELECT_DIVISION} v.parent_key = $2 AND {_HAS_CONTENT}")
    return " UNION ALL ".join(f"({part} AND {used})" for part in parts)


async def _child_counts(
    connection: asyncpg.Pool, keys: Sequence[str], mode: TreeMode, within: Sequence[NodeKey] | None
) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT e.parent_key AS key, count(*) AS number FROM tree_edges e WHERE e.mode = $1 "  # noqa: S608 - constants
        "AND e.parent_key = ANY($2::text[]) AND ($3::text[] IS NULL OR EXISTS (SELECT 1 FROM channels c "
        "WHERE c.channel_key = e.child_key AND c.ancestors && $3)) GROUP BY 1 "
        f"UNION ALL SELECT v.parent_key, count(*) FROM divisions v WHERE $1 = 'd'::\"char\" "
        f"AND v.parent_key = ANY($2::text[]) AND {_HAS_CONTENT} GROUP BY 1",
        MODES[mode],
        list(keys),
        _list(within),
    )
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["key"]] = counts.get(row["key"], 0) + row["number"]
    return counts


async def _is_within(connection: asyncpg.Pool, key: NodeKey, within: Sequence[NodeKey]) -> bool:
    """True when `key` is one of the roots or below one."""
    if key in within:
        return True
    if key.startswith("chn_"):
        query = "SELECT 1 FROM channels WHERE channel_key = $1 AND removed_at IS NULL AND ancestors && $2::text[]"
    elif key.startswith("div_"):
        query = (
            "SELECT 1 FROM divisions v JOIN divisions r ON starts_with(v.code, r.code) "
            "WHERE v.division_key = $1 AND r.division_key = ANY($2::text[])"
        )
    else:
        return False
    return bool(await connection.fetchval(query, key, list(within)))


async def _name_of(connection: asyncpg.Pool, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    position = await _position_of(connection, cursor)
    return None if position is None else position[1]


async def _position_of(connection: asyncpg.Pool, cursor: str | None) -> tuple[int, str, str] | None:
    """(rank, name, key) of a cursor. Raises ValueError when its object never was (removed ones are known)."""
    if cursor is None:
        return None
    row = await connection.fetchrow(
        "SELECT 0 AS rank, name FROM divisions WHERE division_key = $1 "
        "UNION ALL SELECT 1, name FROM devices WHERE device_key = $1 "
        "UNION ALL SELECT 2, name FROM channels WHERE channel_key = $1",
        cursor,
    )
    if row is None:
        raise ValueError("the cursor is not one of ours")
    return row["rank"], row["name"], cursor


def _node(row: asyncpg.Record, parent: NodeKey | None, counts: dict[str, int]) -> TreeNode:
    return TreeNode(
        key=NodeKey(row["key"]),
        name=row["name"],
        kind=row["kind"],
        parent=parent,
        status=None if row["up"] is None else "on" if row["up"] else "off",
        playable=row["playable"],
        child_count=counts.get(row["key"], 0),
    )


def channel_of(row: asyncpg.Record) -> Channel:
    """A channel from its row joined with its device."""
    return Channel(
        key=ChannelKey(row["channel_key"]),
        device=DeviceKey(row["device_key"]),
        device_gb_id=GbId(row["device_gb_id"]),
        gb_id=GbId(row["gb_id"]),
        name=row["name"],
        kind=ItemKind(row["kind"]),
        playable=row["playable"],
        online=row["online"] and row["device_online"],
        item_online=row["online"],
        device_online=row["device_online"],
        secrecy=row["secrecy"],
        ptz_type=row["ptz_type"],
        civil_code=row["civil_code"],
        manufacturer=row["manufacturer"],
        model=row["model"],
        longitude=row["longitude"],
        latitude=row["latitude"],
        attributes=json.loads(row["attributes"]),
    )


def like(text: str | None) -> str | None:
    """A pattern that finds `text` anywhere, taken literally."""
    if not text:
        return None
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("\x00", "")
    return f"%{escaped}%"


def _list(within: Sequence[NodeKey] | None) -> list[str] | None:
    return None if within is None else list(within)
