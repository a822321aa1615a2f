"""What FastAPI does not know about the interface: who may call what, and that every error is a problem document."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.authority import AUTHORITY, Cell
from api.schemas import FieldError, ProblemOut

DESCRIPTION: Final = """
GB/T 28181 video networking platform that can account for every picture it shows.

* Log in with `POST /api/v1/login` and send the token as `Authorization: Bearer …`. There are no cookies, and a token
  never belongs in a URL.
* Every error is an `application/problem+json` document with a stable `code`; refusals that rest on a rule of law cite
  its `articles`.
* Lists are read page by page: pass `next_cursor` as `cursor` until it is null.
* Names of things are opaque keys. What one may not know of is answered like what does not exist.
* Nothing changes state by GET. All times are UTC.
"""

TAGS: Final = [
    {"name": "session", "description": "Log in, log out, one's own account."},
    {"name": "users", "description": "Accounts and roles (administrators)."},
    {"name": "devices", "description": "Devices and lower platforms that may register (administrators)."},
    {"name": "channels", "description": "Cameras and their trees, within one's scope."},
    {"name": "control", "description": "Moving cameras, for those who may."},
    {"name": "alarms", "description": "Alarms, positions and snapshots."},
    {"name": "streams", "description": "Live views: decided, recorded, then shown."},
    {"name": "ledger", "description": "The access ledger and its proofs (auditors)."},
    {"name": "events", "description": "Live events."},
    {"name": "health", "description": "Alive and ready."},
]

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_TEXTS: Final = {
    "401": "No open session.",
    "403": "The role does not include this, the password must be changed first, or a rule refuses (`articles`).",
    "404": "No such resource, or none the caller may know of.",
    "409": "The state of the resource does not allow this now.",
    "413": "The body is larger than 1 MiB.",
    "415": "The body is no picture.",
    "422": "The request is not valid; `errors` names the fields.",
    "429": "Too many attempts; see `Retry-After`.",
    "502": "The camera or its platform refused or answered nonsense.",
    "503": "The database or the ledger cannot be reached, so nothing was done.",
    "504": "The camera did not answer in time.",
}


def complete(app: FastAPI) -> None:
    """Replaces `app.openapi` by one that adds security, roles and error answers from the authority table."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
            )
            _enrich(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _enrich(schema: dict[str, Any]) -> None:
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for model in (ProblemOut, FieldError):
        shape = model.model_json_schema(ref_template="#/components/schemas/{model}")
        shape.pop("$defs", None)
        schemas[model.__name__] = shape
    components["securitySchemes"] = {
        "session": {"type": "http", "scheme": "bearer", "description": "The token of POST /api/v1/login."}
    }
    for path, operations in schema["paths"].items():
        for method in _METHODS:
            if method in operations:
                _operation(operations[method], method, path, AUTHORITY[f"{method.upper()} {path}"])


def _operation(operation: dict[str, Any], method: str, path: str, cell: Cell) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    codes = {"503"}
    if cell.anonymous:
        operation["security"] = []
    else:
        operation["security"] = [{"session": []}]
        operation["x-roles"] = sorted(cell.roles)
        codes |= {"401", "403"}
    if operation.get("parameters") or "requestBody" in operation:
        codes.add("422")
    if "requestBody" in operation:
        codes.add("413")
    if "{" in path:
        codes.add("404")
    codes |= set(_EXTRA.get(f"{method.upper()} {path}", ()))
    if path == "/healthz":
        codes = set()
    for code in sorted(codes):
        responses.setdefault(code, {"description": _TEXTS[code], "content": _PROBLEM})
    operation["responses"] = dict(sorted(responses.items()))


# What asking or telling a device may come to.
_DEVICE_ROUTES: Final = (
    "POST /api/v1/channels/{key}/ptz",
    "POST /api/v1/channels/{key}/presets",
    "GET /api/v1/channels/{key}/presets",
    "GET /api/v1/channels/{key}/home-position",
    "GET /api/v1/channels/{key}/cruise-tracks",
    "GET /api/v1/channels/{key}/cruise-tracks/{number}",
    "GET /api/v1/channels/{key}/ptz-position",
    "GET /api/v1/channels/{key}/records",
    "POST /api/v1/channels/{key}/snapshots",
    "GET /api/v1/devices/{key}/info",
    "GET /api/v1/devices/{key}/config",
    "POST /api/v1/devices/{key}/config",
    "POST /api/v1/devices/{key}/control",
    "POST /api/v1/devices/{key}/reboot",
    "POST /api/v1/devices/{key}/upgrade",
    "GET /api/v1/devices/{key}/sd-cards",
)
_EXTRA: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(_DEVICE_ROUTES, ("409", "502", "504")),
    "POST /api/v1/snapshot-uploads/{ticket}": ("409", "413", "415"),
    "PUT /api/v1/snapshot-uploads/{ticket}": ("409", "413", "415"),
    "POST /api/v1/login": ("401", "429"),
    "POST /api/v1/me/password": ("429",),
    "POST /api/v1/users": ("409",),
    "PATCH /api/v1/users/{key}": ("409",),
    "DELETE /api/v1/users/{key}": ("409",),
    "POST /api/v1/devices": ("409",),
    "POST /api/v1/devices/{key}/catalog-sync": ("409",),
    "GET /api/v1/devices/{key}/status": ("409", "502", "504"),
    "POST /api/v1/streams": ("404", "409", "429", "502", "504"),
    "POST /api/v1/streams/{key}/tickets": ("409",),
}
