"""The default model, from a document to answers: small, but all of it real."""

from pathlib import Path

import pytest

import precis
from precis.compilation.training import Schedule

EXAMPLE = Path(__file__).parent.parent / "examples" / "tern-harbour.md"


@pytest.mark.end_to_end
def test_the_default_model_compiles_a_document_that_it_wrote_questions_about(tmp_path, all_threads):
    text = EXAMPLE.read_text()[:2400]
    document = precis.Document.from_text(text, "tern-harbour")
    model = precis.load_model()
    settings = precis.Settings(ratio=10, self_study=160, schedule=Schedule(fewest_steps=16))
    artifact = precis.compile(document, model=model, settings=settings, work=tmp_path / "work")
    artifact.save(tmp_path / "x.precis")
    assert artifact.manifest.data.self_study_questions > 10
    assert artifact.manifest.data.sentences_covered > 5
    fidelity = artifact.manifest.fidelity
    assert fidelity.nll_none > fidelity.nll_full
    questions = [
        question
        for question in precis.read_questions(EXAMPLE.with_suffix(".questions.jsonl"))
        if any(answer in text for answer in question.answers)
    ]
    report = precis.evaluate(artifact, document, questions, model=model)
    assert report.recovery > 0.25
    assert report.methods["precis"].prefix_bytes < report.methods["full"].prefix_bytes / 5
    right = {name: scores.right_count for name, scores in report.methods.items()}
    assert right["precis"] > max(right["none"], right["soft-prompt"])
    compiled = precis.load(tmp_path / "x.precis", model)
    said = compiled.ask("Who is the Harbour Master?")
    assert "Maren Tolsted" in said.passages[0].text
    assert "Tolsted" in said.text
    assert compiled.ask("Who is the Harbour Master?", recall=0).prompt_positions == artifact.manifest.slots
