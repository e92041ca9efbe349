"""Small helpers for XML whose namespaces differ between Word's dialects: names are compared without them."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element


def tag(node: Element) -> str:
    """Return the name of a node without its namespace."""
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def attribute(node: Element | None, name: str = "val") -> str | None:
    """Return an attribute whatever its namespace; None where node or attribute is missing."""
    if node is None:
        return None
    return next((value for key, value in node.attrib.items() if key.rpartition("}")[2] == name), None)


def child(node: Element | None, *path: str) -> Element | None:
    """Follow a path of names downwards, the first of each; None where it ends early."""
    for name in path:
        node = None if node is None else next((below for below in node if tag(below) == name), None)
    return node


def children(node: Element | None, name: str) -> Iterator[Element]:
    """Give the children with a name."""
    return (below for below in (() if node is None else node) if tag(below) == name)


def below(node: Element, name: str) -> Iterator[Element]:
    """Give all nodes with a name below a node, in order."""
    return (found for found in node.iter() if tag(found) == name)


def is_on(node: Element | None) -> bool:
    """Whether a switch such as `<w:vanish/>` is on: it is where it stands without a value, too."""
    return node is not None and (attribute(node) or "1").lower() not in {"0", "false", "off", "none"}


def number(node: Element | None, default: int, name: str = "val") -> int:
    """Return an attribute as a whole number, or `default` where it is missing or none."""
    value = attribute(node, name) or ""
    return int(value) if value.removeprefix("-").isdecimal() else default
