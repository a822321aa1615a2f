"""In-process fan-out of domain events to the live subscribers of the HTTP interface.

Live events may be lost (architecture section 2): a subscriber that does not keep up loses the oldest events and is told
so once with the number lost, and it never slows the publisher or another subscriber. Bounded by `limit` events per
subscriber and `subscribers` subscribers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, Final, Self

DEFAULT_QUEUE: Final = 256
DEFAULT_SUBSCRIBERS: Final = 512


class TooManySubscribers(Exception):
    """The bus already serves as many live clients as it is configured for."""


class BusClosed(Exception):
    """The platform is stopping; no more events will come."""


class Lagged:
    """Stands in a subscription for `lost` events that were dropped because the reader was too slow."""

    __slots__ = ("lost",)

    def __init__(self, lost: int) -> None:
        self.lost = lost

    def __repr__(self) -> str:
        return f"Lagged({self.lost})"


class Subscription:
    """One reader's bounded queue. Use as a context manager, so that leaving always frees the place."""

    def __init__(self, bus: EventBus, limit: int) -> None:
        self._bus = bus
        self._queue: deque[Any] = deque(maxlen=limit)
        self._lost = 0
        self._closed = False
        self._ready = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        self._ready.set()
        self._bus.forget(self)

    def offer(self, event: Any) -> None:
        """Called by the bus; never blocks, drops the oldest when full."""
        if len(self._queue) == self._queue.maxlen:
            self._lost += 1
        self._queue.append(event)
        self._ready.set()

    def wake_closed(self) -> None:
        self._closed = True
        self._ready.set()

    async def next(self) -> Any:
        """The next event, or `Lagged` first when some were dropped.

        Raises `BusClosed` once the bus or this subscription is closed and everything queued has been read.
        """
        while True:
            if self._lost:
                lost, self._lost = self._lost, 0
                return Lagged(lost)
            if self._queue:
                return self._queue.popleft()
            if self._closed:
                raise BusClosed
            self._ready.clear()
            await self._ready.wait()


class EventBus:
    """Publish from the event loop's thread; every current subscriber gets every event."""

    def __init__(self, *, limit: int = DEFAULT_QUEUE, subscribers: int = DEFAULT_SUBSCRIBERS) -> None:
        self._limit = limit
        self._max = subscribers
        self._readers: set[Subscription] = set()
        self._closed = False
        self.published = 0

    @property
    def subscribers(self) -> int:
        return len(self._readers)

    def publish(self, event: Any) -> None:
        self.published += 1
        for reader in tuple(self._readers):
            reader.offer(event)

    def subscribe(self) -> Subscription:
        """Raises `TooManySubscribers` or `BusClosed`."""
        if self._closed:
            raise BusClosed
        if len(self._readers) >= self._max:
            raise TooManySubscribers
        reader = Subscription(self, self._limit)
        self._readers.add(reader)
        return reader

    def forget(self, reader: Subscription) -> None:
        self._readers.discard(reader)

    def close(self) -> None:
        """Ends every live stream; call before the HTTP server waits for its connections at shutdown."""
        self._closed = True
        for reader in tuple(self._readers):
            reader.wake_closed()
        self._readers.clear()
