"""INVITE dialogs between two endpoints: answer, copies, cancel, late answers, hanging up from either side."""

from __future__ import annotations

import pytest

from sipserver.protocol.endpoint import (
    DialogEnded,
    InviteAccepted,
    InviteCancelled,
    InviteConfirmed,
    InviteProvisional,
    InviteRejected,
    RequestReceived,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.message import Uri

from .harness import CAMERA, Wire, events_of, only

OFFER = b"v=0\r\ny=0200000001\r\n"
ANSWER = b"v=0\r\ny=0200000001\r\n"
TARGET = Uri(user=CAMERA.value, host="192.0.2.10", port=5060)


def invite(wire: Wire) -> str:
    return wire.platform.invite(
        target=TARGET, to=CAMERA, flow=wire.to_device, sdp=OFFER, subject="a:0,b:0", now=wire.now
    )


def ringing(wire: Wire) -> tuple[str, RequestReceived]:
    """An INVITE under way: 100 came back, the device's application has it and has not answered."""
    dialog = invite(wire)
    wire.deliver()
    assert only(events_of(wire.platform), InviteProvisional).status == 100
    return dialog, only(events_of(wire.device), RequestReceived)


def talking(wire: Wire) -> tuple[str, str]:
    """An established call; names of the dialog on the platform's and on the device's side."""
    dialog, incoming = ringing(wire)
    wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    wire.deliver()
    only(events_of(wire.platform), InviteAccepted)
    wire.platform.ack(dialog, now=wire.now)
    wire.deliver()
    only(events_of(wire.device), InviteConfirmed)
    assert incoming.dialog is not None
    return dialog, incoming.dialog


def nothing_left(wire: Wire) -> None:
    wire.advance(200)
    for side in (wire.platform, wire.device):
        assert side.load() == dict.fromkeys(side.load(), 0) | {"connections": side.load()["connections"]}
        assert side.next_timeout() is None


@pytest.fixture(params=[False, True], ids=["udp", "tcp"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return Wire(stream=request.param)


def test_invite_carries_subject_allow_and_sdp(wire: Wire) -> None:
    _, incoming = ringing(wire)
    request = incoming.request
    assert incoming.initial
    assert request.headers.get("Subject") == "a:0,b:0"
    allowed = {part.strip() for part in (request.headers.get("Allow") or "").split(",")}
    assert {"INVITE", "ACK", "INFO", "CANCEL", "BYE", "OPTIONS", "MESSAGE"} <= allowed
    assert request.content_type == "application/sdp"
    assert request.body == OFFER
    assert request.to.uri.user == CAMERA.value
    assert request.uri == TARGET


def test_call_is_set_up_and_hung_up_by_the_caller(wire: Wire) -> None:
    dialog, callee = talking(wire)
    wire.platform.bye(dialog, now=wire.now)
    wire.deliver()
    assert only(events_of(wire.device), DialogEnded) == DialogEnded(dialog=callee, by="peer", reason="bye")
    ended = [event for event in events_of(wire.platform) if isinstance(event, DialogEnded)]
    assert ended == [DialogEnded(dialog=dialog, by="us", reason="bye")]
    nothing_left(wire)


def test_call_is_hung_up_by_the_callee(wire: Wire) -> None:
    dialog, callee = talking(wire)
    wire.device.bye(callee, now=wire.now)
    wire.deliver()
    assert only(events_of(wire.platform), DialogEnded) == DialogEnded(dialog=dialog, by="peer", reason="bye")
    assert DialogEnded(dialog=callee, by="us", reason="bye") in events_of(wire.device)
    assert list(wire.statuses("device", "BYE")) == [200]
    nothing_left(wire)


def test_copies_of_the_200_are_acknowledged_again_without_a_second_event() -> None:
    wire = Wire()
    dialog, incoming = ringing(wire)
    wire.drop = lambda data, to: to == "device" and data.startswith(b"ACK")
    wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    wire.deliver()
    only(events_of(wire.platform), InviteAccepted)
    wire.platform.ack(dialog, now=wire.now)
    wire.deliver()
    wire.advance(1.6)  # copies after 0.5 and 1.5 s
    assert wire.seen("device", "ACK") == 3
    assert events_of(wire.platform) == []
    wire.drop = lambda data, to: False
    wire.advance(10)
    only(events_of(wire.device), InviteConfirmed)
    acks = wire.seen("device", "ACK")
    wire.advance(40)
    assert wire.seen("device", "ACK") == acks, "the device must stop repeating its 200 once the ACK is there"


def test_200_that_is_never_acknowledged_ends_the_call_with_bye() -> None:
    wire = Wire()
    _, incoming = ringing(wire)
    wire.drop = lambda data, to: to == "device" and data.startswith(b"ACK")
    wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    wire.deliver()
    only(events_of(wire.platform), InviteAccepted)
    wire.platform.ack(next(iter(["d1"])), now=wire.now)
    wire.advance(33)
    ended = [event for event in events_of(wire.device) if isinstance(event, DialogEnded)]
    assert ended == [DialogEnded(dialog=incoming.dialog or "", by="us", reason="no_ack")]
    only(events_of(wire.platform), DialogEnded)
    nothing_left(wire)


def test_an_accepted_call_that_nobody_acknowledges_here_is_hung_up(wire: Wire) -> None:
    dialog, incoming = ringing(wire)
    wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    wire.deliver()
    only(events_of(wire.platform), InviteAccepted)
    wire.advance(70)
    assert wire.seen("device", "BYE") >= 1
    assert any(isinstance(event, DialogEnded) and event.dialog == dialog for event in events_of(wire.platform))
    nothing_left(wire)


def test_rejection_is_acknowledged_and_told_once(wire: Wire) -> None:
    dialog, incoming = ringing(wire)
    wire.device.respond(incoming.transaction, 486, now=wire.now)
    wire.deliver()
    assert only(events_of(wire.platform), InviteRejected) == InviteRejected(
        dialog=dialog, status=486, reason="Busy Here"
    )
    wire.advance(10)
    assert list(wire.statuses("platform", "INVITE")) == [100, 486], "acknowledged at once, so not repeated"
    assert wire.seen("device", "ACK") == 1
    with pytest.raises(LocalProtocolError):
        wire.platform.cancel(dialog, now=wire.now)
    nothing_left(wire)


def test_cancel_before_any_answer_waits_for_the_first_provisional() -> None:
    wire = Wire()
    dialog = invite(wire)
    wire.platform.cancel(dialog, now=wire.now)
    assert [data[:6] for data, _ in wire.platform.datagrams_to_send(now=wire.now)] == [b"INVITE"]
    wire.advance(0.6)  # the INVITE is repeated (the first was taken off the wire above), 100 comes back
    assert wire.seen("device", "CANCEL") == 1
    assert list(wire.statuses("platform", "INVITE")) == [100, 487]
    assert events_of(wire.platform) == [InviteCancelled(dialog=dialog)]
    device_events = events_of(wire.device)
    assert [type(event) for event in device_events] == [RequestReceived, InviteCancelled]
    nothing_left(wire)


def test_cancel_after_provisional(wire: Wire) -> None:
    dialog, incoming = ringing(wire)
    wire.platform.cancel(dialog, now=wire.now)
    wire.deliver()
    assert events_of(wire.platform) == [InviteCancelled(dialog=dialog)]
    assert events_of(wire.device) == [InviteCancelled(dialog=incoming.dialog or "")]
    with pytest.raises(LocalProtocolError, match="transaction_unknown"):
        wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    nothing_left(wire)


def test_late_200_after_cancel_is_acknowledged_and_hung_up_without_help(wire: Wire) -> None:
    dialog, incoming = ringing(wire)
    wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    wire.platform.cancel(dialog, now=wire.now)  # both are on the wire at the same time
    wire.deliver()
    assert [message for message in events_of(wire.platform)] == [InviteCancelled(dialog=dialog)]
    assert wire.seen("device", "ACK") == 1
    assert wire.seen("device", "BYE") == 1
    assert [type(event) for event in events_of(wire.device)] == [InviteConfirmed, DialogEnded]
    nothing_left(wire)


def test_200_after_we_gave_up_is_still_acknowledged_and_hung_up() -> None:
    wire = Wire()
    wire.drop = lambda data, to: to == "platform"
    dialog = invite(wire)
    wire.deliver()
    wire.advance(33)
    assert events_of(wire.platform) == [TransactionTimedOut(transaction=_invite_branch(wire), dialog=dialog)]
    incoming = only(events_of(wire.device), RequestReceived)
    wire.drop = lambda data, to: False
    wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    wire.deliver()
    assert wire.seen("device", "ACK") == 1
    assert wire.seen("device", "BYE") == 1
    assert events_of(wire.platform) == []
    nothing_left(wire)


def _invite_branch(wire: Wire) -> str:
    return next(message.via_top.branch or "" for _, message in wire.log if message.cseq[1] == "INVITE")


def test_silent_device_gets_seven_invites_then_the_call_fails() -> None:
    wire = Wire()
    wire.drop = lambda data, to: True
    dialog = invite(wire)
    wire.deliver()
    wire.advance(31.9)
    assert wire.seen("device", "INVITE") == 7
    assert events_of(wire.platform) == []
    wire.advance(0.2)
    event = only(events_of(wire.platform), TransactionTimedOut)
    assert event.dialog == dialog
    nothing_left(wire)


def test_call_over_a_lost_connection_fails_at_once() -> None:
    wire = Wire(stream=True)
    dialog = invite(wire)
    wire.platform.connection_lost(wire.to_device, now=wire.now)
    assert only(events_of(wire.platform), TransportFailed).dialog == dialog
    nothing_left(wire)


def test_both_sides_hang_up_at_once(wire: Wire) -> None:
    dialog, callee = talking(wire)
    wire.platform.bye(dialog, now=wire.now)
    wire.device.bye(callee, now=wire.now)
    wire.deliver()
    for side, name in ((wire.platform, dialog), (wire.device, callee)):
        ends = [event for event in events_of(side) if isinstance(event, DialogEnded)]
        assert [end.dialog for end in ends] == [name]
    nothing_left(wire)


def test_callee_that_hangs_up_before_the_ack_waits_for_it() -> None:
    wire = Wire()
    dialog, incoming = ringing(wire)
    wire.device.respond(incoming.transaction, 200, body=ANSWER, now=wire.now)
    assert wire.device.bye(incoming.dialog or "", now=wire.now) == ""
    wire.deliver()
    assert wire.seen("platform", "BYE") == 0
    only(events_of(wire.platform), InviteAccepted)
    wire.platform.ack(dialog, now=wire.now)
    wire.deliver()
    assert wire.seen("platform", "BYE") == 1
    only(events_of(wire.platform), DialogEnded)
    nothing_left(wire)


def test_unanswered_bye_still_frees_the_dialog() -> None:
    wire = Wire()
    dialog, _ = talking(wire)
    wire.drop = lambda data, to: True
    wire.platform.bye(dialog, now=wire.now)
    wire.advance(33)
    ends = [event for event in events_of(wire.platform) if isinstance(event, DialogEnded)]
    assert ends == [DialogEnded(dialog=dialog, by="us", reason="bye_unanswered")]
    assert wire.platform.load()["dialogs"] == 0


def test_requests_run_inside_the_dialog_in_both_directions(wire: Wire) -> None:
    dialog, callee = talking(wire)
    wire.platform.request_in_dialog(
        dialog, "INFO", (("Content-Type", "Application/MANSRTSP"),), b"PAUSE RTSP/1.0\r\n", now=wire.now
    )
    wire.device.request_in_dialog(
        callee, "MESSAGE", (("Content-Type", "Application/MANSCDP+xml"),), b"<Notify/>", now=wire.now
    )
    wire.deliver()
    info = only(events_of(wire.device), RequestReceived)
    notify = only(events_of(wire.platform), RequestReceived)
    assert (info.dialog, notify.dialog) == (callee, dialog)
    assert info.request.cseq == (2, "INFO")
    assert info.request.from_.tag == notify.request.to.tag
    assert info.request.to.tag == notify.request.from_.tag


def test_bye_for_an_unknown_dialog_gets_481(wire: Wire) -> None:
    dialog, _ = talking(wire)
    wire.platform.bye(dialog, now=wire.now)
    wire.deliver()
    stray = wire.platform.new_request("BYE", target=TARGET, to=CAMERA)
    stray_tagged = stray.headers.with_("To", f"{stray.headers.get('To')};tag=nobody")
    wire.platform.send_request(type(stray)("BYE", TARGET, stray_tagged), wire.to_device, now=wire.now)
    events_of(wire.device)
    wire.deliver()
    assert list(wire.statuses("platform", "BYE")) == [200, 481]
    assert events_of(wire.device) == []


def test_copies_of_an_invite_create_one_call() -> None:
    wire = Wire()
    wire.drop = lambda data, to: to == "platform"  # every answer is lost, so the INVITE comes again and again
    invite(wire)
    wire.deliver()
    wire.advance(10)
    assert wire.seen("device", "INVITE") == 5
    only(events_of(wire.device), RequestReceived)
    assert wire.device.load()["dialogs"] == 1


def test_second_invite_in_the_dialog_is_surfaced_with_its_dialog(wire: Wire) -> None:
    dialog, callee = talking(wire)
    call = next(message for _, message in wire.log if message.cseq[1] == "INVITE")
    device_side = wire.device
    # A re-INVITE written by hand: the platform's own endpoint never sends one.
    lines = (
        f"INVITE sip:{CAMERA.value}@192.0.2.10 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKre1",
        f"From: {call.headers.get('From')}",
        f"To: {_answered_to(wire)}",
        f"Call-ID: {call.call_id}",
        "CSeq: 9 INVITE",
        "Content-Length: 0",
        "\r\n",
    )
    device_side.receive("\r\n".join(lines).encode(), wire.to_platform, now=wire.now)
    again = only(events_of(device_side), RequestReceived)
    assert again.dialog == callee
    assert not again.initial
    device_side.respond(again.transaction, 488, now=wire.now)
    assert device_side.load()["dialogs"] == 1
    assert dialog == "d1"


def _answered_to(wire: Wire) -> str:
    for side, message in wire.log:
        if side == "platform" and message.cseq[1] == "INVITE" and message.to.tag is not None:
            return message.headers.get("To") or ""
    raise AssertionError("no answer with a tag was seen")
