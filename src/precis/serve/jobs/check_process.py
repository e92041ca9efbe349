"""Running the process that reads an upload once: the server's side."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from precis.serve.jobs.compile_process import end

CHECK_COMMAND = (sys.executable, "-m", "precis.serve.jobs.check_upload")
READING_SECONDS = 120.0


async def unreadable(path: Path, filename: str) -> str | None:
    """Say why an upload cannot be read, or None; it is read in a process of its own, which has limits.

    A file made to break its reader then breaks that process, not the server.

    Parameters
    ----------
    path
        Where the upload is.
    filename
        The client's name of the file.
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
        output, _ = await asyncio.wait_for(process.communicate(), READING_SECONDS)
        reason = json.loads(output)["error"]
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
        await end(process)
