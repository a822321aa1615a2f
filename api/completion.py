"""The end of a lease: the view is over at once, its completion row follows, exactly once and never forgotten.

`Completion.on_lease_end` is what `LivePlay` calls for every lease it was ever given. It must not block, so the row is
written by a task; `finished` waits for that row, and `settled` for all of them before the process stops. When the
ledger is down the lease is over all the same, and `Sharing.renew_all` keeps trying to write its row.
"""

from __future__ import annotations

import asyncio

import structlog

from api.views import Views
from sharing.lease import Refusal, ViewStats
from sharing.ledger import LedgerUnavailableError
from sharing.service import Sharing
from sipserver.protocol.ids import LeaseKey

log = structlog.get_logger("mingjian.api")


class Completion:
    """Ties the end of leases to views and ledger. Tasks are bounded by the leases there are."""

    def __init__(self, *, sharing: Sharing, views: Views) -> None:
        self._sharing = sharing
        self._views = views
        self._writing: dict[LeaseKey, asyncio.Task[None]] = {}

    def on_lease_end(self, key: LeaseKey, reason: str, stats: ViewStats | None = None) -> None:
        """Ends the view and starts writing the row; for a lease that has ended before, nothing happens."""
        self._views.ended(key, reason)
        if key in self._writing:
            return
        task = asyncio.get_running_loop().create_task(self._write(key, reason, stats), name=f"complete:{key}")
        self._writing[key] = task
        task.add_done_callback(lambda _: self._writing.pop(key, None))

    def refused(self, key: LeaseKey, refusal: Refusal) -> None:
        """Ends the view because its lease was not renewed, so that the viewer learns the code and the articles.

        Call before the picture is cut: the first reason counts.
        """
        self._views.ended(key, refusal.code, refusal.articles)

    async def finished(self, key: LeaseKey) -> None:
        """Waits until the row of a lease that has ended is written, if it is being written."""
        task = self._writing.get(key)
        if task is not None:
            await asyncio.shield(task)

    async def settled(self) -> None:
        """Waits for every row under way."""
        await asyncio.gather(*self._writing.values())

    async def _write(self, key: LeaseKey, reason: str, stats: ViewStats | None) -> None:
        try:
            await self._sharing.complete(key, reason, stats)
        except LedgerUnavailableError:
            log.error("completion_not_recorded", lease=key, reason=reason)
        except Exception as error:
            log.error("completion_failed", lease=key, reason=reason, error=type(error).__name__, exc_info=error)
