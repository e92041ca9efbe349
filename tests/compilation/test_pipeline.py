"""Compiling, on the small recall model: what σ learns, and what no accident may lose."""

import hashlib

import pytest
import torch

from precis.artifact import Artifact
from precis.compilation.lessons import with_passages
from precis.compilation.objectives import objective_named
from precis.compilation.pipeline import FIRST_QUESTIONS, compile
from precis.compilation.progress import Progress, Stopwatch
from precis.compilation.settings import Settings
from precis.compilation.teacher import Teacher, teach
from precis.compilation.training import Schedule, targets
from precis.compiled import Compiled
from precis.errors import ArtifactError, QuestionsError, SettingsError
from precis.evaluation.evaluate import evaluate
from precis.model.conditioned import Example
from precis.model.loading import load_model
from precis.model.soft_prompt import EmbeddingPrompt, KeyValuePrompt
from precis.storage import WorkFolder
from precis.text.document import Document
from precis.text.questions import Question
from precis.text.recall import RECALL, REFUSAL
from tests.conftest import RECALL_MODEL
from tests.recall import answer_text, document_text, make_facts, question_text

FACTS = make_facts(20, seed=5)
DOCUMENT = Document.from_text(document_text(FACTS))
TRAINED = [question_text(fact, phrasing) for fact in FACTS for phrasing in (0, 2, 4)]
HELD_OUT = [
    Question(question_text(fact, phrasing), (answer_text(fact),)) for fact in FACTS for phrasing in (1, 3, 5)
]
THOROUGH = Settings(
    ratio=5, self_study=0, schedule=Schedule(epochs=60, batch_size=12, learning_rate=5e-2, patience=99)
)
QUICK = Settings(ratio=10, self_study=0, schedule=Schedule(epochs=2, batch_size=12))


@pytest.fixture(scope="module")
def model():
    return load_model(str(RECALL_MODEL))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRECIS_CACHE", str(tmp_path / "cache"))


def file_bytes(artifact, tmp_path):
    artifact.save(tmp_path / "x.precis")
    return (tmp_path / "x.precis").read_bytes()


def weights(model):
    sha = hashlib.sha256()
    for _, tensor in sorted(model.network.state_dict().items()):
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize("objective", ["nll", "kl", "mix"])
def test_a_trained_soft_prompt_answers_held_out_phrasings_and_an_untrained_one_does_not(model, objective):
    before = weights(model)
    settings = Settings(**{**THOROUGH.__dict__, "objective": objective, "warm_start": "random"})
    trained = compile(DOCUMENT, model=model, questions=TRAINED, settings=settings, keep_text=False)
    untrained = compile(
        DOCUMENT,
        model=model,
        questions=TRAINED,
        settings=Settings(**{**settings.__dict__, "schedule": Schedule(epochs=0)}),
        keep_text=False,
    )
    reports = [evaluate(artifact, DOCUMENT, HELD_OUT, model=model) for artifact in (trained, untrained)]
    assert reports[0].methods["full"].em > 0.95
    assert reports[0].methods["none"].em < 0.2
    assert reports[0].methods["soft-prompt"].em > 0.8
    assert reports[1].methods["soft-prompt"].em < 0.3
    assert reports[0].recovery > 0.7 > 0.3 > reports[1].recovery
    assert weights(model) == before


def test_attention_chooses_a_better_start_than_chance(model):
    recoveries = []
    for start in ("attention", "even", "random"):
        settings = Settings(**{**THOROUGH.__dict__, "warm_start": start, "schedule": Schedule(epochs=0)})
        artifact = compile(DOCUMENT, model=model, questions=TRAINED, settings=settings)
        recoveries.append(artifact.manifest.fidelity.recovery)
    assert recoveries[0] > max(recoveries[1:]) + 0.1


def test_heads_of_different_lengths_recover_more_than_heads_alike(model):
    """Without training, at the same number of stored slots; and the file says who holds how many."""
    untrained = {**THOROUGH.__dict__, "ratio": 8, "schedule": Schedule(epochs=0)}
    reports, counts = [], []
    for bias in (True, False):
        settings = Settings(**{**untrained, "bias": bias})
        artifact = compile(DOCUMENT, model=model, questions=TRAINED, settings=settings)
        reports.append(evaluate(artifact, DOCUMENT, HELD_OUT, model=model))
        counts.append(artifact.tensors["counts"])
    assert counts[0].sum() == counts[1].sum()
    assert counts[0].min() < counts[1].min() == counts[1].max() < counts[0].max()
    assert reports[0].recovery > reports[1].recovery + 0.05


def test_no_minutes_give_a_soft_prompt_without_training(model):
    settings = Settings(ratio=5, self_study=0, minutes=0)
    artifact = compile(DOCUMENT, model=model, questions=TRAINED, settings=settings)
    assert artifact.manifest.training.steps == 0
    assert artifact.manifest.data.questions + artifact.manifest.data.held_out == len(TRAINED)
    random = compile(
        DOCUMENT,
        model=model,
        questions=TRAINED,
        settings=Settings(ratio=5, self_study=0, minutes=0, warm_start="random"),
    )
    found, control = (evaluate(one, DOCUMENT, HELD_OUT, model=model).recovery for one in (artifact, random))
    assert found > 0.5
    assert control < 0.2


def test_where_the_soft_prompt_is_the_documents_own_prefix_the_objective_is_zero(model, tmp_path):
    teacher = Teacher(model, DOCUMENT)
    whole = teacher.prefix(0)
    taught = teach(teacher, [Question(text) for text in TRAINED[:10]], WorkFolder(tmp_path))
    for soft_prompt in (
        KeyValuePrompt(whole),
        EmbeddingPrompt(model.embed(model.chat.document_prompt(DOCUMENT.text))),
    ):
        student = model.given(soft_prompt.prefix(model))
        logits = student.answer_logits([gold.example for gold in taught.golds])
        loss = objective_named("kl")(logits, *targets(taught.golds, logits.device))
        assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
        generations = student.generate([gold.prompt for gold in taught.golds], max_tokens=48)
        assert [g.tokens for g in generations] == [gold.tokens for gold in taught.golds]


def test_only_the_soft_prompt_gets_a_gradient_and_never_the_sink(model, tmp_path):
    teacher = Teacher(model, DOCUMENT)
    whole = teacher.prefix(0)
    soft_prompt = KeyValuePrompt(whole.select(torch.arange(8).expand(3, 2, -1)))
    before = soft_prompt.prefix(model)
    taught = teach(teacher, [Question(text) for text in TRAINED[:3]], WorkFolder(tmp_path))
    logits = model.given(before).answer_logits([gold.example for gold in taught.golds])
    logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in soft_prompt.parameters().values())
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert torch.equal(before.keys[:, :, 0], whole.keys[:, :, 0])


@pytest.mark.parametrize("form", ["kv", "embedding"])
def test_the_same_seed_gives_the_same_bytes_and_reloaded_equals_saved(model, tmp_path, form):
    settings = Settings(**{**QUICK.__dict__, "form": form})
    first, second = (
        compile(DOCUMENT, model=model, questions=TRAINED, settings=settings, work=tmp_path / name)
        for name in ("one", "two")
    )
    assert file_bytes(first, tmp_path) == file_bytes(second, tmp_path)
    again = Artifact.open(tmp_path / "x.precis")
    assert again.manifest == first.manifest
    prompts = [model.chat.question_prompt(question.text) for question in HELD_OUT[:8]]
    texts = [
        [g.tokens for g in model.given(artifact.prefix(model)).generate(prompts, max_tokens=5)]
        for artifact in (first, again)
    ]
    assert texts[0] == texts[1]
    other = compile(
        DOCUMENT, model=model, questions=TRAINED, settings=Settings(**{**settings.__dict__, "seed": 1})
    )
    assert file_bytes(other, tmp_path) != file_bytes(first, tmp_path)


class Paid(Progress):
    """Keeps what was said of when the compile has paid for itself."""

    def __init__(self):
        self.found = []

    def break_even(self, found):
        self.found.append(found)


def test_a_compile_says_when_it_pays_unless_it_reused_earlier_work(model, tmp_path):
    told = []
    for _ in range(2):
        paid = Paid()
        watch = Stopwatch(paid)
        compile(
            DOCUMENT, model=model, questions=TRAINED, settings=QUICK, work=tmp_path / "work", progress=watch
        )
        watch.end()
        told.append((paid.found, [stage.name for stage in watch.stages]))
    ((even,), stages), (again, _) = told
    assert again == []
    assert stages == ["asking", "teaching", "scoring", "fitting", "training", "calibrating"]
    assert even.compile_seconds > even.reading_seconds > 0
    assert even.soft_prompt.prefix_bytes < even.full.prefix_bytes / 5


class BreakOff(Progress):
    """Breaks a compile off at a step of its training."""

    def __init__(self, error, step):
        self.error, self.step, self.name, self.done = error, step, "", 0

    def stage(self, name, total):
        self.name, self.done = name, 0

    def advance(self, units):
        self.done += units
        if self.name == "training" and self.done >= self.step:
            raise self.error


def test_a_killed_compile_goes_on_and_ends_with_the_same_bytes(model, tmp_path, monkeypatch):
    monkeypatch.setattr("precis.compilation.training.SECONDS_BETWEEN_CHECKPOINTS", 0)
    settings = Settings(**{**QUICK.__dict__, "schedule": Schedule(epochs=4, batch_size=12)})
    with pytest.raises(SystemExit):
        compile(
            DOCUMENT,
            model=model,
            questions=TRAINED,
            settings=settings,
            work=tmp_path / "killed",
            progress=BreakOff(SystemExit(), 7),
        )
    steps = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(1), step(self)))
    killed = compile(DOCUMENT, model=model, questions=TRAINED, settings=settings, work=tmp_path / "killed")
    went_on = len(steps)
    whole = compile(DOCUMENT, model=model, questions=TRAINED, settings=settings, work=tmp_path / "whole")
    assert file_bytes(killed, tmp_path) == file_bytes(whole, tmp_path)
    assert went_on < len(steps) - went_on


def test_an_interrupted_training_seals_the_best_so_far(model, tmp_path):
    artifact = compile(
        DOCUMENT,
        model=model,
        questions=TRAINED,
        settings=THOROUGH,
        progress=BreakOff(KeyboardInterrupt(), 20),
    )
    steps = artifact.manifest.training.steps
    assert 15 <= steps <= 20
    curve = dict(map(tuple, artifact.manifest.training.held_out_nll))
    # best by the objective, which is not the NLL alone
    assert artifact.manifest.fidelity.nll == pytest.approx(
        curve[artifact.manifest.training.best_step], abs=1e-5
    )
    assert artifact.manifest.fidelity.nll < curve[0]


def test_other_slots_and_objectives_reuse_the_gold_answers(model, tmp_path, monkeypatch):
    compile(DOCUMENT, model=model, questions=TRAINED, settings=QUICK, work=tmp_path)

    def forbidden(*_, **__):
        raise AssertionError("nothing must be generated again")

    monkeypatch.setattr("precis.compilation.teacher._answers", forbidden)
    for change in ({"slots": 9}, {"objective": "kl"}, {"warm_start": "even"}):
        settings = Settings(**{**QUICK.__dict__, **change})
        compile(DOCUMENT, model=model, questions=TRAINED, settings=settings, work=tmp_path)


def test_a_document_longer_than_the_window_is_read_in_parts_and_says_so(model):
    facts = make_facts(90, seed=7)
    document = Document.from_text(document_text(facts))
    notes = []

    class Notes(Progress):
        def note(self, text):
            notes.append(text)

    questions = [question_text(fact, 0) for fact in facts]
    settings = Settings(ratio=5, self_study=0, schedule=Schedule(epochs=0))
    artifact = compile(document, model=model, questions=questions, settings=settings, progress=Notes())
    assert "longer than the model's window" in notes[0]
    assert "overlapping parts" in artifact.manifest.data.teacher_reads
    assert artifact.manifest.next_position <= model.window
    report = evaluate(
        artifact,
        document,
        [Question(question_text(fact, 3), (answer_text(fact),)) for fact in facts[::4]],
        model=model,
    )
    # the part with the fact was found, or the full-document answers would be guesses
    assert report.methods["full"].em > 0.8


def test_minutes_bound_the_compile(model):
    settings = Settings(
        ratio=10, self_study=0, minutes=0.05, schedule=Schedule(epochs=100_000, patience=100_000)
    )
    artifact = compile(DOCUMENT, model=model, questions=TRAINED, settings=settings)
    assert 0 < artifact.manifest.training.steps < 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"slots": 0},
        {"slots": 10_000},
        {"ratio": 0.5},
        {"ratio": float("nan")},
        {"objective": "mse"},
        {"form": "text"},
        {"warm_start": "best"},
        {"minutes": -1},
        {"self_study": -3},
    ],
)
def test_settings_that_cannot_work_are_refused(model, change):
    with pytest.raises(SettingsError):
        compile(DOCUMENT, model=model, questions=TRAINED, settings=Settings(**{**QUICK.__dict__, **change}))


def test_too_few_questions_are_refused(model):
    with pytest.raises(QuestionsError, match="at least 2"):
        compile(DOCUMENT, model=model, questions=TRAINED[:1], settings=QUICK)


def test_confidence_is_calibrated_on_the_held_out_questions_and_only_where_there_is_time(model):
    notes = []

    class Notes(Progress):
        def note(self, text):
            notes.append(text)

    artifact = compile(DOCUMENT, model=model, questions=TRAINED, settings=QUICK, progress=Notes())
    assert artifact.manifest.confidence.points == artifact.manifest.data.held_out
    assert not notes
    no_time = Settings(**{**QUICK.__dict__, "minutes": 1e-6})
    artifact = compile(DOCUMENT, model=model, questions=TRAINED, settings=no_time, progress=Notes())
    assert artifact.manifest.confidence is None
    assert "not calibrated" in notes[0]


LEARNING = Settings(**{**QUICK.__dict__, "schedule": Schedule(epochs=4, batch_size=12, learning_rate=2e-2)})


def test_every_better_soft_prompt_is_published_and_the_result_stays_the_same(model, tmp_path):
    published = []

    def made(work, settings=LEARNING, publish=None):
        return compile(
            DOCUMENT,
            model=model,
            questions=TRAINED,
            settings=settings,
            work=tmp_path / work,
            publish=publish,
            publish_first=False,
            keep_text=False,  # recovery is of σ alone, and so σ is taught then
        )

    shown, hidden = made("shown", publish=published.append), made("hidden")
    assert file_bytes(shown, tmp_path) == file_bytes(hidden, tmp_path)
    assert len(published) > 1
    first, *_, last = published
    assert [artifact.manifest.training.best_step for artifact in published] == sorted(
        {artifact.manifest.training.best_step for artifact in published}
    )
    assert first.manifest.training.steps == 0
    assert all(artifact.manifest.confidence is None for artifact in published)
    assert last.manifest.fidelity == shown.manifest.fidelity
    assert last.manifest.fidelity.recovery > first.manifest.fidelity.recovery
    assert all(torch.equal(last.tensors[name], shown.tensors[name]) for name in shown.tensors)
    # what was published before is not changed by the training that went on
    untrained = Settings(**{**LEARNING.__dict__, "schedule": Schedule(epochs=0)})
    start = made("shown", untrained)
    assert all(torch.equal(first.tensors[name], start.tensors[name]) for name in start.tensors)


def test_a_first_soft_prompt_is_published_long_before_all_questions_are_answered(model, tmp_path):
    published, when = [], []

    class Stages(Progress):
        def stage(self, name, total):
            when.append((name, len(published)))

    given = {"model": model, "questions": TRAINED, "settings": QUICK}
    shown = compile(DOCUMENT, **given, work=tmp_path / "shown", publish=published.append, progress=Stages())
    first = published[0].manifest
    assert first.data.questions + first.data.held_out <= FIRST_QUESTIONS < len(TRAINED)
    assert (first.training.steps, first.confidence) == (0, None)
    assert dict(when)["teaching"] == 1
    hidden = compile(DOCUMENT, **given, work=tmp_path / "hidden")
    assert file_bytes(shown, tmp_path) == file_bytes(hidden, tmp_path)


def test_a_compile_that_goes_on_publishes_its_best_at_once(model, tmp_path, monkeypatch):
    monkeypatch.setattr("precis.compilation.training.SECONDS_BETWEEN_CHECKPOINTS", 0)
    before, after = [], []

    def run(published, progress):
        return compile(
            DOCUMENT,
            model=model,
            questions=TRAINED,
            settings=LEARNING,
            work=tmp_path / "work",
            publish=published.append,
            publish_first=False,
            progress=progress,
        )

    with pytest.raises(SystemExit):
        run(before, BreakOff(SystemExit(), 11))
    result = run(after, Progress())
    assert len(before) > 1
    again, last = after[0], before[-1]
    assert again.manifest.training.best_step == last.manifest.training.best_step > 0
    assert all(torch.equal(again.tensors[name], last.tensors[name]) for name in last.tensors)
    whole = compile(DOCUMENT, model=model, questions=TRAINED, settings=LEARNING, work=tmp_path / "whole")
    assert file_bytes(result, tmp_path) == file_bytes(whole, tmp_path)


def test_the_text_is_kept_unless_it_shall_not_be(model):
    published = []
    kept = compile(DOCUMENT, model=model, questions=TRAINED, settings=QUICK, publish=published.append)
    assert kept.document() == DOCUMENT
    assert published[0].document() == DOCUMENT
    plain = compile(DOCUMENT, model=model, questions=TRAINED, settings=QUICK, keep_text=False)
    assert plain.document() is None
    assert (kept.manifest.confidence.recall, plain.manifest.confidence.recall) == (RECALL, 0)
    fact = FACTS[0]
    said = Compiled(kept, model).ask(HELD_OUT[0].text)
    (passage,) = said.passages
    assert f"The {fact.relation} of {fact.name} is {fact.value}." in passage.text
    assert DOCUMENT.text[passage.start : passage.end] == passage.text
    alone = Compiled(kept, model).ask(HELD_OUT[0].text, recall=0)
    assert alone.passages == ()
    assert alone.prompt_positions < said.prompt_positions
    assert (said.confidence is None, alone.confidence is None) == (False, True)
    without = Compiled(plain, model).ask(HELD_OUT[0].text)
    assert (without.passages, without.text) == ((), alone.text)
    assert without.confidence is not None
    with pytest.raises(ArtifactError, match="again with its text"):
        Compiled(plain, model).ask(HELD_OUT[0].text, recall=1)


def test_an_answer_in_doubt_is_refused_only_where_that_is_wanted(model):
    compiled = Compiled(compile(DOCUMENT, model=model, questions=TRAINED, settings=QUICK), model)
    heard = []
    said = compiled.ask("What is the lighthouse of Nowhere?")
    refused = compiled.ask("What is the lighthouse of Nowhere?", refuse_below=1, on_text=heard.append)
    assert (refused.text, refused.withheld, "".join(heard)) == (REFUSAL, said.text, REFUSAL)
    assert said.withheld is None
    with pytest.raises(SettingsError, match="between 0 and 1"):
        compiled.ask("What?", refuse_below=2)
    with pytest.raises(ArtifactError, match="confidence"):
        compiled.ask("What?", recall=2, refuse_below=0.5)


def test_questions_with_answers_are_taught_with_these(model, tmp_path):
    teacher = Teacher(model, DOCUMENT)
    fact = FACTS[0]
    wrong = next(one.value for one in FACTS if one.relation == fact.relation and one.value != fact.value)
    asked = [Question(question_text(fact, 0)), Question(question_text(fact, 0), answers=(wrong,))]
    for _ in range(2):  # written, and found again
        own, given = teach(teacher, asked, WorkFolder(tmp_path)).golds
        assert model.chat.decode(own.tokens) == fact.value
        assert model.chat.decode(given.tokens) == wrong
        assert given.tokens[-1] in model.chat.stop_tokens
        assert given.top_ids.shape == (len(given.tokens), own.top_ids.shape[1])
    # what the teacher thinks of an answer that it did not give
    assert given.log_probabilities[0] < own.log_probabilities[0] - 1


def test_the_teacher_is_pointed_to_the_passage_of_a_question(model, tmp_path):
    fact = FACTS[3]
    text = question_text(fact, 0)
    place = DOCUMENT.text.index(f"The {fact.relation} of {fact.name}")
    pointed, plain = (Teacher(model, DOCUMENT, pointed=pointed) for pointed in (True, False))
    passage = pointed.passages.around(place)
    assert fact.value in passage
    asked = [Question(text, place=place)]
    for teacher, prompt in (
        (pointed, model.chat.question_prompt(text, passage)),
        (plain, model.chat.question_prompt(text)),
    ):
        (gold,) = teach(teacher, asked, WorkFolder(tmp_path)).golds
        row = Example(prompt, gold.tokens)
        (scores,) = model.given(teacher.prefix(0)).score([row])
        said = scores.gather(1, torch.tensor(gold.tokens, device=scores.device).unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(said, gold.log_probabilities, atol=1e-4, rtol=1e-4)
        # σ is taught the answer as it will be asked for it
        (recalling,) = (lesson.prompt for lesson in with_passages([gold]))
        assert gold.prompt == model.chat.question_prompt(text)
        assert recalling == model.chat.question_prompt(text, pointed.passages.find(text, 1)[0].text)
    (refused,) = [teach(pointed, asked, WorkFolder(tmp_path), accept=lambda question, answer: False)]
    assert (refused.golds, refused.dropped) == ([], 1)
