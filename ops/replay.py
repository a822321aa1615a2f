"""The nonce replay set shared by all nodes, in Valkey; when that is away the registrar's own memory takes over."""

from __future__ import annotations

import hashlib

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from sipserver.registrar import ReplayGuardUnavailable


class ValkeyReplayGuard:
    """Claims by SET NX with an expiry that outlives every nonce. Only successful nonces get here, so it is bounded by
    the registrations of two nonce lives."""

    def __init__(self, valkey: Valkey, *, lifetime: int = 120) -> None:
        self._valkey = valkey
        self._lifetime = lifetime

    async def claim(self, nonce: str) -> bool:
        """True for the first claim. Raises ReplayGuardUnavailable when Valkey does not answer."""
        name = "nonce:" + hashlib.sha256(nonce.encode()).hexdigest()
        try:
            return bool(await self._valkey.set(name, "1", nx=True, ex=self._lifetime))
        except (ValkeyError, OSError) as error:
            raise ReplayGuardUnavailable(type(error).__name__) from error
