"""Nets that mean harm are refused with a message before anything is allocated."""

from __future__ import annotations

import ast
import time

import numpy as np
import pytest

from recaffe.errors import NetError
from recaffe.net import parse, shapes
from recaffe.proto import caffe_pb2 as pb
from tests import records


@pytest.mark.parametrize(
    "layer",
    [
        'name: "big" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2147483647 }',
        'name: "big" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4000000000 kernel_size: 3 }',
        'name: "big" type: "DummyData" top: "y" dummy_data_param { shape { dim: 9000000000 dim: 9000000000 } }',
        'name: "big" type: "Input" top: "y" input_param { shape { dim: 9223372036854775807 dim: 3 } }',
        'name: "big" type: "Tile" bottom: "x" top: "y" tile_param { tiles: 2147483647 }',
    ],
)  # fmt: skip
def test_a_net_that_no_machine_can_hold_names_layer_and_size(layer: str) -> None:
    net = records.net(layer)
    inputs = {"x": (64, 300, 40, 40), "y": (1, 1)} if "DummyData" not in layer else {"y": (9 * 10**9, 9 * 10**9)}  # fmt: skip
    with pytest.raises(NetError, match=r"'big' .*×.* GiB. No machine"):
        shapes.walk(list(net.layer), inputs)


def test_weights_beyond_this_machines_memory_are_refused_before_any_is_made() -> None:
    from recaffe.engines.torch.net import Net

    net = records.net(
        'name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 900000 }'
    )
    with pytest.raises(NetError, match="GiB.*largest layer is 'ip'"):
        Net(net, pb.TRAIN, {"x": (1, 900_000)})


def test_text_that_is_nested_too_deep_is_a_message() -> None:
    with pytest.raises(NetError, match="deep"):
        parse.to_tree(b"layer { " * 5000, "x")
    with pytest.raises(NetError):
        parse.to_solver("net_param { layer { unknown { " * 5000)


@pytest.mark.parametrize("place", ["layer", "blob", "input"])
@pytest.mark.parametrize("harm", ["{0}", '{0}"""\n{1}\n"""', "{0}\n        {1}", "{0}\r{1}"])
def test_a_converted_net_holds_no_code_from_a_name(place: str, harm: str) -> None:
    from recaffe.convert.module import convert

    name = harm.format("conv", "raise SystemExit('harm')")
    layer, blob, given = (name if place == p else p for p in ("layer", "blob", "input"))
    net = pb.NetParameter(name=name)
    first = net.layer.add(name="data", type="Input", top=[given])
    first.input_param.shape.add().dim.extend((1, 2, 5, 5))
    second = net.layer.add(name=layer, type="PReLU", bottom=[given], top=[blob])
    second.prelu_param.channel_shared = True
    source = convert(net, {layer: [np.ones((), np.float32)]}, "net", name).source
    assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Raise)]


def test_a_number_of_a_hundred_thousand_digits_takes_no_time() -> None:
    began = time.process_time()
    with pytest.raises(NetError):
        parse.to_tree(b"base_lr: " + b"1" * 100_000 + b"x", "x")
    assert time.process_time() - began < 1
