"""The document c: text with pages, read from the formats in which long documents come.

The same files always give the same text, character by character: its hash names the document.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from precis.errors import DocumentError
from precis.text.readers import READABLE, UnreadableError, page_texts

# Made by tools, not written by anyone: they would drown the code that they lie beside.
GENERATED_FOLDERS = {"__pycache__", "node_modules"}
BETWEEN_PAGES = "\n\n"


@dataclass(frozen=True)
class Page:
    """Where one page lies in a document's text.

    Attributes
    ----------
    source
        The file that the page is from: its name, or its path below the folder that was read.
    number
        The page's number in that file, from 1. Formats without pages have the one page 1.
    start, end
        Half-open character offsets into `Document.text`.
    """

    source: str
    number: int
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """A document as the model will read it.

    Attributes
    ----------
    name
        The name of the file or folder.
    text
        The whole normalised text (see `normalise`); never empty.
    pages
        Every page that holds text, in reading order.
    sha256
        The hexadecimal SHA-256 of the UTF-8 text: what an artefact knows its document by.
    skipped
        What could not be read although the rest could, each as "path: reason", for the user to see.
    """

    name: str
    text: str
    pages: tuple[Page, ...]
    sha256: str
    skipped: tuple[str, ...] = ()

    @classmethod
    def from_text(cls, text: str, name: str = "document") -> Document:
        """Make a document of one page from text that is already at hand.

        Raises
        ------
        DocumentError
            When the text is empty once it is normalised.
        """
        content = normalise(text)
        if not content:
            raise DocumentError(f"{name}: the text is empty; give a document that holds text")
        return _assemble(name, [(name, 1, content)])

    def page_at(self, offset: int) -> Page:
        """Return the page of the character at `offset`; what separates two pages is of the first.

        Raises
        ------
        IndexError
            When `offset` is outside of the text.
        """
        if not 0 <= offset < len(self.text):
            raise IndexError(f"offset {offset} is outside of a text of {len(self.text)} characters")
        return self.pages[bisect_right(self.pages, offset, key=lambda page: page.start) - 1]


def read(path: str | Path) -> Document:
    """Read a file, or a folder of them, into a document.

    PDF, DOCX and HTML are converted; everything else is read as text: UTF-8, or what a byte order mark
    says. A folder is read recursively in the order of the paths, each file introduced by its path below
    the folder. Hidden files, hidden folders and generated ones are left out.

    Raises
    ------
    DocumentError
        When there is no text to be had: no such path, no permission, an empty, damaged, locked, scanned
        or binary file, an unknown encoding, or a folder in which that is so of every file.
    """
    path = Path(path)
    try:
        return _read_folder(path) if path.is_dir() else _read_file(path)
    except UnreadableError as cause:
        raise DocumentError(f"{path}: {cause}") from cause
    except OSError as cause:
        raise DocumentError(f"{path}: {_system_reason(cause)}") from cause


def normalise(text: str) -> str:
    r"""Return `text` in the one form in which documents are kept and hashed.

    Line endings become `\n`; characters that no reader sees (NULs and other controls, soft hyphens,
    stray byte order marks) go; Unicode is composed (NFC); spaces at the ends of lines go, and so do blank
    lines at both ends of the text and all but two of a run of them.
    """
    text = re.sub(r"\r\n|[\r\f\v\x85\u2028\u2029]", "\n", text)
    text = re.sub(r"[\x00-\x08\x0e-\x1f\x7f\xad\ufeff\ufffe\ud800-\udfff]", "", text)
    lines = unicodedata.normalize("NFC", text).split("\n")
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def _assemble(name: str, parts: Iterable[tuple[str, int, str]], skipped: Iterable[str] = ()) -> Document:
    """Join `(source, page number, text)` parts, and note where each of them came to lie."""
    pages: list[Page] = []
    texts: list[str] = []
    start = 0
    for source, number, content in parts:
        pages.append(Page(source, number, start, start + len(content)))
        texts.append(content)
        start += len(content) + len(BETWEEN_PAGES)
    text = BETWEEN_PAGES.join(texts)
    return Document(name, text, tuple(pages), hashlib.sha256(text.encode()).hexdigest(), tuple(skipped))


def _read_file(path: Path) -> Document:
    pages = _pages(path)
    return _assemble(path.name, _parts(path.name, pages), _textless(path.name, pages))


def _read_folder(folder: Path) -> Document:
    parts: list[tuple[str, int, str]] = []
    skipped: list[str] = []
    for path in _files_below(folder, skipped):
        source = path.relative_to(folder).as_posix()
        try:
            if not path.is_file():  # a pipe would be waited for without end
                raise UnreadableError("a broken link, or not a regular file")
            pages = _pages(path)
        except UnreadableError as cause:
            skipped.append(f"{source}: {cause}")
        except OSError as cause:
            skipped.append(f"{source}: {_system_reason(cause)}")
        else:
            (_, number, first), *rest = _parts(source, pages)
            parts += [(source, number, normalise(f"File: {source}\n\n{first}")), *rest]
            skipped += _textless(source, pages)
    if not parts:
        found = "; ".join(skipped[:3]) or "it holds no file that is not hidden"
        raise UnreadableError(f"nothing in this folder can be read ({found}); put {READABLE} into it")
    return _assemble(folder.resolve().name, parts, skipped)


def _files_below(folder: Path, skipped: list[str]) -> list[Path]:
    """List the files below `folder` in order, and add the folders that cannot be listed to `skipped`."""

    def note(cause: OSError) -> None:
        below = Path(cause.filename).relative_to(folder).as_posix()
        skipped.append(f"{below}: {_system_reason(cause)}")

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if name[0] != "." and name not in GENERATED_FOLDERS]
        files += [Path(parent, name) for name in names if name[0] != "."]
    return sorted(files)


def _parts(source: str, pages: list[str]) -> list[tuple[str, int, str]]:
    return [(source, number, page) for number, page in enumerate(pages, start=1) if page]


def _textless(source: str, pages: list[str]) -> list[str]:
    """Say which pages hold no text: a scanned appendix would otherwise be lost unseen."""
    numbers = ", ".join(str(number) for number, page in enumerate(pages, start=1) if not page)
    return [f"{source}: no text on page {numbers} (blank or scanned)"] if numbers else []


def _system_reason(cause: OSError) -> str:
    if isinstance(cause, FileNotFoundError):
        return "no such file or folder; check the path"
    return f"cannot be read ({cause.strerror}); check the file and its permissions"


def _pages(path: Path) -> list[str]:
    """Return the normalised text of every page of a file, at least one of them not empty."""
    pages = [normalise(page) for page in page_texts(path.read_bytes(), path.suffix.lower())]
    if not any(pages):
        raise UnreadableError("the file holds no text; give a document that does")
    return pages
