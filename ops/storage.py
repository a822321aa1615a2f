"""Opens the databases the configuration names, or starts the embedded ones under the data directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from valkey.asyncio import Valkey

from ops.config import Config
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.embedded_base import DirectoryInUseError
from ops.migrate import APP, DATABASE, check_schema, migrate_external, prepare_embedded


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """An asyncpg pool of the runtime role, and Valkey. `pool_size` bounds the connections of this process."""

    pool: asyncpg.Pool
    valkey: Valkey = field(repr=False)


@asynccontextmanager
async def open_storage(config: Config, *, pool_size: int = 16) -> AsyncIterator[Storage]:
    """Start or reach both, apply missing migrations, and close everything at the end.

    Migrations: to the embedded server, and to an external one whose owner is known (`store.owner_dsn`). Raises
    EmbeddedError, MigrationError, OSError.
    """
    async with AsyncExitStack() as stack:
        directory = config.data_dir
        directory.mkdir(parents=True, exist_ok=True)
        if config.store.owner_dsn:
            await migrate_external(config.store.owner_dsn)
        address, valkey_url = await asyncio.gather(_postgres(config, stack), _valkey(config, stack))
        pool = await asyncpg.create_pool(**address, min_size=2, max_size=pool_size, command_timeout=30)
        stack.push_async_callback(_close_pool, pool)
        await check_schema(pool)
        valkey = Valkey.from_url(valkey_url, socket_timeout=0.5, socket_connect_timeout=0.5)
        stack.push_async_callback(valkey.aclose)
        yield Storage(pool=pool, valkey=valkey)


@asynccontextmanager
async def open_database(config: Config) -> AsyncIterator[asyncpg.Pool]:
    """The database alone, for commands beside the platform or without it.

    When a platform runs on this data directory, its embedded server is used as it is, and stays when this ends.
    """
    async with AsyncExitStack() as stack:
        try:
            address = await _postgres(config, stack)
        except DirectoryInUseError:
            postgres = EmbeddedPostgres(config.data_dir)
            await postgres.attach()
            address = postgres.address(APP, DATABASE).arguments()
        pool = await asyncpg.create_pool(**address, min_size=1, max_size=4, command_timeout=300)
        stack.push_async_callback(_close_pool, pool)
        await check_schema(pool)
        yield pool


async def _close_pool(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _postgres(config: Config, stack: AsyncExitStack) -> dict[str, object]:
    if config.store.dsn:
        return {"dsn": config.store.dsn}
    binaries = Path(config.store.postgres_bin) if config.store.postgres_bin else None
    postgres = EmbeddedPostgres(config.data_dir, binaries=binaries)
    await postgres.start()
    stack.push_async_callback(postgres.stop)
    return (await prepare_embedded(postgres)).arguments()


async def _valkey(config: Config, stack: AsyncExitStack) -> str:
    if config.store.valkey_url:
        return config.store.valkey_url
    valkey = EmbeddedValkey(config.data_dir)
    await valkey.start()
    stack.push_async_callback(valkey.stop)
    return valkey.address().url()
