"""A walk through a page's elements, without recursion: pages may be nested as deep as they like."""

from __future__ import annotations

from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from precis.text.readers.web import elements
from precis.text.readers.web.frame import Frame
from precis.text.readers.web.space import folded, kept, shown


def page_text(markup: str) -> str:
    """Give the text of a page as Markdown, without its scripts, addresses and pictures."""
    root = LexborHTMLParser(markup).root
    frame = Frame("", {}, None)
    if root is None:
        return ""
    for node, enters in _steps(root):
        if node.tag == "-text":
            text = node.text_content or ""
            frame.parts.append(kept(text) if frame.is_kept else folded(text))
        elif enters:
            frame = _enter(node, frame)
        else:
            frame = _leave(node, frame)
    return shown(frame.text)


def _steps(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Give every element twice, as the walk enters and leaves it, and every text once."""
    node: LexborNode | None = root
    depth = 0
    while node is not None:
        yield node, True
        child = None if elements.is_skipped(node) or node.tag == "-text" else node.child
        if child is not None:
            node, depth = child, depth + 1
            continue
        if node.tag != "-text":
            yield node, False
        while node is not None and node.next is None and depth:
            node, depth = node.parent, depth - 1
            if node is not None:
                yield node, False
        node = node.next if node is not None and depth else None


def _enter(node: LexborNode, frame: Frame) -> Frame:
    tag = node.tag or ""
    frame.parts.append(elements.before(node))
    if tag not in elements.FRAMED or elements.is_skipped(node):
        return frame
    is_kept = frame.is_kept or tag in ("pre", "listing", "xmp") or elements.is_code_line(node)
    return Frame(tag, dict(node.attributes), frame, is_kept=is_kept)


def _leave(node: LexborNode, frame: Frame) -> Frame:
    tag = node.tag or ""
    if tag in elements.FRAMED and not elements.is_skipped(node) and frame.parent is not None:
        outer = frame.parent
        elements.close(frame, outer)
        frame = outer
    frame.parts.append(elements.after(node))
    return frame
