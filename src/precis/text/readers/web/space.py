"""White space: what HTML folds, and what it keeps.

While a page is put together, breaks and kept spaces are characters that no page can hold.
"""

from __future__ import annotations

import re

PARAGRAPH = "\x1e"
LINE = "\x1f"
_KEPT = str.maketrans({" ": "\x1c", "\n": "\x1d", "\t": "\x1a"})
_SHOWN = str.maketrans({"\x1c": " ", "\x1d": "\n", "\x1a": "\t"})


def folded(text: str) -> str:
    """Fold the white space of running text, and drop control characters."""
    return re.sub(r"[ \t\n\r\f]+", " ", re.sub(r"[\x00-\x08\x0e-\x1f]", "", text.replace("\xa0", " ")))


def kept(text: str) -> str:
    """Keep all white space of a text as it is."""
    return text.replace("\r\n", "\n").translate(_KEPT)


def shown(text: str) -> str:
    """Turn breaks into newlines, and show what was kept."""
    text = re.sub(r" +", " ", text)
    text = re.sub(r" *([\x1e\x1f]) *", r"\1", text)
    text = re.sub(r"[\x1e\x1f]*\x1e[\x1e\x1f]*", "\n\n", text)
    return text.replace(LINE, "\n").strip(" \n").translate(_SHOWN)
