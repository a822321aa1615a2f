"""Alarms in PostgreSQL: one row for a run of equal reports, acknowledged once, forgotten by age and number."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg

from catalog.model import NodeKey, Page
from sipserver.protocol.ids import ChannelKey, DeviceKey, new_key

MAX_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmReport:
    """An alarm as a device reported it. ``source`` tells objects of a device apart without being its address code:
    "device", "channel", "input", "centre", "unknown". ``valid`` False: a combination the standard does not know."""

    device: DeviceKey
    channel: ChannelKey | None
    source: str
    at: float
    priority: int | None
    method: int | None
    kind: int | None
    event: int | None
    label: str
    valid: bool
    description: str | None = None
    longitude: float | None = None
    latitude: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmEntry:
    """A stored alarm: ``count`` equal reports from ``received_at`` to ``last_at``."""

    key: str
    report: AlarmReport
    received_at: float
    last_at: float
    count: int
    acknowledged_at: float | None
    acknowledged_by: str | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmConfig:
    """``window``: equal reports within it are one alarm. ``keep_seconds`` and ``keep_rows`` bound the table."""

    window: float = 30.0
    keep_seconds: float = 90 * 86_400.0
    keep_rows: int = 1_000_000


class Alarms:
    """The alarm table. ``within`` bounds answers to subtrees as in CatalogStore (alarms without channel by device)."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        config: AlarmConfig | None = None,
        token: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._pool = pool
        self._config = config or AlarmConfig()
        self._token = token

    async def report(self, report: AlarmReport, *, now: float) -> tuple[AlarmEntry, bool]:
        """Store a report; True when it begins an alarm, False when it only repeats one that is not acknowledged."""
        async with self._pool.acquire() as connection, connection.transaction():
            # two equal reports at once must not become two alarms
            await connection.execute(
                "SELECT pg_advisory_xact_lock(1296711690, hashtext($1))", f"{report.device}{report.channel}"
            )
            row = await connection.fetchrow(
                "UPDATE alarms SET count = count + 1, last_at = $8 WHERE alarm_key = (SELECT alarm_key FROM alarms "
                "WHERE device_key = $1 AND channel_key IS NOT DISTINCT FROM $2 AND source = $3 "
                "AND method IS NOT DISTINCT FROM $4 AND kind IS NOT DISTINCT FROM $5 AND event IS NOT DISTINCT FROM $6 "
                "AND priority IS NOT DISTINCT FROM $7 AND acknowledged_at IS NULL AND last_at >= $8 - $9::float8 "
                "ORDER BY received_at DESC LIMIT 1) RETURNING *",
                report.device,
                report.channel,
                report.source,
                report.method,
                report.kind,
                report.event,
                report.priority,
                now,
                self._config.window,
            )
            if row is not None:
                return _entry(row), False
            row = await connection.fetchrow(
                "INSERT INTO alarms (alarm_key, device_key, channel_key, source, at, received_at, last_at, priority, "
                "method, kind, event, label, valid, description, longitude, latitude) "
                "VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) RETURNING *",
                "alm_" + new_key("chn", self._token)[4:],
                report.device,
                report.channel,
                report.source,
                report.at,
                now,
                report.priority,
                report.method,
                report.kind,
                report.event,
                report.label,
                report.valid,
                report.description,
                report.longitude,
                report.latitude,
            )
        return _entry(row), True

    async def alarm(self, key: str, *, within: Sequence[NodeKey] | None = None) -> AlarmEntry | None:
        """One alarm, None when there is none or it lies outside."""
        row = await self._pool.fetchrow(f"{_SELECT} AND a.alarm_key = $2", _roots(within), key)
        return None if row is None else _entry(row)

    async def alarms(
        self,
        *,
        device: DeviceKey | None = None,
        channel: ChannelKey | None = None,
        open_only: bool = False,
        since: float | None = None,
        until: float | None = None,
        cursor: str | None = None,
        limit: int = 100,
        within: Sequence[NodeKey] | None = None,
    ) -> Page[AlarmEntry]:
        """Newest first. Raises ValueError for a cursor that is not ours."""
        limit = max(1, min(limit, MAX_PAGE))
        after = None
        if cursor is not None:
            after = await self._pool.fetchval("SELECT received_at FROM alarms WHERE alarm_key = $1", cursor)
            if after is None:
                raise ValueError("the cursor is not one of ours")
        rows = await self._pool.fetch(
            f"{_SELECT} AND ($2::text IS NULL OR a.device_key = $2) AND ($3::text IS NULL OR a.channel_key = $3) "
            "AND (NOT $4 OR a.acknowledged_at IS NULL) AND ($5::float8 IS NULL OR a.received_at >= $5) "
            "AND ($6::float8 IS NULL OR a.received_at < $6) "
            "AND ($7::float8 IS NULL OR (a.received_at, a.alarm_key) < ($7, $8)) "
            "ORDER BY a.received_at DESC, a.alarm_key DESC LIMIT $9",
            _roots(within),
            device,
            channel,
            open_only,
            since,
            until,
            after,
            cursor,
            limit + 1,
        )
        entries = tuple(_entry(row) for row in rows[:limit])
        return Page(items=entries, cursor=entries[-1].key if len(rows) > limit else None)

    async def acknowledge(self, key: str, *, by: str, note: str | None, now: float) -> AlarmEntry | None:
        """Note that somebody has seen it; the first one counts. None when there is no such alarm."""
        await self._pool.execute(
            "UPDATE alarms SET acknowledged_at = $2, acknowledged_by = $3, note = $4 "
            "WHERE alarm_key = $1 AND acknowledged_at IS NULL",
            key,
            now,
            by,
            note,
        )
        return await self.alarm(key)

    async def prune(self, *, now: float) -> int:
        """Forget what is too old or too much; how many rows went."""
        old = await self._pool.execute("DELETE FROM alarms WHERE received_at < $1", now - self._config.keep_seconds)
        many = await self._pool.execute(
            "DELETE FROM alarms WHERE alarm_key IN "
            "(SELECT alarm_key FROM alarms ORDER BY received_at DESC, alarm_key DESC OFFSET $1)",
            self._config.keep_rows,
        )
        return sum(int(str(done).rpartition(" ")[2]) for done in (old, many))


_SELECT = (
    "SELECT a.* FROM alarms a LEFT JOIN channels c ON c.channel_key = a.channel_key "
    "WHERE ($1::text[] IS NULL OR c.ancestors && $1 OR (a.channel_key IS NULL AND a.device_key = ANY($1)))"
)


def _roots(within: Sequence[NodeKey] | None) -> list[str] | None:
    return None if within is None else [str(root) for root in within]


def _entry(row: asyncpg.Record) -> AlarmEntry:
    report = AlarmReport(
        device=DeviceKey(row["device_key"]),
        channel=None if row["channel_key"] is None else ChannelKey(row["channel_key"]),
        source=row["source"],
        at=row["at"],
        priority=row["priority"],
        method=row["method"],
        kind=row["kind"],
        event=row["event"],
        label=row["label"],
        valid=row["valid"],
        description=row["description"],
        longitude=row["longitude"],
        latitude=row["latitude"],
    )
    return AlarmEntry(
        key=row["alarm_key"],
        report=report,
        received_at=row["received_at"],
        last_at=row["last_at"],
        count=row["count"],
        acknowledged_at=row["acknowledged_at"],
        acknowledged_by=row["acknowledged_by"],
        note=row["note"],
    )
