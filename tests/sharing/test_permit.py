"""Acts that move no media: decided like pictures, with a row each, and a right of their own for moving cameras."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from ops.embedded import EmbeddedPostgres
from sharing.lease import Action, Permit, Refusal
from sharing.ledger import EntryKind
from sharing.people import Role
from tests.fixtures_db import FakeClock, create_database
from tests.sharing.test_service import ABSENT, HERE, PURPOSE, World


@pytest.fixture
async def world(postgres: EmbeddedPostgres) -> AsyncIterator[World]:
    admin = await asyncpg.connect(**postgres.address().arguments())
    made = await create_database(postgres, admin)
    async with asyncpg.create_pool(**made.app.arguments(), min_size=1, max_size=4) as pool:
        world = World(pool, FakeClock())
        await world.ledger.start()
        await world.fill()
        yield world
        await world.ledger.stop()
    await admin.execute(f"DROP DATABASE {made.name} WITH (FORCE)")
    await admin.close()


async def test_moving_a_camera_is_a_right_of_its_own(world: World) -> None:
    user = await world.user("zhiban1", Role.WATCHER, world.seen)
    no = await world.sharing.permit(user.key, world.seen, Action.PTZ, PURPOSE, HERE, detail="move")
    assert isinstance(no, Refusal)
    assert (no.code, no.http_status, no.articles) == ("E_ACTION_NOT_GRANTED", 403, ("N13",))
    assert no.ledger_seq is not None
    changed = await world.people.allow_control(user.key, True, actor=None)
    assert changed.may_control
    yes = await world.sharing.permit(user.key, world.seen, Action.PTZ, PURPOSE, HERE, detail="move")
    assert isinstance(yes, Permit)
    page, _ = await world.ledger.entries()
    mine = [entry for entry in page if entry.seq in (no.ledger_seq, yes.ledger_seq)]
    assert {entry.kind for entry in mine} == {EntryKind.ACT, EntryKind.REFUSAL}
    assert world.sharing.leases() == []
    await world.people.allow_control(user.key, False, actor=None)
    assert isinstance(await world.sharing.permit(user.key, world.seen, Action.PTZ, PURPOSE, HERE), Refusal)


@pytest.mark.parametrize("action", [Action.RECORDINFO, Action.EVENTSUB])
async def test_lists_of_recordings_and_events_belong_to_duty_watch(world: World, action: Action) -> None:
    user = await world.user("zhiban1", Role.WATCHER, world.seen)
    assert isinstance(await world.sharing.permit(user.key, world.seen, action, PURPOSE, HERE), Permit)
    for channel in (world.hidden, ABSENT):
        no = await world.sharing.permit(user.key, channel, action, PURPOSE, HERE)
        assert isinstance(no, Refusal)
        assert no.http_status == 404


async def test_administrators_do_not_move_cameras(world: World) -> None:
    user = await world.user("admin2", Role.ADMINISTRATOR)
    await world.people.allow_control(user.key, True, actor=None)
    no = await world.sharing.permit(user.key, world.seen, Action.PTZ, PURPOSE, HERE)
    assert isinstance(no, Refusal)
    assert no.http_status == 403
