"""Measures: SQuAD's rules, and reports that hold what they say."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from precis.display import show_answers, show_report
from precis.document import Document
from precis.errors import SettingsError, WindowError
from precis.evaluation import Asked, Examination, MethodAnswer, bootstrap_recovery, evaluate
from precis.questions_file import UserQuestion
from precis.rivals import RIVALS, names_in, same_for_all
from precis.rivals.truncate import Truncate
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


TEXT = "the harbour closes at nine, and the lamp is red. " * 4
QUESTIONS = [
    UserQuestion("when does it close?", ("at nine",)),
    UserQuestion("what is red?", ("the lamp",)),
    UserQuestion("why " * 200 + "?", ("no room",)),
]


@pytest.fixture(scope="module")
def model():
    return make_model(max_position_embeddings=512)


@pytest.fixture(scope="module")
def document():
    return Document.from_text(TEXT, "harbour")


@pytest.fixture(scope="module")
def report(model, document):
    return evaluate(make_artifact(model), document, QUESTIONS, model=model, methods=["truncate"])


def test_the_full_document_agrees_with_itself(report):
    full = report.methods["full"]
    assert full.kl == pytest.approx(0, abs=1e-6)
    assert full.top1 == full.match == 1
    assert full.prompt_positions > report.methods["precis"].prompt_positions == 4


def test_a_question_that_does_not_fit_is_a_failure_and_no_zero(report):
    assert report.questions == len(report.asked) == 3
    assert [scores.failures for scores in report.methods.values()] == [1, 1, 1, 1]
    assert report.asked[2].methods == {}
    assert report.asked[2].tokens == 0


def test_the_means_are_those_of_the_questions(report):
    records = report.asked[:2]
    tokens = sum(record.tokens for record in records)
    for name, scores in report.methods.items():
        mine = [record.methods[name] for record in records]
        assert scores.nll == pytest.approx(sum(answer.nll for answer in mine) / tokens)
        assert scores.kl == pytest.approx(sum(answer.kl for answer in mine) / tokens)
        assert scores.top1 == pytest.approx(sum(answer.top1 for answer in mine) / tokens)
        assert scores.match == pytest.approx(sum(answer.match for answer in mine) / 2)
        pairs = [(answer.text, record.humans[0]) for answer, record in zip(mine, records, strict=True)]
        assert scores.f1 == pytest.approx(sum(token_f1(*pair) for pair in pairs) / 2)


def test_the_json_has_exactly_the_documented_keys(report):
    values = json.loads(json.dumps(report.to_json()))
    assert list(values) == [
        "model",
        "document",
        "questions",
        "ratio",
        "recovery",
        "methods",
        "asked",
        "reliability",
    ]
    assert list(values["methods"]) == ["none", "full", "precis", "truncate"]
    assert set(values["methods"]["none"]) == {
        "recovery",
        "interval",
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
        "reason",
    }
    none, full, sigma = (values["methods"][name]["nll"] for name in ("none", "full", "precis"))
    if none > full:
        assert values["recovery"] == pytest.approx((none - sigma) / (none - full))
    else:
        assert values["recovery"] is None
    assert set(values["asked"][0]) == {"question", "humans", "tokens", "place", "methods"}
    assert set(values["asked"][0]["methods"]["precis"]) == {
        "text",
        "nll",
        "kl",
        "top1",
        "match",
        "confidence",
    }


def test_without_human_answers_em_and_f1_are_null(model, document):
    report = evaluate(make_artifact(model), document, [UserQuestion("what is red?")], model=model)
    assert report.methods["full"].em is None
    assert report.methods["full"].f1 is None


def test_a_method_that_cannot_do_it_has_a_reason_and_no_scores(model, document, monkeypatch):
    def refuse(self, task):
        raise WindowError("too long")

    monkeypatch.setattr(Truncate, "prefix", refuse)
    report = evaluate(make_artifact(model), document, QUESTIONS[:2], model=model, methods=["truncate"])
    failed = report.methods["truncate"]
    assert failed.reason == "too long"
    assert failed.failures == 2
    assert failed.nll is failed.kl is failed.top1 is failed.match is failed.recovery is None
    assert "truncate" not in report.asked[0].methods
    assert report.methods["precis"].nll is not None
    console = Console(width=160, record=True, file=io.StringIO())
    show_report(console, report)
    show_answers(console, report, 1)
    shown = console.export_text()
    assert "truncate failed: too long" in shown
    assert "what is red?" in shown or "when does it close?" in shown


def test_a_prefix_that_leaves_no_room_fails_on_the_question_alone(model, document):
    crowded = replace(model.prefill([5, 6]), next_position=model.window - 3)
    roomy = model.prefill([5, 6])

    def groups(texts):
        return [(crowded, [0]), (roomy, [1])]

    asked = Examination(model, document, QUESTIONS[:2]).compare({"mixed": groups})
    assert [("mixed" in record.methods) for record in asked] == [False, True]
    assert all({"none", "full"} <= set(record.methods) for record in asked)


@pytest.mark.parametrize("at_once", [1, 2, 48])
def test_chunks_change_nothing_and_a_method_gets_its_own_questions(model, document, monkeypatch, at_once):
    """The full document again, given question by question in another order, agrees with itself."""
    monkeypatch.setattr("precis.evaluation.QUESTIONS_AT_ONCE", at_once)
    whole = model.prefill(model.chat.reading(document.text))

    def backwards(texts):
        return [(whole, [number]) for number in reversed(range(len(texts)))]

    asked = Examination(model, document, QUESTIONS[:2]).compare({"backwards": backwards})
    for record, question in zip(asked, QUESTIONS, strict=False):
        assert record.question == question.text
        full, again = record.methods["full"], record.methods["backwards"]
        assert again.text == full.text
        assert again.kl == pytest.approx(0, abs=1e-4)
        assert again.nll == pytest.approx(full.nll, rel=1e-4)
        assert record.methods["none"].kl > 1e-3


def test_without_answers_the_measures_are_the_same(model, document):
    prepared = {"some": same_for_all(model.prefill([5, 6, 7]))}
    with_answers, without = (
        Examination(model, document, QUESTIONS[:2]).compare(prepared, answers=answers)
        for answers in (True, False)
    )
    for one, other in zip(with_answers, without, strict=True):
        assert other.methods["some"].text is None
        assert other.methods["some"].match is None
        assert other.methods["some"].nll == pytest.approx(one.methods["some"].nll)
        assert other.methods["full"].text == one.methods["full"].text


def test_a_place_is_where_the_passage_stands(model):
    text = "The lamp is red.\n\n" + "the harbour is calm and wide. " * 8 + "\n\nKestrels nest in April."
    questions = [UserQuestion("Where do kestrels nest?")]
    asked = Examination(model, Document.from_text(text), questions).compare({})
    assert text[asked[0].place :].lstrip().startswith("Kestrels nest")


def asked_with(nlls):
    return [
        Asked("?", [], 1, 0, {name: MethodAnswer(None, nll, 0, 0, None) for name, nll in each.items()})
        for each in nlls
    ]


def test_recovery_is_a_ratio_of_sums_with_an_interval_that_covers_it():
    draw = np.random.default_rng(1)
    nlls = [{"none": 2 + draw.random(), "mine": 1 + draw.random(), "full": draw.random()} for _ in range(60)]
    asked = asked_with(nlls)
    none, mine, full = (sum(each[name] for each in nlls) for name in ("none", "mine", "full"))
    recovery, (low, high) = bootstrap_recovery(asked, "mine")
    assert recovery == pytest.approx((none - mine) / (none - full))
    assert low < recovery < high
    assert bootstrap_recovery(asked, "mine") == (recovery, (low, high))
    few = bootstrap_recovery(asked[:10], "mine")[1]
    assert few[1] - few[0] > high - low
    assert bootstrap_recovery(asked, "full") == (1, (1, 1))
    assert bootstrap_recovery(asked, "none") == (0, (0, 0))


def test_recovery_leaves_out_failures_and_gives_no_bound_where_there_is_none():
    asked = asked_with([{"none": 2, "mine": 1, "full": 0}, {"none": 9, "full": 0}])
    assert bootstrap_recovery(asked, "mine")[0] == 0.5
    assert bootstrap_recovery(asked, "other") == (None, None)
    # in some resamples the document does not help
    assert bootstrap_recovery(
        asked_with([{"none": 3, "mine": 1, "full": 0}, {"none": 0, "mine": 0, "full": 1}]), "mine"
    ) == (1.0, None)
    assert bootstrap_recovery(asked_with([{"none": 1, "mine": 0, "full": 2}]), "mine") == (None, None)


def test_unknown_methods_are_refused_with_the_list(model, document):
    with pytest.raises(SettingsError, match="truncate, retrieve"):
        evaluate(make_artifact(model), document, QUESTIONS, model=model, methods=["magic"])
    with pytest.raises(SettingsError, match="magic"):
        names_in("truncate, magic")
    assert names_in("truncate, snapkv,") == ["truncate", "snapkv"]
    assert names_in("all") == list(RIVALS)
    assert names_in("") == []


def test_an_examination_can_be_taken_again_and_again(model):
    document = Document.from_text("The lamp is red. " * 8)
    examination = Examination(model, document, QUESTIONS)
    prepared = {"some": same_for_all(model.prefill([5, 6, 7]))}
    first, second = (examination.compare(prepared, answers=False) for _ in range(2))
    assert first == second
