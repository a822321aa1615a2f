"""Copies of a datagram just answered get the same answer again, without being parsed.

A fleet that comes back to a busy platform repeats itself before it is served; each copy that costs as much as the
first one makes the platform busier still. Only identical octets from the identical address count, for a few seconds;
everything later or slightly different is left to the transactions. Bounded by `limit` entries.
"""

from __future__ import annotations

from collections import deque

from sipserver.protocol.events import Flow

_WINDOW = 8.0  # seconds
_MAX_ANSWER = 2_048  # octets; larger answers are not kept


class Copies:
    """Answers by fingerprint of the datagram; b"" while the answer is being worked on."""

    def __init__(self, limit: int = 32_768) -> None:
        self._limit = limit
        self._answers: dict[int, tuple[float, bytes]] = {}
        self._order: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self._answers)

    @staticmethod
    def fingerprint(data: bytes, flow: Flow) -> int:
        """64 bits keyed by the process, so nobody outside can make two datagrams share one."""
        return hash((data, flow.remote))

    def answer(self, fingerprint: int, *, now: float) -> bytes | None:
        """The answer to the same datagram, b"" if it is still under way, None when it is new (or too long ago)."""
        known = self._answers.get(fingerprint)
        return known[1] if known is not None and now - known[0] < _WINDOW else None

    def keep(self, fingerprint: int, answer: bytes, *, now: float) -> None:
        """Remember what was answered, or with b"" that it is under way."""
        self._purge(now)
        if len(answer) > _MAX_ANSWER:
            self._answers.pop(fingerprint, None)
            return
        self._answers[fingerprint] = (now, answer)
        self._order.append((now, fingerprint))

    def _purge(self, now: float) -> None:
        order = self._order
        while order and (now - order[0][0] >= _WINDOW or len(order) >= 2 * self._limit):
            at, fingerprint = order.popleft()
            known = self._answers.get(fingerprint)
            if known is not None and known[0] == at:
                del self._answers[fingerprint]
