"""The one clock of the process: unix seconds that never run backwards when the system time is corrected."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


def system_clock() -> Clock:
    """Return a clock that starts at the system time and then advances with the monotonic timer."""
    offset = time.time() - time.monotonic()

    def now() -> float:
        return time.monotonic() + offset

    return now
