"""Words that a line's end broke: whole again, with the hyphen only where they have one of their own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

_WORD = re.compile(r"[^\W_]+(?:[-‐][^\W_]+)*")
_HYPHENS = "-\u2010\xad"
_BROKEN = re.compile(rf"[^\W_][{_HYPHENS}]$")
# Words that always keep the hyphen after them, and those that keep it before them.
_BEFORE = {
    *("all", "cross", "ex", "half", "ill", "mid", "non", "quasi", "self", "vice", "well"),
    *("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
    *("low", "high", "long", "short", "full", "part", "first", "second", "third", "one", "two", "three"),
}
_AFTER = {
    *("based", "driven", "free", "in-law", "known", "law", "like", "made", "oriented", "related", "specific"),
    *("term", "time", "wide", "year", "day", "level", "class", "hand", "quality", "scale", "speed"),
}
# "Hafen- und Seedienst": a word that was left out, not a word that was broken.
_JOINING = {
    "und",
    "oder",
    "bzw",
    "sowie",
    "bis",
    "and",
    "or",
    "to",
    "nor",
    "et",
    "ou",
    "en",
    "of",
    "och",
    "og",
    "y",
}
_ADDRESS = re.compile(r"(?:https?://|www\.|ftp://|\S+@)\S*$", re.IGNORECASE)

Spellings = Mapping[str, int]


def spellings(lines: Iterable[str]) -> Counter[str]:
    """Count a document's words, those left out that a line's end broke."""
    found: Counter[str] = Counter()
    for line in lines:
        words = _WORD.findall(line)
        if _BROKEN.search(line.rstrip()):
            words = words[:-1]
        found.update(word.lower().replace("‐", "-") for word in words)
    return found


def join(lines: Sequence[str], known: Spellings | None = None) -> str:
    r"""Join lines by `\n`, but those that end within a word or an address by what belongs there."""
    done: list[str] = []
    for line in lines:
        glue = _glue(done[-1], line, known or {}) if done else None
        if glue is None:
            done.append(line)
        else:
            done[-1] = done[-1].rstrip().rstrip(_HYPHENS if glue != "/" else "") + (
                "" if glue == "/" else glue
            )
            done[-1] += line.lstrip()
    return "\n".join(done)


def _glue(before: str, after: str, known: Spellings) -> str | None:
    """Say what joins two lines within one word: "", "-", "- ", or "/" for an address; None if nothing."""
    before, after = before.rstrip(), after.lstrip()
    address = _ADDRESS.search(before)
    if address and _address_goes_on(address[0], after):
        return "-" if before[-1] in "-‐" else "/"
    if not _BROKEN.search(before):
        return None
    first, second = _last_word(before), _first_word(after)
    if not first or not second or before[-2].isdigit():
        return None
    if before[-1] == "\xad":
        return ""
    if re.match(r"\S*(?:@|/|\w\.)\w", after):
        return "-"
    if second.lower() in _JOINING:
        return "- "
    return "-" if _has_hyphen(first, second, known) else ""


def _address_goes_on(address: str, after: str) -> bool:
    start = after.split(" ", 1)[0]
    if not re.match(r"[\w/?&=#%~.-]", start):
        return False
    if address[-1] in "-‐_/=&?%#~":
        return address[-1] in "-‐" or bool(re.search(r"[\d/._=&?#%-]\w", start)) or start == after
    return bool(re.match(r"[/?&=#%]\w", start))


def _last_word(line: str) -> str:
    match = re.search(r"[^\W_]+(?:[-‐'’][^\W_]+)*(?=[-‐\xad]$)", line)
    return match[0] if match else ""


def _first_word(line: str) -> str:
    match = re.match(r"[^\W_]+(?:[-‐][^\W_]+)*", line)
    return match[0] if match else ""


def _has_hyphen(first: str, second: str, known: Spellings) -> bool:
    """Whether a word is spelled with a hyphen: the document knows best, then plain sense."""
    if not second[0].islower():
        return second[0].isupper() or second[0].isdigit()
    whole, parted = (first + second).lower(), f"{first}-{second}".lower()
    if known.get(whole, 0) != known.get(parted, 0):
        return known.get(parted, 0) > known.get(whole, 0)
    first, second = first.lower(), second.lower()
    if "-" in first or len(first) == 1 or first in _BEFORE or second in _AFTER:
        return True
    # Two equal vowels: co-operation, re-enter, pre-eminent.
    return first in {"co", "re", "pre", "de", "semi", "anti"} and first[-1] == second[0]
