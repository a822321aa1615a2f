"""Keeps leases honest: decides again every few seconds, cuts what is refused, ends what nobody watches.

The engine cuts a lease by itself at `not_after`; this keeper is what moves that moment on. When the database is away
the decision cannot be made, nothing is renewed, and the pictures stop within the lease's thirty seconds (fail closed).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

import asyncpg
import structlog

from media.session import MediaError, MediaEvent, MediaPlane
from sharing.lease import Refusal, Renewals
from sharing.ledger import LedgerUnavailableError
from sipserver.protocol.ids import LeaseKey

log = structlog.get_logger("mingjian.leases")


class Renewing(Protocol):
    """The part of `sharing.service.Sharing` the keeper uses."""

    async def renew_all(self) -> Renewals: ...


class Closing(Protocol):
    """The part of `sipserver.play.LivePlay` the keeper uses."""

    async def close(self, lease_key: LeaseKey, *, reason: str) -> None: ...


class LeaseKeeper:
    """One task. `interval` seconds between decisions; a lease nobody watches for `unwatched` seconds ends."""

    def __init__(
        self,
        *,
        sharing: Renewing,
        play: Closing,
        media: MediaPlane,
        clock: Callable[[], float],
        refused: Callable[[LeaseKey, Refusal], None],
        interval: float = 4.0,
        unwatched: float = 45.0,
    ) -> None:
        self._sharing = sharing
        self._play = play
        self._media = media
        self._clock = clock
        self._refused = refused
        self._interval = interval
        self._unwatched = unwatched
        self._idle_since: dict[LeaseKey, float] = {}
        self._viewers: dict[LeaseKey, int] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="lease-keeper")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def rights_changed(self) -> None:
        """Somebody's rights have changed: decide about every open lease now, not in a few seconds."""
        self._wake.set()

    def on_media_event(self, event: MediaEvent) -> None:
        """Count the viewers of each lease."""
        if event.lease is None:
            return
        if event.kind == "viewer_opened":
            self._viewers[event.lease] = self._viewers.get(event.lease, 0) + 1
            self._idle_since.pop(event.lease, None)
        elif event.kind == "viewer_closed":
            left = self._viewers.get(event.lease, 1) - 1
            self._viewers[event.lease] = left
            if left <= 0:
                self._viewers.pop(event.lease, None)
                self._idle_since[event.lease] = self._clock()

    def forget(self, lease: LeaseKey) -> None:
        """The lease is over."""
        self._viewers.pop(lease, None)
        self._idle_since.pop(lease, None)

    async def round(self) -> None:
        """Decide once about every open lease."""
        renewals = await self._sharing.renew_all()
        for lease, refusal in renewals.refused:
            log.warning("lease_revoked", lease=lease.key, code=refusal.code)
            self._refused(lease.key, refusal)
            await self._play.close(lease.key, reason=refusal.code)
        now = self._clock()
        for lease in renewals.renewed:
            idle = self._idle_since.get(lease.key)
            if idle is None and not self._viewers.get(lease.key):
                idle = self._idle_since.setdefault(lease.key, now)
            if idle is not None and now - idle >= self._unwatched:
                await self._play.close(lease.key, reason="unwatched")
                continue
            try:
                self._media.renew(lease.key, lease.not_after, audio=lease.audio)
            except MediaError as error:
                if error.code not in ("unknown", "lease_over"):  # not yet granted, or just cut: nothing to move
                    raise

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._interval)
            self._wake.clear()
            try:
                await self.round()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, LedgerUnavailableError) as error:
                log.error("leases_not_renewed", error=type(error).__name__)
            except Exception as error:  # it must outlive any fault; the leases end by themselves
                log.error("lease_keeper_failed", error=type(error).__name__, exc_info=error)
