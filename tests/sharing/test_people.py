"""Accounts and sessions: no default secret, separated powers, throttled guessing, every change a row first."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from argon2 import PasswordHasher

from catalog.model import NodeKey
from ops.embedded import EmbeddedPostgres
from sharing.lease import Client
from sharing.ledger import EntryKind, Ledger, LedgerUnavailableError
from sharing.passwords import Hasher, PasswordRules, WeakPasswordError, check_rules, one_time_password
from sharing.people import LoginOk, LoginRefused, People, PeopleConfig, PeopleError, Role, User, source_of
from sipserver.protocol.ids import UserKey
from tests.fixtures_db import FakeClock, create_database

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HERE, THERE = Client(ip="192.0.2.1"), Client(ip="192.0.2.2")
PASSWORD, OTHER = "Nachtwache-2026", "Another-2026-ok"


class World:
    """People over a fresh database."""

    def __init__(self, pool: asyncpg.Pool, clock: FakeClock) -> None:
        self.pool = pool
        self.clock = clock
        self.ledger = Ledger(pool, clock=clock)
        self.changes = 0
        self.people = People(
            pool,
            ledger=self.ledger,
            clock=clock,
            hasher=Hasher(CHEAP),
            config=PeopleConfig(max_sessions_per_user=3),
            on_rights_changed=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def watcher(self, name: str = "zhiban") -> User:
        return await self.people.create_user(
            actor=None, username=name, display_name="值班一", password=PASSWORD, roles={Role.WATCHER}
        )

    async def rows(self, kind: EntryKind) -> list[dict[str, object]]:
        entries, _ = await self.ledger.entries(kind=kind, limit=500)
        return [dict(entry.facts) for entry in reversed(entries)]


@pytest.fixture
async def world(postgres: EmbeddedPostgres, clock: FakeClock) -> AsyncIterator[World]:
    admin = await asyncpg.connect(**postgres.address().arguments())
    database = await create_database(postgres, admin)
    async with asyncpg.create_pool(**database.app.arguments(), min_size=1, max_size=8) as pool:
        made = World(pool, clock)
        await made.ledger.start()
        yield made
        await made.ledger.stop()
    await admin.execute(f"DROP DATABASE {database.name} WITH (FORCE)")
    await admin.close()


async def logged_in(world: World, name: str, password: str, client: Client = HERE) -> LoginOk:
    result = await world.people.login(name, password, client)
    assert isinstance(result, LoginOk)
    return result


async def test_the_first_administrator_comes_once(world: World) -> None:
    first = await world.people.ensure_administrator()
    assert first is not None
    assert await world.people.ensure_administrator() is None
    session = (await logged_in(world, *first)).session
    assert session.user.roles == {Role.ADMINISTRATOR}
    assert session.user.must_change_password
    await world.people.change_password(session.user.key, first[1], PASSWORD)
    assert isinstance(await world.people.login(*first, HERE), LoginRefused)
    user = (await logged_in(world, first[0], PASSWORD)).session.user
    assert not user.must_change_password


async def test_two_installations_share_no_secret() -> None:
    made = {one_time_password() for _ in range(50)}
    assert len(made) == 50
    for password in made:
        check_rules(password, username="admin", rules=PasswordRules())


async def test_a_session_lives_as_long_as_it_is_used(world: World) -> None:
    await world.watcher()
    ok = await logged_in(world, "ZHIBAN ", PASSWORD)
    for _ in range(3):
        world.clock.advance(14 * 60)
        session = await world.people.session(ok.token)
        assert session is not None
        assert session.idle_expires_at == world.clock.now + 900
    world.clock.advance(15 * 60)
    assert await world.people.session(ok.token) is None


async def test_a_session_ends_absolutely_after_twelve_hours(world: World) -> None:
    await world.watcher()
    ok = await logged_in(world, "zhiban", PASSWORD)
    for _ in range(71):
        world.clock.advance(600)
        assert await world.people.session(ok.token) is not None
    world.clock.advance(600)
    assert await world.people.session(ok.token) is None


async def test_the_token_is_nowhere_in_the_database(world: World) -> None:
    await world.watcher()
    ok = await logged_in(world, "zhiban", PASSWORD)
    assert ok.token not in repr(ok)
    rows = await world.pool.fetch("SELECT token_hash FROM sessions")
    assert ok.token.encode() not in rows[0]["token_hash"]
    stored = await world.pool.fetchval("SELECT password_hash FROM users")
    assert stored.startswith("$argon2id$")
    for wrong in ("", ok.token[:-1], ok.token + "x", "\ud800"):
        assert await world.people.session(wrong) is None


async def test_logout_ends_one_session(world: World) -> None:
    await world.watcher()
    first, second = await logged_in(world, "zhiban", PASSWORD), await logged_in(world, "zhiban", PASSWORD)
    await world.people.logout(first.token)
    await world.people.logout(first.token)
    assert await world.people.session(first.token) is None
    assert await world.people.session(second.token) is not None
    assert len(await world.rows(EntryKind.LOGOUT)) == 1


async def test_sessions_of_one_user_are_bounded(world: World) -> None:
    await world.watcher()
    opened = []
    for _ in range(5):
        world.clock.advance(1)
        opened.append(await logged_in(world, "zhiban", PASSWORD))
    alive = [await world.people.session(one.token) is not None for one in opened]
    assert alive == [False, False, True, True, True]


async def test_five_failures_lock_the_pair_for_a_quarter_of_an_hour(world: World) -> None:
    await world.watcher()
    for _ in range(5):
        refused = await world.people.login("zhiban", "wrong", HERE)
        assert refused == LoginRefused(code="E_LOGIN", http_status=401)
    locked = await world.people.login("zhiban", PASSWORD, HERE)
    assert locked == LoginRefused(code="E_LOGIN_THROTTLED", http_status=429, retry_after=900)
    await logged_in(world, "zhiban", PASSWORD, THERE)  # a genuine user elsewhere is not locked out
    world.clock.advance(899)
    assert await world.people.login("zhiban", PASSWORD, HERE) == LoginRefused(
        code="E_LOGIN_THROTTLED", http_status=429, retry_after=1
    )
    world.clock.advance(1)
    await logged_in(world, "zhiban", PASSWORD)
    assert len(await world.rows(EntryKind.LOGIN_REFUSED)) == 5


async def test_parallel_guesses_do_not_exceed_the_limit(world: World) -> None:
    await world.watcher()
    results = await asyncio.gather(*(world.people.login("zhiban", f"wrong {n}", HERE) for n in range(40)))
    codes = [one.code for one in results if isinstance(one, LoginRefused)]
    assert codes.count("E_LOGIN") == 5
    assert codes.count("E_LOGIN_THROTTLED") == 35


async def test_a_success_forgets_the_failures(world: World) -> None:
    await world.watcher()
    for _ in range(3):
        for _ in range(4):
            await world.people.login("zhiban", "wrong", HERE)
        await logged_in(world, "zhiban", PASSWORD)


async def test_unknown_names_answer_alike(world: World) -> None:
    await world.watcher()
    for _ in range(6):
        assert await world.people.login("zhiban", "wrong", HERE) == await world.people.login("nobody", "wrong", HERE)
    assert await world.people.login("\x00\ud800", "wrong", HERE) == LoginRefused(code="E_LOGIN", http_status=401)


@pytest.mark.parametrize(
    ("ip", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        (None, "unknown"),
        ("x", "unknown"),
    ],
)
def test_sources(ip: str | None, source: str) -> None:
    assert source_of(ip) == source


async def test_powers_are_separated(world: World) -> None:
    for roles in ({Role.ADMINISTRATOR, Role.WATCHER}, {Role.AUDITOR, Role.ADMINISTRATOR}, set[Role]()):
        with pytest.raises(PeopleError) as error:
            await world.people.create_user(actor=None, username="x1", display_name="x", password=PASSWORD, roles=roles)
        assert (error.value.code, error.value.http_status) == ("role_conflict", 409)


async def test_the_last_administrator_stays(world: World) -> None:
    await world.people.ensure_administrator()
    (admin,) = await world.people.users()
    for attempt in (
        world.people.update_user(admin.key, actor=None, enabled=False),
        world.people.update_user(admin.key, actor=None, roles={Role.AUDITOR}),
        world.people.remove_user(admin.key, actor=None),
    ):
        with pytest.raises(PeopleError) as error:
            await attempt
        assert error.value.code == "last_administrator"
    second = await world.people.create_user(
        actor=admin.key, username="second", display_name="", password=PASSWORD, roles={Role.ADMINISTRATOR}
    )
    await world.people.remove_user(admin.key, actor=second.key)
    assert [user.key for user in await world.people.users()] == [second.key]


async def test_names_are_unique_until_withdrawn(world: World) -> None:
    user = await world.watcher("Ｚhiban")  # a full-width letter is the same letter
    with pytest.raises(PeopleError) as error:
        await world.watcher("zhiban")
    assert (error.value.code, error.value.http_status) == ("user_exists", 409)
    await world.people.remove_user(user.key, actor=None)
    again = await world.watcher("zhiban")
    assert again.key != user.key
    assert await world.people.user(user.key) is None


@pytest.mark.parametrize(
    "password", ["short-1A", "alllowercaseletters", "zhiban-Zhiban-1", "Aa1!Aa1!Aa1!", "x" * 129, ""]
)
async def test_weak_passwords_are_refused(world: World, password: str) -> None:
    with pytest.raises(PeopleError) as error:
        await world.people.create_user(
            actor=None, username="zhiban", display_name="", password=password, roles={Role.WATCHER}
        )
    assert (error.value.code, error.value.http_status) == ("password_weak", 422)
    with pytest.raises(WeakPasswordError):
        check_rules(password, username="zhiban", rules=PasswordRules())


async def test_a_password_is_not_used_again(world: World) -> None:
    user = await world.watcher()
    current = PASSWORD
    for number in range(5):
        following = f"Number-{number}-2026"
        await world.people.change_password(user.key, current, following)
        current = following
    with pytest.raises(PeopleError) as error:
        await world.people.change_password(user.key, current, "Number-1-2026")
    assert error.value.code == "password_used"
    with pytest.raises(PeopleError) as error:
        await world.people.change_password(user.key, "wrong", OTHER)
    assert (error.value.code, error.value.http_status) == ("password_wrong", 403)


async def test_a_new_password_ends_the_other_sessions(world: World) -> None:
    user = await world.watcher()
    first, second = await logged_in(world, "zhiban", PASSWORD), await logged_in(world, "zhiban", PASSWORD)
    await world.people.change_password(user.key, PASSWORD, OTHER, keep_token=first.token)
    assert await world.people.session(first.token) is not None
    assert await world.people.session(second.token) is None
    await world.people.update_user(user.key, actor=None, password=PASSWORD)
    assert await world.people.session(first.token) is None
    assert (await logged_in(world, "zhiban", PASSWORD)).session.user.must_change_password


async def test_disabling_works_at_once(world: World) -> None:
    user = await world.watcher()
    ok = await logged_in(world, "zhiban", PASSWORD)
    before = world.changes
    await world.people.update_user(user.key, actor=None, enabled=False)
    assert await world.people.session(ok.token) is None
    assert await world.people.login("zhiban", PASSWORD, HERE) == LoginRefused(code="E_LOGIN", http_status=401)
    assert world.changes == before + 1


async def test_scopes_are_keys_of_nodes(world: World) -> None:
    user = await world.watcher()
    roots = [NodeKey("dev_" + "a" * 20), NodeKey("div_" + "b" * 20)]
    changed = await world.people.update_user(user.key, actor=None, scope=[*roots, roots[0]])
    assert changed.scope == tuple(roots)
    for bad in ("34020000001320000001", "chn_x", "usr_" + "a" * 20):
        with pytest.raises(PeopleError) as error:
            await world.people.update_user(user.key, actor=None, scope=[NodeKey(bad)])
        assert error.value.code == "scope_invalid"


async def test_every_change_is_a_row(world: World) -> None:
    await world.people.ensure_administrator()
    (admin,) = await world.people.users()
    user = await world.people.create_user(
        actor=admin.key, username="zhiban", display_name="值班", password=PASSWORD, roles={Role.WATCHER}
    )
    await world.people.update_user(user.key, actor=admin.key, scope=[NodeKey("dev_" + "a" * 20)], password=OTHER)
    await world.people.remove_user(user.key, actor=admin.key)
    rows = await world.rows(EntryKind.ADMIN)
    assert [row["action"] for row in rows] == ["USER_CREATED", "USER_CREATED", "USER_CHANGED", "USER_REMOVED"]
    assert PASSWORD not in str(rows)
    assert OTHER not in str(rows)
    entries, _ = await world.ledger.entries(kind=EntryKind.ADMIN)
    assert [entry.user for entry in entries] == [admin.key, admin.key, admin.key, None]


async def test_without_the_ledger_nothing_changes(world: World) -> None:
    user = await world.watcher()
    await world.ledger.stop()
    for attempt in (
        world.people.update_user(user.key, actor=None, enabled=False),
        world.people.remove_user(user.key, actor=None),
        world.people.change_password(user.key, PASSWORD, OTHER),
        world.watcher("other"),
    ):
        with pytest.raises(LedgerUnavailableError):
            await attempt
    assert await world.people.login("zhiban", PASSWORD, HERE) == LoginRefused(
        code="E_LEDGER_UNAVAILABLE", http_status=503
    )
    assert await world.people.users() == [user]


async def test_unknown_users(world: World) -> None:
    nobody = UserKey("usr_" + "z" * 20)
    assert await world.people.user(nobody) is None
    for attempt in (
        world.people.update_user(nobody, actor=None, enabled=False),
        world.people.remove_user(nobody, actor=None),
        world.people.change_password(nobody, PASSWORD, OTHER),
    ):
        with pytest.raises(PeopleError) as error:
            await attempt
        assert error.value.http_status == 404


async def test_the_operator_can_reset_the_administrator(world: World) -> None:
    await world.people.ensure_administrator()
    name, password = await world.people.reset_administrator()
    assert (await logged_in(world, name, password)).session.user.must_change_password
