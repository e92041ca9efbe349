"""Ways to compute one layer's attention, all with the same result; `dispatch` says which does when.

Only the small attention within a row is padded, and only where rows are computed one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from precis.model.attention import fused
from precis.model.attention.layout import Batch
from precis.model.prefix import Prefix

# Queries of a document that attend together, where it is read by blocks.
BLOCK = 256


@dataclass(frozen=True)
class LayerCall:
    """What one layer's attention is asked.

    Parameters
    ----------
    layer
        Its number.
    prefix
        What its rows attend to before themselves: of this layer alone.
    query, key, value
        `[head, token, head_dim]`, `[kv_head, token, head_dim]` twice; packed.
    batch
        Where the tokens stand.
    scaling
        The factor of the scores.
    window, softcap
        See `LayerLimits`.
    """

    layer: int
    prefix: Prefix
    query: Tensor
    key: Tensor
    value: Tensor
    batch: Batch
    scaling: float
    window: int | None = None
    softcap: float | None = None


# --- a document, with nothing before it ---


def causal(call: LayerCall) -> Tensor:
    """Plain causal attention of one row: how a document is read. Gives `[token, head, head_dim]`."""
    query, key, value, window = call.query, call.key, call.value, call.window
    length = query.shape[1]
    by_blocks = query.device.type == "cpu" and query.dtype == torch.bfloat16 and not torch.is_grad_enabled()
    if window is None and by_blocks and length > BLOCK:
        return causal_by_blocks(query, key, value, call.scaling)
    mask = None
    if window is not None and length > window:
        place = torch.arange(length, device=query.device)
        mask = (place[None] <= place[:, None]) & (place[None] > place[:, None] - window)
    out = nn.functional.scaled_dot_product_attention(
        query.unsqueeze(0),
        key.unsqueeze(0),
        value.unsqueeze(0),
        attn_mask=mask,
        is_causal=mask is None,
        scale=call.scaling,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)


def causal_by_blocks(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Attend, one block of queries after another, to all that stands before it and, causally, to itself.

    On processors with bfloat16 arithmetic plain products run at several times the rate of PyTorch's fused
    kernel; by blocks, hidden scores are not computed and the others need little memory.
    """
    kv_heads, length, head_dim = key.shape
    grouped = (query * scaling).view(kv_heads, -1, length, head_dim)
    out = torch.empty_like(grouped)
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        block = grouped[:, :, start:end].reshape(kv_heads, -1, head_dim)
        scores = torch.bmm(block, key[:, :end].mT)
        own = scores.view(kv_heads, -1, end - start, end)[..., start:]
        own.masked_fill_(torch.ones_like(own[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        out[:, :, start:end] = torch.bmm(weights, value[:, :end]).view(kv_heads, -1, end - start, head_dim)
    return out.reshape(query.shape).transpose(0, 1)


# --- all packed tokens at once ---


def fused_whole(call: LayerCall) -> Tensor:
    """Let fused kernels do all of it, forward and backward. Gives `[token, head, head_dim]`."""
    prefix, batch = call.prefix, call.batch
    out: Tensor = fused.FusedAttention.apply(  # type: ignore[no-untyped-call]
        call.query,
        call.key,
        call.value,
        prefix.keys[0],
        prefix.values[0],
        None if prefix.bias is None else prefix.bias[0],
        batch.row,
        batch.column,
        (batch.count, batch.width),
        call.scaling,
    )
    return out.transpose(0, 1)


def packed(call: LayerCall) -> Tensor:
    """Attend without unpacking: the rows' own tokens are further keys, hidden from other rows by a mask.

    Gives `[token, head, head_dim]`.
    """
    prefix, batch = call.prefix, call.batch
    kv_heads, tokens, head_dim = call.key.shape
    out, weights = _PackedAttention.apply(  # type: ignore[no-untyped-call]
        call.query.reshape(kv_heads, -1, head_dim),
        call.key,
        call.value,
        prefix.keys[0],
        prefix.values[0],
        None if prefix.bias is None else prefix.bias[0],
        batch.block_mask(call.window, call.query.dtype),
        call.scaling,
    )
    if batch.importance is not None:
        dtype = torch.promote_types(weights.dtype, torch.float32)
        paid = weights[..., : prefix.slots]
        batch.importance[call.layer] += torch.linalg.vector_norm(paid, dim=1, dtype=dtype).square()
    heads: Tensor = out.view(call.query.shape[0], tokens, head_dim)
    return heads.transpose(0, 1)


class _PackedAttention(torch.autograd.Function):
    """Attention of packed tokens to a prefix and to each other, with a gradient in as few steps as it takes.

    A training step is many small operations, of which each costs more to begin than to do.
    """

    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor,
        prefix_value: Tensor,
        bias: Tensor | None,
        mask: Tensor,
        scaling: float,
    ) -> tuple[Tensor, Tensor]:
        """Give the output, and the weights.

        Parameters
        ----------
        query
            `[kv_head, head of the group · token, head_dim]`.
        key, value
            `[kv_head, token, head_dim]`.
        prefix_key, prefix_value
            `[kv_head, slot, head_dim]`.
        bias
            `[kv_head, slot]`, or None.
        mask
            `[token, token]`; added to the scores.

        Returns
        -------
        `[kv_head, head of the group · token, head_dim]`, and, not differentiable,
        `[kv_head, head of the group · token, slot + token]`.
        """
        tokens, slots = key.shape[1], prefix_key.shape[1]
        keys, values = torch.cat([prefix_key, key], dim=1), torch.cat([prefix_value, value], dim=1)
        scores = torch.bmm(query, keys.mT).mul_(scaling)
        if bias is not None:
            scores[..., :slots].add_(bias.unsqueeze(1))
        scores.view(key.shape[0], -1, tokens, slots + tokens)[..., slots:].add_(mask)
        weights = torch.softmax(scores, dim=-1)
        context.save_for_backward(query, keys, values, weights)
        context.slots, context.scaling = slots, scaling
        context.mark_non_differentiable(weights)
        return torch.bmm(weights, values), weights

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Follow the chain rule back."""
        query, keys, values, weights = context.saved_tensors
        slots, needed = context.slots, context.needs_input_grad
        out = gradients[0].contiguous()
        by_score = _softmax_backward(torch.bmm(out, values.mT), weights)
        # the keys and values of a document have no gradient: then those of the rows alone are computed
        first = 0 if needed[3] or needed[4] else slots
        by_key = torch.bmm(by_score[..., first:].mT, query).mul_(context.scaling)
        by_value = torch.bmm(weights[..., first:].mT, out)
        by_bias = by_score[..., :slots].sum(1) if needed[5] else None
        by_query = torch.bmm(by_score, keys).mul_(context.scaling)
        own = slots - first
        return (
            by_query,
            by_key[:, own:],
            by_value[:, own:],
            by_key[:, :own] if own else None,
            by_value[:, :own] if own else None,
            by_bias,
            None,
            None,
        )


def _softmax_backward_plainly(gradient: Tensor, weights: Tensor) -> Tensor:
    return weights * (gradient - (weights * gradient).sum(-1, keepdim=True))


def _softmax_backward(gradient: Tensor, weights: Tensor) -> Tensor:
    """Give the gradient by the scores of a softmax from that by its weights.

    PyTorch's own kernel does it in one pass, but has no public name.
    """
    kernel = getattr(torch, "_softmax_backward_data", None)
    if kernel is None:
        return _softmax_backward_plainly(gradient, weights)
    found: Tensor = kernel(gradient, weights, -1, weights.dtype)
    return found


# --- row by row: what is being written, stacks, windows and bounds on scores ---


# Attends to the prefix and to the rows' own keys by one softmax: from the call, the rows' scaled queries
# `[kv_head, row, query of the group, head_dim]`, the scores of their own keys
# `[kv_head, row, query of the group, key]`, and their values `[kv_head, row, key, head_dim]`.
_Merge = Callable[[LayerCall, Tensor, Tensor, Tensor], Tensor]


def by_row(call: LayerCall) -> Tensor:
    """Attend row by row with plain products, differentiable. Gives `[token, head, head_dim]`."""
    return _by_row(call, _with_plain_prefix)


def by_row_with_fused_prefix(call: LayerCall) -> Tensor:
    """Attend row by row, to the prefix in a fused kernel; no gradient. Gives `[token, head, head_dim]`."""
    return _by_row(call, _with_fused_prefix)


def _by_row(call: LayerCall, merge: _Merge) -> Tensor:
    batch = call.batch
    query, key, value = (states.transpose(0, 1) for states in (call.query, call.key, call.value))
    if batch.own is not None:
        places = slice(batch.first, batch.first + batch.count)
        row_key, row_value = batch.own.write(
            call.layer, places, batch.row, batch.column, batch.width, key, value
        )
    else:
        row_key, row_value = batch.unpack(key).transpose(1, 2), batch.unpack(value).transpose(1, 2)
    return batch.pack(_attend(call, batch.unpack(query), row_key, row_value, merge))


def _attend(call: LayerCall, query: Tensor, key: Tensor, value: Tensor, merge: _Merge) -> Tensor:
    """One softmax over the prefix's scores and the row's own.

    `query` `[row, query, head, head_dim]`, `key` and `value` `[row, kv_head, key, head_dim]`; gives
    `[row, query, head, head_dim]`.
    """
    count, queries, heads, head_dim = query.shape
    kv_heads, width = key.shape[1], key.shape[2]
    group = heads // kv_heads
    # [row, kv_head, query of the group, head_dim]: the rows' keys and values are used where they are
    grouped = query.view(count, queries, kv_heads, group, head_dim).permute(0, 2, 3, 1, 4) * call.scaling
    by_row = grouped.reshape(count, kv_heads, group * queries, head_dim)
    own_scores = _bounded(torch.matmul(by_row, key.mT), call.softcap)
    hidden = call.batch.hidden(call.window, own_scores.dtype)[:, None, None]
    own_scores = own_scores.view(count, kv_heads, group, queries, width) + hidden
    own_scores = own_scores.view(count, kv_heads, group * queries, width)
    # [kv_head, row, …]: all rows' queries of a KV head stand together
    own_scores, by_head, own_value = (part.transpose(0, 1) for part in (own_scores, by_row, value))
    own_scores = own_scores.contiguous()  # or they would be joined with the prefix's one by one
    return (
        merge(call, by_head, own_scores, own_value)
        .view(kv_heads, count, group, queries, head_dim)
        .permute(1, 3, 0, 2, 4)
        .reshape(count, queries, heads, head_dim)
    )


def _bounded(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _with_plain_prefix(call: LayerCall, query: Tensor, own_scores: Tensor, value: Tensor) -> Tensor:
    """Lay all scores side by side under one softmax; differentiable."""
    prefix, batch = call.prefix, call.batch
    kv_heads, count, group_queries, _ = own_scores.shape
    queries = batch.query_columns.shape[1]
    laid_out = (kv_heads, count, group_queries // queries, queries, prefix.slots)
    scores = _bounded(_products(query, prefix.keys.mT, batch).view(laid_out), call.softcap)
    if prefix.bias is not None:
        scores = scores + _of_rows(prefix.bias, batch)[:, :, None, None]
    scores = _within_window(scores, prefix, batch, call.window)
    both = torch.cat([scores.view(kv_heads, count, group_queries, prefix.slots), own_scores], dim=-1)
    weights = torch.softmax(both, dim=-1)
    prefix_weights, own_weights = weights[..., : prefix.slots], weights[..., prefix.slots :]
    if batch.importance is not None:
        _add_importance(batch, call.layer, prefix_weights.view(laid_out))
    # value by value as they lie: [row, kv_head, …]
    own_out = torch.matmul(own_weights.transpose(0, 1), value.transpose(0, 1)).transpose(0, 1)
    return _products(prefix_weights, prefix.values, batch) + own_out


def _with_fused_prefix(call: LayerCall, query: Tensor, own_scores: Tensor, value: Tensor) -> Tensor:
    """Attend to the prefix in a fused kernel, to the row plainly, and weigh the two outputs; no gradient."""
    kv_heads, count, queries, _ = own_scores.shape
    together = query.reshape(1, kv_heads, count * queries, -1)
    out, total, _ = fused.attend(together, call.prefix.keys, call.prefix.values, 1.0)
    out = out[0].view(kv_heads, count, queries, -1)
    total = total.reshape(kv_heads, count, queries, 1)
    own_total = own_scores.logsumexp(-1, keepdim=True).to(total.dtype)
    own_out = torch.matmul(torch.softmax(own_scores, dim=-1), value)
    share = torch.sigmoid(total - own_total).to(out.dtype)
    merged: Tensor = share * out + (1 - share) * own_out
    return merged


def _of_rows(states: Tensor, batch: Batch) -> Tensor:
    """`[member, kv_head, …]` → `[kv_head, row, …]`; where there is one member, it stands for all rows."""
    return (states if batch.member is None else states[batch.member]).transpose(0, 1)


def _products(states: Tensor, matrices: Tensor, batch: Batch) -> Tensor:
    """Multiply `[kv_head, row, query, …]` by `[member, kv_head, …, …]`, one product a member and KV head."""
    kv_heads, count, queries, inner = states.shape
    outer = matrices.shape[-1]
    if batch.member is None or len(matrices) == 1:
        out = torch.matmul(states.reshape(1, kv_heads, count * queries, inner), matrices)
        return out.view(kv_heads, count, queries, outer)
    members = len(matrices)
    width, place = batch.grid
    laid = states.new_zeros(kv_heads, members * width, queries, inner).index_copy(1, place, states)
    by_member = laid.view(kv_heads, members, width * queries, inner).transpose(0, 1)
    out = torch.matmul(by_member, matrices).transpose(0, 1)
    return out.reshape(kv_heads, members * width, queries, outer).index_select(1, place)


def _within_window(scores: Tensor, prefix: Prefix, batch: Batch, window: int | None) -> Tensor:
    """Hide the slots that a sliding window has left behind."""
    if window is None or batch.sees_all(window):
        return scores
    key = _of_rows(prefix.positions, batch)
    query = batch.starts + batch.query_columns
    seen = key[:, :, None] > query[None, :, :, None] - window
    return scores.masked_fill(~seen.unsqueeze(2), float("-inf"))


def _add_importance(batch: Batch, layer: int, weights: Tensor) -> None:
    """Add up squared attention by slot; padded queries do not count."""
    assert batch.importance is not None
    weights = weights.detach()  # [kv_head, row, group, query, slot]
    if not batch.one_token_each:
        weights = weights.transpose(2, 3)[:, batch.row, batch.column]
    batch.importance[layer] += torch.linalg.vector_norm(
        weights.flatten(1, -2), dim=1, dtype=torch.promote_types(weights.dtype, torch.float32)
    ).square()
