"""A compiled document with its model, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from precis.answer import LONGEST, Answer, answer
from precis.artifact import Artifact
from precis.errors import ArtifactError, SettingsError
from precis.model.conditioned import Conditioned
from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.text.passages import Passages
from precis.text.recall import NOTHING, RECALL
from precis.text.recall import recall as recall_passages


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

    @cached_property
    def passages(self) -> Passages | None:
        """What is recalled from; None where the file does not keep the document's text."""
        document = self.artifact.document()
        return None if document is None else Passages(document, self.model.chat)

    def ask(
        self,
        question: str,
        *,
        longest: int = LONGEST,
        recall: int | None = None,
        refuse_below: float = 0.0,
        on_text: Callable[[str], None] = lambda _: None,
    ) -> Answer:
        """Answer a question from σ and from what is recalled of the document.

        Parameters
        ----------
        question
            What to ask.
        longest
            The most tokens of an answer.
        recall
            How many passages of the document stand beside σ, at most; they come with the answer. None: one,
            where the file keeps the document's text.
        refuse_below
            Under this confidence the answer is that the document does not say; 0: never.
        on_text
            Called with every new piece of text as soon as it is known.

        Raises
        ------
        QuestionsError
            The question is empty, or does not fit the model's window.
        ArtifactError
            Passages are wanted, but the file does not keep the document's text; or a refusal, but it holds no
            confidence.
        SettingsError
            Fewer than no passages are wanted, or the threshold is no probability.
        """
        if not 0 <= refuse_below <= 1:
            raise SettingsError(
                f"The confidence to refuse below is {refuse_below}; it must lie between 0 and 1."
            )
        count = self._passages_wanted(recall)
        calibration = self._calibration
        if calibration is not None and calibration.recall != count:
            calibration = None
        if refuse_below and calibration is None:
            raise ArtifactError(
                "Answers can only be refused by their confidence, which this file does not hold for answers "
                f"with {count} recalled passages. Compile the document again, or leave the threshold out."
            )
        passages = self.passages if count else None
        recalled = NOTHING if passages is None else recall_passages(passages, question, count)
        return answer(
            self._given,
            question,
            longest=longest,
            on_text=on_text,
            recalled=recalled,
            passages=passages,
            calibration=calibration,
            refuse_below=refuse_below,
        )

    def _passages_wanted(self, recall: int | None) -> int:
        kept = self.artifact.keeps_text
        if recall is None:
            return RECALL if kept else 0
        if recall < 0:
            raise SettingsError(f"The number of passages to recall is {recall}; it must be 0 or more.")
        if recall and not kept:
            raise ArtifactError(
                f"The text of {self.artifact.manifest.document.name} is not kept in this file, so "
                "nothing can be recalled from it. Compile the document again with its text, or recall no "
                "passage (0).",
                settings=("recall",),
            )
        return recall

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
                "Compile the document again, with more minutes, or read it beside every question.",
                settings=("minutes", "beside"),
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
        model = load_model(model or artifact.manifest.model.name)
    return Compiled(artifact, model)
