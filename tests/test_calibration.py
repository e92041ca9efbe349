"""Confidence: the mathematics of the calibration, and that it knows a good σ from a random one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from precis.artifact import Artifact
from precis.calibration import FEATURES, Calibration, agrees
from precis.compilation.pipeline import compile
from precis.compilation.settings import Settings
from precis.compilation.training import Schedule
from precis.compiled import Compiled
from precis.errors import ArtifactError, SettingsError
from precis.evaluation.bootstrap import wilson_interval
from precis.evaluation.evaluate import evaluate
from precis.evaluation.reliability import reliability
from precis.model.loading import load_model
from precis.text.document import Document
from precis.text.passages import Passages
from precis.text.questions import Question
from precis.text.recall import features_of, recall
from tests.conftest import RECALL_MODEL
from tests.recall import answer_text, document_text, make_facts, question_text
from tests.test_artifact import make_artifact


def drawn(points, slopes, intercept=0.3, seed=0):
    """Answers whose agreement follows a logistic law in two features."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(points, 2)) * [0.5, 2.0] + [-1.0, -3.0]
    standard = (features - [-1.0, -3.0]) / [0.5, 2.0]
    chance = 1 / (1 + np.exp(-(intercept + standard @ np.asarray(slopes))))
    return features, random.random(points) < chance, chance


def test_it_recovers_a_known_law():
    features, agreed, chance = drawn(700, slopes=(1.5, 0.7))
    found = Calibration.fit(features, agreed)
    assert found.slopes == pytest.approx((1.5, 0.7), abs=0.25)
    assert found.intercept == pytest.approx(0.3, abs=0.2)
    errors = [abs(found.probability(row) - true) for row, true in zip(features, chance, strict=True)]
    assert np.mean(errors) < 0.04


def test_the_fit_is_where_the_gradient_of_the_posterior_is_zero():
    features, agreed, _ = drawn(25, slopes=(1.5, 0.7))
    found = Calibration.fit(features, agreed)
    standard = (features - np.array(found.mean)) / np.array(found.scale)
    residual = agreed - np.array([found.probability(row) for row in features])
    assert min(found.slopes) > 0  # so that no constraint binds
    assert standard.T @ residual == pytest.approx(np.array(found.slopes), abs=1e-5)
    at_mean = found.probability(found.mean)
    assert residual.sum() + 1 - 2 * at_mean == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("slopes", [(1.5, 0.7), (-1.5, 0.7), (-1.0, -1.0), (0.0, 0.0)])
def test_less_doubt_never_means_less_confidence(slopes):
    for seed in range(10):
        found = Calibration.fit(*drawn(20, slopes, seed=seed)[:2])
        assert min(found.slopes) >= 0
        steps = np.linspace(-10, 10, 41)
        for along in ((1, 0), (0, 1), (1, 1)):
            values = [found.probability(step * np.array(along)) for step in steps]
            assert values == sorted(values)


def test_with_few_points_it_stays_at_the_base_rate():
    spread = []
    for points in (4, 16, 64, 200):
        features, agreed, _ = drawn(256, slopes=(2.0, 2.0))
        order = [*np.flatnonzero(agreed)[: points // 2], *np.flatnonzero(~agreed)[: points // 2]]
        found = Calibration.fit(features[order], agreed[order])
        spread.append(sum(found.slopes))
        assert found.base_rate == 0.5
    assert spread == sorted(spread)
    assert spread[0] < 1.3  # of the 4 that the law has


@pytest.mark.parametrize("agreed", [True, False])
@pytest.mark.parametrize("points", [1, 4, 32])
def test_one_sided_points_give_laplaces_rule_and_no_certainty(points, agreed):
    features = np.full((points, 2), -0.5)
    found = Calibration.fit(features, [agreed] * points)
    assert found.probability((-0.5, -0.5)) == pytest.approx((points * agreed + 1) / (points + 2))
    for extreme in (-1e9, 1e9):
        assert 0 < found.probability((extreme, extreme)) < 1


def test_separable_points_converge():
    features = [(-3.0 + n / 8, -1.0) for n in range(32)]
    found = Calibration.fit(features, [n >= 16 for n in range(32)])
    assert 0.9 < found.probability((-0.0, -1.0)) < 1
    assert 0 < found.probability((-3.0, -1.0)) < 0.1


def test_questions_about_other_texts_tell_what_doubt_looks_like_and_their_number_does_not():
    """What tells nothing of the document's own questions may tell them from others."""
    features, agreed, _ = drawn(64, slopes=(0.0, 0.7))
    foreign = features.mean(axis=0) - [3 * features[:, 0].std(), 0]
    plain = Calibration.fit(features, agreed)
    few, many = (Calibration.fit(features, agreed, unanswerable=[foreign] * count) for count in (4, 400))
    for found in (few, many):
        assert found.probability(foreign) < plain.probability(foreign) - 0.1
        # how sure to be of an answer is told by the questions that the document does answer
        stated = [found.probability(each) for each in features]
        assert np.mean(stated) == pytest.approx(np.mean(agreed), abs=0.02)
        assert (found.base_rate, found.points) == (plain.base_rate, plain.points)
        assert len(found.fallback) == len(plain.fallback)
    assert few.probability(foreign) == pytest.approx(many.probability(foreign), abs=0.02)


def test_a_calibration_says_how_many_passages_stood_beside_the_soft_prompt():
    features, agreed, _ = drawn(25, (1.5, 0.7))
    found = Calibration.fit(features, agreed, recall=1)
    assert found.recall == 1
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_it_survives_the_manifest_and_refuses_other_features():
    found = Calibration.fit(*drawn(25, (1.5, 0.7))[:2])
    values = json.loads(json.dumps(found.to_json()))
    assert Calibration.from_json(values) == found
    assert values["features"] == list(FEATURES)
    assert Calibration.from_json(values | {"features": ["length"]}) is None


def test_the_fallback_reaches_its_target_with_as_little_reading_as_it_can():
    found = Calibration.fit(*drawn(32, (2.0, 1.0))[:2])
    shares = [step.share for step in found.fallback]
    expected = [step.agreement for step in found.fallback]
    thresholds = [step.threshold for step in found.fallback]
    assert shares == sorted(shares)
    assert expected == sorted(expected)
    assert thresholds == sorted(thresholds)
    assert (shares[0], thresholds[0]) == (0, 0)
    assert (shares[-1], expected[-1], thresholds[-1]) == (1, 1, 1)
    for target in (0.5, 0.8, 0.9, 0.99, 1.0):
        chosen = thresholds.index(found.threshold(target))
        assert expected[chosen] >= target
        assert chosen == 0 or expected[chosen - 1] < target
    for target in (0, -1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="agreement"):
            found.threshold(target)


def test_the_chosen_threshold_keeps_its_promise_on_new_questions():
    kept_promises = []
    for seed in range(40):
        features, agreed, _ = drawn(632, (2.0, 1.0), seed=seed)
        found = Calibration.fit(features[:32], agreed[:32])
        threshold = found.threshold(0.9)
        kept = np.array([found.probability(row) >= threshold for row in features[32:]])
        kept_promises.append(np.where(kept, agreed[32:], True).mean())
        assert not kept.all()  # some re-reading was needed
    assert np.mean(kept_promises) > 0.89


def test_reliability_of_an_oracle_and_of_a_liar():
    outcomes = [True] * 30 + [False] * 10
    oracle = reliability([0.99] * 30 + [0.01] * 10, outcomes)
    assert oracle.calibration_error < 0.02
    liar = reliability([0.01] * 30 + [0.99] * 10, outcomes)
    assert liar.calibration_error > 0.85
    assert reliability([], []) is None
    for found in (oracle, liar):
        assert sum(part.count for part in found.bins) == 40
        assert found.base_rate == 0.75
        for point in found.trade_off:
            assert point.agreement <= point.perfect
            assert point.chance == pytest.approx(0.75 + 0.25 * point.share)
        assert found.trade_off[0].agreement == 0.75
        assert found.trade_off[-1].agreement == 1
    for right, wrong in zip(oracle.trade_off, liar.trade_off, strict=True):
        assert right.agreement == pytest.approx(right.perfect)
        assert wrong.agreement <= wrong.chance + 1e-9


def test_without_an_order_the_trade_off_is_that_of_chance():
    found = reliability([0.7] * 10, [True] * 3 + [False] * 4 + [True] * 3)
    for point in found.trade_off:
        assert point.agreement == pytest.approx(point.chance)


def test_wilson_interval():
    low, high = wilson_interval(0.5, 100)
    assert (low, high) == pytest.approx((0.404, 0.596), abs=1e-3)
    assert wilson_interval(0.0, 5)[0] == pytest.approx(0)
    assert wilson_interval(1.0, 5)[1] == pytest.approx(1)
    assert wilson_interval(1.0, 5)[0] < 0.6


def test_features_and_agreement(tiny_model):
    alone = features_of([-1.0, -3.0], [0.5, 2.0], "Where do kestrels nest?", "In the tower.")
    assert alone == (-2.0, -2.0, 0.0, 0.0)
    assert len(alone) == len(FEATURES)
    document = Document.from_text("Kestrels nest in the tower in April.\n\nThe lamp of the harbour is red.")
    passages = Passages(document, tiny_model.chat)
    question = "Where do kestrels nest?"
    recalled = recall(passages, question)
    given = ([-1.0, -3.0], [0.5, 2.0], question)
    *_, coverage, support = features_of(*given, "In the tower.", recalled, passages)
    assert coverage == 1  # "where" and "do" say nothing
    assert 0 < passages.coverage("Where do young kestrels sleep?", recalled.text) < 1
    assert support == 1
    assert features_of(*given, "In the lamp.", recalled, passages)[-1] == 0
    assert agrees("the harbour master, Ada Lund", "Ada Lund")
    assert not agrees("Boris Lund, of Milo", "Ada Lund")
    asked = "What colour is the harbour master's boat?"
    blue = "The harbour master's boat is blue."
    assert agrees("It is blue.", blue, asked)
    assert not agrees("The harbour master's boat is green.", blue, asked), "the question's words tell nothing"
    longer = (
        "It is blue, and so are the oars, the sails and the fenders, all of them newly painted this spring."
    )
    assert agrees(longer, blue, asked), "it may say more"
    assert agrees("The boat.", "The harbour master's boat.", "Is it the harbour master's boat?")


FACTS = make_facts(20, seed=5)
DOCUMENT = Document.from_text(document_text(FACTS))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A trained σ and a random one, each with its calibration on the held-out questions."""
    model = load_model(str(RECALL_MODEL))
    trained = [question_text(fact, phrasing) for fact in FACTS for phrasing in (0, 2, 4)]
    work = tmp_path_factory.mktemp("work")

    def make(epochs):
        schedule = Schedule(epochs=epochs, batch_size=12, learning_rate=5e-2, patience=99)
        settings = Settings(ratio=5, self_study=0, warm_start="random", schedule=schedule)
        return Compiled(
            compile(DOCUMENT, model=model, questions=trained, settings=settings, work=work, keep_text=False),
            model,
        )

    return make(40), make(0)


def test_a_good_soft_prompt_is_confident_and_a_random_one_is_not(compiled):
    confidences, right = [], []
    for soft_prompt in compiled:
        said = [soft_prompt.ask(question_text(fact, 1)) for fact in FACTS]
        assert all(0 < answer.confidence < 1 for answer in said)
        confidences.append(sum(answer.confidence for answer in said) / len(said))
        right.append(
            sum(answer.text == answer_text(fact) for answer, fact in zip(said, FACTS, strict=True)) / 20
        )
    assert right[0] > 0.8 > 0.3 > right[1]
    assert confidences[0] > 0.6 > 0.4 > confidences[1]


def test_a_random_soft_prompt_re_reads_more(compiled):
    good, random = (soft_prompt.fallback_threshold(0.8) for soft_prompt in compiled)
    for threshold, soft_prompt, least, most in ((good, compiled[0], 0, 0.5), (random, compiled[1], 0.7, 1)):
        said = [soft_prompt.ask(question_text(fact, 1)) for fact in FACTS]
        share = sum(answer.confidence < threshold for answer in said) / len(said)
        assert least <= share <= most


def test_without_time_there_is_no_confidence_and_it_is_said(tiny_model, tmp_path):
    artifact = make_artifact(tiny_model)
    assert artifact.manifest.confidence is None
    soft_prompt = Compiled(artifact, tiny_model)
    assert soft_prompt.ask("when?", longest=3).confidence is None
    with pytest.raises(ArtifactError, match="Compile the document again"):
        soft_prompt.fallback_threshold(0.9)


def test_a_file_from_before_confidence_opens(tiny_model, tmp_path, monkeypatch):
    artifact = make_artifact(tiny_model)
    plain = artifact.manifest.to_json()
    del plain["confidence"]
    monkeypatch.setattr("precis.artifact.Manifest.to_json", lambda self: plain)
    artifact.save(tmp_path / "old.precis")
    monkeypatch.undo()
    assert Artifact.open(tmp_path / "old.precis").manifest == replace(artifact.manifest, confidence=None)


def test_with_recall_confidence_is_that_of_answers_with_recall(compiled, tmp_path):
    """A random σ knows nothing, but the passage does, and confidence with it says so."""
    model = compiled[1].model
    trained = [question_text(fact, phrasing) for fact in FACTS for phrasing in (0, 2, 4)]
    settings = Settings(ratio=5, self_study=0, warm_start="random", schedule=Schedule(epochs=0))
    artifact = compile(DOCUMENT, model=model, questions=trained, settings=settings, work=tmp_path)
    assert artifact.calibration.recall == 1
    questions = [Question(question_text(fact, 1), (answer_text(fact),)) for fact in FACTS]
    report = evaluate(artifact, DOCUMENT, questions, model=model)
    assert report.methods["precis"].right > report.methods["soft-prompt"].right + 0.3
    stated = [record.methods["precis"].confidence for record in report.asked]
    assert sum(stated) / len(stated) > 0.5
    assert all(record.methods["soft-prompt"].confidence is None for record in report.asked)
    asked = Compiled(artifact, model).ask(questions[0].text)
    assert stated[0] == pytest.approx(asked.confidence, abs=1e-3)
    assert report.reliability.base_rate == pytest.approx(report.methods["precis"].right)


def test_evaluation_holds_confidence_against_what_came_true(compiled):
    questions = [Question(question_text(fact, phrasing)) for fact in FACTS for phrasing in (1, 3, 5)]
    reports = [
        evaluate(soft_prompt.artifact, DOCUMENT, questions, model=soft_prompt.model)
        for soft_prompt in compiled
    ]
    good, random = (report.reliability for report in reports)
    assert good.base_rate > 0.8 > 0.4 > random.base_rate
    for found in (good, random):
        assert found.calibration_error < 0.25
        assert found.trade_off[-1].agreement == 1
    answers = [record.methods["precis"] for record in reports[0].asked]
    asked_alone = compiled[0].ask(questions[5].text)
    assert answers[5].confidence == pytest.approx(asked_alone.confidence, abs=1e-3)
    assert all(record.methods["full"].confidence is None for record in reports[0].asked)
