"""The calls of an endpoint: carries out what the dialog table says, for callers and callees (RFC 3261 §12–§15)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sipserver.protocol.address import NameAddr
from sipserver.protocol.answers import ALLOW, build_cancel, contact_for
from sipserver.protocol.codec import encode
from sipserver.protocol.dialog import (
    Dialog,
    DialogAction,
    DialogInput,
    DialogState,
    record_route,
    usable_contact,
)
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.events import (
    DialogEnded,
    Event,
    Flow,
    InviteAccepted,
    InviteCancelled,
    InviteConfirmed,
    InviteProvisional,
    InviteRejected,
    Limits,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.message import Request, Response
from sipserver.protocol.transaction import SIXTY_FOUR_T1, Action, Kind, State, Transaction
from sipserver.protocol.transaction_layer import Happened, TransactionLayer

_RESPONSE_INPUTS = (DialogInput.PROVISIONAL, DialogInput.SUCCESS, DialogInput.REJECTION)


class Calls:
    """Dialogs by name, by (Call-ID, our tag) and by Call-ID; bounded by Limits.dialogs."""

    def __init__(
        self,
        *,
        layer: TransactionLayer,
        limits: Limits,
        user: str,
        user_agent: str,
        emit: Callable[[Event], None],
        new_via: Callable[[Flow], str],
    ) -> None:
        self._layer = layer
        self._limits = limits
        self._user = user
        self._user_agent = user_agent
        self._emit = emit
        self._new_via = new_via
        self._dialogs: dict[str, Dialog] = {}
        self._by_tag: dict[tuple[str, str], Dialog] = {}
        self._by_call: dict[str, list[Dialog]] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._dialogs)

    @property
    def full(self) -> bool:
        return len(self._dialogs) >= self._limits.dialogs

    def get(self, name: str) -> Dialog:
        dialog = self._dialogs.get(name)
        if dialog is None:
            raise LocalProtocolError("dialog_unknown")
        return dialog

    def find(self, request: Request, flow: Flow) -> Dialog | None:
        """The dialog of a request of the peer: by its tags, else by Call-ID from the same address (facts §19.3)."""
        tag = request.to.tag
        if tag is not None:
            exact = self._by_tag.get((request.call_id, tag))
            if exact is not None and exact.remote.tag == request.from_.tag:
                return exact
        candidates = self._by_call.get(request.call_id, ())
        near = [dialog for dialog in candidates if dialog.flow.remote[0] == flow.remote[0]]
        return near[0] if len(near) == 1 else None

    # caller

    def invite(self, request: Request, flow: Flow, *, now: float) -> str:
        """Send a complete INVITE (Via, tags, body); the name of the dialog it may become."""
        if self.full:
            raise LocalProtocolError("dialogs_full")
        transaction = self._layer.start_client(request, flow, now=now)
        dialog = self._add(
            state=DialogState.CALLING,
            call_id=request.call_id,
            local=request.from_,
            remote=request.to,
            request=request,
            flow=flow,
            transaction=transaction,
        )
        dialog.invite = request
        dialog.cseq = request.cseq[0]
        return dialog.name

    def ack(self, name: str, *, sdp: bytes, now: float) -> None:
        dialog = self.get(name)
        self._act(dialog, DialogInput.ACK, now=now, body=sdp)

    def cancel(self, name: str, *, now: float) -> None:
        self._act(self.get(name), DialogInput.CANCEL, now=now)

    def bye(self, name: str, *, now: float, flow: Flow | None) -> str:
        dialog = self.get(name)
        if flow is not None:
            dialog.flow = flow
        self._act(dialog, DialogInput.BYE, now=now)
        return dialog.bye_transaction or ""

    def request(
        self, name: str, method: str, headers: Iterable[tuple[str, str]], body: bytes, *, now: float
    ) -> Transaction:
        dialog = self.get(name)
        if not dialog.established:
            raise LocalProtocolError("dialog_not_established")
        extra = [("Contact", contact_for(self._user, dialog.flow)), ("User-Agent", self._user_agent), *headers]
        request = dialog.request(method, via=self._new_via(dialog.flow), headers=extra, body=body)
        return self._layer.start_client(request, dialog.flow, now=now, dialog=name)

    # callee

    def incoming(self, transaction: Transaction, request: Request, flow: Flow) -> Dialog:
        """A first INVITE of a peer. The caller has looked at `full`."""
        dialog = self._add(
            state=DialogState.INVITED,
            call_id=request.call_id,
            local=request.to.with_tag(transaction.to_tag),
            remote=request.from_,
            request=request,
            flow=flow,
            transaction=transaction,
        )
        dialog.target = usable_contact(request) or request.from_.uri
        dialog.routes = record_route(request)
        return dialog

    def contact_headers(self, flow: Flow) -> list[tuple[str, str]]:
        """What every answer of ours to an INVITE carries."""
        return [("Contact", contact_for(self._user, flow)), ("Allow", ALLOW), ("User-Agent", self._user_agent)]

    def answered(self, transaction: Transaction, status: int, *, now: float) -> None:
        """We gave a final answer to an INVITE of the peer."""
        dialog = self._dialogs.get(transaction.dialog or "")
        if dialog is None:
            return
        given = DialogInput.ANSWER_SUCCESS if status < 300 else DialogInput.ANSWER_FAILURE
        if dialog.accepts(given):
            self._act(dialog, given, now=now)

    def peer_ack(self, dialog: Dialog, request: Request, flow: Flow, *, now: float) -> Transaction | None:
        """ACK of a 2xx; returns the INVITE transaction that may stop repeating it."""
        self.move(dialog, flow)
        if dialog.accepts(DialogInput.PEER_ACK):
            self._act(dialog, DialogInput.PEER_ACK, now=now, body=request.body)
        return self._layer.get(dialog.invite_transaction)

    def peer_bye(self, dialog: Dialog, flow: Flow, *, now: float) -> bool:
        """False when the call is in no state to be ended by the peer (481)."""
        if not dialog.accepts(DialogInput.PEER_BYE):
            return False
        self.move(dialog, flow)
        self._act(dialog, DialogInput.PEER_BYE, now=now)
        return True

    def peer_cancel(self, invite: Transaction, *, now: float) -> None:
        dialog = self._dialogs.get(invite.dialog or "")
        if dialog is not None and dialog.accepts(DialogInput.PEER_CANCEL):
            self._act(dialog, DialogInput.PEER_CANCEL, now=now)

    # what transactions report

    def happened(self, event: Happened, *, now: float) -> bool:
        """True when the event belonged to a dialog and is dealt with."""
        transaction = event.transaction
        dialog = self._dialogs.get(transaction.dialog or "")
        if dialog is None:
            return transaction.kind in (Kind.INVITE_CLIENT, Kind.INVITE_SERVER)
        if transaction.name == dialog.bye_transaction:
            self._bye_happened(dialog, event, now=now)
            return False
        if transaction.kind is Kind.INVITE_CLIENT:
            self._invite_happened(dialog, event, now=now)
            return True
        if transaction.kind is Kind.INVITE_SERVER:
            given = DialogInput.NO_ACK if event.before is State.ACCEPTED else DialogInput.TIMEOUT
            if dialog.accepts(given):
                self._act(dialog, given, now=now, transaction=transaction)
            return True
        return False

    def transaction_over(self, transaction: Transaction, *, now: float) -> None:
        dialog = self._dialogs.get(transaction.dialog or "")
        if dialog is None or transaction.name != dialog.invite_transaction:
            return
        if dialog.accepts(DialogInput.OVER):
            self._act(dialog, DialogInput.OVER, now=now)

    def _invite_happened(self, dialog: Dialog, event: Happened, *, now: float) -> None:
        if event.what is Action.TELL_TIMEOUT:
            given = DialogInput.TIMEOUT
        elif event.what is Action.TELL_LOST:
            given = DialogInput.LOST
        else:
            status = event.response.status if event.response is not None else 0
            given = _RESPONSE_INPUTS[0 if status < 200 else 1 if status < 300 else 2]
        if given is DialogInput.SUCCESS and event.response is not None and dialog.remote.tag is None:
            dialog.learn(event.response)
        if dialog.accepts(given):
            self._act(dialog, given, now=now, response=event.response, transaction=event.transaction)

    def _bye_happened(self, dialog: Dialog, event: Happened, *, now: float) -> None:
        if event.what is Action.DELIVER:
            if event.response is not None and event.response.status < 200:
                return
        else:
            dialog.end_reason = "bye_unanswered" if event.what is Action.TELL_TIMEOUT else "transport"
        if dialog.accepts(DialogInput.BYE_DONE):
            self._act(dialog, DialogInput.BYE_DONE, now=now)

    # the actions

    def _act(
        self,
        dialog: Dialog,
        given: DialogInput,
        *,
        now: float,
        response: Response | None = None,
        transaction: Transaction | None = None,
        body: bytes = b"",
    ) -> None:
        for action in dialog.step(given):
            if action is DialogAction.SEND_ACK:
                self._send_ack(dialog, body)
            elif action is DialogAction.REPEAT_ACK:
                self._repeat_ack(dialog, response)
            elif action is DialogAction.SEND_CANCEL:
                self._send_cancel(dialog, now=now)
            elif action is DialogAction.SEND_BYE:
                self._send_bye(dialog, now=now)
            elif action is DialogAction.NOTE_NO_ACK:
                dialog.end_reason = "no_ack"
            else:
                self._emit(self._tell(dialog, action, response, transaction, body))
        if dialog.state is DialogState.ENDED:
            self._remove(dialog)

    def _tell(
        self,
        dialog: Dialog,
        action: DialogAction,
        response: Response | None,
        transaction: Transaction | None,
        body: bytes,
    ) -> Event:
        name = dialog.name
        if action is DialogAction.TELL_CANCELLED:
            return InviteCancelled(dialog=name)
        if action is DialogAction.TELL_CONFIRMED:
            return InviteConfirmed(dialog=name, body=body)
        if action is DialogAction.TELL_PEER_BYE:
            return DialogEnded(dialog=name, by="peer", reason="bye")
        if action is DialogAction.TELL_ENDED:
            return DialogEnded(dialog=name, by="us", reason=dialog.end_reason)
        transaction_name = transaction.name if transaction is not None else dialog.invite_transaction
        if action is DialogAction.TELL_TIMEOUT:
            return TransactionTimedOut(transaction=transaction_name, dialog=name)
        if action is DialogAction.TELL_LOST or response is None:
            return TransportFailed(transaction=transaction_name, dialog=name)
        if action is DialogAction.TELL_PROVISIONAL:
            return InviteProvisional(dialog=name, status=response.status)
        if action is DialogAction.TELL_ACCEPTED:
            return InviteAccepted(dialog=name, response=response)
        return InviteRejected(dialog=name, status=response.status, reason=response.reason)

    def _send_ack(self, dialog: Dialog, body: bytes) -> None:
        headers = [("Contact", contact_for(self._user, dialog.flow)), ("User-Agent", self._user_agent)]
        if body:
            headers.append(("Content-Type", "application/sdp"))
        request = dialog.request("ACK", via=self._new_via(dialog.flow), headers=headers, body=body)
        dialog.ack = encode(request)
        self._layer.send(dialog.ack, dialog.flow)

    def _repeat_ack(self, dialog: Dialog, response: Response | None) -> None:
        to = response.headers.get("To") if response is not None else None
        if response is None or to is None or response.to.tag == dialog.remote.tag:
            self._layer.send(dialog.ack, dialog.flow)
            return
        # Either a device that makes a new tag for each copy of its 200, or a forked call: acknowledging is right for
        # both. The fork is not BYEd, because the first kind of device would end the good session.
        request = dialog.request("ACK", via=self._new_via(dialog.flow), to=to)
        self._layer.send(encode(request), dialog.flow)

    def _send_cancel(self, dialog: Dialog, *, now: float) -> None:
        invite = self._layer.get(dialog.invite_transaction)
        if invite is None or invite.request is None:
            return
        try:
            self._layer.start_client(build_cancel(invite.request), dialog.flow, now=now, surfaced=False)
        except LocalProtocolError:
            pass  # no room: the INVITE ends by its own limit, a late 2xx is BYEd
        self._layer.end_soon(invite, SIXTY_FOUR_T1, now=now)

    def _send_bye(self, dialog: Dialog, *, now: float) -> None:
        headers = [("Contact", contact_for(self._user, dialog.flow)), ("User-Agent", self._user_agent)]
        request = dialog.request("BYE", via=self._new_via(dialog.flow), headers=headers)
        surfaced = dialog.state is DialogState.ENDING
        try:
            transaction = self._layer.start_client(request, dialog.flow, now=now, dialog=dialog.name, surfaced=surfaced)
        except LocalProtocolError:
            dialog.end_reason = "transport"
            self._act(dialog, DialogInput.BYE_DONE, now=now)
            return
        dialog.bye_transaction = transaction.name

    # the store

    def _add(
        self,
        *,
        state: DialogState,
        call_id: str,
        local: NameAddr,
        remote: NameAddr,
        request: Request,
        flow: Flow,
        transaction: Transaction,
    ) -> Dialog:
        self._serial += 1
        dialog = Dialog(
            name=f"d{self._serial}",
            state=state,
            call_id=call_id,
            local=local,
            remote=remote,
            target=request.uri,
            flow=flow,
            invite_transaction=transaction.name,
        )
        transaction.dialog = dialog.name
        self._dialogs[dialog.name] = dialog
        self._by_tag[(call_id, local.tag or "")] = dialog
        self._by_call.setdefault(call_id, []).append(dialog)
        return dialog

    def _remove(self, dialog: Dialog) -> None:
        if self._dialogs.pop(dialog.name, None) is None:
            return
        self._by_tag.pop((dialog.call_id, dialog.local.tag or ""), None)
        same_call = self._by_call.get(dialog.call_id, [])
        same_call.remove(dialog)
        if not same_call:
            del self._by_call[dialog.call_id]

    def move(self, dialog: Dialog, flow: Flow) -> None:
        """The peer was heard on another flow of the same host (new TCP connection, NAT rebinding)."""
        if flow.remote[0] == dialog.flow.remote[0] and flow != dialog.flow:
            dialog.flow = flow
