"""ODT, ODP and ODS, from their own XML: it is small, and automatic numbers must be counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from precis.text.readers import markdown
from precis.text.readers.packages import Package
from precis.text.readers.reader import Pages, Reader, UnreadableError
from precis.text.readers.word.numerals import numeral
from precis.text.readers.word.pieces import Piece, line
from precis.text.readers.word.xml import attribute, below, child, children, number, tag

_FORMS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_SILENT = {
    *(
        "tracked-changes",
        "annotation",
        "annotation-end",
        "sequence-decls",
        "forms",
        "table-of-content-source",
    ),
    *("ruby-text", "automatic-styles", "desc", "title", "shapes", "page-number", "notes"),
}
_MOST_REPEATS = 1000  # a sheet ends in a million empty cells


class OpenDocument(Reader):
    """Headings and tables as Markdown, numbers as they are shown, each note after what refers to it."""

    name = "ODT, ODS, ODP"
    suffixes = (".odt", ".ott", ".odp", ".ods")

    def pages(self, data: bytes) -> list[str]:
        """Give one text a slide, the whole text of every other file: where its pages break is not in it."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give the texts of the pages, and tell of what is not in them."""
        try:
            package = Package(data)
            manifest = (
                package.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in package.names else b""
            )
            if b"encryption-data" in manifest:
                raise UnreadableError("locked with a password; save it without one")
            content = package.xml("content.xml")
            styles = package.xml("styles.xml") if "styles.xml" in package.names else None
            writer = _Writer(package, _Lists.of(content, styles), _text_styles(content, styles))
            slides = list(below(content, "page"))
            texts = [_slide(writer, slide) for slide in slides] or [writer.blocks(content)]
            margins = list(dict.fromkeys(_margins(writer, styles)))
        except UnreadableError:
            raise
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            raise UnreadableError(
                "a damaged or cut-off OpenDocument file; open it and save it again"
            ) from cause
        above = "".join(f"{margin}\n\n" for margin in margins)
        notices = ["its headers and footers stand once, at the beginning of the text"] if margins else []
        if pictures := writer.seen["image"]:
            notices.append(f"not read: {pictures} pictures; what stands in them is not in the text")
        return Pages([above + texts[0], *texts[1:]], notices)


def _slide(writer: _Writer, slide: Element) -> str:
    """Give what stands on a slide, and what its speaker notes."""
    notes = [writer.blocks(node).strip() for node in children(slide, "notes")]
    return writer.blocks(slide).rstrip() + "".join(f"\n\nNotes: {text}" for text in notes if text)


def _margins(writer: _Writer, styles: Element | None) -> Iterator[str]:
    for page in below(styles, "master-page") if styles is not None else ():
        for kind in ("header", "footer"):
            for node in children(page, kind):
                text = " ".join(writer.blocks(node).split())
                if any(sign.isalnum() for sign in text):
                    yield f"{kind.capitalize()}: {text}"


def _text_styles(*roots: Element | None) -> dict[str, str]:
    """Return which styles raise ("^"), lower ("_") or strike out ("~") text."""
    kinds = {}
    for root in roots:
        for style in below(root, "style") if root is not None else ():
            properties = child(style, "text-properties")
            position = attribute(properties, "text-position") or ""
            if position.startswith(("super", "sub", "-")) or position.split("%")[0].isdecimal():
                lowered = position.startswith(("sub", "-"))
                if not position.startswith("0%"):
                    kinds[attribute(style, "name") or ""] = "_" if lowered else "^"
            elif attribute(properties, "text-line-through-style") not in {None, "none"}:
                kinds[attribute(style, "name") or ""] = "~"
    return kinds


@dataclass
class _Lists:
    """The list styles of a file, and how far their lists are counted."""

    styles: dict[str, dict[int, Element]]
    outline: dict[int, Element]
    counts: dict[str, dict[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, *roots: Element | None) -> _Lists:
        styles = {
            attribute(style, "name") or "": {number(level, 1, "level"): level for level in style}
            for root in roots
            if root is not None
            for style in below(root, "list-style")
        }
        outline = {
            number(level, 1, "level"): level
            for root in roots
            if root is not None
            for style in below(root, "outline-style")
            for level in style
        }
        return cls(styles, outline)

    def label(self, levels: dict[int, Element], counting: str, depth: int, start: int | None) -> str:
        """Count an item, and return what is shown before it; a dash for a bullet."""
        counts = self.counts.setdefault(counting, {})
        style = levels.get(depth)
        for deeper in [level for level in counts if level > depth]:
            del counts[deeper]
        first = number(style, 1, "start-value")
        counts[depth] = start if start is not None else counts.get(depth, first - 1) + 1
        if style is None or tag(style) in {"list-level-style-bullet", "list-level-style-image"}:
            return "-"
        if not attribute(style, "num-format"):
            return ""
        shown = number(style, 1, "display-levels")
        places = range(max(1, depth - shown + 1), depth + 1)
        numbers = [
            numeral(counts.get(at, 1), _FORMS.get(attribute(levels.get(at), "num-format") or "", "decimal"))
            for at in places
        ]
        before, after = (attribute(style, name) or "" for name in ("num-prefix", "num-suffix"))
        return f"{before}{'.'.join(numbers)}{after}".strip()


@dataclass
class _Writer:
    """Writes the text below the nodes of one package."""

    package: Package
    lists: _Lists
    kinds: dict[str, str]
    seen: Counter[str] = field(default_factory=Counter)
    _noted: list[str] = field(default_factory=list)

    def blocks(self, root: Element) -> str:
        """Return the text of the blocks below a node."""
        return "".join(self._blocks(root))

    def _blocks(self, root: Element) -> Iterator[str]:
        for node in root:
            name = tag(node)
            if name == "h":
                yield self._heading(node)
            elif name == "p":
                yield self._line(node)
            elif name == "list":
                yield self._list(node, 1, "", "")
            elif name == "table":
                if tag(root) == "spreadsheet":
                    yield f"# {attribute(node, 'name') or ''}\n\n"
                yield self._table(node)
            elif name not in _SILENT:
                self.seen[name] += 1
                yield from self._blocks(node)
            yield from self._noted
            self._noted = []

    def _line(self, node: Element, before: str = "") -> str:
        text = line(self._pieces(node)).strip(" ")
        return f"{before}{text}\n\n" if text.strip() else ""

    def _heading(self, node: Element) -> str:
        level = max(1, number(node, 1, "outline-level"))
        counted = self.lists.outline and attribute(node, "is-list-header") != "true"
        label = self.lists.label(self.lists.outline, "outline", level, None) if counted else ""
        return self._line(node, f"{'#' * min(level, 6)} {f'{label} ' if label.strip('-') else ''}")

    def _list(self, node: Element, depth: int, style: str, counting: str) -> str:
        style = attribute(node, "style-name") or style
        if depth == 1:
            counting = attribute(node, "continue-list") or counting or style
            continued = attribute(node, "continue-numbering") == "true" or attribute(node, "continue-list")
            if not continued:
                self.lists.counts.pop(counting, None)
        levels = self.lists.styles.get(style, {})
        items = []
        for item in node:
            start = number(item, -1, "start-value")
            before = ""
            if tag(item) == "list-item":
                before = self.lists.label(levels, counting, depth, None if start < 0 else start)
            for part in item:
                if tag(part) == "list":
                    items.append(self._list(part, depth + 1, style, counting))
                elif tag(part) == "h":
                    level = min(number(part, 1, "outline-level"), 6)
                    items.append(self._line(part, f"{'#' * level} {before} "))
                    before = ""
                elif tag(part) == "p":
                    space = "  " * (depth - 1) if before == "-" else ""
                    items.append(self._line(part, f"{space}{before} " if before else ""))
                    before = ""
        return "".join(items)

    def _table(self, table: Element) -> str:
        rows = [self._row(row) for row in _rows(table)]
        rows = [row for row in rows if any(row)]
        while rows and not any(row[-1] for row in rows if len(row) == max(map(len, rows))):
            widest = max(map(len, rows))
            rows = [row[:-1] if len(row) == widest else row for row in rows]
        return f"{markdown.table(rows, header=True)}\n" if rows else ""

    def _row(self, row: Element) -> list[str]:
        cells: list[str] = []
        for cell in row:
            text = " ".join(self.blocks(cell).split()) if tag(cell) == "table-cell" else ""
            repeats = min(number(cell, 1, "number-columns-repeated"), _MOST_REPEATS)
            cells += [text] * repeats if tag(cell) in {"table-cell", "covered-table-cell"} else []
        while cells and not cells[-1] and len(cells) > 50:
            cells.pop()
        return cells

    def _pieces(self, node: Element, kind: str = "") -> Iterator[Piece]:
        yield Piece(_collapsed(node.text), kind)
        for inner in node:
            name = tag(inner)
            if name == "s":
                yield Piece(" " * min(number(inner, 1, "c"), 100))
            elif name in {"tab", "line-break"}:
                yield Piece("\t" if name == "tab" else "\n")
            elif name == "note":
                yield from self._note(inner)
            elif name in {"frame", "custom-shape"}:
                formula = self._formula(inner)
                yield Piece(formula)
                self.seen["image"] += not formula and any(True for _ in below(inner, "image"))
                self._noted.append(self._beside(inner))
            elif name not in _SILENT:
                yield from self._pieces(inner, self.kinds.get(attribute(inner, "style-name") or "", kind))
            yield Piece(_collapsed(inner.tail), kind)

    def _note(self, note: Element) -> Iterator[Piece]:
        mark = "".join(text for found in children(note, "note-citation") for text in found.itertext()).strip()
        yield Piece(f"[{mark}]")
        body = child(note, "note-body")
        text = "" if body is None else self._beside(body).strip()
        self._noted.append(f"[{mark}] {text}\n\n")

    def _beside(self, node: Element) -> str:
        """Return the text of what lies beside a paragraph; what is to follow that waits meanwhile."""
        waiting, self._noted = self._noted, []
        text = self.blocks(node)
        self._noted = waiting
        return text

    def _formula(self, frame: Element) -> str:
        """Return a formula as its author typed it: it is a document of its own within the package."""
        for inner in children(frame, "object"):
            name = f"{(attribute(inner, 'href') or '').removeprefix('./')}/content.xml"
            if name in self.package.names:
                typed = next(below(self.package.xml(name), "annotation"), None)
                return " ".join((typed.text or "").split()) if typed is not None else ""
        return ""


def _rows(table: Element) -> Iterator[Element]:
    for node in table:
        if tag(node) == "table-row":
            yield node
        elif tag(node) in {"table-header-rows", "table-rows", "table-row-group"}:
            yield from _rows(node)


def _collapsed(text: str | None) -> str:
    """Return text as the format means it: runs of spaces count as one."""
    if not text:
        return ""
    inside = " ".join(text.split())
    return f"{' ' * text[0].isspace()}{inside}{' ' * (bool(inside) and text[-1].isspace())}"
