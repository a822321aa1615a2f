"""SIP messages as values: headers, requests and responses (RFC 3261 §7, §20). Parsing of bytes is in codec.py.

Header texts are UTF-8 with `surrogateescape`: bytes in another charset come back unchanged when a header is echoed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sipserver.protocol.address import NameAddr, Params, Uri, Via, split_outside_quotes
from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["REASONS", "Headers", "NameAddr", "Params", "Request", "Response", "Uri", "Via", "content_type_of"]

# Compact forms: RFC 3261 §7.3.3 and the IANA registry.
_COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    302: "Moved Temporarily",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "Version Not Supported",
    513: "Message Too Large",
}

_CSEQ = re.compile(r"\s*([0-9]{1,15})\s+(\S+)\s*\Z")
_INTEGER = re.compile(r"\s*([0-9]{1,20})\s*\Z")
_MAX_CSEQ = 2**32 - 1
_BAD_VALUE = re.compile(r"[\r\n]")
_NAME = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+\Z")


# The spellings met all the time, so that looking up a header costs one dictionary access.
SPELLINGS = {
    name: name.lower()
    for name in (
        *("Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact", "Content-Length", "Content-Type"),
        *("Expires", "User-Agent", "Authorization", "Subject", "Allow", "Require", "Record-Route", "Route"),
        *("WWW-Authenticate", "X-GB-Ver", "Date", "Event"),
    )
}


def canonical(name: str) -> str:
    """Lower-case long form of a header name: "V" → "via"."""
    known = SPELLINGS.get(name)
    if known is not None:
        return known
    lower = name.lower()
    return _COMPACT.get(lower, lower)


class Headers:
    """Immutable ordered multimap of header fields; names match in any case and in compact form."""

    __slots__ = ("_by_name", "_fields", "_parsed")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: tuple[tuple[str, str], ...] = tuple(fields)
        self._by_name: dict[str, list[str]] | None = None  # made when first asked: what we write is never asked
        self._parsed: dict[str, NameAddr | Via | tuple[int, str]] = {}  # values read once: they never change

    @property
    def _index(self) -> dict[str, list[str]]:
        index = self._by_name
        if index is None:
            index = self._by_name = {}
            for name, value in self._fields:
                key = SPELLINGS.get(name) or canonical(name)
                if key in index:
                    index[key].append(value)
                else:
                    index[key] = [value]
        return index

    def get(self, name: str) -> str | None:
        """First value of the header, as one line without surrounding blanks; None when absent."""
        values = self._index.get(SPELLINGS.get(name) or canonical(name))
        return values[0] if values else None

    def all(self, name: str) -> tuple[str, ...]:
        """All values in order, one per header line (comma lists are not split: see values())."""
        return tuple(self._index.get(canonical(name), ()))

    @property
    def has_repeats(self) -> bool:
        """True when some header has more than one line."""
        return len(self._index) != len(self._fields)

    def count(self, name: str) -> int:
        """How many lines the header has."""
        return len(self._index.get(SPELLINGS.get(name) or canonical(name), ()))

    def values(self, name: str) -> tuple[str, ...]:
        """All values in order, comma lists split outside quotes and brackets."""
        lines = self._index.get(SPELLINGS.get(name) or canonical(name), ())
        if len(lines) == 1 and "," not in lines[0] and '"' not in lines[0]:
            return (lines[0].strip(),)
        return tuple(part.strip() for line in lines for part in split_outside_quotes(line, ","))

    def with_(self, name: str, value: str) -> Headers:
        """A copy whose only value of `name` is `value`, at the place of the first old one or at the end.

        Raises LocalProtocolError for names that are no tokens and values with line breaks (header injection).
        """
        _check_field(name, value)
        wanted, fields, done = canonical(name), [], False
        for key, old in self._fields:
            if canonical(key) != wanted:
                fields.append((key, old))
            elif not done:
                fields.append((name, value))
                done = True
        if not done:
            fields.append((name, value))
        return Headers(fields)

    def added(self, name: str, value: str) -> Headers:
        """A copy with one more line at the end."""
        _check_field(name, value)
        return Headers((*self._fields, (name, value)))

    def without(self, name: str) -> Headers:
        wanted = canonical(name)
        return Headers(pair for pair in self._fields if canonical(pair[0]) != wanted)

    def items(self) -> tuple[tuple[str, str], ...]:
        return self._fields

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and canonical(name) in self._index

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(self._fields)

    def __repr__(self) -> str:
        return f"Headers({', '.join(name for name, _ in self._fields)})"  # values may be protected information


def _check_field(name: str, value: str) -> None:
    if not _NAME.match(name) or _BAD_VALUE.search(value):
        raise LocalProtocolError("header_malformed")


def content_type_of(headers: Headers) -> str:
    """Media type in lower case without parameters; "" when absent."""
    return (headers.get("Content-Type") or "").partition(";")[0].strip().lower()


def _parsed_address(headers: Headers, name: str) -> NameAddr:
    known = headers._parsed.get(name)
    if isinstance(known, NameAddr):
        return known
    text = headers.get(name)
    if text is None:
        raise RemoteProtocolError(f"{name.lower()}_missing", status=400)
    parsed = headers._parsed[name] = NameAddr.parse(text)
    return parsed


def _parsed_cseq(headers: Headers) -> tuple[int, str]:
    known = headers._parsed.get("CSeq")
    if isinstance(known, tuple):
        return known
    match = _CSEQ.match(headers.get("CSeq") or "")
    if match is None or int(match[1]) > _MAX_CSEQ:
        raise RemoteProtocolError("cseq_malformed", status=400)
    parsed = headers._parsed["CSeq"] = (int(match[1]), match[2])
    return parsed


def parsed_via(headers: Headers) -> Via:
    """The topmost Via, read once; RemoteProtocolError (400) when missing or malformed."""
    known = headers._parsed.get("Via")
    if isinstance(known, Via):
        return known
    text = headers.get("Via")
    if text is None:
        raise RemoteProtocolError("via_missing", status=400)
    parsed = headers._parsed["Via"] = Via.parse(split_outside_quotes(text, ",")[0])
    return parsed


def _parsed_contact(headers: Headers) -> NameAddr | None:
    known = headers._parsed.get("Contact")
    if isinstance(known, NameAddr):
        return known
    for text in headers.values("Contact"):
        if text == "*":
            return None
        parsed = headers._parsed["Contact"] = NameAddr.parse(text)
        return parsed
    return None


class _Common:
    """What requests and responses share; every property raises RemoteProtocolError (400) on malformed text."""

    __slots__ = ()
    headers: Headers

    @property
    def call_id(self) -> str:
        value = self.headers.get("Call-ID")
        if not value:
            raise RemoteProtocolError("call_id_missing", status=400)
        return value

    @property
    def cseq(self) -> tuple[int, str]:
        """(number, method)."""
        return _parsed_cseq(self.headers)

    @property
    def from_(self) -> NameAddr:
        return _parsed_address(self.headers, "From")

    @property
    def to(self) -> NameAddr:
        return _parsed_address(self.headers, "To")

    @property
    def via_top(self) -> Via:
        return parsed_via(self.headers)

    @property
    def contact(self) -> NameAddr | None:
        """First Contact; None when absent or `*`."""
        return _parsed_contact(self.headers)

    @property
    def expires(self) -> int | None:
        """Seconds: Contact's `expires` parameter wins over the Expires header (RFC 3261 §10.2.1.1); None when absent.

        Values beyond 2³²-1 count as 2³²-1; text that is no number raises 400.
        """
        contact = self.contact
        text = contact.param("expires") if contact is not None and contact.params else None
        if text is None or text == "":
            text = self.headers.get("Expires")
        if text is None:
            return None
        match = _INTEGER.match(text)
        if match is None:
            raise RemoteProtocolError("expires_malformed", status=400)
        return min(int(match[1]), 2**32 - 1)

    @property
    def content_type(self) -> str:
        return content_type_of(self.headers)


@dataclass(frozen=True, slots=True)
class Request(_Common):
    """A request; `uri` is the Request-URI."""

    method: str
    uri: Uri
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Request({self.method}, {len(self.headers)} headers, {len(self.body)} octets)"


@dataclass(frozen=True, slots=True)
class Response(_Common):
    """A response with its status (100-699) and reason phrase."""

    status: int
    reason: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.headers)} headers, {len(self.body)} octets)"
