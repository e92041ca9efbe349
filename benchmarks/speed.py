r"""Where the time goes in compiling and answering, beside what a user would otherwise run.

    python benchmarks/speed.py [--only training gold decoding answering throughput start_up] [--rounds 3]

Everything is a ratio of things timed in turn in one run, medians of several rounds. The baselines have the
same model in the same precision, the same rows and slots: PEFT's `CARTRIDGE` and `PREFIX_TUNING` in the
loop that a user would write (`pip install -e '.[bench]'`), and `generate` of transformers. All runs let
the C library keep freed memory, as the command line does. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.common import ROOT, surroundings
from precis.compilation.objectives import objective_named
from precis.compilation.pipeline import compile
from precis.compilation.settings import Settings
from precis.compilation.teacher import Gold, Teacher, teach
from precis.compilation.training import Clock, HeldOut, Schedule, Trainer
from precis.model.decoding import Request
from precis.model.language_model import LanguageModel
from precis.model.loading import default_model_folder, load_model
from precis.model.packed_linear import PackedLinear, available
from precis.model.prefix import Prefix
from precis.model.runtime import keep_freed_memory
from precis.model.soft_prompt import KeyValuePrompt
from precis.storage import WorkFolder, write_atomically
from precis.text.document import Document, read
from precis.text.questions import Question, read_questions

EXAMPLE = ROOT / "examples" / "tern-harbour.md"
SLOTS, ROWS, TRAINED_QUESTIONS = 64, (4, 16), 32
GOLD_TOKENS, DECODED_TOKENS = 32, 64
DOCUMENT_TOKENS = (1_000, 4_000, 7_500)  # the default model's window ends at 8,192
BATCHES = (1, 16)
Way = Callable[[], Any]


class Bench:
    """The model, a plain copy for baselines, and a document with questions and gold answers."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.model = load_model()
        self.network = AutoModelForCausalLM.from_pretrained(
            default_model_folder(), dtype=self.model.dtype, attn_implementation="sdpa"
        ).to(self.model.device)
        self.network.eval().requires_grad_(False)
        self.document = read(EXAMPLE)
        questions = read_questions(EXAMPLE.with_suffix(".questions.jsonl"))
        self.texts = [question.text for question in questions]
        self.prompts = [self.model.chat.question_prompt(text) for text in self.texts]
        self.reading = self.model.chat.document_prompt(self.document.text)

    def twin(self) -> Any:
        """Give a copy of the plain network that has the same weights."""
        return copy.deepcopy(self.network, {id(weight): weight for weight in self.network.parameters()})

    def golds(self, work: Path) -> list[Gold]:
        """Let the model answer the questions with the document before it."""
        teacher = Teacher(self.model, self.document)
        return teach(teacher, [Question(text) for text in self.texts], WorkFolder(work)).golds

    def sigma(self, slots: int) -> Prefix:
        """Give a prefix of that many slots: evenly spaced keys of the document. Time hangs on shape alone."""
        whole = self.model.prefill(self.reading)
        places = torch.linspace(0, whole.slots - 1, slots).round().long()
        return whole.select(places.expand(self.model.layers, self.model.kv_heads, -1))

    def in_turn(self, ways: dict[str, Way]) -> dict[str, float]:
        """Time some ways to do the same, in turn; each one's median of seconds. The first round warms up."""
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(self.rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                finish(self.model.device)
                if turn:
                    seconds[name].append(time.perf_counter() - start)
        return {name: statistics.median(times) for name, times in seconds.items()}


def peak(model: LanguageModel) -> float:
    """Measure the rate of the matrix product in FLOP/s, in the model's precision, at its best shape."""
    best = 0.0
    on_card = model.device.type == "cuda"
    for rows, width in ((8192, 8192),) if on_card else ((512, 1024), (2048, 1536), (2048, 4096)):
        states = torch.randn(rows, width, dtype=model.dtype, device=model.device)
        layer: torch.nn.Module = torch.nn.Linear(width, width, bias=False, dtype=model.dtype).to(model.device)
        if available() and model.device.type == "cpu":
            layer = PackedLinear(layer)  # type: ignore[arg-type]
        for _ in range(8):
            start = time.perf_counter()
            with torch.no_grad():
                layer(states)
            finish(model.device)
            best = max(best, 2 * rows * width**2 / (time.perf_counter() - start))
    return best


# --- training ---


def training(bench: Bench) -> dict[str, Any]:
    """Time steps of training, ours and PEFT's, over the same rows in the same order."""
    parts, ratios = {}, {}
    best = peak(bench.model)
    with tempfile.TemporaryDirectory() as work:
        golds = bench.golds(Path(work))
        for rows in ROWS:
            seconds, tokens, answer_tokens = train(bench, golds, rows, WorkFolder(Path(work)))
            flops = training_flops(bench.model, tokens, answer_tokens, SLOTS)
            parts[f"{rows}_rows"] = {
                "tokens_per_s": {name: tokens / value for name, value in seconds.items()},
                "share_of_peak": {name: flops / value / best for name, value in seconds.items()},
            }
            where = "" if rows == Schedule().batch_size else f"_{rows}_rows"
            ratios[f"train_vs_peft{where}"] = seconds["CARTRIDGE"] / seconds["precis"]
            ratios[f"train_vs_peft_prefix_tuning{where}"] = seconds["PREFIX_TUNING"] / seconds["precis"]
    return {"slots": SLOTS, "peak_flop_per_s": best, **parts, "ratios": ratios}


def train(
    bench: Bench, golds: Sequence[Gold], rows: int, work: WorkFolder, slots: int = SLOTS
) -> tuple[dict[str, float], int, int]:
    """Time the same batches in turn; gives seconds by name, and the batches' tokens and answer tokens."""
    # neither learning nor its order matters to time; 0 keeps the numbers in range for as long as it takes
    trainer = Trainer(
        bench.model,
        KeyValuePrompt(bench.sigma(slots)),
        objective_named("nll"),
        golds,
        HeldOut(golds[:1], golds[:1], 1.0, 0.0),
        schedule=Schedule(batch_size=rows, learning_rate=0.0, epochs=1000),
        seed=0,
        clock=Clock(None),
        work=work,
        name="speed",
    )
    batches = [golds[rows * n : rows * (n + 1)] for n in range(TRAINED_QUESTIONS // rows)]

    def learn() -> None:
        for batch in batches:
            trainer.learn(batch)

    ways: dict[str, Way] = {"precis": learn}
    for kind in ("CARTRIDGE", "PREFIX_TUNING"):
        ways[kind] = _peft_loop(bench, kind, batches, slots)
    chosen = [gold for batch in batches for gold in batch]
    tokens = sum(len(gold.prompt) + len(gold.tokens) for gold in chosen)
    return bench.in_turn(ways), tokens, sum(len(gold.tokens) for gold in chosen)


def training_flops(model: LanguageModel, tokens: int, answer_tokens: int, slots: int) -> float:
    """4 FLOPs a weight and token, since frozen weights get no gradient; the vocabulary at answers only."""
    config = model.network.config
    inner = config.hidden_size * config.num_attention_heads * model.head_dim
    outer = config.hidden_size * model.kv_heads * model.head_dim
    layer = 2 * inner + 2 * outer + 3 * config.hidden_size * config.intermediate_size
    head = config.hidden_size * config.vocab_size
    # forward 4, backward 8 a score and dimension
    attention = 12 * config.num_attention_heads * model.head_dim * slots * model.layers
    return float(4 * (model.layers * layer * tokens + head * answer_tokens) + attention * tokens)


def _peft_loop(bench: Bench, kind: str, batches: Sequence[Sequence[Gold]], slots: int) -> Way:
    """Train a prefix with PEFT as its documentation shows: padded batches, labels, Adam."""
    import peft

    settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": slots}
    if kind == "CARTRIDGE":
        config: Any = peft.CartridgeConfig(**settings)
    else:
        config = peft.PrefixTuningConfig(**settings)
    network = peft.get_peft_model(bench.twin(), config)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=0.0)
    pad = bench.model.tokenizer.eos_token_id
    padded = [_padded(batch, pad, bench.model.device) for batch in batches]

    def loop() -> None:
        for ids, mask, labels in padded:
            loss = network(input_ids=ids, attention_mask=mask, labels=labels).loss
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()

    return loop


def _padded(batch: Sequence[Gold], pad: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    rows = [[*gold.prompt, *gold.tokens] for gold in batch]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    labels = torch.where(mask.bool(), ids, -100)
    for number, gold in enumerate(batch):
        labels[number, : len(gold.prompt)] = -100
    return ids.to(device), mask.to(device), labels.to(device)


# --- gold answers ---


def gold(bench: Bench) -> dict[str, Any]:
    """Time gold answers after the document: ours, one prefilled cache expanded, the whole prompt each."""
    model, prompts = bench.model, bench.prompts
    prefix = model.prefill(bench.reading)
    cache = cache_of(bench.network, bench.reading)
    said: dict[str, int] = {}

    def ours() -> None:
        generations = model.given(prefix).generate(prompts, max_tokens=GOLD_TOKENS, top_k=32)
        said["precis"] = sum(len(generation.tokens) for generation in generations)

    def expanded() -> None:
        own = copy.deepcopy(cache)
        own.batch_repeat_interleave(len(prompts))
        said["generate_expanded"] = generate(bench, own, prompts, GOLD_TOKENS)

    few = prompts[:3]

    def each() -> None:
        said["generate_full"] = sum(
            generate(bench, None, [[*bench.reading, *prompt]], GOLD_TOKENS) for prompt in few
        )

    seconds = bench.in_turn({"precis": ours, "generate_expanded": expanded, "generate_full": each})
    answers = {
        "precis": len(prompts) / seconds["precis"],
        "generate_expanded": len(prompts) / seconds["generate_expanded"],
        "generate_full": len(few) / seconds["generate_full"],
    }
    others = {name: value for name, value in answers.items() if name != "precis"}
    return {
        "document_tokens": len(bench.reading),
        "questions": len(prompts),
        "questions_for_generate_full": len(few),
        "answer_tokens": said,
        "answers_per_s": answers,
        "ratios": {f"gold_vs_{name}": answers["precis"] / value for name, value in others.items()},
    }


def cache_of(network: Any, tokens: Sequence[int]) -> DynamicCache:
    """Read some tokens with transformers, and give what it keeps."""
    cache = DynamicCache()
    with torch.no_grad():
        network(torch.tensor([tokens], device=network.device), past_key_values=cache, logits_to_keep=1)
    return cache


def generate(bench: Bench, cache: DynamicCache | None, prompts: Sequence[Sequence[int]], most: int) -> int:
    """Answer with transformers, greedily, after what a cache holds; the number of answer tokens."""
    width = max(map(len, prompts))
    before = 0 if cache is None else cache.get_seq_length()
    pad = bench.model.tokenizer.eos_token_id
    tokens = torch.tensor([[pad] * (width - len(prompt)) + [*prompt] for prompt in prompts])
    shown = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    # generate takes the tokens of the whole sequence, and drops those that the cache holds
    ids = torch.cat([torch.full((len(prompts), before), pad), tokens], dim=1).to(bench.model.device)
    mask = torch.cat([torch.ones(len(prompts), before, dtype=torch.int64), shown], dim=1)
    with torch.no_grad():
        out = bench.network.generate(
            ids,
            attention_mask=mask.to(bench.model.device),
            past_key_values=cache,
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=pad,
        )
    stops = bench.model.chat.stop_tokens
    answers = out[:, ids.shape[1] :].tolist()
    return sum(next((n + 1 for n, token in enumerate(row) if token in stops), len(row)) for row in answers)


# --- answering ---


def decoding(bench: Bench) -> dict[str, Any]:
    """Time the tokens of one answer after σ: ours, and transformers' with the same keys and values."""
    model = bench.model
    sigma = bench.sigma(SLOTS)
    prompt = model.chat.question_prompt("Write a long story about the harbour, its people, and its ships.")
    cache = DynamicCache()
    for layer in range(model.layers):
        cache.update(sigma.keys[layer][None], sigma.values[layer][None], layer)
    said: dict[str, int] = {}

    def ours() -> None:
        said["precis"] = len(list(model.given(sigma).stream(prompt, max_tokens=DECODED_TOKENS)))

    def theirs() -> None:
        said["transformers"] = generate(bench, copy.deepcopy(cache), [prompt], DECODED_TOKENS)

    seconds = bench.in_turn({"precis": ours, "transformers": theirs})
    pace = {name: said[name] / value for name, value in seconds.items()}
    return {
        "answer_tokens": said,
        "tokens_per_s": pace,
        "ratios": {"decode_vs_transformers": pace["precis"] / pace["transformers"]},
    }


def answering(bench: Bench) -> dict[str, Any]:
    """Time to the first token, pace and memory, from σ, from the document read anew, and from its cache."""
    text = (bench.document.text + "\n\n") * 8
    rows: list[dict[str, Any]] = []
    for tokens in DOCUMENT_TOKENS:
        for batch in BATCHES:
            rows += _answering(bench, bench.model.chat.document_prompt(text)[:tokens], bench.prompts[:batch])
    ratios = {}
    for ours, cached, again in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        where = f"{ours['document_tokens']}_x{ours['batch']}"
        ratios[f"first_token_{where}_vs_read"] = again["first_token_s"] / ours["first_token_s"]
        ratios[f"first_token_{where}_vs_cache"] = cached["first_token_s"] / ours["first_token_s"]
    return {"rows": rows, "ratios": ratios}


def _answering(
    bench: Bench, reading: Sequence[int], prompts: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """Answer the same prompts from σ, from the document's cache, and from the document read anew."""
    model = bench.model
    whole = model.prefill(reading)
    places = torch.linspace(0, whole.slots - 1, whole.slots // 20).round().long()
    sigma = whole.select(places.expand(model.layers, model.kv_heads, -1))
    said: dict[str, int] = {}

    def way(name: str, prefix: Callable[[], Prefix], most: int) -> Way:
        def run() -> None:
            generations = model.given(prefix()).generate(prompts, max_tokens=most)
            said[name] = sum(len(generation.tokens) for generation in generations)

        return run

    kept: dict[str, Callable[[], Prefix]] = {"soft prompt": lambda: sigma, "cache": lambda: whole}
    sources = {**kept, "document": lambda: model.prefill(reading)}
    first = bench.in_turn({name: way(name, prefix, 1) for name, prefix in sources.items()})
    more = bench.in_turn({name: way(name, prefix, 17) for name, prefix in kept.items()})
    return [
        {
            "document_tokens": len(reading),
            "batch": len(prompts),
            "from": name,
            "first_token_s": first[name],
            "tokens_per_s": (said[name] - len(prompts)) / (more[name] - first[name])
            if name in more
            else None,
            "prefix_mb": (sigma if name == "soft prompt" else whole).nbytes / 1e6,
        }
        for name in sources
    ]


def throughput(bench: Bench) -> dict[str, Any]:
    """Answer 64 questions over 16 documents: in shared passes, document by document, and from full caches."""
    model = bench.model
    whole = model.prefill(bench.reading)
    documents = 16
    generator = torch.Generator().manual_seed(0)
    sigmas, caches = [], []
    for _ in range(documents):
        order = torch.randperm(whole.slots, generator=generator)[: whole.slots // 20].sort().values
        sigmas.append(whole.select(order.expand(model.layers, model.kv_heads, -1)))
        caches.append(whole.select(torch.arange(whole.slots).expand(model.layers, model.kv_heads, -1)))
    questions = [bench.prompts[n % len(bench.prompts)] for n in range(64)]

    def together(prefixes: Sequence[Prefix]) -> Way:
        requests = [Request(prefixes[n % documents], prompt, 24) for n, prompt in enumerate(questions)]
        return lambda: model.generate(requests)

    def apart() -> None:
        for number, sigma in enumerate(sigmas):
            model.given(sigma).generate(questions[number::documents], max_tokens=24)

    seconds = bench.in_turn(
        {"soft_prompts": together(sigmas), "one_document_at_a_time": apart, "caches": together(caches)}
    )
    return {
        "documents": documents,
        "document_tokens": whole.slots,
        "questions_per_s": {name: len(questions) / value for name, value in seconds.items()},
        "prefix_mb": {
            "soft_prompts": sum(sigma.nbytes for sigma in sigmas) / 1e6,
            "caches": sum(cache.nbytes for cache in caches) / 1e6,
        },
        "ratios": {
            "throughput_vs_one_document_at_a_time": seconds["one_document_at_a_time"]
            / seconds["soft_prompts"],
            "throughput_vs_caches": seconds["caches"] / seconds["soft_prompts"],
        },
    }


def start_up(bench: Bench) -> dict[str, Any]:
    """Time `precis ask` from the shell to its end, beside an interpreter that only imports transformers."""
    with tempfile.TemporaryDirectory() as folder:
        document = Document.from_text(bench.document.text[:3000], "start-up")
        settings = Settings(self_study=4, schedule=Schedule(epochs=0))
        artifact = compile(
            document, model=bench.model, settings=settings, work=Path(folder) / "work", calibrate=False
        )
        artifact.save(Path(folder) / "x.precis")
        program = "from precis.cli import main; main()"
        ask = [sys.executable, "-c", program, "ask", f"{folder}/x.precis", "Who is it?", "--json"]
        load = [sys.executable, "-c", "import torch, transformers; transformers.AutoModelForCausalLM"]
        ways: dict[str, Way] = {
            "ask": lambda: subprocess.run(ask, check=True, capture_output=True),
            "imports": lambda: subprocess.run(load, check=True, capture_output=True),
        }
        seconds = bench.in_turn(ways)
    return {"seconds": seconds, "ratios": {"ask_vs_imports": seconds["ask"] / seconds["imports"]}}


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    part.__name__: part for part in (training, gold, decoding, answering, throughput, start_up)
}


def finish(device: torch.device) -> None:
    """Wait for a graphics card, which works on while the program goes on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()
    bench = Bench(options.rounds)
    found: dict[str, Any] = {"surroundings": surroundings(bench.model)}
    ratios: dict[str, float] = {}
    for name in options.only:
        start = time.perf_counter()
        part = SECTIONS[name](bench)
        ratios |= part.pop("ratios")
        found[name] = part
        print(f"{name}: {time.perf_counter() - start:.0f} s\n{json.dumps(part, indent=1)}", flush=True)
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    found["ratios"] = {name: round(value, 3) for name, value in ratios.items()}
    if options.results:
        write_atomically(options.results, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps({"ratios": found["ratios"], **found}))


if __name__ == "__main__":
    main()
