"""Group commit: what is asked for at the same time is done in one round trip, and each asker gets his own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Batcher(Generic[K, V]):
    """Gathers the calls of `ask` into calls of `work`, one at a time, at most `limit` items each.

    Alone, an item waits for nothing; while others come, batches start `pause` seconds apart, so that a storm costs
    fewer round trips instead of more. `work` gives one result an item, in order. When it fails with one of `alone`,
    each item is done again by itself: one bad item must not fail the others. Bounded by those who wait.
    """

    def __init__(
        self,
        work: Callable[[Sequence[K]], Awaitable[Sequence[V]]],
        *,
        limit: int = 256,
        pause: float = 0.01,
        alone: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._limit = limit
        self._pause = pause
        self._alone = alone
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, item: K) -> V:
        """The result for one item; raises what `work` raises for it. May be cancelled; the batch goes on."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V] = loop.create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._do(batch)
                if len(self._waiting) < self._limit:
                    await asyncio.sleep(self._pause)
        finally:
            self._running = None
            for _, future in self._waiting:  # only when cancelled at shutdown
                future.cancel()
            self._waiting = []

    async def _do(self, batch: list[tuple[K, asyncio.Future[V]]]) -> None:
        batch = [(item, future) for item, future in batch if not future.done()]
        if not batch:
            return
        try:
            results = await self._work([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to those who wait for the result
            if len(batch) == 1 or not isinstance(error, self._alone):
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for one in batch:
                    await self._do([one])
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
