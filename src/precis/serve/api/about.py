"""What the server tells of its documents and of itself: `/v1/models`, `/health`, `/metrics`."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from precis.serve.api.dependencies import WithService
from precis.serve.api.engine_errors import api_error_of
from precis.serve.api.responses import (
    AboutModel,
    Broken,
    Health,
    ModelList,
    ModelObject,
    error_responses,
)
from precis.serve.library import BrokenDocumentError, Entry, UnknownDocumentError
from precis.text.recall import RECALL

router = APIRouter()


@router.get("/v1/models", tags=["models"], responses=error_responses(401, 403))
async def list_models(service: WithService) -> ModelList:
    """List the documents that can be asked."""
    await service.in_library(service.library.refresh)
    usable = [entry for entry in service.library.entries.values() if entry.usable]
    return ModelList(object="list", data=[_model_object(entry) for entry in usable])


@router.get("/v1/models/{name}", tags=["models"], responses=error_responses(401, 403, 404))
async def get_model(service: WithService, name: str) -> ModelObject:
    """Tell of one document."""
    try:
        opened = await service.in_library(service.library.open, name)
    except (UnknownDocumentError, BrokenDocumentError) as error:
        raise api_error_of(error) from error
    return _model_object(opened.entry)


@router.get("/health", tags=["server"], responses=error_responses(403, 503))
async def health(service: WithService, request: Request, response: Response) -> Health:
    """Tell how the server is; names and reasons only to whom may ask."""
    entries = service.library.entries.values()
    broken = [entry for entry in entries if not entry.usable]
    known = request.state.known
    if service.closing:
        response.status_code = 503
    return Health(
        status="closing" if service.closing else "ok",
        version=version("precis"),
        model=service.model.name if known else "",
        documents=len(entries) - len(broken),
        broken=[Broken(name=entry.name, reason=entry.reason) for entry in broken] if known else [],
        rows=service.engine.rows,
    )


@router.get(
    "/metrics",
    tags=["server"],
    response_class=Response,
    responses={
        **error_responses(401, 403),
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."},
    },
)
async def get_metrics(service: WithService) -> Response:
    """Give the metrics that Prometheus reads."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _model_object(entry: Entry) -> ModelObject:
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
    return ModelObject(id=entry.name, object="model", created=entry.created, owned_by="precis", precis=about)
