"""Reads torture messages in the notation of RFC 4475 §2.1 and gives the octets of the wire."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

MESSAGES = Path(__file__).with_name("messages")
_ONE_LINE = re.compile(r"<allOneLine>\n(.*?)\n</allOneLine>", re.DOTALL)
_REPEAT = re.compile(r"<repeat count=([0-9]+)>(.*?)</repeat>")
_HEX = re.compile(rb"<hex>([0-9A-Fa-f]+)</hex>")
_LENGTH = b"<length/>"


@cache
def octets(name: str) -> bytes:
    """The message as it goes on the wire: CRLF line ends, markup undone, Content-Length filled in."""
    text = (MESSAGES / f"{name}.dat").read_text(encoding="utf-8")
    text = _ONE_LINE.sub(lambda match: match[1].replace("\n", ""), text)
    text = _REPEAT.sub(lambda match: match[2] * int(match[1]), text)
    data = text.replace("\n", "\r\n").encode()
    data = _HEX.sub(lambda match: bytes.fromhex(match[1].decode()), data)
    head, _, body = data.partition(b"\r\n\r\n")
    return head.replace(_LENGTH, str(len(body)).encode()) + b"\r\n\r\n" + body
