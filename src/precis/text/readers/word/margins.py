"""Headers and footers: on every page of the paper, once in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from precis.text.readers.packages import Package
from precis.text.readers.word.xml import attribute, below, child, children, is_on, tag

_PAGE_FIELD = re.compile(r"\s*(?:PAGE|NUMPAGES|SECTIONPAGES)\b", re.IGNORECASE)
# What is left of "Page 3 of 12" without its numbers, in some languages.
_PAGE_WORDS = re.compile(r"page|of|pages|p|pg|seite|von|s|sur|página|pagina|de|di|side|av|af|sida|strona|z")


def margin_parts(
    package: Package, main: str, body: Element, settings: Element | None
) -> Iterator[tuple[str, str]]:
    """Give the headers and footers that Word shows: "header" or "footer", and the part's name, each once."""
    related = package.related(main)
    given: set[str] = set()
    for section in below(body, "sectPr"):
        for kind in ("header", "footer"):
            for reference in children(section, f"{kind}Reference"):
                _, part = related.get(attribute(reference, "id") or "", ("", ""))
                if part in package.names and part not in given and _is_shown(reference, section, settings):
                    given.add(part)
                    yield kind, part


def _is_shown(reference: Element, section: Element, settings: Element | None) -> bool:
    match attribute(reference, "type"):
        case "first":
            return is_on(child(section, "titlePg"))
        case "even":
            return is_on(child(settings, "evenAndOddHeaders"))
    return True


def drop_page_numbers(root: Element) -> bool:
    """Remove the numbers of pages from a header or footer; return whether there were any."""
    found = _drop_simple_fields(root)
    field = ""
    depth = 0
    for node in list(root.iter()):
        match tag(node):
            case "fldChar":
                depth += {"begin": 1, "end": -1}.get(attribute(node, "fldCharType") or "", 0)
                field = field if depth else ""
            case "instrText":
                field += node.text or ""
            case "t" if depth and _PAGE_FIELD.match(field):
                node.text = ""
                found = True
            case "pgNum":
                found = True
    return found


def _drop_simple_fields(root: Element) -> bool:
    found = False
    for parent in list(root.iter()):
        for field in list(children(parent, "fldSimple")):
            if _PAGE_FIELD.match(attribute(field, "instr") or ""):
                parent.remove(field)
                found = True
    return found


def says_nothing(text: str) -> bool:
    """Whether a header whose page numbers are gone says nothing else."""
    return all(_PAGE_WORDS.fullmatch(word) for word in re.findall(r"\w+", text.casefold()))
