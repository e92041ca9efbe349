"""What tests of the server share: small libraries, and a real server on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import openai
import torch

from precis.artifact import Artifact
from precis.compilation.pipeline import compile as compile_document
from precis.compilation.sealing import model_record
from precis.compilation.settings import Settings
from precis.compilation.training import Schedule
from precis.manifest import DocumentRecord, Manifest
from precis.model.language_model import LanguageModel
from precis.serve.api.limits import Limits
from precis.serve.app import ServerSettings, create_app
from precis.serve.server import Server, _listen
from precis.serve.service import Service
from precis.text.document import Document
from tests.conftest import make_network, make_tokenizer
from tests.recall import document_text, make_facts, question_text

PATIENCE = 120


def facts_of(number: int):
    """The facts of the library's document `facts-NUMBER`."""
    return make_facts(12, seed=100 + number)


def recall_artifact(model: LanguageModel, number: int, *, keep_text: bool = True) -> Artifact:
    """Compile a document that the recall model then answers about."""
    facts = facts_of(number)
    document = Document.from_text(document_text(facts), f"facts-{number}.md")
    questions = [question_text(fact, phrasing) for fact in facts for phrasing in range(6)]
    schedule = Schedule(epochs=6, batch_size=12, learning_rate=5e-2)
    settings = Settings(ratio=3, self_study=0, schedule=schedule)
    return compile_document(
        document, model=model, questions=questions, settings=settings, keep_text=keep_text
    )


def wordy_model(window: int = 4096) -> LanguageModel:
    """A model that says nothing of sense, and much of it: what streams, limits and stops are tried on."""
    tokenizer = make_tokenizer()
    network = make_network("llama", len(tokenizer), seed=4, max_position_embeddings=window)
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    seldom = [n for n, text in enumerate(texts) if not text.isprintable() or not text.strip("\ufffd ")]
    with torch.no_grad():
        # it hardly ever ends by itself, and seldom writes blanks or parts of characters
        network.lm_head.weight[[tokenizer.eos_token_id, tokenizer.bos_token_id, *seldom]] = 0
    return LanguageModel.wrap(network.float(), tokenizer, "wordy")


def wordy_artifact(model: LanguageModel, text: str, *, keep_text: bool = True) -> Artifact:
    """The document's own keys and values, as an artifact."""
    document = Document.from_text(text, "wordy.md")
    reading = model.chat.document_prompt(document.text)
    prefix = model.prefill(reading)
    manifest = Manifest(
        model=model_record(model),
        document=DocumentRecord(document.name, document.sha256, len(reading)),
        form="kv",
        slots=prefix.slots,
        ratio=1.0,
        next_position=prefix.next_position,
        objective="nll",
        objective_weight=0.0,
        warm_start="attention",
        seed=0,
    )
    artifact = Artifact(manifest, prefix.packed())
    return artifact.with_text(document) if keep_text else artifact


@dataclass
class Running:
    """A server that runs in a thread of its own."""

    address: str
    server: Server
    service: Service
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    announced: list[str]

    def client(self, **settings) -> openai.OpenAI:
        """Give an official client, which tries everything once only."""
        return openai.OpenAI(
            **{"base_url": f"{self.address}/v1", "api_key": "none", "max_retries": 0, **settings}
        )

    def end(self) -> None:
        """Do what a signal does."""
        self.loop.call_soon_threadsafe(self.server.end)


@contextlib.contextmanager
def serving(
    library: Path, model: LanguageModel, limits: Limits | None = None, **settings
) -> Iterator[Running]:
    """Run a server; at the end it must end, too."""
    chosen = ServerSettings(library, port=0, limits=limits or Limits(), **settings)
    app = create_app(chosen, model)
    announced: list[str] = []
    server = Server(app, chosen, announced.append)
    listening = _listen("127.0.0.1", 0)
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    until(lambda: announced or not thread.is_alive())  # the announcement is the last step of a start
    assert announced, app.state.failure
    running = Running(server.address, server, app.state.service, loops[0], thread, announced)
    try:
        yield running
    finally:
        if thread.is_alive():
            running.end()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must come to be."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.005)


def limits(**changes) -> Limits:
    """The default limits with some changed."""
    return replace(Limits(), **changes)
