"""`even`: places that are evenly spread over the document."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.compilation.warm_start.warm_start import FixedPlaces


class Even(FixedPlaces):
    """A part of everything."""

    name = "even"

    def places(self, count: int, slots: int) -> Tensor:
        """Spread places from the first to the last."""
        return torch.linspace(0, count - 1, slots).round().long()
