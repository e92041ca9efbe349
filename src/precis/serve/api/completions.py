"""`/v1/chat/completions` and `/v1/completions`: questions about documents, in OpenAI's API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from precis.errors import PrecisError
from precis.serve.api.dependencies import WithService
from precis.serve.api.engine_errors import api_error_of, too_slow
from precis.serve.api.event_stream import EventStream
from precis.serve.api.prepare import Ask, PreparedRequest, check, prepare
from precis.serve.api.reply import Reply
from precis.serve.api.requests import ChatRequest, CompletionRequest, conversation
from precis.serve.api.responses import ChatCompletion, Completion, Head, error_responses, event_responses
from precis.serve.api.shapes import ChatShape, CompletionShape, Shape
from precis.serve.engine.answering import Answering
from precis.serve.metrics import GONE
from precis.serve.service import Service

router = APIRouter(tags=["answers"], responses={**error_responses(), **event_responses()})
Result = TypeVar("Result")


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def chat_completions(request: Request, body: ChatRequest, service: WithService) -> Head | Response:
    """Answer the last message of a conversation about a document."""
    instruction, turns, question = conversation(body.messages)
    chat = service.model.chat
    ask = Ask(
        body,
        [question],
        lambda recalled: [chat.conversation_prompt(turns, question, instruction, text) for text in recalled],
        before=turns[-1].said if turns else "",
    )
    return await _respond(request, service, ask, ChatShape())


@router.post("/v1/completions", response_model=Completion)
async def completions(request: Request, body: CompletionRequest, service: WithService) -> Head | Response:
    """Answer a question, or several, about a document."""
    chat = service.model.chat
    ask = Ask(
        body,
        body.prompts,
        lambda recalled: [
            chat.question_prompt(prompt, text) for prompt, text in zip(body.prompts, recalled, strict=True)
        ],
    )
    return await _respond(request, service, ask, CompletionShape())


async def _respond(request: Request, service: Service, ask: Ask, shape: Shape) -> Head | Response:
    """Answer, in one piece or as a stream; who hangs up is let go at once."""
    try:
        check(ask, service)
        return await _answer(request, service, ask, shape)
    except PrecisError as error:
        raise api_error_of(error) from error


async def _answer(request: Request, service: Service, ask: Ask, shape: Shape) -> Head | Response:
    answering = Answering(
        service.engine,
        service.tokenizer,
        ask.body.stops,
        time.perf_counter(),
        in_one_piece=ask.body.extension.refuse_below > 0,
    )
    end = asyncio.get_running_loop().time() + service.limits.answer_s
    with ExitStack() as at_end:
        at_end.enter_context(service.request_under_way())
        at_end.callback(answering.drop)
        try:
            async with asyncio.timeout_at(end):
                prepared = await _unless_gone(request, _begin(service, ask, answering))
        except TimeoutError:
            raise too_slow(service.limits.answer_s) from None
        if prepared is None:
            return Response(status_code=GONE)
        at_end.callback(_count, service, answering, prepared)
        reply = Reply(ask, answering, prepared, service, shape)
        if not ask.body.stream:
            return reply.whole()
        # the stream goes on after this function, and takes along what is to be done at its end
        return EventStream(reply.events(end), send_s=service.limits.send_s, at_end=at_end.pop_all().close)


async def _begin(service: Service, ask: Ask, answering: Answering) -> PreparedRequest:
    """Begin, and wait for the first token of a stream, or for the whole of an answer."""
    opened = await service.in_library(service.library.open, ask.body.model)
    prepared = await prepare(ask, opened, service)
    answering.begin(prepared.works)
    await (answering.begun() if ask.body.stream else answering.finished())
    return prepared


async def _unless_gone(request: Request, answer: Coroutine[Any, Any, Result]) -> Result | None:
    """Wait for an answer, or, where that comes first, for the client to hang up."""
    tasks = (asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        # only one may listen to the connection at a time
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _count(service: Service, answering: Answering, prepared: PreparedRequest) -> None:
    metrics = service.metrics
    metrics.tokens.labels("question").inc(prepared.prompt_tokens)
    metrics.tokens.labels("answer").inc(sum(choice.tokens for choice in answering.choices))
    if answering.first_token_s is not None:
        metrics.first_token.observe(answering.first_token_s)
