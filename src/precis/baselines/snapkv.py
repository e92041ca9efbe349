"""SnapKV: the keys that the last tokens attend to."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.baselines.baseline import Task
from precis.baselines.eviction import Eviction
from precis.model.attention.observation import Queries, attention_weights
from precis.model.prefix import Prefix
from precis.model.selection import never_left_out

WINDOW = 32
KERNEL = 5


class SnapKV(Eviction):
    """Keep the last tokens, and the keys that these attend to most.

    Li, Huang, Yang, Venkitesh, Locatelli, Ye, Cai, Lewis & Chen, "SnapKV: LLM Knows What You are Looking
    for Before Generation" (2024), arXiv 2404.14469. Kept: an observation window at the end of what is
    read, the mean of its attention to each key, smoothed by average pooling with kernel 5, the best keys
    of every KV head, and the window itself. The window is 32 tokens, and at most half of the slots, so
    that a small budget is not all window. As the cache must serve every question, the window is the end
    of the document and its template, not a question.
    """

    name = "snapkv"

    def scores(self, task: Task, tokens: list[int]) -> tuple[Prefix, Tensor]:
        """Score keys by the attention of the observation window."""
        window = max(1, min(WINDOW, task.slots // 2, len(tokens) - 1))
        queries = Queries(window)
        document = task.model.prefill(tokens, observe=queries)
        positions = torch.arange(len(tokens) - window, len(tokens), device=task.model.device)
        attention = torch.stack(
            [
                attention_weights(
                    queries.states[layer],
                    queries.scaling[layer],
                    positions,
                    document.layer(layer),
                    task.model.limits[layer],
                ).mean(dim=(1, 2))
                for layer in range(task.model.layers)
            ]
        )
        smooth = pooled(attention[..., :-window])
        scores = torch.cat([smooth, attention[..., -window:]], dim=-1)
        return document, never_left_out(scores, slice(-window, None))


def pooled(attention: Tensor) -> Tensor:
    """Average each key's attention with that of the two keys on each side; beyond the ends lie zeros."""
    return torch.nn.functional.avg_pool1d(attention, KERNEL, stride=1, padding=KERNEL // 2)
