"""Attention matching: slots that draw the document's attention and give the document's output.

A slot stands for many tokens. Left as it is, it draws too little attention and gives only its own value.
For the queries that self-study really asks, each layer and KV head is fitted by itself, in closed form
(Zweiger et al., 2026, arXiv 2602.16284):

* biases β = log w, with w ≥ 0 by non-negative least squares, so that the slots together draw as much
  attention as the whole document does;
* values by ridge least squares, so that attention over the slots gives what attention over the document
  gives.

Layers are fitted in order, in one pass of the network over the reference rows. A layer that is fitted
takes the document's place at once: the layers above are fitted to the queries that they will see when σ
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from precis.language_model import LanguageModel, Row
from precis.observation import attention_weights
from precis.prefix import Prefix
from precis.soft_prompt import SINK

# Tokens of the reference rows. With grouped queries that is several thousand queries a KV head, many
# times more than the slots that are fitted to them; twice as many gave no better fit.
REFERENCE_TOKENS = 2048
# How strongly the document's own values hold against the fit, relative to the mean attention of a slot.
RIDGE = 1e-2
# The least weight of a slot: one that draws no attention would never learn.
LEAST_WEIGHT = 1e-2
ITERATIONS = 300


@torch.no_grad()
def match_attention(
    model: LanguageModel,
    document: Prefix,
    slots: Prefix,
    kept: Tensor,
    rows: Sequence[Row],
    *,
    bias: bool = True,
) -> Prefix:
    """Fit slots to the document, as the queries of some rows see it.

    Parameters
    ----------
    document
        What the rows see.
    slots
        A selection of its slots, perhaps with some that a bias of −inf hides.
    kept
        `[layer, kv_head, slot]`: the places of those in `document`.
    rows
        Questions with their answers; the first `REFERENCE_TOKENS` tokens of them are used.
    bias
        Whether slots get a bias; else values alone are fitted.

    Returns
    -------
    The slots with other values and biases; the sink, their first, stays as it is.
    """
    fit = _Fit(model, document, slots, kept, _first_tokens(rows), bias)
    model.given(document).answer_logits(fit.rows, observe=fit)
    return fit.prefix()


def _first_tokens(rows: Sequence[Row]) -> list[Row]:
    chosen, tokens = [rows[0]], len(rows[0].tokens)
    for row in rows[1:]:
        tokens += len(row.tokens)
        if tokens > REFERENCE_TOKENS:
            break
        chosen.append(row)
    return chosen


class _Fit:
    """An `attention.Observer` that fits each layer when its queries come by, and puts it to use."""

    def __init__(
        self, model: LanguageModel, document: Prefix, slots: Prefix, kept: Tensor, rows: list[Row], bias: bool
    ) -> None:
        self.model = model
        self.document = document
        self.slots = slots
        self.kept = kept
        self.rows = rows
        self.bias = bias
        columns = torch.cat([torch.arange(len(row.tokens)) for row in rows])
        self.positions = document.next_position + columns.to(model.device)
        self.layers: list[tuple[Tensor, Tensor]] = []

    def __call__(self, layer: int, query: Tensor, scaling: float) -> Prefix:
        """Fit one layer, KV head by KV head: scores over a long document take room."""
        whole, slots = self.document.layer(layer), self.slots.layer(layer)
        limits = self.model.limits[layer]
        group = query.shape[1] // whole.keys.shape[1]
        fitted = []
        for head in range(whole.keys.shape[1]):
            own = query[:, head * group : (head + 1) * group]
            weights = attention_weights(own, scaling, self.positions, whole.head(head), limits)
            weights = weights.reshape(-1, whole.slots).nan_to_num()  # a window may hide all of it
            fitted.append(self._fit(weights, layer, head, slots.head(head), whole.values[0, head]))
        width = self.slots.slots - slots.slots
        values = torch.stack([value for value, _ in fitted]).to(slots.values.dtype)
        biases = torch.stack([bias for _, bias in fitted]).to(slots.values.dtype)
        self.layers.append(
            (
                torch.nn.functional.pad(values, (0, 0, 0, width)),
                torch.nn.functional.pad(biases, (0, width), value=-torch.inf),
            )
        )
        return replace(slots, values=values.unsqueeze(0), bias=biases.unsqueeze(0))

    def _fit(
        self, weights: Tensor, layer: int, head: int, slots: Prefix, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fit one head to `weights` `[query, document slot]` and the document's `values`."""
        target = (weights @ values.to(weights.dtype)).double()
        shown = torch.ones(slots.slots, dtype=torch.bool, device=weights.device)
        if slots.bias is not None:
            shown = slots.bias[0, 0] > -torch.inf
        drawn = weights[:, self.kept[layer, head, : slots.slots]].double() * shown
        weight = shown.double()
        if self.bias:
            rest = weights.sum(-1).double() - drawn[:, :SINK].sum(-1)
            found = non_negative_least_squares(drawn[:, SINK:], rest)
            weight[SINK:] *= found.clamp(min=LEAST_WEIGHT)
        attention = drawn * weight
        attention = attention / attention.sum(-1, keepdim=True).clamp(min=1e-12)
        own = slots.values[0, 0].double()
        rest = target - attention[:, :SINK] @ own[:SINK]
        fitted = ridge_least_squares(attention[:, SINK:], rest, own[SINK:], RIDGE)
        return torch.cat([own[:SINK], fitted]), weight.log()

    def prefix(self) -> Prefix:
        """Join the layers."""
        values = torch.stack([values for values, _ in self.layers])
        biases = torch.stack([biases for _, biases in self.layers])
        return replace(self.slots, values=values, bias=biases if self.bias else self.slots.bias)


def non_negative_least_squares(features: Tensor, target: Tensor) -> Tensor:
    """Argmin over w ≥ 0 of ‖features · w − target‖², by accelerated projected gradient with restarts.

    Columns are brought to the same length first, without which the method would creep (O'Donoghue and
    Candès, 2012, arXiv 1204.3982, on the restarts).

    Parameters
    ----------
    features
        `[query, slot]`.
    target
        `[query]`.
    """
    gram, along = features.T @ features, features.T @ target
    scale = gram.diagonal().clamp(min=1e-24).rsqrt()
    scale = torch.where(gram.diagonal() > 1e-24, scale, torch.zeros_like(scale))
    gram, along = gram * scale * scale.unsqueeze(1), along * scale
    step = 1 / torch.linalg.matrix_norm(gram, ord=2).clamp(min=1e-12) if len(along) else 1.0
    weight = ahead = torch.zeros_like(along)
    momentum = 1.0
    for _ in range(ITERATIONS):
        new = (ahead - step * (gram @ ahead - along)).clamp(min=0)
        if torch.dot(ahead - new, new - weight) > 0:
            momentum = 1.0
        later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / later * (new - weight)
        weight, momentum = new, later
    return weight * scale


def ridge_least_squares(features: Tensor, target: Tensor, towards: Tensor, ridge: float) -> Tensor:
    """Argmin over v of ‖features · v − target‖² + λ ‖v − towards‖², λ being `ridge` times the mean square.

    Parameters
    ----------
    features
        `[query, slot]`.
    target, towards
        `[query, head_dim]` and `[slot, head_dim]`.
    """
    gram = features.T @ features
    penalty = (ridge * gram.diagonal().mean()).clamp(min=1e-12)
    gram = gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram)
    return torch.cholesky_solve(features.T @ target + penalty * towards, factor)
