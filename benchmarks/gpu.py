r"""All figures that need a graphics card, in one run of less than eight minutes.

    python benchmarks/gpu.py RESULTS.json

It takes, one after the other, and writes each as soon as it is known:

- attention: the fused kernels beside plain products, forward and backward, in an 8B model's shape;
- shape: a network of Llama 3.1 8B's shape with random weights, which time does not depend on. Documents of
  8k, 32k and 128k tokens are read and answered from; prefixes of 512 and 2,048 slots are trained, beside
  PEFT's, and answered from. Memory is the most that was allocated;
- speed: the default model, as in benchmarks/speed.py.

Without a card it runs on the processor in a tiny shape, to see that it works.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import sys

    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks import speed
from benchmarks.common import device_name, surroundings
from precis.compilation.teacher import TOP_K, Gold
from precis.model.attention import dispatch
from precis.model.attention.dispatch import shared_prefix_attention
from precis.model.attention.layout import Batch
from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.model.prefix import Prefix
from precis.model.runtime import keep_freed_memory
from precis.storage import WorkFolder, write_atomically
from precis.text.questions import Question

CARD = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LLAMA_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4_096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131_072,
}
TINY = {
    "vocab_size": 500,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4_096,
}
# Questions as training and answering see them: rows of so many tokens.
PROMPT_TOKENS, ANSWER_TOKENS, BATCH = 40, 24, 16


class ShapeBench(speed.Bench):
    """A network of some shape with random weights, and rows of random tokens."""

    def __init__(self, rounds: int, shape: dict[str, int]) -> None:
        self.rounds = rounds
        self.window = shape["max_position_embeddings"]
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", **shape)
        with CARD:
            network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        self.model = LanguageModel.wrap(network, load_model().tokenizer, "random weights")
        self.network = network
        self.network = self.twin()
        self.network.set_attn_implementation("sdpa")
        self.generator = torch.Generator().manual_seed(0)
        self.vocabulary = shape["vocab_size"]
        self.prompts = [self.tokens(PROMPT_TOKENS) for _ in range(BATCH)]
        self.texts = []

    def tokens(self, count: int) -> list[int]:
        """Draw tokens, none of which ends an answer."""
        return torch.randint(10, self.vocabulary, (count,), generator=self.generator).tolist()

    def sigma(self, slots: int) -> Prefix:
        """Give a prefix of that many slots."""
        return self.model.prefill(self.tokens(slots))

    def random_golds(self) -> list[Gold]:
        """Give gold answers of random tokens."""
        top = torch.log_softmax(torch.zeros(ANSWER_TOKENS, TOP_K), dim=-1)
        return [
            Gold(
                Question("random"),
                self.tokens(PROMPT_TOKENS),
                None,
                self.tokens(ANSWER_TOKENS),
                top[:, 0],
                torch.arange(TOP_K).expand(ANSWER_TOKENS, -1),
                top,
            )
            for _ in range(speed.TRAINED_QUESTIONS)
        ]


def attention_kernels(rounds: int, shape: dict[str, int]) -> dict[str, Any]:
    """Time one layer's attention, forward and backward, by each way there is; and its error."""
    found = {}
    for slots in (512, 2_048, 8_192, 32_768):
        for tokens in (64, 512, 2_048):
            if tokens * slots > 2**25 or slots > shape["max_position_embeddings"] // 2:
                continue
            for bias in (False, True):
                name = f"{tokens}_tokens_{slots}_slots{'_bias' if bias else ''}"
                found[name] = _one_attention(rounds, shape, tokens, slots, bias)
    return found


def _one_attention(
    rounds: int, shape: dict[str, int], tokens: int, slots: int, bias: bool
) -> dict[str, float]:
    heads, kv_heads, dim = (
        shape[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    generator = torch.Generator(CARD).manual_seed(0)

    def draw(*size: int) -> Tensor:
        drawn = torch.randn(*size, generator=generator, device=CARD, dtype=torch.bfloat16)
        return drawn.requires_grad_()

    states = [draw(1, count, tokens, dim) for count in (heads, kv_heads, kv_heads)]
    keys, values = draw(1, kv_heads, slots, dim), draw(1, kv_heads, slots, dim)
    weights = draw(1, kv_heads, slots) if bias else None
    positions = torch.arange(slots, device=CARD).expand(1, kv_heads, -1)
    number = torch.arange(tokens, device=CARD)
    width = min(64, tokens)
    trained = [*states, keys, values, *([] if weights is None else [weights])]
    by_out = draw(1, tokens, heads, dim).detach()

    def run(fewest: int) -> list[Tensor]:
        dispatch.FEWEST_SCORES_FUSED = fewest
        batch = Batch(
            number // width,
            number % width,
            Prefix(keys, values, positions, slots, weights),
            count=-(-tokens // width),
            width=width,
        )
        query, key, value = states
        layer = torch.nn.Module()
        layer.layer_idx = 0  # type: ignore[assignment]
        out = shared_prefix_attention(layer, query, key, value, None, batch=batch, scaling=dim**-0.5)[0]
        return [out, *torch.autograd.grad(out, trained, by_out)]

    usual = dispatch.FEWEST_SCORES_FUSED
    try:
        bench = _Timer(rounds)
        seconds = bench.in_turn({"fused": lambda: run(0), "plain": lambda: run(2**62)})
        apart = [
            float((mine - other).detach().double().norm() / other.detach().double().norm())
            for mine, other in zip(run(0), run(2**62), strict=True)
        ]
    finally:
        dispatch.FEWEST_SCORES_FUSED = usual
    return {
        **{f"{name}_ms": 1e3 * value for name, value in seconds.items()},
        "plain_vs_fused": seconds["plain"] / seconds["fused"],
        "largest_relative_difference": max(apart),
    }


class _Timer(speed.Bench):
    """Times without the default model."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

        class _Device:
            device = CARD

        self.model = _Device()  # type: ignore[assignment]


def from_documents(bench: ShapeBench, lengths: Sequence[int]) -> dict[str, Any]:
    """Time reading a document, and answering from its cache: first token, pace, and gold answers."""
    found = {}
    for length in lengths:
        gc.collect()
        _forget_peak()
        tokens = bench.tokens(length)
        start = time.perf_counter()
        whole = bench.model.prefill(tokens)
        speed.finish(CARD)
        read = time.perf_counter() - start
        found[f"{length}_tokens"] = {
            "read_s": read,
            "read_peak_gb": _peak(),
            "cache_gb": whole.nbytes / 1e9,
            **_answering(bench, whole),
        }
        del whole
    return found


def from_slots(bench: ShapeBench, counts: Sequence[int]) -> dict[str, Any]:
    """Time answering from prefixes of some slots."""
    return {f"{slots}_slots": _answering(bench, bench.sigma(slots)) for slots in counts}


def _answering(bench: ShapeBench, prefix: Prefix) -> dict[str, float]:
    """First token and pace of one answer and of a batch; gold answers, with what the objective needs."""
    student = bench.model.given(prefix)
    said: dict[str, int] = {}

    def answer(name: str, batch: int, most: int, top_k: int = 0) -> Callable[[], None]:
        def run() -> None:
            generations = student.generate(bench.prompts[:batch], max_tokens=most, top_k=top_k)
            said[name] = sum(len(each.tokens) for each in generations)

        return run

    _forget_peak()
    seconds = bench.in_turn(
        {
            "first": answer("first", 1, 1),
            "one": answer("one", 1, 17),
            "first_of_many": answer("first_of_many", BATCH, 1),
            "many": answer("many", BATCH, 17),
            "gold": answer("gold", BATCH, ANSWER_TOKENS, TOP_K),
        }
    )
    return {
        "first_token_s": seconds["first"],
        "tokens_per_s": (said["one"] - said["first"]) / (seconds["one"] - seconds["first"]),
        f"tokens_per_s_{BATCH}_rows": (said["many"] - said["first_of_many"])
        / (seconds["many"] - seconds["first_of_many"]),
        "gold_answers_per_s": BATCH / seconds["gold"],
        "gold_answer_tokens": said["gold"],
        "answer_peak_gb": _peak(),
    }


def trained(bench: ShapeBench, counts: Sequence[int], best: float) -> dict[str, Any]:
    """Time training steps beside PEFT's."""
    found, golds = {}, bench.random_golds()
    for slots in counts:
        for rows in speed.ROWS:
            with tempfile.TemporaryDirectory() as work:
                _forget_peak()
                seconds, tokens, answers = speed.train(bench, golds, rows, WorkFolder(Path(work)), slots)
            flops = speed.training_flops(bench.model, tokens, answers, slots)
            found[f"{slots}_slots_{rows}_rows"] = {
                "step_s": {name: value * rows / len(golds) for name, value in seconds.items()},
                "share_of_peak": {name: flops / value / best for name, value in seconds.items()},
                "train_vs_peft": seconds["CARTRIDGE"] / seconds["precis"],
                "train_vs_peft_prefix_tuning": seconds["PREFIX_TUNING"] / seconds["precis"],
                "peak_gb": _peak(),
            }
    return found


def checkpointed(bench: ShapeBench, slots: int) -> dict[str, float]:
    """Time a step of most rows that computes the activations of each layer twice, to keep none."""
    network = bench.model.network
    network.gradient_checkpointing_enable({"use_reentrant": False})
    prefix = bench.sigma(slots)
    keys = prefix.keys.clone().requires_grad_()
    rows = [gold.example for gold in bench.random_golds()[: speed.ROWS[-1]]]

    def step() -> None:
        student = bench.model.given(replace(prefix, keys=keys))
        torch.autograd.grad(student.answer_logits(rows).logsumexp(-1).sum(), keys)

    found = {}
    for name, way in (("checkpointed", True), ("kept", False)):
        network.train(way)
        _forget_peak()
        found[f"{name}_step_s"] = bench.in_turn({"step": step})["step"]
        found[f"{name}_peak_gb"] = _peak()
    network.gradient_checkpointing_disable()
    network.eval()
    return found


def _forget_peak() -> None:
    if CARD.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if CARD.type == "cuda" else 0.0


class Results:
    """What was found so far, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, Any] = {"device": device_name(CARD)}

    def take(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a part; one that fails does not keep the others from being measured."""
        start = time.perf_counter()
        try:
            found = measure()
        except Exception as error:
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}"[:500]}
        self.found[name] = {"seconds": time.perf_counter() - start, **found}
        write_atomically(self.file, (json.dumps(self.found, indent=1) + "\n").encode())
        print(name, json.dumps(self.found[name]), flush=True)


def _in_shape(
    results: Results, bench: ShapeBench, counts: Sequence[int], lengths: Sequence[int], best: float
) -> None:
    results.take("slots", lambda: from_slots(bench, counts))
    results.take("training", lambda: trained(bench, counts, best))
    results.take("checkpointing", lambda: checkpointed(bench, counts[-1]))
    results.take("documents", lambda: from_documents(bench, lengths))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    results = Results(options.results)
    shape, lengths, counts = (
        (LLAMA_8B, (8_192, 32_768, 128_000), (512, 2_048))
        if CARD.type == "cuda"
        else (TINY, (256, 1_024), (32, 64))
    )
    results.take("attention", lambda: attention_kernels(options.rounds, shape))
    model = load_model()
    results.found["surroundings"] = surroundings(model)
    best = speed.peak(model)
    results.take("peak", lambda: {"flop_per_s": best})
    _in_shape(results, ShapeBench(options.rounds, shape), counts, lengths, best)
    gc.collect()
    _forget_peak()
    small = speed.Bench(options.rounds)
    for name in ("training", "gold", "decoding", "answering", "throughput"):
        results.take(f"speed_{name}", lambda name=name: speed.SECTIONS[name](small))  # type: ignore[misc]


if __name__ == "__main__":
    main()
