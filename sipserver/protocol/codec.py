"""Bytes ↔ SIP messages: datagrams, streams framed by Content-Length, strict reading with an answerable rest.

Parsing has two steps. `split()` separates start line, headers and body without judging them, so that a malformed
request can still be answered (RawMessage.answerable). `interpret()` checks what RFC 3261 §8.1.1 and §20 demand and
gives a Request or Response, or raises RemoteProtocolError with the status owed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sipserver.protocol.address import TOKEN, NameAddr, Uri
from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from sipserver.protocol.events import Limits
from sipserver.protocol.message import REASONS, SPELLINGS, Headers, Request, Response, canonical

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(r"\r?\n[ \t]+")
_REQUEST_LINE = re.compile(r"([A-Za-z0-9.!%*_+`'~-]+) ([^ ]+) (SIP/[0-9]+\.[0-9]+)\Z", re.IGNORECASE)
_REQUEST_LIKE = re.compile(r"([A-Za-z0-9.!%*_+`'~-]+)\s+(?!\s).*SIP/[0-9]+\.[0-9]+\s*\Z", re.IGNORECASE | re.DOTALL)
_STATUS_LINE = re.compile(r"SIP/2\.0 ([0-9]{3,})(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,10}\Z")
_START_OCTETS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.!%*_+`'~-")
MAGIC_COOKIE = "z9hG4bK"
_LEGAL_STATUS = range(100, 700)
_SINGLE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length")
KNOWN_METHODS = frozenset(
    (
        *("REGISTER", "MESSAGE", "INVITE", "ACK", "BYE", "CANCEL", "INFO", "SUBSCRIBE", "NOTIFY", "OPTIONS"),
        *("PUBLISH", "REFER", "UPDATE", "PRACK"),
    )
)
# Elsewhere a Contact means nothing to us, and devices fill it with rubbish (facts §2.3).
_CONTACT_MATTERS = frozenset(("REGISTER", "INVITE", "SUBSCRIBE"))


def looks_like_sip(data: bytes) -> bool:
    """Cheapest test before parsing: does the first line look like SIP? Constant work (first 512 octets)."""
    start = 0
    while data[start : start + 1] in (b"\r", b"\n"):
        start += 1
        if start > 16:
            return False
    if start >= len(data) or data[start] not in _START_OCTETS:
        return False
    end = data.find(b"\n", start, start + 4096)
    if end < 0:
        return False
    line = data[start:end]
    return line[:4].upper() == b"SIP/" or b"SIP/" in line[-16:].upper()


def is_keepalive(data: bytes) -> bool:
    """Blank lines, and the NULs or blanks that NAT keep-alives of some devices consist of (facts §31)."""
    return not data.strip(b"\r\n\x00 \t")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """A message cut into its parts; `damage` is what split() found wrong, if anything."""

    start_line: str = field(repr=False)
    headers: Headers
    body: bytes = field(repr=False)
    damage: RemoteProtocolError | None = None

    @property
    def answerable(self) -> bool:
        """True for a request other than ACK: a malformed one gets its 4xx; responses and ACKs never get an answer."""
        match = _REQUEST_LIKE.match(self.start_line)
        return match is not None and match[1].upper() != "ACK" and "Via" in self.headers

    @property
    def call_id(self) -> str | None:
        return self.headers.get("Call-ID")


def split(data: bytes, *, limits: Limits) -> RawMessage:
    """One whole message → its parts. In datagrams what follows the announced body is ignored (RFC 3261 §18.3)."""
    data = data.lstrip(b"\r\n")
    end = _HEAD_END.search(data)
    damage: RemoteProtocolError | None = None
    if end is None:
        head, body = data.rstrip(b"\r\n"), b""
        damage = RemoteProtocolError("head_unfinished", status=400)
    else:
        head, body = data[: end.start()], data[end.end() :]
    if len(head) > limits.head:
        return RawMessage(
            start_line="", headers=Headers(), body=b"", damage=RemoteProtocolError("head_too_large", status=513)
        )
    lines = _lines(head)
    headers, header_damage = _headers(lines[1:], limits)
    damage = damage or header_damage
    try:
        length = content_length(headers)
        if length is not None and len(body) < length:
            raise RemoteProtocolError("body_truncated", status=400)
        body = body if length is None else body[:length]
    except RemoteProtocolError as error:
        damage = damage or error
    return RawMessage(start_line=lines[0], headers=headers, body=body, damage=damage)


def _lines(head: bytes) -> list[str]:
    text = head.decode("utf-8", "surrogateescape")
    if b"\n " in head or b"\n\t" in head:
        text = _FOLD.sub(" ", text)
    if "\r" not in text:
        return text.split("\n")
    if text.count("\r") == text.count("\r\n") == text.count("\n"):
        return text.split("\r\n")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _headers(lines: list[str], limits: Limits) -> tuple[Headers, RemoteProtocolError | None]:
    if len(lines) > limits.header_lines:
        return Headers(), RemoteProtocolError("too_many_headers", status=513)
    fields: list[tuple[str, str]] = []
    damage: RemoteProtocolError | None = None
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or "\r" in line or not (name in SPELLINGS or TOKEN.match(name)):
            damage = RemoteProtocolError("header_malformed", status=400)
            continue
        fields.append((name, value.strip(" \t")))
    return Headers(fields), damage


def content_length(headers: Headers) -> int | None:
    """Announced octets of the body; None when not announced; RemoteProtocolError (400, fatal) when unusable."""
    values = headers.all("Content-Length")
    if not values:
        return None
    if len(set(values)) > 1 or not _LENGTH.match(values[0]):
        raise RemoteProtocolError("content_length_malformed", status=400, fatal=True)
    return int(values[0])


def interpret(raw: RawMessage) -> Request | Response:
    """The message with everything checked that transactions and dialogs rely on; see the module's head."""
    status = _STATUS_LINE.match(raw.start_line)
    if status is not None:
        return _response(raw, status)
    return _request(raw)


def _response(raw: RawMessage, match: re.Match[str]) -> Response:
    if raw.damage is not None:
        raise RemoteProtocolError(raw.damage.reason, fatal=raw.damage.fatal)
    code = int(match[1]) if len(match[1]) == 3 else 0
    if code not in _LEGAL_STATUS:
        raise RemoteProtocolError("status_code_malformed")
    response = Response(code, match[2] or "", raw.headers, raw.body)
    # Via is not asked for: one firmware leaves it out (facts §31.1) and is recognised by Call-ID and CSeq instead.
    try:
        _check_dialog_headers(response)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(error.reason) from error
    return response


def _request(raw: RawMessage) -> Request:
    match = _REQUEST_LINE.match(raw.start_line)
    if raw.damage is not None and not raw.start_line:
        raise raw.damage
    if match is None:
        like = _REQUEST_LIKE.match(raw.start_line)
        raise RemoteProtocolError("request_line_malformed", status=400 if like else None)
    method, version = match[1], match[3].upper()
    if version != "SIP/2.0":
        raise RemoteProtocolError("version_not_supported", status=505)
    if raw.damage is not None:
        raise raw.damage
    uri = Uri.parse(match[2])
    if uri.headers is not None:
        raise RemoteProtocolError("request_uri_with_headers", status=400)
    request = Request(method, uri, raw.headers, raw.body)
    via = request.via_top
    if via.protocol.upper() != "SIP" or via.version != "2.0":
        raise RemoteProtocolError("version_not_supported", status=505)
    if via.param("branch") is not None and via.branch in (None, MAGIC_COOKIE):
        raise RemoteProtocolError("branch_malformed", status=400)
    _check_dialog_headers(request)
    if (via.branch or "").startswith(MAGIC_COOKIE) and request.from_.tag is None:
        raise RemoteProtocolError("from_tag_missing", status=400)  # only RFC 2543 peers may do without
    if request.cseq[1] != method:
        # An unknown method is the bigger obstacle: RFC 4475 §3.1.2.18 prefers 501.
        raise RemoteProtocolError("cseq_method_mismatch", status=400 if method in KNOWN_METHODS else 501)
    _check_optional_headers(request)
    return request


def _check_dialog_headers(message: Request | Response) -> None:
    headers = message.headers
    for name in _SINGLE if headers.has_repeats else ():
        if headers.count(name) > 1:
            raise RemoteProtocolError("header_repeated", status=400)
    if "\x00" in message.call_id or " " in message.call_id:
        raise RemoteProtocolError("call_id_malformed", status=400)
    _ = (message.from_, message.to, message.cseq)  # each raises what is wrong with it


def _check_optional_headers(request: Request) -> None:
    if request.method in _CONTACT_MATTERS:
        _ = request.expires  # reads the first Contact, too
        for text in request.headers.values("Contact")[1:]:  # the first was read by `expires`
            if text != "*":
                NameAddr.parse(text)
    forwards = request.headers.get("Max-Forwards")
    if forwards is not None and not (_LENGTH.match(forwards) and int(forwards) <= 255):
        raise RemoteProtocolError("max_forwards_malformed", status=400)


def parse_datagram(data: bytes, *, limits: Limits | None = None) -> Request | Response:
    """One datagram → message, or RemoteProtocolError."""
    return interpret(split(data, limits=limits or Limits()))


def encode(message: Request | Response) -> bytes:
    """Wire form with Content-Length set to the body's; raises LocalProtocolError for line breaks inside values."""
    if isinstance(message, Request):
        start = f"{message.method} {message.uri} SIP/2.0"
    else:
        reason = message.reason or REASONS.get(message.status, "")
        start = f"SIP/2.0 {message.status} {reason}"
    if "\r" in start or "\n" in start or (isinstance(message, Request) and not TOKEN.match(message.method)):
        raise LocalProtocolError("start_line_malformed")
    lines = [start]
    for name, value in message.headers.items():
        if "\r" in value or "\n" in value:
            raise LocalProtocolError("header_malformed")
        if name[0] not in "CcLl" or canonical(name) != "content-length":
            lines.append(f"{name}: {value}")
    lines.append(f"Content-Length: {len(message.body)}\r\n\r\n")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + message.body


class Framer:
    """Cuts the bytes of one TCP connection into messages (RFC 3261 §18.3); the buffer is bounded by Limits.

    feed() returns whole messages; after an error framing is lost: `error` is set (fatal) and nothing more comes out.
    """

    __slots__ = ("_buffer", "_limits", "_need", "_scanned", "begun_at", "broken", "error")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0  # no end of head before this offset
        self._need: int | None = None  # whole length of the message at the front, once its head is complete
        self.begun_at: float | None = None  # when the unfinished message at the front began
        self.error: RemoteProtocolError | None = None
        self.broken: RawMessage | None = None  # what can be answered of the message that broke the framing

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes, *, now: float) -> list[RawMessage]:
        """Whole messages in order; at most Limits.stream_messages at a time, more is an error of the peer."""
        if self.error is not None:
            return []
        self._buffer += data
        messages: list[RawMessage] = []
        while self.error is None:
            message = self._next()
            if message is None:
                break
            if len(messages) >= self._limits.stream_messages:
                self._fail("stream_too_many_messages", None)
                break
            messages.append(message)
            self.begun_at = None
        if not self._buffer:
            self.begun_at = None
        elif self.begun_at is None:
            self.begun_at = now
        return messages

    def give_up(self) -> None:
        """The message at the front did not become complete in time (RFC 4475 §3.1.2.2 on a stream)."""
        self._fail("stream_frame_timeout", 408)

    def refuse(self) -> None:
        """All connections together hold too much; this one goes (503)."""
        self._fail("stream_buffers_full", 503)

    def _next(self) -> RawMessage | None:
        if self._need is None:
            self._drop_keepalives()
            if not self._head_complete():
                return None
        if self._need is None or len(self._buffer) < self._need:
            return None
        data = bytes(self._buffer[: self._need])
        del self._buffer[: self._need]
        self._need, self._scanned = None, 0
        return split(data, limits=self._limits)

    def _drop_keepalives(self) -> None:
        blank = 0
        while blank < len(self._buffer) and self._buffer[blank] in b"\r\n\x00":
            blank += 1
        if blank:
            del self._buffer[:blank]
            self._scanned = 0

    def _head_complete(self) -> bool:
        if not self._buffer:
            return False
        if self._buffer[0] not in _START_OCTETS:
            self._fail("stream_not_sip", None)
            return False
        end = _HEAD_END.search(self._buffer, self._scanned)
        if end is None:
            self._scanned = max(0, len(self._buffer) - 3)
            self._check_unfinished_head()
            return False
        head = bytes(self._buffer[: end.end()])
        if len(head) > self._limits.head:
            self._fail("head_too_large", None)
            return False
        if not looks_like_sip(head):
            self._fail("stream_not_sip", None)
            return False
        self._set_need(head)
        return self.error is None

    def _check_unfinished_head(self) -> None:
        if len(self._buffer) > self._limits.head:
            self._fail("head_too_large", None)
        elif b"\n" in self._buffer[:4096]:
            if not looks_like_sip(bytes(self._buffer[:4096])):
                self._fail("stream_not_sip", None)
        elif len(self._buffer) >= 4096:
            self._fail("stream_not_sip", None)

    def _set_need(self, head: bytes) -> None:
        raw = split(head, limits=self._limits)
        try:
            length = content_length(raw.headers)
        except RemoteProtocolError as error:
            self._fail(error.reason, 400, raw)
            return
        if length is None:
            if "Content-Type" in raw.headers:
                self._fail("content_length_missing", 400, raw)
                return
            length = 0
        if length > self._limits.body:
            self._fail("body_too_large", 413, raw)
            return
        self._need = len(head) + length

    def _fail(self, reason: str, status: int | None, raw: RawMessage | None = None) -> None:
        self.error = RemoteProtocolError(reason, status=status, fatal=True)
        if raw is None and status is not None and self._need is not None:
            raw = split(bytes(self._buffer[: self._limits.head]), limits=self._limits)
        self.broken = raw
        self._buffer.clear()
        self._need, self._scanned, self.begun_at = None, 0, None
