r"""How many answers are right: documents × methods, on human questions (issue 20).

    python benchmarks/right_answers.py FOLDER --squad FILE --pairs 4+15 11+13 20+22 \
        --fairytales FOLDER --shortest-words 1500 --count 4

The handbook of `examples/` and these documents are compiled with the default settings. Then every question is
asked with nothing before it, the whole document, σ alone, σ with the recalled passage, that passage after
the σ of the next document in the list (the control), and retrieved text. An answer is right if a human's
answer occurs in it as whole words.

A cell is one document with one choice of settings. It is kept in FOLDER/cells with every answer, so that
they can be read; run again, the script goes on where it was stopped, and measures anew what was made from
other questions, settings or weights. After a change of code give another FOLDER. FOLDER/work keeps what
compiles share: where a cell says `found_work`, its seconds are not all that the compile takes.

Settings are varied by `--objectives nll kl mix`, `--minutes 10 30 60`, `--ratios 10 20`, `--unpointed`.
Compiles that are bounded by minutes find none of their work done.

With `--unanswerable` every document is also asked what it does not answer: human questions about the next
document, and near misses (`examples/tern-harbour.unanswerable.jsonl`; with `--leave-out-paragraph` the pairs
are compiled without the third paragraph of each article, and asked about it; run that by itself, with
`--no-handbook` and without `--fairytales`: it goes to the same FOLDER and is totalled apart).

At the end all cells in FOLDER are gathered into results and tables. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # this folder itself must not be searched: other packages know a `datasets` too
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.common import ROOT, document_options, subjects_of, surroundings
from benchmarks.datasets import Subject, squad_subjects_without_paragraph
from benchmarks.right_tables import gather
from precis.artifact import Artifact
from precis.baselines import check_names
from precis.compilation.pipeline import compile
from precis.compilation.progress import Progress, Stopwatch
from precis.compilation.settings import Settings
from precis.compilation.teacher import LONGEST_ANSWER, Teacher
from precis.errors import PrecisError
from precis.evaluation.evaluate import evaluate, passages_of
from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.storage import key_of, write_atomically
from precis.text.document import read
from precis.text.questions import Question, read_questions
from precis.text.recall import NOTHING, features_of, recall

HANDBOOK = ROOT / "examples" / "tern-harbour.md"
UNANSWERABLE = 40


def handbook() -> Subject:
    """Give the project's own document, with near misses if there are any."""
    near = HANDBOOK.with_suffix(".unanswerable.jsonl")
    return Subject(
        HANDBOOK.stem,
        read(HANDBOOK),
        read_questions(HANDBOOK.with_suffix(".questions.jsonl")),
        read_questions(near) if near.is_file() else [],
    )


def variants(sweeps: dict[str, list[Any]]) -> list[Settings]:
    """Give the settings that some values of some fields make, all combinations of them."""
    return [
        replace(Settings(), **dict(zip(sweeps, values, strict=True)))
        for values in itertools.product(*sweeps.values())
    ]


def variant_of(settings: Settings) -> dict[str, Any]:
    """Say in what settings differ from the default ones."""
    default = Settings()
    return {
        field.name: getattr(settings, field.name)
        for field in fields(Settings)
        if field.name != "schedule" and getattr(settings, field.name) != getattr(default, field.name)
    }


class Notes(Progress):
    """Keeps what was said on the way."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep what the user should know."""
        self.notes.append(text)


@dataclass(frozen=True)
class Run:
    """Documents that are compiled and asked, one after the other; what is finished is kept.

    Parameters
    ----------
    folder
        Gets `cells/`, `artifacts/` and `work/`.
    model
        The frozen model.
    subjects
        The documents; the control of each is the next one, and that of the last the first.
    methods
        Baselines beside `retrieve`.
    unanswerable
        Whether to ask what the documents do not answer, too.
    """

    folder: Path
    model: LanguageModel
    subjects: Sequence[Subject]
    methods: Sequence[str] = ("retrieve-x4",)
    unanswerable: bool = False

    def measure(self, settings: Settings) -> None:
        """Measure all documents with some settings, as far as they are not yet measured."""
        for number, subject in enumerate(self.subjects):
            following = self.subjects[(number + 1) % len(self.subjects)]
            if self._finished(subject, following, settings):
                continue
            start = time.perf_counter()
            cell = self._cell(subject, following, settings)
            text = json.dumps(cell, ensure_ascii=False, indent=1) + "\n"
            write_atomically(self._file("cells", subject, settings, ".json"), text.encode())
            right = {name: scores["right_count"] for name, scores in cell["report"]["methods"].items()}
            print(
                f"{self._name(settings)}/{subject.name}: {right}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )

    def _cell(self, subject: Subject, following: Subject, settings: Settings) -> dict[str, Any]:
        artifact, compiled = self._compiled(subject, settings)
        other = None if following is subject else self._compiled(following, settings)[0]
        notes = Notes()
        report = evaluate(
            artifact,
            subject.document,
            subject.questions,
            model=self.model,
            methods=self.methods,
            other=other,
            progress=notes,
        )
        about = artifact.manifest
        return {
            "key": self._key(subject, settings),
            "document": {
                "name": subject.name,
                "sha256": subject.document.sha256,
                "tokens": about.document.tokens,
            },
            "variant": variant_of(settings),
            "settings": asdict(settings),
            "surroundings": surroundings(self.model),
            "slots": about.slots,
            "data": None if about.data is None else asdict(about.data),
            "steps": None if about.training is None else [about.training.best_step, about.training.steps],
            "compile": compiled,
            "control": None if other is None else following.name,
            "notes": notes.notes,
            "report": report.to_json(),
            "unanswerable": self._unanswerable(subject, following, artifact) if self.unanswerable else None,
        }

    def _compiled(self, subject: Subject, settings: Settings) -> tuple[Artifact, dict[str, Any]]:
        """Compile a document, or open what was compiled; and say how long that took."""
        file = self._file("artifacts", subject, settings, ".precis")
        about = file.with_suffix(".json")
        key = self._key(subject, settings)
        if file.is_file() and about.is_file():
            kept = json.loads(about.read_text())
            if kept.pop("key") == key:
                return Artifact.open(file), kept
        file.parent.mkdir(parents=True, exist_ok=True)
        work = self._work(subject, settings)
        found_work = work.exists()
        notes = Notes()
        watch = Stopwatch(notes)
        start = time.perf_counter()
        artifact = compile(subject.document, model=self.model, settings=settings, work=work, progress=watch)
        watch.end()
        record = {
            "seconds": time.perf_counter() - start,
            "stages": {stage.name: stage.seconds for stage in watch.stages},
            "found_work": found_work,
            "notes": notes.notes,
        }
        artifact.save(file)
        write_atomically(about, json.dumps({"key": key, **record}).encode())
        return artifact, record

    def _work(self, subject: Subject, settings: Settings) -> Path:
        """Choose where unfinished work is kept; one that is timed must not find any."""
        if settings.minutes is None:
            return self.folder / "work" / "shared" / subject.name
        own = self.folder / "work" / "own" / self._name(settings) / subject.name
        shutil.rmtree(own, ignore_errors=True)
        return own

    def _unanswerable(self, subject: Subject, following: Subject, artifact: Artifact) -> dict[str, Any]:
        """Ask what the document does not answer."""
        known = {question.text for question in subject.questions}
        elsewhere = [each for each in following.questions if each.text not in known]
        drawn = random.Random(0).sample(elsewhere, min(UNANSWERABLE, len(elsewhere)))
        return {
            "other": [] if following is subject else asked_alone(artifact, subject, self.model, drawn),
            "near": asked_alone(artifact, subject, self.model, subject.near_misses),
        }

    def _finished(self, subject: Subject, following: Subject, settings: Settings) -> bool:
        file = self._file("cells", subject, settings, ".json")
        if not file.is_file():
            return False
        cell = json.loads(file.read_text())
        if cell["key"] != self._key(subject, settings):
            return False
        same_control = cell["control"] == (None if following is subject else following.name)
        if not same_control or not set(cell["report"]["methods"]) >= set(self.methods):
            return False
        asked = cell["unanswerable"]
        wanted = [question.text for question in subject.near_misses]
        return not self.unanswerable or (
            asked is not None and [each["question"] for each in asked["near"]] == wanted
        )

    def _file(self, kind: str, subject: Subject, settings: Settings, suffix: str) -> Path:
        return self.folder / kind / self._name(settings) / f"{subject.name}{suffix}"

    @staticmethod
    def _name(settings: Settings) -> str:
        return ",".join(f"{name}={value}" for name, value in variant_of(settings).items()) or "default"

    def _key(self, subject: Subject, settings: Settings) -> str:
        """Name everything that a result depends on."""
        questions = [[question.text, question.answers] for question in subject.questions]
        made_from = self.model.digest, self.model.tokenizer_digest, str(self.model.dtype)
        return key_of(*made_from, subject.document.sha256, questions, str(settings))


def asked_alone(
    artifact: Artifact, subject: Subject, model: LanguageModel, questions: Sequence[Question]
) -> list[dict[str, Any]]:
    """Answer questions as `ask` does, with the confidence in each answer; None where the file holds none."""
    passages = passages_of(artifact, Teacher(model, subject.document))
    texts = [question.text for question in questions]
    recalled = [NOTHING if passages is None else recall(passages, text) for text in texts]
    prompts = [
        model.chat.question_prompt(text, each.text) for text, each in zip(texts, recalled, strict=True)
    ]
    generations = model.given(artifact.prefix(model)).generate(
        prompts, max_tokens=LONGEST_ANSWER, entropies=True
    )
    found = []
    for text, each, said in zip(texts, recalled, generations, strict=True):
        answer = model.chat.decode(said.tokens)
        seen = features_of(said.log_probabilities, said.entropies, text, answer, each, passages)
        calibration = artifact.calibration
        confidence = None if calibration is None else calibration.probability(seen)
        found.append({"question": text, "text": answer, "confidence": confidence})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and gather."""
    options = _parser().parse_args(arguments)
    if not options.only_gather:
        try:
            _measure(options)
        except PrecisError as error:
            sys.exit(str(error))
    print(json.dumps(gather(options.folder, options.results, options.docs)))


def _measure(options: argparse.Namespace) -> None:
    check_names(options.methods)
    sweeps = {
        "ratio": options.ratios,
        "objective": options.objectives,
        "minutes": options.minutes,
        "pointed": [True, False] if options.unpointed else None,
    }
    chosen = variants({name: values for name, values in sweeps.items() if values})
    for settings in chosen:
        settings.check()
    run = Run(
        options.folder, load_model(options.model), _subjects(options), options.methods, options.unanswerable
    )
    for settings in chosen:
        run.measure(settings)


def _subjects(options: argparse.Namespace) -> list[Subject]:
    subjects = [] if options.no_handbook else [handbook()]
    if options.leave_out_paragraph and options.squad:
        subjects += squad_subjects_without_paragraph(options.squad, options.pairs)
        options.squad = None
    subjects += subjects_of(options)
    if not subjects:
        sys.exit("No document: leave --no-handbook out, or give --squad or --fairytales.")
    return subjects


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where cells, artifacts and unfinished work are kept")
    document_options(parser)
    parser.add_argument("--no-handbook", action="store_true", help="without the document of examples/")
    parser.add_argument("--methods", nargs="*", default=["retrieve-x4"], help="baselines beside retrieve")
    parser.add_argument("--ratios", nargs="+", type=float, help="a sweep")
    parser.add_argument("--objectives", nargs="+", help="a sweep")
    parser.add_argument("--minutes", nargs="+", type=float, help="a sweep")
    parser.add_argument(
        "--unpointed",
        action="store_true",
        help="a sweep: the teacher pointed to the place, and not",
    )
    parser.add_argument("--unanswerable", action="store_true", help="also ask what documents do not answer")
    parser.add_argument(
        "--leave-out-paragraph", action="store_true", help="compile pairs without the third paragraphs"
    )
    parser.add_argument("--model", help="as for precis compile")
    parser.add_argument("--only-gather", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/right_answers.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/benchmarks.md", help="gets the tables")
    return parser


if __name__ == "__main__":
    # a compile that hears of Ctrl-C is sealed with what it has, and would count as finished
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
