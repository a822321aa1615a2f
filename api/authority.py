"""Who may call what: one table of route × role, and the route class that lets nothing past it.

The table decides about functions (OWASP API5); which channels, streams and users a role may touch is decided by the
handlers and by `sharing` (API1). A route without a cell cannot be built: `GuardedRoute` fails when it is defined.
Separation of powers: the role that manages does not watch, the role that audits does neither (GB/T 22239-2019 8.1.4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from api.problems import Problem, forbidden
from api.sessions import Principal, authenticate
from sharing.people import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row of the table. `anonymous` rows need no token and take none; otherwise one of `roles` is needed.

    `before_password_change`: also open to a session that still has its one-time password.
    """

    roles: frozenset[Role] = frozenset()
    anonymous: bool = False
    before_password_change: bool = False


_PUBLIC: Final = Cell(anonymous=True, roles=frozenset(Role))
_SIGNED_IN: Final = Cell(roles=frozenset(Role))
_OWN_ACCOUNT: Final = Cell(roles=frozenset(Role), before_password_change=True)
_ADMINISTRATOR: Final = Cell(roles=frozenset({Role.ADMINISTRATOR}))
_WATCHER: Final = Cell(roles=frozenset({Role.WATCHER}))
_AUDITOR: Final = Cell(roles=frozenset({Role.AUDITOR}))
_CATALOG: Final = Cell(roles=frozenset({Role.ADMINISTRATOR, Role.WATCHER}))

AUTHORITY: Final[Mapping[str, Cell]] = {
    "POST /api/v1/login": _PUBLIC,
    "POST /api/v1/logout": _OWN_ACCOUNT,
    "GET /api/v1/me": _OWN_ACCOUNT,
    "POST /api/v1/me/password": _OWN_ACCOUNT,
    "GET /api/v1/users": _ADMINISTRATOR,
    "POST /api/v1/users": _ADMINISTRATOR,
    "GET /api/v1/users/{key}": _ADMINISTRATOR,
    "PATCH /api/v1/users/{key}": _ADMINISTRATOR,
    "DELETE /api/v1/users/{key}": _ADMINISTRATOR,
    "GET /api/v1/roles": _ADMINISTRATOR,
    "GET /api/v1/devices": _ADMINISTRATOR,
    "POST /api/v1/devices": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}": _ADMINISTRATOR,
    "DELETE /api/v1/devices/{key}": _ADMINISTRATOR,
    "POST /api/v1/devices/{key}/catalog-sync": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}/status": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}/info": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}/config": _ADMINISTRATOR,
    "POST /api/v1/devices/{key}/config": _ADMINISTRATOR,
    "POST /api/v1/devices/{key}/control": _ADMINISTRATOR,
    "POST /api/v1/devices/{key}/reboot": _ADMINISTRATOR,
    "POST /api/v1/devices/{key}/upgrade": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}/orders": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}/sd-cards": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}/quirks": _ADMINISTRATOR,
    "PUT /api/v1/devices/{key}/quirks": _ADMINISTRATOR,
    "GET /api/v1/devices/{key}/subscriptions": _ADMINISTRATOR,
    "PUT /api/v1/devices/{key}/subscriptions": _ADMINISTRATOR,
    "GET /api/v1/channels": _CATALOG,
    "GET /api/v1/channels/tree": _CATALOG,
    "GET /api/v1/channels/{key}": _CATALOG,
    "POST /api/v1/channels/{key}/ptz": _WATCHER,
    "POST /api/v1/channels/{key}/presets": _WATCHER,
    "GET /api/v1/channels/{key}/presets": _WATCHER,
    "GET /api/v1/channels/{key}/home-position": _WATCHER,
    "GET /api/v1/channels/{key}/cruise-tracks": _WATCHER,
    "GET /api/v1/channels/{key}/cruise-tracks/{number}": _WATCHER,
    "GET /api/v1/channels/{key}/ptz-position": _WATCHER,
    "GET /api/v1/channels/{key}/records": _WATCHER,
    "GET /api/v1/channels/{key}/positions": _WATCHER,
    "POST /api/v1/channels/{key}/snapshots": _WATCHER,
    "GET /api/v1/snapshots/{order}": _WATCHER,
    "GET /api/v1/snapshots/{order}/{picture}": _WATCHER,
    # anonymous to the table; the address itself is the secret, made for one order
    "POST /api/v1/snapshot-uploads/{ticket}": _PUBLIC,
    "PUT /api/v1/snapshot-uploads/{ticket}": _PUBLIC,
    "GET /api/v1/alarms": _CATALOG,
    "POST /api/v1/alarms/{alarm}/acknowledge": _WATCHER,
    "POST /api/v1/streams": _WATCHER,
    "GET /api/v1/streams": _CATALOG,
    "GET /api/v1/streams/{key}": _CATALOG,
    "DELETE /api/v1/streams/{key}": _CATALOG,
    "POST /api/v1/streams/{key}/tickets": _WATCHER,
    "GET /api/v1/ledger/entries": _AUDITOR,
    "GET /api/v1/ledger/root": _AUDITOR,
    "GET /api/v1/ledger/entries/{seq}/proof": _AUDITOR,
    "GET /api/v1/events": _SIGNED_IN,
    "GET /healthz": _PUBLIC,
    "GET /readyz": _PUBLIC,
    # anonymous to the table; the handler asks for a loopback peer or the metrics token, neither of which is a role
    "GET /metrics": _PUBLIC,
    "GET /api/openapi.json": _PUBLIC,
    "GET /api/docs": _PUBLIC,
    "GET /api/docs/{asset}": _PUBLIC,
    "GET /{path:path}": _PUBLIC,
    "HEAD /{path:path}": _PUBLIC,
}


def decide(cell: Cell, principal: Principal | None) -> Problem | None:
    """The table's verdict about an authenticated caller; None means go on to the handler."""
    if cell.anonymous:
        return None
    if principal is None or not cell.roles & principal.roles:
        return forbidden()
    if principal.must_change_password and not cell.before_password_change:
        return Problem(
            status=403,
            code="password_change_required",
            detail="Change the one-time password before anything else.",
        )
    return None


class GuardedRoute(APIRoute):
    """An API route that asks the table before it reads a body or resolves a dependency."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        cells = {AUTHORITY[f"{method} {path}"] for method in self.methods or ()}
        if len(cells) != 1:
            raise ValueError(f"the methods of one route need one cell: {path}")
        self.cell: Final = cells.pop()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            if not self.cell.anonymous:
                principal = await authenticate(request)
                problem = decide(self.cell, principal)
                if problem is not None:
                    raise problem
            return await inner(request)

        return guarded
