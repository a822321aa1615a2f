"""OpenAPI document and its browsable page, served whole from this machine: sites have no way to the internet."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from api.authority import GuardedRoute
from api.problems import not_found

_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><title>明鉴 API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
<link rel="icon" href="data:,"></head>
<body><div id="page"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script><script src="/api/docs/start.js"></script></body></html>
"""
# No "persistAuthorization": a token must not outlive the page.
_START: Final = (
    "SwaggerUIBundle({url:'/api/openapi.json',dom_id:'#page',deepLinking:true,validatorUrl:null,"
    "presets:[SwaggerUIBundle.presets.apis],layout:'BaseLayout'});\n"
)
_ASSETS: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_CACHE: Final = {"Cache-Control": "public, max-age=3600"}

router = APIRouter(prefix="/api", route_class=GuardedRoute, include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    return JSONResponse(request.app.openapi(), headers={"Cache-Control": "no-cache"})


@router.get("/docs")
async def page() -> Response:
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CSP, "Cache-Control": "no-cache"})


@router.get("/docs/{asset}")
async def asset(asset: str) -> Response:
    """Only the three names below; the files come from the `fastapi-offline` distribution (Swagger UI 5, Apache-2.0)."""
    if asset == "start.js":
        return Response(_START, media_type="text/javascript", headers=_CACHE)
    kind = _ASSETS.get(asset)
    if kind is None:
        raise not_found()
    data = files("fastapi_offline").joinpath("static", asset).read_bytes()
    return Response(data, media_type=kind, headers=_CACHE)
