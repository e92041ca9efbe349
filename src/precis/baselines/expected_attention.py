"""Expected attention: what later queries, drawn from the document's, would attend to."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.baselines.baseline import Task
from precis.baselines.eviction import Eviction
from precis.model.prefix import Prefix
from precis.model.rotation import Rotation
from precis.model.selection import never_left_out

SINKS = 4
FUTURE = 512


class ExpectedAttention(Eviction):
    """Keep the keys that future queries are expected to attend to, weighed by the length of their values.

    Devoto, Jeblick & Jégou, "Expected Attention: KV Cache Compression by Estimating Attention from Future
    Queries Distribution" (2025), arXiv 2510.00636. Kept: queries before the rotary embedding are taken to
    be normally distributed, with the mean and covariance of the document's; both are rotated by the mean
    rotation to the next 512 positions. For a key k, the expectation of exp(q·k) is then
    exp(μ·k + kᵀΣk / 2); a softmax over keys, the mean over the query heads of a KV head, times the norm of
    the value. The first 4 keys are left out of the statistics and always stay.
    """

    name = "expected-attention"

    def scores(self, task: Task, tokens: list[int]) -> tuple[Prefix, Tensor]:
        """Score keys by the attention that is expected for them."""
        model = task.model
        rotation = Rotation(model)
        positions = torch.arange(len(tokens), device=model.device)
        future = torch.arange(len(tokens), len(tokens) + FUTURE, device=model.device)
        statistics: dict[int, tuple[Tensor, Tensor]] = {}

        def observe(layer: int, query: Tensor, scaling: float) -> None:
            states = rotation.undo(layer, query[SINKS:].double(), positions[SINKS:])
            mean_rotation = rotation.mean_matrix(layer, future, model.head_dim)
            statistics[layer] = rotated_statistics(states * scaling, mean_rotation)

        document = model.prefill(tokens, observe=observe)
        scores = torch.stack(
            [
                expected(document.keys[layer], document.values[layer], *statistics[layer])
                for layer in range(model.layers)
            ]
        )
        return document, never_left_out(scores, slice(0, SINKS))


def rotated_statistics(states: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Give mean `[head, head_dim]` and covariance `[head, head_dim, head_dim]` of queries, rotated.

    Parameters
    ----------
    states
        `[query, head, head_dim]`, before the rotary embedding.
    rotation
        `[head_dim, head_dim]`.
    """
    mean = states.mean(0)
    centred = (states - mean).transpose(0, 1)
    covariance = centred.mT @ centred / states.shape[0]
    return mean @ rotation.T, rotation @ covariance @ rotation.T


def expected(keys: Tensor, values: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Score the keys of a layer.

    Parameters
    ----------
    keys, values
        `[kv_head, token, head_dim]`.
    mean, covariance
        See `rotated_statistics`; scaled as attention scores are.

    Returns
    -------
    `[kv_head, token]`.
    """
    kv_heads, _, head_dim = keys.shape
    keys = keys.to(mean.dtype)
    mean = mean.view(kv_heads, -1, head_dim)
    covariance = covariance.view(kv_heads, -1, head_dim, head_dim)
    # [kv_head, head of the group, token]; sinks are set aside, or they would take all of the softmax
    first = mean @ keys.mT
    second = torch.einsum("kti,kgij,ktj->kgt", keys, covariance, keys) / 2
    logits = (first + second)[..., SINKS:]
    likely = torch.softmax(logits, dim=-1).mean(1)
    scores = likely * torch.linalg.vector_norm(values[:, SINKS:].to(mean.dtype), dim=-1)
    return torch.nn.functional.pad(scores, (SINKS, 0))
