"""What every warm start is: a way to make σ₀ from what the teacher read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from precis.model.conditioned import Example
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix


@dataclass(frozen=True)
class Read:
    """What the teacher read at a time, and what was asked of it.

    Parameters
    ----------
    prefix
        All that stood before the questions; its slot 0 is the sink.
    own
        `[slot]`, int64: the slots of it that σ₀ may keep.
    examples
        The questions and answers.
    """

    prefix: Prefix
    own: Tensor
    examples: Sequence[Example]


@dataclass(frozen=True)
class Material:
    """What σ₀ is made of.

    Parameters
    ----------
    model
        The frozen model.
    reads
        All that the teacher read; the first begins with the sink.
    scores
        `[layer, kv_head, slot]`, from `scoring.slot_scores`, for the own slots of all reads; empty for a warm
        start that does not ask for them.
    slots
        How many slots to keep a head; on average, where `bias` allows heads to differ.
    seed
        Decides what is drawn.
    bias
        Whether slots may carry a bias. Without, all heads keep the same number of slots.
    embeddings
        `[token, hidden]`: the input embeddings of the own slots, where σ shall have that form.
    """

    model: LanguageModel
    reads: Sequence[Read]
    scores: Tensor
    slots: int
    seed: int = 0
    bias: bool = True
    embeddings: Tensor | None = None

    @cached_property
    def document(self) -> Prefix:
        """The own slots of all reads, one after another."""
        whole: Prefix | None = None
        for read in self.reads:
            part = read.prefix.select(read.own.expand(*read.prefix.positions.shape[:2], -1))
            end = part.next_position if whole is None else max(whole.next_position, part.next_position)
            whole = part if whole is None else whole.followed_by(replace(part, next_position=end))
        assert whole is not None
        return whole


class WarmStart(ABC):
    """A way to make σ₀, in both forms.

    Attributes
    ----------
    name
        What a user chooses it by.
    needs_scores
        Whether the document's slots must be scored for it.
    """

    name: ClassVar[str]
    needs_scores: ClassVar[bool] = False

    @abstractmethod
    def key_values(self, material: Material) -> Prefix:
        """Make σ₀ in key-value form. Slots keep their rotation."""

    @abstractmethod
    def embeddings(self, material: Material) -> Tensor:
        """Make σ₀ in embedding form, `[slot, hidden]`."""


class FixedPlaces(WarmStart):
    """The same places of the document for every head, whatever stands there."""

    @abstractmethod
    def places(self, count: int, slots: int) -> Tensor:
        """Choose `slots` of `count` places: `[slot]`, int64, rising."""

    def key_values(self, material: Material) -> Prefix:
        """Keep these places' keys and values."""
        positions = material.document.positions
        places = self.places(positions.shape[-1], material.slots)
        return material.document.select(places.expand(*positions.shape[:2], -1))

    def embeddings(self, material: Material) -> Tensor:
        """Keep these places' embeddings."""
        assert material.embeddings is not None
        places = self.places(len(material.embeddings), material.slots)
        return material.embeddings[places.to(material.embeddings.device)]
