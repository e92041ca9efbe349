"""Queries, and the attention that they give to keys: what slots are chosen and fitted by."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.model.attention.layout import LayerLimits
from precis.model.prefix import Prefix


class Queries:
    """An `layout.Observer` that remembers queries.

    Parameters
    ----------
    last
        How many to remember of each layer, the last ones; None for all.

    Attributes
    ----------
    states
        By layer: `[query, head, head_dim]`, after the rotary embedding.
    scaling
        By layer: the factor that scores are scaled by.
    """

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.states: dict[int, Tensor] = {}
        self.scaling: dict[int, float] = {}

    def __call__(self, layer: int, query: Tensor, scaling: float) -> None:
        """Remember the queries of one layer."""
        self.states[layer] = query if self.last is None else query[-self.last :]
        self.scaling[layer] = scaling


def attention_weights(
    query: Tensor, scaling: float, positions: Tensor, prefix: Prefix, limits: LayerLimits
) -> Tensor:
    """Give the attention that queries pay to keys, each query to those that it can see.

    Parameters
    ----------
    query
        `[query, head, head_dim]`, after the rotary embedding.
    scaling
        The factor of the scores.
    positions
        `[query]`: where the queries stand.
    prefix
        The keys of one layer; a query sees those at its own position and before.
    limits
        The layer's.

    Returns
    -------
    `[kv_head, head of the group, query, key]`, float32 or better.
    """
    keys = prefix.keys[0]
    kv_heads, _, head_dim = keys.shape
    # [kv_head, head of the group, query, head_dim]
    grouped = query.view(query.shape[0], kv_heads, -1, head_dim).permute(1, 2, 0, 3)
    scores = (grouped * scaling) @ keys.unsqueeze(1).mT
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if limits.softcap is not None:
        scores = limits.softcap * torch.tanh(scores / limits.softcap)
    if limits.sliding_window is None and bool(prefix.positions.max() <= positions.min()):
        return torch.softmax(scores, dim=-1)  # every query sees all: the usual case
    key_at, query_at = prefix.positions[0][:, None, None, :], positions[:, None]
    seen = key_at <= query_at
    if limits.sliding_window is not None:
        seen &= key_at > query_at - limits.sliding_window
    return torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1)
