"""Automatic numbers: "1.1", "(a)", bullets. The file does not hold them; Word counts them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from precis.text.readers.word.numerals import numeral
from precis.text.readers.word.styles import Styles
from precis.text.readers.word.xml import attribute, child, children, is_on, number

_LEVELS = 9


@dataclass(frozen=True)
class Label:
    """What stands before a paragraph.

    Attributes
    ----------
    text
        The number as Word shows it, such as "2.1" or "(a)"; empty for a bullet.
    level
        From 0, the outermost.
    """

    text: str
    level: int


@dataclass(frozen=True)
class _Level:
    """One level of a list: from which number it counts, how it writes it, after which level it restarts."""

    start: int
    form: str
    pattern: str
    restart: int
    digits_only: bool

    @classmethod
    def of(cls, node: Element, index: int, start: int | None) -> _Level:
        # Word writes formats that it added later as a choice, with an older one to fall back to.
        form = child(node, "numFmt")
        if form is None:
            form = child(node, "AlternateContent", "Fallback", "numFmt")
        return cls(
            number(child(node, "start"), 0) if start is None else start,
            attribute(form) or "decimal",
            attribute(child(node, "lvlText")) or "",
            number(child(node, "lvlRestart"), index),
            is_on(child(node, "isLgl")),
        )


class Numbering:
    """Counts the numbered paragraphs of a document; ask `label` once for each, in order.

    Parameters
    ----------
    root
        The root of the numbering part; None where there is none.
    styles
        The document's styles: many carry a numbering.
    """

    def __init__(self, root: Element | None, styles: Styles) -> None:
        self._styles = styles
        self._lists = {attribute(node, "numId") or "": node for node in children(root, "num")}
        self._abstract = {
            attribute(node, "abstractNumId") or "": node for node in children(root, "abstractNum")
        }
        # By abstract list, as lists that share one go on counting from each other.
        self._counts: dict[str, list[int | None]] = defaultdict(lambda: [None] * _LEVELS)
        self._restarted: set[tuple[str, int]] = set()
        self._levels: dict[str, dict[int, _Level]] = {}

    def label(self, paragraph: Element) -> Label | None:
        """Return what Word shows before a paragraph, and count it; None where that is nothing."""
        list_id, index = self._place(paragraph)
        if list_id in {"", "0"}:
            return None
        if list_id not in self._lists:
            return Label("", index)  # a list that the file does not define
        levels = self._levels_of(list_id)
        if index not in levels:
            return None
        counts = self._count(list_id, index, levels)
        if levels[index].form == "bullet":
            return Label("", index)
        text = self._text(levels, index, counts)
        return Label(text, index) if text else None

    def _place(self, paragraph: Element) -> tuple[str, int]:
        """Return the id of a paragraph's list and its level in it: its own, or its style's."""
        own = child(paragraph, "pPr", "numPr")
        list_id = attribute(child(own, "numId"))
        index = attribute(child(own, "ilvl"))
        if list_id is None:
            list_id, carried = self._carried(paragraph)
            index = carried if index is None else index
        index = index if index is not None and index.isdecimal() else "0"
        return list_id or "", min(int(index), _LEVELS - 1)

    def _carried(self, paragraph: Element) -> tuple[str | None, str | None]:
        """Return the id of the list, and the level in it, that a paragraph has from its style."""
        index = None
        for style, node in self._styles.chain(paragraph):
            numbers = child(node, "pPr", "numPr")
            list_id = attribute(child(numbers, "numId"))
            linked = None if list_id is None else self._linked_level(list_id, style)
            own = attribute(child(numbers, "ilvl")) if linked is None else str(linked)
            index = own if index is None else index
            if list_id is not None:
                return list_id, index
        return None, None

    def _linked_level(self, list_id: str, style: str) -> int | None:
        """Return the level of a list that names a style as its own."""
        for node in children(self._abstract.get(self._abstract_id(list_id)), "lvl"):
            if attribute(child(node, "pStyle")) == style:
                return number(node, 0, "ilvl")
        return None

    def _abstract_id(self, list_id: str) -> str:
        """Return the abstract list of a list; where that only names a numbering style, the style's."""
        for _ in range(_LEVELS):
            abstract = attribute(child(self._lists.get(list_id), "abstractNumId")) or ""
            style = attribute(child(self._abstract.get(abstract), "numStyleLink"))
            further = attribute(child(self._styles.numbering_of(style), "numId")) if style else None
            if further is None or further == list_id:
                return abstract
            list_id = further
        return abstract

    def _levels_of(self, list_id: str) -> dict[int, _Level]:
        if list_id not in self._levels:
            nodes = {
                number(node, 0, "ilvl"): node
                for node in children(self._abstract.get(self._abstract_id(list_id)), "lvl")
            }
            starts = {}
            for override in children(self._lists[list_id], "lvlOverride"):
                index, node = number(override, 0, "ilvl"), child(override, "lvl")
                if node is not None:
                    nodes[index] = node
                start = child(override, "startOverride")
                if start is not None:
                    starts[index] = number(start, 1)
            self._levels[list_id] = {
                index: _Level.of(node, index, starts.get(index))
                for index, node in nodes.items()
                if 0 <= index < _LEVELS
            }
        return self._levels[list_id]

    def _count(self, list_id: str, index: int, levels: dict[int, _Level]) -> list[int | None]:
        counts = self._counts[self._abstract_id(list_id)]
        self._restart(list_id, counts)
        for above in range(index):
            if counts[above] is None and above in levels:
                counts[above] = levels[above].start  # a clause 1.1 without any clause 1 before it
        found = counts[index]
        counts[index] = levels[index].start if found is None else found + 1
        for deeper in range(index + 1, _LEVELS):
            # `restart` is the level, counted from 1, after which it restarts; 0 is never.
            if deeper not in levels or index < levels[deeper].restart:
                counts[deeper] = None
        return counts

    def _restart(self, list_id: str, counts: list[int | None]) -> None:
        """Let a list that says where it starts do so, the first time that it is met."""
        for override in children(self._lists[list_id], "lvlOverride"):
            index = number(override, 0, "ilvl")
            if child(override, "startOverride") is not None and (list_id, index) not in self._restarted:
                self._restarted.add((list_id, index))
                counts[min(index, _LEVELS - 1)] = None

    @staticmethod
    def _text(levels: dict[int, _Level], index: int, counts: list[int | None]) -> str:
        own = levels[index]

        def shown(found: re.Match[str]) -> str:
            place = int(found[1]) - 1
            if place not in levels or place > index:
                return ""
            form = "decimal" if own.digits_only else levels[place].form
            count = counts[place]
            return numeral(levels[place].start if count is None else count, form)

        return re.sub(r"%([1-9])", shown, own.pattern).strip()
