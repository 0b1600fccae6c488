"""The report's figures as inline SVG, and pictures as data URIs."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from recaffe.images.decode import RejectError, decode, read

THUMB = 112  # pixels, the longer side
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "recaffe", "font.family": "sans-serif", "font.size": 9,
    "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
}  # fmt: skip
BLUE, ORANGE = "#2b6ca3", "#d1742a"


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    # Matplotlib's metadata block names outside addresses and says nothing.
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def curves(runs: dict[str, dict[str, Any]]) -> str:
    """Training loss (smoothed as Caffe shows it) and validation accuracy by epoch, a line a run."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.0))
        loss, accuracy = figure.subplots(1, 2)
        for name, run in runs.items():
            points = [(float(r["epoch"]), float(r["loss"])) for r in run["curve"] if r["loss"]]
            loss.plot(*_columns(points), label=name, linewidth=1.2)
            points = [
                (float(r["epoch"]), float(r["val_accuracy"]))
                for r in run["curve"]
                if r["val_accuracy"]
            ]
            accuracy.plot(*_columns(points), marker=".", label=name, linewidth=1.2)
        loss.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
        accuracy.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1))
        accuracy.legend(frameon=False, loc="lower right")
        return _svg(figure)


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]


def confusion(matrix: list[list[int]], labels: list[str]) -> str:
    """Counts by true class (rows) and predicted class (columns), shaded by share of the row."""
    values = np.array(matrix)
    shares = values / np.maximum(values.sum(1, keepdims=True), 1)
    side = max(3.2, 0.42 * len(labels) + 1.8)
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(side, side))
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="predicted", ylabel="true")
        if len(labels) <= 30:
            for (i, j), n in np.ndenumerate(values):
                if n:
                    colour = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(j, i, str(n), ha="center", va="center", color=colour, fontsize=8)
        return _svg(figure)


def reliability(bins: list[dict[str, float]]) -> str:
    """Accuracy against confidence; on the diagonal, the net knows how sure it may be."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.2, 3.2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        largest = max(b["n"] for b in bins)
        for b in bins:
            axes.plot(
                b["confidence"],
                b["accuracy"],
                "o",
                color=BLUE,
                markersize=3 + 9 * (b["n"] / largest) ** 0.5,
            )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        return _svg(figure)


def class_bars(classes: list[dict[str, str]]) -> str:
    """Pictures of each class in training, validation and test."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, max(1.2, 0.24 * len(classes) + 0.7)))
        axes = figure.subplots()
        left = np.zeros(len(classes))
        for split, colour in (("train", BLUE), ("val", ORANGE), ("test", "#5a9a57")):
            n = np.array([int(row[split]) for row in classes])
            axes.barh([row["name"] for row in classes], n, left=left, color=colour, label=split)
            left += n
        axes.invert_yaxis()
        axes.set(xlabel="pictures")
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return _svg(figure)


def thumbnail(path: Path, config: dict[str, Any]) -> str:
    """A picture as a small JPEG data URI; empty if it can't be read any more."""
    try:
        rgb = decode(read(path), config["scan"]["background"], config["scan"]["max_pixels"]).rgb
    except RejectError:
        return ""
    return _small(rgb[:, :, ::-1])


def mean_picture(mean: np.ndarray) -> str:
    """A mean (float32 C×H×W, BGR or gray) as a small picture's data URI."""
    return _small(np.clip(np.rint(mean), 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _small(bgr: np.ndarray) -> str:
    scale = THUMB / max(bgr.shape[:2])
    size = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
    small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    ok, code = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}" if ok else ""
