"""Nets and solvers in Caffe's older forms."""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe.cli import upgrade as command
from recaffe.errors import NetError
from recaffe.net import parse, patch, weights
from recaffe.net.prepare import prepare, walk_train
from recaffe.net.prototxt import parse as parse_text
from recaffe.net.upgrade import v1
from recaffe.net.upgrade.files import upgrade_file
from recaffe.net.upgrade.nets import upgrade_net
from recaffe.net.upgrade.tree import upgrade_tree
from recaffe.proto import caffe_pb2 as pb
from tests.older_nets import v0_nets, v1_nets, v2_nets

GOLDEN = Path(__file__).parents[1] / "golden" / "formats"
MODELS = Path(__file__).parents[2] / "models"


def text_net(path: Path) -> pb.NetParameter:
    return text_format.Parse(path.read_text(encoding="utf-8"), pb.NetParameter())


def binary_net(path: Path) -> pb.NetParameter:
    return pb.NetParameter.FromString(path.read_bytes())


@pytest.mark.parametrize("name", ["v0", "v1", "v1_deploy", "v2"])
def test_a_prototxt_is_upgraded_as_caffes_tool_does(name: str, tmp_path: Path) -> None:
    upgrade_file(GOLDEN / f"{name}.prototxt", tmp_path / "new.prototxt")
    wanted = text_net(GOLDEN / f"upgraded_{name}.prototxt")
    assert text_net(tmp_path / "new.prototxt") == wanted
    assert parse.read_net(GOLDEN / f"{name}.prototxt") == wanted


@pytest.mark.parametrize("name", ["all_v0", "all_v1"])
@pytest.mark.parametrize("binary", [True, False])
def test_every_old_layer_type_and_field_is_upgraded_as_caffes_tool_does(
    name: str, binary: bool, tmp_path: Path
) -> None:
    old = GOLDEN / f"{name}.caffemodel"
    if not binary:
        text = text_format.MessageToString(binary_net(old), as_utf8=True)
        old = tmp_path / "old.prototxt"
        old.write_text(text, encoding="utf-8")
    upgrade_file(old, tmp_path / "new")
    made = binary_net(tmp_path / "new") if binary else text_net(tmp_path / "new")
    assert made == binary_net(GOLDEN / f"upgraded_{name}.caffemodel")


def test_a_solver_is_upgraded_as_caffes_tool_does(tmp_path: Path) -> None:
    upgrade_file(GOLDEN / "solver.prototxt", tmp_path / "new.prototxt")
    new = (tmp_path / "new.prototxt").read_text()
    wanted = (GOLDEN / "upgraded_solver.prototxt").read_text()
    made = text_format.Parse(new, pb.SolverParameter())
    assert made == text_format.Parse(wanted, pb.SolverParameter())
    assert parse.to_solver((GOLDEN / "solver.prototxt").read_text()) == made
    assert "# As solvers were" in new and "# an enum" in new


@pytest.mark.parametrize("number", pb.SolverParameter.SolverType.values())
def test_a_solver_type_may_be_a_number(number: int, tmp_path: Path) -> None:
    (tmp_path / "old").write_text(f'net: "x" solver_type: {number}')
    upgrade_file(tmp_path / "old", tmp_path / "new")
    made = text_format.Parse((tmp_path / "new").read_text(), pb.SolverParameter())
    assert made.type.upper() == pb.SolverParameter.SolverType.Name(number)


@settings(max_examples=60, deadline=None)
@given(net=st.one_of(v0_nets(), v1_nets(), v2_nets()), one_line=st.booleans(), data=st.data())
def test_a_tree_is_upgraded_as_its_message_and_keeps_its_comments(
    net: pb.NetParameter, one_line: bool, data: st.DataObject
) -> None:
    text = text_format.MessageToString(net, as_utf8=True, as_one_line=one_line)
    lines = []
    for i, line in enumerate([] if one_line else text.splitlines()):
        before, behind = data.draw(st.tuples(st.booleans(), st.booleans()))
        lines += [f"# before {i}."] * before + [line + f" # behind {i}." * behind]
    text = text if one_line else "\n".join(lines)
    new = upgrade_tree(parse_text(text))
    lost = upgrade_net(net)
    assert parse.raw_net(new.tree) == net
    said = [w for w in new.warnings if w not in lost]
    gone = [c for c in re.findall(r"# (?:before|behind) \d+\.", text) if c not in new.tree.render()]
    assert [c for c in gone if not any(repr(c) in w for w in said)] == []
    if not lost:  # comments go only along with fields
        assert said == []


@settings(max_examples=40, deadline=None)
@given(net=st.one_of(v0_nets(), v1_nets(), v2_nets()))
def test_what_is_upgraded_needs_no_upgrade(net: pb.NetParameter) -> None:
    tree = upgrade_tree(parse_text(text_format.MessageToString(net, as_utf8=True))).tree
    assert upgrade_tree(tree).tree is tree


def test_no_comment_of_a_published_net_is_lost() -> None:
    for name in ("v1", "v1_deploy", "v2"):
        text = (GOLDEN / f"{name}.prototxt").read_text(encoding="utf-8")
        new = upgrade_tree(parse_text(text))
        assert new.warnings == []
        assert sorted(re.findall("#.*", new.tree.render())) == sorted(re.findall("#.*", text))


def test_a_negative_size_of_pictures_wraps_as_in_caffe() -> None:
    tree = parse_text('layers { layer { type: "images" new_height: -1 } }')
    assert parse.to_net(tree).layer[0].image_data_param.new_height == 2**32 - 1
    new = upgrade_tree(tree)
    assert new.warnings == []
    assert parse.raw_net(new.tree) == parse.to_net(tree)


def test_fields_that_caffe_does_not_know_stay_where_they_were() -> None:
    text = 'layers { name: "a" type: RELU new_param { x: 1 } relu_param { new: 2 } }'
    new = upgrade_tree(parse_text(text))
    assert new.warnings == []
    assert parse.unknown_fields(new.tree) == [
        "line 1: layer.new_param",
        "line 1: layer.relu_param.new",
    ]


def test_a_field_that_only_todays_form_has_is_named() -> None:
    new = upgrade_tree(parse_text('\nlayers { name: "a" type: RELU\n elu_param { alpha: 2 } }'))
    assert parse.raw_net(new.tree).layer[0].elu_param.alpha == 2
    assert new.warnings == [
        "line 3: layers.elu_param is unknown in this older form of nets but not in today's; it is "
        "kept, and it counts now"
    ]


def test_what_a_net_of_2013_loses_is_named() -> None:
    text = (GOLDEN / "v0.prototxt").read_text().replace("kernelsize: 5", "kernelsize: 5 new: 1")
    new = upgrade_tree(parse_text(text))
    assert new.warnings == [
        "field 'dropout_ratio' of layer 'fc' means nothing for type 'innerproduct'",
        "the comment '# means nothing here' near line 52 is lost",
    ]
    assert parse.unknown_fields(new.tree) == ["line 28: layer.new"]


def test_no_comment_of_a_net_of_2013_is_lost() -> None:
    text = """# a
    name: "x" # b
    debug_info: true
    input: "d" # c
    layers { # d
      # e
      layer { # f
        # g
        name: "pad" type: "padding" pad: 1 # h
        # i
      } # j
      bottom: "d" top: "p" # k
      # l
    } # m
    # n
    layers {
      # o
      layer {
        name: "conv" # p
        type: "conv" # q
        # r
        weight_filler { type: "xavier" } # s
        # t
      } # u
      bottom: "p" # v
      # w
    } # x
    # y"""
    new = upgrade_tree(parse_text(text))
    assert new.warnings == ["field 'debug_info' of the net is not carried over"]
    assert sorted(re.findall("# .", new.tree.render())) == sorted(re.findall("# .", text))


def test_shapes_beyond_the_inputs_are_passed_over_as_in_caffe() -> None:
    net = parse.to_net(parse_text('input: "a" input_shape { dim: 1 } input_shape { dim: 2 }'))
    assert [list(s.dim) for s in net.layer[0].input_param.shape] == [[1]]


def test_an_unknown_field_that_clashes_with_todays_form_is_named_and_goes() -> None:
    text = """# one
    layers { top: "x" layer { name: "x" type: "conv" num_output: 3 # two
      convolution_param { num_output: 4 } } }"""
    new = upgrade_tree(parse_text(text))
    assert parse.raw_net(new.tree).layer[0].convolution_param.num_output == 3
    assert new.warnings == [
        "line 3: layers.layer.convolution_param is unknown to Caffe and lost",
        "the comment '# one' near line 2 is lost",
        "the comment '# two' near line 2 is lost",
    ]


def test_what_mixed_forms_lose_is_named() -> None:
    net = pb.NetParameter(debug_info=True)
    net.layers.add(name="a", top=["a"], loss_weight=[1]).layer.type = "data"
    net.layers.add(name="b").MergeFromString(b"\xf8\x3f\x01")
    assert upgrade_net(net) == [
        "field 'debug_info' of the net is not carried over",
        "field 'name' of layer 'a' is not carried over",
        "field 'loss_weight' of layer 'a' is not carried over",
        "field 'name' of layer 'b' is not carried over",
        "unknown field number 1023 of layer 'b' is not carried over",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layers { layer { name: "x" type: "convolution" } }', "Layer 'x' is of type 'convolution'"),
        ('layers { bottom: "y" layer { name: "x" type: "relu" } }', "'x' reads blob 'y'"),
        (
            'input: "d" layers { bottom: "d" top: "p" layer { name: "p" type: "padding" } }'
            'layers { bottom: "p" top: "r" layer { name: "r" type: "relu" } }',
            "Padding layer 'p' feeds layer 'r' of type 'relu'",
        ),
        (
            'input: "d" layers { bottom: "d" top: "p" top: "q" layer { name: "p" type: "padding" } }'
            'layers { bottom: "p" top: "r" layer { name: "r" type: "conv" } }',
            "'p' and the layer above it, 'r', must have one bottom",
        ),
        ('layers { type: RELU } layer { type: "ReLU" }', "both forms, `layer` and `layers`"),
        ('input: "a" input: "b" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5',
         "has 2 `input` but shapes for 1"),
        ('input: "a" input_dim: 1', "has 1 `input` but shapes for 0"),
        ('name: "n"\nlayers { type: RELLU }', "line 2, column 16: .*no value named RELLU"),
        ('name: "n"\nlayers { param { } }', r'line 2, column 16: .*Expected ":"'),
        ('layer { type: "Clip" clip_param { min: 0 } }', "lacks layer.0..clip_param.max"),
        ('net: "x" solver_type: SGD type: "SGD"', "both `solver_type`, the old form, and `type`"),
        ("net: 1", "line 1, column 6: .*Expected string"),
        ("colour: 1", "neither a net nor a solver"),
        ("", "is an empty file"),
    ],
)  # fmt: skip
def test_what_caffe_refuses_to_upgrade_is_one_message(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "old.prototxt").write_text(text)
    with pytest.raises(NetError, match=f"old.prototxt.*{message}"):
        upgrade_file(tmp_path / "old.prototxt", tmp_path / "new.prototxt")
    assert not (tmp_path / "new.prototxt").exists()


@pytest.mark.parametrize("name", ["mean.binaryproto", "formats/shared.solverstate", "gray.lmdb/data.mdb", "formats/shared.caffemodel.h5"])  # fmt: skip
def test_a_file_that_has_no_older_form_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NetError, match=r"is (a solverstate|a binaryproto|none of|an HDF5)"):
        upgrade_file(GOLDEN.parent / name, tmp_path / "new")


@pytest.mark.parametrize("name", [b"names", b"lists"])
def test_a_name_of_2013_that_is_not_utf8_is_told(name: bytes, tmp_path: Path) -> None:
    net = pb.NetParameter()
    layer = net.layers.add(top=["data"]).layer
    layer.type, layer.name, layer.source = "data", "names", "lists"
    whole = net.SerializeToString()
    (tmp_path / "old.caffemodel").write_bytes(whole.replace(name, b"\xe4\xf6\xfc\xdf\xbf"))
    with pytest.raises(NetError, match=r"old.caffemodel has a name that is not UTF-8"):
        upgrade_file(tmp_path / "old.caffemodel", tmp_path / "new.caffemodel")
    assert not (tmp_path / "new.caffemodel").exists()


def test_the_command_says_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for name, status in (("v1", 0), ("v0", 1)):
        args = parser.parse_args([str(GOLDEN / f"{name}.prototxt"), str(tmp_path / "new")])
        assert command.main(args) == status
        assert ("'dropout_ratio' of layer 'fc'" in capsys.readouterr().err) == status
        assert text_net(tmp_path / "new") == text_net(GOLDEN / f"upgraded_{name}.prototxt")


def downgrade(net: pb.NetParameter) -> pb.NetParameter:
    """Today's net in the form of 2014, by the inverse of the table."""
    enums = {name: kind for kind, name in v1.TYPES.items()}
    old = pb.NetParameter(name=net.name)
    for layer in net.layer:
        new = old.layers.add(type=getattr(pb.V1LayerParameter, enums[layer.type]))
        for f, value in layer.ListFields():
            if f.name == "param":
                new.blobs_lr.extend(p.lr_mult for p in value)
                new.weight_decay.extend(p.decay_mult for p in value)
            elif f.name != "type":
                there = getattr(new, f.name)
                if f.is_repeated:
                    there.extend(value)
                elif f.message_type:
                    there.CopyFrom(value)
                else:
                    setattr(new, f.name, value)
    return old


def settings_of(run: int) -> patch.PatchSettings:
    return patch.PatchSettings("mine", run, "train_lmdb", "val_lmdb", 8, 4, freeze_to="conv1")


def test_a_published_net_of_2014_is_patched_like_todays() -> None:
    now = parse.read_tree(MODELS / "caffenet" / "train_val.prototxt")
    old = text_format.MessageToString(downgrade(parse.to_net(now)))
    assert "layers {" in old
    then = upgrade_tree(parse_text(old)).tree
    for tree in (now, then):
        patch.patch(tree, settings_of(7))
    # The old form has rates for each blob or for none: two params where today's has one or two.
    assert parse.to_net(then) == parse.to_net(now)


def test_a_net_and_weights_of_2014_are_prepared_for_fine_tuning(tmp_path: Path) -> None:
    net = parse.read_net(MODELS / "lenet" / "train_val.prototxt")
    old_net, old_weights = tmp_path / "old.prototxt", tmp_path / "old.caffemodel"
    text = text_format.MessageToString(downgrade(net))
    old_net.write_text(f"# of 2014\n{text}", encoding="utf-8")
    model = downgrade(net)
    rng = np.random.default_rng(0)
    shapes = {s.layer.name: s.params for s in walk_train(net, (1, 28, 28), 2)}
    for layer in model.layers:
        if layer.include and layer.include[0].phase == pb.TEST:
            continue
        for shape, _ in shapes[layer.name]:
            layer.blobs.append(weights.to_blob(rng.normal(size=shape)))
    old_weights.write_bytes(model.SerializeToString())
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    for split in ("train", "val"):
        info = {"records": 12, "shape": [1, 28, 28]}
        (tmp_path / f"{split}_lmdb.json").write_text(json.dumps(info))
    run = {"batch_size": 4, "test_batch_size": 4, "crop_size": 0, "mirror": False, "mean": "none",
           "head_lr_mult": [10, 20], "freeze_to": "", "unmatched": [], "heads": []}  # fmt: skip
    made = prepare(old_net, tmp_path, old_weights, {"dataset": "mine", "mean": "", "run": run})
    assert made.info["heads"] == {"ip2": "ip2_mine"}
    assert made.info["copied"] == ["conv1", "conv2", "ip1"]
    assert made.warnings == []
    assert made.train_val.startswith("# of 2014\n") and "layers {" not in made.train_val
