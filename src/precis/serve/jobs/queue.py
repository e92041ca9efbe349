"""The queue of compiles: kept in SQLite, one at a time, each in a process of its own.

A compile takes minutes and all cores, and may fall over: so it runs beside the server, not in it, and tells
how it goes by lines of JSON. What is queued or running when the server dies, however it dies, is queued when
it starts again, and goes on from its work folder. The process of a compile ends with the server's, and holds
a lock on its work: the same document is never compiled twice at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from precis.errors import StorageError
from precis.serve.jobs.compiler import Compiler
from precis.serve.jobs.folder import JobFolder
from precis.serve.jobs.job import Job, QueueFullError, ended
from precis.serve.jobs.records import JobRecords
from precis.serve.jobs.store import JobStore


class Jobs:
    """The documents that were uploaded to a library, and the compiles that wait or run.

    All methods are for the event loop that called `start`.

    Parameters
    ----------
    library
        The folder that `.precis` files go to.
    model
        The model to compile for, as for `load_model`.
    most_waiting
        How many may wait to be compiled.
    """

    def __init__(self, library: Path, *, model: str | None = None, most_waiting: int = 100) -> None:
        self.most_waiting = most_waiting
        self.folder = JobFolder(library)
        self.records = JobRecords()
        self.compiler = Compiler(self.records, self.folder, model)

    async def start(self) -> None:
        """Find what an earlier server left, and begin to compile.

        Raises
        ------
        SettingsError
            Another server has this library.
        StorageError
            The folder cannot be written to, or the queue's file is damaged.
        """
        self.folder.acquire()
        try:
            self.records.open(JobStore(self.folder.database))
        except BaseException:
            self.folder.release()
            raise
        self.folder.sweep(self.records.all())
        self.compiler.start()

    async def close(self) -> None:
        """Stop the compile that runs, which the next start goes on with, and end all `changes`."""
        self.records.release_watchers()
        await self.compiler.close()
        self.records.close()
        self.folder.release()

    def release_watchers(self) -> None:
        """End all `changes`: the server stops, and waits for its connections to end."""
        self.records.release_watchers()

    def all(self) -> list[Job]:
        """Give all documents, the oldest first."""
        return self.records.all()

    def get(self, id: str) -> Job:
        """Give one document.

        Raises
        ------
        UnknownJobError
            There is none of that id.
        """
        return self.records.get(id)

    def changes(self, id: str) -> AsyncIterator[Job]:
        """Give a document at once, and whenever it has changed, up to its final status.

        Whoever is slow misses what came between, and holds nothing up. It ends where the document is deleted
        or the server stops.
        """
        return self.records.changes(id)

    def usable(self, job: Job) -> bool:
        """Whether the document can be asked already."""
        return self.folder.has_published(job)

    async def add(self, job: Job) -> Job:
        """Queue a document whose upload is in its place. Once this returns, it is not lost.

        Raises
        ------
        QueueFullError
            Too many wait.
        StorageError
            The disk is full.
        """
        self.check_room()
        job = replace(job, name=self.folder.free_name(job.name, self.records.all()))
        await self.records.add(job)
        self.compiler.wake()
        return job

    def check_room(self) -> None:
        """Refuse more than may wait.

        Raises
        ------
        QueueFullError
            So many wait already.
        """
        waiting = sum(job.status == "queued" for job in self.records.all())
        if waiting >= self.most_waiting:
            raise QueueFullError(
                f"{waiting} documents wait to be compiled, which is as many as may. Try again later."
            )

    async def cancel(self, id: str) -> Job:
        """Stop a document's compile; what it has published stays. One that has ended stays as it is.

        Raises
        ------
        UnknownJobError
            There is none of that id.
        """
        job = self.records.get(id)
        if not job.is_final:
            await self.compiler.stop(id)
            job = self.records.get(id)
        return job if job.is_final else self.records.change(id, **ended("cancelled"))

    async def delete(self, id: str) -> None:
        """Remove a document with all that was kept of it; a compile that runs is stopped.

        Raises
        ------
        UnknownJobError
            There is none of that id.
        StorageError
            Something cannot be removed.
        """
        await self.cancel(id)
        job = self.records.get(id)
        try:
            await asyncio.to_thread(self.folder.remove_files, job)
            await asyncio.to_thread(self.folder.remove_work, job, self.records.all())
        except OSError as error:
            raise StorageError(f"{job.name} cannot be removed: {error.strerror}.") from error
        await self.records.remove(id)
