"""KVzip: the keys that the model needs in order to repeat the document."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.baselines.baseline import Baseline, Task
from precis.errors import WindowError
from precis.model.attention.observation import Queries, attention_weights
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.model.selection import best_of_all

SINKS = 4
CHUNK = 2048
FEWEST = 16  # tokens of a chunk
LAST_TOKENS = 8  # of the chunk before, with which a later chunk is announced
# Queries whose attention is computed at a time: it takes memory in proportion to queries times keys.
QUERIES_AT_ONCE = 512
REPEAT = "Repeat the previous document exactly."
REPEAT_FROM = "Repeat the part of the previous document exactly, starting with"


class KVzip(Baseline):
    """Keep the keys that get the most attention while the model reads a repetition of the document.

    Kim, Kim, Kwon, Lee, Yun & Song, "KVzip: Query-Agnostic KV Cache Compression with Context
    Reconstruction" (2025), arXiv 2505.23416. Kept: the model is asked to repeat the document and given
    the repetition, in chunks of up to 2,048 tokens; a key's score is the largest attention that any query
    of that pays to it; one threshold for all layers and heads, so that heads hold different numbers of
    keys (together `slots` times the number of heads), each the first 4 at least. Not kept: there, to save
    time, a chunk's queries attend to that chunk's keys alone; here to the whole cache, as the model does,
    the template's own tokens included. What is repeated is the document, without the template around it.

    Some heads may keep nearly all of their keys. The prefix is then nearly as long as the document, for all
    heads: what is hidden counts neither as slots nor as memory here, but a question takes the time for it.
    """

    name = "kvzip"

    def prefix(self, task: Task) -> Prefix:
        """Keep the best keys of all heads together."""
        document = task.model.prefill(task.whole_reading())
        return best_of_all(_repetition_scores(task, document), task.slots, SINKS).of(document)


def _repetition_scores(task: Task, document: Prefix) -> Tensor:
    """Give each key's largest attention, `[layer, kv_head, slot]`."""
    model = task.model
    tokens = model.chat.encode_plainly(task.document.text)
    announced = len(model.chat.question_prompt(f"{REPEAT_FROM} ")) + LAST_TOKENS * 4
    room = model.window - document.next_position - announced
    if room < FEWEST:
        raise WindowError(
            f"This method repeats the document, but {document.next_position:,} tokens of the window of "
            f"{model.name} ({model.window:,}) are taken by it already, which leaves no room to repeat any of "
            "it. Choose a model with a longer window, or leave the method out."
        )
    chunk = min(CHUNK, room)
    scores = torch.zeros(document.positions.shape, dtype=torch.float32, device=model.device)
    for start in range(0, len(tokens), chunk):
        request = REPEAT
        if start:
            request = f"{REPEAT_FROM} {model.chat.decode(tokens[start - LAST_TOKENS : start])}"
        repetition = [*model.chat.question_prompt(request), *tokens[start : start + chunk]]
        scores = torch.maximum(scores, largest_attention(model, document, repetition))
    return scores


def largest_attention(model: LanguageModel, document: Prefix, tokens: list[int]) -> Tensor:
    """Let the model read tokens after a document; give each slot's largest attention.

    Returns
    -------
    `[layer, kv_head, slot]`, float32: over all tokens, and over the query heads of each KV head.
    """
    queries = Queries()
    both = model.prefill(tokens, after=document, observe=queries)
    positions = torch.arange(document.next_position, both.next_position, device=model.device)
    largest = []
    for layer in range(model.layers):
        blocks = zip(
            torch.split(queries.states[layer], QUERIES_AT_ONCE),
            torch.split(positions, QUERIES_AT_ONCE),
            strict=True,
        )
        found = [
            attention_weights(query, queries.scaling[layer], at, both.layer(layer), model.limits[layer]).amax(
                dim=(1, 2)
            )
            for query, at in blocks
        ]
        largest.append(torch.stack(found).amax(0))
    return torch.stack(largest)[..., : document.slots].float()
