"""The application: routes, what stands before them, and what runs beside them."""

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
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount

from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.serve.api import completions, documents
from precis.serve.api.access import Access, check_exposure
from precis.serve.api.api_error import ApiError, error_body
from precis.serve.api.limits import BodyLimit, Limits
from precis.serve.api.page_files import add_page
from precis.serve.api.requests import refusal
from precis.serve.api.responses import (
    AboutModel,
    Health,
    ModelList,
    ModelObject,
    error_responses,
)
from precis.serve.jobs.queue import Jobs
from precis.serve.library import BrokenDocumentError, Entry, UnknownDocumentError, model_of
from precis.serve.metrics import Metrics, Watch
from precis.serve.service import Service
from precis.text.recall import RECALL

# How the schema describes a server-sent event.
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
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
        How much may be asked of it.
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
    _add_about(app, metrics)
    _add_errors(app)
    # what is added last stands first
    app.add_middleware(BodyLimit, limits=settings.limits, uploads=UPLOADS)
    app.add_middleware(Access, keys=settings.keys, open_paths=frozenset({"/health", *page}))
    app.add_middleware(Watch, metrics=metrics)
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return app


def _add_about(app: FastAPI, metrics: Metrics) -> None:
    """Add the routes that tell of documents and of the server."""

    @app.get("/v1/models", tags=["models"], responses=error_responses(ModelList, 401, 403))
    async def list_models(request: Request) -> JSONResponse:
        """List the documents that can be asked."""
        service: Service = request.app.state.service
        await service.in_library(service.library.refresh)
        usable = [entry for entry in service.library.entries.values() if entry.usable]
        return JSONResponse({"object": "list", "data": [_model_object(entry) for entry in usable]})

    @app.get("/v1/models/{name}", tags=["models"], responses=error_responses(ModelObject, 401, 403, 404))
    async def get_model(request: Request, name: str) -> JSONResponse:
        """Tell of one document."""
        service: Service = request.app.state.service
        try:
            opened = await service.in_library(service.library.open, name)
        except (UnknownDocumentError, BrokenDocumentError) as error:
            raise completions.api_error_of(error) from error
        return JSONResponse(_model_object(opened.entry))

    @app.get("/health", tags=["server"], responses=error_responses(Health, 403, 503))
    async def health(request: Request) -> JSONResponse:
        """Tell how the server is; names and reasons only to whom may ask."""
        service: Service = request.app.state.service
        entries = service.library.entries.values()
        broken = [entry for entry in entries if not entry.usable]
        found = {
            "status": "closing" if service.closing else "ok",
            "version": version("precis"),
            "model": service.model.name,
            "documents": len(entries) - len(broken),
            "broken": [{"name": entry.name, "reason": entry.reason} for entry in broken],
            "rows": service.engine.rows,
        }
        if not request.state.known:
            found |= {"model": "", "broken": []}
        return JSONResponse(found, 503 if service.closing else 200)

    @app.get(
        "/metrics",
        tags=["server"],
        response_class=Response,
        responses={
            **error_responses(None, 401, 403),
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."},
        },
    )
    async def get_metrics() -> Response:
        """Give the metrics that Prometheus reads."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _model_object(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest
    assert manifest is not None
    recall = RECALL if entry.text_kept else 0
    calibration = manifest.confidence
    about = AboutModel(
        document=manifest.document.name,
        document_tokens=manifest.document.tokens,
        slots=manifest.slots,
        ratio=manifest.ratio,
        recovery=manifest.recovery,
        confidence=calibration is not None and calibration.recall == recall,
        text_kept=entry.text_kept,
        recall=recall,
        base_model=manifest.model.name,
    )
    found = ModelObject(id=entry.name, object="model", created=entry.created, owned_by="precis", precis=about)
    return found.model_dump()


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
            for response in operation["responses"].values():
                if "text/event-stream" in response.get("content", {}):
                    response["content"]["text/event-stream"] = {"schema": _EVENT}
        schemas = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        if app.state.settings.keys:
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
