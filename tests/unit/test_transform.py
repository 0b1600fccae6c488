"""Crop, mirror, mean and scale are what Caffe's rules make of each pixel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe import mean as mean_files
from recaffe.engines.torch.data.batch import CPU, Buffers
from recaffe.engines.torch.data.transform import Transform
from recaffe.proto import caffe_pb2 as pb

TRAIN, TEST = pb.TRAIN, pb.TEST


def naive(
    record: np.ndarray, y: int, x: int, h: int, w: int, flip: bool, mean: np.ndarray | None, scale: float
) -> np.ndarray:  # fmt: skip
    """DataTransformer::Transform, pixel by pixel, in float32."""
    out = np.empty((len(record), h, w), np.float32)
    for c, i, j in np.ndindex(*out.shape):
        value = np.float32(record[c, y + i, x + j])
        if mean is not None:
            value -= (
                mean[c, y + i, x + j] if mean.shape[1:] != (1, 1) else mean[c % len(mean), 0, 0]
            )
        out[c, i, w - 1 - j if flip else j] = value * np.float32(scale)
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9), st.booleans(),
    st.sampled_from(["", "one", "all", "file"]), st.sampled_from([1.0, 0.0078125, -0.3]),
    st.booleans(), st.integers(0, 2**32), st.booleans(),
)  # fmt: skip
def test_transform_is_what_a_loop_over_pixels_makes(
    tmp_path_factory: pytest.TempPathFactory, c: int, h: int, w: int, crop: int, mirror: bool,
    kind: str, scale: float, training: bool, seed: int, floats: bool,
) -> None:  # fmt: skip
    crop = min(crop, h, w)
    rng = np.random.default_rng(seed)
    records = list(rng.integers(0, 256, (5, c, h, w), dtype=np.uint8))
    if floats:
        records[3] = rng.normal(0, 9, (c, h, w)).astype(np.float32)
    mean = rng.uniform(0, 255, (c, h, w)).astype(np.float32)
    param = pb.TransformationParameter(crop_size=crop, mirror=mirror, scale=scale)
    if kind == "file":
        path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
        mean_files.write(mean, path)
        param.mean_file = str(path)
    elif kind:
        mean = mean[: 1 if kind == "one" else c, :1, :1]
        param.mean_value.extend(mean.ravel())
    transform = Transform(param, (c, h, w), training, seed)
    filling = transform.start(7, 5, range(5), Buffers())
    for record in records:
        filling.add(record)
    windows, draw = filling.done(), transform.draw(7, 5)
    ours = windows.floats(CPU, Buffers())
    size = crop or h, crop or w
    wanted = np.stack(
        [
            naive(r, y, x, *size, bool(f), mean if kind else None, param.scale)
            for r, y, x, f in zip(records, draw.tops, draw.lefts, draw.flips, strict=True)
        ]
    )
    assert (ours.numpy() == wanted).all()
    if windows.mean is not None:  # the way of a GPU, all records at once
        at_once = windows.pixels.float() - windows.mean_windows(windows.mean, CPU)
        assert torch.equal(at_once * windows.scale, ours)
        there = windows.floats(torch.device("meta"), Buffers())
        assert there.shape == ours.shape and there.dtype == torch.float32
    if not training:
        assert set(draw.tops) == {(h - size[0]) // 2} and set(draw.lefts) == {(w - size[1]) // 2}
    if not mirror:
        assert not draw.flips.any()


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_every_crop_and_mirror_image_comes_up_and_none_beyond(phase: int) -> None:
    training = phase == TRAIN
    param = pb.TransformationParameter(crop_size=4, mirror=True)
    transform = Transform(param, (1, 6, 5), training, seed=3)
    draws = [transform.draw(i, 8) for i in range(30)]
    seen = {x for d in draws for x in zip(d.tops, d.lefts, d.flips, strict=True)}
    tops, lefts = (range(3), range(2)) if training else ((1,), (0,))
    assert seen == set(itertools.product(tops, lefts, (0, 1)))
