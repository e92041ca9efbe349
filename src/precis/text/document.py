"""The document c: text with pages, read from the formats in which long documents come.

The same files always give the same text, character by character: its hash names the document.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from precis.errors import DocumentError
from precis.text.folders import files_below
from precis.text.normalise import normalise
from precis.text.readers import READABLE, Pages, UnreadableError, read_pages

__all__ = ["BETWEEN_PAGES", "Document", "Page", "normalise", "read"]

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
    notices
        What the user must know of how the rest was read, each as "path: notice".
    """

    name: str
    text: str
    pages: tuple[Page, ...]
    sha256: str
    skipped: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

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

    The formats in `precis.text.readers` are converted; everything else is read as text: UTF-8, or what a
    byte order mark says. A folder is read recursively in the natural order of the paths, each file introduced
    by its path below the folder. Hidden files, hidden folders, generated ones and those that a `.gitignore`
    names are left out.

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


def _assemble(
    name: str, parts: Iterable[tuple[str, int, str]], skipped: Iterable[str] = (), notices: Iterable[str] = ()
) -> Document:
    """Join `(source, page number, text)` parts, and note where each of them came to lie."""
    pages: list[Page] = []
    texts: list[str] = []
    start = 0
    for source, number, content in parts:
        pages.append(Page(source, number, start, start + len(content)))
        texts.append(content)
        start += len(content) + len(BETWEEN_PAGES)
    text = BETWEEN_PAGES.join(texts)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Document(name, text, tuple(pages), sha256, tuple(skipped), tuple(notices))


def _read_file(path: Path) -> Document:
    pages = _pages(path)
    skipped, notices = _textless(path.name, pages.texts), _named(path.name, pages)
    return _assemble(path.name, _parts(path.name, pages.texts), skipped, notices)


def _read_folder(folder: Path) -> Document:
    parts: list[tuple[str, int, str]] = []
    notices: list[str] = []
    listing = files_below(folder)
    skipped = listing.skipped
    for path in listing.files:
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
            (_, number, first), *rest = _parts(source, pages.texts)
            parts += [(source, number, normalise(f"File: {source}\n\n{first}")), *rest]
            skipped += _textless(source, pages.texts)
            notices += _named(source, pages)
    if not parts:
        found = "; ".join(skipped[:3]) or "it holds no file that is not hidden"
        raise UnreadableError(f"nothing in this folder can be read ({found}); put {READABLE} into it")
    return _assemble(folder.resolve().name, parts, skipped, notices)


def _parts(source: str, texts: list[str]) -> list[tuple[str, int, str]]:
    return [(source, number, text) for number, text in enumerate(texts, start=1) if text]


def _textless(source: str, texts: list[str]) -> list[str]:
    """Say which pages hold no text: a scanned appendix would otherwise be lost unseen."""
    numbers = ", ".join(str(number) for number, text in enumerate(texts, start=1) if not text)
    return [f"{source}: no text on page {numbers} (blank or scanned)"] if numbers else []


def _named(source: str, pages: Pages) -> list[str]:
    return [f"{source}: {notice}" for notice in pages.notices]


def _system_reason(cause: OSError) -> str:
    if isinstance(cause, FileNotFoundError):
        return "no such file or folder; check the path"
    return f"cannot be read ({cause.strerror}); check the file and its permissions"


def _pages(path: Path) -> Pages:
    """Return the pages of a file with their texts normalised, at least one of them not empty."""
    pages = read_pages(path.read_bytes(), path.name)
    texts = [normalise(text) for text in pages.texts]
    if not any(texts):
        raise UnreadableError("the file holds no text; give a document that does")
    return Pages(texts, pages.notices)
