"""Attention matching: slots fitted to the document in closed form, and not trained."""

from __future__ import annotations

from dataclasses import replace

from precis.prefix import Prefix
from precis.rivals.rival import Rival, Task
from precis.soft_prompt import KeyValuePrompt
from precis.training import Schedule


class AttentionMatching(Rival):
    """Fit biases and values of chosen slots to the attention of self-study queries; train nothing.

    Zweiger, Fu, Guo & Kim (2026), arXiv 2602.16284. Kept: the fits, layer after layer on the queries that
    lower compacted layers give, and budgets that differ by head. Not as there: slots and budgets are
    chosen as σ₀ chooses them (see `warm_start`), which makes this rival stronger than attention alone would.
    It is σ before training.
    """

    name = "attention-matching"
    trains = True

    def prefix(self, task: Task) -> Prefix:
        """Compile without a step of training."""
        settings = replace(
            task.settings,
            warm_start=self.name,
            form=KeyValuePrompt.form,
            bias=True,
            schedule=Schedule(epochs=0),
        )
        return task.compiled(settings)
