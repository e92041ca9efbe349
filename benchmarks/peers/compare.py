"""Do our baselines keep the keys that kvpress keeps? The same model, tokens and number of slots in both.

    python benchmarks/peers/compare.py ENVIRONMENT/bin/python [--document FILE] [--tokens 1000] [--slots 50]

The Python named is that of an environment with `requirements.txt`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from precis import Document, LanguageModel, load_model, read
from precis.baselines import BASELINES, Task, expected_attention, kvzip, snapkv, streaming
from precis.baselines.eviction import Eviction
from precis.compilation.progress import Progress
from precis.compilation.settings import Settings
from precis.model.attention.observation import Queries, attention_weights
from precis.model.loading import default_model_folder
from precis.model.prefix import Prefix
from precis.model.selection import best_of_all

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "tern-harbour.md"
PRESSES = {
    "streaming": "StreamingLLMPress",
    "snapkv": "SnapKVPress",
    "keydiff": "KeyDiffPress",
    "expected-attention": "ExpectedAttentionPress",
    "kvzip": "KVzipPress",
}


@dataclass(frozen=True)
class Agreement:
    """How far two choices of keys agree.

    Parameters
    ----------
    method
        Our name.
    shared, worst_head
        The share of kvpress' keys that we keep too: over all layers and heads, and of the head where it is
        least.
    heads_alike
        The share of heads that keep exactly the same keys.
    other_keys
        How many keys kvpress keeps and we do not.
    score_difference
        The largest difference between two scores of a key, as a part of its head's largest score; None where
        the scores are not of the same thing.
    """

    method: str
    shared: float
    worst_head: float
    heads_alike: float
    other_keys: int
    score_difference: float | None


def agreement(
    method: str, ours: Tensor, theirs: Tensor, scores: tuple[Tensor, Tensor] | None = None
) -> Agreement:
    """Compare kept keys `[layer, kv_head, token]`, bool, and our scores with theirs, of the same shape."""
    both = (ours & theirs).sum(-1)
    kept = theirs.sum(-1)
    of_head = both / kept
    return Agreement(
        method,
        shared=float(both.sum() / kept.sum()),
        worst_head=float(of_head.min()),
        heads_alike=float((ours == theirs).all(-1).float().mean()),
        other_keys=int((kept - both).sum()),
        score_difference=None if scores is None else score_difference(*scores),
    )


def score_difference(ours: Tensor, theirs: Tensor) -> float:
    """Give the largest difference of scores that are not set to infinity, relative to the head's largest."""
    compared = ours.isfinite()
    ours, theirs = ours.masked_fill(~compared, 0).double(), theirs.masked_fill(~compared, 0).double()
    largest = theirs.abs().amax(-1, keepdim=True)
    return float(((ours - theirs).abs() / largest).max())


def kept_in(prefix: Prefix, tokens: int) -> Tensor:
    """Mark which tokens' keys are in a prefix, `[layer, kv_head, token]`; hidden slots are not."""
    shown = torch.ones_like(prefix.positions) if prefix.bias is None else (prefix.bias > -torch.inf).long()
    counts = torch.zeros(*prefix.positions.shape[:2], tokens, dtype=torch.int64)
    return counts.scatter_add(-1, prefix.positions, shown).bool()


def settings_of_presses(tokens: int, slots: int) -> dict[str, dict[str, Any]]:
    """Set the presses as our baselines are set."""
    return {
        "StreamingLLMPress": {"n_sink": streaming.SINKS},
        "SnapKVPress": {
            "window_size": max(1, min(snapkv.WINDOW, slots // 2, tokens - 1)),
            "kernel_size": snapkv.KERNEL,
        },
        "KeyDiffPress": {},
        "ExpectedAttentionPress": {
            "n_future_positions": expected_attention.FUTURE,
            "n_sink": expected_attention.SINKS,
            "use_covariance": True,
            "use_vnorm": True,
            "epsilon": 0.0,
        },
        "KVzipPress": {"n_sink": kvzip.SINKS, "chunk_size": kvzip.CHUNK},
    }


def kvpress_keys(python: Path, tokens: list[int], slots: int) -> dict[str, Tensor]:
    """Run `kvpress_keys.py` in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        task, keys = Path(folder, "task.json"), Path(folder, "keys.safetensors")
        presses = settings_of_presses(len(tokens), slots)
        task.write_text(json.dumps({"tokens": tokens, "slots": slots, "presses": presses}))
        subprocess.run([python, HERE / "kvpress_keys.py", default_model_folder(), task, keys], check=True)
        return load_file(keys)


def beginning(model: LanguageModel, path: Path, tokens: int) -> Document:
    """Read the first tokens of a document."""
    document = read(path)
    start = model.chat.encode_plainly(document.text)[:tokens]
    return Document.from_text(model.chat.decode(start), document.name)


def compare(task: Task, theirs: dict[str, Tensor]) -> list[Agreement]:
    """Let our baselines choose, and compare."""
    tokens = task.whole_reading()
    found = []
    for name, press in PRESSES.items():
        baseline, kept = BASELINES[name], theirs[f"{press}.kept"]
        ours = kept_in(baseline.prefix(task), len(tokens))
        scores = None
        # streaming's scores are an order, not a measurement
        if isinstance(baseline, Eviction) and name != "streaming":
            scores = (baseline.scores(task, tokens)[1], theirs[f"{press}.scores"])
        found.append(agreement(name, ours, kept, scores))
    found += kvzip_step_by_step(task, tokens, theirs)
    # what two methods share that have nothing to do with each other
    control = kept_in(BASELINES["keydiff"].prefix(task), len(tokens))
    found.append(agreement("control: keydiff with SnapKVPress", control, theirs["SnapKVPress.kept"]))
    return found


def kvzip_step_by_step(task: Task, tokens: list[int], theirs: dict[str, Tensor]) -> list[Agreement]:
    """Give our KVzip kvpress' request to repeat the text, then also the keys that it looks at."""
    kept = theirs["KVzipPress.kept"]
    repetition, start = theirs["KVzipPress.repetition"].tolist(), int(theirs["KVzipPress.start"])
    document = task.model.prefill(tokens)

    def chosen(scores: Tensor) -> Tensor:
        return kept_in(best_of_all(scores, task.slots, kvzip.SINKS).of(document), len(tokens))

    as_asked = kvzip.largest_attention(task.model, document, repetition)
    places = torch.cat([torch.arange(kvzip.SINKS), torch.arange(start, len(tokens) + len(repetition))])
    among = largest_attention_among(task.model, document, repetition, places)
    # the first keys stay whatever their scores: they are not compared
    compared = among.clone()
    compared[..., : kvzip.SINKS] = torch.inf
    return [
        agreement("kvzip, kvpress' request", chosen(as_asked), kept),
        agreement(
            "kvzip, kvpress' request and keys",
            chosen(among),
            kept,
            (compared, theirs["KVzipPress.scores"]),
        ),
    ]


def largest_attention_among(
    model: LanguageModel, document: Prefix, repetition: list[int], places: Tensor
) -> Tensor:
    """Give the largest attention that a repetition's tokens pay to each key, where they see only some keys.

    Parameters
    ----------
    places
        `[seen]`: which keys share the softmax, of the document's and then the repetition's own.

    Returns
    -------
    `[layer, kv_head, token]`, zero for keys that are not seen.
    """
    queries = Queries()
    both = model.prefill(repetition, after=document, observe=queries)
    seen = both.select(places.expand(*both.positions.shape[:2], -1))
    positions = torch.arange(document.next_position, both.next_position)
    scores = torch.zeros(both.positions.shape)
    for layer in range(model.layers):
        states, scaling = queries.states[layer], queries.scaling[layer]
        weights = attention_weights(states, scaling, positions, seen.layer(layer), model.limits[layer])
        scores[layer][:, places] = weights.amax(dim=(1, 2))
    return scores[..., : document.slots]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("python", type=Path, help="of an environment with kvpress")
    parser.add_argument("--document", type=Path, default=EXAMPLE)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=50)
    options = parser.parse_args()
    # float32 on both sides: in bfloat16 keys with nearly the same score change places
    model = load_model(dtype=torch.float32)
    document = beginning(model, options.document, options.tokens)
    task = Task(model, document, options.slots, Settings(), None, Progress())
    tokens = task.whole_reading()
    found = compare(task, kvpress_keys(options.python, tokens, options.slots))
    print(f"{len(tokens)} tokens, {options.slots} slots, {model.layers * model.kv_heads} heads\n")
    print("| method | shared keys | worst head | heads alike | other keys | scores differ by |")
    print("|---|---|---|---|---|---|")
    for one in found:
        scores = "" if one.score_difference is None else f"{one.score_difference:.0e}"
        print(
            f"| {one.method} | {one.shared:.4f} | {one.worst_head:.2f} | {one.heads_alike:.3f} "
            f"| {one.other_keys} | {scores} |"
        )
    summary = {"tokens": len(tokens), "slots": options.slots, "methods": [asdict(one) for one in found]}
    print(f"\n{json.dumps(summary)}")


if __name__ == "__main__":
    main()
