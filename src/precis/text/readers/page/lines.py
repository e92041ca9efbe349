"""From runs of glyphs to lines of text: what stands on one baseline, with its marks and in reading order."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from precis.text.readers.marks import lowered, raised
from precis.text.readers.page.glyphs import WIDE_GAP, Run, reads_leftwards

_NOTE = re.compile(r"\[?(\d{1,3}|[a-z])[\].)]?\s+\S")
_WORD_GAP = 0.15
_SCRIPT_GAP = 0.08


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a line that no wide gap divides; a table that was made of several is one, too.

    Attributes
    ----------
    text
        Its text; a table is in Markdown.
    x0, x1, top, y
        Its left and right edge, its upper edge, and its baseline, in points, `y` downwards.
    size
        Of its font, in points.
    is_table
        Whether it is a table.
    """

    text: str
    x0: float
    x1: float
    top: float
    y: float
    size: float
    is_table: bool = False


Row = list[Segment]


def rows(runs: Sequence[Run]) -> list[Row]:
    """Give the lines of one frame from top to bottom, each from left to right."""
    found = _baselines(runs)
    body = Counter[float]()
    for line in found:
        for run, _ in line:
            body[round(run.size, 1)] += len(run.text)
    usual = body.most_common(1)[0][0] if body else 1.0
    marks = {run.text.strip("[] ") for line in found for run, place in line if place == 1}
    notes = {mark for line in found if (mark := _note_mark(line, usual)) in marks and mark}
    return [_marked(_segments(line, notes), line, usual, notes) for line in found]


# A run, and whether it is raised (1), lowered (-1) or neither (0).
_Placed = tuple[Run, int]


def _baselines(runs: Sequence[Run]) -> list[list[_Placed]]:
    """Group runs by baseline. Super- and subscripts join the line of the run that they touch."""
    lines: list[list[_Placed]] = []
    ordered = sorted(runs, key=lambda run: (run.y, run.x0))
    scripts = _scripts(ordered)
    for run in ordered:
        if run.order in scripts:
            continue
        if lines and abs(run.y - lines[-1][0][0].y) <= 0.3 * max(run.size, lines[-1][0][0].size):
            lines[-1].append((run, 0))
        else:
            lines.append([(run, 0)])
    home = {run.order: line for line in lines for run, _ in line}
    for run in ordered:
        if run.order in scripts:
            base, place = scripts[run.order]
            home[base.order].append((run, place))
    return [sorted(line, key=_place_in_line) for line in lines]


def _place_in_line(placed: _Placed) -> tuple[float, int]:
    """Sort from left to right; the letters of one glyph share a place."""
    run = placed[0]
    return run.x0, -run.order if reads_leftwards(run.text) else run.order


def _scripts(ordered: Sequence[Run]) -> dict[int, tuple[Run, int]]:
    """Find the super- and subscripts: by their order, the run whose line they belong to, and their place."""
    if len({round(run.size, 1) for run in ordered}) == 1 and not any(len(run.text) <= 3 for run in ordered):
        return {}
    found: dict[int, tuple[Run, int]] = {}
    for at, run in enumerate(ordered):
        base = _base_of(run, at, ordered) if len(run.text) <= 12 else None
        if base is not None:
            found[run.order] = (base, 1 if run.y < base.y else -1)
    # Scripts that stand on another script's line belong to its base.
    return {
        order: (found[base.order][0], place) if base.order in found else (base, place)
        for order, (base, place) in found.items()
        if base.order not in found or found[base.order][0].order not in found
    }


def _base_of(run: Run, at: int, ordered: Sequence[Run]) -> Run | None:
    best: tuple[float, Run] | None = None
    for step in (-1, 1):
        index = at + step
        while 0 <= index < len(ordered) and abs(ordered[index].y - run.y) < 30:
            other = ordered[index]
            index += step
            shift, small = abs(other.y - run.y) / other.size, run.size / other.size
            if not 0.08 < shift < 0.75 or small > (0.87 if len(run.text) > 4 or shift < 0.2 else 1.0):
                continue
            after, ahead = run.x0 - other.x1, other.x0 - run.x1
            gap = min(max(after, -0.1 * other.size) if after > -0.3 * other.size else 99.0, 99.0)
            if (
                gap > 0.3 * other.size
                and -0.1 < ahead / other.size < 0.4
                and run.y < other.y
                and small <= 0.87
            ):
                gap = ahead + other.size  # a mark before a note; what stands to its left goes first
            elif gap > 0.3 * other.size:
                continue
            if best is None or gap < best[0]:
                best = (gap, other)
    return best[1] if best else None


def _note_mark(line: Sequence[_Placed], usual: float) -> str | None:
    """Give the mark with which a footnote begins: it is set smaller than the text is."""
    first, place = line[0]
    if place == 1:
        return first.text.strip("[] ")
    text = " ".join(run.text for run, _ in line[:3])
    match = _NOTE.match(text)
    return match[1] if match and first.size < 0.95 * usual else None


def _marked(row: Row, line: Sequence[_Placed], usual: float, notes: Set[str]) -> Row:
    """Set off the mark of a note whose mark is not raised."""
    first, place = line[0]
    match = re.match(r"(\d{1,3}) +(?=\S)", row[0].text)
    if place == 0 and match and match[1] in notes and first.size < 0.95 * usual:
        row[0] = replace(row[0], text=f"[{match[1]}] {row[0].text[match.end() :]}")
    return row


def _segments(line: Sequence[_Placed], notes: Set[str]) -> Row:
    """Divide a line at its wide gaps, and write out each part."""
    parts: list[list[_Placed]] = []
    for placed in line:
        run = placed[0]
        if parts and run.x0 - max(each.x1 for each, _ in parts[-1]) < WIDE_GAP * _size(parts[-1]):
            parts[-1].append(placed)
        else:
            parts.append([placed])
    return [_segment(part, notes) for part in parts]


def _size(part: Sequence[_Placed]) -> float:
    return max(run.size for run, _ in part)


def _segment(part: Sequence[_Placed], notes: Set[str]) -> Segment:
    size = _size(part)
    y = next((run.y for run, place in part if place == 0), part[0][0].y)
    x1 = max(run.x1 for run, _ in part)
    return Segment(logical(_text(part, notes)), part[0][0].x0, x1, y - 0.8 * size, y, size)


def _text(part: Sequence[_Placed], notes: Set[str]) -> str:
    text = ""
    last: Run | None = None
    index = 0
    while index < len(part):
        run, place = part[index]
        script = run.text
        if last is not None and _is_spaced(last, run, part[index - 1][1], place):
            text += " "
        # A script may have been drawn in pieces.
        while place and index + 1 < len(part) and part[index + 1][1] == place:
            index += 1
            script += part[index][0].text
        text += raised(script, text, notes) if place == 1 else lowered(script) if place else script
        last = part[index][0]
        index += 1
    return text


def _is_spaced(last: Run, run: Run, last_place: int, place: int) -> bool:
    space = None
    if run.order == last.order + 1:
        space = run.space
    elif last.order == run.order + 1:  # drawn from right to left
        space = last.space
    # Where the baseline changes, the library sees gaps that are none; before a script, there is none.
    if space == "drawn" or (space is not None and last_place == place):
        return bool(space)
    if place and last_place == 0:
        return False
    return run.x0 - last.x1 > (_WORD_GAP if last_place == place else _SCRIPT_GAP) * max(last.size, run.size)


_BRACKETS = str.maketrans("()[]{}<>«»", ")(][}{><»«")


def is_right_to_left(text: str) -> bool:
    """Whether Hebrew or Arabic letters are most of the text's letters."""
    if text.isascii():
        return False
    kinds = Counter(unicodedata.bidirectional(character) for character in text)
    return kinds["R"] + kinds["AL"] > kinds["L"]


def logical(text: str) -> str:
    """Put a line, read off the page from left to right, in the order in which it is spoken."""
    if text.isascii() or not any(unicodedata.bidirectional(each) in ("R", "AL") for each in text):
        return text
    if not is_right_to_left(text):
        return re.sub(_RIGHT_TO_LEFT, lambda match: _facing(match[0][::-1]), text)
    return _facing(_keep_left_to_right(text))


_RIGHT_TO_LEFT = r"[\u0590-\u08ff](?:[\u0590-\u08ff\s\"'.,-]*[\u0590-\u08ff])?"


def _keep_left_to_right(text: str) -> str:
    """Reverse a line, all but its numbers and Latin words."""
    pieces = re.split(r"([^\W\u0590-\u08ff](?:[^\u0590-\u08ff()\[\]]*[^\W\u0590-\u08ff])?[%€$]?)", text)
    return "".join(
        piece if number % 2 else piece[::-1] for number, piece in reversed(list(enumerate(pieces)))
    )


def _facing(text: str) -> str:
    """Turn brackets round where the first of them closes: some files hold shapes, others characters."""
    first = re.search(r"[()\[\]{}]", text)
    return text.translate(_BRACKETS) if first and first[0] in ")]}" else text
