"""Alarms, positions, object states and orders in memory, with the promises of their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from catalog.alarms import AlarmEntry, AlarmReport, Alarms
from catalog.model import NodeKey, Page
from catalog.orders import Order, Orders, OrderState, Snapshot
from catalog.positions import Fix, Positions
from catalog.settings import DeviceSettings, ObjectState, WantedSubscription
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId
from sipserver.protocol.quirks import Value


class MemoryAlarms(Alarms):
    def __init__(self) -> None:
        self.entries: list[AlarmEntry] = []

    async def report(self, report: AlarmReport, *, now: float) -> tuple[AlarmEntry, bool]:
        for place, entry in enumerate(self.entries):
            same = replace(entry.report, at=report.at) == report
            if same and entry.acknowledged_at is None and now - entry.last_at <= 30:
                self.entries[place] = replace(entry, count=entry.count + 1, last_at=now)
                return self.entries[place], False
        made = AlarmEntry(
            key=f"alm_{len(self.entries)}",
            report=report,
            received_at=now,
            last_at=now,
            count=1,
            acknowledged_at=None,
            acknowledged_by=None,
            note=None,
        )
        self.entries.append(made)
        return made, True

    async def alarm(self, key: str, *, within: Sequence[NodeKey] | None = None) -> AlarmEntry | None:
        return next((entry for entry in self.entries if entry.key == key), None)

    async def alarms(self, **wanted: Any) -> Page[AlarmEntry]:
        return Page(items=tuple(reversed(self.entries)), cursor=None)

    async def acknowledge(self, key: str, *, by: str, note: str | None, now: float) -> AlarmEntry | None:
        for place, entry in enumerate(self.entries):
            if entry.key == key and entry.acknowledged_at is None:
                self.entries[place] = replace(entry, acknowledged_at=now, acknowledged_by=by, note=note)
        return await self.alarm(key)


class MemoryPositions(Positions):
    def __init__(self) -> None:
        self.fixes: list[tuple[DeviceKey, Fix]] = []

    async def store(self, device: DeviceKey, fixes: Iterable[Fix]) -> None:
        self.fixes += [(device, fix) for fix in fixes]

    async def latest(self, device: DeviceKey, gb_id: GbId) -> Fix | None:
        mine = [fix for key, fix in self.fixes if key == device and fix.gb_id == gb_id]
        return max(mine, key=lambda fix: fix.at, default=None)

    async def track(self, device: DeviceKey, gb_id: GbId, *, since: float, until: float) -> list[Fix]:
        return [fix for key, fix in self.fixes if key == device and fix.gb_id == gb_id and since <= fix.at < until]


class MemorySettings(DeviceSettings):
    def __init__(self) -> None:
        self.states: dict[tuple[DeviceKey, GbId], ObjectState] = {}
        self.kept: dict[DeviceKey, tuple[Mapping[str, Value], Mapping[str, Value], tuple[int, int] | None]] = {}
        self.wanted: dict[DeviceKey, list[WantedSubscription]] = {}

    async def settings(
        self,
    ) -> dict[DeviceKey, tuple[Mapping[str, Value], Mapping[str, Value], tuple[int, int] | None]]:
        return dict(self.kept)

    async def store_settings(
        self,
        key: DeviceKey,
        *,
        chosen: Mapping[str, Value],
        detected: Mapping[str, Value],
        heartbeat: tuple[int, int] | None,
    ) -> None:
        self.kept[key] = (chosen, detected, heartbeat)

    async def want_subscriptions(self, key: DeviceKey, wanted: list[WantedSubscription]) -> None:
        self.wanted[key] = wanted

    async def note_duty(self, key: DeviceKey, gb_id: GbId, armed: bool, *, now: float) -> None:
        self.states[(key, gb_id)] = replace(self.states.get((key, gb_id), ObjectState()), armed=armed, at=now)

    async def note_view(self, key: DeviceKey, gb_id: GbId, view: Mapping[str, float], *, now: float) -> None:
        self.states[(key, gb_id)] = replace(self.states.get((key, gb_id), ObjectState()), view=view, at=now)


class MemoryOrders(Orders):
    def __init__(self) -> None:
        self.rows: dict[str, Order] = {}
        self.tickets: dict[bytes, str] = {}
        self.pictures: dict[str, list[Snapshot]] = {}

    async def begin(self, order: Order, *, ticket_hash: bytes | None) -> None:
        self.rows[order.key] = order
        if ticket_hash is not None:
            self.tickets[ticket_hash] = order.key

    async def by_session(self, session: str) -> Order | None:
        return next((order for order in self.rows.values() if order.session == session), None)

    async def by_ticket(self, ticket_hash: bytes) -> Order | None:
        order = self.rows.get(self.tickets.get(ticket_hash, ""))
        return order if order is not None and not order.over else None

    async def order(self, key: str) -> Order | None:
        return self.rows.get(key)

    async def orders(self, device: DeviceKey) -> list[Order]:
        return [order for order in self.rows.values() if order.device == device]

    async def due(self, *, before: float) -> list[Order]:
        return [order for order in self.rows.values() if not order.over]

    async def announced(self, key: str, files: tuple[str, ...]) -> Order | None:
        self.rows[key] = replace(self.rows[key], finished=True, files=files, state="running")
        return self.rows[key]

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
        if self.rows[key].over:
            return None
        before = self.rows[key]
        self.rows[key] = replace(before, state=state, ended_at=now, firmware=firmware or before.firmware, reason=reason)
        return self.rows[key]

    async def keep(self, order: str, snapshot: Snapshot, *, limit: int) -> bool:
        kept = self.pictures.setdefault(order, [])
        if len(kept) >= limit or any(one.file_id == snapshot.file_id for one in kept):
            return False
        kept.append(snapshot)
        return True

    async def uploaded(self, key: str) -> int:
        return len(self.pictures.get(key, ()))

    async def snapshots(self, key: str) -> list[Snapshot]:
        return list(self.pictures.get(key, ()))


def any_channel() -> ChannelKey:
    """A key that stands for no channel of a store."""
    return ChannelKey("chn_" + "b" * 20)
