"""Plots of what `fidelity.py` found, from its results file alone.

    python benchmarks/plots.py RESULTS.json FOLDER

Recovery against the ratio, by method, and recovery against minutes where that was swept. σ is
drawn in colour, baselines in grey; every curve is named at its end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS = "soft-prompt"
OUR_COLOUR, BEST_COLOUR, MUTED = "#c2410c", "#334155", "#94a3b8"
# Fraction of the plot's height between two names at its side.
APART = 0.045
# The same results give the same bytes; letters stay text, which keeps the file small.
matplotlib.rcParams.update(
    {"svg.hashsalt": "precis", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
)

Point = tuple[float, dict[str, Any]]


def draw(results: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Draw what there is to draw.

    Parameters
    ----------
    results
        What `gather.summary` gives.
    folder
        Gets `NAME-by-ratio.svg` and `NAME-by-minutes.svg`.

    Returns
    -------
    The files written.
    """
    # results of earlier versions call σ alone `precis`
    means = [{**row, "method": OURS} if row["method"] == "precis" else row for row in results["means"]]
    known = [row for row in means if row["recovery"] is not None]
    main = [row for row in known if not row["variant"]]
    timed = [row for row in known if list(row["variant"]) == ["minutes"]]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if main:
        curves = _curves(main, lambda row: row["method"], lambda row: row["ratio"])
        written.append(_save(_by_ratio(curves), folder / f"{name}-by-ratio.svg"))
    if timed:
        curves = _curves(timed, lambda row: f"{row['ratio']:g}×", lambda row: row["variant"]["minutes"])
        written.append(_save(_by_minutes(curves), folder / f"{name}-by-minutes.svg"))
    return written


def _curves(
    rows: Sequence[dict[str, Any]],
    label: Callable[[dict[str, Any]], str],
    place: Callable[[dict[str, Any]], float],
) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {}
    for row in rows:
        curves.setdefault(label(row), []).append((place(row), row))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in curves.items()}


def _by_ratio(curves: dict[str, list[Point]]) -> Figure:
    figure, axes = _empty("document tokens a slot", len(curves))
    ratios = sorted({place for points in curves.values() for place, _ in points})
    best = _best_baseline(curves)
    for name, points in curves.items():
        if name == OURS:
            _curve(axes, points, OUR_COLOUR, 2.6, interval=True)
        else:
            _curve(axes, points, BEST_COLOUR if name == best else MUTED, 1.6 if name == best else 1.1)
    axes.set_xscale("log")
    axes.set_xticks(ratios, [f"{ratio:g}×" for ratio in ratios])
    axes.minorticks_off()
    axes.set_xlim(ratios[0] / 1.1, ratios[-1] * 1.1)
    colours = {
        name: OUR_COLOUR if name == OURS else BEST_COLOUR if name == best else "#64748b" for name in curves
    }
    _name_ends(axes, curves, colours)
    return figure


def _by_minutes(curves: dict[str, list[Point]]) -> Figure:
    figure, axes = _empty("minutes of compiling, at most", len(curves))
    for points in curves.values():
        _curve(axes, points, OUR_COLOUR, 2.6, interval=True)
    axes.set_xticks(sorted({place for points in curves.values() for place, _ in points}))
    _name_ends(axes, curves, dict.fromkeys(curves, OUR_COLOUR))
    return figure


def _best_baseline(curves: dict[str, list[Point]]) -> str | None:
    """Name the baseline with the best mean recovery: the one that a reader looks for."""
    means = {
        name: sum(row["recovery"] for _, row in points) / len(points)
        for name, points in curves.items()
        if name != OURS
    }
    return max(means, key=lambda name: means[name]) if means else None


def _empty(place: str, curves: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, max(3.6, 0.8 + 0.3 * curves)), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_xlabel(place)
    axes.set_ylabel("mean recovery")
    axes.spines[["top", "right"]].set_visible(False)
    for level in (0, 1):  # no document, and all of it
        axes.axhline(level, color="#cbd5e1", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    return figure, axes


def _curve(axes: Axes, points: Sequence[Point], colour: str, width: float, *, interval: bool = False) -> None:
    places = [place for place, _ in points]
    heights = [row["recovery"] for _, row in points]
    axes.plot(places, heights, color=colour, linewidth=width, marker="o", markersize=width * 2)
    bounded = [(place, row["interval"]) for place, row in points if row["interval"]]
    if interval and bounded:
        low, high = zip(*(bounds for _, bounds in bounded), strict=True)
        axes.fill_between([place for place, _ in bounded], low, high, color=colour, alpha=0.15, linewidth=0)


def _name_ends(axes: Axes, curves: dict[str, list[Point]], colours: dict[str, str]) -> None:
    """Write each curve's name to the right of the plot, with a thin line from its last point."""
    low, high = axes.get_ylim()
    ends = {name: (points[-1][0], points[-1][1]["recovery"]) for name, points in curves.items()}
    wanted = {name: (end[1] - low) / (high - low) for name, end in ends.items()}
    for name, height in _apart(wanted).items():
        axes.annotate(
            name,
            xy=ends[name],
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=colours[name],
            fontweight="bold" if name == OURS else "normal",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colours[name],
                "linewidth": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 3,
            },
        )


def _apart(wanted: dict[str, float]) -> dict[str, float]:
    """Move heights within the plot to lie `APART`: overlapping ones share the room around their mean."""
    groups: list[list[str]] = []

    def middle(group: list[str]) -> float:
        half = (len(group) - 1) / 2 * APART
        mean = sum(wanted[name] for name in group) / len(group)
        return min(max(mean, half), max(half, 1 - half))

    for name in sorted(wanted, key=lambda name: wanted[name]):
        groups.append([name])
        while len(groups) > 1:
            room = (len(groups[-2]) + len(groups[-1])) / 2 * APART
            if middle(groups[-1]) - middle(groups[-2]) >= room:
                break
            groups[-2:] = [groups[-2] + groups[-1]]
    return {
        name: middle(group) + (place - (len(group) - 1) / 2) * APART
        for group in groups
        for place, name in enumerate(group)
    }


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    """Draw a results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    for path in draw(json.loads(options.results.read_text()), options.folder, options.results.stem):
        print(path)


if __name__ == "__main__":
    main()
