"""Work that outlives its request: named, one of a name at a time, bounded, and cancelled when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger("mingjian.api")


class Background:
    """Holds the tasks; a fault in one becomes one log line."""

    def __init__(self, *, limit: int = 256) -> None:
        self._limit = limit
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> bool:
        """False, with `work` closed, when one of that name runs already or there are too many."""
        if name in self._tasks or len(self._tasks) >= self._limit:
            work.close()
            return False
        task = asyncio.create_task(self._run(name, work), name=name)
        self._tasks[name] = task

        def done(_: asyncio.Task[None]) -> None:
            self._tasks.pop(name, None)
            # a task that is cancelled before its first step never touched it
            work.close()

        task.add_done_callback(done)
        return True

    async def _run(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as error:
            log.error("background_failed", task=name, error=type(error).__name__, exc_info=error)

    async def settled(self) -> None:
        """Waits for what runs now."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Cancels everything and waits for it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
