"""A compiled document with its model, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from precis.answer import LONGEST, Answer, answer
from precis.artifact import Artifact
from precis.errors import ArtifactError, SettingsError
from precis.language_model import Conditioned, LanguageModel
from precis.model_source import load_model
from precis.support import Passage, Support


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
        self._support: Support | None = None

    def ask(
        self,
        question: str,
        *,
        longest: int = LONGEST,
        passages: int = 0,
        hear: Callable[[str], None] = lambda _: None,
    ) -> Answer:
        """Answer a question from σ.

        Parameters
        ----------
        question
            What to ask.
        longest
            The most tokens of an answer.
        passages
            How many passages of the document to give with it, at most.
        hear
            Called with every new piece of text as soon as it is known.

        Raises
        ------
        QuestionsError
            The question is empty, or does not fit the model's window.
        ArtifactError
            Passages are wanted, but the file does not keep the document's text.
        SettingsError
            Fewer than no passages are wanted.
        """
        found = self._supporting(question, passages)
        said = answer(self._given, question, longest=longest, hear=hear, calibration=self._calibration)
        return replace(said, passages=found)

    def _supporting(self, question: str, count: int) -> tuple[Passage, ...]:
        if count < 0:
            raise SettingsError(f"--passages is {count}; it must be 0 or more.")
        if not count:
            return ()
        if self._support is None:
            self._support = Support.of(self.artifact, self.model.chat)
        return self._support.find(question, count)

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
