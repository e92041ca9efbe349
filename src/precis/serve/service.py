"""What the endpoints share: the model at work, the library, the limits."""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from precis.model.chat import Chat
from precis.model.language_model import LanguageModel
from precis.serve.api.limits import Limits
from precis.serve.engine.engine import Engine
from precis.serve.library import Library
from precis.serve.metrics import Metrics

Result = TypeVar("Result")
# Seconds between two looks at the folder. What is asked for is looked at anew each time.
BETWEEN_LOOKS = 2.0


class Service:
    """A model and a library, ready to answer.

    A tokenizer is not made for several threads. So there is a copy of it for each: for the questions'
    thread, for the library's, and for the event loop, which puts answers together.

    Parameters
    ----------
    model
        The frozen model.
    folder
        The library's.
    limits, metrics
        Those of the application.
    """

    def __init__(self, model: LanguageModel, folder: Path, limits: Limits, metrics: Metrics) -> None:
        self.model = model
        self.limits = limits
        self.metrics = metrics
        self.memory_tokens = limits.memory_tokens(model)
        self.engine = Engine(model, places=limits.places, most_rows=limits.rows, memory=self.memory_tokens)
        self.tokenizer = copy.deepcopy(model.tokenizer)
        self.library = Library(
            folder,
            model,
            _copy_of(model.chat),
            self.engine.call,
            most_bytes=limits.memory_bytes(model.device),
        )
        metrics.watch(self.engine, self.library)
        self._library_thread = ThreadPoolExecutor(1, "precis-library")
        self._question_thread = ThreadPoolExecutor(1, "precis-questions")
        self._looking: asyncio.Task[None] | None = None
        self.fingerprint = f"precis-{model.digest[:12]}"
        self.closing = False
        self.under_way = 0

    async def start(self) -> None:
        """Look at the library now, and from then on every few seconds."""
        await self.in_library(self.library.refresh)
        self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """End all threads; what is still under way fails."""
        self.closing = True
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.to_thread(self.engine.close)
        self._library_thread.shutdown(cancel_futures=True)
        self._question_thread.shutdown(cancel_futures=True)

    @contextmanager
    def request_under_way(self) -> Iterator[None]:
        """Count a request as long as it is being answered."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    async def drain(self) -> None:
        """Take no more requests, and wait for those under way; what takes too long fails with an error."""
        self.closing = True
        end = asyncio.get_running_loop().time() + self.limits.closing_s
        while self.under_way and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.engine.close)

    async def in_library(self, function: Callable[..., Result], *given: Any) -> Result:
        """Run something in the library's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._library_thread, function, *given)

    async def with_tokenizer(self, function: Callable[[], Result]) -> Result:
        """Run something that uses the model's tokenizer."""
        return await asyncio.get_running_loop().run_in_executor(self._question_thread, function)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(BETWEEN_LOOKS)
            await self.in_library(self.library.refresh)


def new_seed() -> int:
    """Draw a seed for a request without one."""
    return secrets.randbelow(2**63)


def _copy_of(chat: Chat) -> Chat:
    copied = copy.copy(chat)
    copied.tokenizer = copy.deepcopy(chat.tokenizer)
    return copied
