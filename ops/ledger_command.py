"""`mingjian ledger verify` and `ledger root`: the ledger recomputed, whether or not the platform runs."""

from __future__ import annotations

from typing import Any

from ops.clock import system_clock
from ops.config import Config
from ops.storage import open_database
from sharing.ledger import Ledger, TreeHead


async def verify(config: Config, *, root: str, size: int) -> tuple[bool, dict[str, Any]]:
    """Recompute every leaf and root; compare with what is stored and, if given, with a root kept elsewhere."""
    remembered = TreeHead(size=size, root=bytes.fromhex(root)) if root else None
    async with open_database(config) as pool:
        result = await Ledger(pool, clock=system_clock()).verify(remembered=remembered)
    fact = {"ok": result.ok, "size": result.head.size, "root": result.head.root.hex()}
    if not result.ok:
        fact |= {"first_bad": result.first_bad, "fault": result.fault}
    return result.ok, fact


async def head(config: Config) -> dict[str, Any]:
    """Size and root as they are now."""
    async with open_database(config) as pool:
        now = await Ledger(pool, clock=system_clock()).head()
    return {"size": now.size, "root": now.root.hex()}
