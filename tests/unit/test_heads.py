"""A user's own net: which layers are its classifier, and what becomes of a deploy net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recaffe import config
from recaffe.config import MODELS
from recaffe.errors import NetError
from recaffe.net import graph, parse, prepare
from recaffe.net.prepare import walk_train
from recaffe.net.prototxt import parse as parse_text
from recaffe.proto import caffe_pb2 as pb

DATA = "".join(
    f"""layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: {phase} }}
      data_param {{ source: "x" batch_size: 2 backend: LMDB }} }}\n"""
    for phase in ("TRAIN", "TEST")
)


def fc(name: str, bottom: str) -> str:
    return f"""layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"
      inner_product_param {{ num_output: 9 weight_filler {{ type: "xavier" }} }} }}\n"""


def loss(bottom: str) -> str:
    return f'layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "{bottom}" bottom: "label" top: "l" }}\n'


TWO = (
    DATA + fc("low", "data") + fc("a", "low") + fc("b", "low")
    + 'layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }\n' + loss("sum")
)  # fmt: skip
DEPLOY = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" '
    "convolution_param { num_output: 4 kernel_size: 3 } }\n"
    + fc("fc", "conv")
    + 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
)


def prepared(text: str, folder: Path, side: int = 8, **train: Any) -> prepare.Prepared:
    """What the patch stage makes of a net file, for three classes."""
    file = folder / "net.prototxt"
    file.write_text(text)
    (folder / "labels.txt").write_text("a\nb\nc\n")
    for split in ("train", "val"):
        about = {"shape": [3, side, side], "records": 4}
        (folder / f"{split}_lmdb.json").write_text(json.dumps(about))
    row = {"net": str(file), "weights": "none", "batch_size": 2, **train}
    lmdb = {"width": side, "height": side}
    full = config.complete({"dataset": "pets", "images": "x", "runs": {"a": row}, "lmdb": lmdb})
    settings = {"dataset": "pets", "mean": "", "run": full["runs"]["a"]}
    return prepare.prepare(file, folder, None, settings)


def test_scores_that_come_from_several_layers_are_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(NetError, match=r"'loss' come from several layers: a, b\. Name.*`heads`"):
        prepared(TWO, tmp_path)
    made = prepared(TWO, tmp_path, heads=["b", "a"])
    assert made.info["heads"] == {"a": "a_pets", "b": "b_pets"}
    net = parse.to_net(parse_text(made.train_val))
    assert [x.inner_product_param.num_output for x in net.layer if x.type == "InnerProduct"] == [
        9, 3, 3,
    ]  # fmt: skip


def test_branches_that_meet_again_below_one_classifier_are_no_question() -> None:
    text = DATA + fc("low", "data") + fc("top", "low")
    text += 'layer { name: "relu" type: "ReLU" bottom: "top" top: "relu" }\n'
    text += 'layer { name: "sum" type: "Eltwise" bottom: "top" bottom: "relu" top: "sum" }\n'
    assert graph.heads(parse.to_net(parse_text(text + loss("sum")))) == ["top"]


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (["c"], "heads: the net has no Convolution or InnerProduct 'c'. Did you mean"),
        (["sum"], "heads: the net has no Convolution or InnerProduct 'sum'"),
    ],
)
def test_a_name_that_is_no_classifier_is_told(tmp_path: Path, named: list[str], says: str) -> None:
    with pytest.raises(NetError, match=says):
        prepared(TWO, tmp_path, heads=named)


def test_a_loss_whose_classifier_is_not_named_is_told(tmp_path: Path) -> None:
    text = DATA + fc("low", "data") + fc("a", "low") + loss("a")
    text += fc("aux", "data") + loss("aux").replace('"loss"', '"loss2"').replace('"l"', '"l2"')
    with pytest.raises(NetError, match="'loss2' depends on none of a; .*Name it too"):
        prepared(text, tmp_path, heads=["a"])


def test_a_deploy_net_gets_data_and_a_loss_in_place_of_input_and_softmax(tmp_path: Path) -> None:
    made = prepared(DEPLOY, tmp_path)
    net = parse.to_net(parse_text(made.train_val))
    assert [x.type for x in net.layer] == [
        "Data", "Data", "Convolution", "InnerProduct", "SoftmaxWithLoss", "Accuracy",
    ]  # fmt: skip
    assert made.info["heads"] == {"fc": "fc_pets"}
    assert net.layer[2].convolution_param.weight_filler.type == "xavier"
    assert "is a deploy net: it got data layers, and a loss on 'fc'" in made.warnings[0]
    again = parse.to_net(parse_text(made.deploy))
    assert [x.type for x in again.layer] == ["Input", "Convolution", "InnerProduct", "Softmax"]


def test_a_deploy_net_of_two_outputs_asks_which_one_counts(tmp_path: Path) -> None:
    text = DEPLOY + fc("other", "conv")
    with pytest.raises(NetError, match=r"with 2 outputs \(other, prob\).*`heads`"):
        prepared(text, tmp_path)
    made = prepared(text, tmp_path, heads=["fc"])
    assert made.info["heads"] == {"fc": "fc_pets"}


def vgg_of_2014() -> str:
    """VGG-16 as it was published: V1 layers, `input_dim`, no fillers, a Softmax at the end."""
    out = 'name: "VGG_ILSVRC_16_layers"\ninput: "data"\n'
    out += "".join(f"input_dim: {n}\n" for n in (10, 3, 224, 224))
    below = "data"

    def layer(name: str, kind: str, top: str, param: str = "") -> None:
        nonlocal below, out
        out += (
            f'layers {{\n  bottom: "{below}"\n  top: "{top}"\n  name: "{name}"\n  type: {kind}\n'
            f"  {param}\n}}\n"
        )
        below = top

    for block, (count, wide) in enumerate(
        ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1
    ):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            param = f"convolution_param {{ num_output: {wide} pad: 1 kernel_size: 3 }}"
            layer(name, "CONVOLUTION", name, param)
            layer(f"relu{block}_{i}", "RELU", name)
        pool = f"pool{block}"
        layer(pool, "POOLING", pool, "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    for name, wide in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        layer(name, "INNER_PRODUCT", name, f"inner_product_param {{ num_output: {wide} }}")
        if name != "fc8":
            layer(f"relu{name[-1]}", "RELU", name)
            layer(f"drop{name[-1]}", "DROPOUT", name, "dropout_param { dropout_ratio: 0.5 }")
    layer("prob", "SOFTMAX", "prob")
    return out


def test_vgg_16_as_published_in_2014_goes_straight_in(tmp_path: Path) -> None:
    made = prepared(vgg_of_2014(), tmp_path, side=224)
    assert made.info["heads"] == {"fc8": "fc8_pets"}
    walked = walk_train(parse.to_net(parse_text(made.train_val)), (3, 224, 224), 2)
    own = parse.read_net(MODELS / "vgg16" / "train_val.prototxt")
    zoo = {s.layer.name: s.params for s in walk_train(own, (3, 224, 224), 2) if s.params}
    mine = {s.layer.name: s.params for s in walked if s.params}
    assert {k: v for k, v in mine.items() if k != "fc8_pets"} == {
        k: v for k, v in zoo.items() if k != "fc8"
    }


V0 = """
layers { layer { name: "data" type: "data" source: "x" batchsize: 8 meanfile: "m" scale: 0.5 }
  top: "data" top: "label" }
layers { layer { name: "low" type: "innerproduct" num_output: 9 weight_filler { type: "xavier" } }
  bottom: "data" top: "low" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "low" bottom: "label" }
"""


def one_phase(phase: str) -> str:
    return DATA.replace("TRAIN", "-").replace("TEST", "-").split("layer", 2)[1].replace("-", phase)


@pytest.mark.parametrize("text", [V0, *(f"layer{one_phase(p)}" for p in ("TRAIN", "TEST"))])
def test_a_net_with_one_data_layer_gets_one_for_each_phase(text: str, tmp_path: Path) -> None:
    made = prepared(text if text == V0 else text + fc("low", "data") + loss("low"), tmp_path)
    net = parse.to_net(parse_text(made.train_val))
    data = [x for x in net.layer if x.type == "Data"]
    assert sorted(x.include[0].phase for x in data) == [0, 1]
    assert [Path(x.data_param.source).name for x in sorted(data, key=lambda x: x.include[0].phase)] == [
        "train_lmdb", "val_lmdb",
    ]  # fmt: skip
    assert [x.transform_param.scale for x in data] == ([0.5, 0.5] if text == V0 else [1, 1])
    assert "has one data layer, 'data': it got one for each phase" in made.warnings[0]
    assert made.info["heads"] == {"low": "low_pets"}


def test_several_data_layers_that_serve_both_phases_are_told(tmp_path: Path) -> None:
    both = one_phase("TRAIN").replace("include { phase: TRAIN }", "")
    text = f"layer{both}" + f"layer{both}".replace('"data"', '"more"').replace("label", "l")
    with pytest.raises(NetError, match="'data' serves TRAIN and TEST at once"):
        prepared(text + fc("low", "data") + loss("low"), tmp_path)


@pytest.mark.parametrize(("name", "top"), [("loss", "loss"), ("low", "low_loss")])
def test_a_loss_without_a_top_gets_one_that_logs_can_name(
    name: str, top: str, tmp_path: Path
) -> None:
    nameless = f'layer {{ name: "{name}" type: "SoftmaxWithLoss" bottom: "low" bottom: "label" }}\n'
    made = prepared(DATA + fc("low", "data") + nameless, tmp_path)
    layers = graph.of_phase(parse.to_net(parse_text(made.train_val)), pb.TEST)
    assert graph.judges(layers)[1] == top
