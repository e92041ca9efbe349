"""One compile, in a process of its own: `python -m precis.serve.jobs.compile_job`.

It gets its order as one line of JSON on standard input, and ends when that input ends, which it does when the
server dies. On standard output it says how it goes, one JSON object a line: what has changed of the document.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

from filelock import FileLock, Timeout

from precis.artifact import Artifact
from precis.compilation.pipeline import compile as compile_document
from precis.compilation.progress import Progress
from precis.compilation.settings import Settings
from precis.compilation.stages import SHARES, Stage
from precis.errors import PrecisError, StorageError
from precis.measures import recovery
from precis.model.loading import load_model
from precis.model.runtime import keep_freed_memory
from precis.serve.jobs.order import Order
from precis.storage import write_atomically
from precis.text.document import Document, read

# Answers come before compiles, where both want the processor.
NICENESS = 10
# A process of the same document that still runs has lost its server and ends within moments.
LOCK_SECONDS = 120.0


def main() -> None:
    """Compile what standard input says."""
    order = Order.from_json(sys.stdin.readline())
    progress = ProgressLines(_own_output())
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICENESS)
    keep_freed_memory()
    try:
        with FileLock(order.lock, timeout=LOCK_SECONDS):
            run(order, progress)
    except Timeout:
        progress.report(
            status="failed", error="Another process still compiles this document. Try again later."
        )
    except (PrecisError, OSError) as error:
        progress.report(status="failed", error=_for_a_client(error, order))
    except MemoryError:
        progress.report(
            status="failed",
            error="The compile needs more memory than there is. Try a shorter document or a smaller model.",
        )
    except Exception as error:
        traceback.print_exc()
        progress.report(
            status="failed",
            error=f"The compile ended with an error of its own ({type(error).__name__}). Its log is "
            f"{order.mark}.log in the server's work folder.",
        )


def run(order: Order, progress: ProgressLines) -> None:
    """Compile, and publish every σ that is better than the one before.

    Raises
    ------
    PrecisError
        It cannot be done; the message says why.
    """
    document = _named(read(order.upload), order.filename)
    for notice in document.notices:
        progress.note(notice.replace(order.upload.name, order.filename))
    for skipped in document.skipped:
        progress.note(f"Left out: {skipped.replace(order.upload.name, order.filename)}")
    model = load_model(order.model)
    settings = Settings(**order.settings)
    progress.minutes = settings.minutes
    publisher = Publisher(order, progress)
    artifact = compile_document(
        document,
        model=model,
        questions=order.questions,
        settings=settings,
        work=order.work,
        publish=publisher.publish,
        publish_first=not publisher.has_published,
        progress=progress,
    )
    publisher.publish(artifact)
    progress.report(status="ready")


class Publisher:
    """Puts σ into the library, each in the place of the one before."""

    def __init__(self, order: Order, progress: ProgressLines) -> None:
        self.target = order.target
        self.progress = progress
        self._mark = order.work / f"{order.mark}.published"

    @property
    def has_published(self) -> bool:
        """Whether σ can be used already, from an earlier run."""
        return self._mark.exists() and self.target.exists()

    def publish(self, artifact: Artifact) -> None:
        """Write σ, whole or not at all, and report its curve.

        Raises
        ------
        StorageError
            It cannot be written, or a file of somebody else's stands in its place.
        """
        if not self._mark.exists():
            if self.target.exists():
                raise StorageError(
                    f"A file {self.target.name} came into the library meanwhile, and is left as it is. "
                    "Upload the document again: it will get another name."
                )
            write_atomically(self._mark, b"")
        artifact.save(self.target)
        self.progress.report(curve=list(_curve(artifact)))


class ProgressLines(Progress):
    """Says how a compile goes, as lines of JSON."""

    def __init__(self, output: IO[str]) -> None:
        self.minutes: float | None = None
        self._output = output
        self._start = time.monotonic()
        self._stage, self._done = "", 0
        self._total: int | None = 0
        self._first: tuple[float, int] | None = None

    def report(self, **changes: Any) -> None:
        """Say what has changed."""
        try:
            self._output.write(json.dumps(changes) + "\n")
            self._output.flush()
        except OSError:  # nobody listens any more
            os._exit(1)

    def stage(self, name: str, total: int | None) -> None:
        """Say that a stage begins."""
        self._stage, self._done, self._total = name, 0, total
        self._first = None
        self.report(stage=name, done=0, total=total or 0, seconds_left=self.seconds_left())

    def advance(self, units: int) -> None:
        """Say how much of the stage is done."""
        self._done += units
        if self._first is None:
            self._first = time.monotonic(), self._done
        if self._total is not None:
            self._total = max(self._total, self._done)
        self.report(done=self._done, total=self._total or 0, seconds_left=self.seconds_left())

    def note(self, text: str) -> None:
        """Say what the user should know."""
        self.report(note=text)

    def seconds_left(self) -> float | None:
        """Estimate the rest: of this stage by its own speed, of the later ones by what they usually take."""
        if self._stage not in SHARES:
            return None
        stage = Stage(self._stage)
        now = time.monotonic()
        limit = None if self.minutes is None else max(0.0, self.minutes * 60 - (now - self._start))
        if self._total is None:
            return limit
        stages = list(SHARES)
        before = sum(SHARES[each] for each in stages[: stages.index(stage)])
        done = self._done / self._total if self._total else 1.0
        behind = before + SHARES[stage] * done
        whole = (now - self._start) / behind if behind > 0 else None
        rest = self._rest_of_stage(now, self._total)
        if rest is None:
            rest = None if whole is None else whole * SHARES[stage] * (1 - done)
        if rest is None or whole is None:
            return limit
        left = rest + whole * (1 - before - SHARES[stage])
        return round(left if limit is None else min(left, limit), 1)

    def _rest_of_stage(self, now: float, total: int) -> float | None:
        """Go by the units since the first: that one may stand for all that an earlier run had done."""
        if self._first is None or self._done <= self._first[1]:
            return None
        since, done = self._first
        return (now - since) / (self._done - done) * (total - self._done)


def _curve(artifact: Artifact) -> Iterator[tuple[float, float]]:
    """Give [step, recovery] for every evaluation so far."""
    fidelity, training = artifact.manifest.fidelity, artifact.manifest.training
    if fidelity is None or training is None:
        return
    for step, nll in training.held_out_nll:
        value = recovery(fidelity.nll_none, nll, fidelity.nll_full)
        if value is not None:
            yield step, round(value, 4)


def _named(document: Document, filename: str) -> Document:
    """Give a document the name that its reader knows it by."""
    pages = tuple(replace(page, source=filename) for page in document.pages)
    return replace(document, name=filename, pages=pages)


def _for_a_client(error: PrecisError | OSError, order: Order) -> str:
    """Say it to somebody who uploaded a document: no commands, and no paths of this machine."""
    cause = error.__cause__ if isinstance(error, PrecisError) else error
    if isinstance(error, OSError) and isinstance(cause, OSError):
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "has no room left on its disk" if full else f"cannot write: {cause.strerror}"
        return (
            f"The server {what}. What was finished is kept: when there is room, the same file, uploaded "
            "again, goes on from there."
        )
    text = str(error)
    for path, name in ((order.upload, order.filename), (order.target, order.target.name)):
        text = text.replace(str(path), name)
    return text.replace(f"{order.work}{os.sep}", "").replace(str(order.work), "the work folder")


def _own_output() -> IO[str]:
    """Keep standard output for progress: whatever else is printed goes to standard error."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def _end_with_the_server() -> None:
    """Wait for the end of standard input, which the server holds open as long as it lives."""
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os._exit(1)


if __name__ == "__main__":
    main()
