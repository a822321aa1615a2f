"""Migrations: numbered, unchangeable once applied, and a runtime role that can do no more than it must."""

from pathlib import Path

import asyncpg
import pytest

from ops.embedded import EmbeddedPostgres
from ops.migrate import APP, MigrationError, migrate, migrations, prepare_embedded
from tests.fixtures_db import Database


async def test_a_second_run_changes_nothing(database: Database) -> None:
    connection = await asyncpg.connect(**database.owner.arguments())
    try:
        assert await migrate(connection) == []
    finally:
        await connection.close()


async def test_an_applied_migration_may_not_change(database: Database, tmp_path: Path) -> None:
    for one in migrations():
        text = one.sql + ("\n-- changed" if one.version == 2 else "")
        (tmp_path / f"{one.version:04}_{one.name}.sql").write_text(text)
    connection = await asyncpg.connect(**database.owner.arguments())
    try:
        with pytest.raises(MigrationError, match="0002 was changed"):
            await migrate(connection, directory=tmp_path)
    finally:
        await connection.close()


async def test_an_older_release_refuses_a_newer_database(database: Database, tmp_path: Path) -> None:
    first = migrations()[0]
    (tmp_path / f"0001_{first.name}.sql").write_text(first.sql)
    connection = await asyncpg.connect(**database.owner.arguments())
    try:
        with pytest.raises(MigrationError, match="this release knows 1"):
            await migrate(connection, directory=tmp_path)
    finally:
        await connection.close()


async def test_a_failing_migration_leaves_nothing(database: Database, tmp_path: Path) -> None:
    known = migrations()
    for one in known:
        (tmp_path / f"{one.version:04}_{one.name}.sql").write_text(one.sql)
    bad = tmp_path / f"{len(known) + 1:04}_bad.sql"
    bad.write_text("CREATE TABLE half (n integer); SELECT 1 / 0;")
    connection = await asyncpg.connect(**database.owner.arguments())
    try:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection, directory=tmp_path)
        assert await connection.fetchval("SELECT to_regclass('half')") is None
        assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == len(known)
    finally:
        await connection.close()


def test_numbers_without_a_gap(tmp_path: Path) -> None:
    (tmp_path / "0001_one.sql").write_text("SELECT 1")
    (tmp_path / "0003_three.sql").write_text("SELECT 3")
    with pytest.raises(MigrationError, match="without a gap"):
        migrations(tmp_path)
    (tmp_path / "two.sql").write_text("SELECT 2")
    with pytest.raises(MigrationError, match="NNNN_words"):
        migrations(tmp_path)


DENIED = [
    "CREATE TABLE mine (n integer)",
    "DROP TABLE devices",
    "ALTER TABLE ledger DISABLE TRIGGER ALL",
    "UPDATE ledger SET kind = 'x'",
    "DELETE FROM ledger",
    "TRUNCATE ledger CASCADE",
    "UPDATE ledger_records SET record = ''",
    "DELETE FROM ledger_nodes",
    "DELETE FROM open_leases",
    "DELETE FROM users",
    "UPDATE schema_migrations SET digest = ''",
    "CREATE ROLE other SUPERUSER",
    "SET session_replication_role = replica",
    "COPY users TO PROGRAM 'cat'",
]


@pytest.mark.parametrize("statement", DENIED)
async def test_the_runtime_role_is_refused(database: Database, statement: str) -> None:
    connection = await asyncpg.connect(**database.app.arguments())
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


CHANGES = [
    "UPDATE ledger SET at = at",
    "UPDATE ledger_records SET record = record",
    "UPDATE ledger_nodes SET hash = hash",
    "DELETE FROM ledger",
    "DELETE FROM ledger_records",
    "DELETE FROM ledger_nodes",
    "TRUNCATE ledger CASCADE",
    "TRUNCATE ledger_records",
    "TRUNCATE ledger_nodes",
]


@pytest.mark.parametrize("statement", CHANGES)
@pytest.mark.parametrize("who", ["owner", "superuser", "replica"])
async def test_the_ledger_refuses_everybody(database: Database, who: str, statement: str) -> None:
    address = database.owner if who == "owner" else database.superuser
    connection = await asyncpg.connect(**address.arguments())
    try:
        if who == "replica":
            await connection.execute("SET session_replication_role = replica")
        with pytest.raises(
            asyncpg.PostgresError, match="E_LEDGER_IMMUTABLE: the access ledger is append-only"
        ) as error:
            await connection.execute(statement)
        assert error.value.sqlstate == "MJ405"
    finally:
        await connection.close()


async def test_prepare_embedded_is_repeatable(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.start()
    try:
        first = await prepare_embedded(server)
        assert await prepare_embedded(server) == first
        assert first.user == APP
        connection = await asyncpg.connect(**first.arguments())
        assert await connection.fetchval("SELECT count(*) FROM devices") == 0
        await connection.close()
    finally:
        await server.stop()
