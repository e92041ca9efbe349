"""`first`: the document's first tokens, the published recipe for trained key-value prefixes.

Eyuboglu et al. (2025), "Cartridges", arXiv 2506.06266.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from precis.compilation.warm_start.warm_start import FixedPlaces, Material
from precis.model.prefix import Prefix


class First(FixedPlaces):
    """The first tokens, with the next token right after them."""

    name = "first"

    def places(self, count: int, slots: int) -> Tensor:
        """Give the first ones."""
        return torch.arange(slots)

    def key_values(self, material: Material) -> Prefix:
        """Keep them, and let what follows stand after the last of them."""
        start = super().key_values(material)
        return replace(start, next_position=int(start.positions.max()) + 1)
