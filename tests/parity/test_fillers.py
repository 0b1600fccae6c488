"""Weights as fillers make them: the same distribution as real Caffe's, the same values where nothing
is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from recaffe.engines.torch.fillers import fill
from recaffe.proto import caffe_pb2 as pb
from tests.parity.caffe_client import Caffe
from tests.parity.draw import Case, layer

DRAWN = [
    'type: "uniform" min: -0.5 max: 2', 'type: "gaussian" mean: 1 std: 0.2',
    'type: "gaussian" std: 1 sparse: 40', 'type: "xavier"', 'type: "msra"',
    'type: "xavier" variance_norm: FAN_OUT', 'type: "msra" variance_norm: AVERAGE',
    'type: "positive_unitball"',
]  # fmt: skip
FIXED = ['type: "constant" value: 0.3', 'type: "bilinear"']


def both(filler: str, outputs: int, inputs: int, kernel: int, caffe: Caffe) -> list[np.ndarray]:
    """A convolution's weights by recaffe and by Caffe."""
    settings = f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} weight_filler {{ {filler} }} }}"
    case = Case(
        layer("Convolution", settings),
        {"x": np.zeros((1, inputs, 9, 9), np.float32)},
        backward=False,
    )
    theirs = caffe.run(case.text(), "TEST", case.blobs, backward=False, seed=1).params["layer"][0]
    param = text_format.Parse(filler, pb.FillerParameter())
    return [fill(theirs.shape, param, 3, "layer"), theirs]


@pytest.mark.parametrize("filler", DRAWN)
def test_filler_draws_from_the_distribution_that_caffe_draws_from(
    filler: str, caffe: Caffe
) -> None:
    mine, theirs = both(filler, 150, 80, 3, caffe)
    spread = theirs.std()
    assert abs(mine.mean() - theirs.mean()) < 0.02 * spread
    assert mine.std() == pytest.approx(spread, rel=0.02)
    assert abs((mine == 0).mean() - (theirs == 0).mean()) < 0.02
    points = np.linspace(2, 98, 25)
    apart = np.abs(np.percentile(mine, points) - np.percentile(theirs, points)).max()
    assert apart < 0.03 * (spread + abs(theirs.mean()))
    if "unitball" in filler:
        assert np.allclose(mine.reshape(150, -1).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("filler", FIXED)
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 8])
def test_filler_that_draws_nothing_gives_caffe_s_values(
    filler: str, kernel: int, caffe: Caffe
) -> None:
    mine, theirs = both(filler, 2, 3, kernel, caffe)
    assert np.abs(mine - theirs).max() < 1e-6
