"""`Prefix`: what a frozen model can be conditioned on.

A document's KV cache and a trained soft prompt are the same type. Whatever stands before a question
(the whole document, σ, a baseline's selection of tokens, nothing) is one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from precis.errors import ArtifactError


@dataclass(frozen=True)
class Prefix:
    """Keys and values, one set a layer, that every row of a batch attends to.

    Parameters
    ----------
    keys, values
        `[layer, kv_head, slot, head_dim]`; keys as they are after the rotary embedding.
    positions
        `[layer, kv_head, slot]`, int64: the position each key was rotated to. Layers with a sliding
        window need it to know which slots a query still sees.
    next_position
        The position of the first token after the prefix. It differs from the number of slots where
        slots were selected from a longer document.
    bias
        `[layer, kv_head, slot]`, optional: β, added to the attention scores of a slot. A slot that
        stands for many tokens needs it to draw as much attention as they did. Where heads hold different
        numbers of slots, a bias of −inf hides what pads them to the same length.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    next_position: int
    bias: Tensor | None = None

    @classmethod
    def empty(
        cls, layers: int, kv_heads: int, head_dim: int, *, dtype: torch.dtype, device: torch.device
    ) -> Prefix:
        """Give the prefix of no token: the model then stands before an empty context."""
        nothing = torch.empty(layers, kv_heads, 0, head_dim, dtype=dtype, device=device)
        positions = torch.empty(layers, kv_heads, 0, dtype=torch.int64, device=device)
        return cls(nothing, nothing, positions, 0)

    @property
    def slots(self) -> int:
        """How many keys each head holds."""
        return self.keys.shape[2]

    @property
    def shown(self) -> int:
        """How many slots all layers and heads hold together, without those that a bias of −inf hides.

        Heads that keep different numbers of slots are padded to the same length with hidden ones.
        """
        return self.positions.numel() if self.bias is None else int(self._visible.sum())

    @property
    def slots_per_head(self) -> int:
        """How many slots a head holds on average, without hidden ones."""
        heads = self.positions.shape[0] * self.positions.shape[1]
        return round(self.shown / max(1, heads))

    @property
    def nbytes(self) -> int:
        """Bytes that keys, values and bias take, without those of hidden slots."""
        bias = 0 if self.bias is None else self.bias.nbytes
        whole = self.keys.nbytes + self.values.nbytes + bias
        return round(whole * self.shown / max(1, self.positions.numel()))

    @cached_property
    def _visible(self) -> Tensor:
        assert self.bias is not None
        return self.bias.detach() > -torch.inf

    @cached_property
    def layer_widths(self) -> list[int]:
        """By layer: how many slots there are up to the last one that a head shows."""
        if self.bias is None:
            return [self.slots] * self.keys.shape[0]
        places = torch.arange(1, self.slots + 1, device=self.bias.device)
        widths: list[int] = (self._visible.any(1) * places).amax(-1).tolist() if self.slots else []
        return widths or [0] * self.keys.shape[0]

    def layer(self, number: int) -> Prefix:
        """Give the prefix of one layer, without slots that are hidden at the end of all its heads."""
        return self._layers[number] if len(self.keys) else self

    @cached_property
    def _layers(self) -> list[Prefix]:
        """Cut into layers once: decoding asks for every layer at every token, training for its gradient."""
        parts = [self.keys, self.values, self.positions, *([] if self.bias is None else [self.bias])]
        layers = []
        for width, keys, values, positions, *bias in zip(
            self.layer_widths, *(part.unbind(0) for part in parts), strict=True
        ):
            place = (None, slice(None), slice(width))
            layers.append(
                Prefix(
                    keys[place],
                    values[place],
                    positions[place],
                    self.next_position,
                    bias[0][place] if bias else None,
                )
            )
        return layers

    def head(self, number: int) -> Prefix:
        """Give the prefix of one KV head in all layers."""
        return self._part(slice(None), slice(number, number + 1), slice(None))

    def _part(self, *place: slice) -> Prefix:
        """Give some layers, KV heads and slots."""
        return replace(
            self,
            keys=self.keys[place],
            values=self.values[place],
            positions=self.positions[place],
            bias=None if self.bias is None else self.bias[place],
        )

    def followed_by(self, other: Prefix) -> Prefix:
        """Append a prefix that was computed with this one before it."""
        bias = None
        if self.bias is not None or other.bias is not None:
            bias = torch.cat([_bias_or_zeros(self), _bias_or_zeros(other)], dim=2)
        return Prefix(
            torch.cat([self.keys, other.keys], dim=2),
            torch.cat([self.values, other.values], dim=2),
            torch.cat([self.positions, other.positions], dim=2),
            other.next_position,
            bias,
        )

    def select(self, indices: Tensor) -> Prefix:
        """Keep some slots, chosen for every head by itself.

        Parameters
        ----------
        indices
            `[layer, kv_head, kept]`, int64.
        """
        indices = indices.to(self.keys.device)
        wide = indices.unsqueeze(-1).expand(-1, -1, -1, self.keys.shape[-1])
        return replace(
            self,
            keys=self.keys.gather(2, wide),
            values=self.values.gather(2, wide),
            positions=self.positions.gather(2, indices),
            bias=None if self.bias is None else self.bias.gather(2, indices),
        )

    def to_cache(self) -> Any:
        """Give the same keys and values as a `DynamicCache` of transformers.

        Keys stay as they are rotated: give what follows `position_ids` from `next_position` on. For
        `generate`, which counts positions by the cache's length, export an artifact instead.

        Raises
        ------
        ArtifactError
            Slots have a bias, which such a cache cannot carry.
        """
        from transformers import DynamicCache

        if self.bias is not None:
            raise ArtifactError(
                "This prefix has slot biases, which a cache of transformers cannot carry. Compile the "
                "document again without biases."
            )
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(keys.unsqueeze(0), values.unsqueeze(0), layer)
        return cache

    @classmethod
    def from_cache(cls, cache: Any) -> Prefix:
        """Take the keys and values of one sequence, read from position 0 on, from a cache of transformers.

        Raises
        ------
        ArtifactError
            The cache holds several sequences, or layers that have dropped tokens.
        """
        keys = [layer.keys for layer in cache.layers]
        values = [layer.values for layer in cache.layers]
        length = cache.get_seq_length()
        shapes = {tuple(states.shape[::2]) for states in (*keys, *values)}
        if {states.shape[0] for states in keys} != {1} or {states.shape[2] for states in keys} != {length}:
            raise ArtifactError(
                f"A prefix is one sequence with all of its tokens in every layer, but this cache of {length} "
                f"tokens has layers of the shapes {sorted(shapes)} ([sequence, token])."
            )
        stacked = torch.cat(keys)
        positions = torch.arange(length, device=stacked.device).expand(stacked.shape[:3])
        return cls(stacked, torch.cat(values), positions, length)

    def packed(self) -> dict[str, Tensor]:
        """Give what there is to store, without hidden slots.

        Returns
        -------
        `counts` `[layer, kv_head]`, int32; and of all layers' and heads' slots, one after another, `keys`
        and `values` `[stored, head_dim]`, `positions` `[stored]`, int32, and, where there is one, `bias`
        `[stored]`.
        """
        shown = torch.ones_like(self.positions, dtype=torch.bool) if self.bias is None else self._visible
        packed = {
            "counts": shown.sum(-1, dtype=torch.int32),
            "keys": self.keys[shown],
            "values": self.values[shown],
            "positions": self.positions[shown].int(),
        }
        return packed if self.bias is None else {**packed, "bias": self.bias[shown]}

    @classmethod
    def unpacked(cls, packed: dict[str, Tensor], next_position: int) -> Prefix:
        """Undo `packed`: heads that hold fewer slots are padded with hidden ones."""
        counts = packed["counts"].long()
        shown = torch.arange(int(counts.max()), device=counts.device) < counts.unsqueeze(-1)

        def padded(name: str, fill: float) -> Tensor:
            stored = packed[name]
            whole = stored.new_full((*shown.shape, *stored.shape[1:]), fill)
            whole[shown] = stored
            return whole

        bias = padded("bias", -torch.inf) if "bias" in packed else None
        return cls(padded("keys", 0), padded("values", 0), padded("positions", 0).long(), next_position, bias)

    def to(self, device: torch.device, dtype: torch.dtype) -> Prefix:
        """Move to a device and a floating-point type; differentiable."""
        return replace(
            self,
            keys=self.keys.to(device, dtype),
            values=self.values.to(device, dtype),
            positions=self.positions.to(device),
            bias=None if self.bias is None else self.bias.to(device, dtype),
        )


class PrefixStack:
    """Several prefixes side by side, so that rows which stand after different ones share a pass.

    All are padded to the most slots of any, with slots that a bias of −inf hides.

    Parameters
    ----------
    prefixes
        Of the same model; one at least.

    Attributes
    ----------
    next_positions
        `[member]`, int64.
    next_position
        The largest of them.
    slots
        The most slots of any member.
    """

    def __init__(self, prefixes: Sequence[Prefix]) -> None:
        self.slots = max(prefix.slots for prefix in prefixes)
        self.next_position = max(prefix.next_position for prefix in prefixes)
        device = prefixes[0].keys.device
        self.next_positions = torch.tensor([prefix.next_position for prefix in prefixes], device=device)
        alike = all(prefix.slots == self.slots and prefix.bias is None for prefix in prefixes)
        # [layer, member, kv_head, slot, …]
        self._keys = self._stacked([prefix.keys for prefix in prefixes], 0)
        self._values = self._stacked([prefix.values for prefix in prefixes], 0)
        self._positions = self._stacked([prefix.positions for prefix in prefixes], 0)
        self._bias = (
            None if alike else self._stacked([_bias_or_zeros(prefix) for prefix in prefixes], -torch.inf)
        )
        widths = [prefix.layer_widths for prefix in prefixes]
        self._widths = [max(layer) for layer in zip(*widths, strict=True)]

    def _stacked(self, parts: Sequence[Tensor], fill: float) -> Tensor:
        first = parts[0]
        layers, kv_heads = first.shape[:2]
        whole = first.new_full((layers, len(parts), kv_heads, self.slots, *first.shape[3:]), fill)
        for member, part in enumerate(parts):
            whole[:, member, :, : part.shape[2]] = part
        return whole

    def layer(self, number: int) -> Prefix:
        """Give one layer of all members, the member in the layer's place: `[member, kv_head, slot, …]`."""
        place = (number, slice(None), slice(None), slice(self._widths[number]))
        return Prefix(
            self._keys[place],
            self._values[place],
            self._positions[place],
            self.next_position,
            None if self._bias is None else self._bias[place],
        )


def _bias_or_zeros(prefix: Prefix) -> Tensor:
    if prefix.bias is not None:
        return prefix.bias
    return torch.zeros(prefix.positions.shape, dtype=prefix.keys.dtype, device=prefix.keys.device)
