"""Passwords of people: the rules a new one must meet (等保 8.1.4.1 a), argon2id hashes, one-time passwords."""

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MAX_LENGTH = 128
_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_ONE_TIME_LENGTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordRules:
    """`min_length` characters, of at least `classes` of {lower, upper, digit, other}, unlike the last `history`."""

    min_length: int = 12
    classes: int = 3
    history: int = 5


class WeakPasswordError(ValueError):
    """The new password does not meet the rules; the text says which."""


def check_rules(password: str, *, username: str, rules: PasswordRules) -> None:
    """Raise WeakPasswordError unless `password` meets the rules."""
    if not rules.min_length <= len(password) <= MAX_LENGTH:
        raise WeakPasswordError(f"a password has {rules.min_length} to {MAX_LENGTH} characters")
    if len(username) >= 3 and username.casefold() in password.casefold():
        raise WeakPasswordError("a password may not contain the user name")
    kinds = {_kind(char) for char in password}
    if len(kinds) < rules.classes:
        raise WeakPasswordError(
            f"a password needs {rules.classes} of: lower case, upper case, digits, other characters"
        )
    if len(set(password)) < 5:
        raise WeakPasswordError("a password needs at least five different characters")


def _kind(char: str) -> str:
    if char.isdigit():
        return "digit"
    return "upper" if char.isupper() else "lower" if char.islower() else "other"


def one_time_password() -> str:
    """A random password of 20 characters (115 bits) without look-alikes, in groups of five."""
    while True:
        text = "".join(secrets.choice(_ALPHABET) for _ in range(_ONE_TIME_LENGTH))
        if {"digit", "upper", "lower"} <= {_kind(char) for char in text}:
            return "-".join(text[start : start + 5] for start in range(0, _ONE_TIME_LENGTH, 5))


class Hasher:
    """argon2id off the event loop, at most `parallel` at a time (each takes tens of MiB and a core)."""

    def __init__(self, hasher: PasswordHasher | None = None, *, parallel: int = 2) -> None:
        self._hasher = hasher or PasswordHasher()  # RFC 9106 second recommended option: 64 MiB, 3 passes
        self._slots = asyncio.Semaphore(parallel)
        # Verified against when there is no such user, so that both answers take the same time.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        """The encoded hash of a password."""
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, _octets(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """True when `password` is the one of the hash; with None it takes as long and is False."""
        async with self._slots:
            matches = await asyncio.to_thread(self._matches, stored or self._nobody, password)
        return matches and stored is not None

    async def any_matches(self, stored: Iterable[str], password: str) -> bool:
        """True when the password belongs to one of the hashes."""
        for one in stored:
            if await self.verify(one, password):
                return True
        return False

    def outdated(self, stored: str) -> bool:
        """True when the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, _octets(password))
        except (VerificationError, InvalidHashError):
            return False


def _octets(password: str) -> bytes:
    """JSON can carry lone surrogates; they are hashed like anything else."""
    return password.encode("utf-8", "surrogatepass")
