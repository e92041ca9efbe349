"""Attention matching: slots that draw the document's attention and give the document's output.

A slot stands for many tokens. Left as it is, it draws too little attention and gives only its own value.
For the queries that self-study really asks, each layer and KV head is fitted by itself, in closed form
(Zweiger et al., 2026, arXiv 2602.16284):

* biases β = log w, with w ≥ 0 by non-negative least squares, so that the slots together draw as much
  attention as the whole document does;
* values by ridge least squares, so that attention over the slots gives what attention over the document
  gives.

Layers are fitted in order, in one pass of the network over the reference examples. A layer that is fitted
takes the document's place at once: the layers above are fitted to the queries that they will see when σ
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from precis.model.attention.observation import attention_weights
from precis.model.conditioned import Example
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.model.selection import Selection
from precis.model.soft_prompt import SINK

# Tokens of the reference examples. With grouped queries that is several thousand queries a KV head, many
# times more than the slots that are fitted to them; twice as many gave no better fit.
REFERENCE_TOKENS = 2048
# How strongly the document's own values, and weights of 1, hold against the fits, relative to the mean
# squared attention of a slot: a fit to a few thousand queries must also hold for others.
RIDGE = 0.3
WEIGHT_RIDGE = 0.1
# The least weight of a slot: one that draws no attention would never learn.
LEAST_WEIGHT = 1e-2
ITERATIONS = 300


@torch.no_grad()
def match_attention(
    model: LanguageModel,
    document: Prefix,
    selection: Selection,
    examples: Sequence[Example],
    *,
    bias: bool = True,
) -> Prefix:
    """Fit slots to the document, as the queries of some examples see it.

    Parameters
    ----------
    document
        What the examples see.
    selection
        Which of its slots to keep; the first of every head is the sink.
    examples
        Questions with their answers; the first `REFERENCE_TOKENS` tokens of them are used.
    bias
        Whether slots get a bias; else values alone are fitted.

    Returns
    -------
    The selected slots with other values and biases; the sink stays as it is.
    """
    fit = _Fit(model, document, selection, _first_tokens(examples), bias)
    model.given(document).answer_logits(fit.examples, observe=fit)
    return fit.prefix()


def _first_tokens(examples: Sequence[Example]) -> list[Example]:
    chosen, tokens = [examples[0]], len(examples[0].tokens)
    for example in examples[1:]:
        tokens += len(example.tokens)
        if tokens > REFERENCE_TOKENS:
            break
        chosen.append(example)
    return chosen


class _Fit:
    """A `layout.Observer` that fits each layer when its queries come by, and puts it to use."""

    def __init__(
        self,
        model: LanguageModel,
        document: Prefix,
        selection: Selection,
        examples: list[Example],
        bias: bool,
    ) -> None:
        self.limits = model.limits
        self.document = document
        self.indices = selection.indices
        self.counts = selection.counts()
        self.slots = selection.of(document)
        self.examples = examples
        self.bias = bias
        columns = torch.cat([torch.arange(len(example.tokens)) for example in examples])
        self.positions = document.next_position + columns.to(model.device)
        self.layers: list[Prefix] = []

    def __call__(self, layer: int, query: Tensor, scaling: float) -> Prefix:
        """Fit one layer, KV head by KV head: scores over a long document take room."""
        whole, slots = self.document.layer(layer), self.slots.layer(layer)
        kv_heads = whole.keys.shape[1]
        group = query.shape[1] // kv_heads
        values, bias = slots.values.clone(), torch.zeros_like(slots.values[..., 0])
        if slots.bias is not None:
            bias.copy_(slots.bias)
        for head in range(kv_heads):
            own = query[:, head * group : (head + 1) * group]
            weights = attention_weights(own, scaling, self.positions, whole.head(head), self.limits[layer])
            # where a sliding window hides all of the document, no attention is paid to it
            weights = weights.reshape(-1, whole.slots).nan_to_num_()
            count = self.counts[layer][head]
            if count > SINK:
                kept = self.indices[layer, head, :count]
                fitted = self._fit(weights, whole.values[0, head].to(weights.dtype), kept)
                values[0, head, SINK:count], bias[0, head, SINK:count] = fitted
        layer_slots = replace(slots, values=values, bias=bias if self.bias else slots.bias)
        self.layers.append(layer_slots)
        return layer_slots

    def _fit(self, weights: Tensor, values: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Fit the slots of one head after the sink.

        Parameters
        ----------
        weights
            `[query, document slot]`: the attention that the document gets.
        values
            `[document slot, head_dim]`.
        kept
            `[slot]`: the places of the slots, the sink's first.

        Returns
        -------
        Values `[slot, head_dim]` and biases `[slot]`.
        """
        # what is solved for is in double precision; what the document gives needs no more than it came in
        output, sums = (weights @ values).double(), weights.sum(-1).double()
        drawn, own = weights[:, kept].double(), values[kept].double()
        weight = torch.ones_like(drawn[0])
        if self.bias:
            left = sums - drawn[:, :SINK].sum(-1)
            found = non_negative_least_squares(drawn[:, SINK:], left, WEIGHT_RIDGE)
            weight[SINK:] = found.clamp(min=LEAST_WEIGHT)
        attention = drawn * weight
        attention = attention / attention.sum(-1, keepdim=True).clamp(min=1e-12)
        output -= attention[:, :SINK] @ own[:SINK]
        return ridge_least_squares(attention[:, SINK:], output, own[SINK:], RIDGE), weight[SINK:].log()

    def prefix(self) -> Prefix:
        """Join the layers, padded to the same length again."""
        values, bias = self.slots.values.clone(), self.slots.bias
        if self.bias:
            bias = torch.full_like(values[..., 0], -torch.inf)
        for number, layer in enumerate(self.layers):
            values[number, :, : layer.slots] = layer.values[0]
            if self.bias and bias is not None and layer.bias is not None:
                bias[number, :, : layer.slots] = layer.bias[0]
        return replace(self.slots, values=values, bias=bias)


def non_negative_least_squares(features: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Find w ≥ 0 with the least ‖features · w − target‖² + λ ‖w − 1‖².

    By accelerated projected gradient, with restarts where it overshoots (O'Donoghue and Candès, 2012,
    arXiv 1204.3982).

    Parameters
    ----------
    features
        `[query, slot]`.
    target
        `[query]`.
    ridge
        λ, relative to the mean square length of a column.

    Returns
    -------
    `[slot]`.
    """
    gram, along = features.T @ features, features.T @ target
    penalty = (ridge * gram.diagonal().mean()).clamp(min=1e-12)
    gram.diagonal().add_(penalty)
    along = along + penalty
    # without columns of the same length the method would creep
    scale = gram.diagonal().rsqrt()
    gram, along = gram * scale * scale.unsqueeze(1), along * scale
    step = 1 / torch.linalg.matrix_norm(gram, ord=2)
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
    """Find v with the least ‖features · v − target‖² + λ ‖v − towards‖².

    Parameters
    ----------
    features
        `[query, slot]`.
    target, towards
        `[query, head_dim]` and `[slot, head_dim]`.
    ridge
        λ, relative to the mean square length of a column.

    Returns
    -------
    `[slot, head_dim]`.
    """
    gram = features.T @ features
    penalty = (ridge * gram.diagonal().mean()).clamp(min=1e-12)
    gram.diagonal().add_(penalty)
    factor = torch.linalg.cholesky(gram)
    return torch.cholesky_solve(features.T @ target + penalty * towards, factor)
