"""`random`: keys and values drawn with each head's mean and spread."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.compilation.warm_start.even import Even
from precis.compilation.warm_start.warm_start import Material, WarmStart
from precis.model.prefix import Prefix
from precis.model.soft_prompt import SINK


class Random(WarmStart):
    """Nothing of the document but how large its states are; the sink stays as it is."""

    name = "random"

    def key_values(self, material: Material) -> Prefix:
        """Draw keys and values for evenly spread positions."""
        document = material.document
        draw = torch.Generator().manual_seed(material.seed)
        start = Even().key_values(material)

        def like(states: Tensor, kept: Tensor) -> Tensor:
            states = states.float()
            noise = torch.randn(kept.shape, generator=draw).to(states.device)
            new = states.mean(2, keepdim=True) + noise * states.std(2, keepdim=True)
            new[:, :, :SINK] = kept[:, :, :SINK]
            return new.to(kept.dtype)

        keys = like(document.keys, start.keys)
        values = like(document.values, start.values)
        return Prefix(keys, values, start.positions, start.next_position)

    def embeddings(self, material: Material) -> Tensor:
        """Draw embeddings."""
        whole = material.embeddings
        assert whole is not None
        draw = torch.Generator().manual_seed(material.seed)
        noise = torch.randn(material.slots, whole.shape[1], generator=draw).to(whole)
        start = whole.mean(0) + noise * whole.std(0)
        start[:SINK] = whole[:SINK]
        return start
