"""How to compile: what a user can choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from precis.compilation.objectives import objective_named
from precis.compilation.training import Schedule
from precis.compilation.warm_start import warm_start_named
from precis.errors import SettingsError
from precis.model.soft_prompt import SINK, EmbeddingPrompt, KeyValuePrompt

DEFAULT_RATIO = 20.0
DEFAULT_OBJECTIVE = "mix"


@dataclass(frozen=True)
class Settings:
    """How to compile. The defaults are what measured best (docs/method.md says on what).

    Parameters
    ----------
    slots
        Length of σ; None: as `ratio` says.
    ratio
        Document tokens for every slot; 20 by default.
    objective, objective_weight
        `nll`, `kl` or `mix`; for `mix`, the weight of kl.
    form
        `kv` or `embedding`.
    warm_start
        `attention-matching`, `attention`, `even`, `first` or `random`.
    bias
        Whether slots carry a bias and heads may hold different numbers of slots; without, σ fits formats
        that know neither, and recovers less.
    self_study
        How many questions the model writes, of which one in fifteen or so is worth teaching; None: by the
        document's length, or as many as there is time for where `minutes` says how much there is.
    pointed
        Whether the teacher, who has the whole document before it, is pointed to the sentence that a question
        was written about. Without, small models answer many questions wrongly (docs/experiments.md).
    minutes
        Most minutes that the whole compile may take; None: as many as the schedule needs. 0: as few as
        it takes without any training, from a few questions on each part of the document.
    seed
        Decides all draws.
    schedule
        See `training.Schedule`.
    """

    slots: int | None = None
    ratio: float = DEFAULT_RATIO
    objective: str = DEFAULT_OBJECTIVE
    objective_weight: float | None = None
    form: str = KeyValuePrompt.form
    warm_start: str = "attention-matching"
    bias: bool = True
    self_study: int | None = None
    pointed: bool = True
    minutes: float | None = None
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def training_free(self) -> bool:
        """Whether σ₀ is all that is wanted."""
        return self.minutes == 0

    def check(self) -> None:
        """Refuse what cannot work, before any time is spent.

        Raises
        ------
        SettingsError
            A value is out of its range.
        """
        objective_named(self.objective, self.objective_weight)
        if self.slots is not None and self.slots <= SINK:
            raise SettingsError(
                f"σ cannot have {self.slots} slots; give {SINK + 1} or more: the first is kept as it is."
            )
        if not 0 <= self.seed < 2**31:
            raise SettingsError(f"The seed is {self.seed}; it must lie between 0 and {2**31 - 1}.")
        if not self.ratio >= 1:
            raise SettingsError(f"The ratio is {self.ratio}; it must be 1 or more document tokens a slot.")
        if self.form not in (KeyValuePrompt.form, EmbeddingPrompt.form):
            raise SettingsError(f"There is no form '{self.form}'. Choose kv or embedding.")
        warm_start_named(self.warm_start)
        if self.minutes is not None and not self.minutes >= 0:
            raise SettingsError(f"The number of minutes is {self.minutes}; it must be 0 or more.")
        if self.self_study is not None and self.self_study < 0:
            raise SettingsError(
                f"The number of self-study questions is {self.self_study}; it must be 0 or more."
            )

    def slots_for(self, document_tokens: int) -> int:
        """Give the length of σ for a document.

        Raises
        ------
        SettingsError
            It would be as long as the document, or longer.
        """
        slots = self.slots or max(SINK + 1, round(document_tokens / self.ratio))
        if slots > document_tokens:
            raise SettingsError(
                f"σ of {slots} slots would be longer than the document, which has {document_tokens} "
                "tokens. Give fewer slots or a larger ratio."
            )
        return slots
