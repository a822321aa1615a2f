"""INVITE dialogs of both sides as a table (RFC 3261 §12, §13, §15), and the requests that run inside them.

step() looks up (state, input); a pair outside the table is a LocalProtocolError. What the actions do is in calls.py.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from sipserver.protocol.events import Flow
from sipserver.protocol.message import Headers, NameAddr, Request, Response, Uri


class DialogState(enum.Enum):
    # caller
    CALLING = "calling"
    EARLY = "early"  # 1xx came
    CANCEL_WAITING = "cancel_waiting"  # to be cancelled, but CANCEL may not go out before a 1xx (§9.1)
    CANCELLING = "cancelling"
    ANSWERED = "answered"  # 2xx came, not acknowledged yet
    GIVEN_UP = "given_up"  # timed out; a late 2xx is still answered with ACK and BYE
    DISCARDING = "discarding"  # such a late 2xx is being BYEd, its end was already told
    # callee
    INVITED = "invited"
    ACCEPTED = "accepted"  # 2xx sent, no ACK yet
    LEAVING = "leaving"  # to be BYEd as soon as the ACK is there or overdue (§15)
    # both
    CONFIRMED = "confirmed"
    ENDING = "ending"  # our BYE is out
    ENDED = "ended"


class DialogInput(enum.Enum):
    # the INVITE's transaction
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    REJECTION = "3xx-6xx"
    TIMEOUT = "timeout"
    LOST = "connection lost"
    OVER = "transaction over"
    NO_ACK = "no ack"
    # the peer's requests
    PEER_ACK = "peer's ack"
    PEER_BYE = "peer's bye"
    PEER_CANCEL = "peer's cancel"
    # our commands
    ACK = "ack"
    CANCEL = "cancel"
    BYE = "bye"
    ANSWER_SUCCESS = "answer 2xx"
    ANSWER_FAILURE = "answer 3xx-6xx"
    # our BYE's transaction
    BYE_DONE = "bye done"


class DialogAction(enum.Enum):
    TELL_PROVISIONAL = "tell provisional"
    TELL_ACCEPTED = "tell accepted"
    TELL_REJECTED = "tell rejected"
    TELL_TIMEOUT = "tell timeout"
    TELL_LOST = "tell lost"
    TELL_CANCELLED = "tell cancelled"
    TELL_CONFIRMED = "tell confirmed"
    TELL_PEER_BYE = "tell peer bye"
    TELL_ENDED = "tell ended"
    SEND_ACK = "send ack"
    REPEAT_ACK = "repeat ack"
    SEND_CANCEL = "send cancel"
    SEND_BYE = "send bye"
    NOTE_NO_ACK = "note no ack"


_S, _I, _A = DialogState, DialogInput, DialogAction
_ACK_BYE = (_A.SEND_ACK, _A.SEND_BYE)

TABLE: dict[tuple[DialogState, DialogInput], tuple[DialogState, tuple[DialogAction, ...]]] = {
    (_S.CALLING, _I.PROVISIONAL): (_S.EARLY, (_A.TELL_PROVISIONAL,)),
    (_S.CALLING, _I.SUCCESS): (_S.ANSWERED, (_A.TELL_ACCEPTED,)),
    (_S.CALLING, _I.REJECTION): (_S.ENDED, (_A.TELL_REJECTED,)),
    (_S.CALLING, _I.TIMEOUT): (_S.GIVEN_UP, (_A.TELL_TIMEOUT,)),
    (_S.CALLING, _I.LOST): (_S.ENDED, (_A.TELL_LOST,)),
    (_S.CALLING, _I.CANCEL): (_S.CANCEL_WAITING, ()),
    (_S.CALLING, _I.BYE): (_S.CANCEL_WAITING, ()),
    (_S.EARLY, _I.PROVISIONAL): (_S.EARLY, (_A.TELL_PROVISIONAL,)),
    (_S.EARLY, _I.SUCCESS): (_S.ANSWERED, (_A.TELL_ACCEPTED,)),
    (_S.EARLY, _I.REJECTION): (_S.ENDED, (_A.TELL_REJECTED,)),
    (_S.EARLY, _I.TIMEOUT): (_S.GIVEN_UP, (_A.SEND_CANCEL, _A.TELL_TIMEOUT)),
    (_S.EARLY, _I.LOST): (_S.ENDED, (_A.TELL_LOST,)),
    (_S.EARLY, _I.CANCEL): (_S.CANCELLING, (_A.SEND_CANCEL,)),
    (_S.EARLY, _I.BYE): (_S.CANCELLING, (_A.SEND_CANCEL,)),
    (_S.CANCEL_WAITING, _I.PROVISIONAL): (_S.CANCELLING, (_A.SEND_CANCEL,)),
    (_S.CANCEL_WAITING, _I.SUCCESS): (_S.DISCARDING, (*_ACK_BYE, _A.TELL_CANCELLED)),
    (_S.CANCEL_WAITING, _I.REJECTION): (_S.ENDED, (_A.TELL_CANCELLED,)),
    (_S.CANCEL_WAITING, _I.TIMEOUT): (_S.GIVEN_UP, (_A.TELL_CANCELLED,)),
    (_S.CANCEL_WAITING, _I.LOST): (_S.ENDED, (_A.TELL_CANCELLED,)),
    (_S.CANCEL_WAITING, _I.CANCEL): (_S.CANCEL_WAITING, ()),
    (_S.CANCEL_WAITING, _I.BYE): (_S.CANCEL_WAITING, ()),
    (_S.CANCELLING, _I.PROVISIONAL): (_S.CANCELLING, ()),
    (_S.CANCELLING, _I.SUCCESS): (_S.DISCARDING, (*_ACK_BYE, _A.TELL_CANCELLED)),
    (_S.CANCELLING, _I.REJECTION): (_S.ENDED, (_A.TELL_CANCELLED,)),
    (_S.CANCELLING, _I.TIMEOUT): (_S.GIVEN_UP, (_A.TELL_CANCELLED,)),
    (_S.CANCELLING, _I.LOST): (_S.ENDED, (_A.TELL_CANCELLED,)),
    (_S.CANCELLING, _I.CANCEL): (_S.CANCELLING, ()),
    (_S.CANCELLING, _I.BYE): (_S.CANCELLING, ()),
    (_S.ANSWERED, _I.SUCCESS): (_S.ANSWERED, ()),
    (_S.ANSWERED, _I.ACK): (_S.CONFIRMED, (_A.SEND_ACK,)),
    (_S.ANSWERED, _I.CANCEL): (_S.DISCARDING, (*_ACK_BYE, _A.TELL_CANCELLED)),
    (_S.ANSWERED, _I.BYE): (_S.ENDING, _ACK_BYE),
    (_S.ANSWERED, _I.PEER_BYE): (_S.ENDED, (_A.TELL_PEER_BYE,)),
    (_S.ANSWERED, _I.OVER): (_S.ENDING, _ACK_BYE),  # nobody called ack() for 32 s
    (_S.GIVEN_UP, _I.SUCCESS): (_S.DISCARDING, _ACK_BYE),
    (_S.GIVEN_UP, _I.OVER): (_S.ENDED, ()),
    (_S.GIVEN_UP, _I.CANCEL): (_S.GIVEN_UP, ()),
    (_S.GIVEN_UP, _I.BYE): (_S.GIVEN_UP, ()),
    (_S.DISCARDING, _I.SUCCESS): (_S.DISCARDING, (_A.REPEAT_ACK,)),
    (_S.DISCARDING, _I.PEER_BYE): (_S.DISCARDING, ()),
    (_S.DISCARDING, _I.OVER): (_S.DISCARDING, ()),
    (_S.DISCARDING, _I.BYE_DONE): (_S.ENDED, ()),
    (_S.DISCARDING, _I.CANCEL): (_S.DISCARDING, ()),
    (_S.DISCARDING, _I.BYE): (_S.DISCARDING, ()),
    (_S.INVITED, _I.ANSWER_SUCCESS): (_S.ACCEPTED, ()),
    (_S.INVITED, _I.ANSWER_FAILURE): (_S.ENDED, ()),
    (_S.INVITED, _I.PEER_CANCEL): (_S.ENDED, (_A.TELL_CANCELLED,)),
    (_S.INVITED, _I.TIMEOUT): (_S.ENDED, (_A.TELL_TIMEOUT,)),
    (_S.INVITED, _I.PEER_BYE): (_S.INVITED, ()),
    (_S.ACCEPTED, _I.PEER_ACK): (_S.CONFIRMED, (_A.TELL_CONFIRMED,)),
    (_S.ACCEPTED, _I.PEER_BYE): (_S.ENDED, (_A.TELL_PEER_BYE,)),
    (_S.ACCEPTED, _I.NO_ACK): (_S.ENDING, (_A.NOTE_NO_ACK, _A.SEND_BYE)),
    (_S.ACCEPTED, _I.BYE): (_S.LEAVING, ()),
    (_S.LEAVING, _I.PEER_ACK): (_S.ENDING, (_A.SEND_BYE,)),
    (_S.LEAVING, _I.PEER_BYE): (_S.ENDED, (_A.TELL_PEER_BYE,)),
    (_S.LEAVING, _I.NO_ACK): (_S.ENDING, (_A.NOTE_NO_ACK, _A.SEND_BYE)),
    (_S.LEAVING, _I.BYE): (_S.LEAVING, ()),
    (_S.CONFIRMED, _I.SUCCESS): (_S.CONFIRMED, (_A.REPEAT_ACK,)),
    (_S.CONFIRMED, _I.OVER): (_S.CONFIRMED, ()),
    (_S.CONFIRMED, _I.ACK): (_S.CONFIRMED, ()),
    (_S.CONFIRMED, _I.CANCEL): (_S.ENDING, (_A.SEND_BYE,)),
    (_S.CONFIRMED, _I.BYE): (_S.ENDING, (_A.SEND_BYE,)),
    (_S.CONFIRMED, _I.PEER_ACK): (_S.CONFIRMED, ()),
    (_S.CONFIRMED, _I.PEER_BYE): (_S.ENDED, (_A.TELL_PEER_BYE,)),
    (_S.CONFIRMED, _I.ANSWER_SUCCESS): (_S.CONFIRMED, ()),  # to a re-INVITE
    (_S.CONFIRMED, _I.ANSWER_FAILURE): (_S.CONFIRMED, ()),
    (_S.CONFIRMED, _I.NO_ACK): (_S.ENDING, (_A.NOTE_NO_ACK, _A.SEND_BYE)),
    (_S.ENDING, _I.SUCCESS): (_S.ENDING, (_A.REPEAT_ACK,)),
    (_S.ENDING, _I.OVER): (_S.ENDING, ()),
    (_S.ENDING, _I.PEER_ACK): (_S.ENDING, ()),
    (_S.ENDING, _I.PEER_BYE): (_S.ENDING, ()),  # both hung up at once
    (_S.ENDING, _I.BYE): (_S.ENDING, ()),
    (_S.ENDING, _I.CANCEL): (_S.ENDING, ()),
    (_S.ENDING, _I.NO_ACK): (_S.ENDING, ()),
    (_S.ENDING, _I.ANSWER_FAILURE): (_S.ENDING, ()),
    (_S.ENDING, _I.BYE_DONE): (_S.ENDED, (_A.TELL_ENDED,)),
}


@dataclass(slots=True, kw_only=True)
class Dialog:
    """One dialog, from the INVITE on. local, remote: From and To as we write them; remote gets its tag with the 2xx.

    invite: our INVITE (caller). invite_transaction: that of the INVITE, either side. ack: bytes of our ACK for copies
    of the 2xx. flow: where the peer was last heard in this dialog.
    """

    name: str
    state: DialogState
    call_id: str
    local: NameAddr
    remote: NameAddr
    target: Uri
    flow: Flow
    routes: tuple[str, ...] = ()
    cseq: int = 1
    invite: Request | None = None
    invite_transaction: str
    bye_transaction: str | None = None
    ack: bytes = b""
    end_reason: str = "bye"

    def step(self, given: DialogInput) -> tuple[DialogAction, ...]:
        transition = TABLE.get((self.state, given))
        if transition is None:
            raise LocalProtocolError("dialog_transition_illegal")
        self.state, actions = transition
        return actions

    def accepts(self, given: DialogInput) -> bool:
        return (self.state, given) in TABLE

    @property
    def established(self) -> bool:
        """True when requests can run in it."""
        return self.state in (DialogState.CONFIRMED, DialogState.ACCEPTED)

    def learn(self, response: Response) -> None:
        """Take the peer's tag, Contact and route from its 2xx (§12.1.2); a useless Contact leaves the old target."""
        self.remote = response.to
        self.routes = tuple(reversed(record_route(response)))
        self.target = usable_contact(response) or self.target

    def request(
        self,
        method: str,
        *,
        via: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        to: str | None = None,
    ) -> Request:
        """A request with the dialog's names and the next CSeq (ACK: the INVITE's); `to` overrides the To value."""
        if method == "ACK" and self.invite is not None:
            number = self.invite.cseq[0]
        else:
            self.cseq += 1
            number = self.cseq
        fields = [("Via", via), ("Max-Forwards", "70")]
        fields += [("Route", route) for route in self.routes]
        fields += [("From", str(self.local)), ("To", to or str(self.remote))]
        fields += [("Call-ID", self.call_id), ("CSeq", f"{number} {method}")]
        return Request(method, self.target, Headers([*fields, *headers]), body)


def record_route(message: Request | Response) -> tuple[str, ...]:
    """Record-Route values, or none at all if they cannot be read: requests go down the peer's flow in any case."""
    try:
        return message.headers.values("Record-Route")
    except RemoteProtocolError:
        return ()


def usable_contact(message: Request | Response) -> Uri | None:
    """Contact's URI if it is a SIP URI; devices leave it out or fill it with rubbish (facts §2.3): then None."""
    try:
        contact = message.contact
    except RemoteProtocolError:
        return None
    return contact.uri if contact is not None and contact.uri.is_sip else None
