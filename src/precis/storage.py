"""Writing files whole, and the work folder: what each stage made, for a run that goes on or another one.

Every file is written under a temporary name and renamed when whole. A file's name carries a key made
of everything that its content depends on: a change of settings finds other files, never stale ones.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from precis.errors import StorageError


def cache_folder() -> Path:
    """Where precis keeps what it can make again; `PRECIS_CACHE` overrides the system's place."""
    return Path(os.environ.get("PRECIS_CACHE") or platformdirs.user_cache_dir("precis"))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; what stood there before stays until then.

    Raises
    ------
    StorageError
        The disk is full, or the folder cannot be written to.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise StorageError(
            f"{path} cannot be written: {reason}. Make room or choose another place, and run the same "
            "command again: it goes on from what is already there."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def key_of(*parts: object) -> str:
    """Give a short name for everything that a stage's result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


class WorkFolder:
    """A folder of finished pieces of work.

    Parameters
    ----------
    path
        It is made when the first piece is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_json(self, name: str, value: object) -> None:
        """Keep a JSON value."""
        write_atomically(self.path / f"{name}.json", json.dumps(value, ensure_ascii=False).encode())

    def read_json(self, name: str) -> Any | None:
        """Give it back; None if it is not there or not readable."""
        try:
            return json.loads((self.path / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def write_tensors(self, name: str, tensors: dict[str, Tensor], note: object = None) -> None:
        """Keep tensors, with a JSON value beside them."""
        content = save(tensors, metadata={"note": json.dumps(note, ensure_ascii=False)})
        write_atomically(self.path / f"{name}.safetensors", content)

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], Any] | None:
        """Give them back; None if they are not there or not readable."""
        path = self.path / f"{name}.safetensors"
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                note = json.loads((file.metadata() or {}).get("note", "null"))
        except (OSError, ValueError, SafetensorError):
            return None
        return tensors, note
