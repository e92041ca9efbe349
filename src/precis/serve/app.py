"""The application: routes, middleware, and what runs beside the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount

from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.serve.api import about, completions, documents
from precis.serve.api.access import Access, check_exposure
from precis.serve.api.api_error import ApiError, error_body
from precis.serve.api.limits import BodyLimit, Limits
from precis.serve.api.page_files import add_page
from precis.serve.api.requests import refusal
from precis.serve.jobs.queue import Jobs
from precis.serve.library import model_of
from precis.serve.metrics import Metrics, Watch
from precis.serve.service import Service

UPLOADS = frozenset({"/v1/documents"})


@dataclass(frozen=True)
class ServerSettings:
    """What a server is started with.

    Parameters
    ----------
    library
        The folder of `.precis` files.
    host, port
        Where it listens; port 0: any that is free.
    keys
        API keys; none: no key is wanted, and the host must be loopback.
    model
        The frozen model's name; None: the one that the library's files were compiled for.
    limits
        How much may be asked of the server.
    """

    library: Path
    host: str = "127.0.0.1"
    port: int = 8000
    keys: frozenset[str] = frozenset()
    model: str | None = None
    limits: Limits = field(default_factory=Limits)


def create_app(settings: ServerSettings, model: LanguageModel | None = None) -> FastAPI:
    """Make the application, its model loaded.

    Parameters
    ----------
    settings
        What it is started with.
    model
        A model that is loaded already.

    Raises
    ------
    SettingsError
        There is no such folder, or it would be reached from elsewhere without keys.
    ModelError
        The model cannot be loaded.
    """
    check_exposure(settings.host, settings.keys)
    found = model_of(settings.library, settings.model or (model.name if model else None))
    frozen = model or load_model(found)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(frozen, settings.library, settings.limits, metrics)
        jobs = Jobs(settings.library, model=frozen.name)
        app.state.service, app.state.jobs = service, jobs
        try:
            try:
                await service.start()
                await jobs.start()
            except Exception as error:
                app.state.failure = error
                raise
            yield
        finally:
            await jobs.close()
            await service.close()

    app = FastAPI(
        title="precis",
        version=version("precis"),
        description="Compiled documents as models, behind the API that OpenAI's clients speak.",
        lifespan=lifespan,
        docs_url=None,  # those pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings, app.state.failure = settings, None
    page = add_page(app)
    app.include_router(completions.router)
    app.include_router(documents.router)
    app.include_router(about.router)
    _add_errors(app)
    # what is added last stands first
    app.add_middleware(BodyLimit, limits=settings.limits, uploads=UPLOADS)
    app.add_middleware(Access, keys=settings.keys, open_paths=frozenset({"/health", *page}))
    app.add_middleware(Watch, metrics=metrics)
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return app


def _add_errors(app: FastAPI) -> None:
    """Let every error have OpenAI's shape."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refusal(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, ApiError):
            return error.response()
        status, message, headers = error.status_code, str(error.detail), error.headers
        if status == 404:
            message = "There is nothing here."
        elif status == 405:
            # the framework names the methods of the first route that has this address
            methods = _methods_of(app, request)
            message = f"This address takes {methods} only."
            headers = {"Allow": methods}
        code = HTTPStatus(status).phrase.lower().replace(" ", "_")
        return JSONResponse(error_body(status, message, code=code), status, headers)


def _methods_of(app: FastAPI, request: Request) -> str:
    """Give the methods that an address has, on all of its routes."""
    routes = [route for route in app.routes if not isinstance(route, Mount)]
    found = []
    for method in ("DELETE", "GET", "HEAD", "POST"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in routes):
            found.append(method)
    return ", ".join(found or ("GET", "HEAD"))  # files of the page


def _schema(app: FastAPI) -> dict[str, Any]:
    """Give the OpenAPI schema as it is: what is invalid gets 400 here, and never 422 by the framework."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for operation in (one for path in schema["paths"].values() for one in path.values()):
            unprocessable = operation["responses"].get("422", {})
            if "HTTPValidationError" in str(unprocessable):
                del operation["responses"]["422"]
        schemas = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        if app.state.settings.keys:
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
