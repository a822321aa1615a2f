"""Stores one catalogue answer in one transaction: bulk by COPY, and only what has changed.

Keys of channels never change: an item that disappears and comes back is the same channel, because the access ledger
speaks of it by that key.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from catalog.model import PLAYABLE, CatalogChange, ItemKind, ListedItem, TreeMode
from catalog.provinces import PROVINCES
from catalog.tree import Placement, division_chain, division_code, item_kind, place
from sipserver.protocol.ids import DeviceKey, GbId, new_key

MODES: dict[TreeMode, bytes] = {"division": b"d", "group": b"g", "device": b"p"}
Token = Callable[[int], str]
Row = tuple[Any, ...]

_COLUMNS = (
    *("channel_key", "device_key", "gb_id", "name", "kind", "playable", "online", "secrecy", "parents", "parental"),
    *("civil_code", "business_group", "manufacturer", "model", "ptz_type", "longitude", "latitude", "attributes"),
    *("ancestors", "own", "digest", "first_seen_at", "changed_at"),
)
_GB_ID, _PLAYABLE, _DIGEST = (_COLUMNS.index(name) for name in ("gb_id", "playable", "digest"))
_LOCK = 0x4D4A_0003
_PATIENCE = 600.0  # seconds: a pool's command timeout is not meant for 100,000 rows
_KEPT = frozenset({"channel_key", "device_key", "gb_id", "first_seen_at"})
_NAMES = ", ".join(_COLUMNS)
_STAGE = f"CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {_NAMES} FROM channels WITH NO DATA"  # noqa: S608
_UPDATE = (
    "UPDATE channels c SET removed_at = NULL, "  # noqa: S608 - built from the constants above
    + ", ".join(f"{name} = i.{name}" for name in _COLUMNS if name not in _KEPT)
    + " FROM incoming i WHERE c.channel_key = i.channel_key"
)


async def apply_items(
    connection: asyncpg.Connection,
    device: DeviceKey,
    items: Sequence[ListedItem],
    *,
    complete: bool,
    now: float,
    token: Token,
) -> CatalogChange:
    """Store `items` (one for each address code) as the catalogue of `device`; must run in a transaction.

    Not `complete`: items that are missing stay. Raises LookupError when there is no such device.
    """
    # One answer at a time for a device. Not by locking its row: keepalives are written there meanwhile.
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, device)
    root = await connection.fetchrow(
        "SELECT gb_id, name FROM devices WHERE device_key = $1 AND removed_at IS NULL", device
    )
    if root is None:
        raise LookupError("no such device")
    root_gb_id = GbId(root["gb_id"])
    stored = await connection.fetch("SELECT * FROM channels WHERE device_key = $1", device) if not complete else []
    divisions = [item for item in items if item_kind(item.gb_id, parental=False) is ItemKind.DIVISION]
    given, own = _effective(items, stored, root_gb_id, str(root["name"]))
    known = {
        str(row["gb_id"]): row
        for row in await connection.fetch(
            "SELECT gb_id, channel_key, digest, removed_at FROM channels WHERE device_key = $1", device
        )
    }
    division_keys = await _store_divisions(connection, given, divisions, token)
    # The long computations of a large catalogue must not hold up the event loop.
    plan = await asyncio.to_thread(
        _plan, given, own, device, root_gb_id, known=known, divisions=division_keys, now=now, token=token
    )
    await _store(connection, plan, now=now)
    await connection.execute(
        "UPDATE devices SET playable_count = $2, catalog_synced_at = $3, catalog_complete = $4 WHERE device_key = $1",
        device,
        plan.playable,
        now,
        complete,
    )
    return CatalogChange(
        added=len(plan.added),
        changed=len(plan.changed),
        removed=len(plan.removed),
        total=len(given),
        orphans=plan.orphans,
        broken_cycles=plan.broken_cycles,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Rows to insert and to update (`changed` includes items that are back), keys to remove, edges of new places."""

    added: list[Row]
    changed: list[Row]
    removed: list[str]
    edges: list[tuple[bytes, str, str]]
    playable: int
    orphans: int
    broken_cycles: int


def _plan(
    items: Sequence[ListedItem],
    own: set[GbId],
    device: DeviceKey,
    root_gb_id: GbId,
    *,
    known: Mapping[str, asyncpg.Record],
    divisions: Mapping[str, str],
    now: float,
    token: Token,
) -> _Plan:
    keys = {item.gb_id: _key(known.get(item.gb_id.value), token) for item in items}
    placement = place(items, root=device, root_gb_id=root_gb_id, keys=keys, divisions=divisions)
    rows = [_row(item, keys[item.gb_id], device, placement, own=item.gb_id in own, now=now) for item in items]
    listed = {row[_GB_ID] for row in rows}
    added = [row for row in rows if row[_GB_ID] not in known]
    changed = [row for row in rows if row[_GB_ID] in known and _differs(row, known[row[_GB_ID]])]
    return _Plan(
        added=added,
        changed=changed,
        removed=[row["channel_key"] for gb, row in known.items() if row["removed_at"] is None and gb not in listed],
        edges=[
            (MODES[mode], parent, row[0])
            for row in (*added, *changed)
            for mode, parents in placement.items[row[0]].parents.items()
            for parent in dict.fromkeys(parents)
        ],
        playable=sum(1 for row in rows if row[_PLAYABLE]),
        orphans=placement.orphans,
        broken_cycles=placement.broken_cycles,
    )


def _key(row: asyncpg.Record | None, token: Token) -> str:
    return new_key("chn", token) if row is None else str(row["channel_key"])


def own_channel(gb_id: GbId, name: str) -> ListedItem:
    """The channel that stands for a camera which has no catalogue of its own."""
    return ListedItem(gb_id=gb_id, name=name)


def _effective(
    items: Sequence[ListedItem],
    stored: Sequence[asyncpg.Record],
    root_gb_id: GbId,
    root_name: str,
) -> tuple[list[ListedItem], set[GbId]]:
    """The items the device has after this answer, and which of them is its own channel."""
    found: dict[GbId, ListedItem] = {}
    for item in items:
        kind = item_kind(item.gb_id, parental=item.parental)
        itself = item.gb_id == root_gb_id and kind not in PLAYABLE  # the device as an item: its node exists already
        if kind is not ItemKind.DIVISION and not itself:
            found[item.gb_id] = item
    for row in stored:
        if row["removed_at"] is None and not row["own"]:
            found.setdefault(GbId(row["gb_id"]), _item(row))
    plays = any(item_kind(item.gb_id, parental=item.parental) in PLAYABLE for item in found.values())
    if not plays and item_kind(root_gb_id, parental=False) in PLAYABLE:
        found[root_gb_id] = own_channel(root_gb_id, root_name)
        return list(found.values()), {root_gb_id}
    return list(found.values()), set()


def _item(row: asyncpg.Record) -> ListedItem:
    return ListedItem(
        gb_id=GbId(row["gb_id"]),
        name=row["name"],
        parents=tuple(GbId(parent) for parent in row["parents"]),
        civil_code=row["civil_code"],
        business_group=GbId(row["business_group"]) if row["business_group"] else None,
        parental=row["parental"],
        online=row["online"],
        secrecy=row["secrecy"],
        manufacturer=row["manufacturer"],
        model=row["model"],
        ptz_type=row["ptz_type"],
        longitude=row["longitude"],
        latitude=row["latitude"],
        attributes=json.loads(row["attributes"]),
    )


def _row(item: ListedItem, key: str, device: DeviceKey, placement: Placement, *, own: bool, now: float) -> Row:
    kind = item_kind(item.gb_id, parental=item.parental)
    placed = placement.items[key]
    decided = (
        *(item.gb_id.value, item.name, kind.value, kind in PLAYABLE, item.online),
        *(item.secrecy, [parent.value for parent in item.parents], item.parental, item.civil_code),
        *(item.business_group.value if item.business_group else None, item.manufacturer, item.model),
        *(item.ptz_type, item.longitude, item.latitude),
        *(json.dumps(dict(item.attributes), ensure_ascii=False, sort_keys=True), [*placed.above, key], own),
    )
    digest = hashlib.blake2b(repr((decided, placed.parents)).encode(), digest_size=16).digest()
    return (key, device, *decided, digest, now, now)


async def _store(connection: asyncpg.Connection, plan: _Plan, *, now: float) -> None:
    if plan.added:
        await connection.copy_records_to_table("channels", records=plan.added, columns=_COLUMNS, timeout=_PATIENCE)
    if plan.changed:
        await connection.execute(_STAGE)
        await connection.copy_records_to_table("incoming", records=plan.changed, columns=_COLUMNS, timeout=_PATIENCE)
        await connection.execute(_UPDATE, timeout=_PATIENCE)
        await connection.execute("DROP TABLE incoming")
    if plan.removed:
        await connection.execute(
            "UPDATE channels SET removed_at = $2, changed_at = $2 WHERE channel_key = ANY($1::text[])",
            plan.removed,
            now,
            timeout=_PATIENCE,
        )
    moved = [*(row[0] for row in plan.changed), *plan.removed]
    if moved:
        await connection.execute("DELETE FROM tree_edges WHERE child_key = ANY($1::text[])", moved, timeout=_PATIENCE)
    if plan.edges:
        columns = ("mode", "parent_key", "child_key")
        await connection.copy_records_to_table("tree_edges", records=plan.edges, columns=columns, timeout=_PATIENCE)


def _differs(row: Row, known: asyncpg.Record) -> bool:
    return known["removed_at"] is not None or known["digest"] != row[_DIGEST]


async def _store_divisions(
    connection: asyncpg.Connection, items: Iterable[ListedItem], listed: Iterable[ListedItem], token: Token
) -> dict[str, str]:
    """Make sure every division named or used exists, with those around it; returns their keys by code."""
    names: dict[str, str] = {}
    for item in listed:
        code = division_code(item.gb_id.value)
        if code is not None and item.name:
            names[code] = item.name
    used = {code for item in items if (code := division_code(item.civil_code))}
    codes = sorted(
        {part for code in used | set(names) for part in division_chain(code)}, key=lambda one: (len(one), one)
    )
    if not codes:
        return {}
    query = "SELECT code, division_key, name, named FROM divisions WHERE code = ANY($1::text[])"
    have = {row["code"]: row for row in await connection.fetch(query, codes)}
    missing = [code for code in codes if code not in have]
    if missing:
        # Two answers may bring the same new division: whoever is second takes the first one's key.
        await connection.executemany(
            "INSERT INTO divisions (division_key, code, parent_key, name, named) VALUES ($1, $2, "
            "(SELECT division_key FROM divisions WHERE code = $3), $4, $5) ON CONFLICT (code) DO NOTHING",
            [
                (
                    "div_" + new_key("chn", token)[4:],
                    code,
                    code[:-2],
                    names.get(code) or PROVINCES.get(code, code),
                    code in names,
                )
                for code in missing
            ],
        )
        have = {row["code"]: row for row in await connection.fetch(query, codes)}
    renamed = [(code, name) for code, name in names.items() if have[code]["name"] != name]
    if renamed:
        await connection.executemany("UPDATE divisions SET name = $2, named = true WHERE code = $1", renamed)
    return {code: row["division_key"] for code, row in have.items()}
