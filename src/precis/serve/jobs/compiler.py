"""Compiling what is queued: one document at a time, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from precis.serve.jobs.compile_process import CompileProcess, reported_changes
from precis.serve.jobs.folder import JobFolder
from precis.serve.jobs.job import UnknownJobError, ended
from precis.serve.jobs.order import Order
from precis.serve.jobs.records import JobRecords

# A process that dies without a word, killed for want of memory say, is started again so often in all.
ATTEMPTS = 3

_log = logging.getLogger(__name__)


class Compiler:
    """Compiles queued documents, one after the other.

    Parameters
    ----------
    records
        The documents; the first that is queued comes next.
    folder
        Where their files are.
    model
        The model to compile for, as for `load_model`.
    """

    def __init__(self, records: JobRecords, folder: JobFolder, model: str | None) -> None:
        self._records = records
        self._folder = folder
        self._model = model
        self._stopping: set[str] = set()
        self._running: tuple[str, CompileProcess] | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to compile."""
        self._loop = asyncio.create_task(self._work_off(), name="compiles")

    async def close(self) -> None:
        """Stop the compile that runs; the next start resumes that compile."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None

    def wake(self) -> None:
        """Look for what is queued."""
        self._wake.set()

    async def stop(self, id: str) -> None:
        """End the process of a document's compile, if there is one, and wait for its end."""
        self._stopping.add(id)
        try:
            if self._records.get(id).status == "running":
                if self._running is not None and self._running[0] == id:
                    self._running[1].kill()
                await self._idle.wait()
        finally:
            self._stopping.discard(id)

    def take_in(self, id: str, line: bytes, seconds_spent: float) -> None:
        """Take in a line of progress; others are passed over."""
        try:
            changes = reported_changes(line, self._records.get(id))
        except (ValueError, AttributeError, TypeError):
            _log.warning("the compile of document %s wrote a line that is no progress", id)
            return
        self._records.change(id, **changes, seconds_spent=round(seconds_spent, 1))

    async def _work_off(self) -> None:
        """Compile what is queued, one after the other; a failure of one compile does not end the loop."""
        while True:
            job = next((job for job in self._records.all() if job.status == "queued"), None)
            if job is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._idle.clear()
            try:
                await self._compile(job.id)
            except Exception as error:
                _log.exception("the compile of document %s failed", job.id)
                self._fail(job.id, f"The compile could not be run ({type(error).__name__}).")
            finally:
                self._running = None
                self._idle.set()

    async def _compile(self, id: str) -> None:
        """Compile one document; again where its process dies without a word."""
        self._records.change(id, status="running", error=None)
        for attempt in range(1, ATTEMPTS + 1):
            code = await self._attempt(id)
            if self._records.get(id).is_final or id in self._stopping:
                break
            _log.warning("the compile of document %s ended with exit code %s (attempt %d)", id, code, attempt)
        else:
            self._fail(
                id,
                f"The compile's process ended {ATTEMPTS} times without saying why (exit code {code}). A "
                "killed process often wanted more memory than there is: try a shorter document or a smaller "
                "model. What was finished is kept: the same file uploaded again goes on from there.",
            )
        job = self._records.get(id)
        if job.status == "ready":
            await asyncio.to_thread(self._folder.remove_work, job, self._records.all())

    async def _attempt(self, id: str) -> int:
        """Run the process of one compile to its end."""
        job = self._records.get(id)
        self._folder.sweep_artifact(job)
        work = self._folder.work_of(job)
        work.mkdir(parents=True, exist_ok=True)
        process = await CompileProcess.start(work / f"{job.id}.log")
        self._running = id, process
        spent, start = job.seconds_spent, time.monotonic()
        try:
            if id in self._stopping:  # since before there was a process
                process.kill()
            await process.send(Order.of(job, self._folder, self._model))
            async for line in process.lines():
                self.take_in(id, line, spent + time.monotonic() - start)
            return await process.wait()
        finally:
            await process.close()
            self._running = None

    def _fail(self, id: str, error: str) -> None:
        with contextlib.suppress(UnknownJobError):  # deleted meanwhile
            self._records.change(id, **ended("failed", error))
