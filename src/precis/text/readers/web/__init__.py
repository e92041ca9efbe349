"""From the elements of a web page to its text."""

from __future__ import annotations

from precis.text.readers.web.walk import page_text

__all__ = ["page_text"]
