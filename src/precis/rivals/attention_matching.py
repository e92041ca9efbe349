"""Attention matching: slots fitted to the document in closed form, and not trained."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from precis.compilation import compile
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
    trains: ClassVar[bool] = True

    def prefix(self, task: Task) -> Prefix:
        """Compile without a step of training."""
        settings = replace(
            task.settings,
            slots=task.slots,
            warm_start=self.name,
            form=KeyValuePrompt.form,
            bias=True,
            schedule=Schedule(epochs=0),
        )
        artifact = compile(
            task.document,
            model=task.model,
            settings=settings,
            work=task.work,
            calibrate=False,
            progress=task.progress,
        )
        return artifact.prefix(task.model)
