"""Attention matching: slots fitted to the document in closed form, and not trained."""

from __future__ import annotations

from dataclasses import replace

from precis.baselines.baseline import Baseline, Task
from precis.compilation.training import Schedule
from precis.model.prefix import Prefix
from precis.model.soft_prompt import KeyValuePrompt


class MatchedAttention(Baseline):
    """Fit biases and values of chosen slots to the attention of self-study queries; train nothing.

    Zweiger, Fu, Guo & Kim (2026), arXiv 2602.16284. Kept: the fits, layer after layer on the queries that
    lower compacted layers give, and budgets that differ by head. Not as there: slots and budgets are
    chosen as σ₀ chooses them (see `warm_start`), which makes this baseline stronger than attention alone
    would. It is σ before training.
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
