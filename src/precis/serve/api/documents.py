"""Uploading documents, and watching them compile: `/v1/documents`.

The router expects the application's `state.jobs` to be a started `Jobs`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import math
import os
import re
import secrets
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.datastructures import FormData, UploadFile

from precis.compilation.settings import Settings
from precis.errors import SettingsError, StorageError
from precis.serve.api.api_error import ApiError
from precis.serve.api.responses import ErrorResponse, error_responses
from precis.serve.jobs.queue import LONGEST_NAME, Job, Jobs, QueueFullError, UnknownJobError, unreadable
from precis.text.readers import READABLE, may_be_readable

LONGEST_FILENAME = 255
LONGEST_FIELD = 256 * 2**10
RETRY_SECONDS = 60
FIELDS = ("file", "name", "ratio", "slots", "minutes", "questions")

router = APIRouter(tags=["documents"])


class DocumentObject(BaseModel):
    """A document that was uploaded, and how far its compile is."""

    id: str
    object: Literal["document"] = "document"
    name: str
    filename: str
    bytes: int
    status: Literal["queued", "running", "ready", "failed", "cancelled"]
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


DocumentId = Annotated[str, PathParameter(alias="id", max_length=100, description="As the upload gave it.")]

_UPLOAD_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": f"The document: {READABLE}. Its text is kept, too.",
                        },
                        "name": {
                            "type": "string",
                            "description": "What to ask it by, as 'model'; by default the file's name. "
                            "Where it is taken, a number is put behind it.",
                        },
                        "ratio": {
                            "type": "number",
                            "minimum": 1,
                            "description": "Document tokens for every slot; 20 by default.",
                        },
                        "slots": {"type": "integer", "minimum": 2, "description": "In place of ratio."},
                        "minutes": {
                            "type": "number",
                            "minimum": 0,
                            "description": "The most that compiling may take; 0: no training.",
                        },
                        "questions": {
                            "type": "string",
                            "description": "Questions of your own to train on as well, one a line.",
                        },
                    },
                }
            }
        },
    }
}


@router.post(
    "/v1/documents",
    status_code=202,
    openapi_extra=_UPLOAD_SCHEMA,
    responses={
        **error_responses(None, 400, 401, 403, 408, 413, 415, 429, 503),
        422: {"model": ErrorResponse, "description": "The document cannot be read."},
        507: {"model": ErrorResponse, "description": "There is no room to keep the document."},
    },
)
async def upload(request: Request) -> DocumentObject:
    """Upload a document, and compile it: it can be asked within seconds, and gets better from then on."""
    jobs = _jobs(request)
    form = await _form(request, jobs)
    try:
        return _shown(jobs, await _take_in(form, jobs))
    finally:
        await form.close()


@router.get("/v1/documents", responses=error_responses(None, 401, 403))
async def list_documents(request: Request) -> DocumentList:
    """List the documents that were uploaded here; `/v1/models` lists all that can be asked."""
    jobs = _jobs(request)
    return DocumentList(data=[_shown(jobs, job) for job in jobs.all()])


@router.get("/v1/documents/{id}", responses=error_responses(None, 400, 401, 403, 404))
async def get_document(request: Request, document_id: DocumentId) -> DocumentObject:
    """Say how far a document is."""
    jobs = _jobs(request)
    return _shown(jobs, _found(jobs, document_id))


@router.get(
    "/v1/documents/{id}/events",
    response_class=EventSourceResponse,
    responses={
        **error_responses(None, 400, 401, 403, 404),
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events."},
    },
)
async def document_events(request: Request, document_id: DocumentId) -> EventSourceResponse:
    """Tell by server-sent events how a document gets on: at once, then whenever it changes, to its end."""
    jobs = _jobs(request)
    _found(jobs, document_id)

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for job in jobs.changes(document_id):
            yield ServerSentEvent(_shown(jobs, job).model_dump_json(), event="document")

    # a client that does not read is let go, so that what it holds does not pile up
    return EventSourceResponse(events(), send_timeout=30)


@router.post("/v1/documents/{id}/cancel", responses=error_responses(None, 400, 401, 403, 404))
async def cancel_document(request: Request, document_id: DocumentId) -> DocumentObject:
    """Stop a compile. What can be asked already stays; a compile that has ended stays as it is."""
    jobs = _jobs(request)
    _found(jobs, document_id)
    return _shown(jobs, await jobs.cancel(document_id))


@router.delete("/v1/documents/{id}", responses=error_responses(None, 400, 401, 403, 404, 500))
async def delete_document(request: Request, document_id: DocumentId) -> DocumentDeleted:
    """Remove a document: the upload, unfinished work, and the compiled file."""
    jobs = _jobs(request)
    _found(jobs, document_id)
    try:
        await jobs.delete(document_id)
    except UnknownJobError as error:  # somebody else was faster
        raise ApiError(404, str(error), code="document_not_found") from error
    except StorageError as error:
        raise ApiError(500, str(error)) from error
    return DocumentDeleted(id=document_id)


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


def _found(jobs: Jobs, id: str) -> Job:
    try:
        return jobs.get(id)
    except UnknownJobError as error:
        raise ApiError(404, str(error), param="id", code="document_not_found") from error


def _shown(jobs: Jobs, job: Job) -> DocumentObject:
    """Give what a client may see of a document."""
    return DocumentObject(
        id=job.id,
        name=job.name,
        filename=job.filename,
        bytes=job.bytes,
        status=job.status,  # type: ignore[arg-type]
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


# --- taking an upload in ------------------------------------------------------------------------------


async def _form(request: Request, jobs: Jobs) -> FormData:
    """Read a multipart body; the file in it goes to a temporary file.

    Raises
    ------
    ApiError
        It is something else, or the queue is full.
    """
    try:
        jobs.check_room()
    except QueueFullError as error:
        raise _too_many(error) from error
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(
            415,
            f"The body is {kind[:100] or 'of no stated kind'}; send multipart/form-data with the document in "
            "the field 'file'.",
        )
    try:
        return await request.form(max_files=1, max_fields=len(FIELDS), max_part_size=LONGEST_FIELD)
    except OSError as error:
        raise _no_room(error) from error


async def _take_in(form: FormData, jobs: Jobs) -> Job:
    """Check everything about an upload, put the file in its place, and queue it.

    Raises
    ------
    ApiError
        Something about it will not do.
    """
    job, file = _described(form)
    path = jobs.upload_of(job)
    try:
        size, key = await asyncio.to_thread(_copy, file, path)
        if (reason := await unreadable(path, job.filename)) is not None:
            raise ApiError(422, f"{reason}.", param="file", code="unreadable_document")
        return await jobs.add(replace(job, bytes=size, key=key))
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, QueueFullError):
            raise _too_many(error) from error
        if isinstance(error, OSError):
            raise _no_room(error) from error
        raise


def _described(form: FormData) -> tuple[Job, IO[bytes]]:
    """Read the fields of a form.

    Raises
    ------
    ApiError
        One of them will not do.
    """
    for field in form:
        if field not in FIELDS:
            raise ApiError(
                400,
                f"There is no field '{field[:100]}'. The fields are {', '.join(FIELDS)}.",
                param=field[:100],
            )
        if len(form.getlist(field)) > 1:
            raise ApiError(400, f"The field {field} is there more than once.", param=field)
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ApiError(400, "There is no file: send the document in the field 'file'.", param="file")
    filename = shown_filename(file.filename or "")
    wanted = form.get("name", "")
    job = Job(
        id=f"doc-{secrets.token_hex(12)}",
        name=safe_name(wanted if isinstance(wanted, str) and wanted else PurePosixPath(filename).stem),
        filename=filename,
        bytes=0,
        key="",
        suffix=_suffix(filename),
        settings=_settings(form),
        questions=_questions(form),
        created_at=int(time.time()),
    )
    return job, file.file


def _settings(form: FormData) -> dict[str, float | int]:
    """Read how to compile.

    Raises
    ------
    ApiError
        A value is no number, or out of its range.
    """
    settings: dict[str, float | int] = {}
    kinds: dict[str, type[int] | type[float]] = {"ratio": float, "slots": int, "minutes": float}
    for field, kind in kinds.items():
        given = form.get(field, "")
        if given == "":
            continue
        try:
            value = kind(given) if isinstance(given, str) else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            wanted = "a whole number" if kind is int else "a number"
            raise ApiError(400, f"{field} is '{str(given)[:100]}'; it must be {wanted}.", param=field)
        settings[field] = value
        try:
            Settings(**{field: value}).check()  # type: ignore[arg-type]
        except SettingsError as error:
            raise ApiError(400, str(error), param=field) from error
    if settings.keys() >= {"ratio", "slots"}:
        raise ApiError(
            400, "Give ratio or slots, not both: each decides the soft prompt's length.", param="slots"
        )
    return settings


def _questions(form: FormData) -> tuple[str, ...]:
    """Read the client's own questions, one a line."""
    given = form.get("questions", "")
    return (
        tuple(line.strip() for line in given.splitlines() if line.strip()) if isinstance(given, str) else ()
    )


def _suffix(filename: str) -> str:
    """Give the part of a file name that says how to read it.

    Raises
    ------
    ApiError
        Files of this kind are never text.
    """
    suffix = PurePosixPath(filename).suffix.lower()
    if not may_be_readable(suffix):
        raise ApiError(
            415,
            f"{filename} is of the kind {suffix}, which cannot be read; expected {READABLE}: convert it "
            "first.",
            param="file",
            code="unsupported_document",
        )
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,12}", suffix) else ""


def shown_filename(given: str) -> str:
    """Give the last part of a client's file name, without what no name has; it is shown, never opened."""
    last = re.split(r"[/\\]", given)[-1]
    kept = "".join(character for character in last if character.isprintable()).strip()
    return kept[-LONGEST_FILENAME:] or "document"


def safe_name(wanted: str) -> str:
    """Give a name of letters, digits, `-`, `_` and `.` alone, that no file system takes amiss."""
    plain = unicodedata.normalize("NFKD", wanted).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:LONGEST_NAME].strip("-.")
    return name or "document"


def _copy(source: IO[bytes], path: Path) -> tuple[int, str]:
    """Put an upload into its place, so that a power cut does not lose it; give its size and its key."""
    sha = hashlib.sha256()
    with path.open("xb") as file:
        while block := source.read(2**20):
            sha.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return size, sha.hexdigest()[:32]


def _too_many(error: QueueFullError) -> ApiError:
    return ApiError(429, str(error), code="queue_full", retry_s=RETRY_SECONDS)


def _no_room(error: OSError) -> ApiError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error.__cause__)
    reason = "the server's disk is full" if full else "the server cannot write to its disk"
    return ApiError(507, f"The document was not kept: {reason}. Try again when there is room.")
