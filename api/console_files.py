"""The built web console at `/`: static files, the fallback of a single-page application, and its cache rules.

Hashed files under `assets/` never change and may be cached for a year; everything else is revalidated. A path that
is no file and looks like a page gets `index.html`, so that a reloaded console view works.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from api.authority import GuardedRoute
from api.middleware import console_csp
from api.problems import CATCH_ALL, not_found

_FOREVER: Final = "public, max-age=31536000, immutable"
_REVALIDATE: Final = "no-cache"
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")

_UNBUILT: Final = """<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><title>明鉴</title></head>
<body>
<h1>控制台尚未构建</h1>
<p>请在项目目录执行 <code>make console</code>，然后重新加载本页。接口文档：<a href="/api/docs">/api/docs</a></p>
<h1>The console has not been built</h1>
<p>Run <code>make console</code> in the project directory and reload this page. The interface itself is running:
<a href="/api/docs">/api/docs</a></p>
</body></html>
"""


def media_origins(request: Request, port: int, configured: str) -> tuple[str, str] | None:
    """The http and ws origins of the media port as this browser reaches it; None when the Host header is unusable."""
    if configured:
        secure = configured.startswith("https:")
        bare = configured.partition("://")[2]
        return (configured, f"{'wss' if secure else 'ws'}://{bare}")
    host = host_name(request)
    return (f"http://{host}:{port}", f"ws://{host}:{port}") if host else None


def host_name(request: Request) -> str:
    """The Host header's name without port, or an empty text when it is none (it enters a header and URLs)."""
    raw = request.headers.get("host", "")
    name = raw.rpartition(":")[0] if re.search(r":\d+$", raw) else raw
    return name if _HOST.fullmatch(name) else ""


def router(directory: Path, *, media_port: int, media_origin: str) -> APIRouter:
    """Must be included last: it answers every GET that no other route answers."""
    routes = APIRouter(route_class=GuardedRoute, include_in_schema=False)
    files = StaticFiles(directory=directory, check_dir=False, follow_symlink=False)

    @routes.api_route(CATCH_ALL, methods=["GET", "HEAD"])
    async def console(path: str, request: Request) -> Response:
        if path == "api" or path.startswith("api/") or not _plain(path):
            raise not_found()
        response = await _file(files, path or "index.html", request)
        if response is None and _page(path):
            response = await _file(files, "index.html", request)
            if response is None:
                response = HTMLResponse(_UNBUILT, 503, {"Cache-Control": "no-store", "Retry-After": "60"})
        if response is None:
            raise not_found()
        origins = media_origins(request, media_port, media_origin)
        response.headers["Content-Security-Policy"] = console_csp(origins or ())
        return response

    return routes


async def _file(files: StaticFiles, path: str, request: Request) -> Response | None:
    try:
        response = await files.get_response(path, request.scope)
    except HTTPException as error:
        if error.status_code in (404, 405):
            return None
        raise
    response.headers["Cache-Control"] = _FOREVER if path.startswith("assets/") else _REVALIDATE
    return response


def _plain(path: str) -> bool:
    """No control characters, no hidden files, no step upwards; the length bound spares the file system."""
    if len(path) > 512 or not path.isprintable() or "\\" in path:
        return False
    return not any(part.startswith(".") for part in path.split("/"))


def _page(path: str) -> bool:
    return "." not in path.rpartition("/")[2]
