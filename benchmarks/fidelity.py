r"""How much of a document each method keeps: documents × ratios × methods, on human questions.

    python benchmarks/fidelity.py FOLDER --squad FILE --pairs 4+15 11+13 20+22 \
        --fairytales FOLDER --shortest-words 1500 --count 4 --ratios 10 20 50

One cell of this grid (a method at a ratio on a document) is measured at a time and kept in FOLDER; run
again, the script goes on where it was stopped, and measures anew what was made from other questions,
settings or weights. After a change of code give another FOLDER. A method that refuses a cell has failed
on it; `--retry` tries again.

All methods see the same prompt text, questions and gold answers. The questions and answers of self-study
are shared in FOLDER too, across ratios and by every method that learns from them; but a compile that is
bounded by `--minutes` finds none of its work done.

What is measured of precis here is σ alone, `soft-prompt`: how near the optimisation comes to the document's
own answers. Right answers, alone and with recall, are counted by `right_answers.py`.

Sweeps, of `soft-prompt` alone, go to the same FOLDER:

    … --methods soft-prompt --ratios 20 --minutes 0 1 2 5 10
    … --methods soft-prompt --ratios 20 --with-and-without-bias
    … --methods soft-prompt --ratios 20 --minutes 2 --warm-starts random first attention --objectives nll kl

The last one shares questions and answers, made beforehand, so that all minutes go into what is compared.
At the end all cells in FOLDER are gathered into results, tables and plots. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # this folder itself must not be searched: other packages know a `datasets` too
    sys.path[0] = str(Path(__file__).resolve().parents[1])


from benchmarks.common import ROOT, document_options, subjects_of, surroundings
from benchmarks.datasets import Subject
from benchmarks.gather import gather
from benchmarks.tables import OURS
from precis.baselines import BASELINES, Baseline, Groups, Prepared, Task
from precis.compilation.pipeline import compile
from precis.compilation.progress import Progress, Stopwatch
from precis.compilation.settings import DEFAULT_RATIO, Settings
from precis.compilation.training import Schedule
from precis.errors import PrecisError, StorageError
from precis.evaluation.examination import Examination
from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.model.prefix import Prefix
from precis.storage import key_of, write_atomically

# Baselines that are trained, for minutes; the others take seconds.
TRAINED = ("prompt-tuning", "first-tokens")
# Minutes. Without any limit, questions would be asked in another order than with one.
ENDLESS = 1e9


class CompiledPrompt(Baseline):
    """σ itself, alone, behind the interface of its baselines."""

    name = OURS

    def prefix(self, task: Task) -> Prefix:
        """Compile the document."""
        return task.compiled(task.settings)


METHODS: dict[str, Baseline] = {OURS: CompiledPrompt(), **BASELINES}


@dataclass(frozen=True)
class Cell:
    """One method at one ratio on one document.

    Parameters
    ----------
    subject
        The document with its questions.
    method
        One of `METHODS`.
    settings
        What is compiled or trained with; the ratio is among them.
    varied
        Which of the settings a sweep varies: cells that differ in nothing else are told apart by these.
    """

    subject: Subject
    method: str
    settings: Settings
    varied: tuple[str, ...] = ()

    @property
    def variant(self) -> dict[str, Any]:
        """The values of the varied settings."""
        return {name: getattr(self.settings, name) for name in self.varied}

    @property
    def name(self) -> str:
        """Where the cell lies in its folder."""
        variant = ",".join(f"{name}={value}" for name, value in self.variant.items())
        return f"{self.settings.ratio:g}x/{self.subject.name}/{self.method}{'@' if variant else ''}{variant}"

    @property
    def shares_work(self) -> bool:
        """Whether the compile may find questions, answers or training of an earlier one."""
        races = self.method == OURS and self.settings.minutes is not None
        return not races or self.compares_at_equal_minutes

    @property
    def compares_at_equal_minutes(self) -> bool:
        """Whether the cell is of a sweep in which the same minutes of training are compared."""
        return bool(self.varied) and self.settings.minutes is not None and "minutes" not in self.varied

    def key(self, model: LanguageModel) -> str:
        """Name everything that the result depends on."""
        questions = [[question.text, question.answers] for question in self.subject.questions]
        made_from = model.digest, model.tokenizer_digest, str(model.dtype), self.subject.document.sha256
        return key_of(*made_from, questions, self.method, str(self.settings))


def grid(
    subjects: Sequence[Subject],
    ratios: Sequence[float],
    methods: Sequence[str],
    settings: Settings,
    sweeps: dict[str, list[Any]],
) -> list[Cell]:
    """List the cells in the order in which they are measured: what is wanted first comes first.

    The default ratio before the others; at a ratio σ, then baselines that take seconds, then
    trained ones.

    Parameters
    ----------
    settings
        What all cells share.
    sweeps
        Values of settings by name; where there are several, the setting is varied.
    """
    varied = tuple(name for name, values in sweeps.items() if len(values) > 1)
    # one, that changes nothing, where there is no sweep
    variants = [dict(zip(sweeps, values, strict=True)) for values in itertools.product(*sweeps.values())]

    def turn(method: str) -> int:
        return 0 if method == OURS else 2 if method in TRAINED else 1

    return [
        Cell(subject, method, replace(settings, ratio=ratio, **variant), varied)
        for ratio in sorted(ratios, key=lambda ratio: (ratio != DEFAULT_RATIO, ratio))
        for now in range(3)
        for subject in subjects
        for method in methods
        if turn(method) == now
        for variant in variants
    ]


class StageLines(Progress):
    """Keeps what was said on the way."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.held_out_recovery: float | None = None

    def recovery(self, value: float | None) -> None:
        """Keep the last one."""
        self.held_out_recovery = value

    def note(self, text: str) -> None:
        """Keep what the user should know."""
        self.notes.append(text)


@dataclass
class Weighed:
    """A prepared method that notes the largest prefix that it puts before a question."""

    prepared: Prepared
    slots: int = field(default=0, init=False)
    bytes: int = field(default=0, init=False)

    def __call__(self, questions: Sequence[str]) -> Groups:
        """Pass on what the method gives."""
        for prefix, numbers in self.prepared(questions):
            self.slots = max(self.slots, prefix.slots_per_head)
            self.bytes = max(self.bytes, prefix.nbytes)
            yield prefix, numbers


@dataclass(frozen=True)
class Grid:
    """Cells that are measured one after the other, and kept.

    Parameters
    ----------
    folder
        Gets `cells/`, one JSON file each, and `work/`.
    model
        The frozen model.
    answers
        Whether the methods also write answers of their own, which are then compared.
    retry
        Whether to try again what failed.
    """

    folder: Path
    model: LanguageModel
    answers: bool = False
    retry: bool = False
    _last: dict[str, Examination] = field(default_factory=dict)

    def run(self, cells: Sequence[Cell]) -> None:
        """Measure what is not yet measured.

        Raises
        ------
        StorageError
            The disk is full: no fault of the method.
        """
        for number, cell in enumerate(cells, start=1):
            if self._finished(cell):
                continue
            start = time.perf_counter()
            record = self._measure(cell)
            content = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
            write_atomically(self._file(cell), content.encode())
            outcome = f"failed: {record['failure']}" if record["failure"] else "measured"
            print(
                f"[{number}/{len(cells)}] {cell.name}: {outcome}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )

    def _file(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.name}.json"

    def _finished(self, cell: Cell) -> bool:
        if not self._file(cell).is_file():
            return False
        record = json.loads(self._file(cell).read_text())
        if record["failure"] and self.retry:
            return False
        return record["key"] == cell.key(self.model) and (record["answers"] or not self.answers)

    def _measure(self, cell: Cell) -> dict[str, Any]:
        """Prepare a method and ask it everything; a refusal is a result too."""
        document = cell.subject.document
        tokens = self.model.chat.document_tokens(document.text)
        told = StageLines()
        found: dict[str, Any] = {}
        failure = None
        try:
            found = self._ask(cell, tokens, told)
        except StorageError:
            raise
        except PrecisError as error:
            failure = f"{type(error).__name__}: {error}"
        return {
            "key": cell.key(self.model),
            "document": {"name": cell.subject.name, "sha256": document.sha256, "tokens": tokens},
            "ratio": cell.settings.ratio,
            "method": cell.method,
            "variant": cell.variant,
            "settings": asdict(cell.settings),
            "answers": self.answers,
            "surroundings": surroundings(self.model),
            "failure": failure,
            "notes": told.notes,
            **found,
        }

    def _ask(self, cell: Cell, tokens: int, told: StageLines) -> dict[str, Any]:
        document, settings = cell.subject.document, cell.settings
        slots = settings.slots_for(tokens)
        work = self._work(cell)
        start = time.perf_counter()
        watch = Stopwatch(told)
        task = Task(self.model, document, slots, settings, work, watch)
        prepared = Weighed(METHODS[cell.method].prepare(task))
        watch.end()
        seconds = time.perf_counter() - start
        asked = self._examination(cell.subject).compare({cell.method: prepared}, answers=self.answers)
        if not cell.shares_work:
            shutil.rmtree(work, ignore_errors=True)
        return {
            "slots": prepared.slots,
            "bytes": prepared.bytes,
            "seconds": seconds,
            "stages": {stage.name: stage.seconds for stage in watch.stages},
            "held_out_recovery": told.held_out_recovery,
            "asked": [asdict(one) for one in asked],
        }

    def _examination(self, subject: Subject) -> Examination:
        """Set the questions on a document; the last one is kept, with its full-document answers."""
        if subject.name not in self._last:
            self._last.clear()
            self._last[subject.name] = Examination(self.model, subject.document, subject.questions)
        return self._last[subject.name]

    def _work(self, cell: Cell) -> Path:
        """Choose where the cell's unfinished work is kept, and see that it finds what it should."""
        shared = self.folder / "work" / "shared" / cell.subject.name
        if cell.shares_work:
            if cell.compares_at_equal_minutes:
                self._study(cell, shared)
            return shared
        own = self.folder / "work" / "own" / cell.name
        shutil.rmtree(own, ignore_errors=True)  # what a killed run left there took minutes, too
        return own

    def _study(self, cell: Cell, shared: Path) -> None:
        """Write and answer all questions, in time that does not end, so that every variant finds them."""
        settings = replace(cell.settings, minutes=ENDLESS, schedule=Schedule(epochs=0))
        compile(cell.subject.document, model=self.model, settings=settings, work=shared)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and gather."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.methods if name not in METHODS]
    if unknown:
        parser.error(f"there is no method {', '.join(unknown)}; choose from {', '.join(METHODS)}")
    sweeps = {
        "minutes": options.minutes,
        "warm_start": options.warm_starts,
        "objective": options.objectives,
        "bias": [True, False] if options.with_and_without_bias else None,
    }
    sweeps = {name: values for name, values in sweeps.items() if values}
    if any(len(values) > 1 for values in sweeps.values()) and options.methods != [OURS]:
        parser.error("a sweep over settings is of σ alone; give --methods soft-prompt with it")
    if not options.only_gather:
        try:
            _measure(options, sweeps)
        except PrecisError as error:
            sys.exit(str(error))
    print(json.dumps(gather(options.folder, options.results, options.docs)))


def _measure(options: argparse.Namespace, sweeps: dict[str, list[Any]]) -> None:
    subjects = list(subjects_of(options))
    if not subjects:
        sys.exit("No document: give --squad with --pairs, or --fairytales with --stories or --count.")
    cells = grid(subjects, options.ratios, options.methods, Settings(), sweeps)
    for cell in cells:
        cell.settings.check()
    Grid(options.folder, load_model(options.model), options.answers, options.retry).run(cells)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where cells and unfinished work are kept")
    document_options(parser)
    parser.add_argument("--ratios", nargs="+", type=float, default=[10.0, 20.0, 50.0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--minutes", nargs="+", type=float, help="limit of a compile; several: a sweep")
    parser.add_argument("--objectives", nargs="+", help="several: a sweep")
    parser.add_argument("--warm-starts", nargs="+", help="several: a sweep")
    parser.add_argument("--with-and-without-bias", action="store_true", help="a sweep")
    parser.add_argument("--answers", action="store_true", help="also write and compare answers")
    parser.add_argument("--model", help="as for precis compile")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument("--only-gather", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/fidelity.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/benchmarks.md", help="gets the tables")
    return parser


if __name__ == "__main__":
    # a compile that hears of Ctrl-C is sealed with what it has, and would count as finished
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
