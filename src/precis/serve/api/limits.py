"""How much one client, and all together, may ask of the server."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import torch
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from precis.model.decoding import ROWS_AT_ONCE
from precis.model.language_model import LanguageModel
from precis.serve.api.api_error import ApiError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds, with defaults for a small machine.

    Parameters
    ----------
    places
        Answers that are written in the same forward passes.
    rows
        Answers under way, those that wait included; beyond them 429.
    choices
        The most answers to one request: `n` times the number of prompts.
    prompt_tokens
        Of one question or conversation; beyond them 400.
    answer_tokens, default_answer_tokens
        The most that `max_tokens` may be, and what it is where nobody says.
    passages
        The most that are recalled for one question.
    body_bytes, upload_bytes
        Of a request, and of one that brings a document; beyond them 413.
    body_s
        By when a request must have arrived; then 408.
    upload_s
        The same for one that brings a document.
    answer_s
        By when it must be answered, waiting included; then 408.
    send_s
        How long a client may take to read a piece of a stream before it is given up.
    closing_s
        How long answers that are under way may take to end when the server stops.
    connections
        Open at the same time; beyond them 503.
    memory_share
        The share of the machine's memory that each of these may take at most: keys and values of the
        answers under way (once for every width of prefixes), prefixes side by side, opened documents,
        and documents read in full.
    """

    places: int = ROWS_AT_ONCE
    rows: int = 256
    choices: int = 32
    prompt_tokens: int = 4096
    answer_tokens: int = 2048
    default_answer_tokens: int = 256
    passages: int = 20
    body_bytes: int = MIB
    upload_bytes: int = 64 * MIB
    body_s: float = 30.0
    upload_s: float = 600.0
    answer_s: float = 300.0
    send_s: float = 60.0
    closing_s: float = 30.0
    connections: int = 1000
    memory_share: float = 1 / 16

    def memory_bytes(self, device: torch.device) -> int:
        """Give the share of the memory in which the model lies."""
        if device.type == "cuda":
            whole = torch.cuda.get_device_properties(device).total_memory
        else:
            whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(whole * self.memory_share)

    def memory_tokens(self, model: LanguageModel) -> int:
        """Give how many tokens' keys and values that is."""
        return max(1, self.memory_bytes(model.device) // model.token_bytes)


class BodyLimit:
    """Middleware that refuses bodies which are too large, or do not arrive.

    Parameters
    ----------
    app
        What it stands before.
    limits
        The bounds.
    uploads
        Paths that documents are sent to.
    """

    def __init__(self, app: ASGIApp, limits: Limits, uploads: frozenset[str]) -> None:
        self.app = app
        self.limits = limits
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and watch its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        uploading = scope["path"] in self.uploads and scope["method"] == "POST"
        most = self.limits.upload_bytes if uploading else self.limits.body_bytes
        seconds = self.limits.upload_s if uploading else self.limits.body_s
        try:
            stated = int(dict(scope["headers"]).get(b"content-length", b"0"))
        except ValueError:
            stated = 0
        if stated > most:
            await _too_large(stated, most).response()(scope, receive, send)
            return
        end = asyncio.get_running_loop().time() + seconds
        got, whole = 0, False

        async def watched() -> Message:
            nonlocal got, whole
            if whole:  # now only the end of the connection can come
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise ApiError(
                    408,
                    f"The request did not arrive within {seconds:g} s. Send it again.",
                    code="body_timeout",
                    retry_s=1,
                    headers={"Connection": "close"},
                ) from None
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > most:
                raise _too_large(got, most)
            return message

        await self.app(scope, watched, send)


def _too_large(got: int, most: int) -> ApiError:
    return ApiError(
        413,
        f"The request has {got:,} bytes or more; at most {most:,} are taken. Send less at once.",
        code="request_too_large",
        headers={"Connection": "close"},
    )


def bounded(param: str, got: int, most: int, name: str = "") -> None:
    """Refuse a field that asks for too much.

    Raises
    ------
    ApiError
        400, naming the field.
    """
    if got > most:
        raise ApiError(
            400,
            f"{name or param} is {got:,}; this server takes {most:,} at most.",
            param=param,
            code="limit_exceeded",
        )
