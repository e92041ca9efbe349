"""What a baseline is: another way to put a document before a frozen model, at the same number of slots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from precis.compilation.pipeline import compile
from precis.compilation.progress import Progress
from precis.compilation.settings import Settings
from precis.compilation.teacher import ROOM, Teacher
from precis.errors import WindowError
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.text.document import Document

# Groups of questions by the prefix that they are asked after, as (prefix, numbers of the questions).
Groups = Iterable[tuple[Prefix, list[int]]]
# What a method that is ready does with the texts of questions.
Prepared = Callable[[Sequence[str]], Groups]


@dataclass(frozen=True)
class Task:
    """What every method is given: the same model, document, number of slots and self-study.

    Parameters
    ----------
    model, document
        Who reads what.
    slots
        How many keys a head may hold, or how many tokens of text a method may give.
    settings
        What methods that train something train with: seed, schedule, minutes.
    work
        The folder of unfinished work, as in `compile`; what was asked and answered there is shared.
    progress
        Hears of the stages of methods that take long.
    """

    model: LanguageModel
    document: Document
    slots: int
    settings: Settings
    work: Path | None
    progress: Progress

    def compiled(self, settings: Settings, teacher: Teacher | None = None) -> Prefix:
        """Compile the document to as many slots with some settings; σ as a prefix, and no calibration."""
        artifact = compile(
            self.document,
            model=self.model,
            settings=replace(settings, slots=self.slots),
            work=self.work,
            teacher=teacher,
            calibrate=False,
            keep_text=False,  # σ is taught as it is asked here: alone
            progress=self.progress,
        )
        return artifact.prefix(self.model)

    def whole_reading(self) -> list[int]:
        """Give the tokens of the whole document in its template.

        Raises
        ------
        WindowError
            They leave no room for a question in the model's window.
        """
        tokens = self.model.chat.document_prompt(self.document.text)
        self.check_room(len(tokens))
        return tokens

    def check_room(self, tokens: int) -> None:
        """Refuse what leaves no room for a question.

        Raises
        ------
        WindowError
            So many tokens leave none.
        """
        window = self.model.window
        room = min(ROOM, window // 4)
        if tokens + room > window:
            raise WindowError(
                f"This method needs {tokens:,} tokens and a question before the model at once, but the "
                f"window of {self.model.name} is {window:,} tokens, {room} of them for the question. "
                "Choose a model with a longer window, or leave the method out."
            )


class Baseline(ABC):
    """One method.

    To add one: a file here with a subclass that names its paper and gives its prefix, and its name in
    `BASELINES`. The tests then run it with all the others.
    """

    name: ClassVar[str]
    # whether it compiles something, which takes minutes, and tells of its own stages
    trains: ClassVar[bool] = False
    # whether it finds text for every question: it may then read as many tokens as σ and what is recalled have
    finds_text: ClassVar[bool] = False

    @abstractmethod
    def prefix(self, task: Task) -> Prefix:
        """Give what stands before every question.

        Raises
        ------
        PrecisError
            The method cannot do this task; the message says why.
        """

    def prepare(self, task: Task) -> Prepared:
        """Do all that is done once for a document.

        Raises
        ------
        PrecisError
            The method cannot do this task; the message says why.
        """
        return same_for_all(self.prefix(task))


def same_for_all(prefix: Prefix) -> Prepared:
    """Ask all questions after the same prefix."""
    return lambda texts: [(prefix, list(range(len(texts))))]


def read_tokens(task: Task, tokens: Sequence[int]) -> Prefix:
    """Let the model read some document tokens in the usual template, which is free of charge."""
    chat = task.model.chat
    return task.model.prefill([*chat.before, *tokens, *chat.between])
