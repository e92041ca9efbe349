"""Measures: SQuAD's rules, and reports that hold what they say."""

import pytest

from precis.document import Document
from precis.evaluation import evaluate
from precis.questions_file import UserQuestion
from precis.text_measures import exact_match, normalised, token_f1
from tests.conftest import make_model
from tests.test_artifact import make_artifact


def test_squad_normalisation():
    assert normalised("  The Harbour-Master's  an Ada!") == "harbourmasters ada"
    assert exact_match("The red lamp.", "red lamp") == 1
    assert exact_match("a blue lamp", "red lamp") == 0


@pytest.mark.parametrize(
    ("said", "gold", "f1"),
    [
        ("red lamp", "the red lamp", 1),
        ("red lamp here", "red lamp", 0.8),
        ("blue", "red", 0),
        ("red red", "red", 2 / 3),
        ("", "", 1),
        ("", "red", 0),
    ],
)
def test_token_f1(said, gold, f1):
    assert token_f1(said, gold) == pytest.approx(f1)


@pytest.fixture(scope="module")
def report():
    model = make_model(max_position_embeddings=512)
    questions = [
        UserQuestion("when does it close?", ("at nine",)),
        UserQuestion("what is red?", ("the lamp",)),
        UserQuestion("why " * 200 + "?", ("no room",)),
    ]
    document = Document.from_text("the harbour closes at nine, and the lamp is red. " * 4, "harbour")
    return evaluate(make_artifact(model), document, questions, model=model)


def test_the_full_document_agrees_with_itself(report):
    full = report.methods["full"]
    assert full.kl == pytest.approx(0, abs=1e-6)
    assert full.top1 == full.match == 1
    assert full.prompt_positions > report.methods["precis"].prompt_positions == 4


def test_a_question_that_does_not_fit_is_a_failure_and_no_zero(report):
    assert report.questions == 3
    assert [scores.failures for scores in report.methods.values()] == [1, 1, 1]
    assert len(report.answers) == 2


def test_the_json_has_exactly_the_documented_keys(report):
    values = report.to_json()
    assert list(values) == ["model", "document", "questions", "ratio", "recovery", "methods"]
    assert list(values["methods"]) == ["none", "full", "precis"]
    assert set(values["methods"]["none"]) == {
        "nll",
        "kl",
        "top1",
        "match",
        "em",
        "f1",
        "prompt_positions",
        "prefix_bytes",
        "first_token_s",
        "tokens_per_s",
        "failures",
    }
    none, full, sigma = (values["methods"][name]["nll"] for name in ("none", "full", "precis"))
    if none > full:
        assert values["recovery"] == pytest.approx((none - sigma) / (none - full))
    else:
        assert values["recovery"] is None


def test_without_human_answers_em_and_f1_are_null():
    model = make_model(max_position_embeddings=512)
    document = Document.from_text("the harbour closes at nine. " * 4)
    report = evaluate(make_artifact(model), document, [UserQuestion("what is red?")], model=model)
    assert report.methods["full"].em is None
    assert report.methods["full"].f1 is None
