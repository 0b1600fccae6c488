"""Each layer type beside real Caffe, forward and backward, on random shapes and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recaffe.engines.torch.layers import FORWARD
from tests.parity.caffe_client import Caffe
from tests.parity.cases import CASES
from tests.parity.compare import check, ours, read
from tests.parity.draw import Case, Draw, layer


def test_every_layer_of_the_engine_is_compared() -> None:
    assert set(CASES) == set(FORWARD)


@pytest.mark.parametrize("kind", sorted(CASES))
@given(data=st.data())
def test_layer_computes_what_caffe_computes(kind: str, data: Any, caffe: Caffe) -> None:
    draw = Draw(data)
    check(caffe, kind, CASES[kind](draw), seed=int(draw.rng.integers(1 << 31)))


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.7])
def test_dropout_keeps_the_same_share_and_scales_alike(ratio: float, caffe: Caffe) -> None:
    case = Case(
        layer("Dropout", f"dropout_param {{ dropout_ratio: {ratio} }}"),
        {"x": np.random.default_rng(0).normal(0, 1, (50, 400)).astype(np.float32)},
    )
    diffs = {"y": np.ones((50, 400), np.float32)}
    theirs = caffe.run(case.text(), "TRAIN", case.blobs, diffs=diffs, seed=1)
    mine = ours(read(case.text()), "TRAIN", case.blobs, {}, diffs)
    for answer in (theirs, mine):
        kept = answer.blobs["y"] != 0
        assert abs(kept.mean() - (1 - ratio)) < 0.015
        scale = 1 / (1 - ratio)
        assert np.allclose(answer.blobs["y"], case.blobs["x"] * kept * scale, rtol=1e-6)
        assert np.allclose(answer.diffs["x"], kept * scale, rtol=1e-6)
