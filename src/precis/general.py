"""The general part of σ: how to answer from a passage, briefly, whatever the document.

It is learnt once for a model, from a document of the project's own (`benchmarks/make_general.py`), and comes
with the package for the default model. With it a document can be asked as soon as it is read: the passage is
recalled from the text, and nothing had to be compiled. It is also the control by which a document's own σ
shows what it adds.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from precis.artifact import Artifact
from precis.document import Document
from precis.language_model import LanguageModel

FOLDER = "general"


def general_artifact(model: LanguageModel) -> Artifact | None:
    """Give the general σ for a model; None where the package has none for it.

    Raises
    ------
    ArtifactError
        The package's own file is damaged.
    """
    with as_file(files("precis") / FOLDER) as folder:
        for path in sorted(Path(folder).glob("*.precis")):
            artifact = Artifact.open(path)
            about = artifact.manifest.model
            if (about["digest"], about["tokenizer_digest"]) == (model.digest, model.tokenizer_digest):
                return artifact
    return None


def before_compiling(document: Document, model: LanguageModel) -> Artifact | None:
    """Give what a document can be asked by before it is compiled; None where there is no general σ.

    Its manifest names the document, and says by empty `fidelity` that nothing was measured on it; its answers
    come without confidence.
    """
    general = general_artifact(model)
    if general is None:
        return None
    manifest = general.manifest
    tokens = model.chat.document_tokens(document.text)
    about = {"name": document.name, "sha256": document.sha256, "tokens": tokens}
    return Artifact(
        replace(
            manifest,
            document=about,
            ratio=tokens / manifest.slots,
            data={"general": True},
            training={"held_out_nll": []},
            fidelity={"recovery": None},
            confidence=None,
        ),
        general.tensors,
    ).with_text(document)
