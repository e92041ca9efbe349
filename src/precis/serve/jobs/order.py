"""What a compile's process is asked to do, as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from precis.serve.jobs.folder import JobFolder
from precis.serve.jobs.job import Job


@dataclass(frozen=True)
class Order:
    """What to compile, and where everything is.

    Parameters
    ----------
    upload, filename
        Where the server keeps the file, and the client's name of the file.
    target
        Where σ goes.
    work, lock
        Where unfinished work is, and the lock that guards the work.
    mark
        Names the document; in the work folder it says that `target` is ours to write.
    model
        As for `load_model`.
    settings
        Those of `Settings` that were given.
    questions
        The client's own, to train on beside those of self-study.
    """

    upload: Path
    filename: str
    target: Path
    work: Path
    lock: Path
    mark: str
    model: str | None
    settings: dict[str, Any]
    questions: Sequence[str]

    @classmethod
    def of(cls, job: Job, folder: JobFolder, model: str | None) -> Order:
        """Give the order for a document."""
        return cls(
            upload=folder.upload_of(job),
            filename=job.filename,
            target=folder.artifact_of(job),
            work=folder.work_of(job),
            lock=folder.lock_of(job),
            mark=job.id,
            model=model,
            settings=dict(job.settings),
            questions=job.questions,
        )

    def to_json(self) -> str:
        """Write an order."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, line: str) -> Order:
        """Read an order."""
        values: dict[str, Any] = json.loads(line)
        for name in ("upload", "target", "work", "lock"):
            values[name] = Path(values[name])
        return cls(**values)
