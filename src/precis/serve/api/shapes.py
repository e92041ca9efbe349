"""How the two APIs write an answer down, whole or in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from precis.serve.api.responses import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChosenToken,
    Completion,
    CompletionChoice,
    CompletionChunk,
    CompletionChunkChoice,
    CompletionLogprobs,
    Head,
    TopToken,
)
from precis.serve.engine.answering import FinishReason, Piece
from precis.serve.engine.text_stream import Placed, token_bytes

# JSON has no infinity; in its place stands the number that OpenAI uses.
LEAST_LOGPROB = -9999.0


class Shape(Protocol):
    """How one of the two APIs writes an answer down."""

    id_prefix: str
    whole_object: str
    chunk_object: str
    whole: type[Head]
    chunk: type[Head]

    def openings(self, index: int) -> list[BaseModel]:
        """Give what stands in a stream before any text of an answer."""
        ...

    def parts(self, piece: Piece, logprobs: Any) -> list[BaseModel]:
        """Give what stands in a stream for something new."""
        ...

    def choice(self, piece: Piece, logprobs: Any) -> BaseModel:
        """Give a whole answer."""
        ...

    def logprobs(self, tokenizer: Any, placed: Sequence[Placed]) -> BaseModel:
        """Give tokens with their log-probabilities."""
        ...


class ChatShape:
    """`/v1/chat/completions`."""

    id_prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"
    whole: type[Head] = ChatCompletion
    chunk: type[Head] = ChatChunk

    def openings(self, index: int) -> list[BaseModel]:
        """Give the role."""
        return [_chat_part(index, ChatDelta(role="assistant", content=""))]

    def parts(self, piece: Piece, logprobs: ChatLogprobs | None) -> list[BaseModel]:
        """Give the text, then its end."""
        parts: list[BaseModel] = []
        if piece.text:
            parts.append(_chat_part(piece.index, ChatDelta(content=piece.text), logprobs))
        if piece.finish_reason:
            parts.append(_chat_part(piece.index, ChatDelta(), finish_reason=piece.finish_reason))
        return parts

    def choice(self, piece: Piece, logprobs: ChatLogprobs | None) -> BaseModel:
        """Give a message."""
        assert piece.finish_reason is not None
        return ChatChoice(
            index=piece.index,
            message=AssistantMessage(role="assistant", content=piece.text, refusal=None),
            logprobs=logprobs,
            finish_reason=piece.finish_reason,
        )

    def logprobs(self, tokenizer: Any, placed: Sequence[Placed]) -> BaseModel:
        """Give one object a token."""

        def described(token: int, log_probability: float) -> dict[str, Any]:
            return {
                "token": tokenizer.decode([token]),
                "logprob": _finite(log_probability),
                "bytes": token_bytes(tokenizer, token),
            }

        content = [
            ChosenToken(
                **described(item.chosen.token, item.chosen.log_probability),
                top_logprobs=[TopToken(**described(*likely)) for likely in item.chosen.top],
            )
            for item in placed
        ]
        return ChatLogprobs(content=content, refusal=None)


def _chat_part(
    index: int,
    delta: ChatDelta,
    logprobs: ChatLogprobs | None = None,
    finish_reason: FinishReason | None = None,
) -> ChatChunkChoice:
    return ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)


class CompletionShape:
    """`/v1/completions`."""

    id_prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"
    whole: type[Head] = Completion
    chunk: type[Head] = CompletionChunk

    def openings(self, index: int) -> list[BaseModel]:
        """Give nothing: the text stands first."""
        return []

    def parts(self, piece: Piece, logprobs: CompletionLogprobs | None) -> list[BaseModel]:
        """Give text and end together."""
        return [
            CompletionChunkChoice(
                index=piece.index,
                text=piece.text,
                logprobs=logprobs if piece.text else None,
                finish_reason=piece.finish_reason,
            )
        ]

    def choice(self, piece: Piece, logprobs: CompletionLogprobs | None) -> BaseModel:
        """Give a text."""
        assert piece.finish_reason is not None
        return CompletionChoice(
            index=piece.index, text=piece.text, logprobs=logprobs, finish_reason=piece.finish_reason
        )

    def logprobs(self, tokenizer: Any, placed: Sequence[Placed]) -> BaseModel:
        """Give one list a property."""
        return CompletionLogprobs(
            tokens=[tokenizer.decode([item.chosen.token]) for item in placed],
            token_logprobs=[_finite(item.chosen.log_probability) for item in placed],
            top_logprobs=[
                {tokenizer.decode([token]): _finite(value) for token, value in item.chosen.top}
                for item in placed
            ],
            text_offset=[item.start for item in placed],
        )


def _finite(log_probability: float) -> float:
    return max(LEAST_LOGPROB, log_probability)
