"""From the cells of `right_answers.py` to results and tables.

What counts as what:

- Only questions with human answers count. A question that a method could not be asked is answered wrong.
- Totals are over all questions of all documents; questions are drawn within documents for the intervals.
- F1, words and positions are means over questions, as far as the method was asked them.
- Confidence is that of `precis`. A question that the document does not answer ought to have less than one
that
  it does: the area under ROC is the probability of that, for one of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gather import put
from benchmarks.tables import mean, provenance, table
from precis.evaluation.bootstrap import ratio_interval
from precis.evaluation.reliability import reliability
from precis.storage import write_atomically

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
RETRIEVALS = ("retrieve", "retrieve-x4")
MEANS = ("f1", "answer_words", "prompt_positions")
# Documents that lack a paragraph are totalled by themselves: their questions are those of the whole ones.
LEFT_OUT = ", without a paragraph"
Cells = Sequence[dict[str, Any]]


def gather(folder: Path, results: Path, docs: Path) -> dict[str, Any]:
    """Write the results of all cells in a folder, and show them in a page that has a place for them.

    Parameters
    ----------
    folder
        Has `cells/`.
    results
        JSON file to write; its name marks the place in `docs`, as in `gather.gather`.
    docs
        Markdown file to change, where it has such a place.

    Returns
    -------
    The headline numbers.
    """
    cells = [json.loads(path.read_text()) for path in sorted((folder / "cells").rglob("*.json"))]
    found = summary(cells)
    write_atomically(results, (json.dumps(found, ensure_ascii=False, indent=1) + "\n").encode())
    shown = "\n\n".join(tables(found))
    print(shown)
    if docs.is_file() and f"<!-- {results.stem}:begin -->" in docs.read_text():
        put(docs, results.stem, shown)
    return {
        name: {key: one[key] for key in ("right", "ratios", "control", "below_retrieve")}
        for name, one in found["variants"].items()
    }


def summary(cells: Cells) -> dict[str, Any]:
    """Work out the totals of every choice of settings."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        left_out = LEFT_OUT if "-without-" in cell["document"]["name"] else ""
        groups.setdefault(_name(cell["variant"]) + left_out, []).append(cell)
    return {
        "surroundings": [
            json.loads(text) for text in dict.fromkeys(json.dumps(cell["surroundings"]) for cell in cells)
        ],
        "variants": {name: _pooled(members) for name, members in groups.items()},
    }


def _name(variant: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in variant.items()) or "default"


def _pooled(cells: Cells) -> dict[str, Any]:
    methods = list(dict.fromkeys(name for cell in cells for name in cell["report"]["methods"]))
    right = {name: [_right(cell, name) for cell in cells] for name in methods}
    ratios = {
        f"{mine}/{theirs}": _ratio(right[mine], right[theirs])
        for mine, theirs in (("precis", "full"), ("soft-prompt", "full"), ("precis", _best_retrieval(right)))
        if theirs in right
    }
    return {
        "documents": [_document(cell) for cell in cells],
        "right": {name: int(sum(map(sum, outcomes))) for name, outcomes in right.items()},
        "judged": sum(map(len, right["full"])),
        "methods": {name: _method(cells, name, right) for name in methods},
        "ratios": ratios,
        "control": _difference(cells),
        "below_retrieve": [
            cell["document"]["name"]
            for cell, mine, *theirs in zip(
                cells, right["precis"], *(right[name] for name in RETRIEVALS if name in right), strict=True
            )
            if sum(mine) < max(map(sum, theirs))
        ],
        "unanswerable": _unanswerable(cells),
    }


def _right(cell: dict[str, Any], method: str) -> list[float]:
    """Say of every question that has human answers whether a method answers it right."""
    return [
        float(bool((record["methods"].get(method) or {}).get("right")))
        for record in cell["report"]["asked"]
        if any(record["humans"])
    ]


def _best_retrieval(right: dict[str, list[list[float]]]) -> str:
    present = [name for name in RETRIEVALS if name in right]
    return max(present, key=lambda name: sum(map(sum, right[name])))


def _ratio(mine: list[list[float]], theirs: list[list[float]]) -> dict[str, Any]:
    above, below = (sum(map(sum, outcomes)) for outcomes in (mine, theirs))
    return {"ratio": above / below if below else None, "interval": ratio_interval(mine, theirs)}


def _difference(cells: Cells) -> dict[str, Any] | None:
    """Compare precis with the control, on the documents that have one; None without any."""
    with_control = [cell for cell in cells if "other-recall" in cell["report"]["methods"]]
    if not with_control:
        return None
    differences = [
        [
            mine - theirs
            for mine, theirs in zip(_right(cell, "precis"), _right(cell, "other-recall"), strict=True)
        ]
        for cell in with_control
    ]
    ones = [[1.0] * len(each) for each in differences]
    return {
        "difference": sum(map(sum, differences)) / max(1, sum(map(len, differences))),
        "interval": ratio_interval(differences, ones),
        "questions": sum(map(len, differences)),
    }


def _method(cells: Cells, name: str, right: dict[str, list[list[float]]]) -> dict[str, Any]:
    mine = right[name]
    count = sum(map(len, mine))
    kept = [
        outcome
        for outcomes, full in zip(mine, right["full"], strict=True)
        for outcome, full_right in zip(outcomes, full, strict=True)
        if full_right
    ]
    weights = [len(part) for part in mine]
    return {
        "right": sum(map(sum, mine)) / count if count else None,
        "interval": ratio_interval(mine, [[1.0] * len(part) for part in mine]),
        "kept": mean(kept),
        **{measure: _weighted(cells, name, measure, weights) for measure in MEANS},
        "failures": sum(cell["report"]["methods"].get(name, {}).get("failures", 0) for cell in cells),
    }


def _weighted(cells: Cells, name: str, measure: str, weights: Sequence[int]) -> float | None:
    """Average over documents, by their questions."""
    values = [cell["report"]["methods"].get(name, {}).get(measure) for cell in cells]
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    whole = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / whole if whole else None


def _document(cell: dict[str, Any]) -> dict[str, Any]:
    methods, data = cell["report"]["methods"], cell["data"]
    return {
        "name": cell["document"]["name"],
        "tokens": cell["document"]["tokens"],
        "slots": cell["slots"],
        "questions": len(_right(cell, "full")),
        "control": cell["control"],
        "taught": data.get("questions"),
        "sentences": data.get("sentences"),
        "sentences_covered": data.get("sentences_covered"),
        "recovery": cell["report"]["recovery"],
        **cell["compile"],
        "methods": {
            name: {
                measure: scores[measure]
                for measure in (
                    "right_count",
                    "right",
                    "right_interval",
                    "kept",
                    *MEANS,
                    "recovery",
                    "first_token_s",
                )
            }
            for name, scores in methods.items()
        },
        "unanswerable": _unanswerable([cell]),
    }


def _unanswerable(cells: Cells) -> dict[str, Any] | None:
    """Tell how well confidence tells what a document answers; None where that was not asked."""
    asked = [
        (record["methods"]["precis"]["confidence"], record["methods"]["precis"]["right"])
        for cell in cells
        for record in cell["report"]["asked"]
        if any(record["humans"]) and "precis" in record["methods"]
    ]
    stated = [(confidence, right) for confidence, right in asked if confidence is not None]
    if not stated or not any(cell["unanswerable"] for cell in cells):
        return None
    answerable = [confidence for confidence, _ in stated]
    right = [confidence for confidence, is_right in stated if is_right]
    others = {
        kind: [
            record["confidence"]
            for cell in cells
            for record in (cell["unanswerable"] or {}).get(kind, [])
            if record["confidence"] is not None
        ]
        for kind in ("other", "near")
    }
    calibration = reliability(answerable, [bool(is_right) for _, is_right in stated])
    return {
        "answerable": len(answerable),
        "right": len(right),
        **{f"{kind}_questions": len(confidences) for kind, confidences in others.items()},
        **{f"auroc_{kind}": area_under_roc(answerable, found) for kind, found in others.items()},
        "calibration_error": None if calibration is None else calibration.calibration_error,
        "curve": [
            {
                "threshold": threshold,
                "right_refused": _below(right, threshold),
                **{f"{kind}_refused": _below(found, threshold) for kind, found in others.items()},
            }
            for threshold in THRESHOLDS
        ],
    }


def area_under_roc(higher: Sequence[float], lower: Sequence[float]) -> float | None:
    """Give the probability that one of the first is greater than one of the second; equals count half."""
    if not higher or not lower:
        return None
    difference = np.subtract.outer(np.asarray(higher), np.asarray(lower))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def _below(confidences: Sequence[float], threshold: float) -> float | None:
    return mean(float(confidence < threshold) for confidence in confidences)


def tables(found: dict[str, Any]) -> list[str]:
    """Show results as Markdown, one text a table; the default settings first."""
    ordered = sorted(found["variants"].items(), key=lambda item: item[0] != "default")
    shown: list[str] = []
    for name, one in ordered[:1]:
        said = "" if name == "default" else f" with {name}"
        shown.append(f"Right answers{said}, and of how many questions:\n\n{_methods(one)}")
        shown.append(_said(one))
        shown.append(f"Compiles{said}:\n\n{_compiles(one)}")
    if len(ordered) > 1:
        shown.append(f"By settings, all documents together:\n\n{_sweep(dict(ordered))}")
    for name, one in ordered:
        if one["unanswerable"]:
            shown.append(f"What documents do not answer ({name}):\n\n{_refusals(one['unanswerable'])}")
    return [*shown, provenance(found)]


def _methods(one: dict[str, Any]) -> str:
    documents = one["documents"]
    heads = [f"{each['name']} ({each['questions']})" for each in documents]
    rows = [["before the question", *heads, "all", "share", "kept", "F1", "words", "positions"]]
    for name, scores in one["methods"].items():
        counts = [str(each["methods"].get(name, {}).get("right_count", "–")) for each in documents]
        rows.append(
            [
                f"`{name}`",
                *counts,
                f"{one['right'][name]} of {one['judged']}",
                _with_interval(scores["right"], scores["interval"]),
                _number(scores["kept"], 2),
                _number(scores["f1"], 2),
                _number(scores["answer_words"], 1),
                _number(scores["prompt_positions"], 0),
            ]
        )
    return table(rows)


def _said(one: dict[str, Any]) -> str:
    said = [
        f"{pair.replace('/', ' over ')}: {_with_interval(each['ratio'], each['interval'])}"
        for pair, each in one["ratios"].items()
    ]
    if one["control"]:
        control = one["control"]
        difference = _with_interval(control["difference"], control["interval"], 3)
        said.append(f"precis minus other-recall: {difference}")
    below = ", ".join(one["below_retrieve"]) or "no document"
    said.append(f"precis is below the better of the retrievals on {below}")
    return "; ".join(said) + "."


def _compiles(one: dict[str, Any]) -> str:
    rows = [["document", "tokens", "slots", "taught", "sentences covered", "seconds", "of them", "recovery"]]
    for each in one["documents"]:
        stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in each["stages"].items())
        covered = "–" if each["sentences"] is None else f"{each['sentences_covered']} of {each['sentences']}"
        seconds = f"{each['seconds']:.0f}{' (found work)' if each['found_work'] else ''}"
        figures = [f"{each['tokens']:,}", str(each["slots"]), str(each["taught"]), covered, seconds, stages]
        rows.append([each["name"], *figures, _number(each["recovery"], 2)])
    return table(rows)


def _sweep(variants: dict[str, Any]) -> str:
    rows = [["settings", "documents", "soft-prompt", "precis", "full", "precis − other-recall", "seconds"]]
    for name, one in variants.items():
        counts = [
            f"{one['right'][method]} of {one['judged']}" for method in ("soft-prompt", "precis", "full")
        ]
        control = one["control"]
        difference = "–" if control is None else _with_interval(control["difference"], control["interval"], 3)
        seconds = mean(each["seconds"] for each in one["documents"])
        rows.append([name, str(len(one["documents"])), *counts, difference, _number(seconds, 0)])
    return table(rows)


def _refusals(found: dict[str, Any]) -> str:
    areas = [
        f"area under ROC {_number(found[f'auroc_{kind}'], 2)} for {found[f'{kind}_questions']} {words}"
        for kind, words in (("other", "questions about other texts"), ("near", "near misses"))
    ]
    said = f"{'; '.join(areas)}; calibration error {_number(found['calibration_error'], 3)} on "
    said += f"{found['answerable']} human questions."
    rows = [["refused below", "of right answers", "of questions about other texts", "of near misses"]]
    for step in found["curve"]:
        shares = [_number(step[f"{kind}_refused"], 2) for kind in ("right", "other", "near")]
        rows.append([f"{step['threshold']:.2f}", *shares])
    return f"{said[0].upper()}{said[1:]}\n\n{table(rows)}"


def _with_interval(value: float | None, interval: Sequence[float] | None, digits: int = 2) -> str:
    bounds = "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return _number(value, digits) + bounds


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
