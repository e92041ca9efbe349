"""σ₀: where training starts from, taken from the document's own keys and values.

Where σ starts is worth more than how long it is trained. `attention` keeps the slots that the self-study
questions and answers need most, and as many of them in each layer and KV head as are worth it there;
`attention-matching` then fits their values and biases to the whole document. Slots keep their rotation,
so the next token still stands after the whole document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from precis.attention_matching import match_attention
from precis.errors import SettingsError
from precis.language_model import LanguageModel, Row
from precis.prefix import Prefix
from precis.selection import Selection, best_of_all, best_of_each_head, never_left_out
from precis.soft_prompt import SINK

SCORING_WARM_STARTS = ("attention-matching", "attention")
WARM_STARTS = (*SCORING_WARM_STARTS, "even", "first", "random")
# Rows by which slots are scored, and how many go through the network together.
SCORED_ROWS, ROWS_A_GRADIENT = 96, 8


@dataclass(frozen=True)
class Read:
    """What the teacher read at a time, and what was asked of it.

    Parameters
    ----------
    prefix
        All that stood before the questions; its slot 0 is the sink.
    own
        `[slot]`, int64: the slots of it that σ₀ may keep.
    rows
        The questions and answers.
    """

    prefix: Prefix
    own: Tensor
    rows: Sequence[Row]


def key_value_start(
    name: str,
    model: LanguageModel,
    reads: Sequence[Read],
    scores: Tensor,
    slots: int,
    *,
    seed: int = 0,
    bias: bool = True,
) -> Prefix:
    """Make σ₀ in key-value form.

    `first` is the published recipe for trained KV prefixes: the first tokens, and the next token right
    after them. `random` draws keys and values with each head's mean and spread.

    Parameters
    ----------
    name
        One of `WARM_STARTS`.
    reads
        All that the teacher read; the first begins with the sink.
    scores
        From `slot_scores`; what `attention` and `attention-matching` choose by.
    slots
        How many slots to keep a head; on average, where `bias` allows heads to differ.
    seed
        Decides what `random` draws.
    bias
        Whether slots may carry a bias. Without, all heads keep the same number of slots.

    Raises
    ------
    SettingsError
        There is no warm start of that name.
    """
    document = _joined(reads)
    if name == "random":
        return _random(document, slots, seed)
    if name not in SCORING_WARM_STARTS:
        start = document.select(_fixed_places(name, document.positions, slots))
        if name == "first":
            return replace(start, next_position=int(start.positions.max()) + 1)
        return start
    if bias:
        selection = best_of_all(scores, slots, SINK)
    else:
        selection = best_of_each_head(never_left_out(scores, slice(SINK)), slots)
    if name == "attention":
        return selection.of(document)
    return _matched(model, reads, document, selection, bias)


def embedding_start(name: str, embeddings: Tensor, scores: Tensor, slots: int, seed: int) -> Tensor:
    """Make σ₀ in embedding form, `[slot, hidden]`, from the document's embeddings `[token, hidden]`.

    For `attention` and `attention-matching`, tokens are chosen by their scores over all layers and heads.
    """
    if name == "random":
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(slots, embeddings.shape[1], generator=draw).to(embeddings)
        start = embeddings.mean(0) + noise * embeddings.std(0)
        start[:SINK] = embeddings[:SINK]
        return start
    if name in SCORING_WARM_STARTS:
        overall = (scores / scores.sum(-1, keepdim=True).clamp(min=1e-30)).sum((0, 1), keepdim=True)
        places = best_of_each_head(never_left_out(overall, slice(SINK)), slots).indices
    else:
        places = _fixed_places(name, torch.empty(1, 1, len(embeddings)), slots)
    return embeddings[places[0, 0]]


def slot_scores(
    model: LanguageModel,
    reads: Sequence[Read],
    out_of_time: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Score slots by the attention that they get times what hangs on it: either alone chooses worse.

    Parameters
    ----------
    out_of_time
        Asked between batches of rows; where it says yes, those so far must do.
    progress
        Called with the number of rows just taken.

    Returns
    -------
    `[layer, kv_head, slot]`, for the own slots of all that was read, comparable between heads.
    """
    scores = []
    for read in reads:
        attention, sensitivity = attention_and_sensitivity(
            model, read.prefix, read.rows, out_of_time, progress
        )
        scores.append((attention * sensitivity)[:, :, read.own] * len(read.rows))
    return torch.cat(scores, dim=2)


def attention_and_sensitivity(
    model: LanguageModel,
    document: Prefix,
    rows: Sequence[Row],
    out_of_time: Callable[[], bool],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Tensor]:
    """Measure what questions and answers make of every slot.

    Returns
    -------
    Both `[layer, kv_head, slot]`, float32, means over the rows that were taken: the squared attention that
    the slot gets; and the empirical Fisher information of its bias at 0, which is the squared gradient of
    the answers' negative log-likelihood by it, summed over batches.
    """
    bias = torch.zeros_like(document.keys[..., 0], requires_grad=True)
    attention = torch.zeros(bias.shape, dtype=torch.float32, device=bias.device)
    information = torch.zeros_like(attention)
    taken = 0
    for start in range(0, min(len(rows), SCORED_ROWS), ROWS_A_GRADIENT):
        if start and out_of_time():
            break
        batch = rows[start : start + ROWS_A_GRADIENT]
        gold = torch.tensor([token for row in batch for token in row.answer], device=model.device)
        given = model.given(replace(document, bias=bias))
        logits = given.answer_logits(batch, importance=attention)
        loss = torch.nn.functional.cross_entropy(logits, gold, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, bias)
        information += gradient.float().square()
        taken += len(batch)
        progress(len(batch))
    return attention / max(1, taken), information / max(1, taken)


def _joined(reads: Sequence[Read]) -> Prefix:
    """Join the own slots of all that was read."""
    whole: Prefix | None = None
    for read in reads:
        part = read.prefix.select(read.own.expand(*read.prefix.positions.shape[:2], -1))
        end = part.next_position if whole is None else max(whole.next_position, part.next_position)
        whole = part if whole is None else whole.followed_by(replace(part, next_position=end))
    assert whole is not None
    return whole


def _matched(
    model: LanguageModel, reads: Sequence[Read], document: Prefix, selection: Selection, bias: bool
) -> Prefix:
    """Fit the selected slots to what was read, each to the reading that it comes from."""
    start = selection.of(document)
    values, biases = start.values.clone(), start.values.new_zeros(start.positions.shape)
    if start.bias is not None:
        biases.copy_(start.bias)
    shown = torch.ones_like(start.positions, dtype=torch.bool) if selection.shown is None else selection.shown
    first = 0
    for read in reads:
        last = first + len(read.own)
        here = shown & (selection.indices >= first) & (selection.indices < last)
        if read.rows and bool(here.any()):
            # the reading's own slots of every head, then padding
            places = (~here).int().argsort(dim=-1, stable=True)[..., : int(here.sum(-1).max())]
            local = read.own[(selection.indices.gather(2, places) - first).clamp(0, len(read.own) - 1)]
            local_shown = here.gather(2, places)
            has_sink = first == 0
            part = Selection(local, local_shown) if has_sink else _after_sink(local, local_shown)
            fitted = match_attention(model, read.prefix, part, read.rows, bias=bias)
            if not has_sink:
                fitted = _without_sink(fitted)
            _put(values, places, local_shown, fitted.values)
            if fitted.bias is not None:
                _put(biases, places, local_shown, fitted.bias)
        first = last
    return replace(start, values=values, bias=biases if bias else start.bias)


def _after_sink(indices: Tensor, shown: Tensor) -> Selection:
    """Put the sink, which every row sees, before a selection that has none."""
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


def _fixed_places(name: str, candidates: Tensor, slots: int) -> Tensor:
    """Give the same places of `candidates` `[layer, kv_head, slot]` for every head."""
    layers, kv_heads, count = candidates.shape
    if name == "even":
        places = torch.linspace(0, count - 1, slots).round().long()
    elif name == "first":
        places = torch.arange(slots)
    else:
        raise SettingsError(f"There is no warm start '{name}'. Choose one of {', '.join(WARM_STARTS)}.")
    return places.to(candidates.device).expand(layers, kv_heads, -1)


def _random(document: Prefix, slots: int, seed: int) -> Prefix:
    draw = torch.Generator().manual_seed(seed)
    start = document.select(_fixed_places("even", document.positions, slots))

    def like(states: Tensor, kept: Tensor) -> Tensor:
        states = states.float()
        noise = torch.randn(kept.shape, generator=draw).to(states.device)
        new = states.mean(2, keepdim=True) + noise * states.std(2, keepdim=True)
        new[:, :, :SINK] = kept[:, :, :SINK]
        return new.to(kept.dtype)

    return Prefix(
        like(document.keys, start.keys),
        like(document.values, start.values),
        start.positions,
        start.next_position,
    )
