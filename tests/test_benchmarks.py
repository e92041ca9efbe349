"""The benchmarks: published formats, a grid that goes on where it was stopped, numbers that add up."""

import csv
import json

import pytest

from benchmarks import datasets, fallback, fidelity, right_answers, right_tables
from benchmarks.datasets import Subject
from benchmarks.fidelity import METHODS, Cell, Grid, grid
from benchmarks.gather import gather, headline, renamed, summary
from benchmarks.right_answers import Run, asked_alone, variants
from benchmarks.tables import tables
from precis.baselines import BASELINES, Baseline, baseline
from precis.compilation import pipeline
from precis.compilation.self_study import Study
from precis.compilation.settings import Settings
from precis.compilation.training import Schedule
from precis.errors import DocumentError, ModelError, QuestionsError, StorageError
from precis.model.loading import load_model
from precis.text.document import Document
from precis.text.questions import Question
from tests.conftest import RECALL_MODEL
from tests.recall import answer_text, document_text, make_facts, question_text

# --- data sets ---


def squad_article(title, *paragraphs):
    return {
        "title": title,
        "paragraphs": [
            {
                "context": context,
                "qas": [
                    {"id": f"{title}{n}", "question": question, "answers": [{"text": a} for a in answers]}
                    for n, (question, answers) in enumerate(questions)
                ],
            }
            for context, questions in paragraphs
        ],
    }


@pytest.fixture
def squad(tmp_path):
    articles = [
        squad_article("Milo", ("The harbour is green.", [("What is green?", ["harbour", "harbour"])])),
        squad_article("Sora", ("No part of it.", [("Who?", ["Anda"])])),
        squad_article(
            "Veld",
            ("First.", [("Which?", ["first", "the first"])]),
            ("Second.", [("What is green?", ["a harbour"])]),
        ),
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": articles}))
    return path


def test_squad_articles_are_joined_and_counted_from_one(squad):
    pair, single = datasets.squad_subjects(squad, ["1+3", "2"])
    assert (pair.name, single.name) == ("1+3", "2")
    assert pair.document.text == "The harbour is green.\n\nFirst.\n\nSecond."
    assert pair.questions == [
        Question("What is green?", ("harbour", "a harbour")),
        Question("Which?", ("first", "the first")),
    ]
    assert single.document.text == "No part of it."


def test_a_paragraph_that_is_left_out_gives_near_misses(squad):
    pair, single = datasets.squad_subjects_without_paragraph(squad, ["1+3", "2"], paragraph=2)
    assert (pair.name, single.name) == ("1+3-without-2", "2-without-2")
    assert pair.document.text == "The harbour is green.\n\nFirst."
    assert [question.text for question in pair.questions] == ["What is green?", "Which?"]
    assert pair.questions[0].answers == ("harbour",)
    assert pair.near_misses == []  # the one question on it is asked about the rest, too
    assert single.document.text == "No part of it."
    (first,) = datasets.squad_subjects_without_paragraph(squad, ["3"], paragraph=1)
    assert first.document.text == "Second."
    assert first.near_misses == [Question("Which?", ("first", "the first"))]


@pytest.mark.parametrize("group", ["0", "4", "1+4", "1+", "-1", "Milo"])
def test_articles_that_are_not_there_are_refused(squad, group):
    with pytest.raises(QuestionsError, match="articles 1 to 3"):
        datasets.squad_subjects(squad, [group])


def write_story(folder, name, sections, rows, columns=("question_id", "question", "answer1", "answer4")):
    for kind, heads, lines in (
        ("section-stories/{}-story.csv", ("section", "text"), list(enumerate(sections, start=1))),
        ("questions/{}-questions.csv", columns, rows),
    ):
        path = folder / kind.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([heads, *lines])


def test_a_fairytale_is_its_sections_with_both_references(tmp_path):
    rows = [
        (1, "Who came, and “why”?", "the fox", "a fox"),
        (2, "Where?", "home", "home"),
        (3, "When?", "at night", ""),
    ]
    write_story(tmp_path, "fox", ["A fox came,\nlate.\n", "It went."], rows)
    (story,) = datasets.fairytales(tmp_path, ["fox"])
    assert story.name == "fox"
    assert story.document.text == "A fox came,\nlate.\n\nIt went."
    assert story.questions == [
        Question("Who came, and “why”?", ("the fox", "a fox")),
        Question("Where?", ("home",)),
        Question("When?", ("at night",)),
    ]


def test_the_shortest_long_fairytales_are_chosen(tmp_path):
    for name, words in (("a", 9), ("b", 5), ("c", 7), ("d", 2)):
        write_story(tmp_path, name, ["word " * words], [(1, "Who?", "x", "y")])
    assert [story.name for story in datasets.shortest_fairytales(tmp_path, 5, 2)] == ["b", "c"]
    with pytest.raises(DocumentError, match="3 stories of 5 words"):
        datasets.shortest_fairytales(tmp_path, 5, 4)


def test_damaged_fairytales_are_refused(tmp_path):
    write_story(
        tmp_path, "bad", ["Text."], [(1, "Who?", "x")], columns=("question_id", "question", "answer1")
    )
    with pytest.raises(QuestionsError, match="answer4"):
        datasets.fairytales(tmp_path, ["bad"])
    with pytest.raises(DocumentError, match="none-story"):
        datasets.fairytales(tmp_path, ["none"])


# --- the grid ---

TINY = Settings(schedule=Schedule(epochs=1, batch_size=8))


def make_subject(seed):
    facts = make_facts(14, seed=seed)
    questions = [Question(question_text(fact, 1), (answer_text(fact),)) for fact in facts[:5]]
    return Subject(f"facts-{seed}", Document.from_text(document_text(facts)), questions)


@pytest.fixture(scope="module")
def model():
    return load_model(str(RECALL_MODEL))


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """The small model cannot write questions; give it some, and count how often it was to write them."""
    monkeypatch.setenv("PRECIS_CACHE", str(tmp_path / "cache"))
    calls = []

    def self_study(model, passages, *_, **__):
        document = passages.document
        calls.append(document.name)
        seed = next(seed for seed in (1, 2) if make_subject(seed).document.sha256 == document.sha256)
        return Study([Question(question_text(fact, 0)) for fact in make_facts(14, seed=seed)])

    monkeypatch.setattr("precis.compilation.self_study.self_study", self_study)
    return calls


class Counting(Baseline):
    """Counts how often it is prepared, and fails when told to."""

    name = "truncate"

    def __init__(self, error=None):
        self.inner, self.error, self.tasks = BASELINES["truncate"], error, []

    def prefix(self, task):
        self.tasks.append(task)
        if self.error is not None:
            raise self.error
        return self.inner.prefix(task)


def put_in_place_of_compile(monkeypatch, other):
    """Where cells are measured, and where their questions are answered beforehand."""
    monkeypatch.setattr(baseline, "compile", other)
    monkeypatch.setattr(fidelity, "compile", other)


def test_what_is_wanted_first_is_measured_first():
    subjects = [make_subject(1), make_subject(2)]
    cells = grid(subjects, [50, 10, 20], ["first-tokens", "keydiff", "soft-prompt"], TINY, {})
    assert [cell.settings.ratio for cell in cells] == [20] * 6 + [10] * 6 + [50] * 6
    order = [(cell.method, cell.subject.name) for cell in cells[:6]]
    assert order == [
        (method, name)
        for method in ("soft-prompt", "keydiff", "first-tokens")
        for name in ("facts-1", "facts-2")
    ]
    assert len({cell.name for cell in cells}) == len(cells)


def test_settings_with_several_values_are_varied_and_tell_cells_apart():
    sweeps = {"minutes": [2.0], "warm_start": ["first", "random"], "objective": ["nll", "kl"]}
    cells = grid([make_subject(1)], [20], ["soft-prompt"], TINY, sweeps)
    assert [cell.variant for cell in cells] == [
        {"warm_start": start, "objective": objective}
        for start in ("first", "random")
        for objective in ("nll", "kl")
    ]
    assert {cell.settings.minutes for cell in cells} == {2.0}
    assert cells[1].settings.warm_start == "first"
    assert cells[1].settings.objective == "kl"
    assert cells[1].name == "20x/facts-1/soft-prompt@warm_start=first,objective=kl"


def test_a_stopped_grid_goes_on_and_finished_cells_are_not_measured_again(model, tmp_path, monkeypatch):
    cells = grid([make_subject(1), make_subject(2)], [5], ["soft-prompt", "truncate"], TINY, {})
    breaking = Counting(error=RuntimeError("pulled the plug"))
    monkeypatch.setitem(METHODS, "truncate", breaking)
    with pytest.raises(RuntimeError, match="plug"):
        Grid(tmp_path, model).run(cells)
    kept = {path: path.read_bytes() for path in (tmp_path / "cells").rglob("*.json")}
    assert len(kept) == 2
    working = Counting()
    monkeypatch.setitem(METHODS, "truncate", working)
    put_in_place_of_compile(monkeypatch, None)  # what is finished must not be compiled again
    Grid(tmp_path, model).run(cells)
    assert len(working.tasks) == 2
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert len(list((tmp_path / "cells").rglob("*.json"))) == 4
    Grid(tmp_path, model).run(cells)
    assert len(working.tasks) == 2


def test_a_cell_made_from_something_else_is_measured_anew(model, tmp_path, monkeypatch):
    counting = Counting()
    monkeypatch.setitem(METHODS, "truncate", counting)
    subject = make_subject(1)
    fewer = Subject(subject.name, subject.document, subject.questions[:3])
    for questions, answers in ((subject, False), (fewer, False), (fewer, True), (fewer, False)):
        Grid(tmp_path, model, answers).run([Cell(questions, "truncate", Settings(ratio=5))])
    assert len(counting.tasks) == 3  # other questions, then answers too; cells with answers serve without
    (path,) = (tmp_path / "cells").rglob("*.json")
    asked = json.loads(path.read_text())["asked"]
    assert len(asked) == 3
    assert all(question["methods"]["truncate"]["text"] is not None for question in asked)


def test_a_refusal_is_kept_as_a_failure_until_a_retry_and_a_full_disk_stops(model, tmp_path, monkeypatch):
    cells = [Cell(make_subject(1), "truncate", Settings(ratio=5))]
    refusing = Counting(error=ModelError("too long for me"))
    monkeypatch.setitem(METHODS, "truncate", refusing)
    for _ in range(2):
        Grid(tmp_path, model).run(cells)
    assert len(refusing.tasks) == 1
    (path,) = (tmp_path / "cells").rglob("*.json")
    assert json.loads(path.read_text())["failure"] == "ModelError: too long for me"
    refusing.error = StorageError("the disk is full")
    with pytest.raises(StorageError):
        Grid(tmp_path, model, retry=True).run(cells)
    refusing.error = None
    Grid(tmp_path, model, retry=True).run(cells)
    assert json.loads(path.read_text())["failure"] is None


def test_only_compiles_against_the_clock_find_none_of_their_work_done(model, tmp_path, monkeypatch):
    subject = make_subject(1)
    folders = []
    real = pipeline.compile

    def noting(document, **given):
        folders.append((given["work"], given["work"].exists()))
        return real(document, **given)

    put_in_place_of_compile(monkeypatch, noting)
    run = Grid(tmp_path, model).run
    run(grid([subject], [5, 10], ["soft-prompt"], TINY, {}))
    shared = tmp_path / "work" / "shared" / subject.name
    assert folders == [(shared, False), (shared, True)]
    folders.clear()
    run(grid([subject], [5], ["soft-prompt"], TINY, {"minutes": [0.0, 0.01]}))
    assert [existed for _, existed in folders] == [False, False]
    assert not any(folder == shared or folder.exists() for folder, _ in folders)
    folders.clear()
    # the same minutes for every variant: questions and answers are there before the first
    sweeps = {"minutes": [0.01], "objective": ["nll", "kl"]}
    run(grid([subject], [5], ["soft-prompt"], TINY, sweeps))
    assert {folder for folder, _ in folders} == {shared}


def test_precis_is_a_method_like_the_others(model, tmp_path):
    subject = make_subject(1)
    Grid(tmp_path, model).run(grid([subject], [5], ["soft-prompt", "truncate", "retrieve"], TINY, {}))
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "cells").rglob("*.json")}
    assert set(records) == {"soft-prompt", "truncate", "retrieve"}
    for name, record in records.items():
        assert record["failure"] is None
        assert record["slots"] > 0
        assert len(record["asked"]) == len(subject.questions)
        assert set(record["asked"][0]["methods"]) == {"none", "full", name}
    # the same questions, gold answers and yardsticks for all
    yardsticks = [
        [(q["question"], q["tokens"], q["methods"]["none"], q["methods"]["full"]) for q in record["asked"]]
        for record in records.values()
    ]
    assert yardsticks[0] == yardsticks[1] == yardsticks[2]
    assert {"asking", "teaching", "scoring", "fitting", "training"} <= set(records["soft-prompt"]["stages"])
    assert records["soft-prompt"]["seconds"] >= sum(records["soft-prompt"]["stages"].values()) * 0.99


# --- results ---


def measured(nll, kl=0.0, top1=0, text=None, match=None):
    return {"text": text, "nll": nll, "kl": kl, "top1": top1, "match": match, "confidence": None}


def made_cell(method, asked, document="d", ratio=20.0, variant=None, failure=None, answers=False):
    cell = {
        "document": {"name": document, "sha256": "0", "tokens": 400},
        "ratio": ratio,
        "method": method,
        "variant": variant or {},
        "settings": {"seed": 0, "ratio": ratio, "minutes": None},
        "answers": answers,
        "surroundings": {
            "commit": "c" * 40,
            "changed_since": [],
            "hardware": {"processor": "p", "cores": 2, "device": "cpu"},
            "model": "m",
            "computed_in": "float32",
            "versions": {"precis": "0", "torch": "1", "transformers": "2"},
        },
        "failure": failure,
        "notes": [],
    }
    return cell if failure else cell | {"slots": 20, "bytes": 4000, "seconds": 3.0, "asked": asked}


def made_question(method, none, full, said, tokens=4, humans=()):
    """One record of a question; `said` is None where the method could not be asked."""
    methods = {"none": none, "full": full} | ({} if said is None else {method: said})
    return {"question": "q", "humans": list(humans), "tokens": tokens, "place": 0, "methods": methods}


def by_hand(method, document="d", ratio=20.0, **more):
    asked = [
        made_question(method, measured(8, 4, 1), measured(2, 0, 4), measured(5, 1, 3)),
        made_question(method, measured(6, 2, 2), measured(2, 0, 4), None),
    ]
    return made_cell(method, asked, document, ratio, **more)


def test_a_question_that_does_not_fit_recovers_nothing_of_its_gap():
    (row,) = summary([by_hand("truncate")])["cells"]
    assert row["recovery"] == pytest.approx((8 - 5 + 0) / (8 - 2 + 6 - 2))
    assert row["kl"] == pytest.approx((1 + 2) / 8)
    assert row["top1"] == pytest.approx((3 + 2) / 8)
    assert (row["questions"], row["did_not_fit"]) == (2, 1)
    assert row["match"] is None


def test_answers_that_were_not_given_are_wrong_and_not_left_out():
    full = measured(1, text="red lamp", match=1.0)
    none = measured(3, text="blue", match=0.0)
    said = measured(2, text="the red lamp here", match=0.8)
    asked = [
        made_question("truncate", none, full, said, humans=["red lamp", "here"]),
        made_question("truncate", none, full, None, humans=["blue"]),
        made_question("truncate", none, full, said),
    ]
    (row,) = summary([made_cell("truncate", asked, answers=True)])["cells"]
    assert row["match"] == pytest.approx((0.8 + 0 + 0.8) / 3)
    assert row["em"] == 0
    assert row["f1"] == pytest.approx((0.8 + 0) / 2)  # two questions have human answers


def test_means_are_over_documents_and_name_those_that_were_refused():
    other = made_cell("truncate", [made_question("truncate", measured(4), measured(2), measured(2))], "e")
    refused = made_cell("truncate", [], "f", failure="ModelError: no")
    gathered = summary([by_hand("truncate"), other, refused])
    (row,) = gathered["means"]
    assert row["recovery"] == pytest.approx((0.3 + 1.0) / 2)
    assert (row["documents"], row["failed"]) == (2, ["f"])
    assert "(failed on 1 of 3)" in tables(gathered)[0]


def test_a_document_that_does_not_help_has_no_recovery():
    cell = made_cell("truncate", [made_question("truncate", measured(2), measured(3), measured(2))])
    (row,) = summary([cell])["cells"]
    assert row["recovery"] is None
    assert row["interval"] is None


def test_the_headline_names_the_best_baseline_at_every_ratio():
    best = made_cell("retrieve", [made_question("retrieve", measured(8), measured(2), measured(4))])
    sweep = by_hand("soft-prompt", variant={"minutes": 0.0})
    found = headline(
        summary(
            [by_hand("soft-prompt"), by_hand("truncate"), best, by_hand("soft-prompt", ratio=50.0), sweep]
        )
    )
    assert found == {
        "recovery": {
            "20": {"soft-prompt": 0.3, "best_baseline": "retrieve", "its_recovery": pytest.approx(2 / 3)},
            "50": {"soft-prompt": 0.3, "best_baseline": None, "its_recovery": None},
        },
        "cells": 5,
        "failed": 0,
    }


def test_the_page_gets_the_tables_and_keeps_its_text_also_with_cells_missing(tmp_path):
    cells = [
        by_hand("soft-prompt"),
        by_hand("soft-prompt", ratio=50.0),
        by_hand("truncate", document="e"),
        by_hand("soft-prompt", variant={"minutes": 0.0}),
        by_hand("soft-prompt", variant={"minutes": 5.0}),
        by_hand("soft-prompt", variant={"warm_start": "first", "objective": "kl"}),
    ]
    for number, cell in enumerate(cells):
        path = tmp_path / "cells" / f"{number}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(cell))
    docs, results = tmp_path / "page.md", tmp_path / "results" / "figures.json"
    docs.write_text("before\n<!-- figures:begin -->\nstale figures\n<!-- figures:end -->\nafter\n")
    for _ in range(2):  # gathering again changes nothing
        gather(tmp_path, results, docs)
    page = docs.read_text()
    assert page.startswith("before\n<!-- figures:begin -->\n")
    assert page.endswith("<!-- figures:end -->\nafter\n")
    assert "stale" not in page
    assert page.count("Mean recovery over documents") == 1
    assert "| truncate |" in page
    assert "measured on 1 of 2" in page
    assert "`soft-prompt` by minutes" in page
    assert "`soft-prompt` by warm start and objective" in page
    assert json.loads(results.read_text())["means"][0]["recovery"] == pytest.approx(0.3)
    with pytest.raises(ValueError, match="fidelity:begin"):
        gather(tmp_path, tmp_path / "fidelity.json", docs)


def test_plots_are_drawn_from_the_results_alone(tmp_path):
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib is an extra", exc_type=ImportError)
    cells = [
        by_hand("soft-prompt"),
        by_hand("soft-prompt", ratio=50.0),
        by_hand("truncate"),
        by_hand("soft-prompt", variant={"minutes": 1.0}),
    ]
    written = plots.draw(json.loads(json.dumps(summary(cells))), tmp_path, "figures")
    assert [path.name for path in written] == ["figures-by-ratio.svg", "figures-by-minutes.svg"]
    assert "truncate" in written[0].read_text()
    assert plots.draw(summary([]), tmp_path, "none") == []


def test_the_script_measures_gathers_and_ends_with_json(squad, tmp_path, capsys, monkeypatch, model):
    monkeypatch.setattr(fidelity, "load_model", lambda _: model)
    docs = tmp_path / "page.md"
    docs.write_text("<!-- r:begin --><!-- r:end -->")
    given = [str(tmp_path / "run"), "--squad", str(squad), "--pairs", "1+3", "--methods", "truncate"]
    given += ["--ratios", "4", "--results", str(tmp_path / "r.json"), "--docs", str(docs)]
    fidelity.main(given)
    printed = capsys.readouterr().out.splitlines()
    assert json.loads(printed[-1])["cells"] == 1
    fidelity.main([str(tmp_path / "run"), "--only-gather", *given[-4:]])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == json.loads(printed[-1])


def test_unknown_methods_and_sweeps_of_baselines_are_refused(capsys):
    for more, reason in (
        (["--methods", "magic"], "no method magic"),
        (["--methods", "truncate", "--minutes", "1", "2"], "of σ alone"),
    ):
        with pytest.raises(SystemExit):
            fidelity.main(["folder", *more])
        assert reason in capsys.readouterr().err


def test_fallback_pools_the_answers_of_all_documents(model, tmp_path):
    asked = {f"facts-{seed}": fallback.asked_of(make_subject(seed), model, tmp_path) for seed in (1, 2)}
    pooled = fallback.summary(asked)
    assert pooled["documents"] == {"facts-1": 5, "facts-2": 5}
    first, *_, last = pooled["trade_off"]
    assert (first["share"], last["share"]) == (0.0, 1.0)
    assert first["agreement"] == pooled["agreement"] <= last["agreement"] == 1.0


def test_cells_of_before_call_the_soft_prompt_by_its_new_name():
    old = made_cell("precis", [made_question("precis", measured(8), measured(2), measured(5))])
    (row,) = summary([renamed(old)])["cells"]
    assert row["method"] == "soft-prompt"
    assert row["recovery"] == 0.5
    assert renamed(by_hand("truncate")) == by_hand("truncate")


# --- right answers ---


@pytest.fixture(scope="module")
def right_run(model, tmp_path_factory):
    """Two documents, measured without training, and asked what they do not answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "precis.compilation.self_study.self_study",
            lambda model, passages, *_, **__: written(passages.document),
        )
        subjects = [make_subject(1), make_subject(2)]
        subjects[0].near_misses.append(Question("What is the lighthouse of Nowhere?"))
        run = Run(tmp_path_factory.mktemp("right"), model, subjects, unanswerable=True)
        run.measure(UNTRAINED)
        yield run


def written(document):
    seed = next(seed for seed in (1, 2) if make_subject(seed).document.sha256 == document.sha256)
    return Study([Question(question_text(fact, 0)) for fact in make_facts(14, seed=seed)])


UNTRAINED = Settings(ratio=5, schedule=Schedule(epochs=0))


def cells_of(run):
    return [json.loads(path.read_text()) for path in sorted((run.folder / "cells").rglob("*.json"))]


def test_a_cell_has_every_answer_and_what_the_compile_took(right_run):
    one, two = cells_of(right_run)
    assert [cell["control"] for cell in (one, two)] == ["facts-2", "facts-1"]
    for cell in (one, two):
        methods = cell["report"]["methods"]
        assert {
            "none",
            "full",
            "full-recall",
            "soft-prompt",
            "precis",
            "other-recall",
            "retrieve",
            "retrieve-x4",
        } == (methods.keys())
        for record in cell["report"]["asked"]:
            assert all(said["text"] is not None for said in record["methods"].values())
        assert cell["compile"]["seconds"] >= sum(cell["compile"]["stages"].values()) * 0.99
        assert not cell["compile"]["found_work"]
        assert cell["variant"]["ratio"] == 5
        assert len(cell["unanswerable"]["other"]) == 5
    assert [len(cell["unanswerable"]["near"]) for cell in (one, two)] == [1, 0]


def test_what_is_finished_is_not_measured_again(right_run, monkeypatch):
    monkeypatch.setattr(right_answers, "compile", None)
    before = {path: path.stat().st_mtime_ns for path in (right_run.folder / "cells").rglob("*.json")}
    right_run.measure(UNTRAINED)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    next(iter(before)).unlink()  # the artifact is there still
    right_run.measure(UNTRAINED)
    assert sum(path.stat().st_mtime_ns != time for path, time in before.items()) == 1


def test_confidence_is_that_of_ask(right_run, model):
    subject = right_run.subjects[0]
    artifact = right_run._compiled(subject, UNTRAINED)[0]
    found = asked_alone(artifact, subject, model, subject.questions[:2])
    report = cells_of(right_run)[0]["report"]
    for one, record in zip(found, report["asked"], strict=False):
        assert one["text"] == record["methods"]["precis"]["text"]
        assert one["confidence"] == pytest.approx(record["methods"]["precis"]["confidence"], abs=1e-3)


def test_totals_and_tables_of_right_answers(right_run, tmp_path, capsys):
    docs = tmp_path / "page.md"
    docs.write_text("before <!-- right_answers:begin --><!-- right_answers:end --> after")
    found = right_tables.gather(right_run.folder, tmp_path / "right_answers.json", docs)
    results = json.loads((tmp_path / "right_answers.json").read_text())
    ((name, one),) = results["variants"].items()
    assert name in found
    cells = cells_of(right_run)
    for method, total in one["right"].items():
        assert total == sum(cell["report"]["methods"][method]["right_count"] for cell in cells)
    assert one["judged"] == 10
    assert one["methods"]["full"]["kept"] in (None, 1)
    assert set(one["ratios"]) >= {"precis/full", "soft-prompt/full"}
    mine, control = one["right"]["precis"], one["right"]["other-recall"]
    assert one["control"]["difference"] == pytest.approx((mine - control) / 10)
    assert one["control"]["interval"][0] <= (mine - control) / 10 <= one["control"]["interval"][1]
    assert one["unanswerable"]["other_questions"] == 10
    assert len(one["unanswerable"]["curve"]) == 19
    page = docs.read_text()
    assert page.startswith("before <!-- right_answers:begin -->")
    assert page.endswith("<!-- right_answers:end --> after")
    assert "| `other-recall` |" in page
    assert "area under ROC" in page.lower() or "Area under ROC" in page
    assert "| `other-recall` |" in capsys.readouterr().out
    without_place = tmp_path / "plain.md"
    without_place.write_text("nothing")
    right_tables.gather(right_run.folder, tmp_path / "right_answers.json", without_place)
    assert without_place.read_text() == "nothing"


def test_questions_that_a_method_could_not_be_asked_are_wrong(right_run):
    cell = cells_of(right_run)[0]
    del cell["report"]["asked"][0]["methods"]["precis"]
    assert right_tables._right(cell, "precis")[0] == 0
    assert len(right_tables._right(cell, "precis")) == 5


def test_area_under_roc():
    assert right_tables.area_under_roc([0.9, 0.8], [0.1, 0.2]) == 1
    assert right_tables.area_under_roc([0.1], [0.9]) == 0
    assert right_tables.area_under_roc([0.5, 0.9], [0.5, 0.1]) == pytest.approx(7 / 8)
    assert right_tables.area_under_roc([], [0.5]) is None


def test_settings_are_varied_in_all_combinations():
    found = variants({"objective": ["nll", "kl"], "pointed": [True, False]})
    assert [right_answers.variant_of(one) for one in found] == [
        {"objective": "nll"},
        {"objective": "nll", "pointed": False},
        {"objective": "kl"},
        {"objective": "kl", "pointed": False},
    ]
    assert variants({}) == [Settings()]


def test_the_script_of_right_answers_ends_with_json(right_run, tmp_path, capsys, monkeypatch, model):
    docs = tmp_path / "page.md"
    docs.write_text("")
    given = [
        str(right_run.folder),
        "--only-gather",
        "--results",
        str(tmp_path / "r.json"),
        "--docs",
        str(docs),
    ]
    right_answers.main(given)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    ((_, one),) = printed.items()
    assert set(one) == {"right", "ratios", "control", "below_retrieve"}
    monkeypatch.setattr(right_answers, "load_model", lambda _: model)
    with pytest.raises(SystemExit, match="No document"):
        right_answers.main([str(tmp_path / "new"), "--no-handbook"])
    with pytest.raises(SystemExit, match="objective"):
        right_answers.main([str(tmp_path / "new"), "--objectives", "magic"])


def test_the_handbook_is_one_of_the_documents():
    subject = right_answers.handbook()
    assert subject.name == "tern-harbour"
    assert len(subject.questions) >= 48
    assert all(question.answers for question in subject.questions)


def test_documents_without_a_paragraph_are_totalled_apart(right_run):
    one, two = cells_of(right_run)
    two["document"]["name"] += "-without-3"
    found = right_tables.summary([one, two])["variants"]
    assert list(found) == ["ratio 5", "ratio 5, without a paragraph"]
    assert [each["judged"] for each in found.values()] == [5, 5]
    shown = "\n".join(right_tables.tables(right_tables.summary([one, two])))
    assert "By settings, all documents together" in shown
    assert "Measured with" in shown
