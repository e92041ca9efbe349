"""The frozen model: load it, let it read (`prefill`), and condition it on a prefix (`given`).

teacher = model.given(model.prefill(tokens))
student = model.given(soft_prompt.prefix())
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from precis import attention
from precis.attention import Limits, Observer, RowCache, Rows
from precis.chat import Chat
from precis.errors import ModelError, QuestionsError
from precis.prefix import Prefix

# Tokens in one pass: enough to keep the matrix products busy, few enough to stay in memory.
TOKENS_PER_PASS = 2048
# Rows generated together. A step reads all weights once, whatever the number of rows: on two cores
# 96 rows take a third longer than 48.
ROWS_AT_ONCE = 96


@dataclass(frozen=True)
class Row:
    """A prompt and a given answer, as token ids: what is scored, and what σ is trained on."""

    prompt: Sequence[int]
    answer: Sequence[int]

    @property
    def tokens(self) -> list[int]:
        """What the network reads: the last answer token predicts nothing."""
        return [*self.prompt, *self.answer[:-1]]


class Token(NamedTuple):
    """A token that the model chose.

    `log_probability` is its own, `entropy` that of the distribution it was chosen from, in nats.
    """

    id: int
    log_probability: float
    entropy: float


@dataclass
class Generation:
    """What the model wrote for one prompt.

    `tokens` ends with the stop token if `finished`; otherwise the limit ended it. `log_probabilities` and
    `entropies` (see `Token`) hold one value a token; `top_ids` and `top_log_probabilities` one list of k a
    token, most likely first, where they were asked for.
    """

    tokens: list[int] = field(default_factory=list)
    finished: bool = False
    log_probabilities: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    top_ids: list[list[int]] = field(default_factory=list)
    top_log_probabilities: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: greedily at temperature 0 (the default), else by nucleus sampling.

    `stops` are tokens that end a row, beside those that end the model's answers.
    """

    temperature: float = 0.0
    top_p: float = 0.95
    seed: int = 0
    stops: frozenset[int] = frozenset()


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
            self._forward(tokens, rows, column[-1:])
        keys = torch.stack([rows.kept[layer][0] for layer in range(self.layers)])
        values = torch.stack([rows.kept[layer][1] for layer in range(self.layers)])
        positions = rows.positions.expand(self.layers, self.kv_heads, -1)
        new = Prefix(keys, values, positions, end)
        return new if before.slots == 0 else before.followed_by(new)

    def given(self, prefix: Prefix) -> Conditioned:
        """Condition the model: whatever it scores or writes then stands after the prefix."""
        return Conditioned(self, prefix.to(self.device, self.dtype))

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """Give the input embeddings `[token, hidden]` of some tokens."""
        ids = torch.tensor(list(tokens), device=self.device)
        table: Tensor = self.network.get_input_embeddings()(ids)
        return table

    def _forward(self, tokens: Sequence[int] | Tensor, rows: Rows, wanted: Tensor) -> Tensor:
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
            self._forward([0], rows, column)
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

    def tokens_per_pass(self) -> int:
        """How many tokens go through the network together: fewer after a long prefix.

        Attention scores take memory in proportion to tokens times slots.
        """
        return max(256, min(TOKENS_PER_PASS, TOKENS_PER_PASS * 4096 // max(1, self.prefix.slots)))

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
        return self.model._forward(tokens, packed, torch.cat(wanted).to(device))

    @torch.no_grad()
    def score(self, rows: Sequence[Row]) -> Iterator[Tensor]:
        """Log-probabilities `[answer token, vocabulary]` of each row in turn, float32.

        They are computed in batches of a few thousand tokens; take what you need of one before you
        ask for the next, since a row's full distributions are large.
        """
        for batch in _batches(rows, self.tokens_per_pass()):
            logits = self.answer_logits(batch)
            parts = torch.split(logits, [len(row.answer) for row in batch])
            for part in parts:
                yield torch.log_softmax(part, dim=-1)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        sampling: Sampling | None = None,
        top_k: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[Generation]:
        """Answer many prompts against the one prefix.

        Rows that end make place at once for those that wait, so that passes stay full.

        Parameters
        ----------
        max_tokens
            The most tokens that a row may get; fewer where the window ends earlier.
        sampling
            Greedy by default.
        top_k
            How many of the most likely tokens to keep at each position.
        progress
            Called with the number of rows that have just finished.

        Raises
        ------
        QuestionsError
            A prompt leaves no room for an answer in the model's window.
        """
        done: dict[int, Generation] = {}
        for index, generation in self._generate(prompts, max_tokens, sampling or Sampling(), top_k):
            done[index] = generation
            if progress is not None:
                progress(1)
        return [done[index] for index in range(len(prompts))]

    @torch.no_grad()
    def stream(
        self, prompt: Sequence[int], *, max_tokens: int, sampling: Sampling | None = None
    ) -> Iterator[Token]:
        """Yield the tokens of one answer as they are chosen, the stop token included."""
        work = _Decoding(self, [prompt], max_tokens, sampling or Sampling(), 0)
        work.admit()
        while work.active:
            so_far = work.active[0].generation
            yield Token(so_far.tokens[-1], so_far.log_probabilities[-1], so_far.entropies[-1])
            if not list(work.retire()):
                work.step()

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        sampling: Sampling,
        top_k: int,
    ) -> Iterator[tuple[int, Generation]]:
        work = _Decoding(self, prompts, max_tokens, sampling, top_k)
        while work.waiting or work.active:
            # a new pass over prompts pays once a quarter of the places is free
            if work.waiting and len(work.active) <= work.places * 3 // 4:
                work.admit()
            else:
                work.step()
            yield from work.retire()


@dataclass
class _Active:
    """A row at work: which prompt it answers, and how many of its tokens the network has read."""

    index: int
    read: int
    limit: int
    generation: Generation


class _Decoding:
    """The state of one call of `generate`."""

    def __init__(
        self,
        conditioned: Conditioned,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        sampling: Sampling,
        top_k: int,
    ) -> None:
        room = conditioned.room()
        for prompt in prompts:
            if len(prompt) >= room:
                raise QuestionsError(
                    f"A question of {len(prompt)} tokens does not fit: {room} tokens are left of the "
                    f"window of {conditioned.model.name} ({conditioned.model.window}) after what "
                    "stands before it. Ask a shorter question."
                )
        self.model = conditioned.model
        self.prefix = conditioned.prefix
        self.prompts = prompts
        self.tokens_per_pass = conditioned.tokens_per_pass()
        self.sampling = sampling
        self.stops = conditioned.model.chat.stop_tokens | sampling.stops
        self.top_k = top_k
        self.waiting = deque(range(len(prompts)))
        self.active: list[_Active] = []
        self.places = min(ROWS_AT_ONCE, max(1, len(prompts)))
        longest = max(map(len, prompts), default=0)
        self.limits = [min(max_tokens, room - len(prompt)) for prompt in prompts]
        self.cache = RowCache(self.prefix, self.places, longest + max_tokens)
        self.random = torch.Generator(device=self.model.device).manual_seed(sampling.seed)

    def admit(self) -> None:
        """Read the prompts of as many waiting rows as there are places, and choose first tokens."""
        first = len(self.active)
        new: list[int] = []
        tokens_left = self.tokens_per_pass
        while self.waiting and first + len(new) < self.places:
            tokens_left -= len(self.prompts[self.waiting[0]])
            if new and tokens_left < 0:
                break
            new.append(self.waiting.popleft())
        prompts = [self.prompts[index] for index in new]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        rows = Rows(
            torch.repeat_interleave(torch.arange(len(new)), lengths).to(self.model.device),
            torch.cat([torch.arange(length) for length in lengths]).to(self.model.device),
            self.prefix,
            count=len(new),
            width=int(lengths.max()),
            own=self.cache,
            first=first,
        )
        tokens = [token for prompt in prompts for token in prompt]
        logits = self.model._forward(tokens, rows, (lengths.cumsum(0) - 1).to(self.model.device))
        for index, prompt in zip(new, prompts, strict=True):
            self.active.append(_Active(index, len(prompt), self.limits[index], Generation()))
        self._choose(logits, self.active[first:])

    def step(self) -> None:
        """Let every active row read its newest token and choose the next."""
        device = self.model.device
        column = torch.tensor([row.read for row in self.active], device=device)
        rows = Rows(
            torch.arange(len(self.active), device=device),
            column,
            self.prefix,
            count=len(self.active),
            width=max(row.read for row in self.active) + 1,
            own=self.cache,
        )
        tokens = [row.generation.tokens[-1] for row in self.active]
        logits = self.model._forward(tokens, rows, rows.row)
        for row in self.active:
            row.read += 1
        self._choose(logits, self.active)

    def retire(self) -> Iterator[tuple[int, Generation]]:
        """Give up the rows that have ended, and let the last ones take their places."""
        place = 0
        while place < len(self.active):
            row = self.active[place]
            row.generation.finished = row.generation.tokens[-1] in self.stops
            if not row.generation.finished and len(row.generation.tokens) < row.limit:
                place += 1
                continue
            last = self.active.pop()
            if last is not row:
                self.active[place] = last
                self.cache.move(len(self.active), place)
            yield row.index, row.generation

    def _choose(self, logits: Tensor, rows: Sequence[_Active]) -> None:
        log_probabilities = torch.log_softmax(logits, dim=-1)
        chosen = _sample(logits, self.sampling, self.random)
        chosen_log = log_probabilities.gather(1, chosen.unsqueeze(1)).squeeze(1).tolist()
        entropies = torch.special.entr(log_probabilities.exp()).sum(dim=-1).tolist()
        found = zip(rows, chosen.tolist(), chosen_log, entropies, strict=True)
        for row, token, log_probability, entropy in found:
            row.generation.tokens.append(token)
            row.generation.log_probabilities.append(log_probability)
            row.generation.entropies.append(entropy)
        if self.top_k:
            top = log_probabilities.topk(self.top_k, dim=-1)
            kept = zip(rows, top.indices.tolist(), top.values.tolist(), strict=True)
            for row, ids, values in kept:
                row.generation.top_ids.append(ids)
                row.generation.top_log_probabilities.append(values)


def _sample(logits: Tensor, sampling: Sampling, random: torch.Generator) -> Tensor:
    """Choose one token a row, `[row]`."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    # beyond the 64 most likely tokens lies no nucleus worth sorting a whole vocabulary for
    likely = (logits / sampling.temperature).topk(min(64, logits.shape[-1]), dim=-1)
    probabilities, order = torch.softmax(likely.values, dim=-1), likely.indices
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.masked_fill(before > sampling.top_p, 0.0)
    picked = torch.multinomial(probabilities, 1, generator=random)
    return order.gather(1, picked).squeeze(1)


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
