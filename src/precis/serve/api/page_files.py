"""The page at `/`: files that come from here alone, and that a browser lets reach nothing but this server."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent.parent / "page"
# Not what the system's own table says, which can be changed by other programs.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # A browser asks each time whether there is a newer version, and mostly hears that there is not.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Page(StaticFiles):
    """Files with the headers that a page should have."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        kind = TYPES.get(Path(full_path).suffix)
        if kind is not None and not isinstance(response, NotModifiedResponse):
            response.headers["Content-Type"] = kind
        return response


def add_page(app: FastAPI) -> frozenset[str]:
    """Serve the page at `/` and its files below `/page`; give their addresses, which want no key."""
    files = _Page(directory=FOLDER)

    async def index(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.add_api_route(
        "/", index, methods=["GET", "HEAD"], include_in_schema=False, response_class=FileResponse
    )
    app.mount("/page", files, name="page")
    return frozenset({"/", *(f"/page/{path.name}" for path in FOLDER.iterdir())})
