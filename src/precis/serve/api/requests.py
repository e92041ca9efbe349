"""What is accepted, in the shapes of OpenAI's API; what is not supported is refused by its name.

Fields that OpenAI's API knows and this server does not support may be there with the value that says
nothing (null, mostly), since many clients send such fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from precis.errors import PrecisError
from precis.model.chat import Turn
from precis.serve.api.api_error import ApiError

MOST_STOPS, LONGEST_STOP = 4, 256
MOST_TOP = 20
MOST_TOP_OF_COMPLETION = 5
INT_64 = 2**63


class Model(BaseModel):
    """Fields of the right types; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Only:
    """Says of a field that it is not supported: it may only have values that say nothing."""

    def __init__(self, *allowed: Any) -> None:
        self.allowed = allowed

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"enum": list(self.allowed)}

    def _check(self, value: Any) -> Any:
        if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.allowed):
            return value
        others = [json.dumps(one) for one in self.allowed if one is not None]
        instead = f", or give {' or '.join(others)}" if others else ""
        raise PydanticCustomError(
            "unsupported", "is not supported here; leave it out{instead}", {"instead": instead}
        )


Nothing = Annotated[Any, Only(None)]


def conflict(param: str, message: str) -> PydanticCustomError:
    """Give the error of a field that contradicts another field."""
    return PydanticCustomError("conflict", "{message}", {"message": message, "param": param})


def _whole(text: str) -> str:
    """Refuse halves of characters, which JSON can hold and no text can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "half of a character") from None
    return text


String = Annotated[str, AfterValidator(_whole)]


def _by_kind(text: str, many: str) -> Callable[[Any], str]:
    return lambda value: text if isinstance(value, str) else many


class TextPart(Model):
    """A part of a message."""

    type: Literal["text"]
    text: String


Content = Annotated[
    Annotated[String, Tag("(text)")] | Annotated[list[TextPart], Tag("(parts)")],
    Discriminator(_by_kind("(text)", "(parts)")),
]


class Message(Model):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Nothing = None
    refusal: Nothing = None
    annotations: Annotated[Any, Only(None, [])] = None
    audio: Nothing = None
    tool_calls: Annotated[Any, Only(None, [])] = None
    tool_call_id: Nothing = None
    function_call: Nothing = None

    @property
    def text(self) -> str:
        """What it says."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


StopString = Annotated[String, Field(min_length=1, max_length=LONGEST_STOP)]
Stops = Annotated[
    Annotated[StopString, Tag("(text)")]
    | Annotated[Annotated[list[StopString], Field(max_length=MOST_STOPS)], Tag("(list)")],
    Discriminator(_by_kind("(text)", "(list)")),
]


class StreamOptions(Model):
    """How a stream is to be."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[Any, Only(None, False)] = None


class Extension(Model):
    """What this server can do beyond OpenAI's API."""

    model_config = ConfigDict(populate_by_name=True)

    recall: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Field(
            description="How many passages of the document, at most, are read before the question and given "
            "with the answer. null: 1 after σ, where the text is kept; otherwise 0."
        ),
    ] = None
    refuse_below: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="With less confidence than this, the answer is that the document does not say; "
            "0: never.",
        ),
    ] = 0.0
    source: Annotated[
        Literal["soft_prompt", "document"],
        Field(alias="from", description="What is read before the question: σ, or the document in full."),
    ] = "soft_prompt"


class Asking(Model):
    """What requests of both kinds may hold."""

    model: Annotated[String, Field(description="The document's name.")]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-INT_64, lt=INT_64)] | None = None
    stop: Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[String | None, Field(description="Accepted, and not used.")] = None
    precis: Extension | None = None
    frequency_penalty: Annotated[Any, Only(None, 0)] = None
    presence_penalty: Annotated[Any, Only(None, 0)] = None
    logit_bias: Annotated[Any, Only(None, {})] = None
    # The field that the questions are in.
    questions_field: ClassVar[str]

    @model_validator(mode="after")
    def _stream_options_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise conflict("stream_options", "'stream_options' is only for 'stream': true; leave it out.")
        return self

    @property
    def longest(self) -> int | None:
        """The most tokens of an answer, where the request says so."""
        return self.max_tokens

    @property
    def top(self) -> int | None:
        """How many of the most likely tokens to give; None: no log-probabilities at all."""
        raise NotImplementedError

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def extension(self) -> Extension:
        """What is asked for beyond OpenAI's API."""
        return self.precis or Extension()


class ChatRequest(Asking):
    """A body of POST /v1/chat/completions."""

    questions_field: ClassVar[str] = "messages"

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    audio: Nothing = None
    function_call: Annotated[Any, Only(None, "none")] = None
    functions: Annotated[Any, Only(None, [])] = None
    metadata: Annotated[Any, Only(None, {})] = None
    modalities: Annotated[Any, Only(None, ["text"])] = None
    moderation: Nothing = None
    parallel_tool_calls: Annotated[Any, Only(None, True, False)] = None
    prediction: Nothing = None
    prompt_cache_key: Nothing = None
    prompt_cache_options: Nothing = None
    prompt_cache_retention: Nothing = None
    reasoning_effort: Annotated[Any, Only(None, "none")] = None
    response_format: Annotated[Any, Only(None, {"type": "text"})] = None
    safety_identifier: Nothing = None
    service_tier: Annotated[Any, Only(None, "auto", "default")] = None
    store: Annotated[Any, Only(None, False)] = None
    tool_choice: Annotated[Any, Only(None, "none", "auto")] = None
    tools: Annotated[Any, Only(None, [])] = None
    verbosity: Annotated[Any, Only(None, "medium")] = None
    web_search_options: Nothing = None

    @model_validator(mode="after")
    def _fields_that_agree(self) -> Self:
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise conflict(
                "max_tokens",
                f"'max_tokens' is {self.max_tokens} and 'max_completion_tokens' is "
                f"{self.max_completion_tokens}; they mean the same: give one.",
            )
        if self.top_logprobs and not self.logprobs:
            raise conflict("top_logprobs", "'top_logprobs' needs 'logprobs': true beside it.")
        return self

    @property
    def longest(self) -> int | None:
        """The most tokens of an answer, by either name."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens

    @property
    def top(self) -> int | None:
        """How many of the most likely tokens to give; None: no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


Prompt = Annotated[str, Field(pattern=r"\S"), AfterValidator(_whole)]
Prompts = Annotated[
    Annotated[Prompt, Tag("(text)")] | Annotated[Annotated[list[Prompt], Field(min_length=1)], Tag("(list)")],
    Discriminator(_by_kind("(text)", "(list)")),
]


class CompletionRequest(Asking):
    """A body of POST /v1/completions."""

    questions_field: ClassVar[str] = "prompt"

    prompt: Annotated[Prompts, Field(description="The question, or several.")]
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_OF_COMPLETION)] | None = None
    best_of: Annotated[Any, Only(None, 1)] = None
    echo: Annotated[Any, Only(None, False)] = None
    suffix: Annotated[Any, Only(None, "")] = None

    @property
    def top(self) -> int | None:
        """How many of the most likely tokens to give; None: no log-probabilities at all."""
        return self.logprobs

    @property
    def prompts(self) -> list[str]:
        """The questions."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


def conversation(messages: Sequence[Message]) -> tuple[str, list[Turn], str]:
    """Give the instruction, the turns that were answered, and the question that is asked now.

    Raises
    ------
    ApiError
        400: the messages are in no order that can be answered.
    """
    instructions: list[str] = []
    turns: list[Turn] = []
    asked: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if message.role in ("system", "developer"):
            if turns or asked:
                raise ApiError(
                    400,
                    f"{place}: a {message.role} message must stand before the first user message.",
                    param=place,
                    code="invalid_value",
                )
            instructions.append(message.text)
        elif message.role == "user":
            asked.append(message.text)
        elif not asked:
            raise ApiError(
                400,
                f"{place}: an assistant message must follow a user message.",
                param=place,
                code="invalid_value",
            )
        else:
            turns.append(Turn("\n\n".join(asked), message.text))
            asked = []
    if not asked or not "".join(asked).strip():
        raise ApiError(
            400,
            "The last message must be the user's, and ask something.",
            param=f"messages[{len(messages) - 1}]",
            code="invalid_value",
        )
    return "\n\n".join(instructions), turns, "\n\n".join(asked)


def refusal(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Put the first error that was found in a request into OpenAI's shape.

    Parameters
    ----------
    errors
        The list that pydantic and FastAPI give.
    """
    first = errors[0]
    kind, context = first["type"], first.get("ctx", {})
    place = [part for part in first["loc"] if not str(part).startswith("(")]
    if kind == "json_invalid":
        return ApiError(400, f"The body is not JSON: {context.get('error', '')}.", code="invalid_json")
    if kind == "conflict":
        return ApiError(400, first["msg"], param=context["param"], code="invalid_value")
    param = _path(place[1:] if place[:1] in (["body"], ["query"], ["path"], ["header"]) else place)
    if not param and kind != "extra_forbidden":
        return ApiError(
            400,
            "The body must be a JSON object, sent as Content-Type: application/json.",
            code="invalid_body",
        )
    message, code = _wording(first, param, is_choice=len(place) < len(first["loc"]))
    return ApiError(400, message, param=param, code=code)


def _wording(error: Mapping[str, Any], param: str, *, is_choice: bool) -> tuple[str, str]:
    """Give the message about a field, and the word for programs.

    Parameters
    ----------
    error
        In pydantic's form.
    param
        The field.
    is_choice
        Whether the field takes a string or a list.
    """
    kind, context = error["type"], error.get("ctx", {})
    if isinstance(cause := context.get("error"), PrecisError):
        return str(cause), "invalid_value"
    match kind:
        case "unsupported":
            return f"'{param}' {error['msg']}.", "unsupported"
        case "string_unicode":
            return f"'{param}' holds half of a surrogate pair; send whole characters.", "half_character"
        case "literal_error":
            return (
                f"'{param}' should be {context['expected']}; nothing else is supported here.",
                "unsupported",
            )
        case "string_pattern_mismatch":
            return f"'{param}' is empty; ask something.", "invalid_value"
        case "list_type" if is_choice:
            return f"'{param}' should be a string, or a list as OpenAI's API has it.", "invalid_value"
        case "extra_forbidden":
            return f"There is no field '{param}'; leave it out.", "unknown_parameter"
        case "float_parsing" | "finite_number":
            return f"'{param}' is '{str(error['input'])[:100]}'; it must be a number.", "invalid_value"
        case "int_parsing":
            return f"'{param}' is '{str(error['input'])[:100]}'; it must be a whole number.", "invalid_value"
        case "missing":
            return f"'{param}' is missing.", "missing_parameter"
        case _:
            return f"'{param}': {error['msg']}.", "invalid_value"


def _path(place: Sequence[str | int]) -> str:
    """Write a place in a body as a reader would: `messages[0].content`."""
    path = ""
    for part in place:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
