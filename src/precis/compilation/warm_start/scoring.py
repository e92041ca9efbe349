"""Scoring a document's slots by what the questions and answers of self-study make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from precis.compilation.warm_start.warm_start import Read
from precis.model.conditioned import Example
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix

# Examples by which slots are scored, and how many go through the network together.
SCORED_EXAMPLES, EXAMPLES_PER_GRADIENT = 96, 8


def slot_scores(
    model: LanguageModel,
    reads: Sequence[Read],
    out_of_time: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Score slots by the attention that they get times what hangs on it: either alone chooses worse.

    Parameters
    ----------
    out_of_time
        Asked between batches; where it says yes, those so far must do.
    progress
        Called with the number of examples just taken.

    Returns
    -------
    `[layer, kv_head, slot]`, for the own slots of all that was read, comparable between heads.
    """
    scores = []
    for read in reads:
        attention, sensitivity = attention_and_sensitivity(
            model, read.prefix, read.examples, out_of_time, progress
        )
        scores.append((attention * sensitivity)[:, :, read.own] * len(read.examples))
    return torch.cat(scores, dim=2)


def attention_and_sensitivity(
    model: LanguageModel,
    document: Prefix,
    examples: Sequence[Example],
    out_of_time: Callable[[], bool],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Tensor]:
    """Measure what questions and answers make of every slot.

    Returns
    -------
    Both `[layer, kv_head, slot]`, float32, means over the examples that were taken: the squared attention
    that the slot gets; and the empirical Fisher information of its bias at 0, which is the squared gradient
    of the answers' negative log-likelihood by it, summed over batches.
    """
    bias = torch.zeros_like(document.keys[..., 0], requires_grad=True)
    attention = torch.zeros(bias.shape, dtype=torch.float32, device=bias.device)
    information = torch.zeros_like(attention)
    taken = 0
    for start in range(0, min(len(examples), SCORED_EXAMPLES), EXAMPLES_PER_GRADIENT):
        if start and out_of_time():
            break
        batch = examples[start : start + EXAMPLES_PER_GRADIENT]
        gold = torch.tensor([token for example in batch for token in example.answer], device=model.device)
        given = model.given(replace(document, bias=bias))
        logits = given.answer_logits(batch, importance=attention)
        loss = torch.nn.functional.cross_entropy(logits, gold, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, bias)
        information += gradient.float().square()
        taken += len(batch)
        progress(len(batch))
    return attention / max(1, taken), information / max(1, taken)
