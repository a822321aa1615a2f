"""Keeping one bad event from stopping the others: failures of handlers are logged, counted, answered 500; no more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from sipserver.protocol.events import Event, ProtocolFault, RequestReceived

log = structlog.get_logger("mingjian.sip")

_FAULT_LOG_INTERVAL = 1.0  # seconds; a flood of rubbish is one line a second
_MAX_TASKS = 10_000

Answer = Callable[..., bool]


class Containment:
    """Runs handlers. `counters`: handler_failures, tasks_refused, faults. `answer(transaction, status, headers=…)`."""

    def __init__(self, *, clock: Callable[[], float], counters: Counter[str], answer: Answer) -> None:
        self._clock = clock
        self._counters = counters
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: Counter[str] = Counter()
        self._faults_logged = 0.0

    def handle(self, handler: Callable[[Event], None], event: Event) -> None:
        """Call the handler; what it raises ends here."""
        try:
            handler(event)
        except Exception as error:  # noqa: BLE001 - one event may not stop the others; logged, counted, answered
            self._failed(event, error)

    def run(self, event: RequestReceived, work: Coroutine[Any, Any, None]) -> None:
        """Deal with a request in a task of its own; over 10 000 tasks it is answered 503."""
        if len(self._tasks) >= _MAX_TASKS:
            work.close()
            self._counters["tasks_refused"] += 1
            self._answer(event.transaction, 503, headers=(("Retry-After", "10"),))
            return
        task = asyncio.get_running_loop().create_task(self._contained(event, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End every task."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def note_fault(self, fault: ProtocolFault) -> None:
        """Count a peer's fault; at most one log line a second."""
        self._faults[fault.error.reason] += 1
        self._counters["faults"] += 1
        now = self._clock()
        if now - self._faults_logged >= _FAULT_LOG_INTERVAL:
            log.warning("sip_faults", reasons=dict(self._faults), call_id=fault.call_id, status=fault.status_sent)
            self._faults.clear()
            self._faults_logged = now

    async def _contained(self, event: RequestReceived, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - one request may not stop the others; logged, counted, answered
            self._failed(event, error)

    def _failed(self, event: Event, error: Exception) -> None:
        self._counters["handler_failures"] += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
        call_id = event.request.call_id if isinstance(event, RequestReceived) else None
        # The error's text may quote the message, and so address codes: its type and place are enough to find it.
        log.error(
            "sip_handler_failed", event_kind=type(event).__name__, call_id=call_id, error=type(error).__name__, at=where
        )
        if isinstance(event, RequestReceived):
            self._answer(event.transaction, 500)
