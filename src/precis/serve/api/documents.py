"""Uploading documents, and watching them compile: `/v1/documents`.

The router expects the application's `state.jobs` to be a started `Jobs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from precis.errors import StorageError
from precis.serve.api.api_error import ApiError
from precis.serve.api.dependencies import WithJob, WithJobs
from precis.serve.api.event_stream import EventStream, event
from precis.serve.api.responses import ErrorResponse, error_responses, event_responses
from precis.serve.api.uploads import Upload, received_upload, take_in
from precis.serve.jobs.job import Job, Status, UnknownJobError
from precis.serve.jobs.queue import Jobs

# A client that does not read for so long is let go, so that what it holds does not pile up.
SEND_S = 30.0
PING_S = 15.0

router = APIRouter(tags=["documents"])


class DocumentObject(BaseModel):
    """A document that was uploaded, and how far its compile is."""

    id: str
    object: Literal["document"] = "document"
    name: str
    filename: str
    bytes: int
    status: Status
    stage: str | None
    done: int
    total: int
    usable: bool
    curve: list[tuple[int, float]]
    seconds_spent: float
    seconds_left: float | None
    error: str | None
    notes: list[str]
    created_at: int
    finished_at: int | None
    text_kept: bool = True


class DocumentList(BaseModel):
    """All documents that were uploaded, the oldest first."""

    object: Literal["list"] = "list"
    data: list[DocumentObject]


class DocumentDeleted(BaseModel):
    """What deleting a document gives."""

    id: str
    object: Literal["document"] = "document"
    deleted: bool = True


@router.post(
    "/v1/documents",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": Upload.model_json_schema()}},
        }
    },
    responses={
        **error_responses(400, 401, 403, 408, 413, 415, 429, 503),
        422: {"model": ErrorResponse, "description": "The document cannot be read."},
        507: {"model": ErrorResponse, "description": "There is no room to keep the document."},
    },
)
async def upload(jobs: WithJobs, received: Annotated[Upload, Depends(received_upload)]) -> DocumentObject:
    """Upload a document, and compile it: it can be asked within seconds, and gets better from then on."""
    return _shown(await take_in(received, jobs), jobs)


@router.get("/v1/documents", responses=error_responses(401, 403))
async def list_documents(jobs: WithJobs) -> DocumentList:
    """List the documents that were uploaded here; `/v1/models` lists all that can be asked."""
    return DocumentList(data=[_shown(job, jobs) for job in jobs.all()])


@router.get("/v1/documents/{id}", responses=error_responses(400, 401, 403, 404))
async def get_document(jobs: WithJobs, job: WithJob) -> DocumentObject:
    """Give how far a document's compile is."""
    return _shown(job, jobs)


@router.get(
    "/v1/documents/{id}/events",
    response_class=EventSourceResponse,
    responses={**error_responses(400, 401, 403, 404), **event_responses()},
)
async def document_events(jobs: WithJobs, job: WithJob) -> EventStream:
    """Tell by server-sent events how a document gets on: at once, then whenever it changes, to its end."""

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for changed in jobs.changes(job.id):
            yield event(_shown(changed, jobs).model_dump_json(), "document")

    return EventStream(events(), send_s=SEND_S, ping_s=PING_S)


@router.post("/v1/documents/{id}/cancel", responses=error_responses(400, 401, 403, 404))
async def cancel_document(jobs: WithJobs, job: WithJob) -> DocumentObject:
    """Stop a compile. What can be asked already stays; a compile that has ended stays as it is."""
    return _shown(await jobs.cancel(job.id), jobs)


@router.delete("/v1/documents/{id}", responses=error_responses(400, 401, 403, 404, 500))
async def delete_document(jobs: WithJobs, job: WithJob) -> DocumentDeleted:
    """Remove a document: the upload, unfinished work, and the compiled file."""
    try:
        await jobs.delete(job.id)
    except UnknownJobError as error:  # somebody else was faster
        raise ApiError(404, str(error), code="document_not_found") from error
    except StorageError as error:
        raise ApiError(500, str(error)) from error
    return DocumentDeleted(id=job.id)


def _shown(job: Job, jobs: Jobs) -> DocumentObject:
    """Give what a client may see of a document."""
    return DocumentObject(
        id=job.id,
        name=job.name,
        filename=job.filename,
        bytes=job.bytes,
        status=job.status,
        stage=job.stage,
        done=job.done,
        total=job.total,
        usable=jobs.usable(job),
        curve=list(job.curve),
        seconds_spent=job.seconds_spent,
        seconds_left=job.seconds_left,
        error=job.error,
        notes=list(job.notes),
        created_at=job.created_at,
        finished_at=job.finished_at,
    )
