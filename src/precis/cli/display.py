"""What the command line shows: bars while it works, tables after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)
from rich.table import Table

from precis.calibration import Calibration
from precis.compilation.break_even import BreakEven
from precis.compilation.progress import Progress, StageTime
from precis.evaluation.columns import ANSWERS, OPTIMISATION, Measure, basis, comparison, headline, shown
from precis.evaluation.reliability import Reliability
from precis.evaluation.report import Report
from precis.manifest import Manifest


class Bars(Progress):
    """One bar a stage, with the held-out recovery beside training; plain lines where no terminal is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = RichProgress(
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[found]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self.paid_off: BreakEven | None = None
        self._start = time.monotonic()

    def __enter__(self) -> Bars:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing; what was drawn stays."""
        self._bars.stop()

    def stage(self, name: str, total: int | None) -> None:
        """Start a bar."""
        self._task = self._bars.add_task(name, total=total, found="")
        self._line(name if total is None else f"{name} ({total})")

    def advance(self, units: int) -> None:
        """Move the current bar."""
        if self._task is not None:
            self._bars.advance(self._task, units)

    def recovery(self, value: float | None) -> None:
        """Show the held-out recovery beside the bar."""
        if self._task is not None and value is not None:
            done = self._bars.tasks[self._task].completed
            self._bars.update(self._task, found=f"held-out recovery {value:.2f}")
            self._line(f"step {done:.0f}: held-out recovery {value:.2f}")

    def note(self, text: str) -> None:
        """Print a sentence above the bars."""
        self._console.print(f"[yellow]Note:[/yellow] {escape(text)}", soft_wrap=True)

    def break_even(self, found: BreakEven) -> None:
        """Keep it, for `show_break_even`: it stands best at the end."""
        self.paid_off = found

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{time.monotonic() - self._start:6.1f} s  {text}")


def describe(console: Console, manifest: Manifest, path: Path) -> None:
    """Show what an artifact is, in a few lines."""
    model = manifest.model
    rows = {
        "document": f"{manifest.document.name} ({manifest.document.tokens:,} tokens)",
        "model": f"{model.name} (weights {model.digest[:12]})",
        "soft prompt": f"{manifest.slots} slots, {manifest.form} form: {manifest.ratio:.1f} times shorter",
        "made with": f"objective {manifest.objective}, warm start {manifest.warm_start}, "
        f"seed {manifest.seed}",
        **_learnt(manifest),
        "confidence": _calibrated(manifest.confidence),
        "text": "kept in the file: answers recall passages from it"
        if manifest.document.pages is not None
        else "not kept: answers are from the soft prompt alone",
        "file": f"{path} ({path.stat().st_size / 1e6:.1f} MB)",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, escape(value))
    console.print(table)


def _learnt(manifest: Manifest) -> dict[str, str]:
    """Say what σ was trained on, and how far."""
    fidelity, data = manifest.fidelity, manifest.data
    if data is None or fidelity is None:
        return {
            "trained on": "another document: it answers from passages until its own soft prompt is compiled"
        }
    return {
        "trained on": f"{data.questions} questions ({data.dropped_questions} questions and "
        f"{data.dropped_answers} answers dropped); the teacher read {data.teacher_reads}",
        "sentences": f"{data.sentences_covered} of {data.sentences} have a question of self-study",
        "recovery": f"{_number(fidelity.recovery)} on {data.held_out} held-out questions, a measure of "
        f"the optimisation (NLL {_number(fidelity.nll_none)} without the document, "
        f"{_number(fidelity.nll)} with the soft prompt, {_number(fidelity.nll_full)} with the full "
        "document)",
    }


def show_break_even(console: Console, found: BreakEven) -> None:
    """Say after how many questions the compile has paid for itself."""
    seconds = found.question_seconds
    own, memory = found.soft_prompt.prefix_bytes / 1e6, found.full.prefix_bytes / 1e6
    console.print(
        f"[bold]Paid for itself[/bold] {_after(found.questions_against('reading'))} against reading the "
        f"document at each ({seconds['reading']:.2f} s a question; {seconds['soft prompt']:.2f} s from the "
        f"soft prompt), {_after(found.questions_against('cache'))} against keeping the document's cache "
        f"({seconds['cache']:.2f} s, and {memory:.1f} MB in place of {own:.1f}). The compile took "
        f"{found.compile_seconds:.0f} s.",
        soft_wrap=True,
    )


def _after(questions: int | None) -> str:
    return "never" if questions is None else f"after {questions:,} questions"


def show_profile(console: Console, stages: Sequence[StageTime]) -> None:
    """Show where the time of a compile went."""
    whole = sum(stage.seconds for stage in stages)
    table = Table(title="Where the time went", title_justify="left")
    for name in ("stage", "seconds", "share", "units", "units a second"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in stages:
        units = _whole(stage.units) if stage.units else "–"
        pace = _tenths(stage.units / stage.seconds if stage.units and stage.seconds else None)
        share = _percent(stage.seconds / whole if whole else None)
        table.add_row(stage.name, f"{stage.seconds:.1f}", share, units, pace)
    table.add_section()
    table.add_row("all", f"{whole:.1f}", "", "", "")
    console.print(table)


def _calibrated(confidence: Calibration | None) -> str:
    if confidence is None:
        return "not calibrated: answers come without it"
    return (
        f"calibrated on {confidence.points} held-out questions, on which "
        f"{_percent(confidence.base_rate)} of the answers agree with the full document's"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _tenths(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def show_report(console: Console, report: Report) -> None:
    """Show what came out, right answers first, then what they cost, then the measures of the optimisation."""
    console.print(f"[bold]{escape(headline(report))}[/bold]", soft_wrap=True)
    console.print(f"{basis(report)}\n", soft_wrap=True)
    console.print(
        _table(
            f"{report.questions} questions on {report.document}, {report.model}, "
            f"{report.ratio:.1f} document tokens a slot",
            report,
            ANSWERS,
        )
    )
    for found in report.comparisons:
        console.print(f"  {escape(comparison(found))}", soft_wrap=True)
    console.print()
    console.print(
        _table("How near the optimisation came to the full document's own answers", report, OPTIMISATION)
    )
    for name, scores in report.methods.items():
        if scores.reason is not None:
            console.print(f"[yellow]{name} failed:[/yellow] {escape(scores.reason)}", soft_wrap=True)
    if report.reliability is not None:
        _show_reliability(console, report.reliability)


def _table(title: str, report: Report, measures: tuple[Measure, ...]) -> Table:
    """One row a method, one column a measure; what has an interval shows it beside."""
    table = Table(title=escape(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("method", overflow="fold")
    columns = shown(report, measures)
    for measure in columns:
        table.add_column(measure.name, justify="right", no_wrap=True)
        if measure.interval:
            table.add_column("95 %", justify="right", no_wrap=True)
    for name, scores in report.methods.items():
        values: list[str] = []
        for measure in columns:
            values.append(measure.text(scores))
            if measure.interval:
                values.append(measure.bounds(scores).replace(" to ", "…").removesuffix(" %"))
        table.add_row(escape(name), *values)
    return table


def _show_reliability(console: Console, found: Reliability) -> None:
    steps = ", ".join(f"{_percent(step.agreement)} at {step.share:.0%}" for step in found.trade_off[:4])
    console.print(
        f"[bold]Agreement[/bold] with the full document, where the least confident share of the questions is "
        f"answered from it: {steps}. Calibration error of the confidence: {found.calibration_error:.3f}.",
        soft_wrap=True,
    )


# Whether an answer is right, in as many characters; nothing where it is not known.
MARKS = {True: "✓ right", False: "✗ wrong", None: " " * 7}


def show_answers(console: Console, report: Report, count: int) -> None:
    """Show some answers side by side, each marked as right or wrong."""
    asked = [record for record in report.asked if record.methods]
    step = max(1, len(asked) // max(1, count))
    widest = max(map(len, report.methods))
    for record in asked[::step][:count]:
        console.print(f"\n[bold]{escape(record.question)}[/bold]")
        for name in report.methods:
            found = record.methods.get(name)
            said = "–" if found is None or found.text is None else escape(found.text)
            console.print(
                f"  {name:<{widest}} {MARKS[None if found is None else found.right]} {said}", soft_wrap=True
            )
