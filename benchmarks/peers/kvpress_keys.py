"""What kvpress keeps of a text's keys; run in the environment of `requirements.txt`, by `compare.py`.

    python kvpress_keys.py MODEL_FOLDER TASK.json KEYS.safetensors

The task holds `tokens`, `slots` and, by press, its settings. The result holds for every press

- `NAME.kept` `[layer, kv_head, token]`, bool: the keys that stay;
- `NAME.scores` `[layer, kv_head, token]`, float32: what it chose them by;

and, of KVzip, `KVzipPress.repetition`, the tokens that it had the model read to find its scores, and
`KVzipPress.start`, the first token that it scored: it leaves out what the chat template begins with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import kvpress
import torch
from kvpress import KVzipPress, ScorerPress
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils.logging import disable_progress_bar


def scored_by(press: ScorerPress, network: Any, tokens: Tensor) -> Tensor:
    """Give the scores of a press, `[layer, kv_head, token]`, as they come about in its own hooks."""
    score = press.score
    found: dict[int, Tensor] = {}

    def remembered(module: Any, *given: Any, **named: Any) -> Tensor:
        found[module.layer_idx] = score(module, *given, **named)
        return found[module.layer_idx]

    press.score = remembered
    with press(network):
        network(tokens, past_key_values=DynamicCache())
    return torch.stack([found[layer][0] for layer in range(len(found))])


def kept_by_scores(scores: Tensor, slots: int) -> Tensor:
    """Mark the keys that a press keeps, which are those with the largest scores of a head."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(slots, dim=-1).indices, True)


class RememberedKVzip(KVzipPress):  # type: ignore[misc]
    """KVzip that keeps what it found: the press forgets its scores when it is done."""

    def compress_post(self, model: Any) -> None:
        """Choose as the press does, then note the scores and which keys are masked."""
        super().compress_post(model)
        self.found = self.score_val[:, 0].clone()
        self.kept = torch.ones_like(self.found, dtype=torch.bool)
        for layer in model.model.layers:
            _, heads, places = layer.self_attn.masked_key_indices
            self.kept[layer.self_attn.layer_idx, heads, places] = False


def kvzip(network: Any, tokens: Tensor, slots: int, **settings: Any) -> dict[str, Tensor]:
    """Give what `KVzipPress` keeps and has the model read, at as many keys in all as `slots` a head."""
    config = network.config
    # half a key more or less, so that no rounding of the ratio moves the number of keys that stay
    keys = config.num_hidden_layers * config.num_key_value_heads * tokens.shape[1]
    evicted = config.num_hidden_layers * config.num_key_value_heads * (tokens.shape[1] - slots)
    press = RememberedKVzip(compression_ratio=(evicted + 0.5) / keys, **settings)
    read: list[Tensor] = []
    start: list[int] = []
    prepare = press.prepare

    def remembered(*given: Any, **named: Any) -> Any:
        chunks = prepare(*given, **named)
        read.extend(repetition[0] for _, repetition in chunks)
        start.append(press.prefix_length)
        return chunks

    press.prepare = remembered
    with press(network):
        network(tokens, past_key_values=DynamicCache())
    if len(read) != 1:
        raise SystemExit(
            f"KVzip took {len(read)} chunks; give a text of one, {press.chunk_size} tokens at most"
        )
    return {
        "kept": press.kept,
        "scores": press.found.float(),
        "repetition": read[0],
        "start": torch.tensor(start),
    }


@torch.no_grad()
def main() -> None:
    """Let every press of the task choose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("keys", type=Path)
    options = parser.parse_args()
    task = json.loads(options.task.read_text())
    tokens, slots = torch.tensor([task["tokens"]]), int(task["slots"])
    disable_progress_bar()
    network = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    ratio = 1 - (slots + 0.5) / tokens.shape[1]
    found: dict[str, Tensor] = {}
    for name, settings in task["presses"].items():
        if name == "KVzipPress":
            result = kvzip(network, tokens, slots, **settings)
        else:
            press = getattr(kvpress, name)(compression_ratio=ratio, **settings)
            scores = scored_by(press, network, tokens)
            result = {"scores": scores.float(), "kept": kept_by_scores(scores, slots)}
        found |= {f"{name}.{part}": tensor.contiguous() for part, tensor in result.items()}
    save_file(found, options.keys)


if __name__ == "__main__":
    main()
