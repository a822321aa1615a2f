"""The catalog in PostgreSQL: devices, their bindings, their channels and the three trees over them."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import asyncpg
import structlog

from catalog.apply import apply_items
from catalog.batching import Batcher
from catalog.listing import MAX_NAME, clean, fit_all
from catalog.model import (
    Binding,
    CatalogChange,
    Channel,
    ChannelFilter,
    Device,
    DeviceInfo,
    DeviceKind,
    ListedItem,
    NodeKey,
    Page,
    TreeMode,
    TreeNode,
)
from catalog.reads import MAX_PAGE, check_cursor, like, read_channel, read_channels, read_tree
from catalog.secrets import SecretBox
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId, Kind, new_key

log = structlog.get_logger("mingjian.catalog")

MAX_ITEMS = 500_000
"""Most items of one device's catalogue; far above what a city lists, far below what would hurt."""

_KINDS = {Kind.CAMERA: DeviceKind.IPC, Kind.DEVICE: DeviceKind.NVR, Kind.PLATFORM: DeviceKind.PLATFORM}


# The rows are locked in one order, so that two nodes cannot wait for each other.
_BIND = (
    "WITH given AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::int[], "
    "$7::text[], $8::text[], $9::float8[], $10::float8[], $11::text[]) AS g (device_key, transport, remote_host, "
    "remote_port, local_host, local_port, contact, call_id, registered_at, expires_at, gb_version)), "
    "before AS (SELECT device_key, online FROM devices WHERE device_key = ANY($1::text[]) AND removed_at IS NULL "
    "ORDER BY device_key FOR UPDATE) "
    "UPDATE devices d SET online = true, last_seen_at = greatest(g.registered_at, d.last_seen_at), "
    "transport = g.transport, remote_host = g.remote_host, remote_port = g.remote_port, local_host = g.local_host, "
    "local_port = g.local_port, contact = g.contact, call_id = g.call_id, registered_at = g.registered_at, "
    "expires_at = g.expires_at, gb_version = g.gb_version FROM before b JOIN given g USING (device_key) "
    "WHERE d.device_key = b.device_key RETURNING d.device_key, b.online"
)


class DuplicateDeviceError(Exception):
    """The address code is already provisioned (HTTP 409)."""


class UnknownDeviceError(Exception):
    """There is no such device (HTTP 404)."""


class CatalogTooLargeError(Exception):
    """A peer listed more than MAX_ITEMS items; nothing was stored."""


class CatalogStore:
    """All reads and writes of the catalog. Every method may raise `asyncpg.PostgresError` or `OSError` when it is down.

    `within`, where a method has it, bounds the answer to the subtrees under those roots (device, channel or division
    keys): None means everything, an empty sequence means nothing. What lies outside is absent, not refused.
    """

    def __init__(self, pool: asyncpg.Pool, *, box: SecretBox, token: Callable[[int], str] = secrets.token_hex) -> None:
        self._pool = pool
        self._box = box
        self._token = token
        self._lookups: Batcher[GbId, asyncpg.Record | None] = Batcher(self._rows_by_gb)
        self._binds: Batcher[tuple[DeviceKey, Binding], bool | None] = Batcher(
            self._bind_all, alone=(asyncpg.DataError,)
        )

    # Devices

    async def provision_device(
        self, gb_id: GbId, *, name: str, password: str | None, now: float, media_transport: str | None = None
    ) -> Device:
        """Admit a device to registration. An IPC (type 131/132) gets its own channel at once.

        `password` None leaves it without credential of its own. Raises DuplicateDeviceError.
        """
        key = DeviceKey(new_key("dev", self._token))
        sealed = None if password is None else self._box.seal(password, context=key)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    "INSERT INTO devices (device_key, gb_id, name, kind, media_transport, credential, created_at) "
                    "VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    key,
                    gb_id.value,
                    _name(name),
                    device_kind(gb_id).value,
                    media_transport,
                    sealed,
                    now,
                )
                if device_kind(gb_id) is DeviceKind.IPC:
                    await apply_items(connection, key, [], complete=True, now=now, token=self._token)
                    await connection.execute(
                        "UPDATE devices SET catalog_synced_at = NULL, catalog_complete = NULL WHERE device_key = $1",
                        key,
                    )
        except asyncpg.UniqueViolationError:
            raise DuplicateDeviceError("this address code is provisioned already") from None
        return await self._required(key)

    async def update_device(
        self,
        key: DeviceKey,
        *,
        name: str | None = None,
        password: str | None = None,
        media_transport: str | None = None,
    ) -> Device:
        """Change what is given, leave the rest. Raises UnknownDeviceError."""
        sealed = None if password is None else self._box.seal(password, context=key)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "UPDATE devices SET name = coalesce($2, name), credential = coalesce($3, credential), "
                "media_transport = coalesce($4, media_transport) WHERE device_key = $1 AND removed_at IS NULL",
                key,
                None if name is None else _name(name),
                sealed,
                media_transport,
            )
            if name is not None:
                await connection.execute(
                    "UPDATE channels SET name = $2, digest = '' WHERE device_key = $1 AND own AND removed_at IS NULL",
                    key,
                    _name(name),
                )
        return await self._required(key)

    async def remove_device(self, key: DeviceKey, *, now: float) -> None:
        """Withdraw a device, its binding and channels; keys in the ledger stay valid. Raises UnknownDeviceError."""
        async with self._pool.acquire() as connection, connection.transaction():
            gone = await connection.fetchval(
                "UPDATE devices SET removed_at = $2, online = false, credential = NULL, contact = NULL, "
                "remote_host = NULL, call_id = NULL WHERE device_key = $1 AND removed_at IS NULL RETURNING true",
                key,
                now,
            )
            if not gone:
                raise UnknownDeviceError("no such device")
            await connection.execute(
                "UPDATE channels SET removed_at = $2, changed_at = $2 WHERE device_key = $1 AND removed_at IS NULL",
                key,
                now,
            )
            await connection.execute(
                "DELETE FROM tree_edges e USING channels c WHERE c.device_key = $1 AND e.child_key = c.channel_key", key
            )

    async def device(self, key: DeviceKey) -> Device | None:
        """One device, or None."""
        row = await self._pool.fetchrow("SELECT * FROM devices WHERE device_key = $1 AND removed_at IS NULL", key)
        return None if row is None else _device(row)

    async def device_by_gb(self, gb_id: GbId) -> Device | None:
        """The device with that address code, or None."""
        row = await self._pool.fetchrow("SELECT * FROM devices WHERE gb_id = $1 AND removed_at IS NULL", gb_id.value)
        return None if row is None else _device(row)

    async def devices(self, *, cursor: str | None = None, limit: int = 100, text: str | None = None) -> Page[Device]:
        """Devices in order of name, at most 500 a page. Raises ValueError for a cursor that is not ours."""
        limit = max(1, min(limit, MAX_PAGE))
        after = None
        if check_cursor(cursor) is not None:
            after = await self._pool.fetchval("SELECT name FROM devices WHERE device_key = $1", cursor)
            if after is None:
                raise ValueError("the cursor is not one of ours")
        rows = await self._pool.fetch(
            "SELECT * FROM devices WHERE removed_at IS NULL AND ($1::text IS NULL OR (name, device_key) > ($1, $2)) "
            "AND ($3::text IS NULL OR name ILIKE $3) ORDER BY name, device_key LIMIT $4",
            after,
            cursor,
            like(text),
            limit + 1,
        )
        items = tuple(_device(row) for row in rows[:limit])
        return Page(items=items, cursor=items[-1].key if len(rows) > limit else None)

    async def credential(self, gb_id: GbId) -> str | None:
        """The registration password of a device, or None when it is unknown or has none. Raises SecretBoxError."""
        row = await self._pool.fetchrow(
            "SELECT device_key, credential FROM devices WHERE gb_id = $1 AND removed_at IS NULL", gb_id.value
        )
        if row is None or row["credential"] is None:
            return None
        return self._box.open(row["credential"], context=row["device_key"])

    async def registrant(self, gb_id: GbId) -> tuple[Device | None, str | None]:
        """`device_by_gb` and `credential` in one look, shared with others who look at the same time."""
        row = await self._lookups.ask(gb_id)
        if row is None:
            return None, None
        sealed = row["credential"]
        return _device(row), None if sealed is None else self._box.open(sealed, context=row["device_key"])

    async def _rows_by_gb(self, gb_ids: Sequence[GbId]) -> list[asyncpg.Record | None]:
        rows = await self._pool.fetch(
            "SELECT * FROM devices WHERE gb_id = ANY($1::text[]) AND removed_at IS NULL", [one.value for one in gb_ids]
        )
        found = {row["gb_id"]: row for row in rows}
        return [found.get(one.value) for one in gb_ids]

    # Bindings

    async def bind(self, key: DeviceKey, binding: Binding) -> bool:
        """Store where the device is; durable on return. True when it was offline before. Raises UnknownDeviceError.

        Bindings that come at the same time share one transaction.
        """
        was_online = await self._binds.ask((key, binding))
        if was_online is None:
            raise UnknownDeviceError("no such device")
        return not was_online

    async def _bind_all(self, given: Sequence[tuple[DeviceKey, Binding]]) -> list[bool | None]:
        """Whether each device was online before; None for those that do not exist. Of two for one device the last."""
        last = dict(given)
        rows = await self._pool.fetch(_BIND, *zip(*(_bind_row(key, one) for key, one in last.items()), strict=True))
        before = {row["device_key"]: row["online"] for row in rows}
        return [before.get(key) for key, _ in given]

    async def touch(self, seen: Mapping[DeviceKey, float]) -> None:
        """Note when devices were last heard of (keepalives, in batches)."""
        if seen:
            await self._pool.execute(
                "UPDATE devices d SET last_seen_at = s.at FROM unnest($1::text[], $2::float8[]) AS s (key, at) "
                "WHERE d.device_key = s.key AND (d.last_seen_at IS NULL OR d.last_seen_at < s.at)",
                list(seen),
                list(seen.values()),
            )

    async def offline(self, key: DeviceKey, *, now: float) -> bool:
        """Forget the binding. True when the device was online before. `last_seen_at` stays what it was."""
        status = await self._pool.execute(
            "UPDATE devices SET online = false, expires_at = $2 WHERE device_key = $1 AND online", key, now
        )
        return str(status) == "UPDATE 1"

    async def bindings(self) -> list[tuple[DeviceKey, GbId, Binding, float]]:
        """Every online device: key, address code, binding, last seen (for recovery after a restart)."""
        rows = await self._pool.fetch("SELECT * FROM devices WHERE online AND removed_at IS NULL ORDER BY device_key")
        found = []
        for row in rows:
            device = _device(row)
            if device.binding is not None:
                seen = device.last_seen_at or device.binding.registered_at
                found.append((device.key, device.gb_id, device.binding, seen))
        return found

    async def set_device_info(self, key: DeviceKey, info: DeviceInfo) -> None:
        """Keep the answer to a DeviceInfo query; fields that are None leave what is known."""
        await self._pool.execute(
            "UPDATE devices SET manufacturer = coalesce($2, manufacturer), model = coalesce($3, model), "
            "firmware = coalesce($4, firmware), info_channels = coalesce($5, info_channels), "
            "info_name = coalesce($6, info_name) WHERE device_key = $1",
            key,
            clean(info.manufacturer),
            clean(info.model),
            clean(info.firmware),
            None if info.channel_count is None else max(0, min(info.channel_count, 2**31 - 1)),
            clean(info.device_name, limit=MAX_NAME),
        )

    # Channels

    async def apply_catalog(
        self, key: DeviceKey, items: Iterable[ListedItem], *, complete: bool, now: float
    ) -> CatalogChange:
        """Store a catalogue answer in one transaction. Channels absent from it are removed only if it is `complete`.

        Raises UnknownDeviceError, CatalogTooLargeError.
        """
        found, repeated = await asyncio.to_thread(fit_all, items)
        if len(found) > MAX_ITEMS:
            raise CatalogTooLargeError(f"a catalogue is limited to {MAX_ITEMS} items")
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                change = await apply_items(connection, key, found, complete=complete, now=now, token=self._token)
        except LookupError:
            raise UnknownDeviceError("no such device") from None
        log.info(
            "catalog_applied",
            device=key,
            complete=complete,
            total=change.total,
            added=change.added,
            changed=change.changed,
            removed=change.removed,
            repeated=repeated,
            orphans=change.orphans,
            broken_cycles=change.broken_cycles,
        )
        return change

    async def channel(self, key: ChannelKey, *, within: Sequence[NodeKey] | None = None) -> Channel | None:
        """One channel, or None when it does not exist or lies outside `within`."""
        return await read_channel(self._pool, key, within)

    async def channels(
        self,
        wanted: ChannelFilter | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        within: Sequence[NodeKey] | None = None,
    ) -> Page[Channel]:
        """Channels by name, at most 500 a page. Raises ValueError for a cursor that is not ours."""
        return await read_channels(self._pool, wanted or ChannelFilter(), cursor=cursor, limit=limit, within=within)

    async def channel_by_gb(self, device: DeviceKey, gb_id: GbId) -> Channel | None:
        """The channel a device knows by that address code, or None."""
        key = await self._pool.fetchval(
            "SELECT channel_key FROM channels WHERE device_key = $1 AND gb_id = $2 AND removed_at IS NULL",
            device,
            gb_id.value,
        )
        return None if key is None else await self.channel(ChannelKey(key))

    async def set_channel_online(self, device: DeviceKey, gb_id: GbId, online: bool) -> Channel | None:
        """Note an item's own state (Catalog notification ON/OFF); the channel when that changed anything."""
        key = await self._pool.fetchval(
            "UPDATE channels SET online = $3, digest = '' WHERE device_key = $1 AND gb_id = $2 AND removed_at IS NULL "
            "AND online <> $3 RETURNING channel_key",
            device,
            gb_id.value,
            online,
        )
        return None if key is None else await self.channel(ChannelKey(key))

    async def note_condition(
        self, device: DeviceKey, gb_id: GbId, condition: Literal["on", "off", "vlost", "defect"], *, now: float
    ) -> None:
        """Keep what a directory event said of an object (see DeviceSettings.state)."""
        await self._pool.execute(
            "INSERT INTO object_states (device_key, gb_id, condition, at) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (device_key, gb_id) DO UPDATE SET condition = $3, at = $4",
            device,
            gb_id.value,
            condition,
            now,
        )

    async def offline_items(self, device: DeviceKey) -> list[GbId]:
        """Address codes of a device's items whose own state is off."""
        rows = await self._pool.fetch(
            "SELECT gb_id FROM channels WHERE device_key = $1 AND removed_at IS NULL AND NOT online", device
        )
        return [GbId(row["gb_id"]) for row in rows]

    async def remove_items(self, device: DeviceKey, gb_ids: Iterable[GbId], *, now: float) -> int:
        """Withdraw items a device says it has no more (directory event DEL); how many there were. Their keys stay
        readable in the ledger, and what hung below them is placed anew with the next answer."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "UPDATE channels SET removed_at = $3, changed_at = $3 WHERE device_key = $1 "
                "AND gb_id = ANY($2::text[]) AND removed_at IS NULL AND NOT own RETURNING channel_key",
                device,
                [gb_id.value for gb_id in gb_ids],
                now,
            )
            keys = [row["channel_key"] for row in rows]
            if keys:
                await connection.execute("DELETE FROM tree_edges WHERE child_key = ANY($1::text[])", keys)
                await connection.execute(
                    "UPDATE devices SET playable_count = (SELECT count(*) FROM channels WHERE device_key = $1 "
                    "AND removed_at IS NULL AND playable) WHERE device_key = $1",
                    device,
                )
        return len(keys)

    async def tree(
        self,
        parent: NodeKey | None = None,
        *,
        mode: TreeMode = "device",
        cursor: str | None = None,
        limit: int = 500,
        within: Sequence[NodeKey] | None = None,
    ) -> Page[TreeNode]:
        """The children of a node (None: the top) in one of the three trees of annex J.

        With `within` the top is those roots themselves. A parent that does not exist or lies outside has no children.
        Raises ValueError for a cursor that is not ours.
        """
        return await read_tree(self._pool, parent, mode=mode, cursor=cursor, limit=limit, within=within)

    async def _required(self, key: DeviceKey) -> Device:
        device = await self.device(key)
        if device is None:
            raise UnknownDeviceError("no such device")
        return device


def device_kind(gb_id: GbId) -> DeviceKind:
    """What registers under that address code, by its type."""
    return _KINDS.get(gb_id.classify(), DeviceKind.OTHER)


def _bind_row(key: DeviceKey, binding: Binding) -> tuple[object, ...]:
    return (
        *(key, binding.transport, *binding.remote, *binding.local),
        *(clean(binding.contact), clean(binding.call_id), binding.registered_at, binding.expires_at),
        clean(binding.version, limit=32),
    )


def _name(name: str) -> str:
    return clean(name, limit=MAX_NAME) or "未命名"


def _device(row: asyncpg.Record) -> Device:
    binding = None
    if row["online"] and row["transport"] is not None:
        binding = Binding(
            transport=row["transport"],
            remote=(row["remote_host"], row["remote_port"]),
            local=(row["local_host"], row["local_port"]),
            contact=row["contact"],
            call_id=row["call_id"],
            registered_at=row["registered_at"],
            expires_at=row["expires_at"],
            version=row["gb_version"],
        )
    return Device(
        key=DeviceKey(row["device_key"]),
        gb_id=GbId(row["gb_id"]),
        name=row["name"],
        kind=DeviceKind(row["kind"]),
        media_transport=row["media_transport"],
        has_password=row["credential"] is not None,
        online=row["online"],
        created_at=row["created_at"],
        last_seen_at=row["last_seen_at"],
        binding=binding,
        info=DeviceInfo(
            manufacturer=row["manufacturer"],
            model=row["model"],
            firmware=row["firmware"],
            channel_count=row["info_channels"],
            device_name=row["info_name"],
        ),
        channel_count=row["playable_count"],
        catalog_synced_at=row["catalog_synced_at"],
        catalog_complete=row["catalog_complete"],
    )
