"""Small secrets kept in files of the data directory, made at the first start, readable by the platform alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from catalog.secrets import write_secret
from ops.config import ConfigError


def secret_bytes(path: Path, size: int = 32) -> bytes:
    """The secret in `path`; made (mode 0600) when missing. Raises ConfigError when it is too short to be ours."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(path, secrets.token_bytes(size))
    content = path.read_bytes()
    if len(content) < size:
        raise ConfigError(f"{path}: the secret is shorter than {size} octets")
    return content


def secret_text(path: Path) -> str:
    """A secret an operator keeps in a file. Raises ConfigError when it cannot be read or is empty."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}") from error
    if not text:
        raise ConfigError(f"{path}: is empty")
    return text
