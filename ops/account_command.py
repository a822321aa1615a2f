"""`mingjian account reset-administrator`: a way back in for whoever has the machine, running or not."""

from __future__ import annotations

from ops.clock import system_clock
from ops.config import Config
from ops.storage import open_database
from sharing.ledger import Ledger
from sharing.people import People


async def reset_administrator(config: Config) -> tuple[str, str]:
    """A new one-time password for the oldest administrator: (name, password). Its sessions end, and it is a ledger row.

    Raises PeopleError when there is none, LedgerUnavailableError when the row cannot be written.
    """
    clock = system_clock()
    async with open_database(config) as pool:
        ledger = Ledger(pool, clock=clock)
        await ledger.start()
        try:
            return await People(pool, ledger=ledger, clock=clock).reset_administrator()
        finally:
            await ledger.stop()
