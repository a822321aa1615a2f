"""What both embedded servers need: an unprivileged user, programs it can reach, a lock, a child that dies with us."""

import asyncio
import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from catalog.secrets import write_secret

log = structlog.get_logger("mingjian.embedded")

USER_NAMES = ("mingjian", "postgres", "nobody")
CACHE_ROOTS = (Path("/var/cache/mingjian"), Path("/opt/mingjian/cache"))
_GUARD = Path(__file__).with_name("embedded_exec.py")
_PARENT_IS_GONE = 111


class EmbeddedError(Exception):
    """An embedded server cannot be started; the text says why and what to do."""


class DirectoryInUseError(EmbeddedError):
    """Another process holds the lock of the directory: most likely the running platform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The user a server runs as; `uid` -1 means the present one."""

    uid: int
    gid: int
    name: str

    @property
    def switches(self) -> bool:
        return self.uid >= 0


def choose_identity(run_as: str | None) -> Identity:
    """The unprivileged user to run as. Only root needs one: `run_as`, or the first of USER_NAMES that exists."""
    if os.geteuid() != 0:
        return Identity(uid=-1, gid=-1, name="")
    for name in (run_as,) if run_as else USER_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise EmbeddedError(f"the database may not run as {name}: that is root")
        return Identity(uid=entry.pw_uid, gid=entry.pw_gid, name=name)
    wanted = run_as or ", ".join(USER_NAMES)
    raise EmbeddedError(f"running as root needs an unprivileged user for the database; none of these exists: {wanted}")


def has_name(uid: int) -> bool:
    """True when the user database knows `uid` (containers may run as a number it does not)."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def reachable(path: Path) -> bool:
    """True when any user can execute (a file) or search (a directory) `path`, through all of its parents."""
    resolved = path.resolve()
    return all(part.stat().st_mode & stat.S_IXOTH for part in (resolved, *resolved.parents))


def shared_copy(roots: Sequence[Path], base: Path, *, version: str) -> Path:
    """A root-owned copy of `roots` (all under `base`) that any user can reach, made once; the counterpart of `base`.

    Needed when Python is installed where only root can look (/root). Opening those directories instead would give
    every local user a way in. Raises EmbeddedError.
    """
    fingerprint = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*") if root.is_dir() else [root]):
            info = path.lstat()
            fingerprint.update(f"{path.relative_to(base)}\0{info.st_size}\0{info.st_mode}\n".encode())
    for cache in CACHE_ROOTS:
        target = cache / f"{version}-{fingerprint.hexdigest()[:16]}"
        try:
            return _fill(cache, target, roots, base)
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            log.info("shared_copy_skipped", place=str(cache), error=error.strerror)
    raise EmbeddedError(f"no place for a copy of the server programs outside {base}; set store.postgres_bin")


def _fill(cache: Path, target: Path, roots: Sequence[Path], base: Path) -> Path:
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    info = cache.stat()
    if info.st_uid != os.geteuid() or info.st_mode & 0o022 or not reachable(cache):
        raise EmbeddedError(f"{cache} must belong to root, be writable by nobody else and be open for reading")
    if target.exists():
        return target
    partial = cache / f".partial-{secrets.token_hex(6)}"
    try:
        for root in roots:
            destination = partial / root.relative_to(base)
            destination.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if root.is_dir():
                shutil.copytree(root, destination, symlinks=True)
            else:
                shutil.copy2(root, destination)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():  # else somebody else was quicker, with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def secret_file(path: Path) -> str:
    """The secret in `path`, made (256 random bits, 0600) when there is none. Raises EmbeddedError, OSError."""
    try:
        write_secret(path, secrets.token_urlsafe(32).encode())
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise EmbeddedError(f"{path} is open to others: delete it together with its server's data") from None
    return path.read_text()


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DirectoryLock:
    """An advisory lock that the kernel drops with the process, whatever way it ends: it cannot become stale."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it. Raises DirectoryInUseError when another process has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DirectoryInUseError(f"another process of the platform is using {self._path.parent}") from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def memory_file(content: bytes, identity: Identity) -> Iterator[int]:
    """An anonymous file that only `identity` can open, as /proc/self/fd/N of a child: a secret that is on no disk."""
    descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        if identity.switches:
            os.fchown(descriptor, identity.uid, identity.gid)
        os.fchmod(descriptor, 0o400)
        yield descriptor
    finally:
        os.close(descriptor)


async def spawn(
    argv: Sequence[str],
    *,
    identity: Identity,
    cwd: Path,
    death_signal: signal.Signals,
    output: int,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start a server as `identity`, in its own session (Ctrl-C is ours to handle), dying with this thread.

    Call it from a thread that lives as long as the process (the kernel ties PDEATHSIG to the thread).
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", str(_GUARD), str(os.getpid()), str(identity.uid), str(identity.gid), str(int(death_signal))),
        *(argv[0], *argv),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={"PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"},
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )


async def stop_process(process: asyncio.subprocess.Process, signals: Sequence[tuple[signal.Signals, float]]) -> None:
    """Send each signal and give it its seconds; SIGKILL at the end."""
    for number, patience in signals:
        if process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), patience)
        except TimeoutError:
            log.warning("embedded_stop_slow", signal=number.name, seconds=patience)
    if process.returncode is None:
        process.kill()
        await process.wait()


def processes_in(directory: Path, name: str) -> list[int]:
    """Processes called `name` (the kernel's 15 characters) whose working directory is `directory`."""
    found = []
    wanted = os.stat(directory)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "comm").read_text().strip() != name:
                continue
            seen = os.stat(entry / "cwd")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone, or another user's: a server of this directory would be ours
        if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry.name))
    return sorted(found)


async def reap_orphans(directory: Path, name: str, *, polite: signal.Signals, patience: float) -> None:
    """End servers a killed launcher left in `directory` (they got PDEATHSIG and may be stopping), SIGKILL at last."""
    for number, seconds in ((polite, patience), (signal.SIGKILL, 5.0)):
        orphans = processes_in(directory, name)
        if not orphans:
            return
        log.warning("embedded_orphans", server=name, count=len(orphans), signal=number.name)
        for pid in orphans:
            with _gone_is_fine():
                os.kill(pid, number)
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if not processes_in(directory, name):
                return
            await asyncio.sleep(0.02)
    if processes_in(directory, name):
        raise EmbeddedError(f"an old {name} process in {directory} does not end")


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        return


def open_log(path: Path, *, limit: int = 4 << 20) -> int:
    """A descriptor to append to; a log above `limit` octets is moved to `.1` first (one old file is kept)."""
    if path.exists() and path.stat().st_size > limit:
        path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(path: Path, *, lines: int = 5) -> str:
    """The last lines of a server's log, for an error text."""
    try:
        text = path.read_text(errors="replace")[-8192:]
    except FileNotFoundError:
        return ""
    return " | ".join(line for line in text.splitlines()[-lines:] if line.strip())
