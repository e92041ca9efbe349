"""The current state of a library's documents: in memory, kept on disk, and watched by clients."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from precis.errors import StorageError
from precis.serve.jobs.job import Job, UnknownJobError
from precis.serve.jobs.store import JobStore

# Progress is kept on disk at most so often; changes of status always are.
SECONDS_BETWEEN_WRITES = 1.0

_log = logging.getLogger(__name__)


class JobRecords:
    """The documents of a library, by id. For the event loop that called `open`."""

    def __init__(self) -> None:
        self._store: JobStore | None = None
        self._jobs: dict[str, Job] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._kept_at: dict[str, float] = {}
        self._released = False
        self.watchers = 0

    def open(self, store: JobStore) -> None:
        """Read what an earlier server kept; a compile that it was at is queued again.

        Raises
        ------
        StorageError
            The store is damaged.
        """
        self._store = store
        for job in store.all():
            self._insert(replace(job, status="queued") if job.status == "running" else job)

    def close(self) -> None:
        """Keep everything, and close the store."""
        if self._store is not None:
            for job in self._jobs.values():
                self._keep(job)
            self._store.close()
            self._store = None

    def release_watchers(self) -> None:
        """End all `changes`: the server stops, and waits for its connections to end."""
        self._released = True
        for changed in self._changed.values():
            changed.set()

    def all(self) -> list[Job]:
        """Give all documents, the oldest first."""
        return list(self._jobs.values())

    def get(self, id: str) -> Job:
        """Give one document.

        Raises
        ------
        UnknownJobError
            There is none of that id.
        """
        try:
            return self._jobs[id]
        except KeyError:
            raise UnknownJobError(
                f"There is no document '{id[:100]}'. GET /v1/documents lists them."
            ) from None

    async def add(self, job: Job) -> None:
        """Take in a new document. Once this returns, it is not lost.

        Raises
        ------
        StorageError
            The disk is full, or the server is stopping.
        """
        self._insert(job)
        try:
            await asyncio.to_thread(self._open_store.put, job, durable=True)
        except BaseException:
            self._forget(job.id)
            raise

    def change(self, id: str, **changes: Any) -> Job:
        """Change a document, keep it, and wake whoever watches.

        Raises
        ------
        UnknownJobError
            There is none of that id.
        """
        before = self.get(id)
        job = self._jobs[id] = replace(before, **changes)
        changed, self._changed[id] = self._changed[id], asyncio.Event()
        changed.set()
        now = time.monotonic()
        waited = now - self._kept_at.get(id, -math.inf) >= SECONDS_BETWEEN_WRITES
        if waited or (job.status, job.curve, job.published) != (
            before.status,
            before.curve,
            before.published,
        ):
            self._keep(job)
            self._kept_at[id] = now
        return job

    async def remove(self, id: str) -> None:
        """Remove a document; its `changes` end.

        Raises
        ------
        StorageError
            The store cannot be written to, or the server is stopping.
        """
        await asyncio.to_thread(self._open_store.delete, id)
        self._forget(id)

    async def changes(self, id: str) -> AsyncIterator[Job]:
        """Give a document at once, and whenever it has changed, up to its final status.

        Whoever is slow misses what came between, and holds nothing up. It ends where the document is removed
        or the server stops.
        """
        self.watchers += 1
        try:
            while id in self._jobs and not self._released:
                job, changed = self._jobs[id], self._changed[id]
                yield job
                if job.is_final:
                    return
                await changed.wait()
        finally:
            self.watchers -= 1

    def _insert(self, job: Job) -> None:
        self._jobs[job.id], self._changed[job.id] = job, asyncio.Event()

    def _forget(self, id: str) -> None:
        self._jobs.pop(id, None)
        self._kept_at.pop(id, None)
        if (changed := self._changed.pop(id, None)) is not None:
            changed.set()

    def _keep(self, job: Job) -> None:
        """Write a document's state; where that fails, the state in memory goes on."""
        try:
            self._open_store.put(job)
        except StorageError as error:
            _log.warning("the state of document %s is not kept: %s", job.id, error)

    @property
    def _open_store(self) -> JobStore:
        if self._store is None:
            raise StorageError("The queue is closed: the server is stopping.")
        return self._store
