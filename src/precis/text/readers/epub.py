"""EPUB: the chapters in the order in which they are read."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote
from zipfile import BadZipFile

from precis.text.readers.html import Html
from precis.text.readers.packages import Package
from precis.text.readers.reader import Pages, Reader, UnreadableError
from precis.text.readers.word.xml import below, child, children

_PAGES = {"application/xhtml+xml", "text/html", "application/x-dtbook+xml"}

_TITLE = re.compile(rb"<title\b[^>]*>.*?</title>", re.IGNORECASE | re.DOTALL)


class Epub(Reader):
    """Each chapter as the reader of HTML gives it."""

    name = "EPUB"
    suffixes = (".epub",)

    def pages(self, data: bytes) -> list[str]:
        """Give the whole book as one page: paper pages it has none."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give the whole book as one page, and tell of what its chapters tell."""
        try:
            package = Package(data)
            chapters = list(_chapters(package))
        except UnreadableError:
            raise
        except (BadZipFile, SyntaxError, LookupError, TypeError, AttributeError, ValueError) as cause:
            raise UnreadableError("a damaged or cut-off EPUB; download or export it again") from cause
        if any(name.endswith("encryption.xml") for name in package.names) and not any(
            b"<" in package.read(name)[:200] for name in chapters
        ):
            raise UnreadableError("an EPUB locked by its seller (DRM); get a copy without it")
        reader = Html()
        # Every chapter has the book's title, or a file's name.
        read = [reader.read(_TITLE.sub(b"", package.read(name), count=1)) for name in chapters]
        texts = [_described(package), *(text for pages in read for text in pages.texts)]
        notices = list(dict.fromkeys(notice for pages in read for notice in pages.notices))
        return Pages(["\n\n".join(text for text in texts if text.strip())], notices)


def _book(package: Package) -> str:
    """Return the name of the part that describes the book."""
    return next(below(package.xml("META-INF/container.xml"), "rootfile")).attrib["full-path"]


def _described(package: Package) -> str:
    """Return the book's title and its authors."""
    book = package.xml(_book(package))
    named = (
        " ".join("".join(node.itertext()).split())
        for kind in ("title", "creator")
        for node in below(book, kind)
    )
    return "\n".join(filter(None, named))


def _chapters(package: Package) -> Iterator[str]:
    """Give the names of the chapters; the table of contents only repeats their headings."""
    root = _book(package)
    book = package.xml(root)
    items = {item.get("id"): item for item in below(book, "item")}
    for reference in children(child(book, "spine"), "itemref"):
        item = items.get(reference.get("idref"))
        if (
            item is None
            or item.get("media-type") not in _PAGES
            or "nav" in (item.get("properties") or "").split()
        ):
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(root), unquote(item.get("href", ""))))
        if name in package.names:
            yield name
