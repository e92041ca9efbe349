"""Styles: what a paragraph or a run is beyond its own properties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from precis.text.readers.word.xml import attribute, child, children, is_on, number

_DEEPEST = 6  # Markdown knows no deeper heading
# Built-in styles keep their English names in a file whatever Word's language is; files that other programs
# wrote may name a style without defining it: then its id, in that program's language, is all there is.
_NAMED_HEADING = re.compile(
    r"(?:heading|[uü]?berschrift|titre|t[ií]?tulo|titolo|kop|rubrik|overskrift|otsikko|nag[lł][oó]?wek|"
    r"nadpis|nagwek|заголовок)\s*([1-9])",
    re.IGNORECASE,
)
_TITLES = {"title", "titel", "titre", "título", "ttulo", "titolo"}


class Styles:
    """The styles part of a document.

    Parameters
    ----------
    root
        The root of the part; None where there is none.
    """

    def __init__(self, root: Element | None) -> None:
        self._styles = {attribute(style, "styleId") or "": style for style in children(root, "style")}
        self._default = next(
            (
                name
                for name, style in self._styles.items()
                if attribute(style, "type") == "paragraph" and attribute(style, "default") in {"1", "true"}
            ),
            "",
        )

    def chain(self, paragraph: Element) -> list[tuple[str, Element]]:
        """Return the styles of a paragraph, by id, each followed by the one it is based on."""
        return list(self._chain(attribute(child(paragraph, "pPr", "pStyle")) or self._default))

    def _chain(self, name: str) -> Iterator[tuple[str, Element]]:
        seen: set[str] = set()
        while name in self._styles and name not in seen:
            seen.add(name)
            yield name, self._styles[name]
            name = attribute(child(self._styles[name], "basedOn")) or ""

    def heading(self, paragraph: Element) -> int:
        """Return a paragraph's level as a heading, 1 the highest; 0 for one that is none."""
        own = child(paragraph, "pPr", "outlineLvl")
        if own is not None:
            return self._level(number(own, 9))
        chain = self.chain(paragraph)
        for name, style in chain:
            outline = child(style, "pPr", "outlineLvl")
            level = self._level(number(outline, 9)) or self._by_name(attribute(child(style, "name")) or name)
            if level or outline is not None:
                return level
        return 0 if chain else self._by_name(attribute(child(paragraph, "pPr", "pStyle")) or "")

    @staticmethod
    def _level(outline: int) -> int:
        return min(outline + 1, _DEEPEST) if 0 <= outline < 9 else 0

    @staticmethod
    def _by_name(name: str) -> int:
        if found := _NAMED_HEADING.fullmatch(name):
            return min(int(found[1]), _DEEPEST)
        return int(name.casefold() in _TITLES)

    def run_property(self, run: Element, name: str) -> Element | None:
        """Return a property of a run: its own, or its character style's."""
        own = child(run, "rPr", name)
        if own is not None:
            return own
        style = attribute(child(run, "rPr", "rStyle")) or ""
        return next(
            (found for _, base in self._chain(style) if (found := child(base, "rPr", name)) is not None), None
        )

    def is_hidden(self, run: Element) -> bool:
        """Whether Word does not show a run."""
        return is_on(self.run_property(run, "vanish"))

    def numbering_of(self, style: str) -> Element | None:
        """Return the numbering that a numbering style stands for."""
        return child(self._styles.get(style), "pPr", "numPr")
