"""Positions of mobile objects in PostgreSQL: the latest of each, and a track bounded by age and by number a day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from sipserver.protocol.ids import DeviceKey, GbId

MAX_POINTS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """Where something was: WGS-84 degrees, km/h, degrees clockwise from north, metres; unix seconds."""

    gb_id: GbId
    at: float
    longitude: float
    latitude: float
    speed: float | None = None
    direction: float | None = None
    altitude: float | None = None
    height: float | None = None


class Positions:
    """The position tables. ``keep_seconds`` is how long a track is kept."""

    def __init__(self, pool: asyncpg.Pool, *, keep_seconds: float = 7 * 86_400.0) -> None:
        self._pool = pool
        self._keep = keep_seconds

    async def store(self, device: DeviceKey, fixes: Iterable[Fix]) -> None:
        """Note positions; an older one than the latest only joins the track, the same instant again changes nothing."""
        rows = [
            (
                device,
                fix.gb_id.value,
                fix.at,
                fix.longitude,
                fix.latitude,
                fix.speed,
                fix.direction,
                fix.altitude,
                fix.height,
            )
            for fix in fixes
        ]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.executemany(
                "INSERT INTO positions VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (device_key, gb_id) "
                "DO UPDATE SET at = $3, longitude = $4, latitude = $5, speed = $6, direction = $7, altitude = $8, "
                "height = $9 WHERE positions.at <= $3",
                rows,
            )
            await connection.executemany(
                "INSERT INTO position_track VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                [row[:7] for row in rows],
            )

    async def latest(self, device: DeviceKey, gb_id: GbId) -> Fix | None:
        """Where the object was last."""
        row = await self._pool.fetchrow(
            "SELECT * FROM positions WHERE device_key = $1 AND gb_id = $2", device, gb_id.value
        )
        return None if row is None else _fix(row, row["altitude"], row["height"])

    async def track(self, device: DeviceKey, gb_id: GbId, *, since: float, until: float) -> list[Fix]:
        """Positions of an object in a range, oldest first, at most MAX_POINTS (the newest)."""
        rows = await self._pool.fetch(
            "SELECT * FROM (SELECT * FROM position_track WHERE device_key = $1 AND gb_id = $2 AND at >= $3 "
            "AND at < $4 ORDER BY at DESC LIMIT $5) t ORDER BY at",
            device,
            gb_id.value,
            since,
            until,
            MAX_POINTS,
        )
        return [_fix(row, None, None) for row in rows]

    async def prune(self, *, now: float) -> int:
        """Forget what is too old; how many points went."""
        done = await self._pool.execute("DELETE FROM position_track WHERE at < $1", now - self._keep)
        return int(str(done).rpartition(" ")[2])


def _fix(row: asyncpg.Record, altitude: float | None, height: float | None) -> Fix:
    return Fix(
        gb_id=GbId(row["gb_id"]),
        at=row["at"],
        longitude=row["longitude"],
        latitude=row["latitude"],
        speed=row["speed"],
        direction=row["direction"],
        altitude=altitude,
        height=height,
    )
