"""The outermost layer of the HTTP interface: security headers, request ids, timing, and the last net for faults.

Written as plain ASGI, because a response that streams for hours (live events) must pass without buffering.
Log lines and metrics name the route's template, never the path a caller sent, and no query string.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.metrics import HttpMetrics

log = structlog.get_logger("mingjian.api")

Clock = Callable[[], float]

MAX_BODY: Final = 1 << 20
BODY_SECONDS: Final = 30.0

API_CSP: Final = "default-src 'none'; frame-ancestors 'none'"
_ALWAYS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
)
HSTS: Final = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def console_csp(media_origins: Iterable[str]) -> str:
    """The console's content security policy: own scripts only; pictures also from the media port's origins.

    `blob:` carries Media Source objects and `data:` the small images inside style sheets. Style attributes are set
    by the component library at run time, so `style-src` admits inline styles; scripts never are inline.
    """
    connect = " ".join(("'self'", *media_origins))
    return (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        f"media-src 'self' blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src {connect}; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class Outermost:
    """ASGI middleware around everything; one line and one metric a request, 500 only from here."""

    def __init__(self, app: ASGIApp, *, clock: Clock, token: Callable[[int], str], metrics: HttpMetrics) -> None:
        self._app = app
        self._clock = clock
        self._token = token
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(scope, send, self._clock, self._token(8), self._metrics).run(self._app, receive)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, clock: Clock, request_id: str, metrics: HttpMetrics) -> None:
        self._scope = scope
        self._send = send
        self._clock = clock
        self._id = request_id
        self._metrics = metrics
        self._status: int | None = None
        self._receive: Receive
        self._body_size = 0
        self._body_done = False

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        started = self._clock()
        self._receive = receive
        structlog.contextvars.bind_contextvars(request=self._id)
        try:
            await app(self._scope, self._bounded, self._decorate)
        except Exception as error:
            if self._status is not None:
                # the head is on the wire already; only breaking the connection tells the client
                log.error("response_broken", route=self._route(), error=type(error).__name__, exc_info=error)
                raise
            response = problems.crashed(error, route=self._route())
            await response(self._scope, receive, self._decorate)
        finally:
            self._account(self._clock() - started)
            structlog.contextvars.unbind_contextvars("request")

    async def _bounded(self) -> Message:
        """The next part of the request; ends it when its body is too large or takes too long."""
        if self._body_done:
            return await self._receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408) from error
        self._body_size += len(message.get("body", b""))
        if self._body_size > MAX_BODY:
            raise HTTPException(413)
        self._body_done = not message.get("more_body", False)
        return message

    async def _decorate(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _ALWAYS:
                headers[name] = value
            if self._scope.get("scheme") == "https":
                headers[HSTS[0]] = HSTS[1]
            headers.setdefault("Content-Security-Policy", API_CSP)
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Request-Id"] = self._id
        await self._send(message)

    def _route(self) -> str:
        return str(getattr(self._scope.get("route"), "path", None) or "other")

    def _account(self, seconds: float) -> None:
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        status = self._status or 499
        route = self._route()
        self._metrics.observe(route=route, method=method, status=status, seconds=seconds)
        if route.startswith("/api/"):
            user = self._scope.get("state", {}).get("user_key")
            log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1), user=user)
