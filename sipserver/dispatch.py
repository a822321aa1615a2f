"""Who deals with which SIP event: live play by dialog, the registrar by REGISTER, device sessions by MESSAGE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sipserver.bindings import Transport
from sipserver.devices import DeviceSessions
from sipserver.protocol.answers import ALLOW
from sipserver.protocol.events import Event, RequestReceived
from sipserver.registrar import Registrar

#: What a request that nobody takes is owed: 489 no such event package, 481 no such dialog or subscription,
#: 488 a call we do not accept. Everything else 405.
_REFUSALS: Final = {"SUBSCRIBE": 489, "NOTIFY": 481, "INFO": 481, "BYE": 481, "INVITE": 488}


class Dispatch:
    """Give its ``on_event`` to the transport. ``play`` returns True for events of its dialogs."""

    def __init__(
        self,
        transport: Transport,
        registrar: Registrar,
        sessions: DeviceSessions,
        *,
        play: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        self._transport = transport
        self._registrar = registrar
        self._sessions = sessions
        self.play = play

    def on_event(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, RequestReceived) and event.request.method == "REGISTER":
            self._registrar.handle(event)
        elif self.play(event):
            return
        elif isinstance(event, RequestReceived):
            subscriptions = self._sessions.subscriptions
            if event.request.method == "MESSAGE":
                self._sessions.handle(event)
            elif subscriptions is not None and subscriptions.take(event):
                return
            else:
                status = _REFUSALS.get(event.request.method, 405)
                self._transport.respond(event.transaction, status, headers=(("Allow", ALLOW),))
