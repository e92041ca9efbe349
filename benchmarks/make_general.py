r"""Make what `precis.general` comes with for the default model: reading lessons, and the general σ.

    python benchmarks/make_general.py

The written lessons (`src/precis/data/written_lessons.jsonl`: passage, question, answer) say what is right.
σ is taught in the model's own words: it answers every question from its passage several times, and of the
right answers the likeliest is kept (rejection sampling; Zelikman et al., 2022, arXiv 2203.14465, calls rounds
of it STaR). Taught the written answers themselves, a small model reads worse than untaught
(docs/experiments.md). The first round is answered by a σ that was only fitted to some of the passages, the
next by the one that learnt from the first.

What σ is worth is measured as `other-recall` (benchmarks/right_answers.py).
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from precis.artifact import Artifact
from precis.compilation.general import FOLDER, LESSONS, ReadingLesson, as_gold, written_lessons
from precis.compilation.objectives.nll import nll
from precis.compilation.pipeline import compile
from precis.compilation.settings import Settings
from precis.compilation.training import Schedule
from precis.model.decoding import GREEDY, Sampling
from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.model.prefix import Prefix
from precis.model.soft_prompt import KeyValuePrompt
from precis.storage import write_atomically
from precis.text.document import Document
from precis.text.language import Language
from precis.text.questions import Question

TARGET = Path(__file__).resolve().parents[1] / "src/precis" / FOLDER
SLOTS = 64
# Passages that σ is fitted to.
FITTED_TO = 48
ROUNDS, SAMPLES, TEMPERATURE, LONGEST = 2, 4, 0.7, 48
STEPS, ROWS, RATE = 50, 8, 3e-3
# Share of an answer's words that must stand in its passage or question.
FROM_THE_TEXT = 0.8


class LessonJudge:
    """Tells right answers from wrong ones by the words of the written answer that stand in the passage."""

    def __init__(self, lessons: Sequence[ReadingLesson]) -> None:
        self.language = Language.of(" ".join(lesson.passage for lesson in lessons))

    def is_right(self, said: str, lesson: ReadingLesson) -> bool:
        """Whether an answer has the key words, and hardly any that nobody wrote."""
        words, key = self._content(said), self._key(lesson)
        known = self._content(lesson.passage) | self._content(lesson.question)
        return bool(key) and key <= words and len(words & known) >= FROM_THE_TEXT * len(words)

    def _key(self, lesson: ReadingLesson) -> set[str]:
        """Give what the longest stretch of the answer that stands in the passage adds to the question."""
        answer, passage = (re.findall(r"\w+", text.lower()) for text in (lesson.answer, lesson.passage))
        asked, whole = self._content(lesson.question), f" {' '.join(passage)} "
        key: set[str] = set()
        for first in range(len(answer)):
            for last in range(first + 1, len(answer) + 1):
                stretch = " ".join(answer[first:last])
                new = self._content(stretch) - asked
                if f" {stretch} " in whole and len(new) > len(key):
                    key = new
        return key

    def _content(self, text: str) -> set[str]:
        return set(self.language.words(text)) - self.language.common


def fitted(model: LanguageModel, lessons: Sequence[ReadingLesson]) -> Artifact:
    """Fit σ to some of the passages, without training it."""
    passages = list(dict.fromkeys(lesson.passage for lesson in lessons))
    chosen = passages[:: math.ceil(len(passages) / FITTED_TO)]
    document = Document.from_text("\n\n".join(chosen), "reading lessons")
    asked = [Question(each.question, (each.answer,)) for each in lessons if each.passage in chosen]
    settings = Settings(slots=SLOTS, self_study=0, schedule=Schedule(epochs=0))
    return compile(document, model=model, questions=asked, settings=settings, calibrate=False)


def said(model: LanguageModel, prefix: Prefix, lessons: Sequence[ReadingLesson]) -> list[str]:
    """Give the likeliest right answer of several to every lesson; empty where none is right."""
    judge, given = LessonJudge(lessons), model.given(prefix)
    prompts = [model.chat.question_prompt(lesson.question, lesson.passage) for lesson in lessons]
    best = [(-math.inf, "")] * len(lessons)
    for number in range(1 + SAMPLES):
        sampling = Sampling(TEMPERATURE, seed=number * 100_000) if number else GREEDY
        for place, answer in enumerate(given.generate(prompts, max_tokens=LONGEST, sampling=sampling)):
            text = model.chat.decode(answer.tokens)
            if not (answer.finished and judge.is_right(text, lessons[place])):
                continue
            # what it says of itself is the best of all
            likely = 0.0 if number == 0 else sum(answer.log_probabilities) / len(answer.tokens)
            best[place] = max(best[place], (likely, text))
    return [text for _, text in best]


def taught(model: LanguageModel, start: Prefix, lessons: Sequence[ReadingLesson]) -> KeyValuePrompt:
    """Train σ on the lessons."""
    soft_prompt = KeyValuePrompt(start)
    parameters = soft_prompt.parameters()
    optimiser = torch.optim.Adam(parameters.values(), lr=RATE)
    rows = [as_gold(model, lesson).example for lesson in lessons]
    draw = torch.Generator().manual_seed(0)
    order: list[int] = []
    for step in range(STEPS):
        if len(order) < ROWS:
            order += torch.randperm(len(rows), generator=draw).tolist()
        batch, order = [rows[number] for number in order[:ROWS]], order[ROWS:]
        optimiser.param_groups[0]["lr"] = RATE * Schedule().factor((step + 1) / STEPS)
        logits = model.given(soft_prompt.prefix(model)).answer_logits(batch)
        answers = torch.tensor([token for row in batch for token in row.answer], device=logits.device)
        loss = nll(logits.log_softmax(-1), answers)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
    return soft_prompt


def main(arguments: Sequence[str] | None = None) -> None:
    """Make both, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=TARGET, help="the folder that gets the files")
    options = parser.parse_args(arguments)
    model, lessons = load_model(), written_lessons()
    artifact = fitted(model, lessons)
    start = artifact.prefix(model)
    prefix, right = start, [""] * len(lessons)
    for number in range(ROUNDS):
        right = [new or old for new, old in zip(said(model, prefix, lessons), right, strict=True)]
        own = [replace(each, answer=text) for each, text in zip(lessons, right, strict=True) if text]
        print(f"round {number + 1}: {len(own)} of {len(lessons)} answered right", flush=True)
        soft_prompt = taught(model, start, own)
        with torch.no_grad():
            prefix = soft_prompt.prefix(model)
    options.output.mkdir(exist_ok=True, parents=True)
    lines = (json.dumps(asdict(lesson), ensure_ascii=False) + "\n" for lesson in own)
    write_atomically(options.output / f"{model.name}{LESSONS}", "".join(lines).encode())
    about = replace(artifact.manifest.document, pages=None)
    manifest = replace(artifact.manifest, document=about, confidence=None)
    target = options.output / f"{model.name}.precis"
    with torch.no_grad():
        Artifact(manifest, soft_prompt.tensors(model.dtype)).save(target)
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
