"""The HTTP interface as one ASGI application, built from `Services` and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, Request
from fastapi.responses import Response

from api import (
    alarms,
    auth,
    channels,
    console_files,
    controls,
    device_queries,
    devices,
    docs,
    events,
    health,
    ledger,
    problems,
    streams,
    users,
)
from api.background import Background
from api.metrics import HttpMetrics
from api.middleware import Outermost
from api.openapi import DESCRIPTION, TAGS, complete
from api.problems import unavailable
from api.services import Services
from api.throttle import SourceLimit
from sharing.ledger import LedgerUnavailableError


def create_app(services: Services) -> FastAPI:
    """All routes, guarded; documentation; the console. `app.state.background` runs what outlives a request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        services.bus.close()
        await app.state.background.close()

    app = FastAPI(
        title="明鉴 Mingjian",
        version="1",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        lifespan=lifespan,
    )
    app.state.services = services
    app.state.metrics = HttpMetrics(services.registry)
    app.state.login_limit = SourceLimit()
    app.state.background = Background()
    problems.install(app)
    for error in (LedgerUnavailableError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError):
        app.add_exception_handler(error, _store_is_down)
    for module in (
        auth,
        users,
        devices,
        device_queries,
        channels,
        controls,
        alarms,
        streams,
        ledger,
        events,
        health,
        docs,
    ):
        app.include_router(module.router)
    app.include_router(device_queries.channels)
    config = services.config
    app.include_router(
        console_files.router(config.console_dir, media_port=config.media_port, media_origin=config.media_origin)
    )
    complete(app)
    app.add_middleware(Outermost, clock=services.clock, token=services.token, metrics=app.state.metrics)
    return app


async def _store_is_down(request: Request, error: Exception) -> Response:
    """What cannot be recorded or read now is refused, not half done (guard G16)."""
    problems.log.warning("store_unavailable", error=type(error).__name__)
    if isinstance(error, LedgerUnavailableError):
        return unavailable(
            "E_LEDGER_UNAVAILABLE", "The access ledger cannot be written, so nothing is done."
        ).response()
    return unavailable("store_unavailable", "The database cannot be reached.").response()
