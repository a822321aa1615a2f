"""Databases: an external one with and without its owner, and commands beside a running platform."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from ops.account_command import reset_administrator
from ops.clock import system_clock
from ops.config import Config, ConfigError, StoreSection, load
from ops.embedded import EmbeddedPostgres
from ops.embedded_base import EmbeddedError
from ops.ledger_command import head, verify
from ops.migrate import APP, OWNER, MigrationError, migrations
from ops.storage import open_database, open_storage
from sharing.lease import Client
from sharing.ledger import EntryKind, Ledger
from sharing.people import LoginOk, LoginRefused, People
from tests.fixtures_db import Database, create_database

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "redis://127.0.0.1:1/0"  # Valkey is reached when it is needed; here nobody needs it
HERE = Client(ip="192.0.2.1")


def dsn(server: EmbeddedPostgres, user: str, database: str) -> str:
    address = server.address(user, database)
    return f"postgresql://{user}:{address.password}@{address.host}:{address.port}/{database}"


@pytest.fixture
async def admin(postgres: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**postgres.address().arguments())
    yield connection
    await connection.close()


@pytest.fixture
async def empty(postgres: EmbeddedPostgres, admin: asyncpg.Connection) -> AsyncIterator[str]:
    """A database as an operator makes it: it belongs to the owner and holds nothing."""
    await admin.execute(f"CREATE DATABASE external OWNER {OWNER} TEMPLATE template0")
    yield "external"
    await admin.execute("DROP DATABASE external WITH (FORCE)")


@pytest.fixture
async def present(postgres: EmbeddedPostgres, admin: asyncpg.Connection) -> AsyncIterator[Database]:
    made = await create_database(postgres, admin)
    yield made
    await admin.execute(f"DROP DATABASE {made.name} WITH (FORCE)")


def config_of(directory: Path, **store: str) -> Config:
    return Config(data_dir=directory, store=StoreSection(valkey_url=NOBODY, **store))


async def test_an_external_database_is_migrated_by_its_owner_and_used_by_the_platform(
    postgres: EmbeddedPostgres, empty: str, tmp_path: Path
) -> None:
    config = config_of(tmp_path, dsn=dsn(postgres, APP, empty), owner_dsn=dsn(postgres, OWNER, empty))
    for _ in range(2):  # the second start finds nothing to do
        async with open_storage(config) as storage:
            assert await storage.pool.fetchval("SELECT current_user") == APP
            assert await storage.pool.fetchval("SELECT count(*) FROM users") == 0
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await storage.pool.execute("ALTER TABLE users ADD COLUMN mine text")
    # Afterwards it works without the owner.
    async with open_storage(config_of(tmp_path, dsn=dsn(postgres, APP, empty))) as storage:
        assert await storage.pool.fetchval("SELECT count(*) FROM users") == 0


async def test_an_external_database_without_a_schema_is_refused_in_one_line(
    postgres: EmbeddedPostgres, empty: str, tmp_path: Path
) -> None:
    with pytest.raises(MigrationError, match=r"at no schema .* needs \d+: set store\.owner_dsn"):
        async with open_storage(config_of(tmp_path, dsn=dsn(postgres, APP, empty))):
            pytest.fail("it was opened")


@pytest.mark.parametrize(("change", "words"), [("DELETE", "set store.owner_dsn"), ("INSERT", "the newer release")])
async def test_an_external_database_of_another_release_is_refused(
    postgres: EmbeddedPostgres, present: Database, tmp_path: Path, change: str, words: str
) -> None:
    newest = migrations()[-1].version
    connection = await asyncpg.connect(**present.superuser.arguments())
    if change == "DELETE":
        await connection.execute("DELETE FROM schema_migrations WHERE version = $1", newest)
    else:
        await connection.execute("INSERT INTO schema_migrations VALUES ($1, 'x', 'x')", newest + 1)
    await connection.close()
    with pytest.raises(MigrationError, match=words):
        async with open_storage(config_of(tmp_path, dsn=dsn(postgres, APP, present.name))):
            pytest.fail("it was opened")


async def test_an_owner_who_may_not_is_said_so(postgres: EmbeddedPostgres, empty: str, tmp_path: Path) -> None:
    config = config_of(tmp_path, dsn=dsn(postgres, APP, empty), owner_dsn=dsn(postgres, APP, empty))
    with pytest.raises(MigrationError, match=r"store\.owner_dsn"):
        async with open_storage(config):
            pytest.fail("it was opened")


def test_an_owner_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"store\.owner_dsn: needs store\.dsn"):
        load(environ={"MINGJIAN_STORE_OWNER_DSN": "postgresql://x"})


async def test_nothing_to_attach_to_is_an_error_in_time(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    with pytest.raises(EmbeddedError, match="not ready"):
        await server.attach(timeout=0)


async def run(*arguments: str, data_dir: Path) -> tuple[int, str, str]:
    """A command of the platform in a process of its own: exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.cli", *arguments),
        cwd=ROOT,
        env={**os.environ, "MINGJIAN_DATA_DIR": str(data_dir)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_commands_work_beside_the_running_platform_and_without_it(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    clock = system_clock()
    async with open_storage(config) as storage:
        ledger = Ledger(storage.pool, clock=clock)
        await ledger.start()
        people = People(storage.pool, ledger=ledger, clock=clock)
        code, _, err = await run("account", "reset-administrator", data_dir=tmp_path)
        assert (code, err) == (2, "mingjian: there is no administrator\n")
        first = await people.ensure_administrator()
        assert first is not None
        name, password = await reset_administrator(config)
        assert name == first[0]
        assert isinstance(await people.login(name, first[1], HERE), LoginRefused), "the old one is void"
        login = await people.login(name, password, HERE)
        assert isinstance(login, LoginOk)
        assert login.session.user.must_change_password
        code, out, err = await run("account", "reset-administrator", data_dir=tmp_path)
        assert (code, err) == (0, "")
        assert out.startswith(f"administrator:  {name} / ")
        # Both wrote into one ledger, and it holds together.
        await ledger.append(EntryKind.SYSTEM, {"event": "test"})
        good, fact = await verify(config, root="", size=0)
        assert (good, fact["size"]) == (True, (await ledger.head()).size)
        code, out, _ = await run("ledger", "verify", data_dir=tmp_path)
        assert (code, json.loads(out)) == (0, fact)
        await ledger.stop()
        assert await storage.pool.fetchval("SELECT true"), "the platform's server goes on"
    assert await head(config) == {"size": fact["size"], "root": fact["root"]}
    async with open_database(config) as pool:
        assert await pool.fetchval("SELECT current_user") == APP
