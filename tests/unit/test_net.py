"""Nets are patched by parsing: every head, every reference, nothing else; text stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe.config import MODELS
from recaffe.errors import NetError, WeightsError
from recaffe.net import deploy, graph, parse, patch, weights
from recaffe.net.prepare import walk_train
from recaffe.net.prototxt import parse as parse_text
from recaffe.proto import caffe_pb2 as pb

ZOO = sorted(p.parent.name for p in MODELS.glob("*/train_val.prototxt"))
SETTINGS = patch.PatchSettings(
    "pets", 7, "train_lmdb", "val_lmdb", 4, 3, crop_size=0, mean_values=(1.0, 2.0, 3.0)
)
# Two auxiliary heads and a main one, as GoogLeNet has them, with what a careless edit would break.
THREE_HEADS = """
# a comment at the top
name: "three" # and one behind a field
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true mean_file: "imagenet.binaryproto" scale: 0.5 }
  data_param { source: "a" batch_size: 9 backend: LEVELDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { source: "b" batch_size: 9 backend: LMDB } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 4 kernel_size: 3 future_field: 3 } }
layer { name: 'loss1/fc' type: "InnerProduct" bottom: "c1" top: "loss1/fc" param { lr_mult: 1 decay_mult: 1 }
  inner_product_param { num_output: 1000 } }
layer { name: "loss1" type: "SoftmaxWithLoss" bottom: "loss1/fc" bottom: "label" top: "loss1" loss_weight: 0.3 }
layer { name: "loss2/fc" type: "InnerProduct" bottom: "c1" top: "loss2/fc" inner_product_param { num_output: 1000 } }
layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "loss2/fc" bottom: "label" top: "loss2" loss_weight: 0.3 }
layer { name: "fc" type: "InnerProduct" bottom: "c1" top: "scores" inner_product_param { num_output: 1000 } }
layer { name: "relu" type: "ReLU" bottom: "scores" top: "scores" }
layer { name: "loss3" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label" top: "loss3" }
layer { name: "top5" type: "Accuracy" bottom: "scores" bottom: "label" top: "top5" include { phase: TEST } accuracy_param { top_k: 5 } }
"""


def test_text_survives_parse_and_render() -> None:
    assert parse_text(THREE_HEADS, "x").render() == THREE_HEADS
    for name in ZOO:
        text = (MODELS / name / "train_val.prototxt").read_text(encoding="utf-8")
        assert parse_text(text, name).render() == text


NAMES = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            NAMES, NAMES, st.floats(width=32, allow_nan=False), st.integers(0, 2**31), st.booleans()
        ),
        max_size=5,
    )
)
def test_any_message_reads_as_protobuf_reads_it(
    rows: list[tuple[str, str, float, int, bool]],
) -> None:
    net = pb.NetParameter()
    for name, top, rate, n, flag in rows:
        layer = net.layer.add(name=name, type="InnerProduct", top=[top, name])
        layer.param.add(lr_mult=rate)
        layer.inner_product_param.num_output = n
        layer.inner_product_param.bias_term = flag
    text = text_format.MessageToString(net)
    tree = parse_text(text, "x")
    assert tree.render() == text
    assert parse.to_net(tree) == net
    for layer, message in zip(net.layer, tree.messages("layer"), strict=True):
        assert message.get("name") == layer.name


@pytest.mark.parametrize(
    "text", ["layer {", "layer { name: 'x }", "layer } {", "name: ", "= 3", 'name "x']
)
def test_broken_text_is_an_error_with_its_line(text: str) -> None:
    with pytest.raises(NetError, match=r"net.prototxt.*line 2"):
        parse.to_net(parse_text("\n" + text, "net.prototxt"), "net.prototxt")


def test_every_head_is_renamed_and_nothing_else() -> None:
    tree = parse_text(THREE_HEADS, "x")
    made = patch.patch(tree, SETTINGS)
    net = parse.to_net(tree)
    assert made.heads == {"loss1/fc": "loss1/fc_pets", "loss2/fc": "loss2/fc_pets", "fc": "fc_pets"}
    heads = [x for x in net.layer if x.type == "InnerProduct"]
    assert [x.inner_product_param.num_output for x in heads] == [7, 7, 7]
    assert [[p.lr_mult for p in x.param] for x in heads] == [[10, 20]] * 3
    assert heads[0].param[0].decay_mult == 1
    bottoms = [x.bottom[0] for x in net.layer if x.type == "SoftmaxWithLoss"]
    assert bottoms == ["loss1/fc_pets", "loss2/fc_pets", "scores"]
    data = [x for x in net.layer if x.type == "Data"]
    assert [(x.data_param.source, x.data_param.batch_size) for x in data] == [
        ("train_lmdb", 4),
        ("val_lmdb", 3),
    ]
    assert all(x.data_param.backend == pb.DataParameter.LMDB for x in data)
    assert data[0].transform_param.scale == 0.5
    assert not data[0].transform_param.mean_file
    assert list(data[0].transform_param.mean_value) == [1, 2, 3]
    text = tree.render()
    assert "# a comment at the top" in text
    assert "# and one behind a field" in text
    assert "future_field: 3" in text
    assert any("future_field" in w for w in made.warnings)


@pytest.mark.parametrize(("classes", "ks"), [(5, [1]), (6, [1, 5])])
def test_top5_only_where_there_are_more_than_five_classes(classes: int, ks: list[int]) -> None:
    tree = parse_text(THREE_HEADS, "x")
    patch.patch(tree, patch.PatchSettings("p", classes, "a", "b", 4, 3))
    found = [x.accuracy_param.top_k for x in parse.to_net(tree).layer if x.type == "Accuracy"]
    assert sorted(found) == ks


@pytest.mark.parametrize("name", ZOO)
def test_zoo_nets_patch_deploy_and_walk(name: str) -> None:
    tree = parse.read_tree(MODELS / name / "train_val.prototxt")
    side = 28 if name == "lenet" else 227
    channels = 1 if name == "lenet" else 3
    patch.patch(tree, patch.PatchSettings("pets", 7, "a", "b", 4, 3, mean_values=()))
    walked = walk_train(parse.to_net(tree), (channels, side, side), 4)
    assert walked[-1].tops[0] == ()
    made = parse.to_net(deploy.deploy(tree, (channels, side, side)))
    kinds = [x.type for x in made.layer]
    assert kinds[0] == "Input"
    assert kinds[-1] == "Softmax"
    assert not {"Data", "SoftmaxWithLoss", "Accuracy"} & set(kinds)


def test_freezing_stops_at_the_named_layer() -> None:
    tree = parse.read_tree(MODELS / "caffenet" / "train_val.prototxt")
    made = patch.patch(tree, patch.PatchSettings("p", 7, "a", "b", 4, 3, freeze_to="conv3"))
    assert made.frozen == ["conv1", "conv2", "conv3"]
    net = parse.to_net(tree)
    rates = {x.name: [p.lr_mult for p in x.param] for x in net.layer if x.param}
    assert rates["conv3"] == [0, 0]
    assert rates["conv4"] == [1, 2]
    with pytest.raises(NetError, match="conv9.*Did you mean"):
        patch.patch(
            parse.read_tree(MODELS / "caffenet" / "train_val.prototxt"),
            patch.PatchSettings("p", 7, "a", "b", 4, 3, freeze_to="conv9"),
        )


def test_a_deploy_net_is_refused() -> None:
    with pytest.raises(NetError, match="train_val"):
        patch.patch(parse_text('layer { name: "i" type: "Input" top: "i" }', "x"), SETTINGS)


def test_transfer_names_what_is_copied_new_ignored_or_wrong() -> None:
    tree = parse_text(THREE_HEADS, "x")
    walked = walk_train(parse.to_net(tree), (3, 8, 8), 2)
    own = {s.layer.name: [_zeros(shape) for shape, _ in s.params] for s in walked if s.params}
    made = patch.patch(tree, SETTINGS)
    patched = walk_train(parse.to_net(tree), (3, 8, 8), 2)
    rows = weights.transfer_table(patched, own, made.heads)
    weights.check_transfer(rows, "w")
    by = {r.layer: r.status for r in rows}
    assert by["c1"] == "copied"
    assert by["fc_pets"] == "new"
    assert by["fc"] == "ignored"
    own["c1"] = [_zeros((4, 1, 3, 3)), _zeros((4,))]
    with pytest.raises(WeightsError, match="c1: mismatch; net 4×3×3×3 4, weights 4×1×3×3 4"):
        weights.check_transfer(weights.transfer_table(patched, own, made.heads), "w")
    own["c7"] = own.pop("c1")
    with pytest.raises(WeightsError, match="c1: new") as caught:
        weights.check_transfer(weights.transfer_table(patched, own, made.heads), "w")
    assert "c7: ignored" in str(caught.value)


def _zeros(shape: tuple[int, ...]):
    import numpy as np

    return np.zeros(shape, np.float32)


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="w.caffemodel"):
        weights.read(tmp_path / "w.caffemodel")


def test_heads_of_a_net_in_the_repository_are_found_by_structure() -> None:
    heads = {
        name: graph.heads(parse.read_net(MODELS / name / "train_val.prototxt")) for name in ZOO
    }
    assert heads == {
        "alexnet": ["fc8"],
        "caffenet": ["fc8"],
        "densenet121": ["fc6"],
        "googlenet": ["loss1/classifier", "loss2/classifier", "loss3/classifier"],
        "lenet": ["ip2"],
        "mobilenet_v1": ["fc7"],
        "nin": ["cccp8-1024"],
        "quick": ["ip2"],
        "resnet101": ["fc1000"],
        "resnet50": ["fc1000"],
        "squeezenet_v1.0": ["conv10"],
        "squeezenet_v1.1": ["conv10"],
        "vgg16": ["fc8"],
        "vgg19": ["fc8"],
        "vgg_cnn_s": ["fc8"],
    }
