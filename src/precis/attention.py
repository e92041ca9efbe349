"""Attention of many short rows over one long prefix that they share.

Teaching, training, scoring and answering are all the same operation: rows (a question and the answer
so far) attend to a prefix that is the same for all of them, and causally to themselves. A KV cache in
a batch copies the prefix for every row. Here it is stored once: the queries of all rows times the
prefix's keys is one matrix product a KV head, and its scores share one softmax with the row's own.

Tokens travel through the network *packed*: all rows one after another in a single sequence, no
padding, so that projections, MLPs and the vocabulary matrix compute nothing in vain. Only the small
attention within a row is padded, here.

The function is reached through transformers' public `AttentionInterface`; `Rows` travels to it as a
keyword argument of the model's forward call. No model code is changed, and no global state is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from precis import fused_attention
from precis.errors import ModelError
from precis.fused_attention import FusedAttention
from precis.prefix import Prefix, PrefixStack

IMPLEMENTATION = "precis_shared_prefix"

# Packed tokens up to which they attend to each other in one product, most of it masked: more are unpacked
# into rows, unless the prefix is longer still.
MOST_PACKED = 512
# Queries of a document that attend together, where it is read by blocks.
BLOCK = 256
# A row that is alone is as wide as a multiple of this.
WIDTH_STEP = 32
# Slots from which on the fused kernel is faster than plain products, on processors.
FEWEST_FUSED = 128
# Scores a head from which on fused kernels are faster on graphics cards; below, they take longer to begin.
FEWEST_SCORES_FUSED = 2**22

# Called in every layer with its number, the packed queries `[token, head, head_dim]` after the rotary
# embedding, and the factor that scores are scaled by. It may give a prefix of one layer, which that
# layer then attends to in place of the shared one.
Observer = Callable[[int, Tensor, float], Prefix | None]


@dataclass(frozen=True)
class Limits:
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
class Rows:
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
    importance
        `[layer, kv_head, slot]`, float32: where given, the squared attention that each slot of the
        prefix gets is added up here (the warm start chooses by it).
    observe
        See `Observer`; for what chooses or fits slots by the queries that will attend to them.
    member
        `[row]`, int64: which member of a stack each row stands after; None where `prefix` is one.
    keep
        Whether to keep the keys and values of this pass in `kept`, and how each layer limits what it
        sees in `limits` (reading a document).
    """

    row: Tensor
    column: Tensor
    prefix: Prefix | PrefixStack
    count: int
    width: int
    own: RowCache | None = None
    first: int = 0
    importance: Tensor | None = None
    observe: Observer | None = None
    member: Tensor | None = None
    keep: bool = False
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    limits: dict[int, Limits] = field(default_factory=dict)
    _hidden: dict[int | None, Tensor] = field(default_factory=dict)
    _blocks: dict[int | None, Tensor] = field(default_factory=dict)

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
        return self.own is not None and self.row.shape[0] == self.count

    @property
    def query_columns(self) -> Tensor:
        """`[row, query]`: the column of each query, as the attention within a row lays them out."""
        if self.one_token_each:
            return self.column.unsqueeze(1)
        return torch.arange(self.width, device=self.row.device).expand(self.count, -1)

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


def _hiding(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Give what is added to scores: 0 where something is seen, −inf where it is not."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


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

    def write(self, layer: int, rows: Rows, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store packed keys and values `[token, kv_head, head_dim]`; give all so far.

        Returns
        -------
        `[row, kv_head, width, head_dim]`, twice.
        """
        places = slice(rows.first, rows.first + rows.count)
        keys, values = self.keys[layer, places], self.values[layer, places]
        keys[rows.row, :, rows.column] = key
        values[rows.row, :, rows.column] = value
        return keys[:, :, : rows.width], values[:, :, : rows.width]

    def move(self, source: int, target: int) -> None:
        """Let a row take another's place."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    rows: Rows,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend to the shared prefix and, causally, within each row.

    Equals ordinary attention over the concatenated sequence, forward and backward.

    Parameters
    ----------
    query
        `[1, head, token, head_dim]`, packed; `key` and `value` `[1, kv_head, token, head_dim]`.
    rows
        Where the tokens stand.

    Returns
    -------
    `[1, token, head, head_dim]`, and None for the attention weights.

    Raises
    ------
    ModelError
        The model's attention has learned sinks (`s_aux`, as in gpt-oss).
    """
    if s_aux is not None:
        raise ModelError(
            "This model adds learned sinks to its attention scores, which attention over a shared prefix "
            "does not know. Choose another model."
        )
    layer: int = module.layer_idx  # type: ignore[assignment]
    if rows.keep:
        rows.kept[layer] = (key[0], value[0])
        rows.limits[layer] = Limits(sliding_window, softcap)
    # [token, head, head_dim]
    packed_query, packed_key, packed_value = (states[0].transpose(0, 1) for states in (query, key, value))
    prefix = rows.observe(layer, packed_query, scaling) if rows.observe is not None else None
    if rows.count == 1 and rows.prefix.slots == 0 and rows.own is None and softcap is None:
        return _causal_attention(query, key, value, scaling, sliding_window), None
    if prefix is None:
        prefix = rows.prefix.layer(layer)
    if not prefix.slots:
        prefix = Prefix.empty(1, key.shape[1], key.shape[3], dtype=key.dtype, device=key.device)
    if _can_fuse_rows(prefix, rows, sliding_window, softcap):
        parts = query[0], key[0], value[0], prefix.keys[0], prefix.values[0]
        bias = None if prefix.bias is None else prefix.bias[0]
        grid = rows.count, rows.width
        fused: Tensor = FusedAttention.apply(*parts, bias, rows.row, rows.column, grid, scaling)  # type: ignore[no-untyped-call]
        return fused.transpose(0, 1).unsqueeze(0), None
    if _can_stay_packed(prefix, rows, sliding_window, softcap):
        return _packed_attention(
            layer, prefix, query[0], key[0], value[0], rows, scaling, sliding_window
        ), None
    if rows.own is not None:
        row_key, row_value = rows.own.write(layer, rows, packed_key, packed_value)
    else:
        row_key = _unpack(packed_key, rows).transpose(1, 2)
        row_value = _unpack(packed_value, rows).transpose(1, 2)
    row_query = packed_query.unsqueeze(1) if rows.one_token_each else _unpack(packed_query, rows)
    out = _attend(layer, prefix, row_query, row_key, row_value, rows, scaling, sliding_window, softcap)
    packed_out = out[:, 0] if rows.one_token_each else out[rows.row, rows.column]
    return packed_out.unsqueeze(0), None


def _can_fuse_rows(prefix: Prefix, rows: Rows, window: int | None, softcap: float | None) -> bool:
    """Whether fused kernels do for the whole pass, forward and backward, and pay."""
    return (
        rows.row.shape[0] * prefix.slots >= FEWEST_SCORES_FUSED
        and fused_attention.runs_on(prefix.keys)
        and rows.own is None
        and rows.member is None
        and (window is None or _reaches_back(rows, window))
        and softcap is None
        and rows.importance is None
    )


def _can_stay_packed(prefix: Prefix, rows: Rows, window: int | None, softcap: float | None) -> bool:
    """Whether attention over all packed tokens at once is the cheaper way, and a possible one."""
    tokens = rows.row.shape[0]
    return (
        rows.own is None
        and rows.member is None
        and tokens <= max(MOST_PACKED, prefix.slots)
        and (window is None or _reaches_back(rows, window))
        and softcap is None
        and not _can_fuse(prefix, rows, window, softcap)
    )


def _packed_attention(
    layer: int,
    prefix: Prefix,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Rows,
    scaling: float,
    window: int | None,
) -> Tensor:
    """Attend without unpacking: the rows' own tokens are further keys, hidden from other rows by a mask.

    `query` `[head, token, head_dim]`, `key` and `value` `[kv_head, token, head_dim]`; gives
    `[1, token, head, head_dim]`.
    """
    kv_heads, tokens, head_dim = key.shape
    grouped = query.reshape(kv_heads, -1, head_dim)
    out, weights = _PackedAttention.apply(  # type: ignore[no-untyped-call]
        grouped,
        key,
        value,
        prefix.keys[0],
        prefix.values[0],
        None if prefix.bias is None else prefix.bias[0],
        rows.block_mask(window, query.dtype),
        scaling,
    )
    if rows.importance is not None:
        dtype = torch.promote_types(weights.dtype, torch.float32)
        paid = weights[..., : prefix.slots]
        rows.importance[layer] += torch.linalg.vector_norm(paid, dim=1, dtype=dtype).square()
    heads: Tensor = out.view(query.shape[0], tokens, head_dim)
    return heads.transpose(0, 1).unsqueeze(0)


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
        by_score = torch._softmax_backward_data(torch.bmm(out, values.mT), weights, -1, weights.dtype)
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


def _attend(
    layer: int,
    prefix: Prefix,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Rows,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """One softmax over the prefix's scores and the row's own.

    `prefix` is that of one layer, `query` `[row, query, head, head_dim]`, `key` and `value`
    `[row, kv_head, key, head_dim]`; gives `[row, query, head, head_dim]`.
    """
    count, queries, heads, head_dim = query.shape
    kv_heads, width = key.shape[1], key.shape[2]
    group = heads // kv_heads
    # [row, kv_head, query of the group, head_dim]: the rows' keys and values are used where they are
    grouped = query.view(count, queries, kv_heads, group, head_dim).permute(0, 2, 3, 1, 4) * scaling
    by_row = grouped.reshape(count, kv_heads, group * queries, head_dim)
    own_scores = torch.matmul(by_row, key.mT)
    if softcap is not None:
        own_scores = softcap * torch.tanh(own_scores / softcap)
    hidden = rows.hidden(window, own_scores.dtype)[:, None, None]
    own_scores = own_scores.view(count, kv_heads, group, queries, width) + hidden
    own_scores = own_scores.view(count, kv_heads, group * queries, width)
    # [kv_head, row, …]: all rows' queries of a KV head stand together
    own_scores, by_head, own_value = (part.transpose(0, 1) for part in (own_scores, by_row, value))
    own_scores = own_scores.contiguous()  # or they would be joined with the prefix's one by one
    if _can_fuse(prefix, rows, window, softcap):
        out = _fused(by_head, prefix, own_scores, own_value)
    else:
        scores = _products(by_head, prefix.keys.mT, rows)
        scores = scores.view(kv_heads, count, group, queries, prefix.slots)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if prefix.bias is not None:
            scores = scores + _by_row(prefix.bias, rows)[:, :, None, None]
        scores = _within_window(scores, prefix, rows, window)
        out = _plain(layer, rows, scores, prefix, own_scores, own_value)
    return (
        out.view(kv_heads, count, group, queries, head_dim)
        .permute(1, 3, 0, 2, 4)
        .reshape(count, queries, heads, head_dim)
    )


def _by_row(states: Tensor, rows: Rows) -> Tensor:
    """`[member, kv_head, …]` → `[kv_head, row, …]`; where there is one member, it stands for all rows."""
    return (states if rows.member is None else states[rows.member]).transpose(0, 1)


def _products(states: Tensor, matrices: Tensor, rows: Rows) -> Tensor:
    """Multiply `[kv_head, row, query, …]` by `[member, kv_head, …, …]`, one product a member and KV head."""
    kv_heads, count, queries, inner = states.shape
    outer = matrices.shape[-1]
    if rows.member is None or len(matrices) == 1:
        out = torch.matmul(states.reshape(1, kv_heads, count * queries, inner), matrices)
        return out.view(kv_heads, count, queries, outer)
    members = len(matrices)
    width, place = rows.grid
    laid = states.new_zeros(kv_heads, members * width, queries, inner).index_copy(1, place, states)
    by_member = laid.view(kv_heads, members, width * queries, inner).transpose(0, 1)
    out = torch.matmul(by_member, matrices).transpose(0, 1)
    return out.reshape(kv_heads, members * width, queries, outer).index_select(1, place)


def _plain(
    layer: int, rows: Rows, prefix_scores: Tensor, prefix: Prefix, own_scores: Tensor, value: Tensor
) -> Tensor:
    """One softmax over scores that are laid out side by side; differentiable.

    `prefix_scores` `[kv_head, row, head of the group, query, slot]`, `own_scores` and `value` as
    `_fused` takes them.
    """
    kv_heads, count, queries, _ = own_scores.shape
    slots = prefix_scores.shape[-1]
    both = torch.cat([prefix_scores.view(kv_heads, count, queries, slots), own_scores], dim=-1)
    weights = torch.softmax(both, dim=-1)
    prefix_weights, own_weights = weights[..., :slots], weights[..., slots:]
    if rows.importance is not None:
        _add_importance(rows, layer, prefix_weights.view(prefix_scores.shape))
    # value by value as they lie: [row, kv_head, …]
    own_out = torch.matmul(own_weights.transpose(0, 1), value.transpose(0, 1)).transpose(0, 1)
    return _products(prefix_weights, prefix.values, rows) + own_out


def _can_fuse(prefix: Prefix, rows: Rows, window: int | None, softcap: float | None) -> bool:
    """Whether a kernel that never writes the scores down does for this prefix, and pays.

    On processors that kernel is slower in bfloat16 than plain products, which run at four times its rate. On
    graphics cards it is slower for decoding steps, whose few queries leave most of the card idle.
    """
    if prefix.keys.device.type == "cpu":
        pays = prefix.keys.dtype != torch.bfloat16 and prefix.slots >= FEWEST_FUSED
    else:
        pays = (
            fused_attention.runs_on(prefix.keys)
            and prefix.keys.shape[-1] % fused_attention.STEP == 0
            and not rows.one_token_each
            and rows.row.shape[0] * prefix.slots >= FEWEST_SCORES_FUSED
        )
    return (
        pays
        and prefix.bias is None
        and rows.member is None
        and (window is None or _reaches_back(rows, window))
        and softcap is None
        and rows.importance is None
        and not torch.is_grad_enabled()
    )


def _fused(query: Tensor, prefix: Prefix, own_scores: Tensor, value: Tensor) -> Tensor:
    """Attend to the prefix in a fused kernel, to the row plainly, and weigh the two outputs; no gradient.

    Parameters
    ----------
    query
        `[kv_head, row, query of the group, head_dim]`, scaled.
    prefix
        That of one layer.
    own_scores
        `[kv_head, row, query of the group, key]`.
    value
        `[kv_head, row, key, head_dim]`.

    Returns
    -------
    `[kv_head, row, query of the group, head_dim]`.
    """
    kv_heads, count, queries, _ = own_scores.shape
    packed = query.reshape(1, kv_heads, count * queries, -1)
    out, total, _ = fused_attention.attend(packed, prefix.keys, prefix.values, 1.0)
    out = out[0].view(kv_heads, count, queries, -1)
    total = total.reshape(kv_heads, count, queries, 1)
    own_total = own_scores.logsumexp(-1, keepdim=True).to(total.dtype)
    own_out = torch.matmul(torch.softmax(own_scores, dim=-1), value)
    share = torch.sigmoid(total - own_total).to(out.dtype)
    merged: Tensor = share * out + (1 - share) * own_out
    return merged


def _reaches_back(rows: Rows, window: int) -> bool:
    """Whether a sliding window hides none of the prefix from any row."""
    return rows.prefix.next_position + rows.width <= window


def _within_window(scores: Tensor, prefix: Prefix, rows: Rows, window: int | None) -> Tensor:
    """Hide the slots that a sliding window has left behind."""
    if window is None or _reaches_back(rows, window):
        return scores
    key = _by_row(prefix.positions, rows)
    query = rows.starts + rows.query_columns
    seen = key[:, :, None] > query[None, :, :, None] - window
    return scores.masked_fill(~seen.unsqueeze(2), float("-inf"))


def _add_importance(rows: Rows, layer: int, weights: Tensor) -> None:
    """Add up squared attention by slot; padded queries do not count."""
    assert rows.importance is not None
    weights = weights.detach()  # [kv_head, row, group, query, slot]
    if not rows.one_token_each:
        weights = weights.transpose(2, 3)[:, rows.row, rows.column]
    rows.importance[layer] += torch.linalg.vector_norm(
        weights.flatten(1, -2), dim=1, dtype=torch.promote_types(weights.dtype, torch.float32)
    ).square()


def _causal_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
) -> Tensor:
    """Plain causal attention of one row: how a document is read. Gives `[1, token, head, head_dim]`."""
    length = query.shape[2]
    by_blocks = query.device.type == "cpu" and query.dtype == torch.bfloat16 and not torch.is_grad_enabled()
    if window is None and by_blocks and length > BLOCK:
        return _causal_by_blocks(query[0], key[0], value[0], scaling)
    mask = None
    if window is not None and length > window:
        place = torch.arange(length, device=query.device)
        mask = (place[None] <= place[:, None]) & (place[None] > place[:, None] - window)
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2)


def _causal_by_blocks(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Attend, one block of queries after another, to all that stands before it and, causally, to itself.

    On processors with bfloat16 arithmetic plain products run at several times the rate of PyTorch's fused
    kernel; by blocks, hidden scores are not computed and the others need little memory.
    """
    kv_heads, length, head_dim = key.shape
    grouped = (query * scaling).view(kv_heads, -1, length, head_dim)
    out = torch.empty_like(grouped)
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        rows = grouped[:, :, start:end].reshape(kv_heads, -1, head_dim)
        scores = torch.bmm(rows, key[:, :end].mT)
        own = scores.view(kv_heads, -1, end - start, end)[..., start:]
        own.masked_fill_(torch.ones_like(own[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        out[:, :, start:end] = torch.bmm(weights, value[:, :end]).view(kv_heads, -1, end - start, head_dim)
    return out.reshape(query.shape).transpose(0, 1).unsqueeze(0)


def _unpack(packed: Tensor, rows: Rows) -> Tensor:
    """`[token, …]` → `[row, column, …]`, zeros where a row has ended."""
    padded = packed.new_zeros(rows.count, rows.width, *packed.shape[1:])
    return padded.index_put((rows.row, rows.column), packed)


def register() -> None:
    """Make the function known to transformers; idempotent.

    No mask function is registered beside it: transformers then builds no mask at all, and what a
    query sees follows from `Rows` alone.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, shared_prefix_attention)
