"""Word files, from their own XML: the converters at hand lose `&`, `<`, `>` and tabs from it."""

from __future__ import annotations

import io
import re
import zipfile
from xml.etree import ElementTree

from precis.text.readers.reader import Reader, UnreadableError

# How every old Office file begins, and every modern one that is locked with a password.
_OLD_OFFICE_MAGIC = b"\xd0\xcf\x11\xe0"
_WORD_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Formatting; what tracked changes removed; the second copy of a text box; a reading aid above a word.
_WORD_SKIPPED = {"pPr", "rPr", "del", "moveFrom", "Fallback", "rt"}


class Docx(Reader):
    """The text with its notes; tables come out as rows of `| a | b |`, headings and lists as Markdown."""

    name = "DOCX"
    suffixes = (".docx",)

    def pages(self, data: bytes) -> list[str]:
        """Give the whole text as one page: where pages break, Word decides anew each time."""
        if data.startswith(_OLD_OFFICE_MAGIC):
            raise UnreadableError(
                "locked with a password, or an old .doc; save it as DOCX without a password"
            )
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = {"word/footnotes.xml", "word/endnotes.xml"}.intersection(archive.namelist())
                parts = [archive.read(name) for name in ("word/document.xml", *sorted(names, reverse=True))]
            return ["".join(_word_text(ElementTree.fromstring(part)) for part in parts)]
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            raise UnreadableError("a damaged or cut-off DOCX; open it in Word and save it again") from cause


def _word_text(node: ElementTree.Element) -> str:
    """Return the text below a node of WordprocessingML; tables come out as rows of `| a | b |`."""
    tag = node.tag.rpartition("}")[2]
    if tag == "t":
        return node.text or ""
    if tag in _WORD_SKIPPED:
        return ""
    inside = _WORD_MARKS.get(tag, "") + "".join(map(_word_text, node))
    if tag == "p":
        return f"{_word_marker(node)}{inside}\n\n" if inside.strip() else ""
    if tag == "tc":
        return f" {' '.join(inside.split())} |"
    return {"tr": f"|{inside}\n", "tbl": f"{inside}\n"}.get(tag, inside)


def _word_marker(paragraph: ElementTree.Element) -> str:
    """Return what Markdown writes before a heading or an item of a list."""
    marks = {mark.tag.rpartition("}")[2]: mark for mark in paragraph.iterfind("{*}pPr/*")}
    style = next(iter(marks["pStyle"].attrib.values()), "") if "pStyle" in marks else ""
    if heading := re.fullmatch(r"Heading([1-6])", style):
        return "#" * int(heading[1]) + " "
    return "- " if "numPr" in marks or style.startswith("List") else "# " * (style == "Title")
