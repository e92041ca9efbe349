"""From measured cells to results, tables and plots.

What counts as what:

- Recovery is (NLL_none − NLL) / (NLL_none − NLL_full), summed over the tokens of all of a document's ŷ.
- A question that a method could not be asked, since it does not fit, is scored as with no document: it
  recovers 0 of its gap, and has the KL and top-1 agreement of `none`. It has no answer: match, exact
  match and F1 are 0. It is not left out.
- A document that a method refuses has no recovery. The method's mean is over the others, and says so.
- Intervals are 95 % bootstraps over questions; for a mean over documents, questions are drawn within
  every document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.tables import OURS, main_rows, mean, tables
from precis.evaluation.bootstrap import recovery_interval
from precis.evaluation.report import AnsweredQuestion, MethodAnswer
from precis.evaluation.scoring import gains_and_gaps, scores_of
from precis.storage import write_atomically

MEASURES = ("kl", "top1", "match", "em", "f1")


def gather(folder: Path, results: Path, docs: Path) -> dict[str, Any]:
    """Write the results of all cells in a folder, and show them in a page.

    Parameters
    ----------
    folder
        Has `cells/`.
    results
        JSON file to write. Its name, without the ending, marks the place in `docs` between
        `<!-- NAME:begin -->` and `<!-- NAME:end -->`, and begins the names of the plots.
    docs
        Markdown file to change; plots go to `images/` beside it.

    Returns
    -------
    The headline numbers.
    """
    cells = [renamed(json.loads(path.read_text())) for path in sorted((folder / "cells").rglob("*.json"))]
    gathered = summary(cells)
    write_atomically(results, (json.dumps(gathered, ensure_ascii=False, indent=1) + "\n").encode())
    images = _plots(gathered, docs.parent / "images", results.stem)
    shown = [f"![{image.stem}]({image.relative_to(docs.parent).as_posix()})" for image in images]
    put(docs, results.stem, "\n\n".join([*tables(gathered), *shown]))
    return headline(gathered)


def renamed(cell: dict[str, Any]) -> dict[str, Any]:
    """Read a cell that was measured when σ alone was called `precis`."""
    if cell["method"] != "precis":
        return cell
    asked = [
        {
            **question,
            "methods": {
                OURS if name == "precis" else name: said for name, said in question["methods"].items()
            },
        }
        for question in cell.get("asked", [])
    ]
    return {**cell, "method": OURS, **({"asked": asked} if "asked" in cell else {})}


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Work out every cell's measures, and the means over documents."""
    questions = [_asked(cell) for cell in cells]
    rows = [_row(cell, asked) for cell, asked in zip(cells, questions, strict=True)]
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(_column(row), []).append(number)
    return {
        "surroundings": _distinct(cell["surroundings"] for cell in cells),
        "settings": _distinct(_common_settings(cell) for cell in cells),
        "documents": {cell["document"]["name"]: _document(cell) for cell in _with_questions_last(cells)},
        "cells": rows,
        "means": [
            _mean_row([rows[number] for number in members], [questions[number] for number in members])
            for members in groups.values()
        ],
    }


def headline(gathered: dict[str, Any]) -> dict[str, Any]:
    """Give what one wants to know first: at every ratio, σ alone and the best baseline."""
    found: dict[str, Any] = {}
    for row in main_rows(gathered["means"]):
        if row["recovery"] is None:
            continue
        at = found.setdefault(f"{row['ratio']:g}", {OURS: None, "best_baseline": None, "its_recovery": None})
        if row["method"] == OURS:
            at[OURS] = row["recovery"]
        elif at["its_recovery"] is None or row["recovery"] > at["its_recovery"]:
            at |= {"best_baseline": row["method"], "its_recovery": row["recovery"]}
    return {
        "recovery": dict(sorted(found.items(), key=lambda item: float(item[0]))),
        "cells": len(gathered["cells"]),
        "failed": sum(row["failure"] is not None for row in gathered["cells"]),
    }


def _asked(cell: dict[str, Any]) -> list[AnsweredQuestion]:
    """Read the questions of a cell; those without a yardstick, `none` and `full`, cannot be scored."""
    known = {item.name for item in fields(MethodAnswer)}
    return [
        AnsweredQuestion(
            question["question"],
            question["humans"] if cell["answers"] else [],
            question["tokens"],
            question["place"],
            {
                name: MethodAnswer(**{item: value for item, value in said.items() if item in known})
                for name, said in question["methods"].items()
            },
        )
        for question in cell.get("asked", [])
        if {"none", "full"} <= set(question["methods"])
    ]


def _row(cell: dict[str, Any], asked: Sequence[AnsweredQuestion]) -> dict[str, Any]:
    """Give the measures of one cell."""
    method, all_questions = cell["method"], cell.get("asked", [])
    scores = scores_of(asked, method)
    return {
        "document": cell["document"]["name"],
        "ratio": cell["ratio"],
        "method": method,
        "variant": cell["variant"],
        "failure": cell["failure"],
        "questions": len(all_questions),
        "did_not_fit": sum(method not in question["methods"] for question in all_questions),
        **{
            name: getattr(scores, name)
            for name in ("recovery", "interval", "kl", "top1", "match", "em", "f1")
        },
        "slots": cell.get("slots"),
        "bytes": cell.get("bytes"),
        "seconds": cell.get("seconds"),
        "stages": cell.get("stages"),
        "held_out_recovery": cell.get("held_out_recovery"),
    }


def _mean_row(
    rows: Sequence[dict[str, Any]], questions: Sequence[Sequence[AnsweredQuestion]]
) -> dict[str, Any]:
    """Average one method at one ratio over the documents that it has a recovery on."""
    known = [(row, asked) for row, asked in zip(rows, questions, strict=True) if row["recovery"] is not None]
    gained = [gains_and_gaps(asked, row["method"]) for row, asked in known]
    return {
        "ratio": rows[0]["ratio"],
        "method": rows[0]["method"],
        "variant": rows[0]["variant"],
        "documents": len(known),
        "failed": [row["document"] for row in rows if row["failure"]],
        "did_not_fit": sum(row["did_not_fit"] for row in rows),
        "recovery": mean(row["recovery"] for row, _ in known),
        "interval": recovery_interval([gains for gains, _ in gained], [gaps for _, gaps in gained]),
        **{name: mean(row[name] for row, _ in known) for name in (*MEASURES, "seconds", "bytes")},
    }


def _document(cell: dict[str, Any]) -> dict[str, Any]:
    """Say what a document is, and where the model stands without it."""
    asked = _asked(cell)
    tokens = sum(question.tokens for question in asked)

    def per_token(method: str, measure: str) -> float | None:
        if not tokens:
            return None
        total: float = sum(getattr(question.methods[method], measure) for question in asked)
        return total / tokens

    return {
        "tokens": cell["document"]["tokens"],
        "sha256": cell["document"]["sha256"],
        "questions": len(cell.get("asked", [])),
        "nll_none": per_token("none", "nll"),
        "nll_full": per_token("full", "nll"),
        "kl_none": per_token("none", "kl"),
        "top1_none": per_token("none", "top1"),
    }


def _with_questions_last(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Order cells so that one that has asked its questions speaks for its document."""
    return sorted(cells, key=lambda cell: (cell["document"]["name"], "asked" in cell))


def _common_settings(cell: dict[str, Any]) -> dict[str, Any]:
    """Give the settings that neither the ratio nor a sweep sets."""
    return {
        name: value for name, value in cell["settings"].items() if name not in {"ratio", *cell["variant"]}
    }


def _distinct(values: Iterable[Any]) -> list[Any]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(value) for value in values)]


def _column(row: dict[str, Any]) -> str:
    return json.dumps([row["ratio"], row["method"], row["variant"]])


def _plots(gathered: dict[str, Any], folder: Path, name: str) -> list[Path]:
    try:
        from benchmarks import plots
    except ImportError:
        print("No plots: matplotlib is not installed (pip install -e '.[bench]').")
        return []
    return plots.draw(gathered, folder, name)


def put(docs: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of a name.

    Raises
    ------
    ValueError
        The page has no such markers.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = docs.read_text()
    if not 0 <= page.find(begin) < page.find(end):
        raise ValueError(f"{docs} has no place for the tables; put the lines {begin} and {end} into it.")
    before, rest = page.split(begin, 1)
    _, after = rest.split(end, 1)
    write_atomically(docs, f"{before}{begin}\n{text}\n{end}{after}".encode())
