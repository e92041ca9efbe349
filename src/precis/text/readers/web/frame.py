"""An element of a page while its text is being put together."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Frame:
    """An element whose text is being put together.

    Attributes
    ----------
    tag, attributes
        Its name and attributes.
    parent
        The frame that its text will be part of, or None for the page.
    parts
        The text so far.
    items
        What it is made of, where that is no running text: the items of a list, the rows of a table.
    is_kept
        Whether its white space is kept.
    """

    tag: str
    attributes: dict[str, str | None]
    parent: Frame | None
    parts: list[str] = field(default_factory=list)
    items: list[Frame] = field(default_factory=list)
    is_kept: bool = False

    @property
    def text(self) -> str:
        """Its running text so far."""
        return "".join(self.parts)
