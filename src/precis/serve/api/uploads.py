"""Taking an upload in: what a form may hold, and where its file goes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Self

from fastapi import Request, UploadFile
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from starlette.datastructures import FormData
from starlette.datastructures import UploadFile as ReceivedFile

from precis.compilation.settings import Settings
from precis.serve.api.api_error import ApiError
from precis.serve.api.dependencies import WithJobs
from precis.serve.api.requests import conflict, refusal
from precis.serve.jobs.check_process import unreadable
from precis.serve.jobs.job import LONGEST_NAME, Job, QueueFullError
from precis.serve.jobs.queue import Jobs
from precis.text.readers import READABLE, may_be_readable

LONGEST_FILENAME = 255
LONGEST_FIELD = 256 * 2**10
RETRY_SECONDS = 60


def _check_file(value: Any) -> Any:
    if not isinstance(value, ReceivedFile):
        raise PydanticCustomError("no_file", "there is no file; send the document in this field")
    return value


# A field of a form that was left empty says nothing.
_Blank = BeforeValidator(lambda value: None if value == "" else value)


class Upload(BaseModel):
    """The form that brings a document."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    file: Annotated[
        UploadFile,
        BeforeValidator(_check_file),
        Field(description=f"The document: {READABLE}. Its text is kept, too."),
    ]
    name: Annotated[
        str,
        Field(
            description="What to ask it by, as 'model'; by default the file's name. Where it is taken, a "
            "number is put behind it."
        ),
    ] = ""
    ratio: Annotated[
        float | None,
        _Blank,
        WithJsonSchema({"type": "number", "minimum": 1}),
        Field(description="Document tokens for every slot; 20 by default."),
    ] = None
    slots: Annotated[
        int | None,
        _Blank,
        WithJsonSchema({"type": "integer", "minimum": 2}),
        Field(description="In place of ratio."),
    ] = None
    minutes: Annotated[
        float | None,
        _Blank,
        WithJsonSchema({"type": "number", "minimum": 0}),
        Field(description="The most that compiling may take; 0: no training."),
    ] = None
    questions: Annotated[str, Field(description="Questions of your own to train on as well, one a line.")] = (
        ""
    )

    @field_validator("ratio", "slots", "minutes")
    @classmethod
    def _can_be_compiled_with(cls, value: float | None, field: ValidationInfo) -> float | None:
        if value is not None:
            Settings(**{str(field.field_name): value}).check()  # type: ignore[arg-type]
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.ratio is not None and self.slots is not None:
            raise conflict("slots", "Give ratio or slots, not both: each decides the soft prompt's length.")
        return self

    def to_job(self) -> Job:
        """Give the document that it brings, whose content was not read yet.

        Raises
        ------
        ApiError
            415: files of this kind are never text.
        """
        filename = shown_filename(self.file.filename or "")
        return Job(
            id=f"doc-{secrets.token_hex(12)}",
            name=safe_name(self.name or PurePosixPath(filename).stem),
            filename=filename,
            bytes=0,
            key="",
            suffix=_suffix(filename),
            settings=self.model_dump(include={"ratio", "slots", "minutes"}, exclude_none=True),
            questions=tuple(line.strip() for line in self.questions.splitlines() if line.strip()),
            created_at=int(time.time()),
        )


async def received_upload(request: Request, jobs: WithJobs) -> AsyncIterator[Upload]:
    """Receive a form; the file in it goes to a temporary file, which is closed in the end.

    FastAPI's own forms would be read before the queue is known to have room, and without these bounds.

    Raises
    ------
    ApiError
        The body is something else, a field will not do, or the queue is full.
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
    fields = len(Upload.model_fields)
    try:
        form = await request.form(max_files=1, max_fields=fields, max_part_size=LONGEST_FIELD)
    except OSError as error:
        raise _no_room(error) from error
    try:
        yield _upload(form)
    finally:
        await form.close()


def _upload(form: FormData) -> Upload:
    for field in form:
        if len(form.getlist(field)) > 1:
            raise ApiError(400, f"The field {field[:100]} is there more than once.", param=field[:100])
    try:
        return Upload.model_validate({"file": None, **form})
    except ValidationError as error:
        raise refusal(error.errors()) from error


async def take_in(upload: Upload, jobs: Jobs) -> Job:
    """Put the file in its place, check that it can be read, and queue the document.

    Raises
    ------
    ApiError
        It cannot be read or kept, or the queue is full.
    """
    job = upload.to_job()
    path = jobs.folder.upload_of(job)
    try:
        size, key = await asyncio.to_thread(_copy, upload.file.file, path)
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
