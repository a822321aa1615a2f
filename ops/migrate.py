"""Brings a database to the present schema: roles first (as superuser), then the numbered migrations (as owner).

Two roles keep the platform honest: `mingjian_owner` owns the tables and is used only here; `mingjian_app` is what
the running platform is, without any right to change the schema or a row of the ledger.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from ops.embedded import DatabaseAddress, EmbeddedPostgres

log = structlog.get_logger("mingjian.migrate")

OWNER = "mingjian_owner"
APP = "mingjian_app"
DATABASE = "mingjian"
DIRECTORY = Path(__file__).with_name("migrations")
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql\Z")
_LOCK = 0x4D4A_0001
_MINIMUM_VERSION = 150000


class MigrationError(Exception):
    """The database and the migrations of this release do not fit; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file. `digest` is the SHA-256 of its text: an applied migration may not change afterwards."""

    version: int
    name: str
    sql: str
    digest: str


def migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations in order; raises MigrationError unless they are numbered 1, 2, 3 … without a gap."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_words.sql")
        sql = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(sql.encode()).hexdigest()
        found.append(Migration(version=int(match[1]), name=match[2], sql=sql, digest=digest))
    if [one.version for one in found] != list(range(1, len(found) + 1)):
        raise MigrationError("the migrations are not numbered 1, 2, 3 … without a gap")
    return found


async def prepare_embedded(postgres: EmbeddedPostgres) -> DatabaseAddress:
    """Make roles, database and schema in a running embedded server; returns the address the platform works with."""
    owner = postgres.address(OWNER, DATABASE)
    app = postgres.address(APP, DATABASE)
    admin = await asyncpg.connect(**postgres.address().arguments())
    try:
        await bootstrap(admin, owner_password=owner.password, app_password=app.password)
    finally:
        await admin.close()
    connection = await asyncpg.connect(**owner.arguments())
    try:
        await migrate(connection)
    finally:
        await connection.close()
    return app


async def migrate_external(owner_dsn: str) -> None:
    """Bring an operator's own database up to date. Raises MigrationError; OSError when it cannot be reached."""
    try:
        connection = await asyncpg.connect(owner_dsn)
    except (asyncpg.PostgresError, ValueError) as error:
        raise MigrationError(f"store.owner_dsn: {_said(error)}") from error
    try:
        await migrate(connection)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"the schema cannot be brought up to date as store.owner_dsn: {_said(error)}") from error
    finally:
        await connection.close()


async def check_schema(pool: asyncpg.Pool, *, directory: Path = DIRECTORY) -> None:
    """Raises MigrationError unless the database is at exactly the schema of this release."""
    wanted = migrations(directory)[-1].version
    try:
        found = await pool.fetchval("SELECT max(version) FROM schema_migrations") or 0
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        found = 0  # none of ours yet, or from before its version could be read
    if found != wanted:
        where = f"at schema {found}" if found else "at no schema that store.dsn can read"
        remedy = "set store.owner_dsn to bring it up to date" if found < wanted else "install the newer release"
        raise MigrationError(f"the database is {where}, this release needs {wanted}: {remedy}")


def _said(error: Exception) -> str:
    """The first line of an error: the rest repeats statements."""
    return str(error).partition("\n")[0] or type(error).__name__


async def bootstrap(
    admin: asyncpg.Connection, *, owner_password: str, app_password: str, database: str = DATABASE
) -> None:
    """Make both roles and the database if they are missing, and set the passwords. `admin` must be a superuser."""
    for role, password in ((OWNER, owner_password), (APP, app_password)):
        if not await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            await admin.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION")
        # Utility statements take no bound parameters; format(%L) quotes on the server.
        statement = await admin.fetchval(f"SELECT format('ALTER ROLE {role} PASSWORD %L', $1::text)", password)
        await admin.execute(statement)
    if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
        statement = await admin.fetchval(
            "SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8''', $1::text, $2::text)",
            database,
            OWNER,
        )
        await admin.execute(statement)
    for template in ("REVOKE ALL ON DATABASE %I FROM PUBLIC", f"GRANT CONNECT, TEMPORARY ON DATABASE %I TO {APP}"):
        await admin.execute(await admin.fetchval("SELECT format($1::text, $2::text)", template, database))


async def migrate(owner: asyncpg.Connection, *, directory: Path = DIRECTORY) -> list[Migration]:
    """Apply what is missing, each migration in its own transaction; returns what was applied.

    Raises MigrationError when an applied migration differs from its file or the database is newer than this release.
    """
    if owner.get_server_version().major * 10000 < _MINIMUM_VERSION:
        raise MigrationError("PostgreSQL 15 or newer is needed")
    wanted = migrations(directory)
    await owner.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await owner.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL, "
            "digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await owner.fetch("SELECT version, digest FROM schema_migrations ORDER BY version")
        applied = {row["version"]: row["digest"] for row in rows}
        if applied and max(applied) > len(wanted):
            raise MigrationError(f"the database is at schema {max(applied)}, this release knows {len(wanted)}")
        fresh = []
        for one in wanted:
            if one.version in applied:
                if applied[one.version] != one.digest:
                    raise MigrationError(f"migration {one.version:04} was changed after it had been applied")
                continue
            async with owner.transaction():
                await owner.execute(one.sql)
                await owner.execute(
                    "INSERT INTO schema_migrations (version, name, digest) VALUES ($1, $2, $3)",
                    one.version,
                    one.name,
                    one.digest,
                )
            log.info("migration_applied", version=one.version, name=one.name)
            fresh.append(one)
        return fresh
    finally:
        await owner.execute("SELECT pg_advisory_unlock($1)", _LOCK)
