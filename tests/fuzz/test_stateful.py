"""Sequences over a bad network on a written clock (S5), and leaks planted to see them found."""

from __future__ import annotations

import pytest
import structlog

from sipserver.protocol.calls import Calls
from sipserver.protocol.transaction import Transaction
from sipserver.protocol.transaction_layer import TransactionLayer
from sipserver.transport import SipTransport
from tests.fuzz.stateful import sequence

SEQUENCES = 40
FIRST_SEED = 1_000


@pytest.mark.parametrize("block", range(4))
async def test_invariants_hold(block: int) -> None:
    each = SEQUENCES // 4
    for seed in range(FIRST_SEED + block * each, FIRST_SEED + (block + 1) * each):
        assert await sequence(seed) == "", f"seed {seed}"


async def found_within(count: int) -> str:
    with structlog.testing.capture_logs():
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            if fault := await sequence(seed, events=25):
                return fault
    return ""


async def test_control_a_leaked_transaction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    forget = TransactionLayer._forget
    count = 0

    def leaky(self: TransactionLayer, transaction: Transaction) -> None:
        nonlocal count
        count += 1
        if count % 20:
            forget(self, transaction)

    monkeypatch.setattr(TransactionLayer, "_forget", leaky)
    assert "left over" in await found_within(10)


async def test_control_a_call_that_ends_in_silence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SipTransport, "bye", lambda self, dialog, *, flow=None: "")
    monkeypatch.setattr(Calls, "peer_bye", lambda self, dialog, flow, *, now: True)
    assert "calls ended" in await found_within(10)


async def test_control_a_second_execution_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the memory of server transactions copies run again; a nonce used twice shows as a second final."""
    monkeypatch.setattr(TransactionLayer, "find_server", lambda self, key: None)
    monkeypatch.setattr("sipserver.protocol.copies.Copies.answer", lambda self, fingerprint, *, now: None)
    assert await found_within(30) != ""
