"""Requests that somebody awaits: from the transaction's name to its final response."""

from __future__ import annotations

import asyncio

from sipserver.protocol.errors import GbError
from sipserver.protocol.events import Event, ResponseReceived, TransactionTimedOut, TransportFailed
from sipserver.protocol.message import Response


class SipTimeout(GbError):
    """No final answer in time."""


class SipTransportError(GbError):
    """The request could not be sent, or its connection went away before the answer."""


class Exchanges:
    """Awaited transactions; bounded by the client transactions of the core."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Response]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def answer(self, transaction: str, seconds: float) -> Response:
        """Final response. Must be called in the turn in which the request was sent. Raises SipTimeout,
        SipTransportError."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = future
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise SipTimeout("no_answer") from error
        finally:
            self._waiting.pop(transaction, None)

    def take(self, event: Event) -> bool:
        """True when the event was for somebody who awaits."""
        if not isinstance(event, ResponseReceived | TransactionTimedOut | TransportFailed):
            return False
        future = self._waiting.get(event.transaction)
        if future is None:
            return False
        if future.done():
            return True
        if isinstance(event, ResponseReceived):
            if event.response.status >= 200:
                future.set_result(event.response)
        elif isinstance(event, TransactionTimedOut):
            future.set_exception(SipTimeout("no_answer"))
        else:
            future.set_exception(SipTransportError("connection_lost"))
        return True

    def fail_all(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SipTransportError("stopped"))
        self._waiting.clear()
