"""The engine: one thread owns the model, and requests about any documents share its forward passes.

Rows join while others are at work, leave as soon as they end, and can be dropped at any time. What is
long (a whole document before the question, a long conversation) is read a chunk at a time between the
steps of the others, so that it holds nobody up. Rows after prefixes of like length work together, in one
`Decoder`: side by side in one pass all prefixes are as wide as the widest.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import TypeVar

import torch

from precis.errors import PrecisError
from precis.model.decoding import Active, Decoder, Request, Sampling
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.serve.logs import log_failure

# Tokens of a long text that are read between two steps of the rows at work.
CHUNK = 256
# Prefixes of up to so many slots work together; so do those of up to 4 times as many, 16 times, ….
NARROWEST_LANE = 256
# How many long texts are read by turns; more of them wait.
READ_BY_TURNS = 2
# Ends that the speed is measured by.
MEASURED_ENDS = 32
LONGEST_RETRY_S = 60

Result = TypeVar("Result")


class BusyError(PrecisError):
    """As many requests wait as may.

    `retry_s` says after how many seconds to try again.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(
            f"The server has as many requests as it can hold. Try again in {retry_s} s, or ask less at once."
        )
        self.retry_s = retry_s


class ClosingError(PrecisError):
    """The server is shutting down."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down and takes no more requests. Try again in a while.")


class EngineError(PrecisError):
    """A forward pass failed; the log says why."""

    def __init__(self) -> None:
        super().__init__("The model failed on this request, for a reason that the server's log holds.")


@dataclass(frozen=True)
class Chosen:
    """A token that a row has chosen.

    Parameters
    ----------
    token
        Its id.
    log_probability
        Its own, in nats.
    ends
        Whether it is one that ends an answer, and no part of its text.
    entropy
        Of the distribution it was chosen from, where that was asked for.
    top
        The most likely tokens with their log-probabilities, as many as were asked for.
    """

    token: int
    log_probability: float
    ends: bool
    entropy: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Ended:
    """A row has ended: by a token that ends answers if `finished`, else by its limit."""

    finished: bool


@dataclass(frozen=True)
class Failed:
    """A row will not go on."""

    error: PrecisError


Event = Chosen | Ended | Failed
# Called in the engine's thread with the row's place in the work and what happened: it must not block.
OnEvent = Callable[[int, Event], None]


@dataclass(frozen=True)
class Text:
    """A text that is read before a question, and that others may ask about, too.

    Parameters
    ----------
    key
        Equal where the tokens are.
    tokens
        What is read.
    """

    key: Hashable
    tokens: Sequence[int]


@dataclass(frozen=True)
class Work:
    """A request: a prompt after a prefix, answered once for each of `samplings`.

    Parameters
    ----------
    prefix
        What stands first.
    prompt
        The tokens after it (and after `text`).
    max_tokens
        The most tokens of an answer.
    samplings
        How each row chooses its tokens.
    top_k, entropies
        As in `Request`.
    text
        What is read after the prefix and before the prompt.
    """

    prefix: Prefix
    prompt: Sequence[int]
    max_tokens: int
    samplings: Sequence[Sampling]
    top_k: int = 0
    entropies: bool = False
    text: Text | None = None

    @property
    def end(self) -> int:
        """The position after its prompt."""
        read = 0 if self.text is None else len(self.text.tokens)
        return self.prefix.next_position + read + len(self.prompt)


@dataclass(eq=False)
class Ticket:
    """A request under way: what the engine keeps about it while rows are at work."""

    work: Work
    on_event: OnEvent
    number: int
    prefix: Prefix
    prompt: Sequence[int]
    text: Text | None
    to_read: deque[int] = field(default_factory=deque)
    reading_text: bool = False
    over: set[int] = field(default_factory=set)

    @property
    def gone(self) -> bool:
        """Whether all of its rows have ended, or were dropped."""
        return len(self.over) == len(self.work.samplings)


class _Lane:
    """Rows at work after prefixes of like length."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.rows: dict[int, tuple[Ticket, int]] = {}
        self._reported: dict[int, int] = {}

    @property
    def busy(self) -> bool:
        return bool(self.decoder.active or self.decoder.waiting)

    def submit(self, ticket: Ticket, place: int) -> None:
        work = ticket.work
        request = Request(
            ticket.prefix,
            ticket.prompt,
            work.max_tokens,
            work.samplings[place],
            work.top_k,
            work.entropies,
        )
        number = self.decoder.submit(request)
        self.rows[number] = (ticket, place)
        self._reported[number] = 0

    def drop(self, ticket: Ticket) -> None:
        """Forget the rows of a request that are over."""
        for number, (owner, place) in list(self.rows.items()):
            if owner is ticket and place in ticket.over:
                self.decoder.drop(number)
                self.forget(number)

    def forget(self, number: int) -> tuple[Ticket, int]:
        del self._reported[number]
        return self.rows.pop(number)

    def new_tokens(self) -> list[tuple[Ticket, int, Chosen]]:
        """Give what rows have chosen since the last time."""
        found = []
        for row in self.decoder.active:
            for place in range(self._reported[row.number], len(row.generation.tokens)):
                found.append((*self.rows[row.number], _chosen(row, place)))
            self._reported[row.number] = len(row.generation.tokens)
        return found

    def abandon(self) -> list[Ticket]:
        """Give up the rows of a pass that failed; gives whose they were."""
        owners = [self.forget(row.number)[0] for row in self.decoder.abandon()]
        return list(dict.fromkeys(owners))


def _chosen(row: Active, place: int) -> Chosen:
    generation = row.generation
    token = generation.tokens[place]
    top: tuple[tuple[int, float], ...] = ()
    if row.request.top_k:
        top = tuple(zip(generation.top_ids[place], generation.top_log_probabilities[place], strict=True))
    return Chosen(
        token,
        generation.log_probabilities[place],
        token in row.stops,
        generation.entropies[place] if row.request.entropies else None,
        top,
    )


class Engine:
    """The model at work for many requests.

    Parameters
    ----------
    model
        The frozen model; from here on only the engine's thread may call the model.
    places
        The most rows at work together after prefixes of like length.
    most_rows
        The most rows under way, those that wait included.
    memory
        In tokens: see `Decoder`; also how much of what was read is kept for the next request.
    """

    def __init__(self, model: LanguageModel, *, places: int, most_rows: int, memory: int) -> None:
        self.model = model
        self.places = places
        self.most_rows = most_rows
        self.memory = memory
        self.steps = 0
        self.tokens = 0
        self._lanes: dict[int, _Lane] = {}
        self._readings: list[Ticket] = []
        self._texts: OrderedDict[Hashable, Prefix] = OrderedDict()
        self._tickets: dict[int, Ticket] = {}
        self._rows = 0
        self._numbers = count()
        self._ends: deque[float] = deque(maxlen=MEASURED_ENDS)
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closing = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="precis-engine", daemon=True)
        self._thread.start()

    @property
    def rows(self) -> int:
        """How many rows are under way, those that wait included."""
        return self._rows

    @property
    def at_work(self) -> int:
        """How many rows take part in forward passes."""
        return sum(len(lane.decoder.active) for lane in list(self._lanes.values()))

    def submit(self, work: Work, on_event: OnEvent) -> Ticket:
        """Let a request wait for its turn; from any thread.

        Raises
        ------
        BusyError
            As many rows wait as may.
        ClosingError
            The engine was closed.
        """
        with self._lock:
            if self._closing:
                raise ClosingError
            if self._rows and self._rows + len(work.samplings) > self.most_rows:
                raise BusyError(self._retry_s())
            ticket = Ticket(work, on_event, next(self._numbers), work.prefix, work.prompt, work.text)
            self._tickets[ticket.number] = ticket
            self._rows += len(work.samplings)
        self._inbox.put(lambda: self._begin(ticket))
        return ticket

    def drop(self, ticket: Ticket, place: int | None = None) -> None:
        """Forget a request, or one row of it; nothing happens where it has ended. From any thread."""
        places = range(len(ticket.work.samplings)) if place is None else (place,)
        if self._settle(ticket, places):
            self._inbox.put(lambda: self._remove(ticket))

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Let the engine's thread run something that needs the model, between two steps.

        Raises
        ------
        ClosingError
            The engine was closed.
        """
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            if self._stopped:
                raise ClosingError
            self._inbox.put(run)
        return future

    def refuse(self) -> None:
        """Take no more requests; those under way go on."""
        with self._lock:
            self._closing = True

    def close(self, seconds: float = 0.0) -> None:
        """Finish what is under way, at most for some seconds; fail the rest, and end the thread."""
        self.refuse()
        end = time.monotonic() + seconds
        while self._rows and time.monotonic() < end:
            time.sleep(0.01)
        with self._lock:
            self._stopped = True
            self._inbox.put(lambda: None)
        self._thread.join()

    def _run(self) -> None:
        with torch.no_grad():
            while not self._stopped:
                self._take_in()
                for lane in list(self._lanes.values()):
                    if lane.busy:
                        self._advance(lane)
                self._read()
        for ticket in list(self._tickets.values()):
            self._fail(ticket, ClosingError())
        # what came in last still gets its answer
        while not self._inbox.empty():
            self._inbox.get()()

    def _take_in(self) -> None:
        """Do what other threads asked for; with nothing else to do, wait for a request."""
        busy = self._readings or any(lane.busy for lane in self._lanes.values())
        if not busy:
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()

    def _begin(self, ticket: Ticket) -> None:
        if ticket.gone:
            return
        if self._stopped:
            self._fail(ticket, ClosingError())
            return
        self._readings.append(ticket)

    def _read(self) -> None:
        """Let one of those that have something to read do so, and the others that have not go on."""
        reading: list[Ticket] = []
        keys: set[Hashable] = set()
        for ticket in list(self._readings):
            if ticket.text is not None and not ticket.reading_text:
                if ticket.text.key in keys:
                    continue  # another reads it already
                self._look_up(ticket)
            if ticket.text is not None:
                keys.add(ticket.text.key)
            elif not ticket.to_read and len(ticket.prompt) > CHUNK:
                # the last chunk is read with the rows: their first tokens are chosen from its logits
                rest = (len(ticket.prompt) - 1) // CHUNK * CHUNK
                ticket.to_read.extend(ticket.prompt[:rest])
                ticket.prompt = ticket.prompt[rest:]
            if ticket.to_read:
                reading.append(ticket)
            else:
                self._readings.remove(ticket)
                self._start_rows(ticket)
        if reading:
            ticket = reading[0]
            try:
                self._read_chunk(ticket)
            except Exception as error:
                self._fail_for(ticket, error)
                return
            # by turns
            if len(reading) >= READ_BY_TURNS and ticket in self._readings:
                self._readings.remove(ticket)
                self._readings.insert(self._readings.index(reading[READ_BY_TURNS - 1]) + 1, ticket)

    def _look_up(self, ticket: Ticket) -> None:
        """Take a text that was read before, or begin to read a new text."""
        assert ticket.text is not None
        known = self._texts.get(ticket.text.key)
        if known is None:
            ticket.reading_text = True
            ticket.to_read.extend(ticket.text.tokens)
        else:
            self._texts.move_to_end(ticket.text.key)
            ticket.prefix, ticket.text = known, None

    def _read_chunk(self, ticket: Ticket) -> None:
        tokens = [ticket.to_read.popleft() for _ in range(min(CHUNK, len(ticket.to_read)))]
        ticket.prefix = self.model.prefill(tokens, after=ticket.prefix)
        self.steps += 1
        if ticket.reading_text and not ticket.to_read:
            assert ticket.text is not None
            self._keep(ticket.text.key, ticket.prefix)
            ticket.text, ticket.reading_text = None, False

    def _keep(self, key: Hashable, prefix: Prefix) -> None:
        """Keep what was read for others who ask about it; what was used longest ago goes."""
        self._texts[key] = prefix
        while self._texts and sum(kept.slots for kept in self._texts.values()) > self.memory:
            self._texts.popitem(last=False)

    def _start_rows(self, ticket: Ticket) -> None:
        size = NARROWEST_LANE
        while size < ticket.prefix.slots:
            size *= 4
        if size not in self._lanes:
            self._lanes[size] = _Lane(
                Decoder(self.model, self.places, tokens_at_once=2 * CHUNK, memory=self.memory)
            )
        try:
            for place in range(len(ticket.work.samplings)):
                if place not in ticket.over:
                    self._lanes[size].submit(ticket, place)
        except PrecisError as error:
            self._fail(ticket, error)

    def _advance(self, lane: _Lane) -> None:
        try:
            lane.decoder.advance()
        except Exception as error:
            for ticket in lane.abandon():
                self._fail_for(ticket, error)
        self.steps += 1
        for ticket, place, chosen in lane.new_tokens():
            self.tokens += 1
            self._report(ticket, place, chosen)
        for row in lane.decoder.retire():
            ticket, place = lane.forget(row.number)
            self._report(ticket, place, Ended(row.generation.finished))
            self._ends.append(time.monotonic())
            self._settle(ticket, (place,))
        if not lane.busy:
            lane.decoder.rest()

    def _report(self, ticket: Ticket, place: int, event: Event) -> None:
        if place in ticket.over:
            return
        try:
            ticket.on_event(place, event)
        except Exception as error:  # a listener that fails must not take the others down
            log_failure("A listener failed", error)
            self.drop(ticket)

    def _settle(self, ticket: Ticket, places: Iterable[int]) -> bool:
        """Take rows off the books; whether any row was still under way."""
        with self._lock:
            ending = set(places) - ticket.over
            ticket.over |= ending
            self._rows -= len(ending)
            if ticket.gone:
                self._tickets.pop(ticket.number, None)
        return bool(ending)

    def _remove(self, ticket: Ticket) -> None:
        """Let go of the rows of a request that are over."""
        if ticket.gone and ticket in self._readings:
            self._readings.remove(ticket)
        for lane in self._lanes.values():
            lane.drop(ticket)

    def _fail_for(self, ticket: Ticket, error: Exception) -> None:
        """Fail a request for what went wrong in a pass: only our own words go to its client."""
        log_failure("A forward pass failed", error)
        self._fail(ticket, error if isinstance(error, PrecisError) else EngineError())

    def _fail(self, ticket: Ticket, error: PrecisError) -> None:
        places = range(len(ticket.work.samplings))
        for place in places:
            self._report(ticket, place, Failed(error))
        self._settle(ticket, places)
        self._remove(ticket)

    def _retry_s(self) -> int:
        """Guess how long it takes until a quarter of the rows have ended, by how fast they did of late."""
        if len(self._ends) < 2:
            return 1
        passed = self._ends[-1] - self._ends[0]
        seconds_per_row = passed / (len(self._ends) - 1)
        return min(LONGEST_RETRY_S, max(1, math.ceil(seconds_per_row * self._rows / 4)))
