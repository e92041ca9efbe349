"""A document that was uploaded, and how far its compile is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from precis.errors import PrecisError

Status = Literal["queued", "running", "ready", "failed", "cancelled"]
FINAL = ("ready", "failed", "cancelled")
LONGEST_NAME = 80


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
        Made by the server; also the name of the upload.
    name
        What it is asked by: the stem of its `.precis` file.
    filename, bytes, key
        The file that was uploaded: its name as the client gave it, which is never used as a path, its size,
        and a key of its content. Documents of the same content share their work.
    suffix
        The upload's, which decides the reader.
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
    published
        Whether the compile has written its `.precis` file: only then is the file of that name the document's.
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
    status: Status = "queued"
    stage: str | None = None
    done: int = 0
    total: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    published: bool = False
    seconds_spent: float = 0.0
    seconds_left: float | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    finished_at: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether the status will not change any more."""
        return self.status in FINAL

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """Read what `to_json` gave; fields of other versions are left out.

        Raises
        ------
        TypeError, ValueError
            Fields are missing, or of other types.
        """
        known = {name: values[name] for name in {item.name for item in fields(cls)} & values.keys()}
        # earlier versions did not keep it: a curve came with every file that was written
        known.setdefault("published", known.get("status") == "ready" or bool(known.get("curve")))
        known["curve"] = tuple((step, value) for step, value in known.get("curve", ()))
        known["questions"] = tuple(known.get("questions", ()))
        known["notes"] = tuple(known.get("notes", ()))
        return cls(**known)


def ended(status: Status, error: str | None = None) -> dict[str, Any]:
    """Give the changes to a document whose compile has ended."""
    changes: dict[str, Any] = {
        "status": status,
        "stage": None,
        "seconds_left": None,
        "finished_at": int(time.time()),
    }
    return changes if error is None else {**changes, "error": error}
