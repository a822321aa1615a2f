"""Quirk profiles and heartbeat settings of devices in memory, as the store has them; one entry a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from sipserver.protocol import quirks
from sipserver.protocol.ids import DeviceKey
from sipserver.protocol.quirks import DEFAULT, Profile, Value

log = structlog.get_logger("mingjian.sip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is kept of one device: switches an operator set, switches detected, its heartbeat (seconds, count)."""

    chosen: Mapping[str, Value] = field(default_factory=dict)
    detected: Mapping[str, Value] = field(default_factory=dict)
    heartbeat: tuple[int, int] | None = None


class SettingsStore(Protocol):
    """What is needed of catalog.settings.DeviceSettings."""

    async def settings(
        self,
    ) -> dict[DeviceKey, tuple[Mapping[str, Value], Mapping[str, Value], tuple[int, int] | None]]:
        """Everything there is: (chosen, detected, heartbeat) by device."""

    async def store_settings(
        self,
        key: DeviceKey,
        *,
        chosen: Mapping[str, Value],
        detected: Mapping[str, Value],
        heartbeat: tuple[int, int] | None,
    ) -> None:
        """Replace what is kept of one device."""


class Profiles:
    """``of`` is asked for every message sent, so it only looks into memory."""

    def __init__(self, store: SettingsStore | None = None) -> None:
        self._store = store
        self._settings: dict[DeviceKey, Settings] = {}
        self._profiles: dict[DeviceKey, Profile] = {}

    async def load(self) -> None:
        """Read everything, at start."""
        if self._store is None:
            return
        for key, (chosen, detected, heartbeat) in (await self._store.settings()).items():
            self._keep(key, Settings(chosen=_known(chosen), detected=_known(detected), heartbeat=heartbeat))

    def of(self, key: DeviceKey) -> Profile:
        """The profile of a device."""
        return self._profiles.get(key, DEFAULT)

    def settings(self, key: DeviceKey) -> Settings:
        """What is kept of a device."""
        return self._settings.get(key, Settings())

    def heartbeat(self, key: DeviceKey) -> tuple[int, int] | None:
        """(interval in seconds, misses) that the device was told, None for the platform's own."""
        found = self._settings.get(key)
        return found.heartbeat if found is not None else None

    async def choose(self, key: DeviceKey, values: Mapping[str, object]) -> Settings:
        """Replace the switches an operator set. Raises KeyError(name) for a bad one; nothing has changed then."""
        return await self._write(key, replace(self.settings(key), chosen=quirks.checked(values)))

    async def noticed(self, key: DeviceKey, manufacturer: str | None) -> None:
        """The device named its maker: what is known of that maker applies where nobody has chosen otherwise."""
        found = quirks.detect(manufacturer)
        before = self.settings(key)
        if found != before.detected:
            log.info("quirks_detected", device=key, switches=sorted(found))
            await self._write(key, replace(before, detected=found))

    async def told_heartbeat(self, key: DeviceKey, interval: int, count: int) -> None:
        """The device took new heartbeat settings (§9.6.1): its silence is judged by them from now on."""
        await self._write(key, replace(self.settings(key), heartbeat=(interval, count)))

    async def _write(self, key: DeviceKey, settings: Settings) -> Settings:
        if self._store is not None:
            await self._store.store_settings(
                key, chosen=settings.chosen, detected=settings.detected, heartbeat=settings.heartbeat
            )
        self._keep(key, settings)
        return settings

    def _keep(self, key: DeviceKey, settings: Settings) -> None:
        self._settings[key] = settings
        self._profiles[key] = Profile({**settings.detected, **settings.chosen})


def _known(values: Mapping[str, Value]) -> dict[str, Value]:
    """Stored switches that still exist and fit: an older or newer release may have had others."""
    return {name: value for name, value in values.items() if name in quirks.SWITCHES and _fits(name, value)}


def _fits(name: str, value: Value) -> bool:
    return quirks.SWITCHES[name].accepts(value)
