"""From the pages of a PDF to their texts: one page after another, and what only shows over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from precis.text.readers.page.glyphs import ASKEW, Drawn
from precis.text.readers.page.hyphens import join, spellings
from precis.text.readers.page.lines import Row, Segment, rows
from precis.text.readers.page.order import in_order
from precis.text.readers.page.running import take_out
from precis.text.readers.page.tables import with_ruled_tables
from precis.text.readers.reader import Pages, UnreadableError

# A page of which pictures cover so much, with so few characters of text, was probably scanned.
_PICTURED = 0.6
_FEW = 100
# Of the height of a page, at each end: there, the stamps of archives stand.
_MARGIN = 0.1
_SCANNED = "a PDF without text: it seems to be scanned; run OCR first (say, ocrmypdf)"


@dataclass(frozen=True)
class _Leaf:
    """A page: its lines for each way in which text is turned on it, and what else is known of it."""

    frames: list[list[Row]]
    is_pictured: bool
    missing: int
    glyphs: int
    top: float
    bottom: float


def _leaf(page: Drawn) -> _Leaf:
    # What is upright to who looks at the page first, then what is turned beside it.
    turns = sorted(
        {run.turn for run in page.runs}, key=lambda turn: (turn == ASKEW, (turn + page.rotation) % 360)
    )
    frames = []
    for turn in turns:
        rules = [rule.turned(turn) for rule in page.rules]
        frames.append(with_ruled_tables(rows([run for run in page.runs if run.turn == turn]), rules))
    edges = page.edges.turned(turns[0] if turns else 0)
    pictured = page.pictured >= _PICTURED
    return _Leaf(frames, pictured, page.missing, page.glyphs, edges.y0, edges.y1)


def assembled(pages: Sequence[Drawn]) -> Pages:
    """Give the text of every page, and what was left out or could not be read.

    Raises
    ------
    UnreadableError
        Nothing is left of the text, or most of it has no Unicode.
    """
    leaves = [_leaf(page) for page in pages]
    bodies = [leaf.frames[0] if leaf.frames else [] for leaf in leaves]
    running, touched = take_out(bodies, [leaf.is_pictured for leaf in leaves])
    notices = []
    if running:
        notices.append(
            f"{_numbers(touched)}: heads and feet that repeat stand once, on the first page with text"
        )
    scanned = [number for number, leaf in enumerate(leaves) if _is_scan(leaf, bodies[number])]
    for number in scanned:
        if _is_stamp(bodies[number], leaves[number]):
            running += [each.text for row in bodies[number] for each in row]
            bodies[number] = []
    frames = [[body, *leaf.frames[1:]] for body, leaf in zip(bodies, leaves, strict=True)]
    pieces = [[in_order(part) for part in frame if part] for frame in frames]
    known = spellings(piece.text for frame in pieces for part in frame for piece in part)
    texts = ["\n\n".join(_joined(part, known) for part in frame) for frame in pieces]
    _join_pages(texts, known)
    if not any(text.strip() for text in texts):
        raise UnreadableError(_SCANNED)
    if scanned:
        notices.append(
            f"{_numbers(scanned)}: a picture with hardly any text; if it is scanned, run OCR first"
        )
    return Pages(_with_heads(texts, running), notices + _missing(leaves))


def _join_pages(texts: list[str], known: Mapping[str, int]) -> None:
    """Make words whole that the end of a page broke: they are of the page on which they begin."""
    for number in range(len(texts) - 1):
        word, _, rest = texts[number + 1].partition(" ")
        lines = texts[number].split("\n")
        whole = join([lines[-1], word], known)
        if "\n" not in whole and "\n" not in word and lines[-1]:
            texts[number] = "\n".join([*lines[:-1], whole])
            texts[number + 1] = rest


def _is_scan(leaf: _Leaf, body: Sequence[Row]) -> bool:
    return leaf.is_pictured and sum(len(each.text) for row in body for each in row) < _FEW


def _is_stamp(body: Sequence[Row], leaf: _Leaf) -> bool:
    """Whether all that is written on a picture stands at its upper and lower edge."""
    margin = _MARGIN * (leaf.bottom - leaf.top)
    return all(not leaf.top + margin < each.y < leaf.bottom - margin for row in body for each in row)


def _joined(pieces: Sequence[Segment], known: Mapping[str, int]) -> str:
    """Join a page's lines and tables; where more than a line's room is free, a paragraph ends."""
    usual = _usual_pitch(pieces)
    paragraphs: list[list[str]] = []
    last: Segment | None = None
    for piece in pieces:
        if last is None or _parts(last, piece, usual):
            paragraphs.append([])
        paragraphs[-1].append(piece.text)
        last = piece
    return "\n\n".join(join(lines, known) for lines in paragraphs)


def _usual_pitch(pieces: Sequence[Segment]) -> float:
    pitches = sorted(b.y - a.y for a, b in pairwise(pieces) if b.y > a.y and not b.is_table)
    return pitches[(len(pitches) - 1) // 2] if pitches else 0.0


def _parts(above: Segment, below: Segment, usual: float) -> bool:
    if above.is_table or below.is_table:
        return True
    return below.y - above.y > max(1.5 * usual, 1.9 * below.size)


def _with_heads(texts: list[str], running: Iterable[str]) -> list[str]:
    """Put running lines before everything else: anywhere later, they might stand within a sentence."""
    heads = "\n".join(dict.fromkeys(running))
    first = next(number for number, text in enumerate(texts) if text.strip())
    if heads:
        texts[first] = f"{heads}\n\n{texts[first]}"
    return texts


def _missing(leaves: Sequence[_Leaf]) -> list[str]:
    """Say on which pages glyphs have no Unicode; refuse a file that has hardly any that do."""
    missing, glyphs = sum(leaf.missing for leaf in leaves), sum(leaf.glyphs for leaf in leaves)
    if missing > 0.5 * glyphs:
        raise UnreadableError(
            "a PDF whose fonts do not say which characters they draw; export it again, or run OCR on it"
        )
    return [
        f"page {number}: {_share(leaf)} of the glyphs have no Unicode; \ufffd stands for them"
        for number, leaf in enumerate(leaves, start=1)
        if leaf.missing
    ]


def _share(leaf: _Leaf) -> str:
    return f"{max(1, round(100 * leaf.missing / leaf.glyphs))} %"


def _numbers(pages: Iterable[int]) -> str:
    """Name pages, counted from 0, as people do: "pages 1-3, 7"."""
    spans: list[list[int]] = []
    for page in sorted(pages):
        if spans and spans[-1][1] == page:
            spans[-1][1] = page + 1
        else:
            spans.append([page + 1, page + 1])
    names = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    plural = len(names) > 1 or "-" in names[0]
    return ("pages " if plural else "page ") + ", ".join(names)
