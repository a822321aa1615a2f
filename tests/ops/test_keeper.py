"""The lease keeper: renews what is still right, cuts what is refused, ends what nobody watches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from media.session import MediaError, MediaEvent
from ops.keeper import LeaseKeeper
from sharing.lease import Action, Lease, Refusal, Renewals
from sipserver.protocol.ids import ChannelKey, LeaseKey, StreamKey, UserKey

ONE, TWO = LeaseKey("lea_one"), LeaseKey("lea_two")
REFUSAL = Refusal(code="E_GRANT_REVOKED", http_status=403, sip_status=403, reason="gone", articles=("X1",))


def lease(key: LeaseKey, not_after: float = 130.0) -> Lease:
    return Lease(
        key=key,
        user=UserKey("usr_a"),
        channel=ChannelKey("chn_a"),
        actions=frozenset({Action.VIEW_LIVE}),
        purpose="DUTY_WATCH",
        not_after=not_after,
        ledger_seq=1,
        started_at=100.0,
    )


@dataclass
class World:
    """Sharing, play and media in one, with a written clock."""

    now: float = 100.0
    renewals: Renewals = field(default_factory=Renewals)
    closed: list[tuple[str, str]] = field(default_factory=list)
    renewed: list[tuple[str, float, bool]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    error: Exception | None = None
    rounds: int = 0
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def renew_all(self) -> Renewals:
        self.rounds += 1
        self.called.set()
        if self.error is not None:
            raise self.error
        return self.renewals

    async def close(self, lease_key: LeaseKey, *, reason: str) -> None:
        self.closed.append((lease_key, reason))

    def renew(self, lease_key: LeaseKey, not_after: float, *, audio: bool) -> None:
        if lease_key == TWO:
            raise MediaError("lease_over", "just cut")
        self.renewed.append((lease_key, not_after, audio))

    def refused(self, key: LeaseKey, refusal: Refusal) -> None:
        assert (key, "cut before it was told") not in self.closed
        self.told.append(refusal.code)

    def keeper(self, interval: float = 4.0) -> LeaseKeeper:
        return LeaseKeeper(
            sharing=self,
            play=self,
            media=self,  # type: ignore[arg-type]
            clock=lambda: self.now,
            refused=self.refused,
            interval=interval,
        )


def viewer(kind: str, key: LeaseKey = ONE) -> MediaEvent:
    return MediaEvent(kind=kind, session=StreamKey("str_a"), lease=key)  # type: ignore[arg-type]


async def test_a_renewed_lease_reaches_the_engine_and_one_just_cut_is_no_error() -> None:
    world = World(renewals=Renewals(renewed=(lease(TWO), lease(ONE, 128.0))))
    await world.keeper().round()
    assert world.renewed == [(ONE, 128.0, False)]
    assert world.closed == []


async def test_the_engine_learns_with_every_renewal_whether_there_is_sound() -> None:
    heard = replace(lease(ONE), actions=frozenset({Action.VIEW_LIVE, Action.AUDIO}))
    world = World(renewals=Renewals(renewed=(heard,)))
    keeper = world.keeper()
    await keeper.round()
    world.renewals = Renewals(renewed=(lease(ONE),))
    await keeper.round()
    assert [audio for _, _, audio in world.renewed] == [True, False]


async def test_a_refused_lease_is_cut_with_its_code() -> None:
    world = World(renewals=Renewals(refused=((lease(ONE), REFUSAL),)))
    await world.keeper().round()
    assert world.closed == [(ONE, "E_GRANT_REVOKED")]
    assert world.told == ["E_GRANT_REVOKED"]


async def test_a_lease_nobody_watches_ends_and_one_that_is_watched_does_not() -> None:
    world = World(renewals=Renewals(renewed=(lease(ONE),)))
    keeper = world.keeper()
    keeper.on_media_event(viewer("viewer_opened"))
    world.now += 1000
    await keeper.round()
    assert world.closed == []
    keeper.on_media_event(viewer("viewer_closed"))
    world.now += 44
    await keeper.round()
    assert world.closed == []
    world.now += 2
    await keeper.round()
    assert world.closed == [(ONE, "unwatched")]


async def test_a_viewer_who_comes_back_keeps_the_lease() -> None:
    world = World(renewals=Renewals(renewed=(lease(ONE),)))
    keeper = world.keeper()
    for kind in ("viewer_opened", "viewer_closed", "viewer_opened"):
        keeper.on_media_event(viewer(kind))
        world.now += 30
    await keeper.round()
    assert world.closed == []


async def test_a_ticket_never_used_does_not_hold_a_camera_for_ever() -> None:
    world = World(renewals=Renewals(renewed=(lease(ONE),)))
    keeper = world.keeper()
    await keeper.round()
    world.now += 45
    await keeper.round()
    assert world.closed == [(ONE, "unwatched")]


@pytest.mark.parametrize("error", [OSError("database away"), RuntimeError("a fault")])
async def test_it_goes_on_after_a_fault_and_a_change_of_rights_wakes_it(error: Exception) -> None:
    world = World(error=error)
    keeper = world.keeper(interval=3600)
    keeper.start()
    for expected in (1, 2):
        world.called.clear()
        keeper.rights_changed()
        await asyncio.wait_for(world.called.wait(), 5)
        assert world.rounds == expected
    await keeper.stop()
