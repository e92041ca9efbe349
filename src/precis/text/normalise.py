"""The one form in which documents are kept and hashed: what is seen, and nothing that is not."""

from __future__ import annotations

import re
import unicodedata

# Controls, soft hyphens, zero-width spaces and joints, marks of direction, tags, halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
# Joiners mean something in Arabic, Indic and other scripts and between emoji; in Latin, Greek and Cyrillic
# they are noise.
_NEEDLESS_JOINER = re.compile("(?<![\u0590-\u1cff\u2300-\ufe0f\U00010000-\U0010ffff])[\u200c\u200d]+")
_WIDE_SPACE = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
# No script writes more on one letter; composing a run of thousands takes the square of its length.
_MOST_MARKS = 8
_MAYBE_MARKS = re.compile(rf"[^\w\s\x00-\u02ff]{{{_MOST_MARKS + 1},}}")


def normalise(text: str) -> str:
    r"""Return `text` in the one form in which documents are kept and hashed.

    Line endings become `\n`; characters that no reader sees (NULs and other controls, soft hyphens, stray
    byte order marks, zero-width spaces, marks of direction) go; special spaces become ordinary ones; rows of
    Markdown tables lose their padding; Unicode is composed (NFC), with at most eight marks on a letter;
    spaces at the ends of lines go, and so do blank lines at both ends of the text and all but two of a run of
    them.
    """
    text = re.sub(r"\r\n|[\r\f\v\x85\u2028\u2029]", "\n", text)
    if not text.isascii():
        text = _WIDE_SPACE.sub(" ", _NEEDLESS_JOINER.sub("", _UNSEEN.sub("", text)))
        text = unicodedata.normalize("NFC", _MAYBE_MARKS.sub(_bounded, text))
    lines = (_unpadded(line.rstrip()) for line in _UNSEEN.sub("", text).split("\n"))
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip("\n")


def _bounded(run: re.Match[str]) -> str:
    """Keep the first marks on every letter, and everything in the run that is no mark."""
    kept = []
    marks = 0
    for sign in run[0]:
        marks = marks + 1 if unicodedata.category(sign).startswith("M") else 0
        if marks <= _MOST_MARKS:
            kept.append(sign)
    return "".join(kept)


def _unpadded(line: str) -> str:
    """Return a row of a Markdown table without what fills its columns up: tokens that say nothing."""
    row = line.strip()
    if not (row.startswith("|") and row.endswith("|") and len(row) > 1 and ("  " in row or "----" in row)):
        return line
    cells = row[1:-1].split("|")
    if all(re.fullmatch(r"\s*:?-+:?\s*", cell) for cell in cells):
        return f"|{'|'.join(re.sub('-{4,}', '---', cell) for cell in cells)}|"
    return f"|{'|'.join(f' {inside} ' if (inside := cell.strip()) else ' ' for cell in cells)}|"
