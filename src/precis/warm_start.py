"""σ₀: where training starts from, taken from the document's own keys and values.

Where σ starts is worth more than how long it is trained. `attention` keeps, for every layer and KV
head by itself, the keys that the self-study questions and answers attend to most (by squared
attention); they keep their rotation, so the next token still stands after the whole document.
"""

from __future__ import annotations

import torch
from torch import Tensor

from precis.errors import SettingsError
from precis.prefix import Prefix
from precis.soft_prompt import SINK

WARM_STARTS = ("attention", "even", "first", "random")


def chosen(name: str, importance: Tensor, slots: int) -> Tensor:
    """Choose which of the document's slots σ₀ keeps; the sink is always the first.

    Parameters
    ----------
    name
        `attention`, `even` or `first`.
    importance
        `[layer, kv_head, document slot]`: the squared attention that each slot got.
    slots
        How many to keep.

    Returns
    -------
    `[layer, kv_head, slots]`, in the document's order.

    Raises
    ------
    SettingsError
        There is no warm start of that name.
    """
    layers, kv_heads, candidates = importance.shape
    if name == "attention":
        wanted = importance.clone()
        wanted[:, :, :SINK] = float("inf")
        return wanted.topk(slots, dim=-1).indices.sort(dim=-1).values
    if name == "even":
        places = torch.linspace(0, candidates - 1, slots).round().long()
    elif name == "first":
        places = torch.arange(slots)
    else:
        raise SettingsError(f"There is no warm start '{name}'. Choose one of {', '.join(WARM_STARTS)}.")
    return places.to(importance.device).expand(layers, kv_heads, -1)


def key_value_start(name: str, document: Prefix, importance: Tensor, slots: int, seed: int) -> Prefix:
    """Make σ₀ in key-value form.

    `first` is the published recipe for trained KV prefixes: the first tokens, and the next token right
    after them. `random` draws keys and values with each head's mean and spread.
    """
    if name == "random":
        return _random(document, slots, seed)
    start = document.select(chosen(name, importance, slots))
    if name == "first":
        return Prefix(start.keys, start.values, start.positions, int(start.positions.max()) + 1)
    return start


def embedding_start(name: str, embeddings: Tensor, importance: Tensor, slots: int, seed: int) -> Tensor:
    """Make σ₀ in embedding form, `[slot, hidden]`, from the document's embeddings `[token, hidden]`.

    For `attention`, tokens are chosen by their importance over all layers and heads.
    """
    if name == "random":
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(slots, embeddings.shape[1], generator=draw).to(embeddings)
        start = embeddings.mean(0) + noise * embeddings.std(0)
        start[:SINK] = embeddings[:SINK]
        return start
    overall = importance / importance.sum(-1, keepdim=True).clamp(min=1e-9)
    return embeddings[chosen(name, overall.sum((0, 1), keepdim=True), slots)[0, 0]]


def _random(document: Prefix, slots: int, seed: int) -> Prefix:
    draw = torch.Generator().manual_seed(seed)
    start = document.select(chosen("even", document.positions, slots))

    def like(states: Tensor, kept: Tensor) -> Tensor:
        states = states.float()
        noise = torch.randn(kept.shape, generator=draw).to(states.device)
        new = states.mean(2, keepdim=True) + noise * states.std(2, keepdim=True)
        new[:, :, :SINK] = kept[:, :, :SINK]
        return new.to(kept.dtype)

    return Prefix(
        like(document.keys, start.keys),
        like(document.values, start.values),
        start.positions,
        start.next_position,
    )
