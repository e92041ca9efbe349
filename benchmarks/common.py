"""What the benchmarks share: which documents are measured, and what ran on what."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.datasets import Subject, fairytales, shortest_fairytales, squad_subjects
from precis.model.language_model import LanguageModel

ROOT = Path(__file__).resolve().parents[1]


def document_options(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which documents to measure."""
    parser.add_argument("--squad", type=Path, help="a file in SQuAD's JSON format")
    parser.add_argument("--pairs", nargs="+", default=["4+15", "11+13", "20+22"], help="its articles, from 1")
    parser.add_argument("--fairytales", type=Path, help="FairytaleQA's folder of one split")
    parser.add_argument("--stories", nargs="+", help="names of stories; otherwise the shortest ones of")
    parser.add_argument("--shortest-words", type=int, default=1500, help="that many words or more,")
    parser.add_argument("--count", type=int, default=4, help="that many of them")


def subjects_of(options: argparse.Namespace) -> Iterator[Subject]:
    """Load the documents that `document_options` were given for."""
    if options.squad:
        yield from squad_subjects(options.squad, options.pairs)
    if options.fairytales and options.stories:
        yield from fairytales(options.fairytales, options.stories)
    elif options.fairytales:
        yield from shortest_fairytales(options.fairytales, options.shortest_words, options.count)


def surroundings(model: LanguageModel) -> dict[str, Any]:
    """Say what ran, on what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_since": _git("status", "--porcelain", "--", "src").splitlines(),
        "hardware": {
            "processor": names[0] if names else platform.processor(),
            "cores": os.cpu_count(),
            "device": device_name(model.device),
        },
        "model": model.name,
        "computed_in": str(model.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in ("precis", "torch", "transformers")},
    }


def device_name(device: torch.device) -> str:
    """Name the graphics card, or say that there is none."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _git(*command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
