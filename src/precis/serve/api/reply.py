"""What comes of an answer, for its client: whole, or as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel
from sse_starlette import ServerSentEvent

from precis.errors import PrecisError
from precis.serve.api.engine_errors import api_error_of, too_slow
from precis.serve.api.event_stream import event
from precis.serve.api.prepare import Ask, PreparedRequest
from precis.serve.api.responses import About, Head, Usage
from precis.serve.api.shapes import Shape
from precis.serve.engine.answering import Answering, Choice, Piece
from precis.serve.engine.text_stream import Placed
from precis.serve.service import Service
from precis.text.recall import REFUSAL, features_of


class Reply:
    """Writes down what comes of an answer.

    Parameters
    ----------
    ask
        What was asked.
    answering
        The answers as they come.
    prepared
        What the answers are made from.
    service
        Has the model and the limits.
    shape
        The API that the client speaks.
    """

    def __init__(
        self, ask: Ask, answering: Answering, prepared: PreparedRequest, service: Service, shape: Shape
    ) -> None:
        self._ask = ask
        self._answering = answering
        self._prepared = prepared
        self._service = service
        self._shape = shape
        self._head: dict[str, Any] = {
            "id": f"{shape.id_prefix}-{uuid.uuid4().hex}",
            "object": shape.chunk_object if ask.body.stream else shape.whole_object,
            "created": int(time.time()),
            "model": ask.body.model,
            "system_fingerprint": service.fingerprint,
        }

    def whole(self) -> Head:
        """Give the whole answer."""
        choices = []
        for choice in self._answering.choices:
            piece = self._or_refusal(Piece(choice.index, *choice.stream.take(), choice.finish_reason))
            choices.append(self._shape.choice(piece, self._logprobs(piece.placed)))
        return self._shape.whole.model_validate(
            {**self._head, "choices": choices, "usage": self._usage(), "precis": self._about()}
        )

    async def events(self, end: float) -> AsyncIterator[ServerSentEvent]:
        """Give the answer as it comes, as server-sent events; an error is an event, too.

        Parameters
        ----------
        end
            By when the answer must be complete, in the event loop's time.
        """
        options = self._ask.body.stream_options
        with_usage = options is not None and bool(options.include_usage)
        usage: dict[str, Any] = {"usage": None} if with_usage else {}
        for choice in self._answering.choices:
            for part in self._shape.openings(choice.index):
                yield self._chunk([part], usage)
        try:
            while pieces := await self._pieces(end):
                parts = [
                    part
                    for piece in map(self._or_refusal, pieces)
                    for part in self._shape.parts(piece, self._logprobs(piece.placed))
                ]
                for part in parts[:-1]:
                    yield self._chunk([part], usage)
                last = {} if with_usage or not self._answering.all_sent else {"precis": self._about()}
                yield self._chunk(parts[-1:], {**usage, **last})
            if with_usage:
                yield self._chunk([], {"usage": self._usage(), "precis": self._about()})
            yield event("[DONE]")
        except PrecisError as error:
            yield event(json.dumps(api_error_of(error).to_json(), ensure_ascii=False))

    async def _pieces(self, end: float) -> list[Piece]:
        """Wait for what is new, as long as there is time.

        Only the waiting is cut off, never the sending of an event, whose time is bounded by itself.
        """
        late = too_slow(self._service.limits.answer_s)
        if asyncio.get_running_loop().time() >= end:
            raise late
        try:
            async with asyncio.timeout_at(end):
                return await self._answering.pieces()
        except TimeoutError:
            raise late from None

    def _chunk(self, choices: list[BaseModel], more: dict[str, Any]) -> ServerSentEvent:
        chunk = self._shape.chunk.model_validate({**self._head, "choices": choices, **more})
        return event(chunk.model_dump_json(by_alias=True, exclude_unset=True))

    def _logprobs(self, placed: list[Placed]) -> BaseModel | None:
        return None if self._ask.body.top is None else self._shape.logprobs(self._service.tokenizer, placed)

    def _usage(self) -> Usage:
        asked = self._prepared.prompt_tokens
        answered = sum(choice.tokens for choice in self._answering.choices)
        return Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)

    def _or_refusal(self, piece: Piece) -> Piece:
        """Put the refusal in the place of an answer that is too unsure; those come in one piece."""
        if not self._refuses(self._answering.choices[piece.index]):
            return piece
        return Piece(piece.index, REFUSAL, [], "stop")

    def _refuses(self, choice: Choice) -> bool:
        threshold = self._ask.body.extension.refuse_below
        if not threshold:
            return False
        confidence = self._confidence(choice)
        return confidence is not None and confidence < threshold

    def _confidence(self, choice: Choice) -> float | None:
        """Give the probability that an answer is right and stands in the document, where that is known."""
        prepared, number = self._prepared, self._question(choice)
        if prepared.calibration is None or not choice.entropies:
            return None
        features = features_of(
            choice.log_probabilities,
            choice.entropies,
            self._ask.questions[number],
            choice.stream.text,
            prepared.recalled[number],
            prepared.passages,
        )
        return prepared.calibration.probability(features)

    def _question(self, choice: Choice) -> int:
        """Give the number of the question that it answers."""
        return choice.index // self._ask.answers_each

    def _about_answer(self, choice: Choice) -> dict[str, Any]:
        prepared, number = self._prepared, self._question(choice)
        return {
            "confidence": self._confidence(choice),
            "withheld": choice.stream.text if self._refuses(choice) else None,
            "passages": [asdict(passage) for passage in prepared.recalled[number].passages],
            "positions": prepared.positions + prepared.recalled_tokens[number],
        }

    def _about(self) -> About:
        prepared, answering = self._prepared, self._answering
        answers = [self._about_answer(choice) for choice in answering.choices]
        several = [{"index": index, **described} for index, described in enumerate(answers)]
        return About.model_validate(
            {
                **answers[0],
                "answers": several if len(several) > 1 else [],
                "recall": prepared.wanted,
                "from": self._ask.body.extension.source,
                "prefix_bytes": prepared.prefix_bytes
                + prepared.recalled_tokens[0] * self._service.model.token_bytes,
                "first_token_s": round(answering.first_token_s or 0.0, 4),
                "seconds": round(answering.seconds, 4),
            }
        )
