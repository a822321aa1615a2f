"""What is kept of a device besides its catalogue: switches, heartbeat, subscriptions, what its objects said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.quirks import Value

SubscriptionKind = Literal["catalog", "alarm", "position", "ptz"]
Condition = Literal["on", "off", "vlost", "defect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSubscription:
    """A subscription that shall be held; seconds."""

    kind: SubscriptionKind
    expires: int = 600
    interval: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectState:
    """What an object of a device said last; None for what it never did. ``view`` in degrees and factors."""

    condition: Condition | None = None
    armed: bool | None = None
    view: Mapping[str, float] | None = None
    at: float = 0.0


class DeviceSettings:
    """Reads and writes; every method may raise asyncpg.PostgresError or OSError. Bounded by devices and their items."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def settings(
        self,
    ) -> dict[DeviceKey, tuple[Mapping[str, Value], Mapping[str, Value], tuple[int, int] | None]]:
        """(chosen, detected, heartbeat) of every device that has any."""
        rows = await self._pool.fetch("SELECT * FROM device_settings")
        found = {}
        for row in rows:
            told = row["heartbeat_interval"], row["heartbeat_count"]
            heartbeat = (int(told[0]), int(told[1])) if None not in told else None
            found[DeviceKey(row["device_key"])] = (json.loads(row["chosen"]), json.loads(row["detected"]), heartbeat)
        return found

    async def store_settings(
        self,
        key: DeviceKey,
        *,
        chosen: Mapping[str, Value],
        detected: Mapping[str, Value],
        heartbeat: tuple[int, int] | None,
    ) -> None:
        """Replace what is kept of one device."""
        await self._pool.execute(
            "INSERT INTO device_settings (device_key, chosen, detected, heartbeat_interval, heartbeat_count) "
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (device_key) DO UPDATE SET chosen = $2, detected = $3, "
            "heartbeat_interval = $4, heartbeat_count = $5",
            key,
            json.dumps(dict(chosen)),
            json.dumps(dict(detected)),
            heartbeat[0] if heartbeat else None,
            heartbeat[1] if heartbeat else None,
        )

    async def subscriptions(self) -> list[tuple[DeviceKey, WantedSubscription]]:
        """Everything that shall be subscribed to, of devices that are not withdrawn."""
        rows = await self._pool.fetch(
            "SELECT s.* FROM device_subscriptions s JOIN devices d USING (device_key) WHERE d.removed_at IS NULL"
        )
        return [
            (
                DeviceKey(row["device_key"]),
                WantedSubscription(kind=row["kind"], expires=row["expires"], interval=row["pause"]),
            )
            for row in rows
        ]

    async def want_subscriptions(self, key: DeviceKey, wanted: list[WantedSubscription]) -> None:
        """Replace what shall be subscribed to at a device."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("DELETE FROM device_subscriptions WHERE device_key = $1", key)
            await connection.executemany(
                "INSERT INTO device_subscriptions (device_key, kind, expires, pause) VALUES ($1, $2, $3, $4)",
                [(key, one.kind, one.expires, one.interval) for one in wanted],
            )

    async def note_duty(self, key: DeviceKey, gb_id: GbId, armed: bool, *, now: float) -> None:
        """An object was armed or disarmed."""
        await self._note(key, gb_id, "armed", armed, now)

    async def note_view(self, key: DeviceKey, gb_id: GbId, view: Mapping[str, float], *, now: float) -> None:
        """Where a camera looks."""
        await self._note(key, gb_id, "view", json.dumps(dict(view)), now)

    async def state(self, key: DeviceKey, gb_id: GbId) -> ObjectState | None:
        """What the object said last."""
        row = await self._pool.fetchrow(
            "SELECT * FROM object_states WHERE device_key = $1 AND gb_id = $2", key, gb_id.value
        )
        if row is None:
            return None
        view = json.loads(row["view"]) if row["view"] else None
        return ObjectState(condition=row["condition"], armed=row["armed"], view=view, at=row["at"])

    async def _note(self, key: DeviceKey, gb_id: GbId, column: str, value: Any, now: float) -> None:
        # the column is one of three names written above
        await self._pool.execute(
            f"INSERT INTO object_states (device_key, gb_id, {column}, at) VALUES ($1, $2, $3, $4) "  # noqa: S608
            f"ON CONFLICT (device_key, gb_id) DO UPDATE SET {column} = $3, at = $4",
            key,
            gb_id.value,
            value,
            now,
        )
