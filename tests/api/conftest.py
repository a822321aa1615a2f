"""Every test here runs under the product's own log set-up, and its log is searched for what must never be in one."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from ops import observe

# Raw texts that only a leak could bring here; tickets and tokens of the stand-ins have this form, too.
NEVER = re.compile(r"\d{18,}|/live/[\w-]{8}|Bearer [\w-]{8}|(?<![\w-])[\w-]{43}(?![\w-])")


@pytest.fixture(autouse=True)
def clean_log() -> Iterator[io.StringIO]:
    """The log of one test, unredacted: what redaction would hide must not get as far as redaction."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "redact", lambda logger, method, event: event)
        observe.configure(clock=lambda: 1_795_233_600.0, stream=out)
    yield out
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    assert NEVER.search(out.getvalue()) is None
