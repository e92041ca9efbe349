"""What is answered, in the shapes of OpenAI's API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from precis.serve.engine.answering import FinishReason


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """An answer that tells of an error."""

    error: ErrorDetail


class PassageObject(BaseModel):
    """A passage of the document that an answer was made from."""

    text: str
    source: str = Field(description="The file that it stands in.")
    page: int
    start: int = Field(description="Its first character in the document's text, counted from 0.")
    end: int = Field(description="The character after its last.")
    score: float = Field(description="BM25's: comparable for one document and question only.")


class AboutAnswer(BaseModel):
    """What this server tells of each of several answers."""

    index: int
    confidence: float | None
    passages: list[PassageObject]
    withheld: str | None
    positions: int


class About(BaseModel):
    """What this server tells of an answer beyond OpenAI's API."""

    confidence: float | None = Field(
        description="Calibrated probability that the (first) answer is right and stands in the document; "
        "null where it is not known."
    )
    withheld: str | None = Field(
        description="What the model said, where the (first) answer is that the document does not say: its "
        "confidence was below 'refuse_below'."
    )
    recall: int = Field(description="How many passages were recalled for a question, at most.")
    passages: list[PassageObject] = Field(
        description="What the (first) answer was made from, beside what 'from' says: the best passage first. "
        "None where no passage has a word of the question."
    )
    answers: list[AboutAnswer] = Field(description="Where there are several answers, the same for each.")
    source: Literal["soft_prompt", "document"] = Field(alias="from")
    positions: int = Field(description="Positions that stood before the question, recalled ones included.")
    prefix_bytes: int = Field(description="Memory of their keys and values.")
    first_token_s: float = Field(description="Seconds from the request to the first token.")
    seconds: float = Field(description="Seconds from the request to the end of the answer.")


class Usage(BaseModel):
    """Tokens of questions and of answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    """An answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class TopToken(BaseModel):
    """A likely token."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(TopToken):
    """A token of the answer."""

    top_logprobs: list[TopToken]


class ChatLogprobs(BaseModel):
    """The tokens of an answer with their log-probabilities."""

    content: list[ChosenToken]
    refusal: None


class ChatChoice(BaseModel):
    """One of the answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class Head(BaseModel):
    """What every answer, and every part of a stream, begins with."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(Head):
    """The answers to the last message of a conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage
    precis: About


class ChatDelta(BaseModel):
    """What is new of an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """What is new of one of the answers."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Head):
    """A part of a stream of a chat completion. Fields that are not set are not sent."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    precis: About | None = None


class CompletionLogprobs(BaseModel):
    """The tokens of an answer with their log-probabilities."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One of the answers."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class Completion(Head):
    """The answers to one question or several."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: Usage
    precis: About


class CompletionChunkChoice(BaseModel):
    """What is new of one of the answers."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Head):
    """A part of a stream of a completion. Fields that are not set are not sent."""

    object: Literal["text_completion"]
    choices: list[CompletionChunkChoice]
    usage: Usage | None = None
    precis: About | None = None


class AboutModel(BaseModel):
    """What this server tells of a document beyond OpenAI's API."""

    document: str = Field(description="The name of the file that was compiled.")
    document_tokens: int | None
    slots: int
    ratio: float
    recovery: float | None = Field(
        description="Held-out recovery, where it was measured: a measure of the optimisation, not of answers."
    )
    confidence: bool = Field(
        description="Whether answers that are asked for by default have a calibrated confidence."
    )
    text_kept: bool = Field(
        description="Whether the text is kept: answers are then made from passages of it, too, and can be "
        "had from the document in full."
    )
    recall: int = Field(description="How many passages are recalled for a question by default.")
    base_model: str


class ModelObject(BaseModel):
    """A document that can be asked."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    precis: AboutModel


class ModelList(BaseModel):
    """All documents that can be asked."""

    object: Literal["list"]
    data: list[ModelObject]


class Broken(BaseModel):
    """A file that cannot be used, and why."""

    name: str
    reason: str


class Health(BaseModel):
    """How the server is."""

    status: Literal["ok", "closing"]
    version: str
    model: str
    documents: int
    broken: list[Broken]
    rows: int = Field(description="Answers under way.")


# A server-sent event.
EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
STATUSES = {
    400: "The request is wrong, or asks for something that is not supported.",
    401: "An API key is missing or not known.",
    403: "Not from here: another site's page, or another host name.",
    404: "There is no such document.",
    405: "Not with this method.",
    408: "It took too long.",
    413: "The body is too large.",
    415: "The body is of another kind.",
    429: "Too much is under way; Retry-After says when to try again.",
    500: "The server failed; its log says why.",
    503: "The server is shutting down.",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors that a route answers with, for the schema; by default all that there are."""
    return {
        status: {"model": ErrorResponse, "description": STATUSES[status]} for status in statuses or STATUSES
    }


def event_responses() -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is, or may be, a stream of events."""
    return {200: {"description": "The answer.", "content": {"text/event-stream": {"schema": EVENT}}}}
