"""Sealed device passwords: bound to their row, useless without the key, never under a key others can read."""

from pathlib import Path

import pytest

from catalog.secrets import SecretBox, SecretBoxError


def test_what_was_sealed_opens_only_in_its_place() -> None:
    box = SecretBox(bytes(range(32)))
    sealed = box.seal("pass 密码", context="dev_a")
    assert box.open(sealed, context="dev_a") == "pass 密码"
    assert box.seal("pass 密码", context="dev_a") != sealed
    with pytest.raises(SecretBoxError):
        box.open(sealed, context="dev_b")
    with pytest.raises(SecretBoxError):
        SecretBox(bytes(32)).open(sealed, context="dev_a")


def test_every_altered_octet_is_noticed() -> None:
    box = SecretBox(bytes(range(32)))
    sealed = box.seal("p", context="dev_a")
    for index in range(len(sealed)):
        with pytest.raises(SecretBoxError):
            box.open(sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :], context="dev_a")
    for length in range(len(sealed)):
        with pytest.raises(SecretBoxError):
            box.open(sealed[:length], context="dev_a")


def test_a_key_file_that_is_open_short_or_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    SecretBox.open_file(path)
    path.chmod(0o640)
    with pytest.raises(SecretBoxError, match="chmod 600"):
        SecretBox.open_file(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SecretBoxError, match="32 octets"):
        SecretBox.open_file(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        SecretBox.open_file(link)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
