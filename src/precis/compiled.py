"""A compiled document with its model, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from precis.answer import LONGEST, Answer, answer
from precis.artifact import Artifact
from precis.errors import ArtifactError
from precis.language_model import Conditioned, LanguageModel
from precis.model_source import load_model


class Compiled:
    """An artifact and the model it was compiled for.

    Parameters
    ----------
    artifact
        σ with its manifest.
    model
        The frozen model.

    Raises
    ------
    ArtifactError
        The artifact was compiled for another model.
    """

    def __init__(self, artifact: Artifact, model: LanguageModel) -> None:
        self.artifact = artifact
        self.model = model
        self._given: Conditioned = model.given(artifact.prefix(model))
        self._calibration = artifact.calibration

    def ask(
        self, question: str, *, longest: int = LONGEST, hear: Callable[[str], None] = lambda _: None
    ) -> Answer:
        """Answer a question from σ.

        Parameters
        ----------
        question
            What to ask.
        longest
            The most tokens of an answer.
        hear
            Called with every new piece of text as soon as it is known.

        Raises
        ------
        QuestionsError
            The question is empty, or does not fit the model's window.
        """
        return answer(self._given, question, longest=longest, hear=hear, calibration=self._calibration)

    def fallback_threshold(self, agreement: float) -> float:
        """Give the confidence under which to ask the full document, so that a share of answers agrees.

        Raises
        ------
        ArtifactError
            The file holds no calibration.
        SettingsError
            The share is not in (0, 1].
        """
        if self._calibration is None:
            raise ArtifactError(
                "This file holds no calibrated confidence, so it is not known when to read the document "
                "again: it was compiled by an earlier version of precis, or had no time left for it. "
                "Compile the document again (with more --minutes), or use --beside to always read it."
            )
        return self._calibration.threshold(agreement)


def load(path: str | Path, model: LanguageModel | str | None = None) -> Compiled:
    """Open a `.precis` file and the model that it was compiled for.

    Parameters
    ----------
    path
        The file.
    model
        A loaded model, or a name; None: the name in the manifest.

    Raises
    ------
    ArtifactError
        The file is damaged, or was compiled for another model.
    ModelError
        The model cannot be loaded.
    """
    artifact = Artifact.open(Path(path))
    if not isinstance(model, LanguageModel):
        model = load_model(model or artifact.manifest.model["name"])
    return Compiled(artifact, model)
