"""Cartridges: the keys and values of the first tokens, trained on what a chunk's reader says."""

from __future__ import annotations

from dataclasses import replace

from precis.baselines.baseline import Baseline, Task
from precis.compilation.teacher import Teacher
from precis.model.prefix import Prefix
from precis.model.soft_prompt import KeyValuePrompt
from precis.text.spans import SPAN_TOKENS

CHUNK = 512
TOP_K = 20


class FirstTokens(Baseline):
    """Train keys and values from those of the document's first tokens, by KL to a teacher that reads chunks.

    Eyuboglu, Ehrlich, Arora, Guha, Zinsley, Liu, Tennien, Rudra, Zou, Mirhoseini & Ré, "Cartridges:
    Lightweight and General-Purpose Long Context Representations via Self-Study" (2025), arXiv 2506.06266.
    Kept: the start, with the first key frozen; the loss, KL to the 20 most likely tokens at each position
    of an answer; and that the teacher reads only the chunk of about 512 tokens that a question came from,
    never the document. Not kept: there the conversations are sampled from many kinds of prompts, by the
    million tokens; here the questions, their number and the schedule are those of σ, so that both train
    for the same time.
    """

    name = "first-tokens"
    trains = True

    def prefix(self, task: Task) -> Prefix:
        """Compile σ in this way."""
        settings = replace(
            task.settings,
            form=KeyValuePrompt.form,
            warm_start="first",
            objective="kl",
            objective_weight=None,
        )
        # the first chunk must hold the tokens that training starts from, and may end a span earlier
        chunk = max(CHUNK, task.slots + SPAN_TOKENS)
        teacher = Teacher(task.model, task.document, reading_tokens=chunk, top_k=TOP_K)
        return task.compiled(settings, teacher)
