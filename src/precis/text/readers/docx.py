"""Word files, from their own XML: the converters at hand lose `&`, `<`, tabs and all automatic numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from precis.text.readers.packages import Package
from precis.text.readers.reader import Pages, Reader, UnreadableError
from precis.text.readers.word.margins import drop_page_numbers, margin_parts, says_nothing
from precis.text.readers.word.notes import Notes
from precis.text.readers.word.numbering import Numbering
from precis.text.readers.word.story import Story
from precis.text.readers.word.styles import Styles
from precis.text.readers.word.xml import below

# How every old Office file begins, and every modern one that is locked with a password.
OLD_OFFICE_MAGIC = b"\xd0\xcf\x11\xe0"
_NOTES = ("footnote", "endnote")
_UNREAD = ("picture", "chart", "diagram", "embedded file")
_LONGEST_SHOWN = 60


class Docx(Reader):
    """The text as Word shows it: numbers of clauses, notes, equations; tables and headings as Markdown."""

    name = "DOCX"
    suffixes = (".docx", ".docm", ".dotx", ".dotm")

    def pages(self, data: bytes) -> list[str]:
        """Give the whole text as one page: where pages break, Word decides anew each time."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give the whole text as one page, and say what of the paper it does not hold."""
        if data.startswith(OLD_OFFICE_MAGIC):
            raise UnreadableError(
                "locked with a password, or an old .doc; save it as DOCX without a password"
            )
        try:
            return _Document(Package(data)).read()
        except UnreadableError:
            raise
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            raise UnreadableError("a damaged or cut-off DOCX; open it in Word and save it again") from cause


class _Document:
    """One Word file: its parts, found through the relationships of the package."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._main = package.main_part("word/document.xml")
        self._root = package.xml(self._main)
        sections = list(below(self._root, "sectPr"))
        self._settings = self._part("settings")
        styles = Styles(self._part("styles"))
        self._notes = {
            f"{kind}Reference": Notes(
                self._part(f"{kind}s"), kind, self._settings, sections[-1] if sections else None
            )
            for kind in _NOTES
        }
        self._story = Story(styles, Numbering(self._part("numbering"), styles), self._notes)

    def _part(self, kind: str) -> Element | None:
        """Return the root of a part of the main one; by its usual name where no relationship names it."""
        related = [name for found, name in self._package.related(self._main).values() if found == kind]
        usual = f"{self._main.rpartition('/')[0]}/{kind}.xml"
        name = next((name for name in (*related, usual) if name in self._package.names), None)
        return None if name is None else self._package.xml(name)

    def read(self) -> Pages:
        body = self._story.blocks(self._root)
        rest = "".join(self._story.note(note) for notes in self._notes.values() for note in notes.rest())
        removed = self._story.seen.pop("removed", 0) + sum(1 for _ in below(self._root, "ins"))
        margins = list(self._margins())
        above = "".join(f"{text}\n\n" for kind, text in margins if kind == "header")
        below_text = "".join(f"{text}\n\n" for kind, text in margins if kind == "footer")
        notices = [*_of_margins(margins), *_of_unread(self._story.seen)]
        if removed:
            notices.append("it holds tracked changes: it is read as if all of them were accepted")
        return Pages([above + body + rest + below_text], notices)

    def _margins(self) -> Iterator[tuple[str, str]]:
        """Give every distinct header and footer, a number of pages alone being none."""
        given: set[tuple[str, str]] = set()
        for kind, part in margin_parts(self._package, self._main, self._root, self._settings):
            root = self._package.xml(part)
            numbered = drop_page_numbers(root)
            text = "\n".join(line for line in self._story.blocks(root).splitlines() if line.strip()).strip()
            if not text or (numbered and says_nothing(text)) or (kind, text) in given:
                continue
            given.add((kind, text))
            yield kind, f"{kind.capitalize()}: {text}"


def _of_margins(margins: list[tuple[str, str]]) -> Iterator[str]:
    for kind in ("header", "footer"):
        found = [text.partition(": ")[2] for name, text in margins if name == kind]
        if found:
            place = "beginning" if kind == "header" else "end"
            shown = "; ".join(_shortened(text) for text in found[:3]) + ("; …" if len(found) > 3 else "")
            yield f"its {kind}s stand once, at the {place} of the text: {shown}"


def _of_unread(seen: Counter[str]) -> Iterator[str]:
    counts = [f"{seen[name]} {name}{'s' * (seen[name] > 1)}" for name in _UNREAD if seen[name]]
    if counts:
        yield f"not read: {', '.join(counts)}; what stands in them is not in the text"
    if seen["hidden"]:
        yield "hidden text is left out: Word does not show it"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
