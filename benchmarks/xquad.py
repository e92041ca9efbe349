"""Fidelity on pairs of SQuAD articles: compile each pair at a ratio, then evaluate on its human questions.

Runs the commands as a user would, one after the other, and notes their wall time and peak memory. A pair
that is finished is not run again.

    python benchmarks/xquad.py SQUAD.json FOLDER [--pairs 4+15 11+13 20+22] [-- OPTIONS OF PRECIS COMPILE]

Articles count from 1. FOLDER gets documents, questions, `.precis` files and one report a pair;
`FOLDER/results.json` gathers them with commit, hardware and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def run(command: list[str]) -> dict[str, float]:
    """Run a command; its wall time in seconds and its peak memory in gigabytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"'{' '.join(command)}' failed.")
    return {"seconds": time.perf_counter() - start, "peak_gb": usage.ru_maxrss * 1024 / 1e9}


def write_pair(articles: list[dict[str, Any]], pair: str, folder: Path) -> tuple[Path, Path]:
    """Write a pair's document and its questions."""
    chosen = [articles[int(number) - 1] for number in pair.split("+")]
    contexts = [paragraph["context"] for article in chosen for paragraph in article["paragraphs"]]
    document, questions = folder / f"{pair}.md", folder / f"{pair}.questions.json"
    document.write_text("\n\n".join(contexts))
    questions.write_text(json.dumps({"data": chosen}))
    return document, questions


def measure(articles: list[dict[str, Any]], pair: str, folder: Path, options: list[str]) -> dict[str, Any]:
    """Compile and evaluate one pair."""
    done = folder / f"{pair}.result.json"
    if done.is_file():
        return json.loads(done.read_text())
    document, questions = write_pair(articles, pair, folder)
    artifact, report = folder / f"{pair}.precis", folder / f"{pair}.report.json"
    precis = str(Path(sys.executable).with_name("precis"))
    compiling = run([precis, "compile", str(document), "-o", str(artifact), *options])
    given = ["--document", str(document), "--questions", str(questions), "--json", str(report)]
    evaluating = run([precis, "evaluate", str(artifact), *given])
    result = {"compile": compiling, "evaluate": evaluating, "report": json.loads(report.read_text())}
    done.write_text(json.dumps(result, indent=2))
    return result


def surroundings() -> dict[str, Any]:
    """Say what ran, on what."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "commit": commit.stdout.strip(),
        "hardware": {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("precis", "torch", "transformers")},
    }


def main() -> None:
    """Measure all pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("squad", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", nargs="+", default=["4+15", "11+13", "20+22"])
    parser.add_argument("options", nargs="*", help="options of precis compile, after --")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    articles = json.loads(options.squad.read_text())["data"]
    pairs = {pair: measure(articles, pair, options.folder, options.options) for pair in options.pairs}
    recoveries = [pair["report"]["recovery"] for pair in pairs.values()]
    results = {
        **surroundings(),
        "options": options.options,
        "mean_recovery": sum(recoveries) / len(recoveries),
        "pairs": pairs,
    }
    (options.folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({"mean_recovery": results["mean_recovery"], "recoveries": recoveries}))


if __name__ == "__main__":
    main()
