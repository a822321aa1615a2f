"""One error tree for the protocol: whose fault it was, and which SIP status (if any) is owed to the peer.

Texts of these errors never carry address codes, names or credentials: they end up in logs and answers.
"""

from __future__ import annotations


class GbError(Exception):
    """Root of everything that sipserver.protocol raises on purpose."""


class ProtocolError(GbError):
    """Somebody broke the protocol.

    reason: stable snake_case word for logs and metrics (bounded set, no data of the message).
    status: SIP status owed to the peer (RFC 3261 §21), None when nothing can or may be answered.
    fatal: on a stream, framing is lost and the connection must be closed (RFC 3261 §18.3).
    """

    def __init__(self, reason: str, *, status: int | None = None, fatal: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.fatal = fatal


class RemoteProtocolError(ProtocolError):
    """The peer sent something that cannot be used; `status` is what it should get as the answer."""


class LocalProtocolError(ProtocolError):
    """We asked the core for something the state does not allow (a bug or a race in a shell); nothing is sent."""
