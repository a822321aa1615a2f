"""Users, roles, scopes, passwords and sessions."""

import hashlib
import ipaddress
import math
import secrets
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import asyncpg
import structlog

from catalog.model import NodeKey
from catalog.reads import is_node_key
from sharing.lease import Client
from sharing.ledger import EntryKind, Ledger, LedgerUnavailableError
from sharing.passwords import Hasher, PasswordRules, WeakPasswordError, check_rules, one_time_password
from sipserver.protocol.ids import UserKey, new_key

log = structlog.get_logger("mingjian.people")

FIRST_ADMINISTRATOR = "admin"
_LOCK = 0x4D4A_0004
_SELECT_USER = (
    "SELECT u.*, ARRAY(SELECT role FROM user_roles r WHERE r.user_key = u.user_key) AS roles, "
    "ARRAY(SELECT root_key FROM user_scopes s WHERE s.user_key = u.user_key ORDER BY 1) AS scope "
    "FROM users u WHERE u.removed_at IS NULL"
)


class Role(StrEnum):
    """Separated powers (等保 8.1.4.2): nobody holds two of them, and only the watcher may see a picture."""

    ADMINISTRATOR = "administrator"
    WATCHER = "watcher"
    AUDITOR = "auditor"


class PeopleError(Exception):
    """A change that cannot be made. `code` is stable, `http_status` what the interface answers."""

    def __init__(self, code: str, http_status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One account. `scope` are the roots of the subtrees a watcher may watch; `may_listen`: with their sound."""

    key: UserKey
    username: str = field(repr=False)
    display_name: str = field(repr=False)
    roles: frozenset[Role]
    scope: tuple[NodeKey, ...]
    enabled: bool
    must_change_password: bool
    created_at: float
    last_login_at: float | None = None
    may_listen: bool = False
    may_control: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open session. The token itself is never stored; `expires_at` is the absolute end (unix seconds)."""

    user: User
    created_at: float
    expires_at: float
    idle_expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginOk:
    """A login that succeeded: the bearer token is shown this once."""

    token: str = field(repr=False)
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRefused:
    """A login that failed. `code`: "E_LOGIN" (401), "E_LOGIN_THROTTLED" (429, `retry_after` seconds) or
    "E_LEDGER_UNAVAILABLE" (503)."""

    code: str
    http_status: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleConfig:
    """Times in seconds. `failures` wrong passwords for (account, source) lock that pair for `lock_seconds`."""

    idle_seconds: float = 900.0
    session_seconds: float = 12 * 3600.0
    failures: int = 5
    lock_seconds: float = 900.0
    max_users: int = 10_000
    max_sessions_per_user: int = 20
    max_scope: int = 1000
    rules: PasswordRules = field(default_factory=PasswordRules)


class People:
    """Accounts and sessions. Every change is a ledger row first; `actor` is who makes it (None: the system itself).

    Methods that change something raise LedgerUnavailableError when the row cannot be written: nothing has changed then.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        ledger: Ledger,
        clock: Callable[[], float],
        config: PeopleConfig | None = None,
        hasher: Hasher | None = None,
        token: Callable[[int], str] = secrets.token_hex,
        on_rights_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_rights_changed` is called after a right was changed: running pictures should be decided again."""
        self._pool = pool
        self._ledger = ledger
        self._clock = clock
        self._config = config or PeopleConfig()
        self._hasher = hasher or Hasher()
        self._token = token
        self._on_rights_changed = on_rights_changed

    # Sessions

    async def login(self, username: str, password: str, client: Client) -> LoginOk | LoginRefused:
        """Open a session. Unknown name and wrong password are indistinguishable, in answer and in time."""
        now, name = self._clock(), normalise(username)
        wait = await self._reserve_attempt(name, client, now)
        if wait is not None:
            return LoginRefused(code="E_LOGIN_THROTTLED", http_status=429, retry_after=wait)
        known = name if name.isprintable() else ""  # what the database cannot hold is nobody's name
        row = await self._pool.fetchrow(f"{_SELECT_USER} AND u.username = $1", known)
        right = await self._hasher.verify(None if row is None else row["password_hash"], password)
        user = None if row is None else _user(row)
        origin = {"ip": client.ip, "channel": client.channel, "zone": client.zone.value}
        try:
            if user is None or not right or not user.enabled:
                key = None if user is None else user.key
                await self._ledger.append(EntryKind.LOGIN_REFUSED, {"code": "E_LOGIN", "client": origin}, user=key)
                return LoginRefused(code="E_LOGIN", http_status=401)
            facts = {"username": user.username, "name": user.display_name, "client": origin}
            await self._ledger.append(EntryKind.LOGIN, facts, user=user.key)
        except LedgerUnavailableError:
            return LoginRefused(code="E_LEDGER_UNAVAILABLE", http_status=503)
        if self._hasher.outdated(row["password_hash"]):
            fresh = await self._hasher.hash(password)
            await self._pool.execute("UPDATE users SET password_hash = $2 WHERE user_key = $1", user.key, fresh)
        return await self._open_session(user, name, client, now)

    async def session(self, token: str) -> Session | None:
        """The session of a bearer token, or None when unknown, idle too long, past its end or its user disabled."""
        now = self._clock()
        row = await self._pool.fetchrow(
            "SELECT s.created_at AS opened_at, s.last_seen_at, s.expires_at, u.* FROM sessions s "  # noqa: S608
            f"JOIN ({_SELECT_USER}) u USING (user_key) WHERE s.token_hash = $1",
            _token_hash(token),
        )
        if row is None or not row["enabled"]:
            return None
        idle_end = row["last_seen_at"] + self._config.idle_seconds
        if now >= row["expires_at"] or now >= idle_end:
            return None
        if now - row["last_seen_at"] >= self._config.idle_seconds / 30:  # not a write for every request
            await self._pool.execute(
                "UPDATE sessions SET last_seen_at = $2 WHERE token_hash = $1 AND last_seen_at < $2",
                _token_hash(token),
                now,
            )
            idle_end = now + self._config.idle_seconds
        return Session(
            user=_user(row),
            created_at=row["opened_at"],
            expires_at=row["expires_at"],
            idle_expires_at=min(idle_end, row["expires_at"]),
        )

    async def logout(self, token: str) -> None:
        """End one session."""
        key = await self._pool.fetchval(
            "DELETE FROM sessions WHERE token_hash = $1 RETURNING user_key", _token_hash(token)
        )
        if key is not None:
            await self._ledger.append(EntryKind.LOGOUT, {}, user=key)

    async def change_password(self, user: UserKey, old: str, new: str, *, keep_token: str | None = None) -> None:
        """Change one's own password; every other session of the user ends. Raises PeopleError."""
        row = await self._pool.fetchrow(f"{_SELECT_USER} AND u.user_key = $1", user)
        if row is None or not row["enabled"]:
            raise _unknown()
        if not await self._hasher.verify(row["password_hash"], old):
            raise PeopleError("password_wrong", 403, "the present password is wrong")
        former = [row["password_hash"], *row["former_hashes"]][: self._config.rules.history]
        fresh = await self._new_hash(new, username=row["username"], former=former)
        await self._ledger.append(EntryKind.ADMIN, {"action": "PASSWORD_CHANGED", "target": user}, user=user)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "UPDATE users SET password_hash = $2, former_hashes = $3, must_change_password = false, "
                "password_changed_at = $4 WHERE user_key = $1",
                user,
                fresh,
                former,
                self._clock(),
            )
            await connection.execute(
                "DELETE FROM sessions WHERE user_key = $1 AND ($2::bytea IS NULL OR token_hash <> $2)",
                user,
                None if keep_token is None else _token_hash(keep_token),
            )
        self._on_rights_changed()

    # Accounts

    async def ensure_administrator(self) -> tuple[str, str] | None:
        """At first start: create the administrator; returns (username, one-time password) once, later None."""
        if await self._pool.fetchval("SELECT 1 FROM users LIMIT 1"):
            return None
        password = one_time_password()
        await self.create_user(
            actor=None,
            username=FIRST_ADMINISTRATOR,
            display_name="系统管理员",
            password=password,
            roles={Role.ADMINISTRATOR},
        )
        return FIRST_ADMINISTRATOR, password

    async def reset_administrator(self) -> tuple[str, str]:
        """For the operator at the machine: a new one-time password for the oldest administrator. Raises PeopleError."""
        users = sorted(await self.users(), key=lambda user: user.created_at)
        for user in users:
            if Role.ADMINISTRATOR in user.roles:
                password = one_time_password()
                await self.update_user(user.key, actor=None, password=password, enabled=True)
                return user.username, password
        raise PeopleError("user_unknown", 404, "there is no administrator")

    async def user(self, key: UserKey) -> User | None:
        """One user, or None."""
        row = await self._pool.fetchrow(f"{_SELECT_USER} AND u.user_key = $1", key)
        return None if row is None else _user(row)

    async def users(self) -> list[User]:
        """All users by name (bounded by `max_users`)."""
        rows = await self._pool.fetch(f"{_SELECT_USER} ORDER BY u.username LIMIT $1", self._config.max_users)
        return [_user(row) for row in rows]

    async def create_user(
        self,
        *,
        actor: UserKey | None,
        username: str,
        display_name: str,
        password: str,
        roles: Collection[Role],
        scope: Collection[NodeKey] = (),
        may_listen: bool = False,
    ) -> User:
        """Create an account whose password must be changed at first login. Raises PeopleError."""
        name = normalise(username)
        if not name or len(name) > 64 or not name.isprintable():
            raise PeopleError("username_invalid", 422, "a user name has 1 to 64 printable characters")
        role, roots = _one_role(roles), self._checked_scope(scope)
        fresh = await self._new_hash(password, username=name, former=())
        key = UserKey(new_key("usr", self._token))
        facts = {
            "action": "USER_CREATED",
            "target": key,
            "role": role.value,
            "scope": list(roots),
            "may_listen": may_listen,
        }
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await connection.fetchval("SELECT 1 FROM users WHERE username = $1 AND removed_at IS NULL", name):
                raise PeopleError("user_exists", 409, "the user name is taken")
            if await connection.fetchval("SELECT count(*) FROM users") >= self._config.max_users:
                raise PeopleError("too_many_users", 409, "there are as many users as may be")
            await self._ledger.append(EntryKind.ADMIN, {**facts, "username": name}, user=actor)
            await connection.execute(
                "INSERT INTO users (user_key, username, display_name, password_hash, must_change_password, "
                "created_at, password_changed_at, may_listen) VALUES ($1, $2, $3, $4, true, $5, $5, $6)",
                key,
                name,
                _display(display_name, name),
                fresh,
                self._clock(),
                may_listen,
            )
            await _store_rights(connection, key, role=role, scope=roots)
        return await self._required(key)

    async def update_user(
        self,
        key: UserKey,
        *,
        actor: UserKey | None,
        display_name: str | None = None,
        roles: Collection[Role] | None = None,
        scope: Collection[NodeKey] | None = None,
        enabled: bool | None = None,
        password: str | None = None,
        may_listen: bool | None = None,
    ) -> User:
        """Change what is given. Disabling or a new password ends the user's sessions. Raises PeopleError."""
        before = await self._required(key)
        role = None if roles is None else _one_role(roles)
        roots = None if scope is None else self._checked_scope(scope)
        fresh = None if password is None else await self._new_hash(password, username=before.username, former=())
        facts: dict[str, Any] = {"action": "USER_CHANGED", "target": key, "password": fresh is not None}
        if role is not None:
            facts["role"] = role.value
        if roots is not None:
            facts["scope"] = list(roots)
        if enabled is not None:
            facts["enabled"] = enabled
        if may_listen is not None:
            facts["may_listen"] = may_listen
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if enabled is False or (role is not None and role is not Role.ADMINISTRATOR):
                await _keep_an_administrator(connection, key)
            await self._ledger.append(EntryKind.ADMIN, facts, user=actor)
            changed = await connection.fetchval(
                "UPDATE users SET display_name = coalesce($2, display_name), enabled = coalesce($3, enabled), "
                "password_hash = coalesce($4, password_hash), "
                "must_change_password = must_change_password OR $4 IS NOT NULL, "
                "password_changed_at = CASE WHEN $4 IS NULL THEN password_changed_at ELSE $5 END, "
                "may_listen = coalesce($6, may_listen) "
                "WHERE user_key = $1 AND removed_at IS NULL RETURNING true",
                key,
                None if display_name is None else _display(display_name, before.username),
                enabled,
                fresh,
                self._clock(),
                may_listen,
            )
            if not changed:
                raise _unknown()
            await _store_rights(connection, key, role=role, scope=roots)
            if enabled is False or fresh is not None:
                await connection.execute("DELETE FROM sessions WHERE user_key = $1", key)
        self._on_rights_changed()
        return await self._required(key)

    async def allow_control(self, key: UserKey, allowed: bool, *, actor: UserKey | None) -> User:
        """Give or take the right to move cameras. Raises PeopleError."""
        await self._required(key)
        facts = {"action": "RIGHT_CHANGED", "target": key, "may_control": allowed}
        await self._ledger.append(EntryKind.ADMIN, facts, user=actor)
        await self._pool.execute("UPDATE users SET may_control = $2 WHERE user_key = $1", key, allowed)
        self._on_rights_changed()
        return await self._required(key)

    async def remove_user(self, key: UserKey, *, actor: UserKey | None) -> None:
        """Withdraw an account; its key stays in the ledger. Raises PeopleError."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if not await connection.fetchval("SELECT 1 FROM users WHERE user_key = $1 AND removed_at IS NULL", key):
                raise _unknown()
            await _keep_an_administrator(connection, key)
            await self._ledger.append(EntryKind.ADMIN, {"action": "USER_REMOVED", "target": key}, user=actor)
            await connection.execute(
                "UPDATE users SET removed_at = $2, enabled = false WHERE user_key = $1", key, self._clock()
            )
            for table in ("sessions", "user_roles", "user_scopes"):
                await connection.execute(f"DELETE FROM {table} WHERE user_key = $1", key)  # noqa: S608 - constants
        self._on_rights_changed()

    # Inside

    async def _reserve_attempt(self, name: str, client: Client, now: float) -> int | None:
        """Count the attempt before it is made, so that parallel ones stay within the limit; seconds to wait, if any."""
        window = self._config.lock_seconds
        await self._pool.execute("DELETE FROM login_failures WHERE last_at <= $1", now - window)
        row = await self._pool.fetchrow(
            "INSERT INTO login_failures AS f (account, source, failures, last_at) VALUES ($1, $2, 1, $3) "
            "ON CONFLICT (account, source) DO UPDATE SET failures = f.failures + 1, "
            "last_at = CASE WHEN f.failures >= $4 THEN f.last_at ELSE $3 END RETURNING failures, last_at",
            _account(name),
            source_of(client.ip),
            now,
            self._config.failures,
        )
        if row["failures"] <= self._config.failures:
            return None
        if row["failures"] == self._config.failures + 1:
            log.warning("login_locked", seconds=window)
        return max(1, math.ceil(float(row["last_at"]) + window - now))

    async def _open_session(self, user: User, name: str, client: Client, now: float) -> LoginOk:
        token = secrets.token_urlsafe(32)
        expires_at = now + self._config.session_seconds
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "DELETE FROM login_failures WHERE account = $1 AND source = $2", _account(name), source_of(client.ip)
            )
            await connection.execute(
                "DELETE FROM sessions WHERE expires_at <= $1 OR last_seen_at <= $2 OR token_hash IN (SELECT token_hash "
                "FROM sessions WHERE user_key = $3 ORDER BY created_at DESC OFFSET $4)",
                now,
                now - self._config.idle_seconds,
                user.key,
                self._config.max_sessions_per_user - 1,
            )
            await connection.execute(
                "INSERT INTO sessions (token_hash, user_key, created_at, last_seen_at, expires_at) "
                "VALUES ($1, $2, $3, $3, $4)",
                _token_hash(token),
                user.key,
                now,
                expires_at,
            )
            await connection.execute("UPDATE users SET last_login_at = $2 WHERE user_key = $1", user.key, now)
        session = Session(
            user=user,
            created_at=now,
            expires_at=expires_at,
            idle_expires_at=min(expires_at, now + self._config.idle_seconds),
        )
        return LoginOk(token=token, session=session)

    async def _new_hash(self, password: str, *, username: str, former: Sequence[str]) -> str:
        try:
            check_rules(password, username=username, rules=self._config.rules)
        except WeakPasswordError as error:
            raise PeopleError("password_weak", 422, str(error)) from error
        if await self._hasher.any_matches(former, password):
            raise PeopleError("password_used", 422, "the password was used before")
        return await self._hasher.hash(password)

    def _checked_scope(self, scope: Collection[NodeKey]) -> tuple[NodeKey, ...]:
        roots = tuple(dict.fromkeys(scope))
        if len(roots) > self._config.max_scope or not all(is_node_key(root) for root in roots):
            raise PeopleError("scope_invalid", 422, f"a scope is up to {self._config.max_scope} keys of nodes")
        return roots

    async def _required(self, key: UserKey) -> User:
        user = await self.user(key)
        if user is None:
            raise _unknown()
        return user


def normalise(username: str) -> str:
    """User names are compared without case and in one Unicode form (NFKC)."""
    return unicodedata.normalize("NFKC", username).strip().casefold()


def source_of(ip: str | None) -> str:
    """The source that failures are counted for: an IPv4 address, or an IPv6 /64 (one subscriber has all of it)."""
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return "unknown"
    if address.version == 4:
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((int(address), 64), strict=False).network_address)


def _account(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _unknown() -> PeopleError:
    return PeopleError("user_unknown", 404, "there is no such user")


def _one_role(roles: Collection[Role]) -> Role:
    if len(set(roles)) != 1:
        raise PeopleError("role_conflict", 409, "a user has exactly one role: powers are separated")
    return Role(next(iter(roles)))


def _display(text: str, username: str) -> str:
    kept = "".join(char for char in text if char.isprintable()).strip()[:128]
    return kept or username


async def _keep_an_administrator(connection: asyncpg.Connection, leaving: UserKey) -> None:
    """Refuse what would leave nobody to administer."""
    left = await connection.fetchval(
        "SELECT count(*) FROM users JOIN user_roles USING (user_key) "
        "WHERE enabled AND removed_at IS NULL AND role = 'administrator' AND user_key <> $1",
        leaving,
    )
    is_one = await connection.fetchval(
        "SELECT 1 FROM user_roles WHERE user_key = $1 AND role = 'administrator'", leaving
    )
    if is_one and not left:
        raise PeopleError("last_administrator", 409, "the last administrator cannot go")


async def _store_rights(
    connection: asyncpg.Connection, key: UserKey, *, role: Role | None, scope: tuple[NodeKey, ...] | None
) -> None:
    if role is not None:
        await connection.execute("DELETE FROM user_roles WHERE user_key = $1", key)
        await connection.execute("INSERT INTO user_roles (user_key, role) VALUES ($1, $2)", key, role.value)
    if scope is not None:
        await connection.execute("DELETE FROM user_scopes WHERE user_key = $1", key)
        await connection.execute(
            "INSERT INTO user_scopes (user_key, root_key) SELECT $1, * FROM unnest($2::text[])", key, list(scope)
        )


def _user(row: Mapping[str, Any]) -> User:
    return User(
        key=UserKey(row["user_key"]),
        username=row["username"],
        display_name=row["display_name"],
        roles=frozenset(Role(role) for role in row["roles"]),
        scope=tuple(NodeKey(root) for root in row["scope"]),
        enabled=row["enabled"],
        must_change_password=row["must_change_password"],
        created_at=row["created_at"],
        last_login_at=row["last_login_at"],
        may_listen=row["may_listen"],
        may_control=row["may_control"],
    )
