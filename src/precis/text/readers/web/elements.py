"""What each element of a page becomes."""

from __future__ import annotations

import re
from collections.abc import Callable

from selectolax.lexbor import LexborNode

from precis.text.readers.marks import lowered, raised
from precis.text.readers.web.frame import Frame
from precis.text.readers.web.space import LINE, PARAGRAPH, kept, shown
from precis.text.readers.web.tables import close_cell, close_row, close_table, is_line_numbers

_SKIPPED = {
    *("script", "style", "template", "noscript", "iframe", "object", "embed", "datalist", "rt", "rp"),
    *("audio", "video", "canvas", "mphantom", "-comment", "!doctype", "-doctype", "-document-type"),
}
# The same formula once more, for machines or for eyes.
_COPIES = {"katex-html", "MathJax_Preview", "MJX_Assistive_MathML", "headerlink"}
_NUMBERED = {
    *("linenos", "lineno", "linenodiv", "linenumber", "linenumbers", "line-number", "line-numbers", "ln"),
    *("line-numbers-rows", "gutter", "hljs-ln-numbers", "blob-num", "rouge-gutter", "code-line-number"),
}
_BLOCKS = {
    *("address", "article", "aside", "body", "center", "details", "dialog", "div", "dl", "dt", "fieldset"),
    *("figcaption", "figure", "footer", "form", "head", "header", "hgroup", "html", "legend", "main", "nav"),
    *("optgroup", "p", "search", "section", "summary", "title", "hr"),
}
_MATH = {
    *(
        "math",
        "mfrac",
        "msup",
        "msub",
        "msubsup",
        "munder",
        "mover",
        "munderover",
        "msqrt",
        "mroot",
        "mi",
        "mn",
    ),
    *("mo", "mrow", "mtext", "mstyle", "semantics", "mtd", "mtr", "mtable", "mpadded", "ms", "annotation"),
}
_LISTS = {"ul", "ol", "menu"}
# Deeper lists and quotes are written as this one: every further level would indent all that it holds.
_DEEPEST = 12
_BACK_LINKS = {"↩", "↩︎", "↵", "⏎", "¶", "↑", "^"}


def is_skipped(node: LexborNode) -> bool:
    """Whether nothing of an element is text that someone reads."""
    tag = node.tag or ""
    if tag in _SKIPPED or tag.startswith(("!", "?")):
        return True
    if tag == "-text":
        return False
    classes = set((node.attributes.get("class") or "").split())
    if classes & _NUMBERED:
        return is_line_numbers(node.text(deep=True))
    return bool(classes & _COPIES)


def is_code_line(node: LexborNode) -> bool:
    """Whether an element is the cell of a table in which a line of code stands."""
    return node.tag == "td" and bool(
        {"blob-code", "hljs-ln-code"} & set((node.attributes.get("class") or "").split())
    )


def before(node: LexborNode) -> str:
    """Give what stands before an element's text."""
    tag = node.tag or ""
    if tag == "br":
        return LINE
    if tag == "dd":
        return LINE
    if tag == "q":
        return '"'
    if tag == "input":
        return _input(node.attributes)
    return PARAGRAPH if tag in _BLOCKS else ""


def after(node: LexborNode) -> str:
    """Give what stands after an element's text."""
    tag = node.tag or ""
    if tag == "q":
        return '"'
    return PARAGRAPH if tag in _BLOCKS and tag != "dt" else ""


def _input(attributes: dict[str, str | None]) -> str:
    kind, value = (attributes.get("type") or "text").lower(), attributes.get("value") or ""
    if kind in ("checkbox", "radio"):
        return " [x] " if "checked" in attributes else " [ ] "
    unseen = kind in ("hidden", "password", "submit", "reset", "button", "image", "file")
    return "" if unseen or not value else f" {value} "


def close(frame: Frame, outer: Frame) -> None:
    """Add the text of a frame that is complete to the frame around it."""
    if frame.tag in _MATH:
        _close_math(frame, outer)
    else:
        _CLOSERS[frame.tag](frame, outer)


def _pre(frame: Frame, outer: Frame) -> None:
    text = frame.text.replace(LINE, "\x1d").replace(PARAGRAPH, "")
    text = re.sub(r"^(?:[\x1a\x1c]*\x1d)+|[\x1a\x1c\x1d\s]+$", "", text)
    if not text:
        return
    fence = "````" if "```" in text else "```"
    language = _language(frame)
    outer.parts.append(f"{PARAGRAPH}{fence}{language}\x1d{text}\x1d{fence}{PARAGRAPH}")


def _language(frame: Frame) -> str:
    match = re.search(r"\blang(?:uage)?-([\w+#-]+)", frame.attributes.get("class") or "")
    return match[1] if match else ""


def _code(frame: Frame, outer: Frame) -> None:
    if outer.is_kept:
        outer.parts.append(frame.text)
        if frame.attributes.get("class"):
            outer.attributes.setdefault("class", frame.attributes["class"])
        return
    text = shown(frame.text)
    outer.parts.append(kept(f"`{text}`") if text else "")


def _deleted(frame: Frame, outer: Frame) -> None:
    text = frame.text
    outer.parts.append(f"~~{text.strip(' ')}~~" if text.strip() else text)


def _sup(frame: Frame, outer: Frame) -> None:
    text = shown(frame.text)
    classes = f"{frame.attributes.get('class') or ''} {frame.attributes.get('role') or ''}"
    points = _is_pointer(outer) or "points" in frame.attributes or bool(re.search(r"note|reference", classes))
    above = "".join(outer.parts[-12:])
    if not above.strip() and outer.parent is not None:
        above = "".join(outer.parent.parts[-12:]) + above
    notes = {text} if points else set[str]()
    if points and re.fullmatch(r"\w{1,4}", text):
        outer.parts.append(f"[{text}]")
    else:
        outer.parts.append(raised(text, above.translate(_PLAIN), notes) if text else "")


_PLAIN = str.maketrans({PARAGRAPH: "\n", LINE: "\n", "\x1c": " ", "\x1d": "\n", "\x1a": " "})


def _sub(frame: Frame, outer: Frame) -> None:
    text = shown(frame.text)
    outer.parts.append(lowered(text) if text else "")


def _is_pointer(frame: Frame) -> bool:
    return frame.tag == "a" and "#" in (frame.attributes.get("href") or "")


def _link(frame: Frame, outer: Frame) -> None:
    text = frame.text
    if text.strip() in _BACK_LINKS and _is_pointer(frame):
        return
    outer.parts.append(text)
    if outer.tag == "sup" and _is_pointer(frame):
        outer.attributes["points"] = ""


def _heading(frame: Frame, outer: Frame) -> None:
    text = re.sub(r"\s+", " ", shown(frame.text))
    if text:
        outer.parts.append(f"{PARAGRAPH}{'#' * int(frame.tag[1])} {kept(text)}{PARAGRAPH}")


def _quote(frame: Frame, outer: Frame) -> None:
    text = shown(frame.text)
    if text:
        mark = "> " if _depth(frame, {"blockquote"}) < _DEEPEST else ""
        quoted = "\n".join(f"{mark}{line}".rstrip() for line in text.split("\n"))
        outer.parts.append(f"{PARAGRAPH}{kept(quoted)}{PARAGRAPH}")


def _item(frame: Frame, outer: Frame) -> None:
    if outer.tag in ("ul", "ol", "menu", "select"):
        outer.items.append(frame)
    else:
        outer.parts += [PARAGRAPH, *frame.parts, PARAGRAPH]


def _list(frame: Frame, outer: Frame) -> None:
    lines = []
    if loose := shown(frame.text):
        lines.append(loose)
    for marker, item in zip(_markers(frame), frame.items, strict=True):
        text = shown(item.text)
        if text:
            indent = " " * (len(marker) + 1) if _depth(frame, _LISTS) < _DEEPEST else ""
            lines.append(f"{marker} " + re.sub(r"\n(?!\n)", f"\n{indent}", text))
    edge = LINE if outer.tag == "li" else PARAGRAPH
    outer.parts.append(edge + kept("\n".join(lines)) + edge)


def _depth(frame: Frame, tags: set[str]) -> int:
    """How many such elements are around a frame; deeper than anyone can see, counting ends."""
    depth = 0
    holder = frame.parent
    while holder is not None and depth < _DEEPEST:
        depth += holder.tag in tags
        holder = holder.parent
    return depth


def _markers(frame: Frame) -> list[str]:
    if frame.tag != "ol":
        return ["-"] * len(frame.items)
    step = -1 if "reversed" in frame.attributes else 1
    number = _whole(frame.attributes.get("start")) or (len(frame.items) if step < 0 else 1)
    if _whole(frame.attributes.get("start")) == 0:
        number = 0
    markers = []
    for item in frame.items:
        value = _whole(item.attributes.get("value"))
        number = number if value is None else value
        markers.append(_numeral(number, frame.attributes.get("type") or "1") + ".")
        number += step
    return markers


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\s*-?\d{1,9}\s*", text) else None


def _numeral(number: int, kind: str) -> str:
    if kind in ("a", "A") and 0 < number <= 26:
        return chr(ord(kind) + number - 1)
    if kind in ("i", "I") and 0 < number < 40:
        tens, ones = divmod(number, 10)
        roman = "x" * tens + ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")[ones]
        return roman.upper() if kind == "I" else roman
    return str(number)


def _select(frame: Frame, outer: Frame) -> None:
    chosen = [item for item in frame.items if "selected" in item.attributes]
    if not chosen and "multiple" not in frame.attributes:
        chosen = frame.items[:1]
    outer.parts.append(" " + ", ".join(shown(item.text) for item in chosen) + " ")


def _area(frame: Frame, outer: Frame) -> None:
    outer.parts.append(f" {kept(shown(frame.text))} ")


def _close_math(frame: Frame, outer: Frame) -> None:
    if frame.tag == "annotation":
        if "tex" in (frame.attributes.get("encoding") or ""):
            holder: Frame | None = outer
            while holder is not None and holder.tag != "math":
                holder = holder.parent
            if holder is not None:
                holder.attributes["tex"] = shown(frame.text)
        return
    text = _formula(frame, [shown(item.text) for item in frame.items])
    if frame.tag == "math":
        tex = frame.attributes.get("tex") or frame.attributes.get("alttext")
        outer.parts.append(kept(tex) if tex else text)
        return
    frame.parts = [text]
    outer.items.append(frame)
    outer.parts.append(text)


def _formula(frame: Frame, items: list[str]) -> str:
    match frame.tag, items:
        case "mfrac", [above, below]:
            return f"{_bracketed(above)}/{_bracketed(below)}"
        case "msup" | "mover", [base, high]:
            return base + raised_power(high)
        case "msub" | "munder", [base, low]:
            return base + lowered(low)
        case "msubsup" | "munderover", [base, low, high]:
            return base + lowered(low) + raised_power(high)
        case "msqrt", _:
            return f"√({frame.text.strip()})"
        case "mroot", [base, degree]:
            return f"({base})^{{1/{degree}}}"
        case "mtable" | "mtr", _:
            return ("; " if frame.tag == "mtable" else ", ").join(items)
    return frame.text


def raised_power(text: str) -> str:
    """Write a superscript that is certainly a power or an index, no footnote."""
    return raised(text, "x") if len(text) > 2 or not text.isalpha() else f"^{text}"


def _bracketed(text: str) -> str:
    return text if re.fullmatch(r"\w+(?:[.,]\d+)?", text) else f"({text})"


_CLOSERS: dict[str, Callable[[Frame, Frame], None]] = {
    **dict.fromkeys(("pre", "listing", "xmp"), _pre),
    **dict.fromkeys(("code", "kbd", "samp", "tt"), _code),
    **dict.fromkeys(("del", "s", "strike"), _deleted),
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), _heading),
    **dict.fromkeys(("ul", "ol", "menu"), _list),
    **dict.fromkeys(("li", "option"), _item),
    **dict.fromkeys(("td", "th", "caption"), close_cell),
    "sup": _sup,
    "sub": _sub,
    "a": _link,
    "blockquote": _quote,
    "select": _select,
    "textarea": _area,
    "tr": close_row,
    "table": close_table,
}
FRAMED = frozenset(_CLOSERS) | _MATH
