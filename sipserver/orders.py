"""Orders that end with a notice of the device: snapshots (§9.14) and firmware upgrades (§9.13).

An order has a session id that travels to the device and comes back; it is durable, because an upgrading device goes
away and registers anew, and we may restart meanwhile. Pictures are uploaded to an address with a secret of its own,
good for one order: as many pictures as were ordered and a few more, for ``upload_seconds``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from catalog.events import DomainEvent, OrderEnded, UploadRequested
from catalog.orders import Order, OrderState
from sipserver.alarms import ChannelFinder
from sipserver.bindings import Bound
from sipserver.control import Controls
from sipserver.presence import Background
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId
from sipserver.protocol.manscdp import (
    DeviceConfig,
    DeviceUpgrade,
    SnapShotConfig,
    SnapshotFinished,
    UpgradeResult,
    VideoUploadNotify,
)
from sipserver.queries import QueryError

log = structlog.get_logger("mingjian.sip")

FAILURES: Final[dict[str, str]] = {
    "01": "download_timeout",
    "02": "package_damaged",
    "03": "system_error",
    "99": "other",
}


class OrderStore(Protocol):
    """What is needed of catalog.orders.Orders."""

    async def begin(self, order: Order, *, ticket_hash: bytes | None) -> None: ...
    async def by_session(self, session: str) -> Order | None: ...
    async def due(self, *, before: float) -> list[Order]: ...
    async def finish(
        self,
        key: str,
        state: OrderState,
        *,
        now: float,
        files: tuple[str, ...] | None = None,
        firmware: str | None = None,
        reason: str | None = None,
    ) -> Order | None: ...
    async def announced(self, key: str, files: tuple[str, ...]) -> Order | None: ...
    async def uploaded(self, key: str) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfig:
    """``upload_base`` is the address of the upload resource as devices reach it. Times in seconds."""

    upload_base: str = ""
    upload_seconds: float = 600.0
    upgrade_seconds: float = 3600.0
    grace: float = 30.0


class Orders:
    """Gives and ends orders."""

    def __init__(
        self,
        *,
        store: OrderStore,
        controls: Controls,
        channels: ChannelFinder,
        background: Background,
        clock: Callable[[], float],
        token: Callable[[int], str],
        publish: Callable[[DomainEvent], None],
        config: OrderConfig | None = None,
    ) -> None:
        self._store = store
        self._controls = controls
        self._channels = channels
        self._background = background
        self._clock = clock
        self._token = token
        self._publish = publish
        self.config = config or OrderConfig()
        self._due = 0.0

    async def snapshot(
        self, device: DeviceKey, channel: ChannelKey, gb_id: GbId, *, count: int, interval: int, base: str
    ) -> Order:
        """Order pictures, to be uploaded below ``base``. Raises QueryError, OutOfRangeError."""
        ticket = self._token(24)
        order = Order(
            key="ord_" + self._token(16),
            device=device,
            channel=channel,
            kind="snapshot",
            session=self._token(20),
            state="ordered",
            ordered_at=self._clock(),
            wanted=count,
        )
        config = SnapShotConfig(
            count=count, interval=interval, url=f"{base.rstrip('/')}/{ticket}", session=order.session
        )
        await self._store.begin(order, ticket_hash=hashlib.sha256(ticket.encode()).digest())
        await self._give(order, self._controls.configure(device, DeviceConfig(snapshot=config), target=gb_id))
        return order

    async def upgrade(self, device: DeviceKey, *, firmware: str, url: str, manufacturer: str) -> Order:
        """Order an upgrade. Raises QueryError, OutOfRangeError."""
        order = Order(
            key="ord_" + self._token(16),
            device=device,
            channel=None,
            kind="upgrade",
            session=self._token(20),
            state="ordered",
            ordered_at=self._clock(),
            firmware=firmware,
        )
        command = DeviceUpgrade(firmware=firmware, url=url, manufacturer=manufacturer, session=order.session)
        await self._store.begin(order, ticket_hash=None)
        await self._give(order, self._controls.upgrade(device, command))
        return order

    async def _give(self, order: Order, sending: object) -> None:
        try:
            await sending  # type: ignore[misc]
        except BaseException as error:
            reason = error.code if isinstance(error, QueryError) else "not_sent"
            await self._store.finish(order.key, "failed", now=self._clock(), reason=reason)
            raise

    # notices

    def snapshots_finished(self, bound: Bound, notice: SnapshotFinished) -> None:
        """The device says its pictures are uploaded."""
        self._background.spawn(self._snapshots_finished(bound, notice))

    async def _snapshots_finished(self, bound: Bound, notice: SnapshotFinished) -> None:
        order = await self._mine(bound, notice.session, "snapshot")
        if order is None:
            return
        await self._store.announced(order.key, notice.files)
        await self.look(order.session)

    async def look(self, session: str) -> None:
        """After a picture or a notice: the order ends when both are there (either may come first, SNP-05)."""
        order = await self._store.by_session(session)
        if order is None or order.over or not order.finished:
            return
        if len(order.files) < order.wanted:
            await self._end(order, "partial" if order.files else "failed", reason="fewer_than_ordered")
        elif await self._store.uploaded(order.key) >= order.wanted:
            await self._end(order, "done")

    def upgrade_result(self, bound: Bound, notice: UpgradeResult) -> None:
        """The device says how its upgrade ended, after it has registered anew."""
        self._background.spawn(self._upgrade_result(bound, notice))

    async def _upgrade_result(self, bound: Bound, notice: UpgradeResult) -> None:
        order = await self._mine(bound, notice.session, "upgrade")
        if order is None:
            return
        if notice.ok:
            await self._end(order, "done", firmware=notice.firmware)
        else:
            reason = FAILURES.get((notice.failure or "").strip().zfill(2), "other")
            await self._end(order, "failed", firmware=notice.firmware, reason=reason)

    def upload_requested(self, bound: Bound, notice: VideoUploadNotify) -> None:
        """A mobile device asks to have its picture fetched: who is on duty decides, so it is told and no more."""
        self._background.spawn(self._upload_requested(bound, notice))

    async def _upload_requested(self, bound: Bound, notice: VideoUploadNotify) -> None:
        found = await self._channels.channel_by_gb(bound.key, notice.device_id or bound.gb_id)
        self._publish(UploadRequested(device=bound.key, channel=found.key if found else None, at=self._clock()))

    async def tick(self, now: float) -> None:
        """End what has waited too long; looks at the store at most every five seconds."""
        if now < self._due:
            return
        self._due = now + 5.0
        for order in await self._store.due(before=now):
            age = now - order.ordered_at
            if order.kind == "upgrade":
                if age >= self.config.upgrade_seconds:
                    await self._end(order, "failed", reason="no_result")
            elif age >= self.config.upload_seconds:
                some = await self._store.uploaded(order.key)
                state: OrderState = "done" if some >= order.wanted else "partial" if some else "failed"
                await self._end(order, state, reason=None if state == "done" else "no_result")

    async def _mine(self, bound: Bound, session: str | None, kind: str) -> Order | None:
        order = await self._store.by_session(session) if session else None
        if order is None or order.device != bound.key or order.kind != kind:
            log.warning("notice_of_unknown_session", device=bound.key, kind=kind)
            return None
        return None if order.over else order

    async def _end(
        self, order: Order, state: OrderState, *, firmware: str | None = None, reason: str | None = None
    ) -> None:
        ended = await self._store.finish(order.key, state, now=self._clock(), firmware=firmware, reason=reason)
        if ended is not None:
            log.info("order_ended", device=order.device, kind=order.kind, state=state, reason=reason)
            self._publish(
                OrderEnded(order=order.key, device=order.device, channel=order.channel, at=self._clock(), state=state)
            )
