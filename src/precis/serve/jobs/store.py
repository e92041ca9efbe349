"""The queue on disk: documents in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

from precis.errors import StorageError
from precis.serve.jobs.job import Job


class JobStore:
    """Documents in an SQLite file, each as one JSON value, in the order in which they came.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    StorageError
        The file cannot be opened, or is damaged.
    """

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
        """Give all documents, the oldest first.

        Raises
        ------
        StorageError
            The file is damaged.
        """
        try:
            rows = self._database.execute("SELECT state FROM documents ORDER BY place").fetchall()
            return [Job.from_json(json.loads(state)) for (state,) in rows]
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._error("read", error) from error

    def put(self, job: Job, *, durable: bool = False) -> None:
        """Write a document; `durable`: even a power cut does not lose the state.

        Raises
        ------
        StorageError
            The disk is full, or the file cannot be written to.
        """
        state = json.dumps(job.to_json())
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
        """Remove a document.

        Raises
        ------
        StorageError
            The file cannot be written to.
        """
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
