"""Accounts: only administrators see and change them, and every change is a ledger row before it happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from api.auth import people_problem, role_of
from api.authority import GuardedRoute
from api.problems import not_found
from api.schemas import (
    Answer,
    AnyKey,
    Body,
    Cursor,
    Instant,
    Limit,
    Name,
    PageOf,
    Password,
    Username,
    UserPath,
    instant,
    instant_or_none,
    slice_of,
)
from api.sessions import Backend, CurrentUser
from catalog.model import NodeKey
from sharing.passwords import one_time_password
from sharing.people import PeopleError, Role, User
from sipserver.protocol.ids import UserKey

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["users"])

Scope = Annotated[
    list[AnyKey],
    Field(
        max_length=200, description="Roots of the subtrees a watcher may watch: keys of devices, channels, divisions."
    ),
]


class UserOut(Answer):
    """One account. `password` only in the answer that set it, and only when the platform made it."""

    key: str = Field(examples=["usr_abcdefghij234567abcd"])
    username: str = Field(examples=["zhiban1"])
    display_name: str = Field(examples=["值班一"])
    role: Role
    scope: list[str]
    may_listen: bool = Field(description="Whether the pictures this account watches come with their sound.")
    disabled: bool
    may_control: bool = Field(default=False, description="May move the cameras of the scope.")
    must_change_password: bool
    created_at: Instant
    last_login_at: Instant | None = None
    password: str | None = None


class UserIn(Body):
    """A new account. Without `password` the platform makes a one-time password and shows it once."""

    username: Username = Field(examples=["zhiban1"])
    display_name: Name | None = Field(default=None, examples=["值班一"])
    role: Role
    scope: Scope = Field(default_factory=list)
    may_listen: bool = Field(default=False, description="Sound is a right of its own; of use to a watcher only.")
    password: Password | None = Field(default=None, description="One-time password; must be changed at first login.")


class UserChange(Body):
    """What is left out or null stays as it is."""

    display_name: Name | None = None
    role: Role | None = None
    scope: Scope | None = None
    may_listen: bool | None = Field(
        default=None, description="Withdrawn, running pictures lose their sound; given, the next picture has it."
    )
    disabled: bool | None = None
    may_control: bool | None = None
    password: Password | None = Field(default=None, description="New one-time password; ends the user's sessions.")
    reset_password: bool = Field(default=False, description="Make a new one-time password and show it once.")


class RoleOut(Answer):
    """A role and what it is for."""

    role: Role
    title: str
    may_watch: bool


_ROLES = (
    RoleOut(role=Role.ADMINISTRATOR, title="系统管理员", may_watch=False),
    RoleOut(role=Role.WATCHER, title="值班员", may_watch=True),
    RoleOut(role=Role.AUDITOR, title="审计员", may_watch=False),
)


def _out(user: User, password: str | None = None) -> UserOut:
    return UserOut(
        key=user.key,
        username=user.username,
        display_name=user.display_name,
        role=role_of(user),
        scope=list(user.scope),
        may_listen=user.may_listen,
        disabled=not user.enabled,
        may_control=user.may_control,
        must_change_password=user.must_change_password,
        created_at=instant(user.created_at),
        last_login_at=instant_or_none(user.last_login_at),
        password=password,
    )


@router.get("/roles", summary="The roles there are")
async def roles() -> PageOf[RoleOut]:
    """The roles are separated: nobody holds two, and only the watcher may see a picture."""
    return PageOf(items=list(_ROLES))


@router.get("/users", summary="All accounts")
async def users(services: Backend, cursor: Cursor = None, limit: Limit = 100) -> PageOf[UserOut]:
    """Accounts by name."""
    found, following = slice_of(await services.people.users(), lambda user: user.key, cursor, limit)
    return PageOf(items=[_out(user) for user in found], next_cursor=following)


@router.post("/users", status_code=201, summary="Add an account")
async def create(body: UserIn, services: Backend, me: CurrentUser) -> UserOut:
    """The account must change its password at the first login."""
    made = None if body.password else one_time_password()
    try:
        user = await services.people.create_user(
            actor=me.key,
            username=body.username,
            display_name=body.display_name or body.username,
            password=body.password or made or "",
            roles={body.role},
            scope=[NodeKey(key) for key in body.scope],
            may_listen=body.may_listen,
        )
    except PeopleError as error:
        raise people_problem(error) from error
    return _out(user, made)


@router.get("/users/{key}", summary="One account")
async def read(key: UserPath, services: Backend) -> UserOut:
    """404 when there is none or it has been withdrawn."""
    user = await services.people.user(UserKey(key))
    if user is None:
        raise not_found()
    return _out(user)


@router.patch("/users/{key}", summary="Change an account")
async def change(key: UserPath, body: UserChange, services: Backend, me: CurrentUser) -> UserOut:
    """Disabling, a new password, a narrower scope and the end of the right to sound take effect at once, on running
    pictures within five seconds."""
    made = one_time_password() if body.reset_password and body.password is None else None
    try:
        user = await services.people.update_user(
            UserKey(key),
            actor=me.key,
            display_name=body.display_name,
            roles=None if body.role is None else {body.role},
            scope=None if body.scope is None else [NodeKey(node) for node in body.scope],
            may_listen=body.may_listen,
            enabled=None if body.disabled is None else not body.disabled,
            password=body.password or made,
        )
        if body.may_control is not None and body.may_control != user.may_control:
            user = await services.people.allow_control(UserKey(key), body.may_control, actor=me.key)
    except PeopleError as error:
        raise people_problem(error) from error
    return _out(user, made)


@router.delete("/users/{key}", status_code=204, summary="Withdraw an account")
async def remove(key: UserPath, services: Backend, me: CurrentUser) -> None:
    """The account ends, with its sessions and views; its key stays readable in the ledger."""
    try:
        await services.people.remove_user(UserKey(key), actor=me.key)
    except PeopleError as error:
        raise people_problem(error) from error
