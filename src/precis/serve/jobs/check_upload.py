"""Reading an upload once, in a process of its own: `python -m precis.serve.jobs.check_upload PATH NAME`.

It prints one JSON object: `error` says why the file cannot be read, or is null. Memory is limited: a few
kilobytes that unpack to gigabytes must not bring the machine down.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from precis.errors import DocumentError
from precis.text.document import Document, read

MOST_MEMORY = 4 * 2**30
# About fifteen thousand pages: more is no document to compile in one piece.
MOST_CHARACTERS = 30_000_000


def main() -> None:
    """Read, and print the result."""
    path, name = Path(sys.argv[1]), sys.argv[2]
    _limit_memory()
    print(json.dumps({"error": _error(path, name)}))


def _error(path: Path, name: str) -> str | None:
    try:
        document: Document = read(path)
    except DocumentError as error:
        return str(error).replace(str(path), name)
    except MemoryError:
        return f"{name}: it unpacks to more than can be read; give it as plain text, or in parts"
    if len(document.text) > MOST_CHARACTERS:
        return (
            f"{name}: its text has {len(document.text):,} characters, and {MOST_CHARACTERS:,} are the most; "
            "give it in parts"
        )
    return None


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


if __name__ == "__main__":
    main()
