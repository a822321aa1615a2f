"""Alive, ready, and the figures: for the machine's supervisor and for Prometheus, not for people.

/healthz says only that the process answers; it depends on nothing, so that a database outage restarts nobody
(LiveKit issue 4663). /readyz asks every part; one that is not required only degrades. /metrics is for a scraper on
this machine, or for one that holds the metrics token.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import ipaddress
from collections.abc import Iterable
from typing import Final, Literal

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from pydantic import Field

from api.authority import GuardedRoute
from api.problems import Problem
from api.schemas import Answer
from api.services import Check, MetricSource
from api.sessions import Backend, bearer

log = structlog.get_logger("mingjian.api")

router = APIRouter(route_class=GuardedRoute, tags=["health"])

PROBE_SECONDS: Final = 2.0


class HealthOut(Answer):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class ReadyOut(Answer):
    """`degraded`: serving, with a part missing that may be missing. `unready`: do not send work here."""

    status: Literal["ready", "degraded", "unready"]
    checks: dict[str, Literal["ok", "failed"]] = Field(examples=[{"database": "ok", "sip": "ok", "valkey": "failed"}])


@router.get("/healthz", summary="Is the process alive")
async def healthz() -> HealthOut:
    """Answers without asking anything else."""
    return HealthOut()


@router.get("/readyz", summary="Is the platform ready", responses={503: {"model": ReadyOut}})
async def readyz(services: Backend) -> Response:
    """503 while a required part is missing; each part has two seconds to answer."""
    results = await asyncio.gather(*(_probe(check) for check in services.checks))
    failed = [check for check, good in zip(services.checks, results, strict=True) if not good]
    unready = any(check.required for check in failed)
    out = ReadyOut(
        status="unready" if unready else "degraded" if failed else "ready",
        checks={check.name: "ok" if good else "failed" for check, good in zip(services.checks, results, strict=True)},
    )
    return JSONResponse(out.model_dump(), 503 if unready else 200)


async def _probe(check: Check) -> bool:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await check.probe()
    except Exception as error:  # noqa: BLE001 - whatever a probe raises means the same: this part is not ready
        log.warning("not_ready", component=check.name, error=type(error).__name__)
        return False


class _Finished:
    """Metric families read beforehand, in the form the registry wants."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


@router.get("/metrics", summary="Figures for Prometheus", include_in_schema=False)
async def metrics(request: Request, services: Backend) -> Response:
    """Prometheus text format; 403 for anybody but a loopback peer or a holder of the metrics token."""
    if not _may_scrape(request, services.config.metrics_token):
        raise Problem(status=403, code="forbidden", detail="Metrics are for this machine or with the metrics token.")
    pages = [generate_latest(services.registry)]
    broken = 0
    for source in services.metric_sources:
        families = await _read(source)
        broken += families is None
        pages.append(generate_latest(_bounded(services.registry, families or ())))
    pages.append(
        b"# HELP mingjian_metric_sources_failed Sources that could not be read in this scrape.\n"
        b"# TYPE mingjian_metric_sources_failed gauge\n"
        b"mingjian_metric_sources_failed %d\n" % broken
    )
    return Response(b"".join(pages), media_type=CONTENT_TYPE_LATEST)


def _bounded(registry: CollectorRegistry, families: Iterable[Metric]) -> CollectorRegistry:
    """A registry of the same kind, so that the same label rule holds for what sources hand in."""
    page = CollectorRegistry(auto_describe=False)
    checked = getattr(registry, "checked", None)
    kept = [family if checked is None else checked(family) for family in families]
    page.register(_Finished(kept))
    return page


async def _read(source: MetricSource) -> list[Metric] | None:
    try:
        found = source()
        async with asyncio.timeout(PROBE_SECONDS):
            return list(await found if inspect.isawaitable(found) else found)
    except Exception as error:  # noqa: BLE001 - one part that cannot be read must not hide all the others
        log.warning("metric_source_failed", error=type(error).__name__)
        return None


def _may_scrape(request: Request, token: str) -> bool:
    given = bearer(request)
    if token and given is not None and hmac.compare_digest(given.encode(), token.encode()):
        return True
    # a forwarded request comes from somewhere else, whoever delivers it
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
