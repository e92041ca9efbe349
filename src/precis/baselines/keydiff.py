"""KeyDiff: keys that differ from the others."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.baselines.baseline import Task
from precis.baselines.eviction import Eviction
from precis.model.prefix import Prefix


class KeyDiff(Eviction):
    """Keep the keys that are least similar to the mean of all.

    Park, Jones, Morse, Goel, Lee & Lott, "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context
    LLM Inference in Resource-Constrained Environments" (2025), arXiv 2504.15364. Kept: the score, which
    is minus the cosine between a key (rotated, as it lies in the cache) and the mean of all keys, each
    brought to length 1 before. Not kept: eviction block by block while the document is still being read.
    """

    name = "keydiff"

    def scores(self, task: Task, tokens: list[int]) -> tuple[Prefix, Tensor]:
        """Score keys by their distance in direction."""
        document = task.model.prefill(tokens)
        return document, difference(document.keys)


def difference(keys: Tensor) -> Tensor:
    """Give minus the cosine between each key and the mean direction.

    Parameters
    ----------
    keys
        `[layer, kv_head, token, head_dim]`.

    Returns
    -------
    `[layer, kv_head, token]`.
    """
    keys = keys.to(torch.promote_types(keys.dtype, torch.float32))
    anchor = torch.nn.functional.normalize(keys, dim=-1).mean(dim=2, keepdim=True)
    return -torch.nn.functional.cosine_similarity(keys, anchor, dim=-1)
