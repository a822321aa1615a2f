"""The transaction and dialog tables: every (state, input) pair is walked, against an independent transcription."""

from __future__ import annotations

import itertools
import re

import pytest

from sipserver.protocol import dialog as dialogs
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.events import Flow
from sipserver.protocol.transaction import (
    START,
    TABLE,
    TIMERS,
    Input,
    Kind,
    State,
    TimerQueue,
    Transaction,
)

from .harness import START as NOW
from .harness import tcp_flow, udp_flow

# RFC 3261 figures 5-8 with RFC 6026, one line a state: input → next state. "·" = stays. Written from the figures, not
# from the code; what is not listed must be refused.
FIGURES = {
    Kind.INVITE_CLIENT: """
        calling: 1xx→proceeding 2xx→accepted 3xx-6xx→completed timer A/E/G→· timer B/C/F/H→abandoned lost→terminated
        proceeding: 1xx→· 2xx→accepted 3xx-6xx→completed timer B/C/F/H→abandoned lost→terminated
        completed: 1xx→· 2xx→· 3xx-6xx→· timer D/I/J/K/L/M→terminated lost→terminated
        accepted: 1xx→· 2xx→· 3xx-6xx→· timer D/I/J/K/L/M→terminated lost→terminated
        abandoned: 1xx→· 2xx→accepted 3xx-6xx→completed timer D/I/J/K/L/M→terminated lost→terminated
        """,
    Kind.CLIENT: """
        trying: 1xx→proceeding 2xx→completed 3xx-6xx→completed timer A/E/G→· timer B/C/F/H→terminated lost→terminated
        proceeding: 1xx→· 2xx→completed 3xx-6xx→completed timer A/E/G→· timer B/C/F/H→terminated lost→terminated
        completed: 1xx→· 2xx→· 3xx-6xx→· timer D/I/J/K/L/M→terminated lost→terminated
        """,
    Kind.INVITE_SERVER: """
        proceeding: request again→· ack→· send 1xx→· send 2xx→accepted send 3xx-6xx→completed
        proceeding: timer B/C/F/H→terminated lost→·
        completed: request again→· ack→confirmed timer A/E/G→· timer B/C/F/H→terminated lost→·
        accepted: request again→· ack→confirmed timer A/E/G→· timer B/C/F/H→terminated lost→·
        confirmed: request again→· ack→· timer D/I/J/K/L/M→terminated lost→·
        """,
    Kind.SERVER: """
        trying: request again→· send 1xx→proceeding send 2xx→completed send 3xx-6xx→completed
        trying: timer B/C/F/H→terminated lost→·
        proceeding: request again→· send 1xx→· send 2xx→completed send 3xx-6xx→completed
        proceeding: timer B/C/F/H→terminated lost→·
        completed: request again→· timer D/I/J/K/L/M→terminated lost→·
        """,
}


_WORDS = "|".join(re.escape(given.value) for given in sorted(Input, key=lambda given: -len(given.value)))


def figure(kind: Kind) -> dict[tuple[State, Input], State]:
    found: dict[tuple[State, Input], State] = {}
    for line in FIGURES[kind].strip().splitlines():
        name, rest = line.strip().split(": ", 1)
        state = State(name)
        for given, target in re.findall(rf"({_WORDS})→(\S+)", rest):
            found[(state, Input(given))] = state if target == "·" else State(target)
    return found


def transaction_in(kind: Kind, state: State, flow: Flow) -> tuple[Transaction, TimerQueue]:
    timers = TimerQueue()
    transaction = Transaction(name="x", kind=kind, flow=flow, key=(), request=None)
    transaction.start(timers, NOW)
    transaction.state = state
    return transaction, timers


@pytest.mark.parametrize(("kind", "state", "given"), list(itertools.product(Kind, State, Input)))
def test_every_pair_of_state_and_input(kind: Kind, state: State, given: Input) -> None:
    expected = figure(kind).get((state, given))
    transaction, timers = transaction_in(kind, state, udp_flow())
    if expected is None:
        with pytest.raises(LocalProtocolError, match="transition_illegal"):
            transaction.step(given, timers, NOW)
        assert transaction.state is state
        return
    transaction.step(given, timers, NOW)
    assert transaction.state is expected


@pytest.mark.parametrize("kind", list(Kind))
def test_every_state_is_reachable_and_none_is_without_an_end(kind: Kind) -> None:
    reached, frontier = {START[kind]}, [START[kind]]
    while frontier:
        state = frontier.pop()
        for (source, _), (target, _) in TABLE[kind].items():
            if source is state and target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == {state for state, _ in TABLE[kind]} | {State.TERMINATED}
    for state in reached - {State.TERMINATED}:
        timers = TIMERS[(kind, state)]
        assert timers.timeout or timers.keep_timeout or timers.linger[0] is not None, f"{state} would last for ever"
        ending = Input.LINGER if timers.linger[0] is not None else Input.TIMEOUT
        assert (state, ending) in TABLE[kind], "the timer that is started must be expected"


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        (Kind.INVITE_CLIENT, [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]),
        (Kind.CLIENT, [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]),
    ],
)
def test_moments_of_retransmission(kind: Kind, moments: list[float]) -> None:
    timers = TimerQueue()
    transaction = Transaction(name="x", kind=kind, flow=udp_flow(), key=(), request=None)
    transaction.start(timers, NOW)
    seen = []
    while transaction.state in (State.CALLING, State.TRYING):
        now = timers.next()
        assert now is not None
        due = timers.pop_due(now)
        assert due is not None
        if due[1] is Input.RETRANSMIT:
            seen.append(now - NOW)
        else:
            assert now - NOW == 32
        transaction.step(due[1], timers, now)
    assert seen == moments


def test_streams_do_not_retransmit_requests() -> None:
    for kind in (Kind.INVITE_CLIENT, Kind.CLIENT):
        timers = TimerQueue()
        Transaction(name="x", kind=kind, flow=tcp_flow(), key=(), request=None).start(timers, NOW)
        due = timers.pop_due(NOW + 1000)
        assert due == ("x", Input.TIMEOUT)
        assert timers.next() is None


def test_timer_f_runs_on_through_provisional_answers() -> None:
    timers = TimerQueue()
    transaction = Transaction(name="x", kind=Kind.CLIENT, flow=udp_flow(), key=(), request=None)
    transaction.start(timers, NOW)
    for later in range(1, 31):
        transaction.step(Input.PROVISIONAL, timers, NOW + later)
    fired = set()
    while (due := timers.pop_due(NOW + 32)) is not None:
        fired.add(due[1])
        transaction.step(due[1], timers, NOW + 32)
    assert Input.TIMEOUT in fired
    assert transaction.state is State.TERMINATED


def test_timer_queue_forgets_what_was_replaced() -> None:
    timers = TimerQueue()
    for moment in range(10_000):
        timers.set("x", Input.TIMEOUT, NOW + moment)
    assert len(timers) == 1
    assert len(timers._heap) <= 4 * len(timers) + 64, "replaced deadlines may not pile up"
    assert timers.next() == NOW + 9_999
    timers.cancel("x", Input.TIMEOUT)
    assert timers.next() is None


@pytest.mark.parametrize(("state", "given"), list(itertools.product(dialogs.DialogState, dialogs.DialogInput)))
def test_every_pair_of_dialog_state_and_input(state: dialogs.DialogState, given: dialogs.DialogInput) -> None:
    dialog = object.__new__(dialogs.Dialog)
    dialog.state = state
    if (state, given) not in dialogs.TABLE:
        with pytest.raises(LocalProtocolError, match="dialog_transition_illegal"):
            dialog.step(given)
        assert dialog.state is state
        return
    actions = dialog.step(given)
    ends_told = [action for action in actions if action.name.startswith("TELL") and action.name != "TELL_PROVISIONAL"]
    assert len(ends_told) <= 1, "one input, one story"
    if dialog.state is dialogs.DialogState.ENDED:
        silent = {
            (dialogs.DialogState.GIVEN_UP, dialogs.DialogInput.OVER),  # told when it was given up
            (dialogs.DialogState.DISCARDING, dialogs.DialogInput.BYE_DONE),  # told when it was cancelled
            (dialogs.DialogState.INVITED, dialogs.DialogInput.ANSWER_FAILURE),  # the shell's own doing
        }
        assert ends_told or (state, given) in silent, "nobody would learn that the dialog is over"


def test_every_dialog_state_can_end() -> None:
    ending = {dialogs.DialogState.ENDED}
    while True:
        more = {state for (state, _), (target, _) in dialogs.TABLE.items() if target in ending} - ending
        if not more:
            break
        ending |= more
    assert ending == set(dialogs.DialogState)
