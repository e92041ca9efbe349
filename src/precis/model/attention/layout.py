"""How the examples of one forward pass are laid out, and what a pass leaves behind.

Tokens travel through the network *packed*: all rows one after another in a single sequence, no padding, so
that projections, MLPs and the vocabulary matrix compute nothing in vain. A row is the tokens of one example
that this pass brings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from precis.model.attention.row_cache import RowCache
from precis.model.prefix import Prefix, PrefixStack

# Called in every layer with its number, the packed queries `[token, head, head_dim]` after the rotary
# embedding, and the factor that scores are scaled by. It may give a prefix of one layer, which that
# layer then attends to in place of the shared one.
Observer = Callable[[int, Tensor, float], Prefix | None]


@dataclass(frozen=True)
class LayerLimits:
    """How a layer limits its attention.

    Parameters
    ----------
    sliding_window
        How many tokens back a query sees, itself included; None for all.
    softcap
        The bound that scores are squashed to by tanh; None for none.
    """

    sliding_window: int | None
    softcap: float | None


@dataclass
class ReadStates:
    """What a pass that reads a text leaves behind, by layer.

    Attributes
    ----------
    states
        Keys and values, `[kv_head, token, head_dim]` each.
    limits
        How the layer limits what it sees.
    """

    states: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    limits: dict[int, LayerLimits] = field(default_factory=dict)


@dataclass
class Batch:
    """The rows of one forward pass: which packed token stands where, and what it can see.

    Parameters
    ----------
    row, column
        `[token]`, int64: the row of each packed token, and its place in that row, from 0.
    prefix
        What every row attends to, or a stack of what they do.
    count, width
        The number of rows; the largest column plus one, or more.
    own
        Keys and values of the rows' earlier tokens, while generating. None: the pass holds the
        whole rows.
    first
        The place in `own` of row 0 of this pass.
    member
        `[row]`, int64: which member of a stack each row stands after; None where `prefix` is one.
    observe
        See `Observer`; for what chooses or fits slots by the queries that will attend to them.
    importance
        `[layer, kv_head, slot]`, float32: where given, the squared attention that each slot of the
        prefix gets is added up here (the warm start chooses by it).
    reading
        Where given, the pass leaves its keys, values and limits here.
    """

    row: Tensor
    column: Tensor
    prefix: Prefix | PrefixStack
    count: int
    width: int
    own: RowCache | None = None
    first: int = 0
    member: Tensor | None = None
    observe: Observer | None = None
    importance: Tensor | None = None
    reading: ReadStates | None = None
    _hidden: dict[int | None, Tensor] = field(default_factory=dict)
    _blocks: dict[int | None, Tensor] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """How many packed tokens there are."""
        return self.row.shape[0]

    @property
    def positions(self) -> Tensor:
        """`[token]`: the position of each packed token, as the rotary embedding takes it."""
        if self.member is None:
            return self.prefix.next_position + self.column
        return self.starts[self.row, 0] + self.column

    @cached_property
    def starts(self) -> Tensor:
        """The positions of the rows' first tokens: `[row, 1]`, after one prefix `[1, 1]`."""
        if isinstance(self.prefix, PrefixStack):
            return self.prefix.next_positions[self.member].unsqueeze(1)
        return torch.full((1, 1), self.prefix.next_position, device=self.column.device)

    @cached_property
    def grid(self) -> tuple[int, Tensor]:
        """Where rows stand when those after the same member of a stack are put side by side.

        Returns
        -------
        The width of such a grid, which is the most rows of any member; and `[row]`, the place of each
        row in it, member by member.
        """
        assert self.member is not None
        order = torch.argsort(self.member, stable=True)
        counts = torch.bincount(self.member)
        first = counts.cumsum(0) - counts
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first[self.member[order]]
        width = int(counts.max())
        return width, self.member * width + rank

    @property
    def one_token_each(self) -> bool:
        """Whether every row brings just its newest token, in order (a decoding step)."""
        return self.own is not None and self.tokens == self.count

    @property
    def query_columns(self) -> Tensor:
        """`[row, query]`: the column of each query, as the attention within a row lays them out."""
        if self.one_token_each:
            return self.column.unsqueeze(1)
        return torch.arange(self.width, device=self.row.device).expand(self.count, -1)

    def sees_all(self, window: int | None) -> bool:
        """Whether a sliding window hides none of the prefix from any row."""
        return window is None or self.prefix.next_position + self.width <= window

    def block_mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """`[token, token]`: 0 where a packed token sees another, −inf where it does not."""
        if window not in self._blocks:
            apart = self.column.unsqueeze(1) - self.column
            seen = (self.row.unsqueeze(1) == self.row) & (apart >= 0)
            if window is not None:
                seen &= apart < window
            self._blocks[window] = _hiding(seen, dtype)
        return self._blocks[window]

    def hidden(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """`[row, query, key]`: 0 where a query sees a token of its own row, −inf where it does not."""
        if window not in self._hidden:
            key = torch.arange(self.width, device=self.row.device)
            query = self.query_columns.unsqueeze(-1)
            seen = key <= query
            if window is not None:
                seen &= key > query - window
            self._hidden[window] = _hiding(seen, dtype)
        return self._hidden[window]

    def unpack(self, packed: Tensor) -> Tensor:
        """`[token, …]` → `[row, query, …]`, zeros where a row has ended."""
        if self.one_token_each:
            return packed.unsqueeze(1)
        padded = packed.new_zeros(self.count, self.width, *packed.shape[1:])
        return padded.index_put((self.row, self.column), packed)

    def pack(self, padded: Tensor) -> Tensor:
        """`[row, query, …]` → `[token, …]`."""
        return padded[:, 0] if self.one_token_each else padded[self.row, self.column]


def _hiding(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Give what is added to scores: 0 where something is seen, −inf where it is not."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
