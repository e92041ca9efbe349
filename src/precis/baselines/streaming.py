"""StreamingLLM: attention sinks and the most recent tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.baselines.baseline import Task
from precis.baselines.eviction import Eviction
from precis.model.prefix import Prefix
from precis.model.selection import never_left_out

SINKS = 4


class Streaming(Eviction):
    """Keep the first 4 keys and the most recent ones.

    Xiao, Tian, Chen, Han & Lewis, "Efficient Streaming Language Models with Attention Sinks" (2023),
    arXiv 2309.17453. Kept: which keys stay. Not kept: there the keys are rotated anew to the places that
    they have in the cache, since the stream has no end; here they keep their rotation, as those of every
    method do.
    """

    name = "streaming"

    def scores(self, task: Task, tokens: list[int]) -> tuple[Prefix, Tensor]:
        """Score keys by how late they stand, the sinks above all."""
        document = task.model.prefill(tokens)
        place = torch.arange(len(tokens), dtype=torch.float32, device=task.model.device)
        scores = never_left_out(place.expand(document.positions.shape), slice(0, SINKS))
        return document, scores
