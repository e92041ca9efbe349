"""Measures: SQuAD's rules, and reports that hold what they say."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from precis.baselines import BASELINES, names_in, same_for_all
from precis.baselines.truncate import Truncate
from precis.calibration import FEATURES, Calibration
from precis.cli.display import show_answers, show_report
from precis.compilation.progress import Progress
from precis.compilation.teacher import LONGEST_ANSWER
from precis.compiled import Compiled
from precis.errors import SettingsError, WindowError
from precis.evaluation.bootstrap import wilson_interval
from precis.evaluation.columns import comparison, headline
from precis.evaluation.evaluate import evaluate
from precis.evaluation.examination import Examination
from precis.evaluation.report import BY_HUMANS, BY_THE_DOCUMENT, AnsweredQuestion, MethodAnswer
from precis.evaluation.scoring import bootstrap_recovery, compare_methods, reliability_of, scores_of
from precis.manifest import DocumentRecord
from precis.measures import exact_match, is_right, normalised, token_f1
from precis.text.document import Document
from precis.text.questions import Question
from precis.text.recall import recall
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


@pytest.mark.parametrize(
    ("said", "humans", "right"),
    [
        ("It closes at nine.", ["at nine"], True),
        ("The keeper is Ada Lund, of Milo", ["Boris", "ada lund"], True),
        ("at nineteen", ["nine"], False),  # whole words
        ("channel 72", ["VHF channel 72"], False),
        ("at 7:15 am", ["the 7:15"], True),
        ("anything", ["", "the"], False),  # nothing is left of these
        ("anything", [], False),
    ],
)
def test_an_answer_is_right_where_a_humans_occurs_in_it_as_whole_words(said, humans, right):
    assert is_right(said, humans) is right


TEXT = "the harbour closes at nine, and the lamp is red. " * 4
QUESTIONS = [
    Question("when does it close?", ("at nine",)),
    Question("what is red?", ("the lamp",)),
    Question("why " * 200 + "?", ("no room",)),
]


@pytest.fixture(scope="module")
def model(device):
    return make_model(device=device, max_position_embeddings=512)


@pytest.fixture(scope="module")
def document():
    return Document.from_text(TEXT, "harbour")


class Told(Progress):
    """Keeps the notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def with_text_of(document, artifact):
    manifest = replace(artifact.manifest, document=DocumentRecord(document.name, document.sha256, 80))
    return replace(artifact, manifest=manifest).with_text(document)


@pytest.fixture(scope="module")
def artifact(model, document):
    return with_text_of(document, make_artifact(model))


@pytest.fixture(scope="module")
def other(model):
    return with_text_of(Document.from_text("Kestrels nest in April.", "birds"), make_artifact(model, slots=6))


@pytest.fixture(scope="module")
def report(model, document, artifact, other):
    return evaluate(
        artifact, document, QUESTIONS, model=model, methods=["truncate", "retrieve-x4"], other=other
    )


METHODS = [
    "none",
    "full",
    "full-recall",
    "soft-prompt",
    "precis",
    "other-recall",
    "retrieve",
    "truncate",
    "retrieve-x4",
]


def test_the_full_document_agrees_with_itself(report):
    full = report.methods["full"]
    assert full.kl == pytest.approx(0, abs=1e-6)
    assert full.top1 == full.match == 1
    assert full.prompt_positions > report.methods["soft-prompt"].prompt_positions == 4


def test_what_is_recalled_stands_before_the_question_and_counts(model, report, artifact, other):
    chat, passages = model.chat, Examination(model, artifact.document(), QUESTIONS).teacher.passages
    for record in report.asked[:2]:
        found = recall(passages, record.question)
        added = len(chat.question_prompt(record.question, found.text)) - len(
            chat.question_prompt(record.question)
        )
        assert added > chat.document_tokens(found.text) > 0
        positions = {name: answer.positions for name, answer in record.methods.items()}
        assert positions["precis"] == positions["soft-prompt"] + added == 4 + added
        assert positions["full-recall"] == positions["full"] + added
        assert positions["other-recall"] == 6 + added
    scores = report.methods
    for name, alone in (("precis", "soft-prompt"), ("full-recall", "full")):
        assert scores[name].prompt_positions > scores[alone].prompt_positions
        assert scores[name].prefix_bytes > scores[alone].prefix_bytes


def test_precis_answers_as_ask_does_and_the_soft_prompt_as_ask_without_recall(model, report, artifact):
    compiled = Compiled(artifact, model)
    for record in report.asked[:2]:
        for name, count in (("precis", None), ("soft-prompt", 0)):
            asked = compiled.ask(record.question, longest=LONGEST_ANSWER, recall=count)
            assert record.methods[name].text == asked.text
            assert record.methods[name].positions == asked.prompt_positions
    assert report.asked[0].methods["precis"].text != report.asked[0].methods["soft-prompt"].text


def test_without_the_text_precis_is_the_soft_prompt_alone_and_it_is_said(model, document):
    told = Told()
    report = evaluate(make_artifact(model), document, QUESTIONS, model=model, progress=told)
    assert "not kept" in told.notes[-1]
    assert [*report.methods] == [
        name for name in METHODS if name not in ("other-recall", "truncate", "retrieve-x4")
    ]
    for record in report.asked[:2]:
        assert record.methods["precis"] == record.methods["soft-prompt"]
        assert record.methods["full-recall"].positions > record.methods["full"].positions


def test_retrieve_reads_as_many_tokens_as_precis_uses_and_other_baselines_as_many_as_slots(
    model, document, artifact, monkeypatch
):
    slots = {}
    for name in ("retrieve", "retrieve-x4", "truncate"):

        def note(task, name=name, real=BASELINES[name].prepare):
            slots[name] = task.slots
            return real(task)

        monkeypatch.setattr(BASELINES[name], "prepare", note)
    report = evaluate(artifact, document, QUESTIONS, model=model, methods=["retrieve-x4", "truncate"])
    # this is the mean rounded up
    assert 0 <= slots["retrieve"] - report.methods["precis"].prompt_positions < 1
    assert slots["retrieve-x4"] == slots["retrieve"]
    assert slots["truncate"] == 4


def test_a_control_that_saw_the_document_or_another_model_is_refused(model, document, artifact, other):
    with pytest.raises(SettingsError, match="the same document"):
        evaluate(artifact, document, QUESTIONS, model=model, other=artifact)
    strange = make_artifact(make_model(seed=1, max_position_embeddings=512))
    with pytest.raises(SettingsError, match="compiled for the same model"):
        evaluate(artifact, document, QUESTIONS, model=model, other=strange)


def said(text, right, *, confidence=None, match=0.0):
    return MethodAnswer(text, 1.0, 0.0, 1, match, confidence, right, 10)


def test_right_answers_are_counted_with_an_interval_and_kept_ones_are_those_of_the_document():
    asked = [
        AnsweredQuestion(
            "?", ["x"], 1, 0, {"full": said("x y", full), "mine": said("x", mine), "none": said("", False)}
        )
        for full, mine in ((True, True), (True, False), (False, True), (False, True), (False, False))
    ]
    none = said("", False)
    asked.append(
        AnsweredQuestion("?", [], 1, 0, {"full": said("x", None), "mine": said("x x x", None), "none": none})
    )
    asked.append(
        AnsweredQuestion("?", ["x"], 1, 0, {"full": said("x", True), "none": none})
    )  # this one failed
    scores = scores_of(asked, "mine")
    assert (scores.right, scores.right_count, scores.judged) == (3 / 6, 3, 6)
    assert scores.right_interval == pytest.approx(wilson_interval(3 / 6, 6))
    assert scores.kept == 1 / 3
    assert scores.answer_words == pytest.approx((5 + 3) / 6)
    assert scores.failures == 1
    assert scores_of(asked, "full").kept == 1
    nobody = [
        AnsweredQuestion("?", ["x"], 1, 0, {"full": said("y", False), "mine": said("x", True), "none": none})
    ]
    assert scores_of(nobody, "mine").kept is None


def test_two_methods_are_compared_on_the_same_questions():
    asked = [
        AnsweredQuestion("?", ["x"], 1, 0, {"precis": said("", n % 2 == 0), "full": said("", n % 4 == 0)})
        for n in range(40)
    ]
    asked.append(AnsweredQuestion("?", ["x"], 1, 0, {"precis": said("", True)}))
    found = compare_methods(asked, "precis", "full")
    assert (found.difference, found.questions) == (0.25, 40)
    assert 0 < found.interval[0] < 0.25 < found.interval[1]  # type: ignore[index]
    # far narrower than if they were drawn apart
    assert found.interval[1] - found.interval[0] < 0.3  # type: ignore[index]
    assert compare_methods(asked, "full", "precis").difference == -0.25
    assert compare_methods(asked, "precis", "precis").interval == (0, 0)
    assert compare_methods(asked, "precis", "other-recall") is None
    assert comparison(found).startswith("precis against full: +25 percentage points (95 % interval +")


def test_a_report_compares_what_it_has(report):
    assert [(found.method, found.against) for found in report.comparisons] == [
        ("precis", "full"),
        ("soft-prompt", "full"),
        ("precis", "retrieve"),
        ("precis", "retrieve-x4"),
        ("precis", "other-recall"),
    ]


def test_where_some_questions_have_human_answers_only_they_count(model, document, artifact):
    mixed = [QUESTIONS[0], Question("what is red?"), Question("what is calm?", ("the",))]
    report = evaluate(artifact, document, mixed, model=model)
    assert report.judged_by == BY_HUMANS
    assert [record.methods["full"].right is None for record in report.asked] == [False, True, True]
    assert report.methods["precis"].judged == 1


def test_without_any_human_answers_right_is_what_agrees_with_the_document(model, document, artifact):
    report = evaluate(artifact, document, [Question(each.text) for each in QUESTIONS], model=model)
    assert report.judged_by == BY_THE_DOCUMENT
    assert report.methods["full"].right == report.methods["full"].kept == 1
    for record in report.asked[:2]:
        for answer in record.methods.values():
            assert answer.right == (answer.match >= 0.5)
    console = Console(width=100, record=True, file=io.StringIO())
    show_report(console, report)
    shown = console.export_text()
    assert "come without human answers" in shown
    assert "as the model with the whole document before it does" in headline(report)


def test_confidence_is_stated_by_the_method_that_it_was_calibrated_for(model, document, artifact):
    for count, name in ((1, "precis"), (0, "soft-prompt")):
        fitted = Calibration.fit(
            [(-1.0, -2.0, 0.5, 0.5), (-2.0, -1.0, 0.2, 0.0)], [True, False], recall=count
        )
        manifest = replace(artifact.manifest, confidence=fitted)
        report = evaluate(replace(artifact, manifest=manifest), document, QUESTIONS[:2], model=model)
        for record in report.asked:
            stated = {each for each, answer in record.methods.items() if answer.confidence is not None}
            assert stated == {name}
        assert report.reliability == reliability_of(report.asked, name)
        asked = Compiled(replace(artifact, manifest=manifest), model).ask(
            QUESTIONS[0].text, recall=count, longest=LONGEST_ANSWER
        )
        assert report.asked[0].methods[name].confidence == pytest.approx(asked.confidence, abs=1e-6)
    assert len(FEATURES) == 4


def test_reliability_is_of_right_answers_and_what_re_reading_buys_of_agreement():
    asked = [
        AnsweredQuestion("?", ["x"], 1, 0, {"precis": said("", n < 5, confidence=0.5, match=float(n >= 2))})
        for n in range(10)
    ]
    found = reliability_of(asked, "precis")
    assert found.base_rate == 0.5
    assert found.calibration_error == pytest.approx(0.4)  # bins of two: right twice, …, once, never
    assert found.trade_off[0].agreement == 0.8
    assert reliability_of(asked, "full") is None


def test_a_question_that_does_not_fit_is_a_failure_and_no_zero(report):
    assert report.questions == len(report.asked) == 3
    assert {scores.failures for scores in report.methods.values()} == {1}
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
        "judged_by",
        "recovery",
        "methods",
        "comparisons",
        "asked",
        "reliability",
    ]
    assert list(values["methods"]) == METHODS
    assert list(values["methods"]["none"]) == [
        "right",
        "right_interval",
        "right_count",
        "judged",
        "kept",
        "f1",
        "answer_words",
        "prompt_positions",
        "prefix_bytes",
        "first_token_s",
        "tokens_per_s",
        "recovery",
        "interval",
        "nll",
        "kl",
        "top1",
        "match",
        "em",
        "failures",
        "reason",
    ]
    assert set(values["comparisons"][0]) == {"method", "against", "difference", "interval", "questions"}
    none, full, sigma = (values["methods"][name]["nll"] for name in ("none", "full", "soft-prompt"))
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
        "right",
        "positions",
    }


def test_without_human_answers_em_and_f1_are_null(model, document):
    report = evaluate(make_artifact(model), document, [Question("what is red?")], model=model)
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
    assert shown.startswith("precis answers ")
    assert shown.index("Right") < shown.index("Positions") < shown.index("Recovery")
    assert "✓ right" in shown or "✗ wrong" in shown
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
    monkeypatch.setattr("precis.evaluation.examination.QUESTIONS_AT_ONCE", at_once)
    whole = model.prefill(model.chat.document_prompt(document.text))

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
    questions = [Question("Where do kestrels nest?")]
    asked = Examination(model, Document.from_text(text), questions).compare({})
    assert text[asked[0].place :].lstrip().startswith("Kestrels nest")


def asked_with(nlls):
    return [
        AnsweredQuestion(
            "?", [], 1, 0, {name: MethodAnswer(None, nll, 0, 0, None) for name, nll in each.items()}
        )
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
    assert few[1] - few[0] > high - low  # type: ignore[index]
    assert bootstrap_recovery(asked, "full") == (1, (1, 1))
    assert bootstrap_recovery(asked, "none") == (0, (0, 0))


def test_what_fails_recovers_nothing_and_there_is_no_bound_where_the_document_may_not_help():
    asked = asked_with([{"none": 2, "mine": 1, "full": 0}, {"none": 9, "full": 0}])
    assert bootstrap_recovery(asked, "mine")[0] == pytest.approx(1 / 11)
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
    assert names_in("all") == list(BASELINES)
    assert names_in("") == []


def test_an_examination_can_be_taken_again_and_again(model):
    document = Document.from_text("The lamp is red. " * 8)
    examination = Examination(model, document, QUESTIONS)
    prepared = {"some": same_for_all(model.prefill([5, 6, 7]))}
    first, second = (examination.compare(prepared, answers=False) for _ in range(2))
    assert first == second
