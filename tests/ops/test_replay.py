"""The shared nonce set: one use across nodes, and a clear sign when Valkey is away."""

from __future__ import annotations

from pathlib import Path

import pytest
from valkey.asyncio import Valkey

from ops.embedded import EmbeddedValkey
from ops.replay import ValkeyReplayGuard
from sipserver.registrar import ReplayGuardUnavailable


async def test_a_nonce_is_used_once_by_all_nodes_and_an_absent_server_is_said(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    await server.start()
    nodes = [Valkey.from_url(server.address().url(), socket_timeout=2) for _ in range(2)]
    guards = [ValkeyReplayGuard(node) for node in nodes]
    assert await guards[0].claim("one nonce")
    assert not await guards[1].claim("one nonce")
    assert await guards[1].claim("another nonce")
    keys = await nodes[0].keys("*")
    assert all(b"nonce" in key and b"one" not in key for key in keys)
    await server.stop()
    with pytest.raises(ReplayGuardUnavailable):
        await guards[0].claim("a third")
    for node in nodes:
        await node.aclose()
