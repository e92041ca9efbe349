r"""What re-reading the document buys where σ is in doubt: agreement against the share of questions re-read.

    python benchmarks/fallback.py FOLDER --squad FILE --pairs 4+15 11+13 20+22 \
        --fairytales FOLDER --shortest-words 1500 --count 4

Every document is compiled with the default settings (FOLDER keeps unfinished work, as in `fidelity.py`,
and shares it with that script), and its human questions are answered from σ with what is recalled, and from
the whole document. Confidence is calibrated on held-out self-study questions, document by document; the
answers of all documents are then pooled. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":  # this folder itself must not be searched: other packages know a `datasets` too
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.common import ROOT, document_options, subjects_of, surroundings
from benchmarks.datasets import Subject
from precis.baselines.baseline import same_for_all
from precis.compilation.pipeline import compile
from precis.compilation.settings import Settings
from precis.evaluation.evaluate import passages_of
from precis.evaluation.examination import Examination
from precis.evaluation.report import AnsweredQuestion
from precis.evaluation.scoring import reliability_of
from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.storage import write_atomically


def asked_of(subject: Subject, model: LanguageModel, folder: Path) -> list[AnsweredQuestion]:
    """Compile a document, and answer its questions as `ask` does, and from the whole document."""
    work = folder / "work" / "shared" / subject.name
    artifact = compile(subject.document, model=model, settings=Settings(), work=work)
    calibrations = {} if artifact.calibration is None else {"precis": artifact.calibration}
    prepared = {"precis": same_for_all(artifact.prefix(model))}
    examination = Examination(model, subject.document, subject.questions)
    recalled_from = passages_of(artifact, examination.teacher)
    recalling = {} if recalled_from is None else {"precis": recalled_from}
    return examination.compare(prepared, recalling=recalling, calibrations=calibrations)


def summary(asked: dict[str, list[AnsweredQuestion]]) -> dict[str, object]:
    """Pool the answers of all documents.

    Raises
    ------
    ValueError
        No answer has a confidence.
    """
    found = reliability_of([one for part in asked.values() for one in part], "precis")
    if found is None:
        raise ValueError("No answer came with a confidence.")
    return {
        "documents": {name: len(part) for name, part in asked.items()},
        "right": found.base_rate,
        "agreement": found.trade_off[0].agreement,
        "calibration_error": found.calibration_error,
        "trade_off": [asdict(point) for point in found.trade_off],
        "bins": [asdict(part) for part in found.bins],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where unfinished work is kept")
    document_options(parser)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/fallback.json")
    options = parser.parse_args(arguments)
    model = load_model()
    asked = {}
    for subject in subjects_of(options):
        asked[subject.name] = asked_of(subject, model, options.folder)
        print(f"{subject.name}: {len(asked[subject.name])} questions", flush=True)
    results = {"surroundings": surroundings(model), **summary(asked)}
    write_atomically(options.results, (json.dumps(results, ensure_ascii=False, indent=1) + "\n").encode())
    print(json.dumps(results["trade_off"]))


if __name__ == "__main__":
    main()
