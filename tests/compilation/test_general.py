"""The general part of σ: it belongs to a model, and lets a document be asked before it is compiled."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from rich.console import Console

from precis.artifact import Artifact
from precis.cli.display import describe
from precis.compilation import general
from precis.compilation.general import ReadingLesson
from precis.compilation.objectives.kl import kl
from precis.compilation.objectives.nll import nll
from precis.compilation.pipeline import compile
from precis.compilation.settings import Settings
from precis.compilation.training import Schedule
from precis.compiled import Compiled
from precis.evaluation.evaluate import evaluate
from precis.model.loading import load_model
from precis.text.document import Document
from precis.text.questions import Question
from tests.conftest import RECALL_MODEL, make_model
from tests.recall import answer_text, document_text, make_facts, question_text

LEARNT, ASKED = make_facts(12, seed=1), make_facts(12, seed=2)
OTHER, DOCUMENT = (
    Document.from_text(document_text(facts), name) for facts, name in ((LEARNT, "a"), (ASKED, "b"))
)


@pytest.fixture(scope="module")
def model():
    return load_model(str(RECALL_MODEL))


@pytest.fixture(scope="module")
def learnt(model, tmp_path_factory):
    """A σ of another document, where the package keeps the general ones."""
    folder = tmp_path_factory.mktemp("general")
    settings = Settings(ratio=10, self_study=0, schedule=Schedule(epochs=1))
    questions = [question_text(fact, 0) for fact in LEARNT]
    artifact = compile(OTHER, model=model, questions=questions, settings=settings, work=folder / "work")
    artifact.save(folder / "small.precis")
    return folder


@pytest.fixture
def packaged(learnt, monkeypatch):
    monkeypatch.setattr(general, "FOLDER", str(learnt))


def test_a_document_can_be_asked_before_it_is_compiled(model, packaged):
    artifact = general.before_compiling(DOCUMENT, model)
    assert artifact.document() == DOCUMENT
    assert artifact.manifest.data is None
    assert artifact.manifest.recovery is None
    compiled = Compiled(artifact, model)
    right = sum(compiled.ask(question_text(fact, 1)).text == answer_text(fact) for fact in ASKED)
    alone = sum(compiled.ask(question_text(fact, 1), recall=0).text == answer_text(fact) for fact in ASKED)
    assert right > alone + 4, "what it knows of the document, it reads in the passage"


def test_a_file_that_was_not_compiled_yet_says_so(model, packaged, tmp_path):
    path = tmp_path / "b.precis"
    general.before_compiling(DOCUMENT, model).save(path)
    console = Console(record=True, width=200)
    describe(console, Artifact.open(path).manifest, path)
    shown = console.export_text()
    assert "until its own soft prompt is compiled" in shown
    assert "not calibrated" in shown


def test_it_is_the_control_of_a_report(model, packaged):
    settings = Settings(ratio=10, self_study=0, schedule=Schedule(epochs=0))
    asked = [question_text(fact, 0) for fact in ASKED]
    artifact = compile(DOCUMENT, model=model, questions=asked, settings=settings)
    report = evaluate(artifact, DOCUMENT, [Question(question_text(ASKED[0], 1))], model=model)
    assert "other-recall" in report.methods


@pytest.mark.parametrize("keep_text", [True, False])
def test_it_is_what_a_compile_publishes_first(model, packaged, keep_text):
    settings = Settings(ratio=10, self_study=0, schedule=Schedule(epochs=0))
    asked = [question_text(fact, 0) for fact in ASKED]
    published = []
    given = {"questions": asked, "settings": settings, "publish": published.append, "keep_text": keep_text}
    compile(DOCUMENT, model=model, **given)
    first = published[0]
    assert first.manifest.data is None
    assert first.keeps_text == keep_text == (first.manifest.document.pages is not None)
    assert published[-1].manifest.data is not None


def test_another_model_has_none(packaged):
    other = make_model()
    assert general.general_artifact(other) is None
    assert general.before_compiling(DOCUMENT, other) is None
    assert general.reading_lessons(other) == []


def lesson_of(fact):
    """A reading lesson on one of the invented facts."""
    return ReadingLesson(document_text([fact]), question_text(fact, 0), answer_text(fact))


def test_a_lesson_teaches_its_answer_and_doubts_nothing(model):
    gold = general.as_gold(model, lesson_of(LEARNT[0]))
    assert model.chat.decode(gold.tokens) == answer_text(LEARNT[0])
    assert gold.tokens[-1] in model.chat.stop_tokens
    assert gold.mass == 1
    (scores,) = model.given(model.prefill(model.chat.document_prompt(""))).score([gold.example])
    matched = kl(scores, gold.top_ids, gold.top_log_probabilities)
    torch.testing.assert_close(
        matched, nll(scores, torch.tensor(gold.tokens, device=scores.device)), atol=1e-4, rtol=1e-4
    )


def test_a_document_is_taught_reading_lessons_where_its_text_is_kept(model, packaged, learnt, tmp_path):
    asked = [question_text(fact, 0) for fact in ASKED]
    settings = Settings(ratio=10, self_study=0, schedule=Schedule(epochs=1, fewest_steps=1, batch_size=8))
    lines = [json.dumps(asdict(lesson_of(fact))) for fact in make_facts(40, seed=3)]
    (learnt / "small.lessons.jsonl").write_text("\n".join(lines))
    assert next(lesson.answer for lesson in general.reading_lessons(model)) in lines[0]
    steps = {}
    for keep_text in (True, False):
        artifact = compile(
            DOCUMENT,
            model=model,
            questions=asked,
            settings=settings,
            work=tmp_path / str(keep_text),
            keep_text=keep_text,
            calibrate=False,
        )
        steps[keep_text] = artifact.manifest.training.steps
    (learnt / "small.lessons.jsonl").unlink()
    own = len(asked) - 4
    assert steps == {True: math.ceil((2 * own + 40 - 16) / 8), False: math.ceil(own / 8)}


def test_questions_about_other_texts_are_drawn_without_repeats():
    drawn = general.other_questions(24, seed=3)
    assert len(set(drawn)) == 24
    assert drawn == general.other_questions(24, seed=3) != general.other_questions(24, seed=4)
    assert len(general.other_questions(10_000)) == 80
