"""Keys and values of what is being written, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.model.prefix import Prefix

# A row that is alone is as wide as a multiple of this.
WIDTH_STEP = 32


class RowCache:
    """Keys and values of the rows' own tokens while they are generated, in fixed buffers.

    A row that has finished gives up its place to the last one (`move`), so that the rows at work
    always stand first and no step computes a finished row.
    """

    def __init__(self, prefix: Prefix, rows: int, width: int) -> None:
        layers, kv_heads, _, head_dim = prefix.keys.shape
        shape = (layers, rows, kv_heads, width, head_dim)
        self.keys = torch.zeros(shape, dtype=prefix.keys.dtype, device=prefix.keys.device)
        self.values = torch.zeros_like(self.keys)

    def grow(self, rows: int, width: int) -> None:
        """Make room for more rows, or wider ones; what is stored stays."""
        had_rows, had_width = self.keys.shape[1], self.keys.shape[3]
        if rows <= had_rows and width <= had_width:
            return
        # by half at least, so that what comes one by one is not copied every time
        rows = had_rows if rows <= had_rows else max(rows, had_rows * 3 // 2)
        self.fit(rows, max(width, had_width))

    def places(self, rows: int, width: int) -> int:
        """How many tokens' places there would be if it grew to so many rows of such a width."""
        return max(rows, self.keys.shape[1]) * max(width, self.keys.shape[3])

    def stepped(self, width: int) -> int:
        """Round a width up to whole steps, as far as there is room.

        For a new shape a matrix kernel is made, which takes longer than to run it. So it pays for a row that
        is alone; with many, the places that nobody sees cost more.
        """
        return min(-(-width // WIDTH_STEP) * WIDTH_STEP, self.keys.shape[3])

    def fit(self, rows: int, width: int) -> None:
        """Have places for just so many rows of such a width; what is stored in them stays."""
        layers, had_rows, kv_heads, had_width, head_dim = self.keys.shape
        kept = (slice(None), slice(min(rows, had_rows)), slice(None), slice(min(width, had_width)))
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros(layers, rows, kv_heads, width, head_dim)
            new[kept] = old[kept]
            setattr(self, name, new)

    def write(
        self,
        layer: int,
        places: slice,
        row: Tensor,
        column: Tensor,
        width: int,
        key: Tensor,
        value: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Store packed keys and values; give all that these rows have so far.

        Parameters
        ----------
        places
            Which places of the cache the rows of this pass have.
        row, column
            `[token]`: the row among these, and the place in it, of each packed token.
        width
            How many of each row's places to give back.
        key, value
            `[token, kv_head, head_dim]`.

        Returns
        -------
        `[row, kv_head, width, head_dim]`, twice.
        """
        keys, values = self.keys[layer, places], self.values[layer, places]
        keys[row, :, column] = key
        values[row, :, column] = value
        return keys[:, :, :width], values[:, :, :width]

    def move(self, source: int, target: int) -> None:
        """Let a row take another's place."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]
