"""Compile a long document into a short soft prompt for a frozen language model, and ask it.

    import precis

    document = precis.read("handbook.pdf")
    artifact = precis.compile(document)
    artifact.save(Path("handbook.precis"))

    handbook = precis.load("handbook.precis")
    print(handbook.ask("When does the harbour close?").text)

Names
-----
read
    A file or folder → `Document`.
compile, Settings
    `Document` → `Artifact`.
load
    A `.precis` file → `Compiled`: the artifact with its model, ready to be asked.
load_model
    A frozen model by name → `LanguageModel`.
evaluate
    `Artifact`, `Document`, questions → `Report`.
read_questions
    A questions file → questions for `evaluate` (or, their texts, for `compile`).
PrecisError
    Base of all errors raised on purpose.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precis.answer import Answer
    from precis.artifact import Artifact
    from precis.compilation import Settings, compile
    from precis.compiled import Compiled, load
    from precis.document import Document, read
    from precis.errors import PrecisError
    from precis.evaluation import Report, evaluate
    from precis.language_model import LanguageModel
    from precis.model_source import load_model
    from precis.questions_file import read_questions

__all__ = [
    "Answer",
    "Artifact",
    "Compiled",
    "Document",
    "LanguageModel",
    "PrecisError",
    "Report",
    "Settings",
    "compile",
    "evaluate",
    "load",
    "load_model",
    "read",
    "read_questions",
]

_HOMES = {
    "Answer": "answer",
    "Artifact": "artifact",
    "Compiled": "compiled",
    "Document": "document",
    "LanguageModel": "language_model",
    "PrecisError": "errors",
    "Report": "evaluation",
    "Settings": "compilation",
    "compile": "compilation",
    "evaluate": "evaluation",
    "load": "compiled",
    "load_model": "model_source",
    "read": "document",
    "read_questions": "questions_file",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `precis --help` must not wait for PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'precis' has no attribute '{name}'")
    return getattr(importlib.import_module(f"precis.{_HOMES[name]}"), name)
