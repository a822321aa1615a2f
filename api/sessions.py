"""From a bearer header to the person who calls; the only reader of the Authorization header.

Tokens travel in that header alone: never in a URL, a cookie or a body (ASVS 5.0 14.2.1, 3.5.1).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Annotated, Final, cast

from fastapi import Depends, Request

from api.problems import unauthenticated
from api.services import Services
from sharing.lease import Client
from sharing.people import Role, User
from sipserver.protocol.ids import UserKey

_BEARER: Final = re.compile(r"[Bb]earer ([A-Za-z0-9._~+/=-]{16,256})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller of one request. `session_id` names the session without being able to open it."""

    user: User
    token: str = field(repr=False)
    session_id: str
    expires_at: float

    @property
    def key(self) -> UserKey:
        return self.user.key

    @property
    def roles(self) -> frozenset[Role]:
        return self.user.roles

    @property
    def must_change_password(self) -> bool:
        return self.user.must_change_password

    def holds(self, role: Role) -> bool:
        return role in self.user.roles


def services_of(request: Request) -> Services:
    """The services the application was built with."""
    return cast(Services, request.app.state.services)


def bearer(request: Request) -> str | None:
    """The token of a well-formed single bearer header, else None."""
    headers = request.headers.getlist("authorization")
    match = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
    return match.group(1) if match else None


async def authenticate(request: Request) -> Principal:
    """Resolves the caller and keeps it in `request.state`; raises the 401 problem for anything but an open session."""
    token = bearer(request)
    session = await services_of(request).people.session(token) if token is not None else None
    if token is None or session is None:
        raise unauthenticated()
    principal = Principal(
        user=session.user,
        token=token,
        session_id=hashlib.sha256(token.encode()).hexdigest()[:16],
        expires_at=session.expires_at,
    )
    request.state.principal = principal
    request.state.user_key = session.user.key
    return principal


def _principal(request: Request) -> Principal:
    return cast(Principal, request.state.principal)


def client_of(request: Request) -> Client:
    """Where the call came from, for the decision and the ledger row; the address goes nowhere else."""
    services = services_of(request)
    ip = request.client.host if request.client else None
    channel = "console" if request.headers.get("sec-fetch-site") == "same-origin" else "rest"
    return Client(ip=ip, channel=channel, zone=services.config.zone)


CurrentUser = Annotated[Principal, Depends(_principal)]
Backend = Annotated[Services, Depends(services_of)]
Caller = Annotated[Client, Depends(client_of)]
