"""The four transaction machines of RFC 3261 §17 (with the Accepted state of RFC 6026) as tables, and their timers.

The tables are the whole behaviour: step() looks up (state, input), changes the state, sets the timers of the new state
and returns the actions that the layer above carries out. A pair that is not in its table is a LocalProtocolError.
Differences from the RFC, each for field devices: server transactions outlive a lost connection and linger on streams
too, so that a request repeated on a new connection is still not executed twice; a 2xx to an INVITE is repeated by this
machine (we are never a proxy); no state is without an end (PROCEEDING has a limit, ABANDONED catches late answers).
"""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass

from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.events import Flow
from sipserver.protocol.message import Request

T1 = 0.5
T2 = 4.0
T4 = 5.0
SIXTY_FOUR_T1 = 64 * T1
ANSWER_LIMIT = 180.0  # an INVITE with 1xx but no final answer (timer C of RFC 3261 §16.6)


class Kind(enum.Enum):
    __hash__ = object.__hash__  # members are single objects, and the tables are asked all the time

    INVITE_CLIENT = "invite_client"
    CLIENT = "client"
    INVITE_SERVER = "invite_server"
    SERVER = "server"


class State(enum.Enum):
    __hash__ = object.__hash__

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    ABANDONED = "abandoned"
    TERMINATED = "terminated"


class Input(enum.Enum):
    __hash__ = object.__hash__

    # from the peer
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "3xx-6xx"
    REQUEST = "request again"
    ACK = "ack"
    # from us
    SEND_PROVISIONAL = "send 1xx"
    SEND_SUCCESS = "send 2xx"
    SEND_FAILURE = "send 3xx-6xx"
    # timers
    RETRANSMIT = "timer A/E/G"
    TIMEOUT = "timer B/C/F/H"
    LINGER = "timer D/I/J/K/L/M"
    # the connection went away
    LOST = "lost"


class Action(enum.Enum):
    SEND = "send"  # the message that came with the input, and keep it for REPEAT
    REPEAT = "repeat"  # the last message sent
    ACK = "ack"  # ACK for a failure (RFC 3261 §17.1.1.3)
    DELIVER = "deliver"  # the message that came with the input goes up
    TELL_TIMEOUT = "tell timeout"
    TELL_LOST = "tell lost"


_C, _T, _P = State.CALLING, State.TRYING, State.PROCEEDING
_D, _A, _F, _G, _END = State.COMPLETED, State.ACCEPTED, State.CONFIRMED, State.ABANDONED, State.TERMINATED
_1XX, _2XX, _FAIL = Input.PROVISIONAL, Input.SUCCESS, Input.FAILURE
_S1, _S2, _SF = Input.SEND_PROVISIONAL, Input.SEND_SUCCESS, Input.SEND_FAILURE
_AGAIN, _OVER, _DONE, _LOST = Input.RETRANSMIT, Input.TIMEOUT, Input.LINGER, Input.LOST

Transition = tuple[State, tuple[Action, ...]]

TABLE: dict[Kind, dict[tuple[State, Input], Transition]] = {
    Kind.INVITE_CLIENT: {
        (_C, _1XX): (_P, (Action.DELIVER,)),
        (_C, _2XX): (_A, (Action.DELIVER,)),
        (_C, _FAIL): (_D, (Action.ACK, Action.DELIVER)),
        (_C, _AGAIN): (_C, (Action.REPEAT,)),
        (_C, _OVER): (_G, (Action.TELL_TIMEOUT,)),
        (_C, _LOST): (_END, (Action.TELL_LOST,)),
        (_P, _1XX): (_P, (Action.DELIVER,)),
        (_P, _2XX): (_A, (Action.DELIVER,)),
        (_P, _FAIL): (_D, (Action.ACK, Action.DELIVER)),
        (_P, _OVER): (_G, (Action.TELL_TIMEOUT,)),
        (_P, _LOST): (_END, (Action.TELL_LOST,)),
        (_D, _1XX): (_D, ()),
        (_D, _2XX): (_D, ()),
        (_D, _FAIL): (_D, (Action.ACK,)),
        (_D, _DONE): (_END, ()),
        (_D, _LOST): (_END, ()),
        (_A, _1XX): (_A, ()),
        (_A, _2XX): (_A, (Action.DELIVER,)),
        (_A, _FAIL): (_A, ()),
        (_A, _DONE): (_END, ()),
        (_A, _LOST): (_END, ()),
        (_G, _1XX): (_G, ()),
        (_G, _2XX): (_A, (Action.DELIVER,)),
        (_G, _FAIL): (_D, (Action.ACK,)),
        (_G, _DONE): (_END, ()),
        (_G, _LOST): (_END, ()),
    },
    Kind.CLIENT: {
        (_T, _1XX): (_P, (Action.DELIVER,)),
        (_T, _2XX): (_D, (Action.DELIVER,)),
        (_T, _FAIL): (_D, (Action.DELIVER,)),
        (_T, _AGAIN): (_T, (Action.REPEAT,)),
        (_T, _OVER): (_END, (Action.TELL_TIMEOUT,)),
        (_T, _LOST): (_END, (Action.TELL_LOST,)),
        (_P, _1XX): (_P, (Action.DELIVER,)),
        (_P, _2XX): (_D, (Action.DELIVER,)),
        (_P, _FAIL): (_D, (Action.DELIVER,)),
        (_P, _AGAIN): (_P, (Action.REPEAT,)),
        (_P, _OVER): (_END, (Action.TELL_TIMEOUT,)),
        (_P, _LOST): (_END, (Action.TELL_LOST,)),
        (_D, _1XX): (_D, ()),
        (_D, _2XX): (_D, ()),
        (_D, _FAIL): (_D, ()),
        (_D, _DONE): (_END, ()),
        (_D, _LOST): (_END, ()),
    },
    Kind.INVITE_SERVER: {
        (_P, Input.REQUEST): (_P, (Action.REPEAT,)),
        (_P, Input.ACK): (_P, ()),
        (_P, _S1): (_P, (Action.SEND,)),
        (_P, _S2): (_A, (Action.SEND,)),
        (_P, _SF): (_D, (Action.SEND,)),
        (_P, _OVER): (_END, (Action.TELL_TIMEOUT,)),
        (_P, _LOST): (_P, ()),
        (_D, Input.REQUEST): (_D, (Action.REPEAT,)),
        (_D, Input.ACK): (_F, ()),
        (_D, _AGAIN): (_D, (Action.REPEAT,)),
        (_D, _OVER): (_END, ()),
        (_D, _LOST): (_D, ()),
        (_A, Input.REQUEST): (_A, (Action.REPEAT,)),
        (_A, Input.ACK): (_F, ()),
        (_A, _AGAIN): (_A, (Action.REPEAT,)),
        (_A, _OVER): (_END, (Action.TELL_TIMEOUT,)),
        (_A, _LOST): (_A, ()),
        (_F, Input.REQUEST): (_F, ()),
        (_F, Input.ACK): (_F, ()),
        (_F, _DONE): (_END, ()),
        (_F, _LOST): (_F, ()),
    },
    Kind.SERVER: {
        (_T, Input.REQUEST): (_T, ()),
        (_T, _S1): (_P, (Action.SEND,)),
        (_T, _S2): (_D, (Action.SEND,)),
        (_T, _SF): (_D, (Action.SEND,)),
        (_T, _OVER): (_END, (Action.TELL_TIMEOUT,)),
        (_T, _LOST): (_T, ()),
        (_P, Input.REQUEST): (_P, (Action.REPEAT,)),
        (_P, _S1): (_P, (Action.SEND,)),
        (_P, _S2): (_D, (Action.SEND,)),
        (_P, _SF): (_D, (Action.SEND,)),
        (_P, _OVER): (_END, (Action.TELL_TIMEOUT,)),
        (_P, _LOST): (_P, ()),
        (_D, Input.REQUEST): (_D, (Action.REPEAT,)),
        (_D, _DONE): (_END, ()),
        (_D, _LOST): (_D, ()),
    },
}

START = {
    Kind.INVITE_CLIENT: State.CALLING,
    Kind.CLIENT: State.TRYING,
    Kind.INVITE_SERVER: State.PROCEEDING,
    Kind.SERVER: State.TRYING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTimers:
    """Timers started on entering a state, seconds (datagram, stream). None: not started; 0: over at once."""

    retransmit: tuple[float | None, float | None] = (None, None)
    cap: float = T2  # the retransmission interval doubles up to here
    timeout: float | None = None
    keep_timeout: bool = False  # timer F runs on from the state before
    linger: tuple[float | None, float | None] = (None, None)


_NO_TIMERS = StateTimers()
TIMERS: dict[tuple[Kind, State], StateTimers] = {
    (Kind.INVITE_CLIENT, _C): StateTimers(retransmit=(T1, None), cap=SIXTY_FOUR_T1, timeout=SIXTY_FOUR_T1),
    (Kind.INVITE_CLIENT, _P): StateTimers(timeout=ANSWER_LIMIT),
    (Kind.INVITE_CLIENT, _D): StateTimers(linger=(SIXTY_FOUR_T1, 0)),
    (Kind.INVITE_CLIENT, _A): StateTimers(linger=(SIXTY_FOUR_T1, SIXTY_FOUR_T1)),
    (Kind.INVITE_CLIENT, _G): StateTimers(linger=(SIXTY_FOUR_T1, SIXTY_FOUR_T1)),
    (Kind.CLIENT, _T): StateTimers(retransmit=(T1, None), timeout=SIXTY_FOUR_T1),
    (Kind.CLIENT, _P): StateTimers(retransmit=(T2, None), keep_timeout=True),
    (Kind.CLIENT, _D): StateTimers(linger=(T4, 0)),
    (Kind.INVITE_SERVER, _P): StateTimers(timeout=ANSWER_LIMIT),
    (Kind.INVITE_SERVER, _D): StateTimers(retransmit=(T1, None), timeout=SIXTY_FOUR_T1),
    (Kind.INVITE_SERVER, _A): StateTimers(retransmit=(T1, T1), timeout=SIXTY_FOUR_T1),
    (Kind.INVITE_SERVER, _F): StateTimers(linger=(T4, T4)),
    (Kind.SERVER, _T): StateTimers(timeout=SIXTY_FOUR_T1),
    (Kind.SERVER, _P): StateTimers(timeout=ANSWER_LIMIT),
    (Kind.SERVER, _D): StateTimers(linger=(SIXTY_FOUR_T1, SIXTY_FOUR_T1)),
}


class TimerQueue:
    """Deadlines by (owner, timer), earliest first. Replaced deadlines stay in the heap until popped or swept out."""

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Input]] = []
        self._live: dict[tuple[str, Input], int] = {}
        self._serial = 0

    def set(self, owner: str, timer: Input, deadline: float) -> None:
        self._serial += 1
        self._live[(owner, timer)] = self._serial
        heapq.heappush(self._heap, (deadline, self._serial, owner, timer))
        if len(self._heap) > 4 * len(self._live) + 64:
            self._heap = [entry for entry in self._heap if self._live.get((entry[2], entry[3])) == entry[1]]
            heapq.heapify(self._heap)

    def cancel(self, owner: str, timer: Input) -> None:
        self._live.pop((owner, timer), None)

    def next(self) -> float | None:
        while self._heap:
            deadline, serial, owner, timer = self._heap[0]
            if self._live.get((owner, timer)) == serial:
                return deadline
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> tuple[str, Input] | None:
        deadline = self.next()
        if deadline is None or deadline > now:
            return None
        _, _, owner, timer = heapq.heappop(self._heap)
        del self._live[(owner, timer)]
        return owner, timer

    def __len__(self) -> int:
        return len(self._live)


_ALL_TIMERS = (Input.RETRANSMIT, Input.TIMEOUT, Input.LINGER)


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One running transaction. `sent` is the last message we sent in it (what REPEAT sends)."""

    name: str
    kind: Kind
    flow: Flow
    key: tuple[str, ...]
    request: Request | None  # for a server transaction let go with the final response
    dialog: str | None = None
    surfaced: bool = True  # False: its outcome is the core's own business (CANCEL)
    state: State = State.TERMINATED
    sent: bytes = b""
    interval: float = 0.0
    to_tag: str = ""
    fingerprint: int | None = None  # of the datagram a server transaction began with
    octets: int = 0  # of that datagram

    def start(self, timers: TimerQueue, now: float) -> None:
        self.state = START[self.kind]
        self._enter(timers, now)

    def step(self, given: Input, timers: TimerQueue, now: float) -> tuple[Action, ...]:
        """Raises LocalProtocolError("transition_illegal") for a pair outside the table; the state stays."""
        transition = TABLE[self.kind].get((self.state, given))
        if transition is None:
            raise LocalProtocolError("transition_illegal")
        before, (self.state, actions) = self.state, transition
        if self.state is not before or (given is Input.PROVISIONAL and self.state is State.PROCEEDING):
            self._enter(timers, now)
        elif given is Input.RETRANSMIT:
            self.interval = min(self.interval * 2, TIMERS[(self.kind, self.state)].cap)
            timers.set(self.name, Input.RETRANSMIT, now + self.interval)
        return actions

    def _enter(self, timers: TimerQueue, now: float) -> None:
        planned = TIMERS.get((self.kind, self.state), _NO_TIMERS)
        for timer in _ALL_TIMERS:
            if not (timer is Input.TIMEOUT and planned.keep_timeout):
                timers.cancel(self.name, timer)
        stream = self.flow.connection is not None
        retransmit, linger = planned.retransmit[stream], planned.linger[stream]
        if retransmit is not None:
            self.interval = retransmit
            timers.set(self.name, Input.RETRANSMIT, now + retransmit)
        if planned.timeout is not None:
            timers.set(self.name, Input.TIMEOUT, now + planned.timeout)
        if linger == 0:
            self.state = State.TERMINATED
        elif linger is not None:
            timers.set(self.name, Input.LINGER, now + linger)
