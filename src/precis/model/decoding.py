"""Writing answers: any number of requests, after one prefix or after many, in shared forward passes.

A step reads all weights once, whatever the number of rows. So all rows at work take every step together;
a row that ends makes place at once for one that waits. What a row writes depends on its own request
alone, never on the company that it is in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from precis.errors import QuestionsError
from precis.model.attention.layout import Batch
from precis.model.attention.row_cache import RowCache
from precis.model.chat import Chat
from precis.model.prefix import Prefix, PrefixStack

# Tokens in one pass: enough to keep the matrix products busy, few enough to stay in memory.
TOKENS_PER_PASS = 2048
# Rows at work together: on two cores 96 rows take a third longer for a step than 48.
ROWS_AT_ONCE = 96
# Beyond so many most likely tokens lies no nucleus worth sorting a whole vocabulary for.
NUCLEUS = 64


class FrozenModel(Protocol):
    """What writing answers needs of a model; `LanguageModel` has it."""

    name: str
    window: int
    device: torch.device
    chat: Chat

    @property
    def token_bytes(self) -> int:
        """Memory that the keys and values of one token take."""

    def forward(self, tokens: Sequence[int] | Tensor, batch: Batch, wanted: Tensor) -> Tensor:
        """Run the network over packed tokens; logits `[wanted, vocabulary]` in float32."""


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

    `tokens` ends with the stop token if `finished`; otherwise the limit ended it. `log_probabilities`
    holds one value a token, and so does `entropies` where they were asked for (see `Token`); `top_ids`
    and `top_log_probabilities` hold one list of k a token, most likely first, where those were.
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

    With `top_p` at 1 the whole vocabulary is drawn from; below, the nucleus is sought among the
    `NUCLEUS` most likely tokens. `stops` are tokens that end a row, beside those that end the model's
    answers.
    """

    temperature: float = 0.0
    top_p: float = 0.95
    seed: int = 0
    stops: frozenset[int] = frozenset()


GREEDY = Sampling()


@dataclass(frozen=True)
class Request:
    """A prompt that waits for its answer.

    Parameters
    ----------
    prefix
        What stands before it.
    prompt
        Its tokens.
    max_tokens
        The most tokens of an answer; fewer where the window ends earlier.
    sampling
        How tokens are chosen.
    top_k
        How many of the most likely tokens to keep at each position.
    entropies
        Whether to keep the entropy at each position, which takes a pass over the vocabulary.
    """

    prefix: Prefix
    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = GREEDY
    top_k: int = 0
    entropies: bool = False


@dataclass(eq=False)
class Active:
    """A row at work: what it answers, and how many of its tokens the network has read."""

    request: Request
    number: int
    limit: int
    stops: frozenset[int]
    read: int = 0
    generation: Generation = field(default_factory=Generation)
    random: torch.Generator | None = None

    @property
    def ended(self) -> bool:
        """Whether its last token was to end it."""
        written = self.generation.tokens
        return bool(written) and (written[-1] in self.stops or len(written) >= self.limit)

    @property
    def width(self) -> int:
        """How many tokens of its own it may come to have."""
        return len(self.request.prompt) + self.limit


class Decoder:
    """Rows at work.

    Parameters
    ----------
    model
        The frozen model.
    places
        The most rows at work together.
    tokens_at_once
        The most tokens of prompts that are read in one pass, or one prompt; fewer after long prefixes.
    memory
        The most token places, padding included, that the rows' own keys take, and as many for prefixes
        that stand side by side; a row that is alone always has room. None: no bound.
    """

    def __init__(
        self,
        model: FrozenModel,
        places: int = ROWS_AT_ONCE,
        *,
        tokens_at_once: int = TOKENS_PER_PASS,
        memory: int | None = None,
    ) -> None:
        self.model = model
        self.places = places
        self.tokens_at_once = tokens_at_once
        self.memory = memory
        self.waiting: deque[Active] = deque()
        self.active: list[Active] = []
        self._cache: RowCache | None = None
        self._members: list[Prefix] = []
        self._stack: PrefixStack | None = None
        self._submitted = 0
        self._in_pass: list[Active] = []

    def submit(self, request: Request) -> int:
        """Let a request wait for a place.

        Returns
        -------
        The number that `retire` will give its answer under.

        Raises
        ------
        QuestionsError
            The prompt leaves no room for an answer in the model's window.
        """
        room = self.model.window - request.prefix.next_position
        if len(request.prompt) >= room:
            raise QuestionsError(
                f"A question of {len(request.prompt)} tokens does not fit: {room} tokens are left of the "
                f"window of {self.model.name} ({self.model.window}) after what stands before it. Ask a "
                "shorter question."
            )
        sampling = request.sampling
        row = Active(
            request,
            self._submitted,
            min(request.max_tokens, room - len(request.prompt)),
            self.model.chat.stop_tokens | sampling.stops,
        )
        if sampling.temperature > 0:
            row.random = torch.Generator().manual_seed(sampling.seed)
        self._submitted += 1
        self.waiting.append(row)
        return row.number

    def advance(self) -> None:
        """Let every row at work choose a token more, or rows that wait their first."""
        # a new pass over prompts pays once a quarter of the places is free
        if self.waiting and len(self.active) <= self.places * 3 // 4 and (new := self._next()):
            self._admit(new)
        elif self.active:
            self._step()

    def retire(self) -> Iterator[Active]:
        """Give up the rows that have ended, and let the last ones take their places."""
        place = 0
        while place < len(self.active):
            row = self.active[place]
            if not row.ended:
                place += 1
                continue
            row.generation.finished = row.generation.tokens[-1] in row.stops
            self._vacate(place)
            yield row

    def drop(self, number: int) -> None:
        """Forget a request, wherever it is; nothing happens where it has ended."""
        self.waiting = deque(row for row in self.waiting if row.number != number)
        for place, row in enumerate(self.active):
            if row.number == number:
                self._vacate(place)
                return

    def abandon(self) -> list[Active]:
        """Give up the rows of a pass that raised: those that were being admitted, or all at work."""
        gone, self._in_pass = self._in_pass, []
        # new rows stand last, so that the places of the others stay as they are
        self.active = [row for row in self.active if row not in gone]
        self.rest()
        return gone

    def rest(self) -> None:
        """Give back the memory that rows at work took; only where there are none."""
        if not self.active:
            self._cache, self._members, self._stack = None, [], None

    def _vacate(self, place: int) -> None:
        last = self.active.pop()
        if place < len(self.active):
            assert self._cache is not None
            self.active[place] = last
            self._cache.move(len(self.active), place)

    def _next(self) -> list[Active]:
        """Take as many rows from those that wait as there is room for, in their order."""
        new: list[Active] = []
        most_slots = max(row.request.prefix.slots for row in self.waiting)
        tokens_left = min(self.tokens_at_once, tokens_per_pass(most_slots))
        while self.waiting and len(self.active) + len(new) < self.places:
            row = self.waiting[0]
            tokens_left -= len(row.request.prompt)
            if new and tokens_left < 0:
                break
            if (new or self.active) and not self._fits([*self.active, *new, row]):
                break
            new.append(self.waiting.popleft())
        return new

    def _fits(self, rows: Sequence[Active]) -> bool:
        """Whether the memory suffices for some rows at work together."""
        if self.memory is None:
            return True
        own = _with_room_to_grow(len(rows)) * max(row.width for row in rows)
        members = {id(row.request.prefix) for row in rows}
        stacked = len(members) * max(row.request.prefix.slots for row in rows)
        return max(own, stacked) <= self.memory

    def _admit(self, new: list[Active]) -> None:
        """Read the prompts of new rows, and choose their first tokens."""
        first = len(self.active)
        self._in_pass = new
        self.active += new
        self._make_room(new)
        device = self.model.device
        lengths = torch.tensor([len(row.request.prompt) for row in new])
        batch = self._batch(
            torch.repeat_interleave(torch.arange(len(new)), lengths),
            torch.cat([torch.arange(length) for length in lengths]),
            first,
        )
        tokens = [token for row in new for token in row.request.prompt]
        logits = self.model.forward(tokens, batch, (lengths.cumsum(0) - 1).to(device))
        for row in new:
            row.read = len(row.request.prompt)
        self._choose(logits, new)

    def _step(self) -> None:
        """Let every active row read its newest token and choose the next."""
        self._in_pass = list(self.active)
        column = torch.tensor([row.read for row in self.active])
        batch = self._batch(torch.arange(len(self.active)), column, 0)
        tokens = [row.generation.tokens[-1] for row in self.active]
        logits = self.model.forward(tokens, batch, batch.row)
        for row in self.active:
            row.read += 1
        self._choose(logits, self.active)

    def _make_room(self, new: Sequence[Active]) -> None:
        """See that the cache has places for all rows, each as wide as the widest may get."""
        rows, width = len(self.active), max(row.width for row in new)
        if self._cache is None:
            self._cache = RowCache(new[0].request.prefix, rows, width)
        # what earlier rows needed and these do not is given back before it takes what these need
        if self.memory is not None and self._cache.places(rows, width) > self.memory:
            self._cache.fit(_with_room_to_grow(rows), max(row.width for row in self.active))
        self._cache.grow(rows, width)

    def _batch(self, row: Tensor, column: Tensor, first: int) -> Batch:
        """Lay out the tokens of the active rows from `first` on."""
        assert self._cache is not None
        prefix, member = self._prefixes()
        device = self.model.device
        width = int(column.max()) + 1
        return Batch(
            row.to(device),
            column.to(device),
            prefix,
            count=len(self.active) - first,
            width=self._cache.stepped(width) if len(self.active) == 1 else width,
            own=self._cache,
            first=first,
            member=None if member is None else member[first:].to(device),
        )

    def _prefixes(self) -> tuple[Prefix | PrefixStack, Tensor | None]:
        """Give what the active rows stand after, and, where they differ in that, which row after which."""
        distinct = {id(row.request.prefix): row.request.prefix for row in self.active}
        if len(distinct) == 1:
            self._members, self._stack = [], None
            return self.active[0].request.prefix, None
        known = {id(member) for member in self._members}
        # members that no row needs any more cost little; a new stack is made where it must be, or pays
        if self._stack is None or not distinct.keys() <= known or len(distinct) <= len(known) // 2:
            self._members = list(distinct.values())
            self._stack = PrefixStack(self._members)
        places = {id(member): place for place, member in enumerate(self._members)}
        return self._stack, torch.tensor([places[id(row.request.prefix)] for row in self.active])

    def _choose(self, logits: Tensor, rows: Sequence[Active]) -> None:
        """Let every row choose from its logits `[row, vocabulary]`."""
        norm = logits.logsumexp(-1)
        chosen = _sample(logits, rows)
        chosen_log = (logits.gather(1, chosen.unsqueeze(1)).squeeze(1) - norm).tolist()
        for row, token, log_probability in zip(rows, chosen.tolist(), chosen_log, strict=True):
            row.generation.tokens.append(token)
            row.generation.log_probabilities.append(log_probability)
        self._keep_entropies(logits, norm, rows)
        self._keep_top(logits, norm, rows)

    def _keep_entropies(self, logits: Tensor, norm: Tensor, rows: Sequence[Active]) -> None:
        places = [place for place, row in enumerate(rows) if row.request.entropies]
        if not places:
            return
        log_probabilities = (logits - norm.unsqueeze(1))[places]
        entropies = torch.special.entr(log_probabilities.exp()).sum(dim=-1).tolist()
        for place, entropy in zip(places, entropies, strict=True):
            rows[place].generation.entropies.append(entropy)

    def _keep_top(self, logits: Tensor, norm: Tensor, rows: Sequence[Active]) -> None:
        most = max(row.request.top_k for row in rows)
        if not most:
            return
        top = logits.topk(most, dim=-1)
        values = (top.values - norm.unsqueeze(1)).tolist()
        for row, ids, kept in zip(rows, top.indices.tolist(), values, strict=True):
            if count := row.request.top_k:
                row.generation.top_ids.append(ids[:count])
                row.generation.top_log_probabilities.append(kept[:count])


@torch.no_grad()
def generate(
    model: FrozenModel, requests: Sequence[Request], *, progress: Callable[[int], None] = lambda _: None
) -> list[Generation]:
    """Answer many requests together; see `LanguageModel.generate`."""
    decoder = Decoder(model, min(ROWS_AT_ONCE, max(1, len(requests))))
    for request in requests:
        decoder.submit(request)
    done: dict[int, Generation] = {}
    while decoder.waiting or decoder.active:
        decoder.advance()
        for row in decoder.retire():
            done[row.number] = row.generation
            progress(1)
    return [done[number] for number in range(len(requests))]


def _with_room_to_grow(rows: int) -> int:
    """How many rows a cache for so many may have places for."""
    return rows * 3 // 2


def tokens_per_pass(slots: int) -> int:
    """How many tokens go through the network together: fewer after a long prefix.

    Attention scores take memory in proportion to tokens times slots.
    """
    return max(256, min(TOKENS_PER_PASS, TOKENS_PER_PASS * 4096 // max(1, slots)))


def _sample(logits: Tensor, rows: Sequence[Active]) -> Tensor:
    """Choose one token a row, `[row]`."""
    chosen = logits.argmax(dim=-1)
    for whole in (False, True):
        places = [
            place
            for place, row in enumerate(rows)
            if row.random is not None and (row.request.sampling.top_p >= 1) == whole
        ]
        if places:
            drawn = torch.cat([torch.rand(1, generator=rows[place].random) for place in places])
            samplings = [rows[place].request.sampling for place in places]
            draw = _draw_from_all if whole else _draw_from_nucleus
            chosen[places] = draw(logits[places], samplings, drawn.to(logits.device).unsqueeze(1))
    return chosen


def _draw_from_all(logits: Tensor, samplings: Sequence[Sampling], drawn: Tensor) -> Tensor:
    """Choose from the whole vocabulary, by numbers drawn evenly from [0, 1) `[row, 1]`."""
    # in double precision, so that rounding hides no token of so many
    summed = torch.softmax(logits.double() / _column(samplings, "temperature", logits), -1).cumsum(-1)
    picked = torch.searchsorted(summed, drawn.double() * summed[:, -1:], right=True)
    return picked.squeeze(1).clamp(max=logits.shape[-1] - 1)


def _draw_from_nucleus(logits: Tensor, samplings: Sequence[Sampling], drawn: Tensor) -> Tensor:
    """Choose from the fewest most likely tokens that have a share `top_p` of the probability."""
    top_p = _column(samplings, "top_p", logits)
    likely = (logits / _column(samplings, "temperature", logits)).topk(min(NUCLEUS, logits.shape[-1]), dim=-1)
    probabilities = torch.softmax(likely.values, dim=-1)
    before = probabilities.cumsum(-1) - probabilities
    summed = probabilities.masked_fill(before > top_p, 0.0).cumsum(-1)
    picked = torch.searchsorted(summed, drawn * summed[:, -1:], right=True)
    last = (before <= top_p).sum(-1, keepdim=True) - 1
    return likely.indices.gather(1, picked.minimum(last)).squeeze(1)


def _column(samplings: Sequence[Sampling], name: str, like: Tensor) -> Tensor:
    values = [getattr(sampling, name) for sampling in samplings]
    return torch.tensor(values, device=like.device).unsqueeze(1)
