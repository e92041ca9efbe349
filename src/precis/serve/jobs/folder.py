"""Where everything of a library's documents is: uploads, unfinished work, compiled files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from precis.errors import SettingsError, StorageError
from precis.serve.jobs.job import LONGEST_NAME, Job

DATA_FOLDER = ".precis-serve"


class JobFolder:
    """The files of a library's documents.

    Parameters
    ----------
    library
        The folder that `.precis` files go to. What is kept besides stands below it, in `DATA_FOLDER`.
    """

    def __init__(self, library: Path) -> None:
        self.library = library.absolute()
        self.data = self.library / DATA_FOLDER
        self.uploads = self.data / "uploads"
        self.database = self.data / "jobs.sqlite"
        self._work = self.data / "work"
        self._lock = FileLock(self.data / "lock", thread_local=False)

    def acquire(self) -> None:
        """Make the folders, and keep other servers out.

        Raises
        ------
        SettingsError
            Another server has this library.
        StorageError
            The folder cannot be written to.
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

    def release(self) -> None:
        """Let other servers have the library."""
        self._lock.release()

    def artifact_of(self, job: Job) -> Path:
        """Give where a document's σ goes."""
        return self.library / f"{job.name}.precis"

    def upload_of(self, job: Job) -> Path:
        """Give where the uploaded file is."""
        return self.uploads / f"{job.id}{job.suffix}"

    def work_of(self, job: Job) -> Path:
        """Give where unfinished work is."""
        return self._work / job.key

    def lock_of(self, job: Job) -> Path:
        """Give the lock that a compile holds on the unfinished work."""
        return self._work / f"{job.key}.lock"

    def has_published(self, job: Job) -> bool:
        """Whether the file of a document's name was written by its compile, and is not somebody else's."""
        mark = self.work_of(job) / f"{job.id}.published"  # there as long as the work is kept
        return (job.published or mark.exists()) and self.artifact_of(job).is_file()

    def free_name(self, wanted: str, jobs: Iterable[Job]) -> str:
        """Give the name, or the name with the first number behind it, that no document has."""
        taken = {job.name.casefold() for job in jobs}
        taken |= {path.stem.casefold() for path in self.library.glob("*.precis")}
        name, number = wanted, 1
        while name.casefold() in taken:
            number += 1
            tail = f"-{number}"
            name = wanted[: LONGEST_NAME - len(tail)] + tail
        return name

    def sweep(self, jobs: Iterable[Job]) -> None:
        """Remove what a killed server left half-written, and what belongs to no document any more."""
        kept = list(jobs)
        uploads = {self.upload_of(job) for job in kept}
        for path in self.uploads.iterdir():
            if path not in uploads:
                path.unlink(missing_ok=True)
        keys = {job.key for job in kept if job.status != "ready"}
        for path in self._work.iterdir() if self._work.is_dir() else ():
            if path.name.removesuffix(".lock") not in keys:
                _remove(path)

    def sweep_artifact(self, job: Job) -> None:
        """Remove what a killed compile left half-written beside a document's σ."""
        for left in self.library.glob(f".{job.name}.precis.*"):
            left.unlink(missing_ok=True)

    def remove_work(self, job: Job, jobs: Iterable[Job]) -> None:
        """Remove a document's unfinished work, unless another of the same content still needs the work."""
        if not any(other.key == job.key and other.id != job.id and other.status != "ready" for other in jobs):
            _remove(self.work_of(job))
            _remove(self.lock_of(job))

    def remove_files(self, job: Job) -> None:
        """Remove a document's σ, where it is the document's, and its upload."""
        if self.has_published(job):
            self.artifact_of(job).unlink(missing_ok=True)
        self.upload_of(job).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
