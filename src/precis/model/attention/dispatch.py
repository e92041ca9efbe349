"""Attention of many short rows over one long prefix that they share, as transformers calls it.

Teaching, training, scoring and answering are all the same operation: rows (a question and the answer
so far) attend to a prefix that is the same for all of them, and causally to themselves. A KV cache in
a batch copies the prefix for every row. Here it is stored once: the queries of all rows times the
prefix's keys is one matrix product a KV head, and its scores share one softmax with the row's own.

The function is reached through transformers' public `AttentionInterface`; the `Batch` travels to it as a
keyword argument of the model's forward call. No model code is changed, and no global state is kept.

Which kernel computes a pass is said by one table, `KERNELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from precis.errors import ModelError
from precis.model.attention import fused, kernels
from precis.model.attention.kernels import LayerCall
from precis.model.attention.layout import Batch, LayerLimits
from precis.model.prefix import Prefix

IMPLEMENTATION = "precis_shared_prefix"

# Packed tokens up to which they attend to each other in one product, most of it masked: more are unpacked
# into rows, unless the prefix is longer still.
MOST_PACKED = 512
# Slots from which on the fused kernel is faster than plain products, on processors.
FEWEST_FUSED = 128
# Scores a head from which on fused kernels are faster on graphics cards; below, they take longer to begin.
FEWEST_SCORES_FUSED = 2**22


def reads_alone(call: LayerCall) -> bool:
    """Whether one row has nothing before it: a document is read."""
    batch = call.batch
    return batch.count == 1 and batch.prefix.slots == 0 and batch.own is None and call.softcap is None


def fuses_whole(call: LayerCall) -> bool:
    """Whether fused kernels do for the whole pass, forward and backward, and pay."""
    return (
        _many_scores(call) and fused.runs_on(call.prefix.keys) and call.batch.own is None and _fused_can(call)
    )


def fuses_prefix(call: LayerCall) -> bool:
    """Whether a kernel that never writes the scores down does for this prefix, and pays.

    On processors that kernel is slower in bfloat16 than plain products, which run at four times its rate. On
    graphics cards it is slower for decoding steps, whose few queries leave most of the card idle.
    """
    keys = call.prefix.keys
    if keys.device.type == "cpu":
        pays = (
            keys.dtype != torch.bfloat16
            and call.prefix.slots >= FEWEST_FUSED
            and fused.has_kernel(keys.device)
        )
    else:
        pays = (
            fused.runs_on(keys)
            and keys.shape[-1] % fused.STEP == 0
            and not call.batch.one_token_each
            and _many_scores(call)
        )
    return pays and call.prefix.bias is None and _fused_can(call) and not torch.is_grad_enabled()


def stays_packed(call: LayerCall) -> bool:
    """Whether attention over all packed tokens at once is possible, and cheaper than row by row."""
    batch = call.batch
    return (
        batch.own is None
        and batch.member is None
        and batch.tokens <= max(MOST_PACKED, call.prefix.slots)
        and batch.sees_all(call.window)
        and call.softcap is None
    )


def always(call: LayerCall) -> bool:
    """Whatever the pass is."""
    return True


def _many_scores(call: LayerCall) -> bool:
    return call.batch.tokens * call.prefix.slots >= FEWEST_SCORES_FUSED


def _fused_can(call: LayerCall) -> bool:
    """Whether a fused kernel knows all that limits or watches this pass."""
    batch = call.batch
    return (
        batch.member is None
        and batch.sees_all(call.window)
        and call.softcap is None
        and batch.importance is None
    )


# The first whose condition holds computes the pass: `[token, head, head_dim]`.
KERNELS: tuple[tuple[Callable[[LayerCall], bool], Callable[[LayerCall], Tensor]], ...] = (
    (reads_alone, kernels.causal),
    (fuses_whole, kernels.fused_whole),
    (fuses_prefix, kernels.by_row_with_fused_prefix),
    (stays_packed, kernels.packed),
    (always, kernels.by_row),
)


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    batch: Batch,
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
    batch
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
    if batch.reading is not None:
        batch.reading.states[layer] = (key[0], value[0])
        batch.reading.limits[layer] = LayerLimits(sliding_window, softcap)
    prefix = None
    if batch.observe is not None:
        prefix = batch.observe(layer, query[0].transpose(0, 1), scaling)
    if prefix is None:
        prefix = batch.prefix.layer(layer)
    if not prefix.slots:
        prefix = Prefix.empty(1, key.shape[1], key.shape[3], dtype=key.dtype, device=key.device)
    call = LayerCall(
        layer, prefix, query[0], key[0], value[0], batch, scaling, window=sliding_window, softcap=softcap
    )
    out = next(kernel for holds, kernel in KERNELS if holds(call))(call)
    return out.unsqueeze(0), None


def register() -> None:
    """Make the function known to transformers; idempotent.

    No mask function is registered beside it: transformers then builds no mask at all, and what a
    query sees follows from the `Batch` alone.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, shared_prefix_attention)
