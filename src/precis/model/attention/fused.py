"""Attention to a shared prefix and within rows by PyTorch's fused kernels, which never write scores down.

A softmax over two sets of keys is two softmaxes, each weighted by its share of the sum of exponentials (Dao
et al., 2022, arXiv 2205.14135). So rows attend to the prefix in one call, to themselves in another, and the
two outputs are joined. Backward, each call is given the joined output and the joined sum, which is all that
a kernel knows of keys that it does not see: its gradients are then those of the whole (Liu et al., 2023,
arXiv 2310.01889, attend over several devices so).

The kernels take no bias for each key. It travels in the keys: where every query has a further component 1,
and a key the further component b, their product gains b. In half precision b is the sum of two components,
since one would round it to 8 bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Components of queries and keys come in multiples of this, up to the largest.
STEP, MOST_COMPONENTS = 8, 256
BIAS_COMPONENTS = 2
# PyTorch's kernels have no public name that gives the sum of exponentials, too. Where a version has none of
# these names, plain products do the work.
OPERATIONS = {
    "cpu": "_scaled_dot_product_flash_attention_for_cpu",
    "cuda": "_scaled_dot_product_flash_attention",
}


class Attended(NamedTuple):
    """The output, the logarithm of the sum of exponentials, and what the kernel's gradient needs."""

    out: Tensor
    total: Tensor
    more: tuple[Any, ...] = ()


def has_kernel(device: torch.device) -> bool:
    """Whether this version of PyTorch has a kernel for such a device, and its gradient."""
    name = OPERATIONS.get(device.type)
    return name is not None and all(hasattr(torch.ops.aten, each) for each in (name, f"{name}_backward"))


def runs_on(states: Tensor) -> bool:
    """Whether graphics cards have a kernel for states of such a device, precision and head size."""
    return (
        states.device.type == "cuda"
        and has_kernel(states.device)
        and states.dtype in (torch.bfloat16, torch.float16)
        and states.shape[-1] + BIAS_COMPONENTS <= MOST_COMPONENTS
    )


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float, *, causal: bool = False) -> Attended:
    """Attend; all states `[batch, head, token, head_dim]`, the sum `[batch, head, token]`."""
    if query.device.type == "cuda":
        out, total, *more = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scaling
        )
        return Attended(out, total, tuple(more))
    out, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, scale=scaling
    )
    return Attended(out, total)


def gradients(
    by_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attended: Attended,
    scaling: float,
    *,
    causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of `attend` by query, key and value, where output and sum may count further keys."""
    states = (by_out, query, key, value, attended.out, attended.total)
    by: tuple[Tensor, Tensor, Tensor]
    if query.device.type == "cuda":
        *bounds, seed, offset, _ = attended.more
        by = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            *states, *bounds, 0.0, causal, seed, offset, scale=scaling
        )
    else:
        by = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *states, 0.0, causal, scale=scaling
        )
    return by


class FusedAttention(torch.autograd.Function):
    """Attention of packed rows to a prefix and, causally, each to itself."""

    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor,
        prefix_value: Tensor,
        bias: Tensor | None,
        row: Tensor,
        column: Tensor,
        grid: tuple[int, int],
        scaling: float,
    ) -> Tensor:
        """Give the output `[head, token, head_dim]`.

        Parameters
        ----------
        query
            `[head, token, head_dim]`, packed.
        key, value
            `[kv_head, token, head_dim]`.
        prefix_key, prefix_value
            `[kv_head, slot, head_dim]`.
        bias
            `[kv_head, slot]`, or None; added to the scores.
        row, column
            `[token]`: where each token stands in the grid of rows.
        grid
            The number of rows, and their width.
        scaling
            What scores are multiplied by.
        """
        head_dim = key.shape[-1]
        states = _Parts(query, key, value, prefix_key, prefix_value, bias, row, column, grid, scaling)
        before = attend(*states.to_prefix(), scaling)
        within = attend(*states.within_rows(), scaling, causal=True)
        # [head, token], and the same of the output
        before_total = before.total.reshape(query.shape[:2])
        within_total = states.packed(within.total.reshape(grid[0], -1, grid[1]))
        before_out = before.out.reshape(*query.shape[:2], -1)[..., :head_dim]
        within_out = states.packed(within.out)[..., :head_dim]
        share = torch.sigmoid(before_total - within_total).unsqueeze(-1).to(query.dtype)
        out = share * before_out + (1 - share) * within_out
        total = torch.logaddexp(before_total, within_total)
        context.save_for_backward(query, key, value, prefix_key, prefix_value, bias, row, column, out, total)
        context.grid, context.scaling = grid, scaling
        context.more = before.more, within.more
        return out

    @staticmethod
    def backward(context: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        """Follow the chain rule back, part by part."""
        query, key, value, prefix_key, prefix_value, bias, row, column, out, total = context.saved_tensors
        scaling, grid = context.scaling, context.grid
        kv_heads, _, head_dim = key.shape
        states = _Parts(query, key, value, prefix_key, prefix_value, bias, row, column, grid, scaling)
        by_out = by[0].contiguous()
        wide, by_wide = states.widened(out), states.widened(by_out)
        grouped = (1, kv_heads, -1, wide.shape[-1])
        by_query, by_prefix_key, by_prefix_value = gradients(
            by_wide.reshape(grouped),
            *states.to_prefix(),
            Attended(wide.reshape(grouped), total.reshape(1, kv_heads, -1), context.more[0]),
            scaling,
        )
        by_own_query, by_key, by_value = gradients(
            states.laid_out(by_wide),
            *states.within_rows(),
            Attended(states.laid_out(wide), states.laid_out(total), context.more[1]),
            scaling,
            causal=True,
        )
        by_query = by_query.reshape(*query.shape[:2], -1) + states.packed(by_own_query)
        by_bias = None
        if bias is not None:
            # the two components of a bias have the same gradient
            by_bias = (by_prefix_key[0, ..., head_dim] / scaling).to(bias.dtype)
        return (
            by_query[..., :head_dim],
            states.of_group(states.packed(by_key))[..., :head_dim],
            states.of_group(states.packed(by_value))[..., :head_dim],
            by_prefix_key[0, ..., :head_dim],
            by_prefix_value[0, ..., :head_dim],
            by_bias,
            None,
            None,
            None,
            None,
        )


class _Parts(NamedTuple):
    """The states of both calls, laid out as the kernel takes them."""

    query: Tensor
    key: Tensor
    value: Tensor
    prefix_key: Tensor
    prefix_value: Tensor
    bias: Tensor | None
    row: Tensor
    column: Tensor
    grid: tuple[int, int]
    scaling: float

    def to_prefix(self) -> tuple[Tensor, Tensor, Tensor]:
        """`[1, kv_head, head of the group · token, component]`, and `[1, kv_head, slot, component]` twice."""
        query, key = self.query, self.prefix_key
        if self.bias is not None:
            bias = self.bias.to(torch.promote_types(self.bias.dtype, torch.float32)) / self.scaling
            high = bias.to(key.dtype)
            low = (bias - high).to(key.dtype)
            key = torch.cat([key, torch.stack([high, low], dim=-1)], dim=-1)
            query = pad(query, (0, BIAS_COMPONENTS), value=1.0)
        kv_heads = key.shape[0]
        return (
            self.widened(query).reshape(1, kv_heads, -1, self.components),
            self.widened(key).unsqueeze(0),
            self.widened(self.prefix_value).unsqueeze(0),
        )

    def within_rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """`[row, head, column, component]`, three times."""
        group = self.query.shape[0] // self.key.shape[0]
        key, value = (self.widened(each).repeat_interleave(group, dim=0) for each in (self.key, self.value))
        return self.laid_out(self.widened(self.query)), self.laid_out(key), self.laid_out(value)

    @property
    def components(self) -> int:
        """How many the kernel gets, of which the last may be 0."""
        needed = self.query.shape[-1] + (BIAS_COMPONENTS if self.bias is not None else 0)
        return -(-needed // STEP) * STEP

    def widened(self, states: Tensor) -> Tensor:
        """Fill up the last dimension with zeros."""
        missing = self.components - states.shape[-1]
        return pad(states, (0, missing)) if missing else states

    def laid_out(self, packed: Tensor) -> Tensor:
        """`[head, token, …]` → `[row, head, column, …]`, zeros where a row has ended."""
        rows, width = self.grid
        heads = packed.shape[0]
        laid = packed.new_zeros(rows, width, heads, *packed.shape[2:])
        laid[self.row, self.column] = packed.transpose(0, 1)
        return laid.transpose(1, 2)

    def packed(self, laid: Tensor) -> Tensor:
        """`[row, head, column, …]` → `[head, token, …]`."""
        return laid.transpose(1, 2)[self.row, self.column].transpose(0, 1)

    def of_group(self, states: Tensor) -> Tensor:
        """`[head, …]` → `[kv_head, …]`: what all heads of a group add to their common keys."""
        return states.reshape(self.key.shape[0], -1, *states.shape[1:]).sum(1)
