"""Times as GB/T 28181 bodies and headers carry them: Beijing local time without a zone (§5.1 of annex A, §9.10)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

BEIJING: Final = timezone(timedelta(hours=8))
_TIME = re.compile(
    r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"(?:[T\s]\s*(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|z|[+-]\d{2}:?\d{2})?$",
    re.ASCII,
)


def parse(text: str) -> float | None:
    """Unix seconds of a dateTime in any spelling seen in the field; None when it is none.

    Accepts fractions, ``Z`` or ``+08:00``, a blank in place of ``T``, one-digit months to seconds and bare dates.
    Without a zone the time is Beijing time.
    """
    match = _TIME.match(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[i] or 0) for i in range(1, 7))
    micro = int((match[7] or "0")[:6].ljust(6, "0"))
    try:
        return datetime(year, month, day, hour, minute, second, micro, tzinfo=_zone(match[8])).timestamp()
    except (ValueError, OverflowError):
        return None


def _zone(text: str | None) -> timezone:
    if text is None:
        return BEIJING
    if text in "Zz":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)


def format_time(moment: float) -> str:
    """``YYYY-MM-DDThh:mm:ss`` in Beijing time, the form of MANSCDP bodies; fractions are cut."""
    return _local(moment).strftime("%Y-%m-%dT%H:%M:%S")


def format_date_header(moment: float) -> str:
    """``YYYY-MM-DDThh:mm:ss.SSS`` in Beijing time, the form of the ``Date`` header (§9.10.3)."""
    return _local(moment).isoformat(timespec="milliseconds")[:23]


def _local(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC).astimezone(BEIJING)
