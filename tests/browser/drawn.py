"""Pictures that are drawn, for screenshots: whoever's photographs these were, they couldn't stand in the docs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.small_results import build_results

SIDE = 96
CLASSES = {"disc": 0, "hexagon": 6, "square": 4, "triangle": 3}  # and their corners
_COLOURS = ((235, 90, 80), (90, 200, 110), (90, 140, 235), (235, 200, 80))
_CONV = """layer {{ name: "conv{n}" type: "Convolution" bottom: "{below}" top: "conv{n}" convolution_param {{ num_output: {c} kernel_size: 3 pad: 1 stride: {s} weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu{n}" type: "ReLU" bottom: "conv{n}" top: "conv{n}" }}
"""
NET = (
    """name: "shapes"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } transform_param { mirror: true scale: 0.01 } data_param { source: "a" batch_size: 16 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } transform_param { scale: 0.01 } data_param { source: "b" batch_size: 16 backend: LMDB } }
"""
    + _CONV.format(n=1, below="data", c=16, s=2)
    + _CONV.format(n=2, below="conv1", c=32, s=2)
    + _CONV.format(n=3, below="conv2", c=48, s=1)
    + _CONV.format(n=4, below="conv3", c=48, s=1)
    + """layer { name: "pool" type: "Pooling" bottom: "conv4" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
)


def shape(k: int, i: int) -> np.ndarray:
    """One shape of class number `k` somewhere on a cloudy ground."""
    rng = np.random.default_rng([k, i])
    low = rng.integers(20, 110, (5, 5, 3), dtype=np.uint8)
    picture = cv2.resize(low, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    radius = rng.uniform(0.16, 0.3) * SIDE
    centre = rng.uniform(radius, SIDE - radius, 2)
    corners = list(CLASSES.values())[k] or 40
    turned = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    points = centre + radius * np.stack([np.cos(turned), np.sin(turned)], 1)
    # Often, but not always, the class's own: a net of four layers then has most of them right.
    colour = (np.array(_COLOURS[k]) + rng.normal(0, 45, 3)).clip(60, 255).astype(int).tolist()
    cv2.fillPoly(picture, [np.rint(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    noise = rng.normal(0, 14, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def report(folder: Path) -> Path:
    """A results folder of 480 drawn pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    return build_results(
        folder, tuple(CLASSES), "", NET, 120, shape, lmdb={"width": SIDE, "height": SIDE},
        train={
            "epochs": 30, "solver": "Adam", "base_lr": 0.003, "batch_size": 16, "lr_policy": "poly", "select": "last",
            "threads": 2,
        },
        report={"heat_maps": 6}, title="Drawn shapes",
    )  # fmt: skip
