"""What is general in σ: how to answer from a passage, briefly, whatever the document.

Most of what σ needs to answer with a passage before it is the same for all documents. It is learnt from the
reading lessons that come with the package: passages of the project's own, each with a question, and an answer
in the model's own words that was found to be right (`benchmarks/make_general.py`). Two things are made of
them: every σ of a document is taught them beside the document's own lessons; and a general σ, of no document,
by which a document can be asked as soon as it is read. That is also the control by which a document's own σ
shows what it adds.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import torch

from precis.artifact import Artifact
from precis.compilation.teacher import TOP_K, Gold
from precis.manifest import DocumentRecord
from precis.model.language_model import LanguageModel
from precis.text.document import Document
from precis.text.questions import Question

FOLDER = "data"
QUESTIONS = "data/other_questions.txt"
# Files of the folder: what is right, as people write it, and as a model says it, after the model's name.
WRITTEN, LESSONS = "written_lessons.jsonl", ".lessons.jsonl"


@dataclass(frozen=True)
class ReadingLesson:
    """A passage, what is asked about it, and a right answer."""

    passage: str
    question: str
    answer: str


def written_lessons() -> list[ReadingLesson]:
    """Give all reading lessons, with the answers that people wrote."""
    with as_file(files("precis") / FOLDER) as folder:
        return _lessons(Path(folder) / WRITTEN)


def reading_lessons(model: LanguageModel) -> list[ReadingLesson]:
    """Give the reading lessons with answers in the model's own words; none where the package has none."""
    with as_file(files("precis") / FOLDER) as folder:
        found = _find(model, Path(folder))
        return [] if found is None else _lessons(found[0].with_name(f"{found[0].stem}{LESSONS}"))


def other_questions(count: int, seed: int = 0) -> list[str]:
    """Draw some of people's questions about texts that no document is likely to be."""
    questions = files("precis").joinpath(QUESTIONS).read_text(encoding="utf-8").splitlines()
    return random.Random(seed).sample(questions, min(count, len(questions)))


def as_gold(model: LanguageModel, lesson: ReadingLesson, top_k: int = TOP_K) -> Gold:
    """Give a reading lesson as what σ is taught; of its answer the teacher is certain."""
    chat = model.chat
    tokens = chat.answer_tokens(lesson.answer)
    top_ids = torch.tensor(tokens).unsqueeze(1).repeat(1, top_k)
    top = torch.full(top_ids.shape, torch.finfo(torch.float32).min)
    top[:, 0] = 0.0
    prompt = chat.question_prompt(lesson.question, lesson.passage)
    return Gold(Question(lesson.question), prompt, prompt, tokens, top[:, 0], top_ids, top)


def general_artifact(model: LanguageModel) -> Artifact | None:
    """Give the general σ for a model; None where the package has none for it.

    Raises
    ------
    ArtifactError
        The package's own file is damaged.
    """
    with as_file(files("precis") / FOLDER) as folder:
        found = _find(model, Path(folder))
        return None if found is None else found[1]


def before_compiling(document: Document, model: LanguageModel) -> Artifact | None:
    """Give what a document can be asked by before it is compiled; None where there is no general σ.

    Its manifest names the document, and says by having no `fidelity` that nothing was measured on it; its
    answers come without confidence.
    """
    general = general_artifact(model)
    if general is None:
        return None
    manifest = general.manifest
    tokens = model.chat.document_tokens(document.text)
    about = DocumentRecord(document.name, document.sha256, tokens)
    return Artifact(
        replace(
            manifest,
            document=about,
            ratio=tokens / manifest.slots,
            data=None,
            training=None,
            fidelity=None,
            confidence=None,
        ),
        general.tensors,
    ).with_text(document)


def _find(model: LanguageModel, folder: Path) -> tuple[Path, Artifact] | None:
    """Find the general σ that was made for a model, and its file."""
    for path in sorted(folder.glob("*.precis")):
        artifact = Artifact.open(path)
        about = artifact.manifest.model
        if (about.digest, about.tokenizer_digest) == (model.digest, model.tokenizer_digest):
            return path, artifact
    return None


def _lessons(path: Path) -> list[ReadingLesson]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [ReadingLesson(**json.loads(line)) for line in lines]
