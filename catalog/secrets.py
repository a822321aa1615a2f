"""Device passwords at rest: AES-256-GCM under a key file that lies in the data directory, mode 0600."""

import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE = 12


class SecretBoxError(Exception):
    """A sealed secret cannot be opened (wrong key file, or altered in the database), or the key file is unsafe."""


class SecretBox:
    """Seals short secrets. `context` binds a sealed value to its row, so that it cannot be moved to another one."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise SecretBoxError("the key of the secret box must have 32 octets")
        self._cipher = AESGCM(key)

    @classmethod
    def open_file(cls, path: Path) -> "SecretBox":
        """Use the key in `path`, or make one (0600, durable) when there is none. Raises SecretBoxError, OSError."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return cls(_create_key(path))
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SecretBoxError(f"{path} is open to others: chmod 600 it and change the passwords it protects")
            return cls(file.read(64))

    def seal(self, secret: str, *, context: str) -> bytes:
        """Encrypt for storage: version octet, 12-octet random nonce, ciphertext with tag."""
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret.encode(), context.encode())

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt what `seal` made for the same context. Raises SecretBoxError."""
        if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE + 16:
            raise SecretBoxError("a stored secret has an unknown form")
        try:
            return self._cipher.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], context.encode()).decode()
        except InvalidTag as error:
            raise SecretBoxError("a stored secret does not open with this key file") from error


def _create_key(path: Path) -> bytes:
    key = secrets.token_bytes(32)
    write_secret(path, key)
    return key


def write_secret(path: Path, content: bytes) -> None:
    """Create a 0600 file that is either whole and durable or absent. Raises FileExistsError, OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike rename, never replaces a key that another process has just made
    finally:
        os.unlink(partial)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
