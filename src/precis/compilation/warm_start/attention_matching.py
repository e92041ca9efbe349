"""`attention-matching`: the slots that `attention` keeps, with values and biases fitted to the document."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from precis.compilation.warm_start.attention import Attention
from precis.compilation.warm_start.fitting import match_attention
from precis.compilation.warm_start.warm_start import Material
from precis.model.prefix import Prefix
from precis.model.selection import Selection
from precis.model.soft_prompt import SINK


class AttentionMatching(Attention):
    """The default: the best measured at every ratio (docs/experiments.md)."""

    name = "attention-matching"

    def key_values(self, material: Material) -> Prefix:
        """Keep the best slots, and fit them."""
        return _matched(material, self.selected(material))


def _matched(material: Material, selection: Selection) -> Prefix:
    """Fit the selected slots to what was read, each to the reading that it comes from."""
    start = selection.of(material.document)
    values, biases = start.values.clone(), start.values.new_zeros(start.positions.shape)
    if start.bias is not None:
        biases.copy_(start.bias)
    shown = torch.ones_like(start.positions, dtype=torch.bool) if selection.shown is None else selection.shown
    first = 0
    for read in material.reads:
        last = first + len(read.own)
        here = shown & (selection.indices >= first) & (selection.indices < last)
        if read.examples and bool(here.any()):
            # the reading's own slots of every head, then padding
            places = (~here).int().argsort(dim=-1, stable=True)[..., : int(here.sum(-1).max())]
            local = read.own[(selection.indices.gather(2, places) - first).clamp(0, len(read.own) - 1)]
            local_shown = here.gather(2, places)
            has_sink = first == 0
            part = Selection(local, local_shown) if has_sink else _after_sink(local, local_shown)
            fitted = match_attention(material.model, read.prefix, part, read.examples, bias=material.bias)
            if not has_sink:
                fitted = _without_sink(fitted)
            _put(values, places, local_shown, fitted.values)
            if fitted.bias is not None:
                _put(biases, places, local_shown, fitted.bias)
        first = last
    return replace(start, values=values, bias=biases if material.bias else start.bias)


def _after_sink(indices: Tensor, shown: Tensor) -> Selection:
    """Put the sink, which every example sees, before a selection that has none."""
    sink = torch.arange(SINK, device=indices.device).expand(*indices.shape[:2], -1)
    return Selection(
        torch.cat([sink, indices], dim=-1),
        torch.cat([torch.ones_like(sink, dtype=torch.bool), shown], dim=-1),
    )


def _without_sink(prefix: Prefix) -> Prefix:
    keep = torch.arange(SINK, prefix.slots, device=prefix.keys.device)
    return prefix.select(keep.expand(*prefix.positions.shape[:2], -1))


def _put(target: Tensor, places: Tensor, shown: Tensor, source: Tensor) -> None:
    """Write `source` to some places `[layer, kv_head, slot]` of each head, where `shown`."""
    layer, head, slot = shown.nonzero(as_tuple=True)
    target[layer, head, places[layer, head, slot]] = source[layer, head, slot]
