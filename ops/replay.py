"""The nonce replay set shared by all nodes, in Valkey; when that is away the registrar's own memory takes over."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from catalog.batching import Batcher
from sipserver.registrar import ReplayGuardUnavailable

_CLAIM = """
local taken = {}
for i, name in ipairs(KEYS) do
    taken[i] = redis.call('SET', name, '1', 'NX', 'EX', ARGV[1]) and 1 or 0
end
return taken
"""


class ValkeyReplayGuard:
    """Claims by SET NX with an expiry that outlives every nonce. Only successful nonces get here, so it is bounded by
    the registrations of two nonce lives."""

    def __init__(self, valkey: Valkey, *, lifetime: int = 120) -> None:
        self._valkey = valkey
        self._lifetime = lifetime
        self._claim_each = valkey.register_script(_CLAIM)
        self._claims: Batcher[str, bool] = Batcher(self._claim_all)

    async def claim(self, nonce: str) -> bool:
        """True for the first claim. Raises ReplayGuardUnavailable when Valkey does not answer."""
        try:
            return await self._claims.ask("nonce:" + hashlib.sha256(nonce.encode()).hexdigest())
        except (ValkeyError, OSError) as error:
            raise ReplayGuardUnavailable(type(error).__name__) from error

    async def _claim_all(self, names: Sequence[str]) -> list[bool]:
        if len(names) == 1:
            return [bool(await self._valkey.set(names[0], "1", nx=True, ex=self._lifetime))]
        # One command for all: the client's work for each command costs more than the server's for each name.
        return [answer == 1 for answer in await self._claim_each(keys=names, args=(self._lifetime,))]
