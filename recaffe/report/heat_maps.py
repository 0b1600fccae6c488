"""Where a net looked, in a few test pictures: Grad-CAM over what the net saw of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recaffe.engines.base import PredictJob
from recaffe.errors import NetError
from recaffe.evaluate.answers import Answer
from recaffe.lmdb import read
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.write import Entry
from recaffe.report.album import small

SIDE = 160  # pixels of the shown pictures, the longer side


def choose(answers: Sequence[Answer], most: int) -> list[Answer]:
    """At most so many: half of them the surest mistakes, then hits, the surest of each class first.

    Where there are too few of one kind, there are more of the other.
    """
    surest = sorted(answers, key=lambda a: (-a.confidence, a.path))
    wrong = [answer for answer in surest if not answer.right]
    seen: dict[int, int] = {}
    hits = []
    for answer in surest:
        if answer.right:
            seen[answer.label] = seen.get(answer.label, 0) + 1
            hits.append((seen[answer.label], answer))
    right = [answer for _, answer in sorted(hits, key=lambda hit: hit[0])]
    half = max(most // 2, most - len(right))
    wrong = wrong[:half]
    return wrong + right[: most - len(wrong)]


def make(
    job: PredictJob, entries: Sequence[Entry], answers: Sequence[Answer], labels: Sequence[str], most: int
) -> dict[str, Any]:  # fmt: skip
    """heat_maps.json: `layer`, the `grid` that it sees (h, w), and for each of `most` pictures path,
    names of its class and the predicted one, confidence, and two data URIs, `picture` and `overlay`.

    `entries` are those of the job's LMDB, in its order. A net that has no places to show gives only
    the `reason`.
    """
    # Here, since they import torch.
    from recaffe.engines.scoring import transformation
    from recaffe.engines.torch import cam
    from recaffe.engines.torch.data.batch import CPU, Buffers
    from recaffe.engines.torch.data.transform import Transform
    from recaffe.engines.torch.scorer import Scorer
    from recaffe.net.parse import read_net

    # A few pictures: any machine's CPU does them, and to the same digits.
    job = replace(job, batch_size=1, device="cpu", engine="torch")
    transform = Transform(transformation(job), read.first_shape(job.lmdb), training=False, seed=0)
    net = Scorer(job, read_net(job.deploy), transform.shape).net
    try:
        seen = cam.view(net)
    except NetError as error:
        return {"reason": str(error), "layer": "", "grid": [], "pictures": []}
    found, grid, buffers = [], [0, 0], Buffers()
    chosen = choose(answers, most)
    for answer, record in zip(chosen, _records(job, entries, chosen), strict=True):
        filling = transform.start(0, 1, range(1), buffers)
        filling.add(record)
        windows = filling.done()
        heat = cam.maps(net, windows.floats(CPU, buffers), answer.predicted)[0]
        picture = _rgb(windows.pixels[0].numpy())
        grid = list(heat.shape)
        found.append(
            {
                "path": answer.path, "label": labels[answer.label],
                "predicted": labels[answer.predicted], "confidence": answer.confidence,
                "picture": small(picture[:, :, ::-1], SIDE),
                "overlay": small(cam.overlay(picture, heat)[:, :, ::-1], SIDE),
            }
        )  # fmt: skip
    return {"reason": "", "layer": seen.layer, "grid": grid, "pictures": found}


def _records(
    job: PredictJob, entries: Sequence[Entry], chosen: Sequence[Answer]
) -> Iterator[np.ndarray]:
    """The pictures' records, C×H×W."""
    place = {entry.path: i for i, entry in enumerate(entries)}
    with read.open_records(job.lmdb) as records:
        for answer in chosen:
            yield pixels(parse_datum(records.value(place[answer.path]), answer.path))


def _rgb(window: np.ndarray) -> np.ndarray:
    """What the net sees (uint8 C×H×W, BGR or gray) as H×W×3."""
    picture = window.transpose(1, 2, 0)[:, :, ::-1]
    return np.ascontiguousarray(np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture)
