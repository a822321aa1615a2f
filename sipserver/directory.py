"""Changes of a device's directory (annex N): states, additions, updates and deletions, in order and in batches.

Parts of one device may race each other in the field; here one worker a device applies what has gathered meanwhile, so
a burst of NOTIFYs costs a few writes. Bounded by ``MAX_PENDING`` items a device; beyond it the directory is asked for
as a whole instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

import structlog

from catalog.events import ChannelChanged, DomainEvent
from sipserver.bindings import Bound, Store
from sipserver.listing import listed
from sipserver.presence import Background
from sipserver.profiles import Profiles
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import CatalogItem

log = structlog.get_logger("mingjian.sip")

MAX_PENDING: Final = 50_000
Condition = Literal["on", "off", "vlost", "defect"]
#: Directory events that say how an object is; only "on" means that a picture can be had.
CONDITIONS: Final[dict[str, Condition]] = {"ON": "on", "OFF": "off", "VLOST": "vlost", "DEFECT": "defect"}


class Directory:
    """Applies changes. ``refresh(device)`` asks for the whole directory; ``on_condition`` hears of every state."""

    def __init__(
        self,
        store: Store,
        profiles: Profiles,
        background: Background,
        *,
        clock: Callable[[], float],
        publish: Callable[[DomainEvent], None],
        refresh: Callable[[DeviceKey], None],
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._background = background
        self._clock = clock
        self._publish = publish
        self._refresh = refresh
        self._pending: dict[DeviceKey, list[CatalogItem]] = {}
        self._working: set[DeviceKey] = set()

    def changed(self, bound: Bound, items: Iterable[CatalogItem], *, initial: bool = False) -> None:
        """A notice came. ``initial``: the first of a subscription; when it lists troubled objects only, all others
        are in order (§N.2.1.2)."""
        key = bound.key
        given = list(items)
        if self._profiles.of(key).flag("ignore_off"):
            given = [item for item in given if item.event != "OFF"]
        if len(self._pending.get(key, ())) + len(given) > MAX_PENDING:
            log.warning("directory_changes_dropped", device=key)
            self._pending.pop(key, None)
            self._refresh(key)
            return
        self._pending.setdefault(key, []).extend(given)
        if initial and given and all(item.event in ("OFF", "VLOST", "DEFECT") for item in given):
            troubled = frozenset(item.device_id for item in given if item.device_id is not None)
            self._background.spawn(self._assume_online(bound, troubled))
        if key not in self._working:
            self._working.add(key)
            self._background.spawn(self._work(key))

    async def _work(self, key: DeviceKey) -> None:
        try:
            while batch := self._pending.pop(key, None):
                await self._apply(key, batch)
        finally:
            self._working.discard(key)

    async def _apply(self, key: DeviceKey, items: list[CatalogItem]) -> None:
        """In order; neighbours of one sort go together."""
        position = 0
        while position < len(items):
            sort = _sort(items[position])
            end = position
            while end < len(items) and _sort(items[end]) == sort:
                end += 1
            batch = [item for item in items[position:end] if item.device_id is not None]
            position = end
            if sort == "state":
                await self._states(key, batch)
            elif sort == "delete":
                await self._store.remove_items(key, [i.device_id for i in batch if i.device_id], now=self._clock())
                self._refresh(key)  # what hung below them may have moved
            elif batch:
                await self._store.apply_catalog(key, listed(batch), complete=False, now=self._clock())

    async def _states(self, key: DeviceKey, items: Iterable[CatalogItem]) -> None:
        latest = {item.device_id: CONDITIONS[item.event] for item in items if item.device_id and item.event}
        now = self._clock()
        for gb_id, condition in latest.items():
            await self._store.note_condition(key, gb_id, condition, now=now)
        await self.set_online(key, {gb_id: condition == "on" for gb_id, condition in latest.items()})

    async def set_online(self, key: DeviceKey, states: dict[GbId, bool]) -> None:
        """Note that objects can or cannot give a picture, and tell who listens."""
        for gb_id, online in states.items():
            channel = await self._store.set_channel_online(key, gb_id, online)
            if channel is not None:
                self._publish(ChannelChanged(channel=channel.key, device=key, at=self._clock(), online=channel.online))

    async def _assume_online(self, bound: Bound, troubled: frozenset[GbId]) -> None:
        for gb_id in await self._store.offline_items(bound.key):
            if gb_id not in troubled:
                await self.set_online(bound.key, {gb_id: True})


def _sort(item: CatalogItem) -> Literal["state", "delete", "upsert"]:
    if item.event in CONDITIONS:
        return "state"
    return "delete" if item.event == "DEL" else "upsert"
