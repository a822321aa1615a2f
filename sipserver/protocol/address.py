"""Addresses of SIP: URIs, name-addr values and Via lines (RFC 3261 §19.1, §20.10, §20.42, §25).

All-digit hosts (`sip:…@3402000000`) are the norm in GB/T 28181 and accepted; IPv6 references follow RFC 5118.
What cannot be understood raises RemoteProtocolError with status 400.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from sipserver.protocol.errors import RemoteProtocolError

Params = tuple[tuple[str, str | None], ...]

_TOK = r"[A-Za-z0-9.!%*_+`'~-]+"
TOKEN = re.compile(_TOK + r"\Z")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)\Z", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9._-]+\Z")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\Z")
_URI_FORBIDDEN = re.compile(r"[\s<>\"\\\x00-\x1f\x7f]")
# Display names without quotes are tokens; characters beyond ASCII are seen from Chinese peers and do no harm.
_DISPLAY = re.compile(r"(?:[A-Za-z0-9.!%*_+`'~ \t-]|[^\x00-\x7f])*\Z")
_PLAIN = re.compile(rf"<([^<>\"?]*)>(?:;tag=({_TOK}))?\Z")  # how nearly every From, To and Contact looks
_VIA = re.compile(
    rf"\s*({_TOK})\s*/\s*({_TOK})\s*/\s*({_TOK})\s+(\[[^\]]*\]|[^\s:;,\[\]]+)\s*(?::\s*([0-9]{{1,5}})\s*)?(;.*)?\Z",
    re.DOTALL,
)


#: What matters between separators: quoted strings (an unfinished one runs to the end), brackets, the separator.
_MARKS = {mark: re.compile(rf'"(?:[^"\\]|\\.)*+"?|[<>{mark}]', re.DOTALL) for mark in ",;"}
_CACHED_TEXT = 96  # characters; longer texts are not kept, so the caches are bounded in octets too


def _malformed(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, status=400)


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at a separator that is outside "quoted strings" and <angle brackets>; unbalanced quotes are an error."""
    if '"' not in text and "<" not in text:
        return text.split(separator)
    parts: list[str] = []
    start, bracketed = 0, False
    for match in _MARKS[separator].finditer(text):
        mark = match[0]
        if mark == "<":
            bracketed = True
        elif mark == ">":
            bracketed = False
        elif mark == separator:
            if not bracketed:
                parts.append(text[start : match.start()])
                start = match.end()
        elif len(mark) < 2 or mark[-1] != '"' or _ends_escaped(mark):
            raise _malformed("quotes_unbalanced")
    if bracketed:
        raise _malformed("quotes_unbalanced")
    parts.append(text[start:])
    return parts


def _ends_escaped(mark: str) -> bool:
    """True when the last quotation mark of a quoted string is itself escaped, so the string never ends."""
    body = mark[1:-1]
    return (len(body) - len(body.rstrip("\\"))) % 2 == 1


def unquote(text: str) -> str:
    """Content of a quoted string with its escapes undone; other text comes back unchanged."""
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if "\\" in text else text[1:-1]
    return text


def parse_params(text: str) -> Params:
    """`;a=1;b` → (("a", "1"), ("b", None)); names keep their case; one empty parameter at the very end is let pass."""
    if not text or text.isspace():
        return ()
    pieces = split_outside_quotes(text, ";")
    if pieces[0].strip():
        raise _malformed("parameters_malformed")
    params: list[tuple[str, str | None]] = []
    for position, piece in enumerate(pieces[1:], start=1):
        name, equals, value = piece.partition("=")
        name = name.strip()
        if not name:
            if position == len(pieces) - 1 and position > 1 and not equals:
                break
            raise _malformed("parameters_malformed")
        params.append((name, value.strip() if equals else None))
    return tuple(params)


def format_params(params: Params) -> str:
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


def find_param(params: Params, name: str) -> str | None:
    """Value of the first parameter of that name (any case); "" for a parameter without value; None when absent."""
    wanted = name.lower()
    for key, value in params:
        if key.lower() == wanted:
            return "" if value is None else value
    return None


def parse_host_port(text: str) -> tuple[str, int | None]:
    """`host[:port]` with IPv6 in brackets; the brackets are not part of the host. `:::` is tolerated (RFC 5118)."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _IPV6.match(host):
            raise _malformed("host_malformed")
        host = host.replace(":::", "::")
        if ":::" in host:
            raise _malformed("host_malformed")
        if rest and not rest.startswith(":"):
            raise _malformed("host_malformed")
        port_text = rest[1:] if rest else None
    else:
        host, colon, after = text.partition(":")
        if not _HOST.match(host):
            raise _malformed("host_malformed")
        port_text = after if colon else None
    if port_text is None or port_text == "":
        return host, None
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
        raise _malformed("port_malformed")
    return host, int(port_text)


def format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True, kw_only=True)
class Uri:
    """A SIP URI; URIs of other schemes keep everything behind the colon in `host` and nothing else."""

    scheme: str = "sip"
    user: str | None = None
    host: str
    port: int | None = None
    params: Params = ()
    headers: str | None = None

    @property
    def is_sip(self) -> bool:
        return self.scheme in ("sip", "sips")

    @property
    def username(self) -> str | None:
        """User part without password, %HH undone exactly once (RFC 3261 §19.1.2)."""
        if self.user is None:
            return None
        name = self.user.partition(":")[0]
        return re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), name)

    def param(self, name: str) -> str | None:
        return find_param(self.params, name)

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Raises RemoteProtocolError (400) for blanks, brackets, quotes, bad hosts and bad ports."""
        return _cached_uri(text) if len(text) <= _CACHED_TEXT else cls.read(text)

    @classmethod
    def read(cls, text: str) -> Uri:
        """parse() without the cache: one peer's few addresses come again in every message."""
        if _URI_FORBIDDEN.search(text):
            raise _malformed("uri_malformed")
        match = _SCHEME.match(text)
        if match is None or not match[2]:
            raise _malformed("uri_malformed")
        scheme, rest = match[1].lower(), match[2]
        if scheme not in ("sip", "sips"):
            return cls(scheme=scheme, host=rest)
        # "@" cannot stand unescaped behind the user part, but "?" and ";" may stand inside it: cut from the right.
        user, at, tail = rest.rpartition("@")
        tail, question, headers = tail.partition("?")
        host_port, semicolon, params = tail.partition(";")
        host, port = parse_host_port(host_port)
        return cls(
            scheme=scheme,
            user=user if at else None,
            host=host,
            port=port,
            params=parse_params(semicolon + params),
            headers=headers if question else None,
        )

    def __str__(self) -> str:
        if not self.is_sip:
            return f"{self.scheme}:{self.host}"
        user = "" if self.user is None else f"{self.user}@"
        port = "" if self.port is None else f":{self.port}"
        headers = "" if self.headers is None else f"?{self.headers}"
        return f"{self.scheme}:{user}{format_host(self.host)}{port}{format_params(self.params)}{headers}"

    def __repr__(self) -> str:
        return f"Uri({self.scheme}:…)"  # the user part is an address code


@lru_cache(maxsize=16_384)
def _cached_uri(text: str) -> Uri:
    return Uri.read(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameAddr:
    """Value of From, To, Contact and Route: display name, URI and header parameters."""

    display: str = ""
    uri: Uri
    params: Params = ()

    @property
    def tag(self) -> str | None:
        return find_param(self.params, "tag") or None

    def param(self, name: str) -> str | None:
        return find_param(self.params, name)

    def with_tag(self, tag: str) -> NameAddr:
        kept = tuple(pair for pair in self.params if pair[0].lower() != "tag")
        return replace(self, params=(*kept, ("tag", tag)))

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """name-addr or addr-spec. Without brackets every parameter belongs to the header (RFC 3261 §20.10)."""
        plain = _PLAIN.match(text)
        if plain is not None:
            return cls(uri=Uri.parse(plain[1]), params=() if plain[2] is None else (("tag", plain[2]),))
        text = text.strip()
        if text.startswith('"') or "<" in text:
            return cls._parse_bracketed(text)
        address, semicolon, params = text.partition(";")
        address = address.strip()
        if "?" in address or "," in address:
            raise _malformed("address_needs_brackets")
        return cls(uri=Uri.parse(address), params=parse_params(semicolon + params))

    @classmethod
    def _parse_bracketed(cls, text: str) -> NameAddr:
        display, rest = "", text
        if text.startswith('"'):
            match = re.match(r'"(?:[^"\\]|\\.)*"', text, flags=re.DOTALL)
            if match is None:
                raise _malformed("quotes_unbalanced")
            display, rest = unquote(match[0]), text[match.end() :].lstrip()
            if not rest.startswith("<"):
                raise _malformed("address_malformed")
        elif not text.startswith("<"):
            display, _, rest = text.partition("<")
            if not _DISPLAY.match(display):
                raise _malformed("display_name_malformed")
            display, rest = display.strip(), "<" + rest
        address, bracket, params = rest[1:].partition(">")
        if not bracket:
            raise _malformed("quotes_unbalanced")
        return cls(display=display, uri=Uri.parse(address), params=parse_params(params.strip()))

    def __str__(self) -> str:
        escaped = self.display.replace("\\", "\\\\").replace('"', '\\"')
        display = f'"{escaped}" ' if escaped else ""
        return f"{display}<{self.uri}>{format_params(self.params)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Via:
    """One Via value (RFC 3261 §20.42); `version` is the text between the slashes, normally "2.0"."""

    protocol: str = "SIP"
    version: str = "2.0"
    transport: str
    host: str
    port: int | None = None
    params: Params = ()

    @property
    def branch(self) -> str | None:
        return find_param(self.params, "branch") or None

    @property
    def sent_by(self) -> str:
        """host:port as a transaction key (RFC 3261 §17.2.3), lower case, default port filled in."""
        return f"{self.host.lower()}:{self.port or 5060}"

    def param(self, name: str) -> str | None:
        return find_param(self.params, name)

    def answered_from(self, host: str, port: int) -> Via:
        """The Via for our response: `received` is always the packet's source, `rport` is filled when asked (RFC 3581).

        Values that the peer put there itself are replaced: they say nothing about where the packet came from.
        """
        params: list[tuple[str, str | None]] = []
        for name, value in self.params:
            lower = name.lower()
            if lower != "received":
                params.append((name, str(port)) if lower == "rport" else (name, value))
        params.append(("received", host))
        return Via(
            protocol=self.protocol,
            version=self.version,
            transport=self.transport,
            host=self.host,
            port=self.port,
            params=tuple(params),
        )

    @classmethod
    def parse(cls, text: str) -> Via:
        match = _VIA.match(text)
        if match is None:
            raise _malformed("via_malformed")
        host, _ = parse_host_port(match[4])
        port = None if match[5] is None else int(match[5])
        if port is not None and port > 65535:
            raise _malformed("via_malformed")
        params = parse_params(match[6] or "")
        return cls(protocol=match[1], version=match[2], transport=match[3], host=host, port=port, params=params)

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        head = f"{self.protocol}/{self.version}/{self.transport} {format_host(self.host)}{port}"
        return head + format_params(self.params)
