"""The library example compiles a document and answers from it."""

import precis
from examples import library
from tests.conftest import RECALL_MODEL
from tests.recall import answer_text, document_text, make_facts, question_text

FACTS = make_facts(8, seed=3)


def test_the_library_example_answers_and_compiles_only_once(tmp_path, monkeypatch, capsys):
    model = precis.load_model(str(RECALL_MODEL))
    monkeypatch.setattr("precis.model.loading.load_model", lambda *_: model)
    compiled = []

    def compile(document, **given):
        compiled.append(document.name)
        questions = [question_text(fact, 0) for fact in FACTS]
        return real(document, model=model, questions=questions, **given)

    real = precis.compile
    monkeypatch.setattr(precis, "compile", compile, raising=False)
    monkeypatch.setattr("precis.compiled.load_model", lambda *_: model)
    path = tmp_path / "facts.md"
    path.write_text(document_text(FACTS))
    settings = precis.Settings(ratio=5, self_study=0, schedule=precis.Schedule(epochs=0))
    question = question_text(FACTS[0], 1)
    for _ in range(2):
        (text,) = library.main(str(path), question, settings=settings)
    assert compiled == ["facts.md"]
    assert answer_text(FACTS[0]) in text
    assert "from: " in capsys.readouterr().out
