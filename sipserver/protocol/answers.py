"""What the core writes by itself: responses to good and to malformed requests, ACK, CANCEL (RFC 3261 §8.2.6, §9.1)."""

from __future__ import annotations

from collections.abc import Iterable

from sipserver.protocol.address import split_outside_quotes
from sipserver.protocol.codec import KNOWN_METHODS
from sipserver.protocol.errors import RemoteProtocolError
from sipserver.protocol.events import Flow
from sipserver.protocol.message import REASONS, Headers, NameAddr, Request, Response, Uri, parsed_via

# GB/T 28181-2022 §9.2.3 asks for the first seven on everything that has to do with INVITE.
ALLOW = "INVITE, ACK, INFO, CANCEL, BYE, OPTIONS, MESSAGE, REGISTER, SUBSCRIBE, NOTIFY"
_ALLOWED = frozenset(part.strip() for part in ALLOW.split(","))
ACCEPT = "application/sdp, application/MANSCDP+xml, application/MANSRTSP"

Fields = Iterable[tuple[str, str]]


def answer_vias(headers: Headers, flow: Flow) -> list[str]:
    """Via values for the response, one a line; the top one tells the peer where its packet came from (RFC 3581)."""
    vias: list[str] = []
    for line in headers.all("Via"):
        if "," not in line:
            vias.append(line)
            continue
        try:
            vias += [part.strip() for part in split_outside_quotes(line, ",")]
        except RemoteProtocolError:
            vias.append(line)
    if vias:
        try:
            vias[0] = str(parsed_via(headers).answered_from(flow.remote[0], flow.remote[1]))
        except RemoteProtocolError:
            pass  # echoed as it came: the answer goes to the packet's source anyway
    return vias


def tagged(to: str, tag: str) -> str:
    """The To value with our tag, unless it has one or cannot be read (then as it came)."""
    if not tag:
        return to
    try:
        if "tag" not in to.lower():
            return f"{to};tag={tag}"
        return to if NameAddr.parse(to).tag is not None else f"{to};tag={tag}"
    except RemoteProtocolError:
        return to


def build_response(
    headers: Headers,
    status: int,
    *,
    flow: Flow,
    to_tag: str,
    reason: str | None = None,
    extra: Fields = (),
    body: bytes = b"",
) -> Response:
    """Response to a request with these headers, which may lack any of the mandatory ones (malformed requests)."""
    fields = [("Via", via) for via in answer_vias(headers, flow)]
    for name in ("From", "To", "Call-ID", "CSeq"):
        value = headers.get(name)
        if value is not None:
            fields.append((name, tagged(value, to_tag) if name == "To" else value))
    fields += extra
    return Response(status, REASONS.get(status, "") if reason is None else reason, Headers(fields), body)


def build_failure_ack(request: Request, response: Response) -> Request:
    """ACK for a 300-699: the INVITE's branch, the response's To (RFC 3261 §17.1.1.3)."""
    number, _ = request.cseq
    fields = [("Via", str(request.via_top)), ("Max-Forwards", "70")]
    fields += [("Route", route) for route in request.headers.all("Route")]
    fields.append(("From", request.headers.get("From") or ""))
    fields.append(("To", response.headers.get("To") or request.headers.get("To") or ""))
    fields += [("Call-ID", request.call_id), ("CSeq", f"{number} ACK")]
    return Request("ACK", request.uri, Headers(fields))


def build_cancel(invite: Request) -> Request:
    """CANCEL has everything of its INVITE, the branch too, but the method (RFC 3261 §9.1)."""
    number, _ = invite.cseq
    fields = [("Via", str(invite.via_top)), ("Max-Forwards", "70")]
    fields += [("Route", route) for route in invite.headers.all("Route")]
    fields += [(name, invite.headers.get(name) or "") for name in ("From", "To", "Call-ID")]
    fields.append(("CSeq", f"{number} CANCEL"))
    user_agent = invite.headers.get("User-Agent")
    if user_agent is not None:
        fields.append(("User-Agent", user_agent))
    return Request("CANCEL", invite.uri, Headers(fields))


def contact_for(user: str, flow: Flow) -> str:
    """Our Contact as the peer on this flow can reach it."""
    params = (("transport", "tcp"),) if flow.transport == "tcp" else ()
    return f"<{Uri(user=user, host=flow.local[0], port=flow.local[1], params=params)}>"


def refusal(request: Request) -> tuple[int, tuple[tuple[str, str], ...]] | None:
    """Status and headers with which the core itself refuses a well-formed request; None when it is to be dealt with.

    Unknown methods 501, known ones that we do not serve 405 (facts §2.4), foreign URI schemes 416, required
    extensions 420 (none is supported: RFC 3261 §8.2.2.3), bodies we cannot read 415, answers we cannot write 406.
    """
    if request.method not in KNOWN_METHODS:
        return 501, (("Allow", ALLOW),)
    if request.method not in _ALLOWED:
        return 405, (("Allow", ALLOW),)
    if not request.uri.is_sip:
        return 416, ()
    required = request.headers.values("Require")
    if required and request.method not in ("ACK", "CANCEL"):
        return 420, tuple(("Unsupported", tag) for tag in required)
    return _refused_body(request)


def _refused_body(request: Request) -> tuple[int, tuple[tuple[str, str], ...]] | None:
    """RFC 3261 §8.2.3. Devices leave Content-Type out or spell it in ways of their own, so only what is plainly
    something else is refused."""
    kind = request.content_type
    if request.method == "INVITE":
        if request.body and kind and "sdp" not in kind:
            return 415, (("Accept", "application/sdp"),)
        accepted = [part.partition(";")[0].strip().lower() for part in request.headers.values("Accept")]
        if accepted and not any(part in ("*/*", "application/*") or "sdp" in part for part in accepted):
            return 406, ()
    elif request.method == "MESSAGE" and request.body and kind and "xml" not in kind:
        return 415, (("Accept", "Application/MANSCDP+xml"),)
    return None
