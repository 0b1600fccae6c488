"""The report's figures as inline SVG whose ink is the page's, so that they can be read on light and dark."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

# Stands for the page's own colour of text, which the SVG then names.
_INK = "#010203"
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "recaffe", "font.family": "sans-serif", "font.size": 9,
    "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.18, "grid.color": _INK, "text.color": _INK, "axes.edgecolor": _INK,
    "axes.labelcolor": _INK, "axes.titlecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip
BLUE, ORANGE, GREEN, GREY = "#2b6ca3", "#c8641e", "#3f8f4a", "#7a828a"
# At least three times as light or dark as either page behind them.
COLOURS = (BLUE, ORANGE, GREEN, "#8a63c9", "#1f8f8f", "#c4508f", "#a0714a", GREY)
_LONGEST = 40  # letters of a name
_DASHES = ("-", "--", ":", "-.")


def style_of(index: int) -> tuple[str, str]:
    """Colour and dash of the curve of a number."""
    return COLOURS[index % len(COLOURS)], _DASHES[index // len(COLOURS) % len(_DASHES)]


def shorten(name: str) -> str:
    """A name that leaves room for the figure beside it."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _svg(figure: Figure, name: str, says: str) -> Markup:
    """The figure's SVG, its ids its own within the page; `says` is what it shows, in words."""
    out = io.StringIO()
    with warnings.catch_warnings():
        # Letters that Matplotlib has no font for are text in the SVG, and the browser has one.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    # Matplotlib's metadata block names outside addresses and says nothing.
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{name}-", text)
    text = text.replace(_INK, "var(--ink)")
    text = text.replace("<svg ", f'<svg class="plot" role="img" aria-label="{escape(says)}" ', 1)
    return Markup(text)


def _axes(width: float, height: float, **labels: Any) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.set(**labels)
    return figure, axes


def curve(
    runs: Mapping[str, Sequence[Mapping[str, str]]], styles: Mapping[str, int], column: str, label: str
) -> Markup:  # fmt: skip
    """A column of train.csv by epoch, a line a run; runs of the same number look the same."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(3.6, 2.7, xlabel="epoch", ylabel=label)
        for name, rows in runs.items():
            points = [(float(r["epoch"]), float(r[column])) for r in rows if r[column]]
            colour, dash = style_of(styles[name])
            marker = "." if len(points) <= 60 and column == "val_accuracy" else ""
            axes.plot(
                [x for x, _ in points], [y for _, y in points], label=name,
                linewidth=1.2, color=colour, linestyle=dash, marker=marker,
            )  # fmt: skip
        if column == "val_accuracy":
            axes.set(ylim=(0, 1))
        elif column == "loss":
            axes.set(ylim=(0, None))
        return _svg(figure, f"curve-{column.replace('_', '-')}", f"{label} by epoch")


def lr_range(name: str, rows: Sequence[Mapping[str, str]], note: Mapping[str, Any]) -> Markup:
    """Losses of an lr range test by rate, each and smoothed, and the proposed rate of its `note`."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(5.2, 2.9, xlabel="base_lr", ylabel="training loss", xscale="log")
        # Matplotlib's own would write powers as mathematics, which isn't parsed here.
        axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        rates = [float(row["lr"]) for row in rows]
        smoothed = [float(row["smoothed_loss"]) for row in rows]
        axes.plot(rates, [float(row["loss"]) for row in rows], ".", color=GREY, markersize=3)
        axes.plot(rates, smoothed, color=BLUE, linewidth=1.6)
        if note["base_lr"] is not None:
            marks = ("base_lr", ORANGE, "-"), ("steepest", GREY, ":"), ("minimum", GREY, "--")
            for key, colour, dash in marks:
                axes.axvline(note[key], color=colour, linestyle=dash, linewidth=1.2)
        if smoothed:  # exploded losses go off the top
            low, high = min(smoothed), max(smoothed)
            axes.set(ylim=(low - 0.1 * (high - low or 1), high + 0.1 * (high - low or 1)))
        return _svg(figure, f"lr-range-{name}", "training loss by learning rate")


def on_its_own(svg: Markup) -> str:
    """A figure as a file for any viewer, which has no page's colours around it: on white."""
    text = str(svg).replace("var(--ink)", "#1b1f23")  # a Markup would escape what is put in
    return text.replace("<svg ", '<svg style="background:#fff" ', 1)


def intervals(rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """A dot and its interval for each (name, value, low, high), downwards."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(6.4, 0.28 * len(rows) + 0.7, xlabel="test accuracy")
        for i, (_, value, low, high) in enumerate(rows):
            axes.plot([low, high], [i, i], color=BLUE, linewidth=2, solid_capstyle="round")
            axes.plot(value, i, "o", color=BLUE, markersize=6)
        axes.set_yticks(range(len(rows)), [shorten(name) for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        return _svg(figure, "intervals", "test accuracy of each run with its 95 % interval")


def reliability(bins: Sequence[Mapping[str, float]]) -> Markup:
    """Accuracy against confidence; on the diagonal, the net knows how sure it may be."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(
            3.4, 3.4, xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02)
        )
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        largest = max(b["n"] for b in bins)
        for b in bins:
            size = 3 + 9 * (b["n"] / largest) ** 0.5
            axes.plot(b["confidence"], b["accuracy"], "o", color=BLUE, markersize=size)
        return _svg(figure, "reliability", "accuracy by confidence, larger dots for more pictures")


def class_bars(classes: Sequence[Mapping[str, str]]) -> Markup:
    """Pictures of each class in training, validation and test."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(6.4, max(1.2, 0.24 * len(classes) + 0.7), xlabel="pictures")
        left = np.zeros(len(classes))
        for split, colour in (("train", BLUE), ("val", ORANGE), ("test", GREEN)):
            n = np.array([int(row[split]) for row in classes])
            axes.barh(range(len(classes)), n, left=left, color=colour, label=split)
            left += n
        axes.set_yticks(range(len(classes)), [shorten(row["name"]) for row in classes])
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return _svg(figure, "classes", "pictures of each class in training, validation and test")


def sizes(pixels: Sequence[tuple[int, int]], record: tuple[int, int]) -> Markup:
    """Widths and heights of the pictures, larger dots for more, beside those of a record."""
    found = Counter(pixels)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(3.6, 3.0, xlabel="width, pixels", ylabel="height, pixels")
        if len(found) > 400:
            x, y = (np.array([size[i] for size in pixels]) for i in (0, 1))
            axes.hexbin(x, y, gridsize=28, mincnt=1, bins="log", cmap="Blues", linewidths=0.2)
        else:
            most = max(found.values())
            x, y = (np.array([size[i] for size in found]) for i in (0, 1))
            area = [12 + 150 * n / most for n in found.values()]
            axes.scatter(x, y, s=area, color=BLUE, alpha=0.75, linewidths=0)
        axes.plot(*record, "x", color=ORANGE, markersize=9, markeredgewidth=2)
        wide = max(x.max(), record[0]) * 1.08, max(y.max(), record[1]) * 1.08
        axes.set(xlim=(0, wide[0]), ylim=(0, wide[1]))
        return _svg(figure, "sizes", "widths and heights of the pictures")
