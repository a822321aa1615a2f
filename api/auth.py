"""Log in, log out, and one's own account."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Request
from pydantic import Field

from api.authority import GuardedRoute
from api.problems import Problem, unavailable
from api.schemas import Answer, Body, Instant, Password, Username, instant
from api.sessions import Backend, Caller, CurrentUser
from api.throttle import SourceLimit
from sharing.people import LoginRefused, PeopleError, Role, User

log = structlog.get_logger("mingjian.api")

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["session"])


class LoginIn(Body):
    """Name and password; the only body that carries a password besides the ones that set one."""

    username: Username = Field(examples=["admin"])
    password: Password = Field(examples=["correct horse battery staple"])


class MeOut(Answer):
    """The caller's own account."""

    key: str = Field(examples=["usr_abcdefghij234567abcd"])
    username: str = Field(examples=["admin"])
    display_name: str = Field(examples=["值班一"])
    role: Role
    must_change_password: bool = Field(description="True: every other route answers 403 `password_change_required`.")


class LoginOut(Answer):
    """An open session. The token is shown this once and stored nowhere; send it as `Authorization: Bearer …`."""

    token: str
    expires_at: Instant
    must_change_password: bool
    user: MeOut


class PasswordIn(Body):
    """Replaces one's own password; all other sessions of the account end."""

    current_password: Password
    new_password: Password


def role_of(user: User) -> Role:
    """Nobody holds two roles; an account without any is a fault of the store."""
    (role,) = user.roles
    return role


def me_out(user: User) -> MeOut:
    return MeOut(
        key=user.key,
        username=user.username,
        display_name=user.display_name,
        role=role_of(user),
        must_change_password=user.must_change_password,
    )


def people_problem(error: PeopleError) -> Problem:
    return Problem(status=error.http_status, code=error.code, detail=str(error))


@router.post("/login", summary="Open a session")
async def login(body: LoginIn, request: Request, services: Backend, client: Caller) -> LoginOut:
    """Opens a session with name and password.

    An unknown name and a wrong password give the same answer in the same time (401 `E_LOGIN`). Repeated failures are
    answered 429 with `Retry-After`, for unknown names alike.
    """
    metrics = request.app.state.metrics
    limit: SourceLimit = request.app.state.login_limit
    wait = limit.take(client.ip or "", now=services.clock())
    if wait:
        metrics.logins.labels(outcome="rate_limited").inc()
        raise _throttled("rate_limited", wait)
    result = await services.people.login(body.username, body.password, client)
    if isinstance(result, LoginRefused):
        metrics.logins.labels(outcome="throttled" if result.http_status == 429 else "refused").inc()
        if result.http_status == 429:
            raise _throttled(result.code, result.retry_after or 1)
        if result.http_status == 401:
            raise Problem(
                status=401,
                code=result.code,
                detail="The name or the password is wrong.",
                headers=(("WWW-Authenticate", 'Bearer realm="mingjian"'),),
            )
        raise unavailable(result.code, "The login could not be recorded, so it was not made.")
    metrics.logins.labels(outcome="ok").inc()
    user = result.session.user
    return LoginOut(
        token=result.token,
        expires_at=instant(result.session.expires_at),
        must_change_password=user.must_change_password,
        user=me_out(user),
    )


def _throttled(code: str, wait: int) -> Problem:
    return Problem(
        status=429, code=code, detail="Too many attempts; try again later.", headers=(("Retry-After", str(wait)),)
    )


@router.post("/logout", status_code=204, summary="End this session")
async def logout(services: Backend, me: CurrentUser) -> None:
    """Ends the session of the token and every view opened with it."""
    for view in services.views.open_views(session_id=me.session_id):
        await services.play.close(view.key, reason="logout")
    if services.signals is not None:
        services.signals.controls.owner_gone(me.session_id)
    await services.people.logout(me.token)


@router.get("/me", summary="Who am I")
async def me(me: CurrentUser) -> MeOut:
    """The account of the token."""
    return me_out(me.user)


@router.post("/me/password", status_code=204, summary="Change my password")
async def change_password(body: PasswordIn, request: Request, services: Backend, me: CurrentUser) -> None:
    """Needs the current password. This session goes on; every other session of the account ends."""
    limit: SourceLimit = request.app.state.login_limit
    wait = limit.take(me.key, now=services.clock())
    if wait:
        raise _throttled("rate_limited", wait)
    try:
        await services.people.change_password(me.key, body.current_password, body.new_password, keep_token=me.token)
    except PeopleError as error:
        raise people_problem(error) from error
