"""The queue of compiles: kept in SQLite, one at a time, each in a process of its own.

A compile takes minutes and all cores, and may fall over: so it runs beside the server, not in it, and tells
how it goes by lines of JSON. What is queued or running when the server dies, however it dies, is queued when
it starts again, and goes on from its work folder. The process of a compile ends with the server's, and holds
a lock on its work: the same document is never compiled twice at the same time.

All methods of `Jobs` are for the one event loop that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import shutil
import sqlite3
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from precis.errors import PrecisError, SettingsError, StorageError
from precis.model.runtime import GIVING_WAY

DATA_FOLDER = ".precis-serve"
FINAL = ("ready", "failed", "cancelled")
# A process that dies without a word, killed for want of memory say, is started again so often in all.
ATTEMPTS = 3
LONGEST_NAME = 80
# A line of progress is kept on disk at most so often; changes of status always are.
SECONDS_BETWEEN_WRITES = 1.0
LONGEST_LINE = 2**20
READING_SECONDS = 120.0

COMPILE_COMMAND = (sys.executable, "-m", "precis.serve.jobs.compile_job")
CHECK_COMMAND = (sys.executable, "-m", "precis.serve.jobs.check_upload")

_log = logging.getLogger(__name__)


class UnknownJobError(PrecisError, KeyError):
    """There is no document of that id."""

    def __str__(self) -> str:
        return str(self.args[0])


class QueueFullError(PrecisError):
    """Too many documents wait to be compiled."""


@dataclass(frozen=True)
class Job:
    """A document that was uploaded, and how far its compile is.

    Parameters
    ----------
    id
        Made by us; also the name of the upload.
    name
        What it is asked by: the stem of its `.precis` file.
    filename, bytes, key
        The file that was uploaded: its name as the client gave it, which is never used as a path, its size,
        and a key of its content. Documents of the same content share their work.
    suffix
        The upload's, which says how to read it.
    settings
        `ratio`, `slots`, `minutes`, where they were given.
    questions
        The client's own, to train on beside those of self-study.
    status
        `queued`, `running`, `ready`, `failed` or `cancelled`.
    stage, done, total
        What it is at, and how much of that is done.
    curve
        [step, held-out recovery] of σ so far.
    seconds_spent, seconds_left
        Of compiling, and an estimate of the rest.
    error
        Why it failed.
    notes
        What the user should know.
    created_at, finished_at
        Seconds since 1970.
    """

    id: str
    name: str
    filename: str
    bytes: int
    key: str
    suffix: str
    settings: Mapping[str, float | int]
    created_at: int
    questions: tuple[str, ...] = ()
    status: str = "queued"
    stage: str | None = None
    done: int = 0
    total: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    seconds_spent: float = 0.0
    seconds_left: float | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    finished_at: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in FINAL


class Jobs:
    """The documents that were uploaded to a library, and the compiles that wait or run.

    Parameters
    ----------
    library
        The folder that `.precis` files go to. What is kept besides stands below it, in `DATA_FOLDER`.
    model
        The model to compile for, as for `load_model`.
    most_waiting
        How many may wait to be compiled.
    """

    def __init__(self, library: Path, *, model: str | None = None, most_waiting: int = 100) -> None:
        self.library = library.absolute()
        self.data = self.library / DATA_FOLDER
        self.uploads = self.data / "uploads"
        self.model = model
        self.most_waiting = most_waiting
        self._jobs: dict[str, Job] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._kept_at: dict[str, float] = {}
        self._stopping: set[str] = set()
        self._running: tuple[str, Process] | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._loop: asyncio.Task[None] | None = None
        self._lock = FileLock(self.data / "lock", thread_local=False)
        self._store: _Store | None = None

    # --- from start to end ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Find what an earlier server left, and begin to compile.

        Raises
        ------
        SettingsError
            Another server has this library.
        StorageError
            The folder cannot be written to, or the queue's file is damaged.
        """
        try:
            self.uploads.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise SettingsError(
                f"Another 'precis serve' has the library {self.library}. Stop that one, or serve another "
                "folder."
            ) from None
        except OSError as error:
            raise StorageError(
                f"{self.data} cannot be written to: {error.strerror}. Check the folder and its permissions."
            ) from error
        try:
            self._store = _Store(self.data / "jobs.sqlite")
            for job in self._store.all():
                if job.status == "running":
                    job = replace(job, status="queued")
                self._jobs[job.id], self._changed[job.id] = job, asyncio.Event()
        except BaseException:
            self._lock.release()
            raise
        self._sweep()
        self._loop = asyncio.create_task(self._work_off(), name="compiles")

    async def close(self) -> None:
        """Stop the compile that runs, which the next start goes on with, and let all listeners go."""
        self.let_go()
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None
        if self._store is not None:
            for job in self._jobs.values():
                self._keep(job)
            self._store.close()
            self._store = None
        self._lock.release()

    def let_go(self) -> None:
        """End what listens to changes: the server stops, and waits for its connections to end."""
        self._closed = True
        for changed in self._changed.values():
            changed.set()

    def _sweep(self) -> None:
        """Remove what a killed server left half-written, and what belongs to no document any more."""
        uploads = {self.upload_of(job) for job in self._jobs.values()}
        for path in self.uploads.iterdir():
            if path not in uploads:
                path.unlink(missing_ok=True)
        work = {self.work_of(job).name for job in self._jobs.values() if job.status != "ready"}
        folders = self.data / "work"
        for folder in folders.iterdir() if folders.is_dir() else ():
            if folder.name.removesuffix(".lock") not in work:
                _remove(folder)

    # --- documents ------------------------------------------------------------------------------------

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

    def usable(self, job: Job) -> bool:
        """Whether the document can be asked already."""
        return self.artifact_of(job).is_file()

    def artifact_of(self, job: Job) -> Path:
        """Say where a document's σ goes."""
        return self.library / f"{job.name}.precis"

    def upload_of(self, job: Job) -> Path:
        """Say where the uploaded file is."""
        return self.uploads / f"{job.id}{job.suffix}"

    def work_of(self, job: Job) -> Path:
        """Say where unfinished work is."""
        return self.data / "work" / job.key

    def free_name(self, wanted: str) -> str:
        """Give the name, or the name with the first number behind it, that no document has."""
        taken = {job.name.casefold() for job in self._jobs.values()}
        taken |= {path.stem.casefold() for path in self.library.glob("*.precis")}
        name, number = wanted, 1
        while name.casefold() in taken:
            number += 1
            tail = f"-{number}"
            name = wanted[: LONGEST_NAME - len(tail)] + tail
        return name

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
        job = replace(job, name=self.free_name(job.name))
        self._jobs[job.id], self._changed[job.id] = job, asyncio.Event()
        try:
            await asyncio.to_thread(self._open_store.put, job, durable=True)
        except BaseException:
            self._forget(job.id)
            raise
        self._wake.set()
        return job

    def check_room(self) -> None:
        """Refuse more than may wait.

        Raises
        ------
        QueueFullError
            So many wait already.
        """
        waiting = sum(job.status == "queued" for job in self._jobs.values())
        if waiting >= self.most_waiting:
            raise QueueFullError(
                f"{waiting} documents wait to be compiled, which is as many as may. Try again later."
            )

    async def changes(self, id: str) -> AsyncIterator[Job]:
        """Give a document at once, and whenever it has changed, up to its final status.

        Whoever is slow misses what came between, and holds nothing up. It ends where the document is deleted
        or the server stops.
        """
        while id in self._jobs and not self._closed:
            job, changed = self._jobs[id], self._changed[id]
            yield job
            if job.is_final:
                return
            await changed.wait()

    async def cancel(self, id: str) -> Job:
        """Stop a document's compile; what it has published stays. One that has ended stays as it is."""
        job = self.get(id)
        if job.is_final:
            return job
        await self._stop(id)
        job = self.get(id)
        if not job.is_final:
            job = self._change(id, status="cancelled", stage=None, seconds_left=None, finished_at=_now())
        return job

    async def delete(self, id: str) -> None:
        """Remove a document with all that was kept of it; a compile that runs is stopped.

        Raises
        ------
        StorageError
            Something cannot be removed.
        """
        await self.cancel(id)
        job = self.get(id)
        try:
            for path in (self.artifact_of(job), self.upload_of(job)):
                await asyncio.to_thread(path.unlink, missing_ok=True)
            await asyncio.to_thread(self._remove_work, job)
        except OSError as error:
            raise StorageError(f"{job.name} cannot be removed: {error.strerror}.") from error
        await asyncio.to_thread(self._open_store.delete, id)
        self._forget(id)

    def _forget(self, id: str) -> None:
        self._jobs.pop(id, None)
        self._kept_at.pop(id, None)
        if (changed := self._changed.pop(id, None)) is not None:
            changed.set()

    def _remove_work(self, job: Job) -> None:
        """Remove a document's unfinished work, unless another document of the same content needs it."""
        if not any(
            other.key == job.key and other.id != job.id and other.status != "ready"
            for other in self._jobs.values()
        ):
            _remove(self.work_of(job))
            _remove(self.work_of(job).with_name(f"{job.key}.lock"))

    # --- compiling ------------------------------------------------------------------------------------

    async def _work_off(self) -> None:
        """Compile what is queued, one after the other; nothing that goes wrong with one ends this."""
        while True:
            job = next((job for job in self._jobs.values() if job.status == "queued"), None)
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
        self._change(id, status="running", error=None)
        for attempt in range(1, ATTEMPTS + 1):
            code = await self._attempt(id)
            job = self.get(id)
            if job.is_final or id in self._stopping:
                break
            _log.warning("the compile of document %s ended with exit code %s (attempt %d)", id, code, attempt)
        else:
            self._fail(
                id,
                f"The compile's process ended {ATTEMPTS} times without saying why (exit code {code}). A "
                "killed process often wanted more memory than there is: try a shorter document or a smaller "
                "model. What was finished is kept: the same file uploaded again goes on from there.",
            )
        if self.get(id).status == "ready":
            await asyncio.to_thread(self._remove_work, self.get(id))

    async def _attempt(self, id: str) -> int:
        """Run the process of one compile to its end."""
        job = self.get(id)
        for left in self.library.glob(f".{job.name}.precis.*"):  # half-written by a process that was killed
            left.unlink(missing_ok=True)
        work = self.work_of(job)
        work.mkdir(parents=True, exist_ok=True)
        with (work / f"{job.id}.log").open("ab") as log:
            # in a session of its own: Ctrl-C is for the server, which then stops it
            process = await asyncio.create_subprocess_exec(
                *COMPILE_COMMAND,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                limit=LONGEST_LINE,
                env={**GIVING_WAY, **os.environ},
                start_new_session=True,
            )
        self._running = id, process
        spent, start = job.seconds_spent, time.monotonic()
        try:
            if id in self._stopping:  # since before there was a process
                process.kill()
            await self._tell(process, job)
            async for line in _lines_of(process):
                self._on_line(id, line, spent + time.monotonic() - start)
            return await process.wait()
        finally:
            await _end(process)
            self._running = None

    async def _tell(self, process: Process, job: Job) -> None:
        """Say what to compile. Its input stays open as long as this server lives: it ends with that."""
        order = {
            "upload": str(self.upload_of(job)),
            "filename": job.filename,
            "target": str(self.artifact_of(job)),
            "work": str(self.work_of(job)),
            "lock": str(self.work_of(job).with_name(f"{job.key}.lock")),
            "mark": job.id,
            "model": self.model,
            "settings": dict(job.settings),
            "questions": job.questions,
        }
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()

    def _on_line(self, id: str, line: bytes, spent: float) -> None:
        """Take in what the process of a compile says."""
        try:
            said = json.loads(line)
            changes = {name: said[name] for name in _REPORTED & said.keys()}
        except (ValueError, AttributeError, TypeError):
            _log.warning("the compile of document %s said something that is no progress", id)
            return
        if "curve" in changes:
            changes["curve"] = tuple((int(step), float(value)) for step, value in changes["curve"])
        if (note := said.get("note")) and note not in self.get(id).notes:
            changes["notes"] = (*self.get(id).notes, note)
        if changes.get("status") in FINAL:
            changes |= {"stage": None, "seconds_left": None, "finished_at": _now()}
        self._change(id, **changes, seconds_spent=round(spent, 1))

    async def _stop(self, id: str) -> None:
        """End the process of a document's compile, if it has one, and wait until it has."""
        self._stopping.add(id)
        try:
            if self.get(id).status == "running":
                if self._running is not None and self._running[0] == id:
                    with contextlib.suppress(ProcessLookupError):
                        self._running[1].kill()
                await self._idle.wait()
        finally:
            self._stopping.discard(id)

    def _fail(self, id: str, error: str) -> None:
        if id in self._jobs:
            self._change(id, status="failed", error=error, stage=None, seconds_left=None, finished_at=_now())

    # --- state ----------------------------------------------------------------------------------------

    def _change(self, id: str, **changes: Any) -> Job:
        """Change a document, keep it, and wake whoever listens."""
        before = self._jobs[id]
        job = self._jobs[id] = replace(before, **changes)
        changed, self._changed[id] = self._changed[id], asyncio.Event()
        changed.set()
        now = time.monotonic()
        waited = now - self._kept_at.get(id, -math.inf) >= SECONDS_BETWEEN_WRITES
        if waited or (job.status, job.curve) != (before.status, before.curve):
            self._keep(job)
            self._kept_at[id] = now
        return job

    def _keep(self, job: Job) -> None:
        """Write a document's state; where that fails, the state in memory goes on."""
        try:
            self._open_store.put(job)
        except StorageError as error:
            _log.warning("the state of document %s is not kept: %s", job.id, error)

    @property
    def _open_store(self) -> _Store:
        if self._store is None:
            raise StorageError("The queue is closed: the server is stopping.")
        return self._store


# What a compile's process may change of its document.
_REPORTED = {"status", "stage", "done", "total", "curve", "seconds_left", "error"}


class _Store:
    """Documents in an SQLite file, each as one JSON value, in the order in which they came."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS documents (place INTEGER PRIMARY KEY, id TEXT UNIQUE, state TEXT)"
            )
        except sqlite3.Error as error:
            raise self._error("opened", error) from error

    def all(self) -> list[Job]:
        """Give all documents, the oldest first."""
        try:
            rows = self._database.execute("SELECT state FROM documents ORDER BY place").fetchall()
            return [_job(json.loads(state)) for (state,) in rows]
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._error("read", error) from error

    def put(self, job: Job, *, durable: bool = False) -> None:
        """Write a document; `durable`: so that not even a power cut loses it."""
        state = json.dumps(asdict(job))
        with self._lock:
            try:
                if durable:
                    self._database.execute("PRAGMA synchronous=FULL")
                self._database.execute(
                    "INSERT INTO documents (id, state) VALUES (?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET state = excluded.state",
                    (job.id, state),
                )
            except sqlite3.Error as error:
                raise self._error("written", error) from error
            finally:
                if durable:
                    self._database.execute("PRAGMA synchronous=NORMAL")

    def delete(self, id: str) -> None:
        """Remove a document."""
        with self._lock:
            try:
                self._database.execute("DELETE FROM documents WHERE id = ?", (id,))
            except sqlite3.Error as error:
                raise self._error("written", error) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _error(self, done: str, error: Exception) -> StorageError:
        return StorageError(
            f"The queue {self._path} cannot be {done}: {error}. Make room if the disk is full; if the file "
            "is damaged, move it away and start again: the compiled documents are not in it."
        )


def _job(values: dict[str, Any]) -> Job:
    """Read a document as it was kept."""
    known = {name: values[name] for name in {item.name for item in fields(Job)} & values.keys()}
    known["curve"] = tuple((step, value) for step, value in known.get("curve", ()))
    known["questions"] = tuple(known.get("questions", ()))
    known["notes"] = tuple(known.get("notes", ()))
    return Job(**known)


async def _lines_of(process: Process) -> AsyncIterator[bytes]:
    """Give what a process writes, line by line; one that is too long ends it."""
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            yield line
    except ValueError:
        _log.warning("a compile wrote a line that is too long")


async def _end(process: Process) -> None:
    """Make sure that a process is gone, also where the waiting for it was cancelled."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await asyncio.shield(process.wait())
    if process.stdin is not None:
        process.stdin.close()


async def unreadable(path: Path, filename: str) -> str | None:
    """Say why an upload cannot be read, or None; it is read in a process of its own, which has limits.

    A file made to break its reader then breaks that process, not the server.
    """
    process = await asyncio.create_subprocess_exec(
        *CHECK_COMMAND,
        os.fspath(path),
        filename,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), READING_SECONDS)
        reason = json.loads(said)["error"]
        return None if reason is None else str(reason)
    except TimeoutError:
        return (
            f"{filename}: it takes longer than {READING_SECONDS:.0f} seconds to read; give it as plain text"
        )
    except (ValueError, KeyError, TypeError):
        return (
            f"{filename}: reading it failed; it is damaged, or needs too much memory. Give it as plain text"
        )
    finally:
        await _end(process)


def _remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _now() -> int:
    return int(time.time())
