"""The frozen model: load it, let it read (`prefill`), and condition it on a prefix (`given`).

teacher = model.given(model.prefill(tokens))
student = model.given(soft_prompt.prefix())
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from precis import attention
from precis.attention import Limits, Observer, Rows
from precis.chat import Chat
from precis.decoding import (
    GREEDY,
    ROWS_AT_ONCE,
    Decoder,
    Generation,
    Request,
    Sampling,
    Token,
    tokens_per_pass,
)
from precis.errors import ModelError
from precis.prefix import Prefix


@dataclass(frozen=True)
class Row:
    """A prompt and a given answer, as token ids: what is scored, and what σ is trained on."""

    prompt: Sequence[int]
    answer: Sequence[int]

    @property
    def tokens(self) -> list[int]:
        """What the network reads: the last answer token predicts nothing."""
        return [*self.prompt, *self.answer[:-1]]


class LanguageModel:
    """A frozen Hugging Face causal language model.

    Parameters
    ----------
    name
        What the user called it.
    network
        The loaded model, using `attention.IMPLEMENTATION`.
    tokenizer
        Its tokenizer.

    Raises
    ------
    ModelError
        The network has layers that a prefix of keys and values cannot condition.
    """

    def __init__(self, name: str, network: Any, tokenizer: Any) -> None:
        self.name = name
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        config = network.config.get_text_config()
        self.layers: int = config.num_hidden_layers
        self.hidden_size: int = config.hidden_size
        self.window: int = config.max_position_embeddings
        self.chat = Chat(tokenizer, _stop_tokens(network))
        parameter = next(network.parameters())
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        self.kv_heads, self.head_dim, self.limits = self._measure_heads()
        self.digest = weights_digest(network)
        self.tokenizer_digest = tokenizer_digest(tokenizer)

    @property
    def token_bytes(self) -> int:
        """Memory that the keys and values of one token take."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize

    def empty_prefix(self) -> Prefix:
        """Give the prefix of no token."""
        return Prefix.empty(self.layers, self.kv_heads, self.head_dim, dtype=self.dtype, device=self.device)

    def prefill(
        self,
        tokens: Sequence[int] | Tensor,
        after: Prefix | None = None,
        *,
        observe: Observer | None = None,
    ) -> Prefix:
        """Read, once: the keys and values of a text, as a prefix.

        Parameters
        ----------
        tokens
            Token ids, or input embeddings `[token, hidden]` (differentiable).
        after
            What stands before the text; the result then includes it.
        observe
            Sees the queries of every layer; see `attention.Observer`.

        Raises
        ------
        ModelError
            The text does not fit the model's window.
        """
        before = self.empty_prefix() if after is None else after
        length = len(tokens)
        if length == 0:
            return before
        end = before.next_position + length
        if end > self.window:
            raise ModelError(
                f"{end} tokens do not fit the window of {self.name}, which is {self.window} tokens."
            )
        column = torch.arange(length, device=self.device)
        rows = Rows(torch.zeros_like(column), column, before, 1, length, observe=observe, keep=True)
        with torch.set_grad_enabled(isinstance(tokens, Tensor) and tokens.requires_grad):
            self.forward(tokens, rows, column[-1:])
        keys = torch.stack([rows.kept[layer][0] for layer in range(self.layers)])
        values = torch.stack([rows.kept[layer][1] for layer in range(self.layers)])
        positions = rows.positions.expand(self.layers, self.kv_heads, -1)
        new = Prefix(keys, values, positions, end)
        return new if before.slots == 0 else before.followed_by(new)

    def given(self, prefix: Prefix) -> Conditioned:
        """Condition the model: whatever it scores or writes then stands after the prefix."""
        return Conditioned(self, prefix.to(self.device, self.dtype))

    @torch.no_grad()
    def generate(
        self, requests: Sequence[Request], *, progress: Callable[[int], None] = lambda _: None
    ) -> list[Generation]:
        """Answer many requests together, whatever stands before each.

        Parameters
        ----------
        requests
            The same `Prefix` object before several is held once.
        progress
            Called with the number of requests that were just finished.

        Raises
        ------
        QuestionsError
            A prompt leaves no room for an answer in the model's window.
        """
        decoder = Decoder(self, min(ROWS_AT_ONCE, max(1, len(requests))))
        for request in requests:
            decoder.submit(request)
        done: dict[int, Generation] = {}
        while decoder.waiting or decoder.active:
            decoder.advance()
            for row in decoder.retire():
                done[row.number] = row.generation
                progress(1)
        return [done[number] for number in range(len(requests))]

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """Give the input embeddings `[token, hidden]` of some tokens."""
        ids = torch.tensor(list(tokens), device=self.device)
        table: Tensor = self.network.get_input_embeddings()(ids)
        return table

    def forward(self, tokens: Sequence[int] | Tensor, rows: Rows, wanted: Tensor) -> Tensor:
        """Run the network over packed tokens; logits `[wanted, vocabulary]` in float32."""
        if isinstance(tokens, Tensor) and tokens.is_floating_point():
            given = {"inputs_embeds": tokens.unsqueeze(0)}
        else:
            given = {"input_ids": torch.as_tensor(tokens, device=self.device).unsqueeze(0)}
        out = self.network(
            **given,
            position_ids=rows.positions.unsqueeze(0),
            use_cache=False,
            logits_to_keep=wanted,
            rows=rows,
        )
        logits: Tensor = out.logits[0].float()
        return logits

    def _measure_heads(self) -> tuple[int, int, list[Limits]]:
        """Let the network read one token, and see that every layer attends through our function."""
        column = torch.zeros(1, dtype=torch.int64, device=self.device)
        nothing = Prefix.empty(0, 0, 0, dtype=self.dtype, device=self.device)
        rows = Rows(column, column, nothing, count=1, width=1, keep=True)
        with torch.no_grad():
            self.forward([0], rows, column)
        missing = sorted(set(range(self.layers)) - set(rows.kept))
        if missing:
            raise ModelError(
                f"{self.name} ({self.network.config.model_type}) cannot be given a soft prompt: "
                f"{len(missing)} of its {self.layers} layers do not attend to keys and values "
                "through transformers' attention interface. Choose a model in which all layers do."
            )
        shapes = {(key.shape[0], key.shape[2]) for key, value in rows.kept.values()}
        shapes |= {(value.shape[0], value.shape[2]) for key, value in rows.kept.values()}
        if len(shapes) > 1:
            raise ModelError(
                f"{self.name} ({self.network.config.model_type}) cannot be given a soft prompt: "
                f"its layers differ in the shape of keys and values ({sorted(shapes)})."
            )
        return *shapes.pop(), [rows.limits[layer] for layer in range(self.layers)]


class Conditioned:
    """The frozen model with a prefix before every row."""

    def __init__(self, model: LanguageModel, prefix: Prefix) -> None:
        self.model = model
        self.prefix = prefix

    def room(self) -> int:
        """How many tokens still fit the window after the prefix."""
        return self.model.window - self.prefix.next_position

    def answer_logits(
        self, rows: Sequence[Row], *, observe: Observer | None = None, importance: Tensor | None = None
    ) -> Tensor:
        """Logits at every answer token of every row, rows one after another; differentiable.

        Parameters
        ----------
        observe
            Sees the queries of every layer; see `attention.Observer`.
        importance
            See `attention.Rows`.

        Returns
        -------
        `[answer token, vocabulary]`, float32.
        """
        device = self.model.device
        lengths = [len(row.tokens) for row in rows]
        row = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(lengths))
        column = torch.cat([torch.arange(length) for length in lengths])
        wanted, start = [], 0
        for item, length in zip(rows, lengths, strict=True):
            wanted.append(torch.arange(start + len(item.prompt) - 1, start + length))
            start += length
        packed = Rows(
            row.to(device),
            column.to(device),
            self.prefix,
            count=len(rows),
            width=max(lengths),
            observe=observe,
            importance=importance,
        )
        tokens = [token for item in rows for token in item.tokens]
        return self.model.forward(tokens, packed, torch.cat(wanted).to(device))

    @torch.no_grad()
    def score(self, rows: Sequence[Row]) -> Iterator[Tensor]:
        """Log-probabilities `[answer token, vocabulary]` of each row in turn, float32.

        They are computed in batches of a few thousand tokens; take what you need of one before you
        ask for the next, since a row's full distributions are large.
        """
        for batch in _batches(rows, tokens_per_pass(self.prefix.slots)):
            logits = self.answer_logits(batch)
            parts = torch.split(logits, [len(row.answer) for row in batch])
            for part in parts:
                yield torch.log_softmax(part, dim=-1)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        sampling: Sampling = GREEDY,
        top_k: int = 0,
        entropies: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[Generation]:
        """Answer many prompts after the one prefix; see `LanguageModel.generate`.

        Sampled rows are seeded one after another, from the seed of `sampling` on.
        """
        requests = [
            Request(
                self.prefix,
                prompt,
                max_tokens,
                replace(sampling, seed=sampling.seed + number) if sampling.temperature else sampling,
                top_k,
                entropies,
            )
            for number, prompt in enumerate(prompts)
        ]
        return self.model.generate(requests, progress=progress)

    @torch.no_grad()
    def stream(
        self, prompt: Sequence[int], *, max_tokens: int, sampling: Sampling = GREEDY
    ) -> Iterator[Token]:
        """Yield the tokens of one answer as they are chosen, the stop token included."""
        decoder = Decoder(self.model, places=1)
        decoder.submit(Request(self.prefix, prompt, max_tokens, sampling, entropies=True))
        while decoder.waiting or decoder.active:
            decoder.advance()
            said = decoder.active[0].generation
            yield Token(said.tokens[-1], said.log_probabilities[-1], said.entropies[-1])
            for _ in decoder.retire():
                pass


def _batches(rows: Sequence[Row], limit: int) -> Iterator[Sequence[Row]]:
    """Cut rows, in their order, into batches of at most `limit` tokens, or one row."""
    batch: list[Row] = []
    tokens = 0
    for row in rows:
        if batch and tokens + len(row.tokens) > limit:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += len(row.tokens)
    if batch:
        yield batch


def _stop_tokens(network: Any) -> list[int]:
    """End-of-answer tokens of the model's generation settings."""
    stops = getattr(network.generation_config, "eos_token_id", None)
    if stops is None:
        return []
    return [stops] if isinstance(stops, int) else list(stops)


def weights_digest(network: Any) -> str:
    """Fingerprint the weights: names, shapes and evenly spaced values of every tensor.

    The values are taken in bfloat16, so that the same weights loaded in another precision have the
    same fingerprint. Sampling keeps start-up short; any fine-tuning moves some of the values.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        sha.update(f"{name} {tuple(tensor.shape)}".encode())
        flat = tensor.reshape(-1)
        sample = flat[:: max(1, flat.numel() // 1024)].to("cpu", torch.bfloat16)
        sha.update(sample.view(torch.int16).numpy().tobytes())
    return sha.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """Fingerprint what text becomes: the vocabulary and the chat template."""
    sha = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        sha.update(f"{index} {token}\n".encode(errors="surrogatepass"))
    sha.update(str(tokenizer.chat_template).encode())
    return sha.hexdigest()


transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
attention.register()
