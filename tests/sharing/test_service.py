"""No row, no picture: authorisation, renewal, completion and recovery over a real database."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from argon2 import PasswordHasher

from catalog.model import ListedItem, NodeKey
from catalog.secrets import SecretBox
from catalog.store import CatalogStore
from ops.embedded import EmbeddedPostgres
from sharing.lease import Action, Client, Lease, Refusal, ViewStats, Zone
from sharing.ledger import Entry, EntryKind, Ledger, LedgerUnavailableError
from sharing.passwords import Hasher
from sharing.people import People, Role, User
from sharing.service import Sharing, SharingConfig
from sipserver.protocol.ids import ChannelKey, GbId, LeaseKey, UserKey
from tests.fixtures_db import FakeClock, create_database

HERE = Client(ip="192.0.2.1", channel="console")
ABSENT = ChannelKey("chn_" + "z" * 20)
PASSWORD, CHANGED = "Nachtwache-2026", "Changed-2026-ok"
PURPOSE = "DUTY_WATCH: 夜班"


class World:
    """Everything sharing needs, over a fresh database; `restart` is a new process after a crash."""

    def __init__(self, pool: asyncpg.Pool, clock: FakeClock) -> None:
        self.pool, self.clock = pool, clock
        self.store = CatalogStore(pool, box=SecretBox(bytes(32)))
        self.ledger = Ledger(pool, clock=clock, commit_timeout=0.5)
        hasher = Hasher(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.people = People(pool, ledger=self.ledger, clock=clock, hasher=hasher)
        self.sharing = self.restart()
        self.seen: ChannelKey
        self.hidden: ChannelKey
        self.secret: ChannelKey
        self.group: ChannelKey

    def restart(self) -> Sharing:
        return Sharing(
            ledger=self.ledger,
            people=self.people,
            store=self.store,
            clock=self.clock,
            config=SharingConfig(unit="某管理单位"),
        )

    async def fill(self) -> None:
        device = await self.store.provision_device(
            GbId("34020000001180000001"), name="录像机", password=None, now=self.clock.now
        )
        codes = {
            name: GbId(f"3402000000{kind}00000{n}")
            for n, (name, kind) in enumerate(
                (("seen", "1310"), ("hidden", "1310"), ("secret", "1310"), ("group", "2160"))
            )
        }
        items = [ListedItem(gb_id=code, name=name, secrecy=name == "secret") for name, code in codes.items()]
        await self.store.apply_catalog(device.key, items, complete=True, now=self.clock.now)
        for name, code in codes.items():
            channel = await self.store.channel_by_gb(device.key, code)
            assert channel is not None
            setattr(self, name, channel.key)

    async def user(self, name: str, role: Role, *scope: str) -> User:
        roots = [NodeKey(root) for root in scope]
        user = await self.people.create_user(
            actor=None, username=name, display_name="值班一", password=PASSWORD, roles={role}, scope=roots
        )
        await self.people.change_password(user.key, PASSWORD, CHANGED)
        return user

    async def watcher(self) -> User:
        return await self.user("zhiban", Role.WATCHER, self.seen, self.secret, self.group)

    async def lease(self, user: User) -> Lease:
        result = await self.sharing.authorize(user.key, self.seen, Action.VIEW_LIVE, PURPOSE, HERE)
        assert isinstance(result, Lease), result
        return result

    async def refusal(
        self, user: UserKey, channel: ChannelKey, action: Action = Action.VIEW_LIVE, purpose: str = PURPOSE,
        client: Client = HERE,
    ) -> Refusal:  # fmt: skip
        result = await self.sharing.authorize(user, channel, action, purpose, client)
        assert isinstance(result, Refusal), result
        return result

    async def rows(self, *kinds: EntryKind) -> list[Entry]:
        entries, _ = await self.ledger.entries(limit=500)
        return [entry for entry in reversed(entries) if entry.kind in kinds]


@pytest.fixture
async def world(postgres: EmbeddedPostgres, clock: FakeClock) -> AsyncIterator[World]:
    admin = await asyncpg.connect(**postgres.address().arguments())
    database = await create_database(postgres, admin)
    async with asyncpg.create_pool(**database.app.arguments(), min_size=1, max_size=8) as pool:
        made = World(pool, clock)
        await made.ledger.start()
        await made.fill()
        yield made
        await made.ledger.stop()
    await admin.execute(f"DROP DATABASE {database.name} WITH (FORCE)")
    await admin.close()


async def test_the_row_is_there_before_the_lease(world: World) -> None:
    user = await world.watcher()
    lease = await world.lease(user)
    entry = await world.ledger.entry(lease.ledger_seq)
    assert entry is not None
    assert (entry.kind, entry.user, entry.channel, entry.lease) == (EntryKind.INTENT, user.key, world.seen, lease.key)
    facts = entry.facts
    assert facts["persons"] == [{"username": "zhiban", "name": "值班一", "unit": "某管理单位"}]
    assert (facts["purpose"], facts["reason_text"], facts["action"]) == ("DUTY_WATCH", "夜班", "VIEW_LIVE")
    assert facts["client"] == {"ip": "192.0.2.1", "channel": "console", "zone": "PRIVATE"}
    assert facts["articles"] == ["N16(2)(2)"]
    assert "3402000000" not in str(facts)
    assert lease.actions == {Action.VIEW_LIVE}
    assert "strip_audio" in lease.obligations
    assert lease.started_at == entry.at
    assert world.clock.now < lease.not_after <= world.clock.now + 30
    assert world.sharing.leases() == [lease]


async def test_sound_is_granted_to_who_may_listen_and_the_row_says_so(world: World) -> None:
    user = await world.watcher()
    silent = await world.lease(user)
    await world.people.update_user(user.key, actor=None, may_listen=True)
    heard = await world.lease(user)
    assert (silent.audio, heard.audio) == (False, True)
    assert "strip_audio" not in heard.obligations
    rows = await world.rows(EntryKind.INTENT)
    assert [row.facts["granted"] for row in rows] == [["VIEW_LIVE"], ["AUDIO", "VIEW_LIVE"]]
    assert [row.facts["obligations"] for row in rows] == [["register", "strip_audio"], ["register"]]
    # A right given later is for the next picture: this lease's row says nothing of sound.
    renewed = await world.sharing.renew(silent.key)
    assert isinstance(renewed, Lease)
    assert (renewed.audio, renewed.obligations) == (False, ("register", "strip_audio"))


async def test_sound_that_is_withdrawn_ends_with_one_row_and_the_picture_goes_on(world: World) -> None:
    user = await world.watcher()
    await world.people.update_user(user.key, actor=None, may_listen=True)
    lease = await world.lease(user)
    await world.people.update_user(user.key, actor=None, may_listen=False)
    world.clock.advance(4)
    (renewed,) = (await world.sharing.renew_all()).renewed
    assert (renewed.key, renewed.audio) == (lease.key, False)
    assert renewed.actions == {Action.VIEW_LIVE}
    assert "strip_audio" in renewed.obligations
    assert renewed.not_after == world.clock.now + 25
    (again,) = (await world.sharing.renew_all()).renewed
    assert not again.audio
    (row,) = await world.rows(EntryKind.REFUSAL)
    assert (row.lease, row.facts["code"], row.facts["action"]) == (lease.key, "E_AUDIO_NOT_GRANTED", "AUDIO")
    assert row.facts["articles"] == ["N8"]
    # Given back, it comes with the next picture.
    await world.people.update_user(user.key, actor=None, may_listen=True)
    (still,) = (await world.sharing.renew_all()).renewed
    assert not still.audio
    assert (await world.lease(user)).audio


async def test_withdrawn_sound_ends_even_when_no_row_can_be_written(world: World) -> None:
    user = await world.watcher()
    await world.people.update_user(user.key, actor=None, may_listen=True)
    lease = await world.lease(user)
    await world.people.update_user(user.key, actor=None, may_listen=False)
    await world.ledger.stop()
    renewed = await world.sharing.renew(lease.key)
    assert isinstance(renewed, Lease)
    assert not renewed.audio


async def test_hidden_and_absent_answer_alike_and_the_auditor_knows(world: World) -> None:
    user = await world.watcher()
    hidden = await world.refusal(user.key, world.hidden)
    absent = await world.refusal(user.key, ABSENT)
    assert (hidden.code, hidden.http_status, hidden.sip_status) == ("E_NOT_FOUND", 404, 404)
    for name in ("code", "http_status", "sip_status", "reason", "articles"):
        assert getattr(hidden, name) == getattr(absent, name)
    rows = await world.rows(EntryKind.REFUSAL)
    assert [row.facts["hidden"] for row in rows] == [True, False]
    assert [row.seq for row in rows] == [hidden.ledger_seq, absent.ledger_seq]


async def test_everything_else_is_refused_with_a_row(world: World) -> None:
    user = await world.watcher()
    administrator = await world.user("guanli", Role.ADMINISTRATOR, world.seen)
    auditor = await world.user("shenji", Role.AUDITOR, world.seen)
    nobody = UserKey("usr_" + "z" * 20)
    internet = Client(ip="198.51.100.1", zone=Zone.INTERNET)
    refusals = [
        await world.refusal(administrator.key, world.seen),
        await world.refusal(auditor.key, world.seen),
        await world.refusal(nobody, world.seen),
        await world.refusal(user.key, world.seen, Action.COPY),
        await world.refusal(user.key, world.seen, purpose="好奇"),
        await world.refusal(user.key, world.group),
        await world.refusal(user.key, world.secret, client=internet),
    ]
    assert [one.code for one in refusals] == [
        "E_ACTION_NOT_GRANTED",
        "E_ACTION_NOT_GRANTED",
        "E_ACTION_NOT_GRANTED",
        "E_ACTION_NOT_GRANTED",
        "E_PURPOSE_INVALID",
        "E_SCOPE_CAMERA",
        "E_NETWORK_ZONE",
    ]
    assert all(one.articles for one in refusals)
    rows = await world.rows(EntryKind.REFUSAL)
    assert [(row.facts["code"], row.seq) for row in rows] == [(one.code, one.ledger_seq) for one in refusals]
    assert world.sharing.leases() == []
    assert await world.rows(EntryKind.INTENT) == []


async def test_who_must_change_the_password_sees_nothing(world: World) -> None:
    user = await world.people.create_user(
        actor=None,
        username="neu",
        display_name="",
        password=PASSWORD,
        roles={Role.WATCHER},
        scope=[NodeKey(world.seen)],
    )
    assert (await world.refusal(user.key, world.seen)).code == "E_ACTION_NOT_GRANTED"


async def test_a_ledger_that_is_down_shows_nothing(world: World) -> None:
    user = await world.watcher()
    await world.ledger.stop()
    refusal = await world.refusal(user.key, world.seen)
    assert (refusal.code, refusal.http_status, refusal.ledger_seq) == ("E_LEDGER_UNAVAILABLE", 503, None)
    assert refusal.articles == ("N16(2)(3)",)
    assert world.sharing.leases() == []


async def test_a_refusal_that_cannot_be_written_tells_nothing_more(world: World) -> None:
    """With the ledger down even a hidden channel answers E_LEDGER_UNAVAILABLE: no oracle without a row."""
    user = await world.watcher()
    await world.ledger.stop()
    assert await world.refusal(user.key, world.hidden) == await world.refusal(user.key, world.seen)


async def test_completion_happens_once(world: World) -> None:
    user = await world.watcher()
    lease = await world.lease(user)
    world.clock.advance(40)
    stats = ViewStats(bytes=12345, frames=1000, dropped=2, seconds=39.5, viewers=1)
    entries = await asyncio.gather(*(world.sharing.complete(lease.key, "viewer_closed", stats) for _ in range(5)))
    (entry,) = [one for one in entries if one is not None]
    assert (entry.kind, entry.lease, entry.user, entry.channel) == (EntryKind.END, lease.key, user.key, world.seen)
    assert entry.facts["seconds"] == 39.5
    assert (entry.facts["started_at"], entry.facts["ended_at"]) == (lease.started_at, world.clock.now)
    assert entry.facts["destination"] == "viewed_only"
    assert await world.sharing.complete(LeaseKey("lea_unknown"), "x") is None
    assert len(await world.rows(EntryKind.END)) == 1
    assert await world.ledger.open_leases() == []


async def test_renewal_extends_and_writes_nothing(world: World) -> None:
    lease = await world.lease(await world.watcher())
    before = await world.ledger.head()
    for _ in range(10):
        world.clock.advance(10)
        renewed = await world.sharing.renew(lease.key)
        assert isinstance(renewed, Lease)
        assert renewed.not_after == world.clock.now + 25
        assert (renewed.key, renewed.ledger_seq) == (lease.key, lease.ledger_seq)
    assert await world.ledger.head() == before


@pytest.mark.parametrize("change", ["role", "scope", "disabled", "removed", "password", "channel"])
async def test_a_right_that_is_lost_ends_the_picture(world: World, change: str) -> None:
    user = await world.watcher()
    lease = await world.lease(user)
    update = world.people.update_user
    if change == "role":
        await update(user.key, actor=None, roles={Role.AUDITOR})
    elif change == "scope":
        await update(user.key, actor=None, scope=[NodeKey(world.hidden)])
    elif change == "disabled":
        await update(user.key, actor=None, enabled=False)
    elif change == "removed":
        await world.people.remove_user(user.key, actor=None)
    elif change == "password":
        await update(user.key, actor=None, password="Reset-by-admin-1")
    else:
        (device,) = (await world.store.devices()).items
        await world.store.remove_device(device.key, now=world.clock.now)
    renewals = await world.sharing.renew_all()
    assert renewals.renewed == ()
    ((ended, refusal),) = renewals.refused
    assert (ended.key, refusal.code, refusal.http_status) == (lease.key, "E_GRANT_REVOKED", 403)
    (row,) = await world.rows(EntryKind.REFUSAL)
    assert (row.lease, row.seq) == (lease.key, refusal.ledger_seq)
    await world.sharing.complete(lease.key, refusal.code)
    assert await world.sharing.renew_all() == await world.restart().renew_all()


async def test_a_lease_that_ran_out_is_not_revived(world: World) -> None:
    lease = await world.lease(await world.watcher())
    world.clock.advance(25)
    refusal = await world.sharing.renew(lease.key)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "E_GRANT_EXPIRED"
    await world.sharing.complete(lease.key, "lease_expired")
    again = await world.sharing.renew(lease.key)
    assert isinstance(again, Refusal)
    assert again.code == "E_GRANT_EXPIRED"


async def test_a_crash_is_closed_at_the_next_start(world: World) -> None:
    user = await world.watcher()
    kept = await world.lease(user)
    await world.sharing.complete(kept.key, "viewer_closed")
    lost = [await world.lease(user) for _ in range(3)]
    world.sharing = world.restart()
    assert await world.sharing.recover() == 3
    rows = await world.rows(EntryKind.END_BY_CRASH)
    assert [row.lease for row in rows] == [lease.key for lease in lost]
    assert {row.facts["reason"] for row in rows} == {"ENDED_BY_CRASH"}
    assert await world.sharing.recover() == 0
    assert await world.sharing.complete(lost[0].key, "late") is None
    assert (await world.ledger.verify()).ok


async def test_an_end_that_could_not_be_written_is_written_later(world: World) -> None:
    user = await world.watcher()
    lease = await world.lease(user)
    await world.ledger.stop()
    with pytest.raises(LedgerUnavailableError):
        await world.sharing.complete(lease.key, "viewer_closed", ViewStats(frames=7))
    assert world.sharing.leases() == []
    await world.ledger.start()
    await world.sharing.renew_all()
    (row,) = await world.rows(EntryKind.END)
    assert (row.lease, row.facts["frames"]) == (lease.key, 7)


async def test_an_intent_of_unknown_fate_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row was committed, the acknowledgement lost: no picture was shown, and the row does not stay open."""
    user = await world.watcher()
    append = world.ledger.append

    async def lossy(kind: EntryKind, facts: object, **keys: object) -> Entry:
        entry = await append(kind, facts, **keys)  # type: ignore[arg-type]
        if kind is EntryKind.INTENT:
            raise LedgerUnavailableError("the acknowledgement was lost")
        return entry

    monkeypatch.setattr(world.ledger, "append", lossy)
    assert (await world.refusal(user.key, world.seen)).code == "E_LEDGER_UNAVAILABLE"
    assert len(await world.ledger.open_leases()) == 1
    await world.sharing.renew_all()
    assert await world.ledger.open_leases() == []
    (row,) = await world.rows(EntryKind.END_BY_CRASH)
    assert row.channel == world.seen


async def test_facts_that_cannot_be_read_extend_nothing(world: World) -> None:
    lease = await world.lease(await world.watcher())
    await world.ledger.stop()
    await world.pool.close()
    with pytest.raises(LedgerUnavailableError):
        await world.sharing.renew_all()
    refusal = await world.sharing.renew(lease.key)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "E_LEDGER_UNAVAILABLE"
    assert world.sharing.leases() == [lease]  # it runs out by itself
    assert (await world.refusal(lease.user, world.seen)).code == "E_LEDGER_UNAVAILABLE"


async def test_what_one_may_know_of(world: World) -> None:
    watcher = await world.watcher()
    administrator = await world.user("guanli", Role.ADMINISTRATOR)
    auditor = await world.user("shenji", Role.AUDITOR, world.seen)
    assert await world.sharing.within(watcher.key) == watcher.scope
    assert await world.sharing.within(administrator.key) is None
    assert await world.sharing.within(auditor.key) == ()
    assert await world.sharing.within(UserKey("usr_" + "z" * 20)) == ()
    await world.people.update_user(watcher.key, actor=None, enabled=False)
    assert await world.sharing.within(watcher.key) == ()


def test_a_lease_is_never_longer_than_the_engine_allows() -> None:
    with pytest.raises(ValueError, match="30 s"):
        SharingConfig(lease_seconds=31)
