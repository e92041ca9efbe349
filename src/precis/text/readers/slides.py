"""PPTX: a page a slide, with its tables and the speaker's notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from precis.text.readers import markdown
from precis.text.readers.packages import Package
from precis.text.readers.reader import Pages, Reader, UnreadableError
from precis.text.readers.word.equations import linear
from precis.text.readers.word.numerals import numeral
from precis.text.readers.word.pieces import Piece, line
from precis.text.readers.word.xml import attribute, below, child, children, number, tag

OLD_OFFICE_MAGIC = b"\xd0\xcf\x11\xe0"
_TITLES = {"title", "ctrTitle"}
# The same on every slide.
_FURNITURE = {"ftr", "sldNum", "dt", "hdr", "sldImg"}
_SCHEMES = {"arabic": "decimal", "alphaLc": "lowerLetter", "alphaUc": "upperLetter"}
_SCHEMES |= {"romanLc": "lowerRoman", "romanUc": "upperRoman"}


class Slides(Reader):
    """Titles as headings, lists with their numbers, tables as Markdown."""

    name = "PPTX"
    suffixes = (".pptx", ".pptm", ".ppsx", ".potx")

    def pages(self, data: bytes) -> list[str]:
        """Give one text a slide; a slide of pictures alone is empty."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give one text a slide, and tell of what is in pictures and charts."""
        if data.startswith(OLD_OFFICE_MAGIC):
            raise UnreadableError(
                "locked with a password, or an old .ppt; save it as PPTX without a password"
            )
        try:
            package = Package(data)
            slides = list(_slides(package))
            texts = [_slide(package, name) for name in slides]
            unread = sum(_unread(package.xml(name)) for name in slides)
        except UnreadableError:
            raise
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            raise UnreadableError("a damaged or cut-off PPTX; open it and save it again") from cause
        notices = [f"not read: {unread} pictures or charts; what stands in them is not in the text"]
        return Pages(texts, notices if unread else [])


def _slides(package: Package) -> Iterator[str]:
    """Give the names of the slides' parts in their order, without the hidden ones' being told apart."""
    main = package.main_part("ppt/presentation.xml")
    related = package.related(main)
    for slide in children(child(package.xml(main), "sldIdLst"), "sldId"):
        # Two attributes are named id; the one that names the part has a namespace.
        name = next(value for key, value in slide.attrib.items() if key.endswith("}id"))
        yield related[name][1]


def _slide(package: Package, name: str) -> str:
    parts = list(_shapes(package.xml(name)))
    for kind, target in package.related(name).values():
        if kind == "notesSlide" and target in package.names:
            notes = "\n".join(text for text in _shapes(package.xml(target)) if text.strip()).strip()
            parts += [f"Notes: {notes}"] if notes else []
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())


def _shapes(root: Element) -> Iterator[str]:
    """Give the texts of the shapes, the title first: it is drawn anywhere."""
    shapes = [shape for tree in below(root, "spTree") for shape in _flat(tree)]
    for shape in sorted(shapes, key=lambda shape: _placeholder(shape) not in _TITLES):
        kind = _placeholder(shape)
        if kind in _FURNITURE:
            continue
        if tag(shape) == "graphicFrame":
            yield from map(_table, below(shape, "tbl"))
        else:
            text = _paragraphs(child(shape, "txBody"))
            yield f"# {' '.join(text.split())}" if kind in _TITLES and text.strip() else text


def _flat(tree: Element) -> Iterator[Element]:
    for node in tree:
        if tag(node) in {"sp", "graphicFrame", "cxnSp"}:
            yield node
        elif tag(node) in {"grpSp", "AlternateContent", "Choice"}:
            yield from _flat(node)


def _placeholder(shape: Element) -> str:
    return next((attribute(node, "type") or "body" for node in below(shape, "ph")), "")


def _table(table: Element) -> str:
    rows = []
    for row in children(table, "tr"):
        merged = ("hMerge", "vMerge")
        rows.append(
            [
                ""
                if any(cell.get(name) in {"1", "true"} for name in merged)
                else _paragraphs(child(cell, "txBody"))
                for cell in children(row, "tc")
            ]
        )
    return markdown.table(rows, header=True)


def _paragraphs(body: Element | None) -> str:
    """Return the paragraphs of a shape, numbered as they are shown."""
    counts: dict[int, int] = {}
    lines = []
    for paragraph in children(body, "p"):
        properties = child(paragraph, "pPr")
        level = number(properties, 0, "lvl")
        text = line(_pieces(paragraph)).strip()
        scheme = child(properties, "buAutoNum")
        counts = {
            at: count for at, count in counts.items() if at < level or (at == level and scheme is not None)
        }
        if not text:
            continue
        before = "  " * level + "- " if child(properties, "buChar") is not None or level else ""
        if scheme is not None:
            counts[level] = counts.get(level, number(scheme, 1, "startAt") - 1) + 1
            before = f"{'  ' * level}{_number(counts[level], attribute(scheme, 'type') or 'arabicPeriod')} "
        lines.append(before + text)
    return "\n".join(lines)


def _number(value: int, scheme: str) -> str:
    found = re.fullmatch(r"(arabic|alphaLc|alphaUc|romanLc|romanUc)(\w*)", scheme)
    text = numeral(value, _SCHEMES[found[1]]) if found else str(value)
    ending = found[2] if found else ""
    return {"ParenR": f"{text})", "ParenBoth": f"({text})", "Plain": text}.get(ending, f"{text}.")


def _pieces(paragraph: Element) -> Iterator[Piece]:
    for node in paragraph:
        if tag(node) in {"r", "fld"}:
            properties = child(node, "rPr")
            height = number(properties, 0, "baseline")
            kind = "^" if height > 0 else "_" if height < 0 else ""
            if not kind and attribute(properties, "strike") in {"sngStrike", "dblStrike"}:
                kind = "~"
            yield Piece("".join(text.text or "" for text in children(node, "t")), kind)
        elif tag(node) == "br":
            yield Piece("\n")
        elif tag(node) == "oMath":
            yield Piece(linear(node).strip())
        elif tag(node) in {"m", "oMathPara", "AlternateContent", "Choice"}:
            yield from _pieces(node)


def _unread(slide: Element) -> int:
    return sum(1 for name in ("pic", "chart", "relIds") for _ in below(slide, name))
