"""What lies on a PDF page: runs of glyphs, ruled lines, pictures, and the values of form fields."""

from __future__ import annotations

import ctypes
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

MISSING = "\ufffd"
ASKEW = 360
Space = Literal["", "drawn", "gap"]
# Of the font's size: a wider gap may lie between two columns, and ends a run.
WIDE_GAP = 0.8
# A page with more lines than this is a drawing or a map.
_MOST_RULES = 3000
_THIN = 3.0
# Degrees: pages that were scanned lie a little askew, watermarks lie more so.
_NEARLY = 15
_BULLETS = {"\uf0b7": "•", "\uf0a7": "▪", "\uf0fc": "✓"}


@dataclass(frozen=True, slots=True)
class Run:
    """Glyphs that were drawn side by side on one baseline.

    Attributes
    ----------
    text
        Their characters, from left to right.
    x0, x1, y
        Where they begin, end, and stand, in points, in the frame in which they are upright; `y` grows
        downwards.
    size
        The height of the font as it is drawn, in points.
    order
        The run's place in the order of drawing.
    space
        What divides it from what was drawn before it: nothing, a space that was drawn, or a gap.
    turn
        By how many degrees, clockwise, its frame is turned; `ASKEW` for what is far from a right angle.
    """

    text: str
    x0: float
    x1: float
    y: float
    size: float
    order: int
    space: Space = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal or vertical line, or another box, in the frame of the page (`y` downwards)."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def is_vertical(self) -> bool:
        """Whether it is taller than wide."""
        return self.y1 - self.y0 > self.x1 - self.x0

    def turned(self, turn: int) -> Rule:
        """Give it in the frame of text that is turned so."""
        (ax, ay), (bx, by) = upright(self.x0, self.y0, turn), upright(self.x1, self.y1, turn)
        return Rule(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))


@dataclass(frozen=True)
class Drawn:
    """One page.

    Attributes
    ----------
    runs, rules
        Its text, form fields included, and its lines.
    edges
        The page's box, in the frame of the page (`y` downwards).
    rotation
        By how many degrees, clockwise, the page is turned before it is shown.
    pictured
        The share of the page that pictures cover, at most 1.
    missing, glyphs
        How many of its glyphs have no Unicode, of how many.
    """

    runs: list[Run]
    rules: list[Rule]
    edges: Rule
    rotation: int
    pictured: float
    missing: int
    glyphs: int


def upright(x: float, y: float, turn: int) -> tuple[float, float]:
    """Turn a point of the page (`y` downwards) into the frame in which text turned by `turn` is upright."""
    return {0: (x, y), 90: (y, -x), 180: (-x, -y), 270: (-y, x), ASKEW: (x, y)}[turn]


def drawn(page: pdfium.PdfPage) -> Drawn:
    """Read a page, and close it."""
    rules, pictured = _rules_and_pictures(page)
    reader = _RunReader(page, whole_words=any(rule.is_vertical for rule in rules))
    runs = reader.runs()
    runs += list(_field_runs(page, runs, len(runs)))
    left, bottom, right, top = page.get_mediabox()
    edges, rotation = Rule(left, -top, right, -bottom), page.get_rotation()
    page.close()
    return Drawn(runs, rules, edges, rotation, pictured, reader.missing, reader.glyphs)


@dataclass
class _Open:
    """A run that is still growing, in the coordinates of the PDF."""

    low: float  # `low` and `high` are its edges across the direction of reading
    high: float
    turn: int
    x: float
    y: float
    size: float
    space: Space
    start: float
    end: float
    least: float  # the gaps before the next glyph that the run may have
    most: float
    text: list[str] = field(default_factory=list)


class _RunReader:
    """Groups the characters of a page into runs.

    Every character costs calls into the library, so only what tells one from its neighbour is asked for.
    """

    def __init__(self, page: pdfium.PdfPage, whole_words: bool) -> None:
        self._text = page.get_textpage()
        self._whole_words = whole_words
        self._done: list[Run] = []
        self._open: _Open | None = None
        self.missing = 0
        self.glyphs = 0

    def runs(self) -> list[Run]:
        """Give all runs of the page, in the order of drawing."""
        handle, box = self._text.raw, pdfium_c.FS_RECTF()
        space: Space = ""
        reference, box_of = ctypes.byref(box), pdfium_c.FPDFText_GetLooseCharBox
        code_of, is_missing = pdfium_c.FPDFText_GetUnicode, pdfium_c.FPDFText_HasUnicodeMapError
        for index in range(pdfium_c.FPDFText_CountChars(handle)):
            code = code_of(handle, index)
            if code in _SPACES:
                if space != "drawn":
                    space = "gap" if pdfium_c.FPDFText_IsGenerated(handle, index) == 1 else "drawn"
                continue
            box_of(handle, index, reference)
            run, left = self._open, box.left
            # Nearly every character goes on with upright text; the rest of this class is for the others.
            if (
                run is not None
                and 32 < code < 0x590
                and not run.turn
                and run.low == box.bottom
                and run.high == box.top
                and run.least < left - run.end < run.most
                and not (space and self._whole_words)
                and is_missing(handle, index) == 0
            ):
                run.text.append(" " + chr(code) if space else chr(code))
                run.end = box.right
                self.glyphs += 1
            else:
                self._add(index, self._character(index, code), (left, box.bottom, box.right, box.top), space)
            space = ""
        self._close()
        return self._done

    def _character(self, index: int, code: int) -> str:
        self.glyphs += 1
        character = chr(code) if code < 0xD800 or 0xDFFF < code < 0x110000 else MISSING
        if code in (2, 0xFFFE) and pdfium_c.FPDFText_IsHyphen(self._text.raw, index) == 1:
            return "-"
        if pdfium_c.FPDFText_HasUnicodeMapError(self._text.raw, index) == 1 or code < 32 or code == 0xFFFE:
            self.missing += 1
            return MISSING
        if code < 0xE000:
            return character
        if code <= 0xF8FF:
            self.missing += character not in _BULLETS
            return _BULLETS.get(character, character)
        # Ligatures, and the shapes that Arabic letters take within words.
        if not 0xFB00 <= code <= 0xFEFC:
            return character
        letters = unicodedata.normalize("NFKC", character)
        return letters[::-1] if reads_leftwards(letters) else letters  # as they stand, from left to right

    def _add(self, index: int, character: str, box: tuple[float, float, float, float], space: Space) -> None:
        run = self._open
        if run is None or not self._goes_on(run, index, box, space) or reads_leftwards(character):
            self._close()
            run = self._open = self._begin(index, box, space)
        elif space:
            run.text.append(" ")
        run.text.append(character)
        run.end = _along(box, run.turn)[1]

    def _goes_on(self, run: _Open, index: int, box: tuple[float, float, float, float], space: Space) -> bool:
        if run.turn == ASKEW:
            return self._turn(index) == ASKEW
        low, high = _across(box, run.turn)
        if abs(low - run.low) > 0.1 or abs(high - run.high) > 0.1:
            return False
        if reads_leftwards(run.text[-1]) or (space and self._whole_words):
            return False
        return run.least < _along(box, run.turn)[0] - run.end < run.most

    def _begin(self, index: int, box: tuple[float, float, float, float], space: Space) -> _Open:
        handle, x, y = self._text.raw, ctypes.c_double(), ctypes.c_double()
        pdfium_c.FPDFText_GetCharOrigin(handle, index, x, y)
        turn = self._turn(index)
        low, high = _across(box, turn)
        # A font's box is about 1.17 of its size; what fonts say of themselves ignores how they are scaled.
        size = max((high - low) / 1.17, 0.5)
        start, end = _along(box, turn)
        return _Open(low, high, turn, x.value, y.value, size, space, start, end, -0.5 * size, WIDE_GAP * size)

    def _turn(self, index: int) -> int:
        angle = math.degrees(pdfium_c.FPDFText_GetCharAngle(self._text.raw, index)) % 360
        nearest = round(angle / 90) * 90
        return nearest % 360 if abs(angle - nearest) < _NEARLY else ASKEW

    def _close(self) -> None:
        run, self._open = self._open, None
        if run is None:
            return
        _, y = upright(run.x, -run.y, run.turn)
        text = "".join(run.text)
        order = len(self._done)
        self._done.append(Run(text, run.start, run.end, y, run.size, order, run.space, run.turn))


_SPACES = {9, 10, 13, 32, 0xA0, 0x2002, 0x2003, 0x2009, 0x200A, 0x202F, 0x3000}


def _along(box: tuple[float, float, float, float], turn: int) -> tuple[float, float]:
    """Where a box begins and ends in the direction of reading, in its upright frame."""
    left, bottom, right, top = box
    return {
        0: (left, right),
        90: (-top, -bottom),
        180: (-right, -left),
        270: (bottom, top),
        ASKEW: (left, right),
    }[turn]


def _across(box: tuple[float, float, float, float], turn: int) -> tuple[float, float]:
    """Give the edges of a box across the direction of reading."""
    left, bottom, right, top = box
    return (bottom, top) if turn in (0, 180, ASKEW) else (left, right)


def reads_leftwards(character: str) -> bool:
    """Whether a text begins with a Hebrew or Arabic letter, or with a mark on one."""
    return character > "\u0590" and unicodedata.bidirectional(character[0]) in ("R", "AL", "NSM")


def _rules_and_pictures(page: pdfium.PdfPage) -> tuple[list[Rule], float]:
    """Find the lines of a page, and the share of it that pictures cover."""
    left_edge, bottom_edge, right_edge, top_edge = page.get_mediabox()
    rules: list[Rule] = []
    covered = 0.0
    for item in page.get_objects(max_depth=4):
        if item.type == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = _bounds(item)
            across = min(right, right_edge) - max(left, left_edge)
            along = min(top, top_edge) - max(bottom, bottom_edge)
            covered += max(across, 0) * max(along, 0)
        elif item.type == pdfium_c.FPDF_PAGEOBJ_PATH and len(rules) <= _MOST_RULES:
            rules += _path_rules(item)
    if len(rules) > _MOST_RULES:
        rules = []
    return rules, min(1.0, covered / max((right_edge - left_edge) * (top_edge - bottom_edge), 1.0))


def _matrix(item: pdfium.PdfObject) -> pdfium.PdfMatrix:
    """Give the whole way from an object's coordinates to those of the page."""
    matrix = pdfium.PdfMatrix()
    holder = getattr(item, "container", None)
    while holder is not None:
        matrix = matrix.multiply(holder.get_matrix())
        holder = getattr(holder, "container", None)
    return matrix


def _bounds(item: pdfium.PdfObject) -> tuple[float, float, float, float]:
    box: tuple[float, float, float, float] = item.get_bounds()
    return _matrix(item).on_rect(*box) if getattr(item, "container", None) else box


def _path_rules(item: pdfium.PdfObject) -> Iterator[Rule]:
    left, bottom, right, top = _bounds(item)
    box = Rule(left, -top, right, -bottom)
    if min(right - left, top - bottom) <= _THIN:
        if max(right - left, top - bottom) > 2 * _THIN:
            yield box
        return
    mode, stroke = ctypes.c_int(), ctypes.c_int()
    pdfium_c.FPDFPath_GetDrawMode(item.raw, mode, stroke)
    if stroke.value:
        yield from _stroked(item)


def _stroked(item: pdfium.PdfObject) -> Iterator[Rule]:
    """Give the horizontal and vertical strokes of a path."""
    matrix = item.get_matrix().multiply(_matrix(item))
    x, y = ctypes.c_float(), ctypes.c_float()
    first = last = (0.0, 0.0)
    for index in range(min(pdfium_c.FPDFPath_CountSegments(item.raw), 400)):
        segment = pdfium_c.FPDFPath_GetPathSegment(item.raw, index)
        pdfium_c.FPDFPathSegment_GetPoint(segment, x, y)
        point = matrix.on_point(x.value, y.value)
        kind = pdfium_c.FPDFPathSegment_GetType(segment)
        if kind == pdfium_c.FPDF_SEGMENT_MOVETO:
            first = point
        elif kind == pdfium_c.FPDF_SEGMENT_LINETO:
            yield from _straight(last, point)
        if pdfium_c.FPDFPathSegment_GetClose(segment):
            yield from _straight(point, first)
        last = point


def _straight(start: tuple[float, float], end: tuple[float, float]) -> Iterator[Rule]:
    (ax, ay), (bx, by) = start, end
    wide, tall = abs(ax - bx), abs(ay - by)
    if min(wide, tall) < 1 and max(wide, tall) > 2 * _THIN:
        yield Rule(min(ax, bx), -max(ay, by), max(ax, bx), -min(ay, by))


def _field_runs(page: pdfium.PdfPage, runs: list[Run], order: int) -> Iterator[Run]:
    """Give the values of a page's form fields, as if they were printed beside their labels."""
    form = page.formenv
    if form is None:
        return
    for index in range(pdfium_c.FPDFPage_GetAnnotCount(page.raw)):
        note = pdfium_c.FPDFPage_GetAnnot(page.raw, index)
        text = _field_text(form, note)
        box = pdfium_c.FS_RECTF()
        if text and pdfium_c.FPDFAnnot_GetRect(note, box):
            for number, line in enumerate(text.splitlines()):
                yield _field_run(line, box, runs, order, number)
                order += 1
        pdfium_c.FPDFPage_CloseAnnot(note)


def _field_text(form: pdfium.PdfFormEnv, note: object) -> str:
    kind = pdfium_c.FPDFAnnot_GetFormFieldType(form.raw, note)
    if kind in (pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON):
        return "[x]" if pdfium_c.FPDFAnnot_IsChecked(form.raw, note) else "[ ]"
    if kind not in _VALUED:
        return ""
    length = pdfium_c.FPDFAnnot_GetFormFieldValue(form.raw, note, None, 0)
    buffer = ctypes.create_string_buffer(length)
    pointer = ctypes.cast(buffer, ctypes.POINTER(pdfium_c.FPDF_WCHAR))
    pdfium_c.FPDFAnnot_GetFormFieldValue(form.raw, note, pointer, length)
    return buffer.raw.decode("utf-16-le").split("\0")[0].strip()


_VALUED = (
    pdfium_c.FPDF_FORMFIELD_TEXTFIELD,
    pdfium_c.FPDF_FORMFIELD_COMBOBOX,
    pdfium_c.FPDF_FORMFIELD_LISTBOX,
)


def _field_run(text: str, box: pdfium_c.FS_RECTF, runs: list[Run], order: int, number: int) -> Run:
    """Place a field's line; its first line stands on the line of the label beside it."""
    top, bottom = -box.top, -box.bottom
    size = min(12.0, (bottom - top) * 0.8)
    middle = (top + bottom) / 2
    beside = [
        run
        for run in runs
        if run.turn == 0 and abs(run.y - 0.3 * run.size - middle) < (bottom - top) * 0.5 + 2
    ]
    run = Run(text, box.left, box.left + 0.5 * size * len(text), middle + 0.3 * size, size, order, "drawn")
    if number:
        return replace(run, y=run.y + number * 1.2 * size)
    if not beside:
        return run
    label = max(
        beside, key=lambda each: (each.x1 <= box.left + 2, each.x1 if each.x1 <= box.left + 2 else -each.x0)
    )
    run = replace(run, y=label.y, size=label.size)
    if label.x1 <= box.left + 2:
        return replace(run, x0=label.x1 + 0.3 * size, x1=max(box.right, label.x1 + size))
    return replace(run, x1=max(label.x0 - 0.3 * size, run.x0 + 0.1))
