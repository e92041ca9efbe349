"""The frozen model with a prefix before every row: what it scores and writes then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from precis.model.attention.layout import Batch, Observer
from precis.model.decoding import (
    GREEDY,
    Decoder,
    FrozenModel,
    Generation,
    Request,
    Sampling,
    Token,
    generate,
    tokens_per_pass,
)
from precis.model.prefix import Prefix


@dataclass(frozen=True)
class Example:
    """A prompt and a given answer, as token ids: what is scored, and what σ is trained on."""

    prompt: Sequence[int]
    answer: Sequence[int]

    @property
    def tokens(self) -> list[int]:
        """What the network reads: the last answer token predicts nothing."""
        return [*self.prompt, *self.answer[:-1]]


class Conditioned:
    """The frozen model with a prefix before every row."""

    def __init__(self, model: FrozenModel, prefix: Prefix) -> None:
        self.model = model
        self.prefix = prefix

    def room(self) -> int:
        """How many tokens still fit the window after the prefix."""
        return self.model.window - self.prefix.next_position

    def answer_logits(
        self,
        examples: Sequence[Example],
        *,
        observe: Observer | None = None,
        importance: Tensor | None = None,
    ) -> Tensor:
        """Logits at every answer token of every example, one after another; differentiable.

        Parameters
        ----------
        observe
            Sees the queries of every layer; see `attention.layout.Observer`.
        importance
            See `attention.layout.Batch`.

        Returns
        -------
        `[answer token, vocabulary]`, float32.
        """
        device = self.model.device
        lengths = [len(example.tokens) for example in examples]
        row = torch.repeat_interleave(torch.arange(len(examples)), torch.tensor(lengths))
        column = torch.cat([torch.arange(length) for length in lengths])
        wanted, start = [], 0
        for example, length in zip(examples, lengths, strict=True):
            wanted.append(torch.arange(start + len(example.prompt) - 1, start + length))
            start += length
        batch = Batch(
            row.to(device),
            column.to(device),
            self.prefix,
            count=len(examples),
            width=max(lengths),
            observe=observe,
            importance=importance,
        )
        tokens = [token for example in examples for token in example.tokens]
        return self.model.forward(tokens, batch, torch.cat(wanted).to(device))

    @torch.no_grad()
    def score(self, examples: Sequence[Example]) -> Iterator[Tensor]:
        """Log-probabilities `[answer token, vocabulary]` of each example in turn, float32.

        They are computed in passes of a few thousand tokens; take what you need of one before you
        ask for the next, since an example's full distributions are large.
        """
        for together in _passes(examples, tokens_per_pass(self.prefix.slots)):
            parts = torch.split(self.answer_logits(together), [len(each.answer) for each in together])
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
        return generate(self.model, requests, progress=progress)

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


def _passes(examples: Sequence[Example], limit: int) -> Iterator[Sequence[Example]]:
    """Cut examples, in their order, into passes of at most `limit` tokens, or one example."""
    together: list[Example] = []
    tokens = 0
    for example in examples:
        if together and tokens + len(example.tokens) > limit:
            yield together
            together, tokens = [], 0
        together.append(example)
        tokens += len(example.tokens)
    if together:
        yield together
