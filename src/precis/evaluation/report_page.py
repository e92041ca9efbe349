"""A report as one HTML page that a person wants to read; it needs nothing from anywhere else.

What is drawn is worked out here; `templates/report.html.jinja` only sets it. The template escapes all
text that it is given: documents, questions and answers may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from jinja2 import Environment, PackageLoader, StrictUndefined

from precis.evaluation.columns import MEASURES, Measure, basis, comparison, headline, percent, shown
from precis.evaluation.reliability import Reliability
from precis.evaluation.report import BY_HUMANS, AnsweredQuestion, MethodAnswer, MethodScores, Report
from precis.measures import normalised
from precis.text.document import Document

BASELINES = ("none", "full", "precis")
# Those that are no baselines: they have σ, read the whole document, or are a control.
OURS = (*BASELINES, "full-recall", "soft-prompt", "other-recall")
# Methods that are shown before the others with every question.
FIRST = ("precis", "soft-prompt", "none")
# The document is cut into regions of equal length, about one for so many questions.
QUESTIONS_A_REGION, MOST_REGIONS = 4, 24
WEAKEST_REGIONS = 3
EXCERPT = 320


def page(report: Report, document: Document) -> str:
    """Write the page.

    Parameters
    ----------
    report
        What `evaluate` found.
    document
        The document it was about: weak regions are shown with their text.
    """
    environment = Environment(
        loader=PackageLoader("precis.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    entries = _entries(report, document)
    regions = _regions(entries, document)
    asked_about = [region for region in regions if region.loss is not None]
    return environment.get_template("report.html.jinja").render(
        report=report,
        percent=percent,
        headline=headline(report),
        verdict=_verdict(report),
        basis=basis(report),
        by_humans=report.judged_by == BY_HUMANS,
        comparisons=[comparison(found) for found in report.comparisons],
        first=FIRST,
        columns=_columns(report),
        scatter=_scatter(report),
        entries=sorted(entries, key=lambda entry: (entry.order, -entry.loss)),
        left_out=[asked.question for asked in report.asked if "precis" not in asked.methods],
        regions=regions,
        weakest=sorted(asked_about, key=lambda region: -(region.loss or 0))[:WEAKEST_REGIONS],
        reliability=None if report.reliability is None else _reliability_plot(report.reliability),
        trade_off=None if report.reliability is None else _trade_off_plot(report.reliability),
    )


def _verdict(report: Report) -> str:
    """Say how the soft prompt alone and the best baseline did; empty where nothing was judged."""
    mine, alone = report.methods["precis"], report.methods["soft-prompt"]
    if mine.right is None or alone.right is None:
        return ""
    said = f"The soft prompt alone answers {alone.right_count} right."
    scores = {
        name: found.right
        for name, found in report.methods.items()
        if name not in OURS and found.right is not None
    }
    if not scores:
        return said
    best = max(scores, key=lambda name: scores[name])
    theirs = report.methods[best]
    who = best if len(scores) == 1 else f"The best of {len(scores)} other methods, {best},"
    room = ""
    if mine.prompt_positions and theirs.prompt_positions:
        room = f", with {theirs.prompt_positions:,.0f} positions before the question against "
        room += f"{mine.prompt_positions:,.0f}"
    return f"{said} {who} answers {theirs.right_count} of {theirs.judged} ({percent(scores[best])}){room}."


@dataclass(frozen=True)
class MeasureCell:
    """One value of the table: as text, and as what the column is sorted by (None comes last)."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Column:
    """One measure, with a cell a method."""

    name: str
    meaning: str
    cells: dict[str, MeasureCell]


def _columns(report: Report) -> list[Column]:
    """Give the table of methods; a measure that no method has is left out."""
    return [
        Column(
            measure.name,
            measure.meaning + ("; in brackets, its 95 % interval" if measure.interval else ""),
            {method: _cell(measure, method, scores) for method, scores in report.methods.items()},
        )
        for measure in shown(report, MEASURES)
    ]


def _cell(measure: Measure, method: str, scores: MethodScores) -> MeasureCell:
    bounds = measure.bounds(scores)
    # the recovery of these two is 0 and 1, whatever is asked
    if measure.field == "recovery" and method in ("none", "full"):
        bounds = ""
    return MeasureCell(measure.text(scores) + (f" ({bounds})" if bounds else ""), measure.value(scores))


@dataclass(frozen=True)
class Fragment:
    """Some words of an answer: `same` as in the full-document answer, `added` to it, or `missing`."""

    words: str
    kind: str


def differences(said: str, gold: str) -> list[Fragment]:
    """Mark an answer word by word against the full-document answer.

    Words that differ in case or punctuation alone are the same.
    """
    said_words, gold_words = said.split(), gold.split()
    matcher = SequenceMatcher(None, _plain(gold_words), _plain(said_words), autojunk=False)
    pieces = []
    for change, gold_start, gold_end, start, end in matcher.get_opcodes():
        if change in ("replace", "delete"):
            pieces.append(Fragment(" ".join(gold_words[gold_start:gold_end]), "missing"))
        if change != "delete":
            kind = "same" if change == "equal" else "added"
            pieces.append(Fragment(" ".join(said_words[start:end]), kind))
    return pieces


def _plain(words: Sequence[str]) -> list[str]:
    """Give words without case and punctuation; an article, which normalisation drops, stays."""
    return [normalised(word) or word.lower() for word in words]


@dataclass(frozen=True)
class QuestionEntry:
    """One question, with every method's answer marked against the full document's.

    `right` says of every method whether its answer is right, as far as that is known; `order` is 0 where
    that of precis is wrong, 1 where it is not known, 2 where it is right. `loss` is how much less likely σ
    makes the full-document answer than the document does, in units of what the document adds to a question
    in the mean: its mean over all questions is 1 − recovery.
    """

    question: str
    humans: list[str]
    gold: str
    loss: float
    nll_gap: float
    place: float
    confidence: float | None
    answers: dict[str, list[Fragment]]
    right: dict[str, bool | None]
    tokens: int

    @property
    def order(self) -> int:
        """Give the place among all questions: wrong ones come first."""
        return {False: 0, None: 1, True: 2}[self.right["precis"]]


def _entries(report: Report, document: Document) -> list[QuestionEntry]:
    asked = [each for each in report.asked if {*BASELINES, "soft-prompt"} <= each.methods.keys()]
    gaps = [each.methods["none"].nll - each.methods["full"].nll for each in asked]
    unit = sum(gaps) / len(gaps) if sum(gaps) > 0 else 1.0
    return [_entry(each, unit, len(document.text)) for each in asked]


def _entry(asked: AnsweredQuestion, unit: float, length: int) -> QuestionEntry:
    alone, gold = asked.methods["soft-prompt"], asked.methods["full"].text or ""
    gap = alone.nll - asked.methods["full"].nll
    order = [*FIRST, *(name for name in asked.methods if name not in (*FIRST, "full"))]
    said = {name: asked.methods[name].text for name in order}
    return QuestionEntry(
        question=asked.question,
        humans=asked.humans,
        gold=gold,
        loss=gap / unit,
        nll_gap=gap,
        place=asked.place / length,
        confidence=_confidence(asked.methods),
        answers={name: differences(text, gold) for name, text in said.items() if text is not None},
        right={name: answer.right for name, answer in asked.methods.items()},
        tokens=asked.tokens,
    )


def _confidence(answers: Mapping[str, MethodAnswer]) -> float | None:
    """Give that of precis; where it states none, that of σ alone."""
    stated = answers["precis"].confidence
    return answers["soft-prompt"].confidence if stated is None else stated


@dataclass(frozen=True)
class Region:
    """A stretch of the document.

    `loss` is the mean of its questions' (None without questions), `height` that loss on a scale from 0
    to 1, `start` and `end` shares of the document's length.
    """

    start: float
    end: float
    page: str
    loss: float | None
    height: float
    questions: list[str]
    excerpt: str


def _regions(entries: Sequence[QuestionEntry], document: Document) -> list[Region]:
    """Cut the document into regions of equal length, and give each the questions that belong there."""
    count = max(1, min(MOST_REGIONS, len(entries) // QUESTIONS_A_REGION))
    inside: list[list[QuestionEntry]] = [[] for _ in range(count)]
    for entry in entries:
        inside[min(count - 1, int(entry.place * count))].append(entry)
    losses = [sum(entry.loss for entry in each) / len(each) if each else None for each in inside]
    highest = max([1e-9, *(loss for loss in losses if loss is not None)])
    return [
        Region(
            start=number / count,
            end=(number + 1) / count,
            page=_page_name(document, number * len(document.text) // count),
            loss=loss,
            height=max(0.0, (loss or 0) / highest),
            questions=[entry.question for entry in sorted(each, key=lambda entry: -entry.loss)],
            excerpt=_excerpt(document.text, max(each, key=lambda entry: entry.loss).place) if each else "",
        )
        for number, (each, loss) in enumerate(zip(inside, losses, strict=True))
    ]


def _page_name(document: Document, offset: int) -> str:
    """Say where in the document a character is, if it has more than one page."""
    if len(document.pages) < 2:
        return ""
    found = document.page_at(offset)
    return f"{found.source}, page {found.number}"


def _excerpt(text: str, place: float) -> str:
    start = round(place * len(text))
    words = " ".join(text[start : start + EXCERPT].split())
    return words if start + EXCERPT >= len(text) else f"{words.rsplit(' ', 1)[0]} …"


@dataclass(frozen=True)
class Mark:
    """A point of a plot, in its coordinates, with a label and an interval (`low` and `high` are y).

    `moved` says that the label had to make room for another.
    """

    x: float
    y: float
    label: str
    kind: str
    label_x: float
    label_y: float
    anchor: str
    low: float | None = None
    high: float | None = None
    moved: bool = False


@dataclass(frozen=True)
class Plot:
    """What is drawn: ticks as (coordinate, text), marks, and lines as (kind, label, SVG points)."""

    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[Mark]
    lines: list[tuple[str, str, str]]


# The plotting area, in the units of the drawing (which is 400 wide and 300 high).
LEFT, RIGHT, TOP, BOTTOM = 54.0, 388.0, 14.0, 254.0
LABEL_HEIGHT, CHARACTER_WIDTH = 13.0, 6.5


def _scatter(report: Report) -> Plot | None:
    """Right answers against memory, on a logarithmic axis."""
    drawn = {
        name: (scores, scores.prefix_bytes, scores.right)
        for name, scores in report.methods.items()
        if scores.prefix_bytes and scores.right is not None
    }
    if not drawn:
        return None
    sizes = [size for _, size, _ in drawn.values()]
    first, last = math.log10(min(sizes)) - 0.15, math.log10(max(sizes)) + 0.15

    def across(size: float) -> float:
        return LEFT + (math.log10(size) - first) / (last - first) * (RIGHT - LEFT)

    marks = [_method_mark(name, scores, across(size), right) for name, (scores, size, right) in drawn.items()]
    decades = range(math.floor(first), math.ceil(last) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    return Plot(
        x_ticks=[(across(size), _size(size)) for size in ticks if first <= math.log10(size) <= last],
        y_ticks=_share_ticks(_up),
        marks=_without_overlap(marks),
        lines=[],
    )


def _method_mark(name: str, scores: MethodScores, x: float, right: float) -> Mark:
    # many methods stand at one size: more than one interval there would be a blur
    interval = scores.right_interval if name == "precis" else None
    at_the_right = x > LEFT + 0.7 * (RIGHT - LEFT)
    return Mark(
        x=x,
        y=_up(right),
        label=f"{name} {percent(right)}",
        kind=name if name in BASELINES else "baseline",
        label_x=x - 9 if at_the_right else x + 9,
        label_y=_up(right) + 4,
        anchor="end" if at_the_right else "start",
        low=None if interval is None else _up(interval[0]),
        high=None if interval is None else _up(interval[1]),
    )


def _without_overlap(marks: Sequence[Mark]) -> list[Mark]:
    """Move labels that would cover others to the nearest free place, from the lowest on."""
    placed: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (-mark.y, mark.label)):
        label_y = _free_place(mark, placed)
        placed.append(replace(mark, label_y=label_y, moved=abs(label_y - mark.label_y) > LABEL_HEIGHT / 2))
    return sorted(placed, key=lambda mark: mark.kind == "precis")  # the last one lies on top


def _free_place(mark: Mark, placed: Sequence[Mark]) -> float:
    """Look above and below a label's place, ever farther away, but not above the plot."""
    others = [other.label_y for other in placed if _share_width(mark, other)]
    for step in range(round(BOTTOM - TOP)):
        for label_y in (mark.label_y - step, mark.label_y + step):
            if label_y >= TOP and all(abs(other - label_y) >= LABEL_HEIGHT for other in others):
                return label_y
    return mark.label_y


def _share_width(one: Mark, other: Mark) -> bool:
    """Whether two labels would overlap, were they on one line."""
    (first, last), (start, end) = _label_width(one), _label_width(other)
    return first < end and start < last


def _label_width(mark: Mark) -> tuple[float, float]:
    width = CHARACTER_WIDTH * len(mark.label)
    return (mark.label_x, mark.label_x + width) if mark.anchor == "start" else (mark.label_x - width, mark.x)


def _reliability_plot(found: Reliability) -> Plot:
    """Right answers against confidence, one mark a bin."""
    marks = [
        Mark(
            x=_across(part.confidence),
            y=_up(part.agreement),
            label=str(part.count),
            kind="precis",
            label_x=_across(part.confidence) + 8,
            label_y=_up(part.agreement) - 7,
            anchor="start",
            low=_up(part.low),
            high=_up(part.high),
        )
        for part in found.bins
    ]
    curve = _points([(mark.x, mark.y) for mark in marks])
    diagonal = _points([(_across(0), _up(0)), (_across(1), _up(1))])
    return Plot(
        _share_ticks(_across),
        _share_ticks(_up),
        marks,
        [("chance", "perfectly calibrated", diagonal), ("precis", "precis", curve)],
    )


def _trade_off_plot(found: Reliability) -> Plot:
    """Agreement against the share of questions re-read."""
    steps = found.trade_off
    lowest = math.floor(10 * min(0.9, steps[0].chance)) / 10

    def up(agreement: float) -> float:
        return _between(agreement, lowest, 1, BOTTOM, TOP)

    curves = {
        "chance": ("drawn by lot", [step.chance for step in steps]),
        "perfect": ("all that disagree first", [step.perfect for step in steps]),
        "precis": ("least confident first", [step.agreement for step in steps]),
    }
    lines = [
        (
            kind,
            label,
            _points([(_across(step.share), up(y)) for step, y in zip(steps, values, strict=True)]),
        )
        for kind, (label, values) in curves.items()
    ]
    step = 0.1 if lowest >= 0.5 else 0.2
    shares = [1 - step * n for n in range(round((1 - lowest) / step + 0.49))]
    return Plot(_share_ticks(_across), [(up(share), percent(share)) for share in shares], [], lines)


def _across(share: float) -> float:
    return _between(share, 0, 1, LEFT, RIGHT)


def _up(share: float) -> float:
    return _between(share, 0, 1, BOTTOM, TOP)


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    return round(start + (value - low) / (high - low) * (end - start), 1)


def _share_ticks(scale: Callable[[float], float]) -> list[tuple[float, str]]:
    return [(scale(share), percent(share)) for share in (0, 0.25, 0.5, 0.75, 1)]


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _size(size: float) -> str:
    """Show bytes as kB, MB or GB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size:g} B"
