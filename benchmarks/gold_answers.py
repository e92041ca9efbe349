"""Gold answers a second: shared-prefix attention against transformers' own `generate`.

Both answer the same questions greedily after the same document, prefilled once, with the same model in
the same precision and to the same length. The rival is what a user would write: the document's cache
object, expanded over the batch, and `model.generate` with right lengths and left-padded questions.
They take turns, batch by batch; the medians are compared.

    python benchmarks/gold_answers.py DOCUMENT QUESTIONS [--rows 48] [--rounds 3]

The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from precis import LanguageModel, load_model, read, read_questions
from precis.model_source import DEFAULT_MODEL, default_model_folder

MAX_TOKENS = 32


def expanded(network: Any, document: list[int], rows: int) -> DynamicCache:
    """Read the document into a cache object, copied for every row."""
    cache = DynamicCache()
    with torch.no_grad():
        network(torch.tensor([document]), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return cache


def with_generate(model: LanguageModel, network: Any, cache: DynamicCache, prompts: list[list[int]]) -> int:
    """Answer with transformers; the number of answer tokens."""
    width = max(map(len, prompts))
    before = cache.get_seq_length()
    pad = model.tokenizer.eos_token_id
    tokens = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    shown = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    # generate takes the tokens of the whole sequence and drops those that the cache holds
    ids = torch.cat([torch.full((len(prompts), before), pad), tokens], dim=1)
    mask = torch.cat([torch.ones(len(prompts), before, dtype=torch.int64), shown], dim=1)
    out = network.generate(
        ids,
        attention_mask=mask,
        past_key_values=cache,
        max_new_tokens=MAX_TOKENS,
        do_sample=False,
        pad_token_id=pad,
    )
    answers = out[:, ids.shape[1] :].tolist()
    stops = model.chat.stop_tokens
    return sum(next((n + 1 for n, t in enumerate(row) if t in stops), len(row)) for row in answers)


def with_shared_prefix(model: LanguageModel, prefix: Any, prompts: list[list[int]]) -> int:
    """Answer with precis; the number of answer tokens."""
    generations = model.given(prefix).generate(prompts, max_tokens=MAX_TOKENS, top_k=32)
    return sum(len(generation.tokens) for generation in generations)


def main() -> None:
    """Time the two in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("document", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = load_model()
    network = AutoModelForCausalLM.from_pretrained(
        default_model_folder(), dtype=model.dtype, attn_implementation="sdpa"
    ).eval()
    document = model.chat.reading(read(options.document).text)
    questions = read_questions(options.questions)
    prompts = [model.chat.asking(question.text) for question in questions][: options.rows]
    prefix = model.prefill(document)
    cache = expanded(network, document, len(prompts))
    seconds: dict[str, list[float]] = {"shared_prefix": [], "generate_expanded": []}
    tokens: dict[str, int] = {}
    for _ in range(options.rounds):
        start = time.perf_counter()
        tokens["shared_prefix"] = with_shared_prefix(model, prefix, prompts)
        seconds["shared_prefix"].append(time.perf_counter() - start)
        own = copy.deepcopy(cache)  # generate fills the cache; copying it is not timed
        start = time.perf_counter()
        tokens["generate_expanded"] = with_generate(model, network, own, prompts)
        seconds["generate_expanded"].append(time.perf_counter() - start)
        print({name: round(times[-1], 2) for name, times in seconds.items()}, flush=True)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        json.dumps(
            {
                "model": DEFAULT_MODEL,
                "computed_in": str(model.dtype),
                "document_tokens": len(document),
                "questions": len(prompts),
                "answer_tokens": tokens,
                "seconds": medians,
                "answers_per_s": {name: len(prompts) / value for name, value in medians.items()},
                "ratios": {
                    "gold_vs_generate_expanded": medians["generate_expanded"] / medians["shared_prefix"]
                },
            }
        )
    )


if __name__ == "__main__":
    main()
