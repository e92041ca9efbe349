r"""Make the general part of σ for the default model: what `precis.general` comes with.

    python benchmarks/make_general.py

σ is compiled for a document of the project's own, and written without the document's text and its confidence
to `src/precis/general/`. What it is worth is measured as `other-recall` (benchmarks/right_answers.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from precis.artifact import Artifact
from precis.compilation import Settings, compile
from precis.document import read
from precis.general import FOLDER
from precis.model_source import load_model

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--document", type=Path, default=ROOT / "examples/tern-harbour.md")
    parser.add_argument("--slots", type=int, help="by default a twentieth of the document's tokens")
    parser.add_argument("--work", type=Path, help="where unfinished work is kept")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    model = load_model()
    settings = Settings(slots=options.slots)
    artifact = compile(read(options.document), model=model, settings=settings, work=options.work)
    about = {name: value for name, value in artifact.manifest.document.items() if name != "pages"}
    tensors = {name: tensor for name, tensor in artifact.tensors.items() if name != "text"}
    target = options.output or ROOT / "src/precis" / FOLDER / f"{model.name}.precis"
    target.parent.mkdir(exist_ok=True)
    Artifact(replace(artifact.manifest, document=about, confidence=None), tensors).save(target)
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
