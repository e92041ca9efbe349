"""Equations (OMML) in one line, with their structure: (a+b)/(2c), x^2, √c, ∑_(i=1)^n."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from xml.etree.ElementTree import Element

from precis.text.readers.word.xml import attribute, child, children, is_on, tag

# What needs no brackets as a part of a larger expression.
_ATOM = re.compile(r"[^\W\d_]{3,}|\d+(?:[.,]\d+)?|.?", re.DOTALL)
_BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\|[^|]*\|")
_ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}


def linear(node: Element) -> str:
    """Return an equation, or a part of one, as a line of text; arrays of equations take one a line."""
    write = _STRUCTURES.get(tag(node))
    if write is not None:
        return write(node)
    if tag(node) == "t":
        return _plain_letters(node.text or "")
    if tag(node).endswith("Pr") or tag(node) in {"del", "moveFrom"}:
        return ""
    return "".join(map(linear, node))


def raised(mark: str, content: str) -> str:
    """Write a superscript (`mark` is ^) or a subscript (`mark` is _), in brackets where it needs them."""
    simple = re.fullmatch(r"[-+−]?(?:[^\W_]+|\d+[.,]\d+|[*′″†‡])", content)
    return f"{mark}{content}" if simple else f"{mark}({content})"


def _plain_letters(text: str) -> str:
    """Undo the italic and bold alphabets of mathematics: 𝑥 is x to everyone who asks about it."""
    return re.sub("[\U0001d400-\U0001d7ff]", lambda found: unicodedata.normalize("NFKC", found[0]), text)


def _part(node: Element, name: str) -> str:
    part = child(node, name)
    return "" if part is None else linear(part).strip()


def _grouped(text: str) -> str:
    return text if _ATOM.fullmatch(text) or _BRACKETED.fullmatch(text) else f"({text})"


def _property(node: Element, name: str, default: str) -> str:
    """Return a property of a structure; an empty value says that there is to be none."""
    found = child(node, f"{tag(node)}Pr", name)
    value = attribute(found)
    return default if found is None else (value or "")


def _fraction(node: Element) -> str:
    above, under = _part(node, "num"), _part(node, "den")
    if _property(node, "type", "bar") == "noBar":  # a binomial coefficient, within its own brackets
        return f"{above} choose {under}"
    return f"{_grouped(above)}/{_grouped(under)}"


def _scripts(*names: str) -> Callable[[Element], str]:
    marks = {"sub": "_", "sup": "^", "lim": "_"}

    def write(node: Element) -> str:
        base = _grouped(_part(node, "e"))
        return base + "".join(raised(marks[name], script) for name in names if (script := _part(node, name)))

    return write


def _before(node: Element) -> str:
    scripts = "".join(
        raised(mark, script) for name, mark in (("sub", "_"), ("sup", "^")) if (script := _part(node, name))
    )
    return f"{{}}{scripts}{_grouped(_part(node, 'e'))}"


def _root(node: Element) -> str:
    degree, inside = _part(node, "deg"), _part(node, "e")
    if is_on(child(node, "radPr", "degHide")):
        degree = ""
    sign = _ROOTS.get(degree)
    return f"{sign}{_grouped(inside)}" if sign else f"root_{_grouped(degree)}({inside})"


def _nary(node: Element) -> str:
    sign = _property(node, "chr", "∫") or "∫"
    limits = "".join(
        raised(mark, limit) for name, mark in (("sub", "_"), ("sup", "^")) if (limit := _part(node, name))
    )
    return f"{sign}{limits} {_part(node, 'e')}"


def _delimited(node: Element) -> str:
    opening, closing = _property(node, "begChr", "("), _property(node, "endChr", ")")
    between = _property(node, "sepChr", "|")
    return opening + between.join(linear(part).strip() for part in children(node, "e")) + closing


def _function(node: Element) -> str:
    inside = _part(node, "e")
    return f"{_part(node, 'fName')}{inside if inside.startswith('(') else f' {inside}'}"


def _limit(mark: str) -> Callable[[Element], str]:
    return lambda node: f"{_part(node, 'e')}{raised(mark, _part(node, 'lim'))}"


def _matrix(node: Element) -> str:
    rows = (", ".join(linear(cell).strip() for cell in children(row, "e")) for row in children(node, "mr"))
    return f"[{'; '.join(rows)}]"


def _lines(node: Element) -> str:
    return "\n".join(linear(part).strip() for part in children(node, "e"))


def _accented(node: Element) -> str:
    accent, inside = _property(node, "chr", "\u0302"), _part(node, "e")
    if len(inside) == 1 and unicodedata.combining(accent[:1] or " "):
        return inside + accent
    return f"{unicodedata.name(accent[:1] or '^').removeprefix('COMBINING ').lower()}({inside})"


def _bar(node: Element) -> str:
    side = "under" if _property(node, "pos", "bot") == "bot" else "over"
    return f"{side}line({_part(node, 'e')})"


def _phantom(node: Element) -> str:
    show = child(node, "phantPr", "show")
    return _part(node, "e") if show is None or is_on(show) else ""


_STRUCTURES: dict[str, Callable[[Element], str]] = {
    "f": _fraction,
    "sSup": _scripts("sup"),
    "sSub": _scripts("sub"),
    "sSubSup": _scripts("sub", "sup"),
    "sPre": _before,
    "rad": _root,
    "nary": _nary,
    "d": _delimited,
    "func": _function,
    "limLow": _limit("_"),
    "limUpp": _limit("^"),
    "m": _matrix,
    "eqArr": _lines,
    "acc": _accented,
    "bar": _bar,
    "phant": _phantom,
}
