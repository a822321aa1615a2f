"""What the resources about devices have in common: the platform's signalling, permits, and errors of devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Query

from api.problems import Problem, conflict, invalid, not_found, unavailable
from api.schemas import Purpose
from api.services import Services, Signals
from api.sessions import Backend, Principal
from api.streams import refusal_problem
from catalog.model import Channel, Device
from sharing.lease import Action, Client, Refusal
from sharing.people import Role
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.ids import ChannelKey, DeviceKey
from sipserver.protocol.manscdp_limits import OutOfRangeError
from sipserver.queries import QueryError

FAILURES: dict[str, tuple[int, str]] = {
    "device_offline": (409, "The device is not registered now."),
    "no_answer": (504, "The device did not answer in time."),
    "refused": (502, "The device refused the request."),
    "device_error": (502, "The device reports an error."),
    "too_many": (503, "Too many requests are under way."),
    "not_supported": (409, "The edition the device speaks does not know this."),
}

AskedPurpose = Annotated[Purpose, Query(description="A purpose code, as for opening a stream.")]


def _signals(services: Backend) -> Signals:
    if services.signals is None:
        raise unavailable("signalling_unavailable", "The signalling side is not running.")
    return services.signals


Signalling = Annotated[Signals, Depends(_signals)]


@contextmanager
def device_errors() -> Iterator[None]:
    """Turns what signalling raises into problems; the device's own words are not passed on."""
    try:
        yield
    except QueryError as error:
        status, detail = FAILURES[error.code]
        raise Problem(status=status, code=error.code, detail=detail) from error
    except OutOfRangeError as error:
        raise invalid(f"body.{error.element}", "The standard does not allow this value.") from error
    except LocalProtocolError as error:
        raise invalid("body", "The standard does not allow this value.") from error


async def found_device(services: Services, key: str) -> Device:
    """The device, or 404."""
    device = await services.store.device(DeviceKey(key))
    if device is None:
        raise not_found()
    return device


async def permitted(  # noqa: PLR0917 - the five facts of a decision, its row and where they go
    services: Services, me: Principal, key: str, action: Action, purpose: str, client: Client, detail: str
) -> Channel:
    """The channel, after the decision about an act on it and its ledger row."""
    decision = await services.sharing.permit(me.key, ChannelKey(key), action, purpose, client, detail=detail)
    if isinstance(decision, Refusal):
        raise refusal_problem(decision)
    channel = await services.store.channel(ChannelKey(key))
    if channel is None:
        raise not_found()
    return channel


def online(channel: Channel) -> Channel:
    """The channel if its device is there now."""
    if not channel.device_online:
        raise conflict("device_offline", "The device is not registered now.")
    return channel


def administrator(me: Principal) -> bool:
    """True for those who maintain devices (and never watch)."""
    return me.holds(Role.ADMINISTRATOR)
