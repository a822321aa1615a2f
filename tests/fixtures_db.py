"""Database fixtures: one embedded PostgreSQL a session, and a fresh migrated database a module (from a template)."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from ops.embedded import DatabaseAddress, EmbeddedPostgres
from ops.migrate import APP, OWNER, bootstrap, migrate

TEMPLATE = "mingjian_template"
NOON = 1_795_233_600.0
"""2026-11-21 12:00 in Beijing: where written clocks start."""


class FakeClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Database:
    """One fresh database: addresses for the platform, its owner and the superuser."""

    def __init__(self, server: EmbeddedPostgres, name: str) -> None:
        self.name = name
        self.app: DatabaseAddress = server.address(APP, name)
        self.owner: DatabaseAddress = server.address(OWNER, name)
        self.superuser: DatabaseAddress = server.address(database=name)


async def create_database(server: EmbeddedPostgres, admin: asyncpg.Connection) -> Database:
    """A copy of the migrated template, in some tens of milliseconds."""
    name = f"test_{secrets.token_hex(6)}"
    await admin.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {TEMPLATE}")
    return Database(server, name)


async def create_template(server: EmbeddedPostgres) -> None:
    """Roles and the migrated template database."""
    owner = server.address(OWNER, TEMPLATE)
    admin = await asyncpg.connect(**server.address().arguments())
    try:
        await bootstrap(
            admin, owner_password=owner.password, app_password=server.address(APP).password, database=TEMPLATE
        )
    finally:
        await admin.close()
    connection = await asyncpg.connect(**owner.arguments())
    try:
        await migrate(connection)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """The session's own PostgreSQL, durable as in production."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("pg")), settings={"max_connections": "100"})
    await server.start()
    try:
        await create_template(server)
        yield server
    finally:
        await server.stop()


@pytest.fixture(scope="module")
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A fresh migrated database for the module."""
    admin = await asyncpg.connect(**postgres.address().arguments())
    try:
        made = await create_database(postgres, admin)
        yield made
        await admin.execute(f"DROP DATABASE {made.name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture(scope="module")
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    """A pool of the running platform's role on the module's database."""
    async with asyncpg.create_pool(**database.app.arguments(), min_size=1, max_size=10) as made:
        yield made


@pytest.fixture
def clock() -> FakeClock:
    """A written clock."""
    return FakeClock()
