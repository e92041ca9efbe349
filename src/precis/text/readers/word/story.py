"""The text of a document's body, notes, headers and footers, as Word shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from precis.text.readers import markdown
from precis.text.readers.word.equations import linear
from precis.text.readers.word.notes import Notes
from precis.text.readers.word.numbering import Numbering
from precis.text.readers.word.pieces import Piece, line
from precis.text.readers.word.styles import Styles
from precis.text.readers.word.symbols import in_symbol_font
from precis.text.readers.word.tables import cell_of_single, has_header, places, rows_of
from precis.text.readers.word.xml import attribute, below, child, is_on, tag

_MARKS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Formatting; what tracked changes removed; the second copy of a text box; a reading aid above a word.
_SKIPPED = {"pPr", "rPr", "del", "moveFrom", "Fallback", "rt", "sectPr", "tblPr", "tblGrid"}
_UNREAD = {"pic": "picture", "chart": "chart", "relIds": "diagram", "altChunk": "embedded file"}
_UNREAD |= {"imagedata": "picture"}


@dataclass
class Story:
    """Writes the stories of one document, in the order in which it is asked: numbers are counted in it.

    Attributes
    ----------
    styles, numbering, notes
        What the document's parts say; notes by the name of their references.
    seen
        How often something was met that the text does not hold.
    """

    styles: Styles
    numbering: Numbering
    notes: dict[str, Notes]
    seen: Counter[str] = field(default_factory=Counter)
    _boxes: list[str] = field(default_factory=list)
    _noted: list[str] = field(default_factory=list)
    _carried: list[Piece] = field(default_factory=list)

    def blocks(self, root: Element) -> str:
        """Return the paragraphs and tables below a node, each note after what refers to it."""
        return "".join(self._blocks(root))

    def _blocks(self, root: Element) -> Iterator[str]:
        for node in root:
            if tag(node) in {"p", "tbl"}:
                yield self._paragraph(node) if tag(node) == "p" else self._table(node)
                yield from self._flushed_notes()
            elif tag(node) in _UNREAD:
                self.seen[_UNREAD[tag(node)]] += 1
            elif tag(node) not in _SKIPPED:
                yield from self._blocks(node)

    def _flushed_notes(self) -> list[str]:
        noted, self._noted = self._noted, []
        return noted

    def _paragraph(self, node: Element) -> str:
        outer, self._boxes = self._boxes, []
        pieces = [*self._carried, *self._pieces(node)]
        boxes, self._boxes = "".join(self._boxes), outer
        mark = child(node, "pPr", "rPr")
        if child(mark, "del") is not None or child(mark, "moveFrom") is not None:
            self._carried = pieces  # its end was removed: it runs on into the next one
            return boxes
        self._carried = []
        # An empty paragraph is counted, too: Word shows its number.
        before = self._marker(node)
        text = line(pieces)
        return boxes + (f"{before}{text.strip(' ')}\n\n" if text.strip() else "")

    def _marker(self, paragraph: Element) -> str:
        """Return what stands before a paragraph: its number as Word shows it, a heading's mark, a bullet."""
        label = self.numbering.label(paragraph)
        level = self.styles.heading(paragraph)
        if level:
            return "#" * level + " " + (f"{label.text} " if label and label.text else "")
        if label is None:
            return ""
        return f"{label.text} " if label.text else "  " * label.level + "- "

    def _table(self, table: Element) -> str:
        single = cell_of_single(table)
        if single is not None:
            return self.blocks(single)
        rows = [["" if cell is None else self._cell(cell) for cell in places(row)] for row in rows_of(table)]
        return f"{markdown.table(rows, has_header(table))}\n" if any(map(any, rows)) else ""

    def _cell(self, cell: Element) -> str:
        """Return a cell's text; a table within it in one line, its cells apart by commas."""
        return " ".join(filter(None, self._cell_parts(cell)))

    def _cell_parts(self, cell: Element) -> Iterator[str]:
        for node in cell:
            if tag(node) == "p":
                yield self._paragraph(node).strip().lstrip("#").strip()
            elif tag(node) == "tbl":
                rows = (
                    [self._cell(inner) for inner in places(row) if inner is not None] for row in rows_of(node)
                )
                yield "; ".join(", ".join(filter(None, row)) for row in rows)
            elif tag(node) not in _SKIPPED:
                yield from self._cell_parts(node)

    def _pieces(self, node: Element, kind: str = "", font: str = "") -> Iterator[Piece]:
        for inner in node:
            name = tag(inner)
            if name == "t":
                yield Piece(in_symbol_font(inner.text or "", font), kind)
            elif name in _MARKS:
                yield Piece(_MARKS[name], kind)
            elif name == "r":
                yield from self._run(inner)
            elif name == "oMath":
                yield Piece(linear(inner).strip())
            elif name in {"p", "tbl"}:
                self._boxes += self._blocks_of(inner)
            elif name in self.notes:
                yield from self._reference(inner, node)
            elif name not in _SKIPPED:
                yield from self._other(inner, kind, font)
            else:
                self._note_removed(name)

    def _blocks_of(self, node: Element) -> list[str]:
        return [self._paragraph(node) if tag(node) == "p" else self._table(node)]

    def _other(self, node: Element, kind: str, font: str) -> Iterator[Piece]:
        name = tag(node)
        if name == "sym":
            sign = chr(int(attribute(node, "char") or "20", 16))
            yield Piece(in_symbol_font(sign, attribute(node, "font") or ""), kind)
        elif name == "checkBox":
            ticked = child(node, "checked")
            yield Piece("☒ " if is_on(ticked if ticked is not None else child(node, "default")) else "☐ ")
        else:
            if name in _UNREAD:
                self.seen[_UNREAD[name]] += 1
            yield from self._pieces(node, kind, font)

    def _run(self, run: Element) -> Iterator[Piece]:
        if self.styles.is_hidden(run):
            self.seen["hidden"] += any(text.text for text in below(run, "t"))
            return
        height = attribute(self.styles.run_property(run, "vertAlign"))
        kind = {"superscript": "^", "subscript": "_"}.get(height or "", "")
        if not kind and any(is_on(self.styles.run_property(run, name)) for name in ("strike", "dstrike")):
            kind = "~"
        font = attribute(self.styles.run_property(run, "rFonts"), "ascii") or ""
        custom = any(attribute(node, "customMarkFollows") in {"1", "true", "on"} for node in run)
        pieces = list(self._pieces(run, kind, font))
        if custom:
            pieces = [Piece(f"[{line(Piece(piece.text) for piece in pieces).strip()}]")]
        yield from pieces

    def _note_removed(self, name: str) -> None:
        if name in {"del", "moveFrom"}:
            self.seen["removed"] += 1

    def _reference(self, reference: Element, run: Element) -> Iterator[Piece]:
        mark, note = self.notes[tag(reference)].refer(reference)
        if mark:
            yield Piece(f"[{mark}]")
        if note is not None:
            custom = "".join(text.text or "" for text in below(run, "t")).strip()
            self._noted.append(self.note(note, mark) if mark else self._custom_note(note, custom))

    def note(self, note: Element, mark: str = "") -> str:
        """Return the text of a note, after its mark where it has one."""
        state = (self._boxes, self._noted, self._carried)
        self._boxes, self._noted, self._carried = [], [], []
        text = self.blocks(note).strip()
        self._boxes, self._noted, self._carried = state
        if not text:
            return ""
        return f"[{mark}] {text}\n\n" if mark else f"{text}\n\n"

    def _custom_note(self, note: Element, mark: str) -> str:
        """Return the text of a note whose mark its author wrote, before the note as well."""
        text = self.note(note)
        after = text.removeprefix(mark)
        if after[:1].isalnum():  # it does not begin with its mark, but with a number like it
            after = text
        return f"[{mark}] {after.lstrip()}" if mark else text
