"""Draws the comparison: `python -m benchmarks.plot results.json docs/images` writes a light and a dark SVG.

Runs in the environment of requirements/bench.in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

COLOURS = {
    "bare": "#8a8f98",
    "bare-uvloop": "#b9bec6",
    "usual": "#d9822b",
    "usual-root": "#b5651d",
    "untraced": "#5aa9e6",
    "traced": "#2b6cb0",
}
THEMES = {"light": ("#24292f", "#ffffff"), "dark": ("#e6edf3", "#0d1117")}


def draw(calls: dict[str, Any], target: Path, text: str, background: str) -> None:
    """Calls a second and p99 at each number in flight, with the spread of the rounds."""
    plt.rcParams.update(
        {
            "svg.hashsalt": "bookmesh",
            "font.size": 10,
            "text.color": text,
            "axes.labelcolor": text,
            "axes.edgecolor": text,
            "xtick.color": text,
            "ytick.color": text,
        }
    )
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), facecolor=background, layout="constrained")
    in_flight = sorted({cell["in_flight"] for cell in calls["cells"]})
    for position, key in enumerate(COLOURS):
        cells = sorted((c for c in calls["cells"] if c["key"] == key), key=lambda cell: int(cell["in_flight"]))
        places = [number + (position - 2.5) * 0.145 for number in range(len(in_flight))]
        rates = [cell["calls_per_s"] for cell in cells]
        spread = [
            [cell["calls_per_s"] - cell["spread"][0] for cell in cells],
            [cell["spread"][1] - cell["calls_per_s"] for cell in cells],
        ]
        label = cells[0]["title"]
        panels[0].bar(places, rates, 0.13, color=COLOURS[key], label=label, yerr=spread, ecolor=text)
        panels[1].bar(places, [cell["p99_us"] / 1000 for cell in cells], 0.13, color=COLOURS[key])
    for panel, title in zip(panels, ("calls a second (more is better)", "p99, ms (less is better)"), strict=True):
        panel.set_title(title)
        panel.set_facecolor(background)
        panel.set_xticks(range(len(in_flight)), [f"{number} in flight" for number in in_flight])
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].set_yscale("log")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=text)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Draw both."""
    source, folder = map(Path, sys.argv[1:])
    calls = json.loads(source.read_text())["calls"]
    for theme, (text, background) in THEMES.items():
        draw(calls, folder / f"performance-{theme}.svg", text, background)


if __name__ == "__main__":
    main()
