"""Incoming calls of a simulated device: reads the INVITE and its offer, writes the answer (§9.2, annexes D, G, L)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ops.sim.footage import Footage
from ops.sim.inventory import Inventory
from ops.sim.rtp_sender import Role
from sipserver.protocol import sdp
from sipserver.protocol.errors import RemoteProtocolError
from sipserver.protocol.events import RequestReceived
from sipserver.protocol.ids import GbId, Ssrc

_SUBJECT: Final = re.compile(r"\s*(\d{20})\s*:\s*([^,\s]{1,20})")


class CallRefused(Exception):
    """The INVITE cannot be served; ``status`` is the SIP status owed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One INVITE, answered or not. ``remote`` is where media goes; ``subject`` = sender ID:sequence or None."""

    dialog: str
    transaction: str
    channel: GbId
    offer: sdp.SessionDescription
    role: Role
    remote: tuple[str, int]
    ssrc: Ssrc
    footage: Footage
    subject: str | None


def read_call(event: RequestReceived, inventory: Inventory, *, fallback_ssrc: Ssrc) -> Call:
    """Understand an INVITE. CallRefused 404 unknown channel, 488 what cannot be served, 415 without PS on offer."""
    request = event.request
    if event.dialog is None:
        raise CallRefused(481, "no_dialog")
    match = _SUBJECT.match(request.headers.get("Subject") or "")
    codes = [request.uri.username or "", match[1] if match else ""]
    channel = next((code for code in codes if inventory.footage_of(code) is not None), None)
    footage = inventory.footage_of(channel) if channel else None
    if channel is None or footage is None:
        raise CallRefused(404, "channel_unknown")
    if not request.body:
        raise CallRefused(488, "offer_missing")
    try:
        offer = sdp.parse(request.body)
    except RemoteProtocolError as error:
        raise CallRefused(error.status or 488, error.reason) from error
    media = offer.primary
    if media is None or media.kind != "video" or offer.session_name.strip().lower() != "play":
        raise CallRefused(488, "session_not_served")
    if 96 not in media.formats:
        raise CallRefused(415, "program_stream_not_offered")
    host = offer.media_ip or event.flow.remote[0]
    return Call(
        dialog=event.dialog,
        transaction=event.transaction,
        channel=GbId(channel),
        offer=offer,
        role="udp" if not media.is_tcp else "tcp-passive" if media.setup == "active" else "tcp-active",
        remote=(host, media.port),
        ssrc=offer.ssrc or fallback_ssrc,
        footage=footage,
        subject=f"{match[1]}:{match[2]}" if match else None,
    )


def answer_body(call: Call, *, host: str, port: int, ssrc: Ssrc | None) -> bytes:
    """SDP of the 200: PS only, direction sendonly, ``y=`` as given (None leaves the line out, as some devices do)."""
    video = {"h264": "2", "h265": "5"}[call.footage.video]
    audio = {"g711a": "1/8/1", "aac": "6/6/3", None: "//"}[call.footage.audio]
    answer = sdp.answer(
        call.offer,
        owner=call.channel,
        address=host,
        port=port,
        f=f"v/{video}/5/{call.footage.fps}/2/2000a/{audio}",
    )
    return sdp.SessionDescription(
        owner=answer.owner,
        session_name=answer.session_name,
        connection_ip=answer.connection_ip,
        media=answer.media,
        ssrc=ssrc,
        f=answer.f,
    ).to_bytes()
