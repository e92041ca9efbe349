"""Self-study: no part of the document is left unasked."""

import pytest

from precis import questions
from precis.document import Document
from precis.language_model import LanguageModel
from precis.questions import BRIEF, brief_count, self_study
from precis.spans import spans_of
from precis.work_folder import WorkFolder
from tests.conftest import make_model

DOCUMENT = Document.from_text("\n\n".join(f"The harbour closes at {hour}. " * 40 for hour in range(5)))


@pytest.fixture(scope="module")
def model():
    return make_model(max_position_embeddings=2048)


@pytest.fixture
def written(monkeypatch):
    """What is written for each span, in turn, without a model's time."""
    log = []

    def write(_, batch, seed):
        log.extend((place, count, seed) for place, count in batch)
        return {
            place: [f"What is number {n} of {place} by seed {seed}?" for n in range(count)]
            for place, count in batch
        }

    monkeypatch.setattr(questions._Writer, "write", write)
    return log


def test_where_time_is_short_every_span_gets_a_few_questions_first(model, tmp_path, written):
    spans = len(spans_of(DOCUMENT.text, model.chat))
    assert spans > 2
    study = self_study(model, DOCUMENT, spans * 30, 0, WorkFolder(tmp_path), brief_first=True)
    first, rest = written[:spans], written[spans:]
    assert {place for place, _, _ in first} == set(range(spans))
    assert {place for place, count, _ in first if count == BRIEF} >= {place for place, _, _ in rest}
    assert max(count for _, count, _ in first) == BRIEF
    assert sum(count for _, count, _ in written) == pytest.approx(spans * 30, abs=spans)
    assert {seed for _, _, seed in first}.isdisjoint({seed for _, _, seed in rest})
    assert len(study.questions) == sum(count for _, count, _ in written)


def test_time_that_runs_out_ends_the_first_round_too(model, tmp_path, written, monkeypatch):
    monkeypatch.setattr(questions, "ROWS_AT_ONCE", BRIEF)  # one span a batch
    study = self_study(
        model, DOCUMENT, 90, 0, WorkFolder(tmp_path), brief_first=True, out_of_time=lambda: True
    )
    assert len(written) == 1
    assert len(study.questions) == BRIEF


def test_spans_asked_together_get_the_questions_of_spans_asked_alone(model, tmp_path, monkeypatch):
    def asked(name):
        self_study(model, DOCUMENT, 20, 3, WorkFolder(tmp_path / name))
        return {path.name: path.read_text() for path in (tmp_path / name).iterdir()}

    together = asked("together")
    assert len(together) == len(spans_of(DOCUMENT.text, model.chat))
    monkeypatch.setattr(questions, "ROWS_AT_ONCE", 1)
    assert asked("alone") == together
    monkeypatch.setattr(LanguageModel, "prefill", lambda *_, **__: pytest.fail("read a span again"))
    assert asked("together") == together


def test_without_haste_there_is_one_round(model, tmp_path, written):
    self_study(model, DOCUMENT, 90, 0, WorkFolder(tmp_path))
    assert len(written) == len({place for place, _, _ in written})


def test_the_shortest_study_asks_a_few_questions_of_every_span(model):
    assert brief_count(model, DOCUMENT) == BRIEF * len(spans_of(DOCUMENT.text, model.chat))
