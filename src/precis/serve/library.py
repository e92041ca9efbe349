"""The library: the `.precis` files of a folder, by name.

What is in the folder counts, at every moment: files may be added, replaced and removed while the server
runs. One that is damaged, or for another model, is kept apart with its reason; the other
files stay usable. An answer that has begun goes on with the σ that it began with.
"""

from __future__ import annotations

import difflib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open

from precis.artifact import Artifact
from precis.calibration import Calibration
from precis.errors import PrecisError, SettingsError
from precis.manifest import Manifest
from precis.model.chat import Chat
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.serve.engine.engine import ClosingError
from precis.serve.logs import log
from precis.text.document import Document
from precis.text.passages import Passages

SUFFIX = ".precis"
# Memory that a character of a kept text takes, with the index of its passages.
TEXT_BYTES = 12
# Names that an error tells, where there are more.
NAMES_TOLD = 10


# Runs something that needs the model where the model may be run.
Call = Callable[[Callable[[], Prefix]], "Future[Prefix]"]


class UnknownDocumentError(PrecisError, LookupError):
    """The library has no document of this name."""


class BrokenDocumentError(PrecisError):
    """The library has a file of this name, which cannot be used."""


@dataclass(frozen=True)
class Stamp:
    """What tells that a file is another one than before."""

    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Take it from a file's status."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Entry:
    """A file of the folder.

    Parameters
    ----------
    name
        What the document is called: the file's name without `.precis`.
    path, stamp
        Where it is, and as it was when it was looked at.
    manifest
        What it says that it is; None where it is broken.
    text_kept
        Whether it keeps the document's text.
    reason
        Why it is broken.
    """

    name: str
    path: Path
    stamp: Stamp
    manifest: Manifest | None = None
    text_kept: bool = False
    reason: str = ""

    @property
    def usable(self) -> bool:
        """Whether it can be asked."""
        return self.manifest is not None

    @property
    def created(self) -> int:
        """When the file was written, in seconds since 1970."""
        return self.stamp.modified_ns // 10**9


@dataclass
class Opened:
    """A document that can be asked.

    Parameters
    ----------
    entry
        The file it is from.
    manifest
        What it is.
    prefix
        σ, where the model is.
    calibration
        Gives answers from σ their confidence.
    document, passages
        The text, and what is recalled from it, where it is kept.
    chat
        Tokenises the text; for the library's thread alone.
    """

    entry: Entry
    manifest: Manifest
    prefix: Prefix
    calibration: Calibration | None
    document: Document | None
    passages: Passages | None
    chat: Chat = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        prefix = self.prefix
        bias = 0 if prefix.bias is None else prefix.bias.nbytes
        text = 0 if self.document is None else TEXT_BYTES * len(self.document.text)
        return prefix.keys.nbytes + prefix.values.nbytes + prefix.positions.nbytes + bias + text

    @cached_property
    def reading(self) -> list[int]:
        """The tokens of the whole document, as the model reads it before a question."""
        assert self.document is not None
        return self.chat.document_prompt(self.document.text)


class Library:
    """The documents of a folder. All but `entries` is for one thread at a time.

    Parameters
    ----------
    folder
        Where the files are.
    model
        What they must have been compiled for.
    chat
        Tokenises their texts; nothing else may use its tokenizer at the same time.
    call
        Runs what needs the model.
    most_bytes
        The most memory for documents that are kept open; the last one used is kept in any case.
    """

    def __init__(
        self, folder: Path, model: LanguageModel, chat: Chat, call: Call, *, most_bytes: int
    ) -> None:
        self.folder = folder
        self.model = model
        self._chat = chat
        self._call = call
        self._most_bytes = most_bytes
        self._entries: dict[str, Entry] = {}
        self._opened: OrderedDict[str, Opened] = OrderedDict()

    @property
    def entries(self) -> dict[str, Entry]:
        """All files, broken ones included, as they last were; from any thread."""
        return self._entries

    @property
    def open_bytes(self) -> int:
        """Memory of the documents that are kept open."""
        return sum(opened.nbytes for opened in list(self._opened.values()))

    def refresh(self) -> None:
        """Look at the folder again, and into the files that are new or changed."""
        found: dict[str, Entry] = {}
        for path, status in _files(self.folder):
            name = path.name.removesuffix(SUFFIX)
            known = self._entries.get(name)
            stamp = Stamp.of(status)
            found[name] = known if known and known.stamp == stamp else self._look_into(name, path, stamp)
        self._entries = dict(sorted(found.items()))
        for name in [name for name, opened in self._opened.items() if found.get(name) is not opened.entry]:
            del self._opened[name]

    def open(self, name: str) -> Opened:
        """Give a document by its name, as it is now.

        Raises
        ------
        UnknownDocumentError
            There is no such document; the message lists the names that exist.
        BrokenDocumentError
            Its file cannot be used; the message says why.
        """
        entry = self._entries.get(name)
        if entry is None or not _is_as_before(entry):
            self.refresh()
            entry = self._entries.get(name)
        if entry is None:
            raise UnknownDocumentError(self._unknown(name))
        if not entry.usable:
            raise BrokenDocumentError(f"The document {name} cannot be asked. {entry.reason}")
        opened = self._opened.get(name)
        if opened is None:
            opened = self._load(entry)
            self._opened[name] = opened
        self._opened.move_to_end(name)
        while len(self._opened) > 1 and self.open_bytes > self._most_bytes:
            self._opened.popitem(last=False)
        return opened

    def _load(self, entry: Entry) -> Opened:
        try:
            artifact = Artifact.open(entry.path)
            prefix = self._call(lambda: artifact.prefix(self.model)).result()
            document = artifact.document()
        except ClosingError:
            raise
        except PrecisError as error:
            self._entries = {**self._entries, entry.name: _broken(entry, error)}
            raise BrokenDocumentError(
                f"The document {entry.name} cannot be asked. {self._entries[entry.name].reason}"
            ) from error
        passages = None if document is None else Passages(document, self._chat)
        return Opened(entry, artifact.manifest, prefix, artifact.calibration, document, passages, self._chat)

    def _look_into(self, name: str, path: Path, stamp: Stamp) -> Entry:
        entry = Entry(name, path, stamp)
        try:
            artifact = Artifact.open(path)
            artifact.check(self.model)
        except Exception as error:  # whatever a file holds, the other files stay usable
            return _broken(entry, error)
        return replace(entry, manifest=artifact.manifest, text_kept=artifact.keeps_text)

    def _unknown(self, name: str) -> str:
        names = [entry.name for entry in self._entries.values() if entry.usable]
        if not names:
            return f"There is no document {name!r}: the library is empty. Compile one into it first."
        named = names
        if len(names) > NAMES_TOLD:
            near = difflib.get_close_matches(name, names, NAMES_TOLD, 0.5)
            named = (near + [other for other in names if other not in near])[:NAMES_TOLD]
        more = f" and {len(names) - len(named)} more (GET /v1/models)" if len(named) < len(names) else ""
        return f"There is no document {name!r}. There is: {', '.join(named)}{more}."


def _broken(entry: Entry, error: Exception) -> Entry:
    known = isinstance(error, PrecisError)
    reason = str(error) if known else f"The file is damaged ({type(error).__name__}). Compile it again."
    # clients need not know where the library lies
    reason = reason.replace(str(entry.path), entry.path.name)
    log.warning("%s is left out: %s", entry.path.name, reason)
    return replace(entry, reason=reason)


def _is_as_before(entry: Entry) -> bool:
    try:
        return Stamp.of(entry.path.stat()) == entry.stamp
    except OSError:
        return False


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """List the files of a folder that may be documents; hidden ones are still being written."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX) or entry.name.startswith("."):
                    continue
                try:
                    if entry.is_file():
                        found.append((folder / entry.name, entry.stat()))
                except OSError:
                    continue  # gone in this moment
    except OSError as error:
        log.error("The library %s cannot be read: %s", folder, error.strerror)
    return found


def model_of(folder: Path, wanted: str | None = None) -> str | None:
    """Give the model to serve a folder with: the wanted one, or the one that its files were compiled for.

    None where nothing says which.

    Raises
    ------
    SettingsError
        There is no such folder, or its files are for different models and none is wanted.
    """
    if not folder.is_dir():
        raise SettingsError(
            f"There is no folder {folder}. Make it, and put .precis files into it (see precis compile)."
        )
    if wanted is not None:
        return wanted
    names: dict[str, str] = {}
    for path, _ in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names.setdefault(json.loads(file.metadata()["precis"])["model"]["name"], path.name)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            continue
    if len(names) > 1:
        named = "; ".join(f"{file} for {name}" for name, file in sorted(names.items()))
        raise SettingsError(
            f"The files in {folder} were compiled for different models ({named}). A server has one model: "
            "say which; files for others are then left out.",
            settings=("model",),
        )
    return next(iter(names), None)
