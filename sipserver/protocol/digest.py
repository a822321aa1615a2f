"""HTTP digest for SIP: stateless nonces, challenges, checking and answering (RFC 2617, 7616, 8760; facts §3.1, §32.1).

Not offered: qop, because many devices miscompute it; answers that use it are accepted all the same.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import itertools
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from sipserver.protocol.address import TOKEN, split_outside_quotes, unquote
from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from sipserver.protocol.ids import GbId

#: Milliseconds, serial, 96 bits of HMAC. Short, because a challenge should not be longer than what it answers.
_NONCE = re.compile(r"([0-9a-f]{11})([0-9a-f]{5})([0-9a-f]{24})\Z")
_MAX_FUTURE = 5.0  # seconds that another node's clock may be ahead of ours
_ALGORITHMS = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
#: One well-behaved parameter with what separates it from the next one.
_PARAMETER = re.compile(r"""[ \t]*+([A-Za-z-]+)=(?:"([^"\\]*+)"|([^\s",;=\\]+))[ \t]*+(?:,(?=.)|\Z)""", re.DOTALL)
_NC = re.compile(r"[0-9a-fA-F]{8}\Z")


class NonceVerdict(enum.Enum):
    FRESH = "fresh"
    STALE = "stale"  # ours, but too old: challenge again with stale=true
    FORGED = "forged"  # not ours, or issued to another address or device


class NonceIssuer:
    """Nonces that need no memory: HMAC-SHA-256 over time, address and device (reliability rule §1.3).

    secret: at least 16 octets, shared by the nodes of one platform. lifetime: seconds.
    """

    def __init__(self, secret: bytes, lifetime: float = 60) -> None:
        if len(secret) < 16:
            raise LocalProtocolError("nonce_secret_too_short")
        self._secret = secret
        self.lifetime = lifetime
        self._serial = itertools.count()

    def issue(self, now: float, ip: str, device: GbId | str) -> str:
        """40 hex digits; no million calls in a row give the same nonce twice, not even at the same `now`."""
        stamp = f"{int(now * 1_000):011x}"
        serial = f"{next(self._serial) & 0xFFFFF:05x}"
        return stamp + serial + self._mac(stamp, serial, ip, device)

    def check(self, nonce: str, *, now: float, ip: str, device: GbId | str) -> NonceVerdict:
        match = _NONCE.match(nonce)
        if match is None:
            return NonceVerdict.FORGED
        stamp, serial, mac = match.groups()
        if not hmac.compare_digest(mac, self._mac(stamp, serial, ip, device)):
            return NonceVerdict.FORGED
        age = now - int(stamp, 16) / 1_000
        return NonceVerdict.FRESH if -_MAX_FUTURE <= age <= self.lifetime else NonceVerdict.STALE

    def _mac(self, stamp: str, serial: str, ip: str, device: GbId | str) -> str:
        name = device.value if isinstance(device, GbId) else device
        text = "\0".join((stamp, serial, ip, name)).encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:24]


class ReplaySet:
    """Which nonces have already succeeded. Bounded: when `limit` living entries are held, first_use() refuses.

    Only successful authentications may be entered, so that strangers cannot fill it.
    """

    def __init__(self, limit: int = 200_000) -> None:
        self._limit = limit
        self._used: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def first_use(self, nonce: str, *, now: float, expires: float, count: int | None = None) -> bool:
        """True once per nonce; with `count` (nc of qop answers) True while it strictly rises (RFC 7616 §3.4).

        expires: unix time after which the nonce is refused anyway and may be forgotten.
        """
        self._purge(now)
        known = self._used.get(nonce)
        if known is not None:
            # A nonce once used without nc (entered as 0) has no second use whatever nc claims.
            if count is None or known[1] == 0 or count <= known[1]:
                return False
            self._used[nonce] = (known[0], count)
            return True
        if len(self._used) >= self._limit:
            return False
        self._used[nonce] = (expires, count or 0)
        return True

    def _purge(self, now: float) -> None:
        while self._used:
            nonce, (expires, _) = next(iter(self._used.items()))
            if expires > now and len(self._used) < self._limit:
                return
            if expires > now:
                break
            del self._used[nonce]
        if len(self._used) >= self._limit:
            for nonce in [key for key, (expires, _) in self._used.items() if expires <= now]:
                del self._used[nonce]

    def __len__(self) -> int:
        return len(self._used)


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestCredentials:
    """Content of an Authorization header. nc is None without qop."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    qop: str | None = None
    nc: int | None = None
    nc_text: str = ""
    cnonce: str = ""
    opaque: str | None = None

    def __repr__(self) -> str:
        return f"DigestCredentials(algorithm={self.algorithm}, qop={self.qop})"


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestChallenge:
    """Content of a WWW-Authenticate header."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False


def _parameters(text: str) -> dict[str, str] | None:
    """Parameters of a Digest header value by lower-case name; None for another scheme."""
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        return None
    values: dict[str, str] = {}
    end = 0
    for match in _PARAMETER.finditer(rest):
        # Every parameter must follow the one before it: what the pattern skipped is for the slow way to judge.
        if match.start() != end or match[1].lower() in values:
            break
        values[match[1].lower()] = match[3] if match[2] is None else match[2]
        end = match.end()
    if end == len(rest) and values:
        return values
    values.clear()
    for piece in split_outside_quotes(rest, ","):
        name, equals, value = piece.partition("=")
        name = name.strip().lower()
        if not name and not equals:
            continue
        if not equals or not TOKEN.match(name) or name in values:
            raise RemoteProtocolError("digest_malformed", status=400)
        values[name] = unquote(value.strip())
    return values


def parse_authorization(header: str) -> DigestCredentials | None:
    """None for schemes other than Digest (to be treated as no credentials); RemoteProtocolError (400) if malformed."""
    values = _parameters(header)
    if values is None:
        return None
    try:
        username, realm, nonce = values["username"], values["realm"], values["nonce"]
        uri, response = values["uri"], values["response"]
    except KeyError as missing:
        raise RemoteProtocolError("digest_incomplete", status=400) from missing
    qop = values.get("qop", "").lower() or None
    nc_text = values.get("nc", "")
    if qop is not None and not _NC.match(nc_text):
        raise RemoteProtocolError("digest_nc_malformed", status=400)
    return DigestCredentials(
        username=username,
        realm=realm,
        nonce=nonce,
        uri=uri,
        response=response.lower(),
        algorithm=values.get("algorithm", "").upper() or "MD5",
        qop=qop,
        nc=int(nc_text, 16) if qop is not None else None,
        nc_text=nc_text,
        cnonce=values.get("cnonce", ""),
        opaque=values.get("opaque"),
    )


def parse_challenge(header: str) -> DigestChallenge | None:
    """None for schemes other than Digest; RemoteProtocolError if realm or nonce is missing."""
    values = _parameters(header)
    if values is None:
        return None
    if "realm" not in values or "nonce" not in values:
        raise RemoteProtocolError("digest_incomplete")
    return DigestChallenge(
        realm=values["realm"],
        nonce=values["nonce"],
        algorithm=values.get("algorithm", "").upper() or "MD5",
        qop=tuple(part.strip().lower() for part in values.get("qop", "").split(",") if part.strip()),
        opaque=values.get("opaque"),
        stale=values.get("stale", "").lower() == "true",
    )


def challenge_headers(
    *, realm: str, nonce: str, algorithms: Sequence[str] = ("MD5",), stale: bool = False, proxy: bool = False
) -> tuple[tuple[str, str], ...]:
    """One WWW-Authenticate (proxy: Proxy-Authenticate) line per algorithm, best first (RFC 8760 §2.3)."""
    name = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
    tail = ", stale=true" if stale else ""
    lines = []
    for algorithm in algorithms:
        if algorithm not in _ALGORITHMS:
            raise LocalProtocolError("digest_algorithm_unknown")
        lines.append((name, f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}{tail}'))
    return tuple(lines)


def compute(
    *, algorithm: str, username: str, realm: str, password: str, nonce: str, method: str, uri: str, qop_part: str = ""
) -> str:
    """The `response` value in hex. qop_part: "nc:cnonce:qop", or "" for RFC 2069 answers."""
    make = _ALGORITHMS.get(algorithm)
    if make is None:
        raise RemoteProtocolError("digest_algorithm_unknown", status=400)

    def digest(text: str) -> str:
        return make(text.encode("utf-8", "surrogateescape")).hexdigest()

    first = digest(f"{username}:{realm}:{password}")
    second = digest(f"{method}:{uri}")
    middle = f"{nonce}:{qop_part}" if qop_part else nonce
    return digest(f"{first}:{middle}:{second}")


def verify(credentials: DigestCredentials, method: str, password: str) -> bool:
    """True when the response was computed with `password`; compared in constant time.

    Username and uri are taken from the credentials (facts §3.1: devices send "admin" or another uri), so the caller
    must name the device by From, not by them. Unknown algorithms and qop values other than auth give False.
    """
    if credentials.algorithm not in _ALGORITHMS or credentials.qop not in (None, "auth"):
        return False
    qop_part = "" if credentials.qop is None else f"{credentials.nc_text}:{credentials.cnonce}:{credentials.qop}"
    expected = compute(
        algorithm=credentials.algorithm,
        username=credentials.username,
        realm=credentials.realm,
        password=password,
        nonce=credentials.nonce,
        method=method,
        uri=credentials.uri,
        qop_part=qop_part,
    )
    return hmac.compare_digest(expected.encode(), credentials.response.encode("utf-8", "surrogateescape"))


def answer(
    challenge: DigestChallenge, *, username: str, password: str, method: str, uri: str, cnonce: str = "", nc: int = 1
) -> str:
    """Value of the Authorization header. Uses qop=auth when offered; then `cnonce` must be given."""
    qop_part, qop_params = "", ""
    if "auth" in challenge.qop:
        if not cnonce:
            raise LocalProtocolError("digest_cnonce_missing")
        qop_part = f"{nc:08x}:{cnonce}:auth"
        qop_params = f', qop=auth, nc={nc:08x}, cnonce="{cnonce}"'
    response = compute(
        algorithm=challenge.algorithm,
        username=username,
        realm=challenge.realm,
        password=password,
        nonce=challenge.nonce,
        method=method,
        uri=uri,
        qop_part=qop_part,
    )
    opaque = "" if challenge.opaque is None else f', opaque="{challenge.opaque}"'
    return (
        f'Digest username="{username}", realm="{challenge.realm}", nonce="{challenge.nonce}", uri="{uri}", '
        f'response="{response}", algorithm={challenge.algorithm}{qop_params}{opaque}'
    )
