"""What all stages of one compile share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from precis.compilation.progress import Progress
from precis.compilation.settings import Settings
from precis.compilation.stages import CALIBRATING, ENDS, Stage
from precis.compilation.teacher import Teacher
from precis.compilation.training import Clock
from precis.model.conditioned import Conditioned
from precis.model.language_model import LanguageModel
from precis.storage import WorkFolder, cache_folder, key_of
from precis.text.questions import Question


@dataclass(frozen=True)
class Plan:
    """One compile: what is compiled, how, and where its unfinished work is. Stages change nothing of it.

    Parameters
    ----------
    teacher
        The frozen model with the document before it.
    questions
        The user's own.
    settings
        How to compile.
    slots
        The length of σ.
    keep_text
        Whether the artifact holds the document's text, so that passages can be recalled from it.
    work, clock, progress
        Where finished pieces are kept; how much time there is; who is told of it.
    forgets
        Whether what the teacher read is forgotten once σ₀ is made.
    """

    teacher: Teacher
    questions: Sequence[Question]
    settings: Settings
    slots: int
    keep_text: bool
    work: WorkFolder
    clock: Clock
    progress: Progress
    forgets: bool = True

    @classmethod
    def make(
        cls,
        teacher: Teacher,
        questions: Sequence[Question],
        settings: Settings,
        *,
        keep_text: bool,
        work: Path | None,
        progress: Progress,
    ) -> Plan:
        """Plan a compile; its time begins now.

        Raises
        ------
        SettingsError
            σ would be as long as the document, or longer.
        """
        model, minutes = teacher.model, settings.minutes
        prompt = [model.chat.before, model.chat.between, model.chat.question_prompt("")]
        parts = model.digest, model.tokenizer_digest, str(model.dtype), teacher.document.sha256, prompt
        return cls(
            teacher,
            questions,
            settings,
            settings.slots_for(teacher.tokens),
            keep_text,
            WorkFolder((work or cache_folder() / "work") / key_of(*parts)),
            Clock(None if minutes is None else minutes * 60 * (1 - CALIBRATING)),
            progress,
        )

    @property
    def model(self) -> LanguageModel:
        """The frozen model."""
        return self.teacher.model

    def is_over(self, stage: Stage) -> bool:
        """Whether a stage's time is over; a training-free σ gets all of them whole."""
        return not self.settings.training_free and self.clock.past(ENDS[stage])

    @cached_property
    def without_document(self) -> Conditioned:
        """The model with no document before it."""
        return self.model.given(self.model.prefill(self.model.chat.document_prompt("")))

    @property
    def taught_by(self) -> list[int | bool | None]:
        """How the teacher reads, beside what is the same for all that the work folder holds."""
        return [self.teacher.reading_tokens, self.teacher.top_k, self.teacher.pointed]
