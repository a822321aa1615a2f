"""Errors of the HTTP interface: RFC 9457 problem documents with a stable code, and nothing else ever.

Every answer above 399 has the media type `application/problem+json` and the members
`type`, `title`, `status`, `code`, `detail`, plus `articles` when a rule of law refuses and `errors` when single
fields are wrong. Neither titles nor details repeat what the caller sent: an error text is a place where address
codes, names and passwords leak (CQ22, N16).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from media.session import MediaError
from sipserver.play import PlayError

log = structlog.get_logger("mingjian.api")

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:mingjian:problem:"
MAX_FIELD_ERRORS = 20
CATCH_ALL = "/{path:path}"


@dataclass(slots=True, kw_only=True, eq=False)
class Problem(Exception):
    """Raised by any route to end the request with a problem document.

    `code` is stable and machine-readable; `detail` is a fixed English sentence for people;
    `articles` are citation keys of the regulations a refusal rests on, for instance `N16`.
    """

    status: int
    code: str
    detail: str
    articles: tuple[str, ...] = ()
    errors: tuple[Mapping[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, Any]:
        """The JSON object of RFC 9457 section 3."""
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code.lower(),
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.articles:
            body["articles"] = list(self.articles)
        if self.errors:
            body["errors"] = [dict(error) for error in self.errors]
        return body

    def response(self) -> Response:
        return JSONResponse(self.document(), self.status, headers=dict(self.headers), media_type=MEDIA_TYPE)


def not_found() -> Problem:
    """404 for what does not exist and, in identical bytes, for what the caller may not know of."""
    return Problem(status=404, code="not_found", detail="There is no such resource.")


def unauthenticated() -> Problem:
    """401 for a missing, unknown, expired or revoked token: the caller learns only that it must log in."""
    return Problem(
        status=401,
        code="unauthenticated",
        detail="A valid bearer token is required.",
        headers=(("WWW-Authenticate", 'Bearer realm="mingjian"'),),
    )


def forbidden() -> Problem:
    """403 for a role without this right."""
    return Problem(status=403, code="forbidden", detail="Your role does not include this action.")


def conflict(code: str, detail: str) -> Problem:
    return Problem(status=409, code=code, detail=detail)


def invalid(field: str, message: str, *, code: str = "invalid_request") -> Problem:
    """422 for one field that passed the schema but not the domain's rules. `field` is a name, never a value."""
    return Problem(
        status=422,
        code=code,
        detail="The request is not valid.",
        errors=({"field": field, "message": message},),
    )


def unavailable(code: str, detail: str, *, retry_after: int = 5) -> Problem:
    return Problem(status=503, code=code, detail=detail, headers=(("Retry-After", str(retry_after)),))


_HTTP_CODES = {
    400: ("bad_request", "The request could not be read."),
    401: ("unauthenticated", "A valid bearer token is required."),
    403: ("forbidden", "Your role does not include this action."),
    404: ("not_found", "There is no such resource."),
    405: ("method_not_allowed", "This resource does not support the method."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("body_too_large", "The request body is larger than this interface accepts."),
    415: ("unsupported_media_type", "The request body must be JSON."),
    422: ("invalid_request", "The request is not valid."),
}


def from_http(error: HTTPException) -> Problem:
    """Turns the framework's own refusals (routing, body limits) into problems; their texts are not passed on."""
    code, detail = _HTTP_CODES.get(error.status_code, ("http_error", "The request could not be served."))
    kept = tuple((name, value) for name, value in (error.headers or {}).items() if name.lower() == "allow")
    return Problem(status=error.status_code, code=code, detail=detail, headers=kept)


def from_validation(errors: Sequence[Any]) -> Problem:
    """Field names and pydantic's message only: `input` and `ctx` would echo passwords and address codes."""
    fields: list[Mapping[str, str]] = []
    for error in errors[:MAX_FIELD_ERRORS]:
        where = [str(part) for part in error.get("loc", ()) if not isinstance(part, int)]
        kind = str(error.get("type", "value_error"))
        message = _MESSAGES.get(kind, "The value is not acceptable.")
        # an unknown member's name was chosen by the caller, so it is not repeated
        name = ".".join(where[:1] if kind == "extra_forbidden" else where[:4])
        fields.append({"field": name or "body", "type": kind, "message": message})
    return Problem(status=422, code="invalid_request", detail="The request is not valid.", errors=tuple(fields))


_MESSAGES = {
    "missing": "This field is required.",
    "json_invalid": "The body is not valid JSON.",
    "extra_forbidden": "The body has a member this resource does not know.",
    "string_too_short": "The text is too short.",
    "string_too_long": "The text is too long.",
    "string_pattern_mismatch": "The text does not have the required form.",
    "string_type": "A text is required.",
    "literal_error": "The value is not one of those allowed.",
    "enum": "The value is not one of those allowed.",
    "int_parsing": "A whole number is required.",
    "int_type": "A whole number is required.",
    "less_than_equal": "The number is too large.",
    "greater_than_equal": "The number is too small.",
    "too_long": "The list has too many members.",
    "too_short": "The list has too few members.",
    "model_attributes_type": "A JSON object is required.",
    "dict_type": "A JSON object is required.",
}


async def _on_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return error.response()


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 405 and getattr(request.scope.get("route"), "path", "") == CATCH_ALL:
        # only the console's catch-all knows this path, so nothing is there for any method
        return not_found().response()
    return from_http(error).response()


async def _on_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return from_validation(error.errors()).response()


_CAUSES = {
    "device_offline": "The camera's device is not registered now.",
    "device_busy": "The device has no free stream.",
    "device_no_answer": "The device did not answer in time.",
    "channel_unknown_to_device": "The device does not know this channel.",
    "media_not_supported": "The device cannot send media in a form we accept.",
    "streams_full": "The platform has as many live streams as it may have.",
}


def no_picture(code: str, status: int) -> Problem:
    """A stream that could not be had: `code` of a PlayError or MediaError with a sentence for people."""
    return Problem(status=status, code=code, detail=_CAUSES.get(code, "The camera cannot show a picture now."))


async def _on_play(request: Request, error: Exception) -> Response:
    if isinstance(error, PlayError):
        return no_picture(error.code, error.http_status).response()
    if isinstance(error, MediaError):
        return no_picture(error.code, 409 if error.code == "lease_over" else 503).response()
    raise error


def crashed(error: Exception, *, route: str) -> Response:
    """500 for a fault of ours: one log line with the traceback, an answer that tells nothing of it."""
    log.error("request_crashed", route=route, error=type(error).__name__, exc_info=error)
    problem = Problem(status=500, code="internal_error", detail="The platform failed to serve this request.")
    return problem.response()


def install(app: FastAPI) -> None:
    """Registers the handlers; `crashed` is called by the outermost middleware, see `api.middleware`."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(PlayError, _on_play)
    app.add_exception_handler(MediaError, _on_play)
