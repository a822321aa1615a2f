"""Random sequences of calls, answers, losses, copies and passing time: every call ends once and nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from sipserver.protocol.endpoint import (
    DialogEnded,
    Endpoint,
    InviteAccepted,
    InviteCancelled,
    InviteRejected,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.message import Uri

from .harness import CAMERA, Wire, events_of

TARGET = Uri(user=CAMERA.value, host="192.0.2.10", port=5060)
CALLS = (
    "invite",
    "invite",
    "answer",
    "answer",
    "refuse",
    "ack",
    "ack",
    "cancel",
    "bye",
    "callee bye",
    "info",
    "message",
)
WORLD = ("lose", "deaf device", "deaf platform", "hear", "wait", "wait", "wait long")
STEPS = CALLS + WORLD


class World:
    """Two sides that do random things and remember what they were told."""

    def __init__(self, stream: bool, losses: list[bool]) -> None:
        self.wire = Wire(stream=stream)
        self.deaf = ""
        self.wire.drop = lambda data, to: to == self.deaf or (losses.pop() if losses else False)
        self.calls: list[str] = []
        self.asked: list[str] = []  # transactions of ours outside dialogs
        self.unanswered: list[RequestReceived] = []
        self.callee: list[str] = []
        self.outcomes: Counter[str] = Counter()  # terminal events by dialog or transaction of the platform
        self.callee_outcomes: Counter[str] = Counter()
        self.executed: Counter[tuple[str, int]] = Counter()

    def attempt(self, command: Callable[[], object]) -> None:
        """Commands that come too late are refused; nothing else may go wrong."""
        try:
            command()
        except LocalProtocolError:
            return

    def do(self, step: str, pick: int) -> None:
        if step in WORLD:
            self.pass_time(step, pick)
        elif step in ("answer", "refuse", "callee bye"):
            self.as_callee(step, pick)
        else:
            self.as_caller(step, pick)
        if pick % 3:  # else what was sent crosses with what the other side does next
            self.wire.deliver()
            self.look()

    def pass_time(self, step: str, pick: int) -> None:
        if step == "lose" and self.wire.stream:
            self.wire.platform.connection_lost(self.wire.to_device, now=self.wire.now)
            self.wire.device.connection_lost(self.wire.to_platform, now=self.wire.now)
        elif step.startswith("deaf"):
            self.deaf = step.partition(" ")[2]
        elif step == "hear":
            self.deaf = ""
        elif step.startswith("wait"):
            self.wire.advance(pick / 40 if step == "wait" else pick)

    def as_callee(self, step: str, pick: int) -> None:
        device, now = self.wire.device, self.wire.now
        if step == "callee bye" and self.callee:
            self.attempt(lambda: device.bye(self.callee[pick % len(self.callee)], now=now))
        elif step != "callee bye" and self.unanswered:
            incoming = self.unanswered.pop(pick % len(self.unanswered))
            self.attempt(lambda: device.respond(incoming.transaction, 200 if step == "answer" else 486, now=now))

    def as_caller(self, step: str, pick: int) -> None:
        platform, flow, now = self.wire.platform, self.wire.to_device, self.wire.now
        call = self.calls[pick % len(self.calls)] if self.calls else ""
        if step == "invite":
            self.calls.append(platform.invite(target=TARGET, to=CAMERA, flow=flow, sdp=b"o", subject="s", now=now))
        elif step == "message":
            request = platform.new_request("MESSAGE", target=TARGET, to=CAMERA)
            self.asked.append(platform.send_request(request, flow, now=now))
        elif step == "info":
            self.attempt(lambda: self.asked.append(platform.request_in_dialog(call, "INFO", now=now)))
        else:
            commands: dict[str, Callable[..., object]]
            commands = {"ack": platform.ack, "cancel": platform.cancel, "bye": platform.bye}
            self.attempt(lambda: commands[step](call, now=now))

    def look(self) -> None:
        for event in events_of(self.wire.platform):
            if isinstance(event, InviteRejected | InviteCancelled | DialogEnded):
                self.outcomes[event.dialog] += 1
            elif isinstance(event, TransactionTimedOut | TransportFailed):
                name = event.transaction if event.transaction in self.asked else event.dialog
                if event.transaction in self.asked or self._is_invite(event.dialog):
                    self.outcomes[name or ""] += 1
            elif isinstance(event, ResponseReceived) and event.response.status >= 200:
                if event.transaction in self.asked:
                    self.outcomes[event.transaction] += 1
            elif isinstance(event, InviteAccepted):
                assert event.dialog in self.calls
        for event in events_of(self.wire.device):
            if isinstance(event, RequestReceived):
                self.executed[(event.request.call_id, event.request.cseq[0])] += 1
                self.unanswered.append(event)
                if event.initial and event.dialog is not None:
                    self.callee.append(event.dialog)
            elif isinstance(event, DialogEnded | InviteCancelled):
                self.callee_outcomes[event.dialog] += 1

    def _is_invite(self, dialog: str | None) -> bool:
        """A TransactionTimedOut of a BYE comes beside its DialogEnded; one of an INVITE is the end itself."""
        return dialog in self.calls and not self.outcomes[dialog or ""]


def idle(side: Endpoint) -> bool:
    load = side.load()
    return side.next_timeout() is None and not any(load[name] for name in load if name != "connections")


@settings(max_examples=300, deadline=None)
@given(
    st.booleans(),
    st.lists(st.booleans(), max_size=60),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 79)), min_size=1, max_size=40),
)
def test_every_call_ends_exactly_once_and_nothing_is_left(
    stream: bool, losses: list[bool], steps: list[tuple[str, int]]
) -> None:
    world = World(stream, losses)
    for step, pick in steps:
        world.do(step, pick)
    for call in world.calls:
        world.attempt(lambda call=call: world.wire.platform.bye(call, now=world.wire.now))  # type: ignore[misc]
    for dialog in world.callee:
        world.attempt(lambda dialog=dialog: world.wire.device.bye(dialog, now=world.wire.now))  # type: ignore[misc]
    world.wire.deliver()
    for _ in range(8):
        world.wire.advance(100)
        world.look()
    assert idle(world.wire.platform), world.wire.platform.load()
    assert idle(world.wire.device), world.wire.device.load()
    assert {call: world.outcomes[call] for call in world.calls} == dict.fromkeys(world.calls, 1)
    assert {name: world.outcomes[name] for name in world.asked} == dict.fromkeys(world.asked, 1)
    assert all(times == 1 for times in world.executed.values()), "a copy of a request was executed again"
    assert all(times == 1 for times in world.callee_outcomes.values())
