"""Choosing which slots of a prefix to keep, by a score for each."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from precis.prefix import Prefix


def best_of_each_head(document: Prefix, scores: Tensor, slots: int) -> Prefix:
    """Keep, for every layer and KV head by itself, the slots with the largest scores.

    Parameters
    ----------
    scores
        `[layer, kv_head, slot]`.
    slots
        How many to keep a head.

    Returns
    -------
    A prefix of `slots` slots, in the document's order.
    """
    kept = scores.topk(min(slots, document.slots), dim=-1).indices
    return document.select(kept.sort(dim=-1).values)


def best_of_all(document: Prefix, scores: Tensor, slots: int, sinks: int) -> Prefix:
    """Keep the slots with the largest scores of all layers and heads together.

    Some heads look at many places of a document, others hardly leave its first token. One threshold
    for all of them puts the slots where they matter, at the same number of stored slots.

    Parameters
    ----------
    scores
        `[layer, kv_head, slot]`, comparable between heads.
    slots
        How many to keep a head, on average.
    sinks
        How many of the first slots every head keeps, whatever their scores.

    Returns
    -------
    A prefix as long as the fullest head needs it, in the document's order; a bias of −inf hides what pads
    the others.
    """
    slots = min(slots, document.slots)
    scores = scores.clone()
    scores[..., : min(sinks, slots)] = torch.inf
    kept = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    kept[scores.flatten().topk(slots * scores[..., 0].numel()).indices] = True
    kept = kept.view(scores.shape)
    counts = kept.sum(-1, keepdim=True)
    # a stable sort puts what is kept first, in the document's order
    order = kept.int().argsort(dim=-1, descending=True, stable=True)[..., : int(counts.max())]
    shown = torch.arange(order.shape[-1], device=scores.device) < counts
    selected = document.select(order)
    bias = torch.zeros(order.shape, dtype=selected.keys.dtype, device=scores.device)
    return replace(selected, bias=bias.masked_fill(~shown, -torch.inf))
