"""The console's files, its cache rules, and the documentation page that needs no internet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.api.fakes import World, built_console


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "secret.txt").write_text("outside", "utf-8")
    with built_console(tmp_path / "dist") as directory:
        (directory / ".env").write_text("hidden", "utf-8")
        return World(directory)


@pytest.mark.parametrize(
    ("path", "kind", "cache"),
    [
        ("/", "text/html", "no-cache"),
        ("/wall", "text/html", "no-cache"),
        ("/ledger/entries", "text/html", "no-cache"),
        ("/assets/index-abc123.js", "text/javascript", "public, max-age=31536000, immutable"),
        ("/favicon.svg", "image/svg+xml", "no-cache"),
    ],
)
async def test_files_and_pages(world: World, path: str, kind: str, cache: str) -> None:
    async with world.client() as client:
        response = await client.get(path)
        head = await client.head(path)
    assert response.status_code == head.status_code == 200
    assert response.headers["content-type"].startswith(kind)
    assert response.headers["cache-control"] == cache
    assert head.content == b""
    policy = response.headers["content-security-policy"]
    assert "connect-src 'self' http://console.test:8081 ws://console.test:8081;" in policy


async def test_an_unchanged_file_is_304(world: World) -> None:
    async with world.client() as client:
        first = await client.get("/favicon.svg")
        second = await client.get("/favicon.svg", headers={"if-none-match": first.headers["etag"]})
    assert second.status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/assets/gone-000.js",
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/..\\secret.txt",
        "/%5c..%5csecret.txt",
        "/.env",
        "/assets/.env",
        "/%00",
        "/index.html%00.js",
        "/" + "a" * 3000 + ".js",
        "/%ff.js",
        "/api",
        "/api/unknown",
    ],
)
async def test_nothing_else_is_served(world: World, path: str) -> None:
    async with world.client() as client:
        response = await client.get(path)
    assert response.status_code == 404
    assert "outside" not in response.text
    assert "hidden" not in response.text


async def test_a_link_out_of_the_directory_is_not_followed(world: World, tmp_path: Path) -> None:
    (tmp_path / "dist" / "way.txt").symlink_to(tmp_path / "secret.txt")
    async with world.client() as client:
        assert (await client.get("/way.txt")).status_code == 404


async def test_without_a_build_the_page_says_what_to_do(tmp_path: Path) -> None:
    world = World(tmp_path / "missing")
    async with world.client() as client:
        response = await client.get("/")
    assert response.status_code == 503
    assert "make console" in response.text
    assert response.headers["cache-control"] == "no-store"


async def test_a_strange_host_header_never_enters_the_policy(world: World) -> None:
    async with world.client() as client:
        response = await client.get("/", headers={"host": "x; script-src *"})
    assert response.status_code == 200
    assert "script-src *" not in response.headers["content-security-policy"]


async def test_the_documentation_page_is_whole_on_this_machine(world: World) -> None:
    async with world.client() as client:
        page = await client.get("/api/docs")
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
        policy = page.headers["content-security-policy"]
        assert "http" not in policy
        for asset in re.findall(r"(?:src|href)=\"(/[^\"]+)\"", page.text):
            response = await client.get(asset)
            assert response.status_code == 200
            assert response.content
        assert (await client.get("/api/docs/redoc.standalone.js")).status_code == 404
        assert (await client.get("/api/docs/..%2fcore.py")).status_code == 404
        assert (await client.get("/api/openapi.json")).json()["info"]["title"]
