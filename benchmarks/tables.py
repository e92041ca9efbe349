"""Results as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

# σ alone, which is what these tables are about; results of earlier versions call it `precis`.
OURS = "soft-prompt"


def tables(gathered: dict[str, Any]) -> list[str]:
    """Show results as Markdown, one text a table."""
    main = main_rows(gathered["means"])
    ratios = sorted({row["ratio"] for row in main})
    shown = []
    if main:
        shown.append(_recovery_table(gathered, main, ratios))
        shown += [_ratio_table(gathered, main, ratio) for ratio in ratios]
        shown.append(_document_table(gathered, ratios))
    return [*shown, *_sweep_tables(gathered), provenance(gathered)]


def main_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the rows that belong to no sweep."""
    return [row for row in rows if not row["variant"]]


def mean(values: Iterable[float | None]) -> float | None:
    """Average what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _recovery_table(gathered: dict[str, Any], main: list[dict[str, Any]], ratios: list[float]) -> str:
    """One row a method, one column a ratio."""
    rows = [["method", *(f"{ratio:g}×" for ratio in ratios)]]
    best = {ratio: max(_known(row["recovery"]) for row in main if row["ratio"] == ratio) for ratio in ratios}
    for method in _by_recovery(main):
        at = {row["ratio"]: row for row in main if row["method"] == method}
        texts = [_recovery_text(at.get(ratio), best[ratio], len(gathered["documents"])) for ratio in ratios]
        rows.append([method, *texts])
    said = "Mean recovery over documents, with 95 % intervals; the best at each ratio is bold."
    return f"{said}\n\n{table(rows)}"


def _recovery_text(row: dict[str, Any] | None, best: float, documents: int) -> str:
    if row is None:
        return "–"
    text = _with_interval(row)
    text = f"**{text}**" if row["recovery"] == best else text
    failed = len(row["failed"])
    notes = [f"failed on {failed} of {documents}"] if failed else []
    known = row["documents"] + failed
    notes += [f"measured on {known} of {documents}"] if known < documents else []
    return f"{text} ({', '.join(notes)})" if notes else text


def _ratio_table(gathered: dict[str, Any], main: list[dict[str, Any]], ratio: float) -> str:
    """One row a method at one ratio, with all measures."""
    at = {row["method"]: row for row in main if row["ratio"] == ratio}
    asked = any(row["match"] is not None for row in at.values())
    more = ["match", "EM", "F1"] if asked else []
    heads = ["method", "recovery", "KL", "top-1", *more, "seconds", "MB", "failed", "unfit questions"]
    rows = [heads, _none_row(gathered, len(more))]
    for method in _by_recovery(at.values()):
        row = at[method]
        answers = [_number(row[name]) for name in ("match", "em", "f1")] if asked else []
        megabytes = "–" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f}"
        counts = [str(len(row["failed"])), str(row["did_not_fit"])]
        figures = [_with_interval(row), _number(row["kl"]), _number(row["top1"]), *answers]
        rows.append([method, *figures, _number(row["seconds"], 1), megabytes, *counts])
    return f"At {ratio:g}×, means over documents:\n\n" + table(rows)


def _none_row(gathered: dict[str, Any], more: int) -> list[str]:
    """Where the model stands with no document."""
    documents = gathered["documents"].values()
    kl, top1 = (mean(document[name] for document in documents) for name in ("kl_none", "top1_none"))
    return ["none", "0", _number(kl), _number(top1), *["–"] * more, "–", "–", "–", "–"]


def _document_table(gathered: dict[str, Any], ratios: list[float]) -> str:
    """One row a document: σ beside the best baseline there."""
    rows = [["document", "tokens", "questions", *(f"{ratio:g}×: {OURS}, best baseline" for ratio in ratios)]]
    for name, document in gathered["documents"].items():
        texts = [
            _beside_best(
                [r for r in main_rows(gathered["cells"]) if (r["document"], r["ratio"]) == (name, ratio)]
            )
            for ratio in ratios
        ]
        rows.append([name, f"{document['tokens']:,}", str(document["questions"]), *texts])
    return "Recovery on every document:\n\n" + table(rows)


def _beside_best(rows: list[dict[str, Any]]) -> str:
    ours = next((row for row in rows if row["method"] == OURS), None)
    baselines = [row for row in rows if row["method"] != OURS and row["recovery"] is not None]
    text = "–" if ours is None else "failed" if ours["failure"] else _with_interval(ours)
    if not baselines:
        return text
    best = max(baselines, key=lambda row: row["recovery"])
    return f"{text}, {best['method']} {_number(best['recovery'])}"


def _sweep_tables(gathered: dict[str, Any]) -> list[str]:
    """One table for each set of settings that were varied together."""
    sweeps: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in gathered["means"]:
        if row["variant"]:
            sweeps.setdefault(tuple(row["variant"]), []).append(row)
    shown = []
    for names, members in sweeps.items():
        words = [name.replace("_", " ") for name in names]
        rows = [["ratio", *words, "recovery", "KL", "top-1", "seconds", "documents", "failed"]]
        for row in sorted(members, key=lambda row: [row["ratio"], *row["variant"].values()]):
            values = [
                f"{value:g}" if isinstance(value, float) else str(value) for value in row["variant"].values()
            ]
            figures = [
                _with_interval(row),
                _number(row["kl"]),
                _number(row["top1"]),
                _number(row["seconds"], 1),
            ]
            counts = [str(row["documents"]), str(len(row["failed"]))]
            rows.append([f"{row['ratio']:g}×", *values, *figures, *counts])
        shown.append(f"`{OURS}` by {' and '.join(words)}, means over documents:\n\n" + table(rows))
    return shown


def provenance(gathered: dict[str, Any]) -> str:
    """Say in a sentence what the figures were measured with."""
    texts = []
    for one in gathered["surroundings"]:
        hardware, versions = one["hardware"], one["versions"]
        changed = " with changes" if one["changed_since"] else ""
        texts.append(
            f"{one['model']} in {one['computed_in']} on {hardware['device']} ({hardware['processor']}, "
            f"{hardware['cores']} cores), torch {versions['torch']}, transformers "
            f"{versions['transformers']}, commit {one['commit'][:12]}{changed}"
        )
    return "Measured with " + "; ".join(texts) + "."


def _by_recovery(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Order methods, the best first; one without any recovery is last."""
    found: dict[str, list[float | None]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(row["recovery"])
    return sorted(found, key=lambda method: -_known(mean(found[method])))


def _known(value: float | None) -> float:
    return -math.inf if value is None else value


def _with_interval(row: dict[str, Any]) -> str:
    if row["interval"] is None:
        return _number(row["recovery"])
    low, high = row["interval"]
    return f"{_number(row['recovery'])} [{low:.2f}, {high:.2f}]"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a Markdown table, the first one as its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
