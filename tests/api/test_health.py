"""Alive, ready and the figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from api.app import create_app
from api.services import Check
from ops.observe import make_registry
from sharing.people import Role
from tests.api.fakes import CAMERA_CODE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def rebuilt(world: World, **changes: object) -> World:
    world.services = dataclasses.replace(world.services, registry=make_registry(), **changes)  # type: ignore[arg-type]
    world.app = create_app(world.services)
    return world


Probe = Callable[[], Awaitable[bool]]


async def good() -> bool:
    return True


async def bad() -> bool:
    raise ConnectionRefusedError("no route to 10.0.0.9")


@pytest.mark.parametrize(
    ("checks", "status", "code"),
    [
        ([("database", good, True), ("valkey", good, False)], "ready", 200),
        ([("database", good, True), ("valkey", bad, False)], "degraded", 200),
        ([("database", bad, True), ("valkey", good, False)], "unready", 503),
    ],
)
async def test_readiness_asks_every_part(
    world: World, checks: list[tuple[str, Probe, bool]], status: str, code: int
) -> None:
    parts = tuple(Check(name=name, probe=probe, required=required) for name, probe, required in checks)
    async with rebuilt(world, checks=parts).client() as client:
        response = await client.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (code, status)
        assert "10.0.0.9" not in response.text
        alive = await client.get("/healthz")
    assert alive.json() == {"status": "alive"}


async def test_life_depends_on_nothing(world: World) -> None:
    world.store.down = True
    world.ledger.down = True
    parts = (Check(name="database", probe=bad), Check(name="valkey", probe=bad))
    async with rebuilt(world, checks=parts).client() as client:
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("peer", "headers", "code"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("192.0.2.7", {}, 403),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7"}, 403),
        ("127.0.0.1", {"forwarded": "for=192.0.2.7"}, 403),
        ("192.0.2.7", {"authorization": "Bearer " + "m" * 32}, 200),
        ("192.0.2.7", {"authorization": "Bearer " + "m" * 31}, 403),
        ("192.0.2.7", {"authorization": "Bearer " + "m" * 33}, 403),
    ],
)
async def test_figures_are_for_this_machine_or_for_the_token(
    world: World, peer: str, headers: dict[str, str], code: int
) -> None:
    async with world.client(peer=peer) as client:
        assert (await client.get("/metrics", headers=headers)).status_code == code


async def test_a_users_session_is_no_metrics_token(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        assert (await client.get("/metrics")).status_code == 403


async def test_without_a_configured_token_no_token_opens_the_figures(world: World) -> None:
    rebuilt(world, config=dataclasses.replace(world.services.config, metrics_token=""))
    async with world.client() as client:
        for header in ("Bearer ", "Bearer " + "m" * 32, "Bearer None"):
            assert (await client.get("/metrics", headers={"authorization": header})).status_code == 403


async def test_sources_are_read_bounded_and_a_broken_one_hides_nothing(world: World) -> None:
    def devices() -> Iterable[Metric]:
        family = GaugeMetricFamily("mingjian_devices", "Devices by state.", labels=["state"])
        family.add_metric(["online"], 3)
        family.add_metric([CAMERA_CODE], 1)
        yield family

    async def size() -> Iterable[Metric]:
        return [GaugeMetricFamily("mingjian_ledger_rows", "Rows.", value=7)]

    def broken() -> Iterable[Metric]:
        raise RuntimeError("boom")

    rebuilt(world, metric_sources=(broken, devices, size))
    async with world.client(peer="127.0.0.1") as client:
        page = (await client.get("/metrics")).text
    assert 'mingjian_devices{state="online"} 3.0' in page
    assert "mingjian_ledger_rows 7.0" in page
    assert "mingjian_metric_sources_failed 1" in page
    assert CAMERA_CODE not in page


async def test_requests_are_counted_by_route_never_by_path(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        await client.get(f"/api/v1/channels/{world.channel.key}")
        await client.get(f"/api/v1/streams/{CAMERA_CODE}")
        await client.get(f"/{CAMERA_CODE}")
        await client.request("BREW", "/api/v1/me")
    async with world.client(peer="127.0.0.1") as client:
        page = (await client.get("/metrics")).text
    assert 'mingjian_http_requests_total{method="GET",route="/api/v1/channels/{key}",status="2xx"} 1.0' in page
    assert world.channel.key not in page
    assert CAMERA_CODE not in page
    assert "BREW" not in page
    assert all(line.startswith(("#", "mingjian_")) for line in page.splitlines() if line)
