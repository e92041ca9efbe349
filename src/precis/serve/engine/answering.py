"""One request's answers as they come: from the engine's events to text, and out to a client.

The text is put together as soon as a token comes, whether or not the client reads. So a stop string ends
its row at once, and what waits for a slow client is text, bounded by its `max_tokens`, and no queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from precis.errors import PrecisError
from precis.serve.engine.engine import Chosen, Ended, Engine, Event, Failed, Ticket, Work
from precis.serve.engine.text_stream import Placed, TextStream

FinishReason = Literal["stop", "length"]


@dataclass
class Choice:
    """One of the answers to a request.

    Parameters
    ----------
    index
        Its number.
    stream
        Its text.
    finish_reason
        `stop` or `length`; None while it goes on.
    """

    index: int
    stream: TextStream
    finish_reason: FinishReason | None = None
    tokens: int = 0
    log_probabilities: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    def add(self, chosen: Chosen) -> None:
        """Take in a token."""
        self.tokens += 1
        self.log_probabilities.append(chosen.log_probability)
        if chosen.entropy is not None:
            self.entropies.append(chosen.entropy)
        if self.stream.add(chosen):
            self.finish_reason = "stop"


@dataclass(frozen=True)
class Piece:
    """What is new of an answer; its end where there is a `finish_reason`."""

    index: int
    text: str
    placed: list[Placed]
    finish_reason: FinishReason | None


class Answering:
    """The answers to one request under way. For the event loop's thread.

    Parameters
    ----------
    engine
        Does the work.
    tokenizer
        The event loop's.
    stops
        Strings that end an answer.
    started
        When the request came, by `time.perf_counter`.
    in_one_piece
        Whether nothing of an answer is given out before the answer is complete.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: object,
        stops: Sequence[str],
        started: float,
        *,
        in_one_piece: bool = False,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._stops = stops
        self._started = started
        self._in_one_piece = in_one_piece
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._tickets: list[Ticket] = []
        self._sent: set[int] = set()
        self.choices: list[Choice] = []
        self.error: PrecisError | None = None
        self.first_token_s: float | None = None
        self.seconds = 0.0

    def begin(self, works: Sequence[Work]) -> None:
        """Let the engine work.

        Raises
        ------
        BusyError
            The engine has too much to do.
        ClosingError
            The engine is closing.
        """
        try:
            for work in works:
                first = len(self.choices)
                self.choices += [
                    Choice(first + place, TextStream(self._tokenizer, self._stops))
                    for place in range(len(work.samplings))
                ]
                self._tickets.append(self._engine.submit(work, partial(self._on_event, first)))
        except PrecisError:
            self.drop()
            raise

    def drop(self) -> None:
        """Let go of all that is not finished."""
        for ticket in self._tickets:
            self._engine.drop(ticket)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.error is not None or all(choice.finish_reason for choice in self.choices)

    @property
    def all_sent(self) -> bool:
        """Whether all of it was given out by `pieces`."""
        return len(self._sent) == len(self.choices)

    async def begun(self) -> None:
        """Wait for the first token.

        Raises
        ------
        PrecisError
            The answer went wrong before its first token.
        """
        while self.first_token_s is None and self.error is None:
            await self._next_change()
        if self.error is not None:
            raise self.error

    async def finished(self) -> None:
        """Wait for the end.

        Raises
        ------
        PrecisError
            The answer went wrong.
        """
        while not self.ended:
            await self._next_change()
        if self.error is not None:
            raise self.error

    async def pieces(self) -> list[Piece]:
        """Wait for something that can be given out, and give all of it; nothing where all is out.

        Raises
        ------
        PrecisError
            The answer went wrong.
        """
        while True:
            if self.error is not None:
                raise self.error
            found = [piece for choice in self.choices if (piece := self._piece(choice))]
            if found or self.all_sent:
                return found
            await self._next_change()

    def _piece(self, choice: Choice) -> Piece | None:
        if choice.index in self._sent or (self._in_one_piece and not choice.finish_reason):
            return None
        text, placed = choice.stream.take()
        if choice.finish_reason:
            self._sent.add(choice.index)
        elif not text:
            return None
        return Piece(choice.index, text, placed, choice.finish_reason)

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _on_event(self, first: int, place: int, event: Event) -> None:
        """Pass an event on; in the engine's thread."""
        self._loop.call_soon_threadsafe(self._take_in, self.choices[first + place], event)

    def _take_in(self, choice: Choice, event: Event) -> None:
        if choice.finish_reason or self.error is not None:
            return
        if isinstance(event, Failed):
            self.error = event.error
            self.drop()
        elif isinstance(event, Ended):
            choice.stream.finish()
            choice.finish_reason = "stop" if event.finished or choice.stream.stopped else "length"
        else:
            if self.first_token_s is None:
                self.first_token_s = time.perf_counter() - self._started
            choice.add(event)
            if choice.finish_reason:
                self._drop_row(choice.index)
        if self.ended:
            self.seconds = time.perf_counter() - self._started
        self._changed.set()

    def _drop_row(self, index: int) -> None:
        for ticket in self._tickets:
            rows = len(ticket.work.samplings)
            if index < rows:
                self._engine.drop(ticket, index)
                return
            index -= rows
