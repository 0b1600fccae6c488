"""The table of layers: what both programs print is read, and like is set beside like."""

from __future__ import annotations

import pytest

from bench.layers import Layer, costs, split_readers, total, without_splits
from recaffe.proto import caffe_pb2 as pb

CAFFE = """\
I1129 01:18:42.381027  4711 caffe.cpp:412] Average time per layer:
I1129 01:18:42.381030  4711 caffe.cpp:415]       data\tforward: 0.0002 ms.
I1129 01:18:42.381031  4711 caffe.cpp:418]       data\tbackward: 0 ms.
I1129 01:18:42.381032  4711 caffe.cpp:415] fire2/squeeze1x1\tforward: 12.5 ms.
I1129 01:18:42.381033  4711 caffe.cpp:418] fire2/squeeze1x1\tbackward: 1e+02 ms.
I1129 01:18:42.381034  4711 caffe.cpp:423] Average Forward pass: 12.5 ms.
I1129 01:18:42.381035  4711 caffe.cpp:425] Average Backward pass: 100 ms.
I1129 01:18:42.381036  4711 caffe.cpp:427] Average Forward-Backward: 112.6 ms.
"""


def test_the_lines_of_caffe_time_are_read() -> None:
    assert costs(CAFFE) == {"data": (0.0002, 0), "fire2/squeeze1x1": (12.5, 100)}
    assert total(CAFFE) == 112.6


def test_a_log_without_a_total_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no total in the log: nothing"):
        total("nothing")


def test_a_split_counts_as_part_of_the_first_reader() -> None:
    """As Caffe names it: blob, the layer that wrote it last, the number of its top."""
    layers = [
        pb.LayerParameter(name="data", type="Data", top=["d", "l"]),
        pb.LayerParameter(name="c", type="Convolution", bottom=["d"], top=["x"]),
        pb.LayerParameter(name="r", type="ReLU", bottom=["x"], top=["x"]),
        pb.LayerParameter(name="a", type="Convolution", bottom=["x"], top=["y"]),
        pb.LayerParameter(name="b", type="Convolution", bottom=["x"], top=["z"]),
        pb.LayerParameter(name="loss", type="SoftmaxWithLoss", bottom=["z", "l"], top=["m"]),
    ]
    readers = split_readers(layers)
    assert (readers["x_r_0_split"], readers["l_data_1_split"]) == ("a", "loss")
    listed = {"r": (1.0, 1.0), "x_r_0_split": (0.5, 8.0), "a": (2.0, 4.0), "b": (3.0, 3.0)}
    assert without_splits(listed, readers) == {"r": (1, 1), "a": (2.5, 12), "b": (3, 3)}


def test_a_layer_is_slower_by_the_median_of_both_ways_together() -> None:
    caffe = [(4.0, 4.0)] * 3
    assert Layer("c", "LRN", [(1, 8), (1, 8), (9, 1)], caffe).verdict == "slower"
    fast = Layer("c", "LRN", [(1, 7), (1, 3), (9, 3)], caffe)
    assert (fast.verdict, fast.cells()["ratio"], fast.cells()["ratio_min"]) == (
        "faster",
        "1",
        "0.6667",
    )


def test_waits_and_what_is_over_at_once_are_not_judged() -> None:
    wait = Layer("data", "Data", [(0.0, 0.0)], [(3.0, 0.0)])
    assert (wait.verdict, "ratio" in wait.cells()) == ("data", False)
    assert Layer("drop6", "Dropout", [(0.1, 0.05)], [(0.05, 0.01)]).verdict == "short"
    assert Layer("drop6", "Dropout", [(0.1, 0.15)], [(0.05, 0.01)]).verdict == "slower"
