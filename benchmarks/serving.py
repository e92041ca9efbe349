r"""A server under load: questions a second, time to the first token and memory, over several documents.

    python benchmarks/serving.py --fairytales FOLDER [--clients 1 8 32] [--questions 64]

One server after another gets the same questions from the same number of clients over loopback, each client
asking its next one as soon as the last is answered, as a stream:

* `batched`: as it is;
* `unbatched`: the same, with one answer at a time;
* `documents`: the same as `batched`, but with the full documents in context, which the server reads once
  each and keeps as long as its memory bound allows.

The library is made first (σ from a handful of questions, untrained: its shape is what time hangs on). The
number of questions is bounded, and so is the time of each. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from openai import AsyncOpenAI

from benchmarks.common import document_options, subjects_of, surroundings
from benchmarks.datasets import Subject
from precis.compilation.pipeline import compile
from precis.compilation.settings import Settings
from precis.model.loading import load_model
from precis.model.runtime import keep_freed_memory
from precis.serve.api.limits import Limits
from precis.serve.app import ServerSettings
from precis.serve.server import serve
from precis.storage import write_atomically

ANSWER_TOKENS = 24
SECONDS_A_QUESTION = 300.0


@dataclass(frozen=True)
class Way:
    """A way to serve: how many answers at once, and what stands before a question."""

    name: str
    places: int
    source: str
    share_of_questions: float


WAYS = (
    Way("batched", Limits().places, "soft_prompt", 1.0),
    Way("unbatched", 1, "soft_prompt", 0.5),
    Way("documents", Limits().places, "document", 0.5),
)


@dataclass(frozen=True)
class Load:
    """What some clients saw of a server."""

    way: str
    clients: int
    questions: int
    answer_tokens: int
    questions_per_s: float
    first_token_p50_s: float
    first_token_p99_s: float
    server_peak_mb: float


def make_library(subjects: Sequence[Subject], folder: Path) -> None:
    """Compile the documents, as quickly as it goes."""
    model = load_model()
    settings = Settings(self_study=24, minutes=0)
    for subject in subjects:
        artifact = compile(
            subject.document,
            model=model,
            settings=settings,
            work=folder / "work",
            calibrate=False,
            keep_text=True,
        )
        artifact.save(folder / f"{subject.name}.precis")


@contextmanager
def running(library: Path, places: int) -> Iterator[tuple[str, int]]:
    """Run a server; gives its address and its process id."""
    command = [sys.executable, __file__, "--serve", str(library), "--places", str(places)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if not said:
            raise SystemExit("The server did not start.")
        yield said.strip(), process.pid
    finally:
        process.terminate()
        process.wait(60)


def _serve(library: Path, places: int) -> None:
    settings = ServerSettings(library, port=0, limits=replace(Limits(), places=places))
    keep_freed_memory()
    serve(settings, lambda text: print(text.rsplit("API: ", 1)[1].rstrip(")"), flush=True))


async def press(address: str, way: Way, clients: int, asked: Sequence[tuple[str, str]]) -> tuple[float, Any]:
    """Let clients ask all questions; gives the seconds, and of every answer (first token, tokens)."""
    waiting = list(asked)
    found: list[tuple[float, int]] = []

    async def client(api: AsyncOpenAI) -> None:
        while waiting:
            found.append(await ask(api, way, *waiting.pop()))

    async with AsyncOpenAI(base_url=address, api_key="-", max_retries=0, timeout=SECONDS_A_QUESTION) as api:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client(api))
        return time.perf_counter() - start, found


async def ask(api: AsyncOpenAI, way: Way, document: str, question: str) -> tuple[float, int]:
    """Ask one question; gives the time to the first token, and how many tokens came."""
    start = time.perf_counter()
    first, tokens = 0.0, 0
    stream = await api.chat.completions.create(
        model=document,
        messages=[{"role": "user", "content": question}],
        max_tokens=ANSWER_TOKENS,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"precis": {"from": way.source}},
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content and not first:
            first = time.perf_counter() - start
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
    return first or time.perf_counter() - start, tokens


def load(library: Path, way: Way, clients: int, asked: Sequence[tuple[str, str]]) -> Load:
    """Put a fresh server under load; a few questions first, which are not counted, warm it up."""
    with running(library, way.places) as (address, process):
        asyncio.run(press(address, way, 2, asked[-2:]))
        seconds, found = asyncio.run(press(address, way, clients, asked))
        firsts = sorted(first for first, _ in found)
        return Load(
            way=way.name,
            clients=clients,
            questions=len(found),
            answer_tokens=sum(tokens for _, tokens in found),
            questions_per_s=len(found) / seconds,
            first_token_p50_s=statistics.median(firsts),
            first_token_p99_s=firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))],
            server_peak_mb=_peak_mb(process),
        )


def _peak_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make the library, and put every way under every load, in turn."""
    subjects = list(subjects_of(options))
    if not subjects:
        sys.exit("No document: give --squad with --pairs, or --fairytales with --stories or --count.")
    asked = [(subject.name, question.text) for subject in subjects for question in subject.questions]
    random.Random(0).shuffle(asked)
    loads: list[Load] = []
    with tempfile.TemporaryDirectory() as folder:
        make_library(subjects, Path(folder))
        for clients in options.clients:
            for way in WAYS:
                count = max(clients, round(options.questions * way.share_of_questions))
                loads.append(load(Path(folder), way, clients, asked[:count]))
                print(json.dumps(asdict(loads[-1])), flush=True)
    pace = {(one.way, one.clients): one for one in loads}
    ratios = {
        f"{name}_x{clients}_vs_{way.name}": round(value, 3)
        for clients in options.clients
        for way in WAYS[1:]
        for name, value in (
            (
                "questions_per_s",
                pace["batched", clients].questions_per_s / pace[way.name, clients].questions_per_s,
            ),
            (
                "first_token_p50",
                pace[way.name, clients].first_token_p50_s / pace["batched", clients].first_token_p50_s,
            ),
        )
    }
    return {
        "ratios": ratios,
        "surroundings": surroundings(load_model()),
        "documents": {subject.name: len(subject.document.text) for subject in subjects},
        "processors": os.cpu_count(),
        "loads": [asdict(one) for one in loads],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    document_options(parser)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--questions", type=int, default=64, help="of each load, as far as there are any")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--places", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        _serve(options.serve, options.places)
        return
    keep_freed_memory()
    found = measure(options)
    if options.results:
        write_atomically(options.results, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
