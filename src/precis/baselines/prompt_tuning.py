"""Prompt tuning: input embeddings that are trained."""

from __future__ import annotations

from dataclasses import replace

from precis.baselines.baseline import Baseline, Task
from precis.model.prefix import Prefix
from precis.model.soft_prompt import EmbeddingPrompt


class PromptTuning(Baseline):
    """Train as many input embeddings as there are slots, and nothing in the layers above.

    Lester, Al-Rfou & Constant, "The Power of Scale for Parameter-Efficient Prompt Tuning" (2021), arXiv
    2104.08691. Kept: what is trained. Not kept: there the embeddings start from words of the vocabulary
    and learn a task from labelled data; here they start from the tokens of the document that get the most
    attention, and learn from the same self-study, objective and schedule as σ.
    """

    name = "prompt-tuning"
    trains = True

    def prefix(self, task: Task) -> Prefix:
        """Compile σ in its embedding form."""
        settings = replace(task.settings, form=EmbeddingPrompt.form, warm_start="attention")
        return task.compiled(settings)
