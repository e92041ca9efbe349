"""The commands, run as a user runs them; every mistake gets one sentence and exit code 2."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from precis.artifact import Artifact
from precis.cli import app as cli
from precis.errors import SettingsError
from precis.text.questions import Question
from precis.text.recall import REFUSAL
from tests.conftest import RECALL_MODEL
from tests.recall import answer_text, document_text, make_facts, question_text

FACTS = make_facts(16, seed=11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "facts.md").write_text(document_text(FACTS))
    lines = [{"question": question_text(fact, n)} for fact in FACTS for n in (0, 2, 4)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [{"question": question_text(fact, 3), "answers": [answer_text(fact)]} for fact in FACTS]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PRECIS_CACHE", str(folder / "cache"))


@pytest.fixture
def precis(capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["precis", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, " ".join(printed.err.split())

    return run


COMPILE = ("compile", "facts.md", "--questions", "train.jsonl", "--self-study", 0, "--model", RECALL_MODEL)


@pytest.fixture(scope="module")
def compiled(folder):
    path = folder / "facts.precis"
    command = [sys.executable, "-m", "precis", *map(str, COMPILE)]
    command += ["--ratio", "5", "-o", str(path)]
    environment = {**os.environ, "PRECIS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "recovery" in done.stdout
    assert "held-out recovery" in done.stderr
    return path


@pytest.fixture(scope="module")
def bare(compiled, folder):
    """The same without the document's text."""
    path = folder / "bare.precis"
    command = [sys.executable, "-m", "precis", *map(str, COMPILE)]
    command += ["--ratio", "5", "--no-text", "-o", str(path)]
    environment = {**os.environ, "PRECIS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not Artifact.open(path).keeps_text
    return path


def test_ask_answers_from_the_soft_prompt_and_beside_the_document(precis, compiled):
    code, out, _ = precis("ask", compiled, question_text(FACTS[3], 1), "--json", "--beside", "facts.md")
    assert code == 0
    said = json.loads(out)
    assert said["full"]["text"] == answer_text(FACTS[3])
    assert said["finish_reason"] == "stop"
    assert said["prompt_positions"] < said["full"]["prompt_positions"]
    code, out, err = precis("ask", compiled, question_text(FACTS[3], 1), "--beside", "facts.md")
    assert code == 0
    assert said["text"] in out
    assert "positions before the question" in err


def test_fallback_reads_the_document_where_confidence_is_low(precis, compiled, folder):
    question = question_text(FACTS[3], 1)
    command = ("ask", compiled, question, "--fallback", "facts.md")
    code, out, err = precis(*command, "--agreement", 0.01)
    assert code == 0
    assert "Answered by the soft prompt: confidence" in err
    code, out, err = precis(*command, "--agreement", 1)
    assert code == 0
    assert "Answered by the full document: confidence" in err
    assert out.strip() == answer_text(FACTS[3])
    code, out, _ = precis(*command, "--agreement", 1, "--json")
    said = json.loads(out)
    assert (said["answered_by"], said["text"]) == ("full document", answer_text(FACTS[3]))
    assert said["prompt_positions"] > said["soft_prompt"]["prompt_positions"]
    assert 0 < said["soft_prompt"]["confidence"] < said["threshold"]
    (folder / "other.md").write_text(document_text(FACTS[:8]))
    code, _, err = precis("ask", compiled, question, "--fallback", "other.md", "--agreement", 1)
    assert code == 0
    assert "is not the one that was compiled" in err


def test_confidence_is_shown(precis, compiled, folder):
    code, _, err = precis("ask", compiled, question_text(FACTS[3], 1))
    assert code == 0
    assert re.search(r"confidence \d+ %", err)
    code, out, _ = precis("ask", compiled, question_text(FACTS[3], 1), "--json", "--beside", "facts.md")
    assert 0 < json.loads(out)["confidence"] < 1
    assert json.loads(out)["full"]["confidence"] is None
    code, out, _ = precis("inspect", compiled)
    assert "calibrated on" in out


SENTENCE = f"The {FACTS[3].relation} of {FACTS[3].name} is {FACTS[3].value}."


def test_an_answer_shows_the_passages_that_it_was_made_from(precis, compiled, folder):
    command = ("ask", compiled, question_text(FACTS[3], 1))
    code, out, _ = precis(*command)
    assert code == 0
    shown = " ".join(out.split())
    assert "Made from" in shown
    assert SENTENCE in shown
    code, out, _ = precis(*command, "--json")
    said = json.loads(out)
    (passage,) = said["passages"]
    assert SENTENCE in passage["text"]
    assert (passage["source"], passage["page"]) == ("facts.md", 1)
    start, end = passage["start"], passage["end"]
    assert document_text(FACTS)[start:end] == passage["text"]
    assert f"facts.md, page 1, characters {start} to {end}" in shown
    assert said["withheld"] is None
    # both fallbacks name what the soft prompt's answer was made from; the document's was made from all of it
    code, out, _ = precis(*command, "--fallback", "facts.md", "--agreement", 0.01, "--json")
    assert json.loads(out)["passages"] == [passage]
    code, out, _ = precis(*command, "--fallback", "facts.md", "--agreement", 1, "--json")
    assert json.loads(out)["soft_prompt"]["passages"] == [passage]
    assert json.loads(out)["passages"] == []


def test_recall_is_switched_off_and_turned_up(precis, compiled):
    command = ("ask", compiled, question_text(FACTS[3], 1), "--json")
    positions = []
    for count in (0, 1, 2):
        code, out, err = precis(*command, "--recall", count)
        assert code == 0
        said = json.loads(out)
        assert len(said["passages"]) == count
        assert (said["confidence"] is None) is (count != 1)
        assert "Note" not in err
        positions.append(said["prompt_positions"])
    assert positions[0] == Artifact.open(compiled).manifest.slots
    assert positions[0] < positions[1] < positions[2]
    code, out, _ = precis("ask", compiled, question_text(FACTS[3], 1), "--recall", 0)
    assert "Made from" not in out


def test_a_file_without_the_text_answers_from_the_soft_prompt_alone_and_says_so(precis, bare):
    fact = FACTS[3]
    code, out, err = precis("ask", bare, question_text(fact, 1))
    assert code == 0
    assert "Made from" not in out
    assert "does not keep the document's text, so the answer is from the soft prompt alone" in err
    assert re.search(r"confidence \d+ %", err)
    code, out, err = precis("ask", bare, question_text(fact, 1), "--json")
    assert json.loads(out)["passages"] == []
    assert document_text(FACTS).encode() not in bare.read_bytes()


def test_an_answer_under_the_threshold_is_withheld(precis, compiled):
    command = ("ask", compiled, question_text(FACTS[3], 1))
    _, out, _ = precis(*command, "--json")
    said = json.loads(out)["text"]
    code, out, err = precis(*command, "--refuse-below", 1)
    assert code == 0
    assert out.startswith(REFUSAL)
    assert re.search(rf"withheld: {re.escape(said)} \(confidence \d+ %\)", err)
    code, out, _ = precis(*command, "--refuse-below", 1, "--json")
    told = json.loads(out)
    assert (told["text"], told["withheld"]) == (REFUSAL, said)
    assert 0 < told["confidence"] < 1
    code, out, err = precis(*command, "--refuse-below", 0)
    assert out.startswith(said)
    assert "withheld" not in err


def test_questions_with_answers_are_taught_with_these_answers(precis, folder, monkeypatch):
    given = []
    monkeypatch.setattr(
        "precis.compilation.pipeline.compile", lambda *_, questions, **__: given.extend(questions) or stop()
    )

    def stop():
        raise SettingsError("enough")

    code, _, _ = precis("compile", "facts.md", "--questions", "test.jsonl", "--model", RECALL_MODEL)
    assert code == 2
    assert given == [Question(question_text(fact, 3), (answer_text(fact),)) for fact in FACTS]


def test_evaluate_takes_another_document_for_the_control(precis, compiled, folder, monkeypatch):
    given = []

    def evaluated(*_, other, **__):
        given.append(other)
        raise SettingsError("enough")

    monkeypatch.setattr("precis.evaluation.evaluate.evaluate", evaluated)
    command = ("evaluate", compiled, "--document", "facts.md", "--questions", "test.jsonl")
    precis(*command)
    precis(*command, "--other", compiled)
    assert given[0] is None
    assert given[1].manifest == Artifact.open(compiled).manifest


def test_evaluate_writes_the_report(precis, compiled, folder):
    code, out, _ = precis(
        "evaluate",
        compiled,
        "--document",
        "facts.md",
        "--questions",
        "test.jsonl",
        "--json",
        "r.json",
        "--html",
        "r.html",
        "--show",
        2,
    )
    assert code == 0
    written = (folder / "r.html").read_text()
    for fact in FACTS:
        assert question_text(fact, 3) in written
    assert "calibration error" in written
    assert "Calibration error of the confidence" in out
    report = json.loads((folder / "r.json").read_text())
    assert report["methods"]["full"]["em"] > 0.9
    assert report["methods"]["precis"]["em"] > report["methods"]["none"]["em"] + 0.3
    right = round(report["methods"]["precis"]["right"] * len(FACTS))
    assert f"precis answers {right} of {len(FACTS)} questions right" in out


def test_evaluate_sets_baselines_beside_the_soft_prompt(precis, compiled, folder):
    code, out, _ = precis(
        *("evaluate", compiled, "--document", "facts.md", "--questions", "test.jsonl"),
        *("--methods", "truncate,snapkv", "--json", "baselines.json", "--show", 1),
    )
    assert code == 0
    report = json.loads((folder / "baselines.json").read_text())
    names = list(report["methods"])
    assert names[-2:] == ["truncate", "snapkv"]
    assert {"none", "full", "soft-prompt", "precis", "retrieve"} < set(names)
    alone = report["methods"]["soft-prompt"]
    low, high = alone["interval"]
    assert low < alone["recovery"] < high
    assert alone["recovery"] > report["methods"]["truncate"]["recovery"]
    assert report["methods"]["precis"]["right"] > report["methods"]["truncate"]["right"]
    assert "right" in out
    assert "snapkv" in out


def test_inspect_shows_the_manifest(precis, compiled):
    code, out, _ = precis("inspect", compiled, "--json")
    assert code == 0
    manifest = json.loads(out)
    assert manifest["form"] == "kv"
    assert manifest["document"]["name"] == "facts.md"
    code, out, _ = precis("inspect", compiled)
    assert code == 0
    assert "times shorter" in out


def test_help_teaches_without_loading_torch():
    script = (
        "import sys; sys.argv = ['precis', '--help']\nfrom precis.cli.app import main\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("compile", "ask", "evaluate", "inspect"):
        assert command in done.stdout


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


MISTAKES = {
    "no such document": (("compile", "missing.md"), "missing.md"),
    "binary document": (("compile", "binary.md"), "binary.md"),
    "empty document": (("compile", "empty.md"), "empty.md"),
    "folder without documents": (("compile", "hollow"), "hollow"),
    "no slots": ((*COMPILE, "--slots", 0), "0 slots"),
    "more slots than tokens": ((*COMPILE, "--slots", 9999), "9999 slots"),
    "slots and ratio": ((*COMPILE, "--slots", 5, "--ratio", 5), "not both"),
    "unknown objective": ((*COMPILE, "--objective", "mse"), "mse"),
    "unknown model": (("compile", "facts.md", "--model", "nobody/nothing"), "nobody/nothing"),
    "unknown model file": (("compile", "facts.md", "--model", "missing.gguf"), "missing.gguf"),
    "folder that is no model": (("compile", "facts.md", "--model", "hollow"), "hollow"),
    "malformed questions": (
        ("compile", "facts.md", "--model", RECALL_MODEL, "--questions", "bad.jsonl"),
        "line 2",
    ),
    "no such questions": ((*COMPILE[:2], "--model", RECALL_MODEL, "--questions", "no.jsonl"), "no.jsonl"),
    "output is the document": ((*COMPILE, "-o", "facts.md"), "would be overwritten"),
    "one slot": ((*COMPILE, "--slots", 1), "2 or more"),
    "negative seed": ((*COMPILE, "--seed", -1), "seed"),
    "output is a folder": ((*COMPILE, "-o", "hollow"), "is a folder"),
    "output in no folder": ((*COMPILE, "-o", "no/where.precis"), "no folder"),
    "no such artifact": (("ask", "missing.precis", "What?"), "missing.precis"),
    "truncated artifact": (("ask", "short.precis", "What?"), "truncated"),
    "other model": (("ask", "facts.precis", "What?", "--model", "other"), "compiled for"),
    "unknown method": (
        (
            *("evaluate", "facts.precis", "--document", "facts.md", "--questions", "test.jsonl"),
            *("--methods", "snapkv,magic"),
        ),
        "'magic'",
    ),
    "endless question": (("ask", "facts.precis", "what " * 900), "does not fit"),
    "fallback without calibration": (
        ("ask", "plain.precis", "What?", "--fallback", "facts.md"),
        "no calibrated confidence",
    ),
    "impossible agreement": (
        ("ask", "facts.precis", "What?", "--fallback", "facts.md", "--agreement", 90),
        "at most 1",
    ),
    "fallback and beside": (
        ("ask", "facts.precis", "What?", "--fallback", "facts.md", "--beside", "facts.md"),
        "not both",
    ),
    "no such fallback": (("ask", "facts.precis", "What?", "--fallback", "missing.md"), "missing.md"),
    "empty question": (("ask", "facts.precis", "  "), "empty"),
    "recall without text": (("ask", "bare.precis", "What?", "--recall", 2), "again with its text"),
    "negative recall": (("ask", "facts.precis", "What?", "--recall", -1), "must be 0 or more"),
    "impossible threshold": (("ask", "facts.precis", "What?", "--refuse-below", 30), "between 0 and 1"),
    "threshold without calibration": (
        ("ask", "plain.precis", "What?", "--refuse-below", 0.5),
        "does not hold",
    ),
    "threshold and fallback": (
        ("ask", "facts.precis", "What?", "--refuse-below", 0.5, "--fallback", "facts.md"),
        "not both",
    ),
    "fallback with more passages": (
        ("ask", "facts.precis", "What?", "--recall", 3, "--fallback", "facts.md"),
        "Leave --recall out",
    ),
    "no such control": (
        (
            *("evaluate", "facts.precis", "--document", "facts.md", "--questions", "test.jsonl"),
            *("--other", "missing.precis"),
        ),
        "missing.precis",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(precis, compiled, bare, folder, mistake):
    write(folder / "binary.md", b"\x00\x01\x02" * 50)
    write(folder / "empty.md", "\n \n")
    (folder / "hollow").mkdir(exist_ok=True)
    write(folder / "bad.jsonl", '{"question": "Who?"}\n{"question": \n')
    write(folder / "short.precis", compiled.read_bytes()[:5000])
    make_other_model(folder / "other")
    artifact = Artifact.open(compiled)
    uncalibrated = replace(artifact, manifest=replace(artifact.manifest, confidence=None))
    uncalibrated.save(folder / "plain.precis")
    before = compiled.read_bytes()
    arguments, told = MISTAKES[mistake]
    code, _, err = precis(*arguments)
    assert code == 2
    assert err.startswith("Error: ")
    assert told in err
    assert "Traceback" not in err
    assert compiled.read_bytes() == before


def make_other_model(path):
    from safetensors.torch import load_file, save_file

    if path.exists():
        return
    path.mkdir()
    for file in RECALL_MODEL.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(path / "model.safetensors")
    tensors = {name: tensor * 1.5 for name, tensor in tensors.items()}
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def test_killed_anywhere_and_started_again_it_ends_the_same(folder, compiled, tmp_path):
    """`kill -9` at several moments of the same compile, each time started again."""
    command = [sys.executable, "-m", "precis", *map(str, COMPILE)]
    command += ["--ratio", "5", "-o", str(tmp_path / "x.precis"), "--work", str(tmp_path / "work")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for kept in ("gold-*", "training-*"):
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while not list((tmp_path / "work").glob(f"*/{kept}")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "x.precis").exists():
            Artifact.open(tmp_path / "x.precis")  # what was published is whole
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.precis").read_bytes() == compiled.read_bytes()


def test_a_full_disk_is_told_and_loses_nothing(precis, compiled, monkeypatch):
    before = compiled.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = precis(*COMPILE, "--ratio", 7, "-o", compiled)
    assert code == 2
    assert "the disk is full" in err
    assert compiled.read_bytes() == before
