"""Running the process of one compile: the server's side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from precis.model.runtime import GIVING_WAY
from precis.serve.jobs.job import FINAL, Job, ended
from precis.serve.jobs.order import Order

COMPILE_COMMAND = (sys.executable, "-m", "precis.serve.jobs.compile_job")
LONGEST_LINE = 2**20
# What a compile's process may change of its document.
REPORTED = frozenset({"status", "stage", "done", "total", "curve", "seconds_left", "error"})

_log = logging.getLogger(__name__)


class CompileProcess:
    """A process that compiles one document, and reports its progress by lines of JSON.

    It gets its order on standard input, which stays open as long as the server lives: the process ends with
    the server.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, log: Path) -> CompileProcess:
        """Start a process that waits for its order.

        Parameters
        ----------
        log
            The file that its standard error is added to.

        Raises
        ------
        OSError
            It cannot be started, or the log cannot be written to.
        """
        with log.open("ab") as errors:
            # in a session of its own: Ctrl-C is for the server, which then stops the process
            process = await asyncio.create_subprocess_exec(
                *COMPILE_COMMAND,
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                limit=LONGEST_LINE,
                env={**GIVING_WAY, **os.environ},
                start_new_session=True,
            )
        return cls(process)

    async def send(self, order: Order) -> None:
        """Send what to compile; a process that has ended already is left to `wait`."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(order.to_json().encode() + b"\n")
            await self._process.stdin.drain()

    async def lines(self) -> AsyncIterator[bytes]:
        """Give what the process writes, line by line; a line that is too long ends the iteration."""
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                yield line
        except ValueError:
            _log.warning("a compile wrote a line that is too long")

    async def wait(self) -> int:
        """Wait for its end; give its exit code."""
        return await self._process.wait()

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Make sure that the process is gone, also where the waiting for its end was cancelled."""
        await end(self._process)


def reported_changes(line: bytes, job: Job) -> dict[str, Any]:
    """Give what a line of a compile's process changes of its document.

    Raises
    ------
    ValueError, AttributeError, TypeError
        The line holds no progress.
    """
    report = json.loads(line)
    changes = {name: report[name] for name in REPORTED & report.keys()}
    if "curve" in changes:
        changes["curve"] = tuple((int(step), float(value)) for step, value in changes["curve"])
        changes["published"] = True  # it comes with every file that was written
    if (note := report.get("note")) and note not in job.notes:
        changes["notes"] = (*job.notes, note)
    if changes.get("status") in FINAL:
        changes |= ended(changes["status"])
    return changes


async def end(process: Process) -> None:
    """Make sure that a process is gone, also where the waiting for its end was cancelled."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await asyncio.shield(process.wait())
    if process.stdin is not None:
        process.stdin.close()
