"""Orders to devices that end with a notice, in PostgreSQL, and the pictures that came for snapshot orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import asyncpg

from sipserver.protocol.ids import ChannelKey, DeviceKey

OrderKind = Literal["snapshot", "upgrade"]
OrderState = Literal["ordered", "running", "done", "partial", "failed"]
MAX_LISTED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``session`` travels to the device and back. ``finished``: its notice came, naming ``files``. Unix seconds."""

    key: str
    device: DeviceKey
    channel: ChannelKey | None
    kind: OrderKind
    session: str
    state: OrderState
    ordered_at: float
    ended_at: float | None = None
    wanted: int = 0
    finished: bool = False
    files: tuple[str, ...] = ()
    firmware: str | None = None
    reason: str | None = None

    @property
    def over(self) -> bool:
        """True when it has ended."""
        return self.ended_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A picture that came: the file itself lies in the data directory under ``key``."""

    key: str
    file_id: str
    taken_at: float | None
    received_at: float
    media_type: str
    size: int
    sha256: bytes


class Orders:
    """The order tables."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def begin(self, order: Order, *, ticket_hash: bytes | None) -> None:
        """Store an order before it goes out."""
        await self._pool.execute(
            "INSERT INTO device_orders (order_key, device_key, channel_key, kind, session, state, ordered_at, wanted, "
            "firmware, ticket_hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            order.key,
            order.device,
            order.channel,
            order.kind,
            order.session,
            order.state,
            order.ordered_at,
            order.wanted,
            order.firmware,
            ticket_hash,
        )

    async def by_session(self, session: str) -> Order | None:
        """The order of a session id."""
        return _order(await self._pool.fetchrow("SELECT * FROM device_orders WHERE session = $1", session))

    async def by_ticket(self, ticket_hash: bytes) -> Order | None:
        """The snapshot order an upload address belongs to, while it runs."""
        row = await self._pool.fetchrow(
            "SELECT * FROM device_orders WHERE ticket_hash = $1 AND ended_at IS NULL", ticket_hash
        )
        return _order(row)

    async def order(self, key: str) -> Order | None:
        """One order."""
        return _order(await self._pool.fetchrow("SELECT * FROM device_orders WHERE order_key = $1", key))

    async def orders(self, device: DeviceKey) -> list[Order]:
        """The latest orders of a device, newest first."""
        rows = await self._pool.fetch(
            "SELECT * FROM device_orders WHERE device_key = $1 ORDER BY ordered_at DESC LIMIT $2", device, MAX_LISTED
        )
        return [found for row in rows if (found := _order(row)) is not None]

    async def due(self, *, before: float) -> list[Order]:
        """Orders that run."""
        rows = await self._pool.fetch(
            "SELECT * FROM device_orders WHERE ended_at IS NULL AND ordered_at <= $1 LIMIT 1000", before
        )
        return [found for row in rows if (found := _order(row)) is not None]

    async def announced(self, key: str, files: tuple[str, ...]) -> Order | None:
        """The device's notice came."""
        row = await self._pool.fetchrow(
            "UPDATE device_orders SET finished = true, files = $2, state = 'running' "
            "WHERE order_key = $1 AND ended_at IS NULL RETURNING *",
            key,
            list(files[:64]),
        )
        return _order(row)

    async def finish(
        self,
        key: str,
        state: OrderState,
        *,
        now: float,
        files: tuple[str, ...] | None = None,
        firmware: str | None = None,
        reason: str | None = None,
    ) -> Order | None:
        """End an order, once; None when it had ended."""
        row = await self._pool.fetchrow(
            "UPDATE device_orders SET state = $2, ended_at = $3, firmware = coalesce($4, firmware), reason = $5, "
            "files = coalesce($6, files) WHERE order_key = $1 AND ended_at IS NULL RETURNING *",
            key,
            state,
            now,
            firmware,
            reason,
            None if files is None else list(files),
        )
        return _order(row)

    async def keep(self, order: str, snapshot: Snapshot, *, limit: int) -> bool:
        """Note a picture; False when the order has as many as it may, or this one already."""
        status = await self._pool.execute(
            "INSERT INTO snapshots (snapshot_key, order_key, file_id, taken_at, received_at, media_type, size, sha256) "
            "SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE (SELECT count(*) FROM snapshots WHERE order_key = $2) < $9 "
            "ON CONFLICT (order_key, file_id) DO NOTHING",
            snapshot.key,
            order,
            snapshot.file_id,
            snapshot.taken_at,
            snapshot.received_at,
            snapshot.media_type,
            snapshot.size,
            snapshot.sha256,
            limit,
        )
        return str(status).endswith(" 1")

    async def uploaded(self, key: str) -> int:
        """How many pictures came for an order."""
        return int(await self._pool.fetchval("SELECT count(*) FROM snapshots WHERE order_key = $1", key))

    async def snapshots(self, key: str) -> list[Snapshot]:
        """The pictures of an order, in order of arrival."""
        rows = await self._pool.fetch("SELECT * FROM snapshots WHERE order_key = $1 ORDER BY received_at", key)
        return [
            Snapshot(
                key=row["snapshot_key"],
                file_id=row["file_id"],
                taken_at=row["taken_at"],
                received_at=row["received_at"],
                media_type=row["media_type"],
                size=row["size"],
                sha256=row["sha256"],
            )
            for row in rows
        ]


def _order(row: asyncpg.Record | None) -> Order | None:
    if row is None:
        return None
    return Order(
        key=row["order_key"],
        device=DeviceKey(row["device_key"]),
        channel=None if row["channel_key"] is None else ChannelKey(row["channel_key"]),
        kind=row["kind"],
        session=row["session"],
        state=row["state"],
        ordered_at=row["ordered_at"],
        ended_at=row["ended_at"],
        wanted=row["wanted"],
        finished=row["finished"],
        files=tuple(row["files"]),
        firmware=row["firmware"],
        reason=row["reason"],
    )
