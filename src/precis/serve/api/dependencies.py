"""What endpoints are given: the service, and the documents that were uploaded."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as PathParameter

from precis.serve.api.api_error import ApiError
from precis.serve.jobs.job import Job, UnknownJobError
from precis.serve.jobs.queue import Jobs
from precis.serve.service import Service


# Coroutines, since FastAPI runs plain functions in a thread.
async def get_service(request: Request) -> Service:
    """Give the application's service."""
    service: Service = request.app.state.service
    return service


async def get_jobs(request: Request) -> Jobs:
    """Give the application's queue of compiles."""
    jobs: Jobs = request.app.state.jobs
    return jobs


WithService = Annotated[Service, Depends(get_service)]
WithJobs = Annotated[Jobs, Depends(get_jobs)]
DocumentId = Annotated[str, PathParameter(alias="id", max_length=100, description="As the upload gave it.")]


async def get_job(jobs: WithJobs, document_id: DocumentId) -> Job:
    """Give the document that the path names.

    Raises
    ------
    ApiError
        404: there is no such document.
    """
    try:
        return jobs.get(document_id)
    except UnknownJobError as error:
        raise ApiError(404, str(error), param="id", code="document_not_found") from error


WithJob = Annotated[Job, Depends(get_job)]
