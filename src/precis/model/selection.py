"""Choosing which slots of a prefix to keep, by a score for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from precis.model.prefix import Prefix


@dataclass(frozen=True)
class Selection:
    """Some slots of a prefix, for every layer and KV head its own.

    Parameters
    ----------
    indices
        `[layer, kv_head, kept]`, int64.
    shown
        `[layer, kv_head, kept]`, bool: false where a head keeps fewer slots than the fullest one. What
        pads a head stands at its end. None: all heads keep the same number.
    """

    indices: Tensor
    shown: Tensor | None = None

    def counts(self) -> list[list[int]]:
        """Say how many slots each head keeps, `[layer][kv_head]`."""
        shown = torch.ones_like(self.indices) if self.shown is None else self.shown
        counts: list[list[int]] = shown.sum(-1).tolist()
        return counts

    def of(self, document: Prefix) -> Prefix:
        """Keep these slots of a prefix; a bias of −inf hides what pads a head."""
        selected = document.select(self.indices)
        if self.shown is None:
            return selected
        bias = torch.zeros_like(selected.keys[..., 0]) if selected.bias is None else selected.bias
        return replace(selected, bias=bias.masked_fill(~self.shown, -torch.inf))


def best_of_each_head(scores: Tensor, slots: int) -> Selection:
    """Keep, for every layer and KV head by itself, the slots with the largest scores.

    Parameters
    ----------
    scores
        `[layer, kv_head, slot]`.
    slots
        How many to keep a head; all, where there are fewer.
    """
    kept = scores.topk(min(slots, scores.shape[-1]), dim=-1).indices
    return Selection(kept.sort(dim=-1).values)


def best_of_all(scores: Tensor, slots: int, sinks: int) -> Selection:
    """Keep the slots with the largest scores of all layers and heads together.

    Some heads look at many places of a document, others hardly leave its first token. One threshold
    for all of them puts the slots where they matter, at the same number of stored slots.

    Parameters
    ----------
    scores
        `[layer, kv_head, slot]`, comparable between heads.
    slots
        How many to keep a head, on average; all, where there are fewer.
    sinks
        How many of the first slots every head keeps, whatever their scores.
    """
    slots = min(slots, scores.shape[-1])
    scores = never_left_out(scores, slice(min(sinks, slots)))
    kept = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    kept[scores.flatten().topk(slots * scores[..., 0].numel()).indices] = True
    kept = kept.view(scores.shape)
    counts = kept.sum(-1, keepdim=True)
    # a stable sort puts what is kept first, in the document's order
    order = kept.int().argsort(dim=-1, descending=True, stable=True)[..., : int(counts.max())]
    return Selection(order, torch.arange(order.shape[-1], device=scores.device) < counts)


def never_left_out(scores: Tensor, places: slice) -> Tensor:
    """Give some places the largest score there is."""
    scores = scores.clone()
    scores[..., places] = torch.inf
    return scores
