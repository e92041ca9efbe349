"""Footnotes and endnotes: each counted where it is referred to."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from precis.text.readers.word.numerals import numeral
from precis.text.readers.word.xml import attribute, child, number, tag


class Notes:
    """The notes of one kind, and the marks that Word shows for them.

    Parameters
    ----------
    root
        The root of the notes' part; None where there is none.
    kind
        "footnote" or "endnote".
    settings
        The root of the document's settings, which may say how notes are numbered.
    section
        The properties of the document's last section, which may say it, too.
    """

    def __init__(
        self, root: Element | None, kind: str, settings: Element | None, section: Element | None
    ) -> None:
        self._notes: dict[str, Element] = {}
        self._unnamed: list[Element] = []
        for node in () if root is None else root:
            if tag(node) != kind:
                self._unnamed = [root] if root is not None else []
            elif attribute(node, "type") in {None, "normal"}:  # the others are lines above the notes
                self._notes[attribute(node, "id") or ""] = node
        places = [child(root, f"{kind}Pr") for root in (section, settings)]
        forms = (attribute(child(place, "numFmt")) for place in places)
        usual = "lowerRoman" if kind == "endnote" else "decimal"
        self._form = next(filter(None, forms), usual)
        self._next = next(
            (number(start, 1) for at in places if (start := child(at, "numStart")) is not None), 1
        )

    def refer(self, reference: Element) -> tuple[str, Element | None]:
        """Return the mark of a reference, empty where the text itself bears one, and its note.

        A note is returned once; a further reference to it gets a mark of its own, as in Word.
        """
        note = self._notes.pop(attribute(reference, "id") or "", None)
        if attribute(reference, "customMarkFollows") in {"1", "true", "on"}:
            return "", note
        mark = numeral(self._next, self._form)
        self._next += 1
        return mark, note

    def rest(self) -> Iterator[Element]:
        """Give the notes that nothing refers to."""
        yield from self._notes.values()
        yield from self._unnamed
