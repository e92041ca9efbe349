"""Self-study: no part of the document is left unasked, and only what leads back to it is kept."""

import itertools

import pytest

from precis.compilation import self_study as questions
from precis.compilation.self_study import (
    QUESTIONS_PER_ROUND,
    WANTED,
    Judge,
    Study,
    cleaned,
    self_study,
    without_repeats,
)
from precis.model.language_model import LanguageModel
from precis.storage import WorkFolder
from precis.text.document import Document
from precis.text.passages import Passages
from precis.text.questions import Question
from tests.conftest import make_model

DOCUMENT = Document.from_text(
    "# The harbour\n\nThe harbour office listens on channel 72. The lock keeper is Ivo Kestrane, who works "
    "from a white cabin.\n\nThe ferry Lady Brannoch carries 210 passengers and 32 cars.\n\n"
    "# The lighthouse\n\n"
    "The lighthouse was built in 1871 from pink granite. Its door is painted turquoise."
)


@pytest.fixture(scope="module")
def model(device):
    return make_model(device=device, max_position_embeddings=2048)


@pytest.fixture(scope="module")
def passages(model):
    return Passages(DOCUMENT, model.chat)


@pytest.fixture
def written(monkeypatch):
    """Which sentences are asked about, in turn, without a model's time; one question in eight is good."""
    log = []

    def chosen(writer, batch, turn, seed):
        log.append((turn, list(batch)))
        return [(place, f"What is number {turn} of {place}?") for place in batch]

    monkeypatch.setattr(questions._Writer, "_chosen", chosen)
    return log


def test_every_sentence_is_asked_about_in_every_round_until_it_has_enough(passages, model, tmp_path, written):
    study = self_study(model, passages, 10_000, 0, WorkFolder(tmp_path))
    sentences = len(passages.sentences)
    assert sentences == 5
    rounds = [
        sorted(place for _, places in group for place in places)
        for _, group in itertools.groupby(written, lambda each: each[0])
    ]
    assert rounds == [list(range(sentences))] * WANTED
    assert study.written == WANTED * sentences * QUESTIONS_PER_ROUND
    assert study.covered == study.sentences == sentences
    assert study.dropped == study.written - len(study.questions)


def test_as_many_are_written_as_were_wanted(passages, model, tmp_path, written):
    study = self_study(model, passages, 7 * QUESTIONS_PER_ROUND, 0, WorkFolder(tmp_path))
    assert study.written == 7 * QUESTIONS_PER_ROUND
    assert [len(places) for _, places in written] == [5, 2]
    assert self_study(model, passages, 0, 0, WorkFolder(tmp_path)) == Study(sentences=5)


def test_time_that_runs_out_ends_it_once_there_is_enough(passages, model, tmp_path, written, monkeypatch):
    monkeypatch.setattr(questions, "SENTENCES_AT_ONCE", 1)
    study = self_study(model, passages, 10_000, 0, WorkFolder(tmp_path), out_of_time=lambda: True)
    assert len(study.questions) == questions.ENOUGH


def test_what_was_written_is_not_written_again(passages, model, tmp_path, monkeypatch):
    first = self_study(model, passages, 2 * 5 * QUESTIONS_PER_ROUND, 3, WorkFolder(tmp_path))
    monkeypatch.setattr(LanguageModel, "prefill", lambda *_, **__: pytest.fail("read a sentence again"))
    assert self_study(model, passages, 2 * 5 * QUESTIONS_PER_ROUND, 3, WorkFolder(tmp_path)) == first


def test_beginnings_differ_between_rounds_and_most_have_the_sentences_own_words(passages, model, tmp_path):
    writer = questions._Writer(model, passages, WorkFolder(tmp_path))
    first, second = writer._beginnings(2, 0, 0), writer._beginnings(2, 1, 0)
    assert len({*first, *second}) == 2 * QUESTIONS_PER_ROUND
    own = {"ferry", "carries", "passengers", "cars", "Lady Brannoch"}
    assert sum(any(beginning.endswith(word) for word in own) for beginning in first) == questions.OWN_WORDS
    assert writer._beginnings(2, 0, 0) == first


CABIN, FERRY = 1, 2


@pytest.mark.parametrize(
    ("question", "place", "about"),
    [
        ("Who is the lock keeper?", CABIN, True),
        ("How many passengers does the ferry carry?", FERRY, True),
        ("How many passengers does the ferry carry?", CABIN, False),  # it leads elsewhere
        ("Where do sharks hunt for cabin boys?", CABIN, False),  # the document has no such words
        ("What is that?", CABIN, False),
    ],
)
def test_a_question_has_the_words_of_its_sentence_and_leads_back_to_it(passages, question, place, about):
    assert Judge(passages).is_about(question, place) is about


@pytest.mark.parametrize(
    ("answer", "question", "supported"),
    [
        ("The lock keeper is Ivo Kestrane.", "Who is the lock keeper?", True),
        ("Ivo Kestrane", "Who is the lock keeper?", True),
        ("The lock keeper is the lock keeper.", "Who is the lock keeper?", False),  # it says nothing
        ("The lock keeper is Dilys Umber.", "Who is the lock keeper?", False),
        ("Ivo Kestrane, a retired sailor from Norway with two dogs", "Who is the lock keeper?", False),
        ("", "Who is the lock keeper?", False),
    ],
)
def test_an_answer_says_something_in_the_words_of_the_sentence(passages, answer, question, supported):
    judge = Judge(passages)
    assert judge.is_supported(answer, question, CABIN) is supported
    asked = Question(question, place=passages.sentences[CABIN].start)
    assert judge.is_confirmed(asked, answer) is supported
    assert judge.is_confirmed(Question(question), answer), (
        "nothing is known of where a user's question belongs"
    )


def test_questions_are_cut_and_repeats_left_out():
    assert cleaned("Who is the keeper? He is Ivo.\nMore") == "Who is the keeper?"
    assert cleaned("no question") is None
    assert cleaned("What what what what what?") is None
    kept = without_repeats(
        [Question("Who is it now?"), Question("who is it, now?"), Question("Where is it now?")]
    )
    assert [question.text for question in kept] == ["Who is it now?", "Where is it now?"]
