"""Blobs, weights, solverstates and prototxts as files: read in every form, refused in one message."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from recaffe.errors import NetError, WeightsError
from recaffe.net import kinds, parse, weights
from recaffe.net.blobs import Weights, from_blob, to_blob
from recaffe.net.prototxt import parse as parse_text
from recaffe.net.state import State, read_state, write_state
from recaffe.proto import caffe_pb2 as pb
from tests.older_nets import messages, v0_nets, v1_nets, v2_nets

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = GOLDEN / "formats"
FLOATS = arrays(
    np.float32, array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    elements=st.floats(width=32),
)  # fmt: skip


def assert_equal(one: Weights, two: Weights) -> None:
    assert list(one) == list(two)
    for name in one:
        assert [b.shape for b in one[name]] == [b.shape for b in two[name]]
        for a, b in zip(one[name], two[name], strict=True):
            np.testing.assert_array_equal(a, b)


@given(FLOATS)
def test_a_blob_keeps_every_bit(array: np.ndarray) -> None:
    blob = to_blob(array)
    assert list(blob.shape.dim) == list(array.shape)
    wanted = pb.BlobProto(data=array.ravel())
    wanted.shape.dim.extend(array.shape)
    assert blob.SerializeToString() == wanted.SerializeToString()
    again = from_blob(blob, "blob")
    assert again.shape == array.shape and again.tobytes() == array.tobytes()


def test_the_legacy_shape_and_doubles_win_as_in_caffe() -> None:
    blob = pb.BlobProto(num=1, channels=2, height=1, width=3, data=range(4), double_data=range(6))
    blob.shape.dim.extend((2, 2))
    assert from_blob(blob, "").tolist() == [[[[0, 1, 2]], [[3, 4, 5]]]]


@pytest.mark.parametrize("dims", [(7,), (2, 2), (-2, -3), (2**62, 4), (0,)])
def test_a_shape_that_does_not_fit_its_values_is_refused(dims: tuple[int, ...]) -> None:
    blob = pb.BlobProto(data=range(6))
    blob.shape.dim.extend(dims)
    with pytest.raises(WeightsError, match=r"conv1: 6 values for the shape"):
        from_blob(blob, "conv1")


@pytest.mark.parametrize("name", ["all_v0", "all_v1"])
def test_old_weights_are_read_like_upgraded_ones(name: str) -> None:
    old = weights.read(FORMATS / f"{name}.caffemodel")
    assert_equal(old, weights.read(FORMATS / f"upgraded_{name}.caffemodel"))
    assert all([b.shape for b in blobs] == [(1, 2, 3, 1), (3, 2)] for blobs in old.values())


def shared_net() -> list[pb.LayerParameter]:
    return list(parse.read_net(FORMATS / "shared.prototxt").layer)


def test_hdf5_weights_with_shared_parameters_are_those_of_the_binary_file() -> None:
    # `caffe train` wrote both, from the same seed.
    binary = weights.read(FORMATS / "shared.caffemodel")
    found = weights.read(FORMATS / "shared.caffemodel.h5", shared_net())
    assert_equal(binary, dict(sorted(found.items(), key=lambda x: list(binary).index(x[0]))))


def test_hdf5_weights_say_what_the_net_must_share() -> None:
    with pytest.raises(WeightsError, match="layer 'right' has blob 1 but not those before"):
        weights.read(FORMATS / "shared.caffemodel.h5")


def test_weights_written_as_hdf5_are_read_back(tmp_path: Path) -> None:
    net = pb.NetParameter.FromString((FORMATS / "shared.caffemodel").read_bytes())
    weights.write(net, tmp_path / "w.caffemodel.h5")
    found = weights.read(tmp_path / "w.caffemodel.h5")
    binary = weights.read(FORMATS / "shared.caffemodel")
    assert_equal({k: found[k] for k in binary}, binary)
    assert found.keys() == binary.keys()


def test_a_slash_is_a_group_in_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as f:
        f["data/conv1/0"] = np.ones((2, 3), np.float64)
        f["data/conv1/bn/0"] = np.zeros(2)
    assert {k: v[0].shape for k, v in weights.read(tmp_path / "w.h5").items()} == {
        "conv1": (2, 3), "conv1/bn": (2,),
    }  # fmt: skip
    net = weights.to_net("n", [("conv1/bn", "BatchNorm", [np.zeros(2, np.float32)])])
    with pytest.raises(WeightsError, match="'conv1/bn' has a slash"):
        weights.write(net, tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


def test_solverstates_that_caffe_wrote_are_the_same_in_both_formats() -> None:
    one, two = (read_state(FORMATS / f"shared.solverstate{end}") for end in ("", ".h5"))
    assert (one.iteration, one.current_step, one.learned_net) == (5, 2, "shared_iter_5.caffemodel")
    assert (two.iteration, two.current_step) == (5, 2)
    assert two.learned_net == "shared_iter_5.caffemodel.h5"
    # Adam has two histories for each of the three parameters that are learned: w, b and right's b.
    assert [h.shape for h in one.history] == [(3, 5), (3,), (3,)] * 2
    for a, b in zip(one.history, two.history, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=30, deadline=None)
@given(
    state=st.builds(
        State, st.integers(0, 2**31 - 1), st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        st.integers(0, 2**31 - 1), st.lists(FLOATS, max_size=3),
    ),
    end=st.sampled_from(("", ".h5")),
)  # fmt: skip
def test_a_solverstate_is_read_back(
    state: State, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"x.solverstate{end}"
    write_state(state, path)
    again = read_state(path)
    assert (again.iteration, again.learned_net, again.current_step) == (
        state.iteration, state.learned_net, state.current_step,
    )  # fmt: skip
    assert [h.tobytes() for h in again.history] == [h.tobytes() for h in state.history]
    assert [h.shape for h in again.history] == [h.shape for h in state.history]


def test_a_solverstate_has_caffes_own_layout(tmp_path: Path) -> None:
    """Byte for byte in binary; type for type in HDF5."""
    for end in ("", ".h5"):
        write_state(read_state(FORMATS / f"shared.solverstate{end}"), tmp_path / f"s{end}")
    assert (tmp_path / "s").read_bytes() == (FORMATS / "shared.solverstate").read_bytes()

    def layout(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
        out: list[tuple[str, tuple[int, ...], str]] = []
        with h5py.File(path) as f:
            f.visititems(
                lambda name, x: out.append((name, x.shape, str(x.dtype)))
                if isinstance(x, h5py.Dataset) else None
            )  # fmt: skip
        return out

    assert layout(tmp_path / "s.h5") == layout(FORMATS / "shared.solverstate.h5")


@settings(max_examples=60, deadline=None)
@given(
    net=st.one_of(v0_nets(), v1_nets(), v2_nets()),
    blob=messages(pb.BlobProto),
    unknown=st.binary(max_size=5),
)
def test_a_binary_net_loses_nothing_when_it_is_written_again(
    net: pb.NetParameter,
    blob: pb.BlobProto,
    unknown: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    strange = b"\xfa\xff\x07" + bytes((len(unknown),)) + unknown  # field 16383, which Caffe lacks
    for message in (net, *net.layer, *net.layers):
        message.MergeFromString(strange)
    for layer in net.layer:
        layer.blobs.append(blob)
        layer.blobs[-1].MergeFromString(strange)
    data = net.SerializeToString(deterministic=True)
    path = tmp_path_factory.getbasetemp() / "again.caffemodel"
    weights.write(pb.NetParameter.FromString(data), path)
    assert path.read_bytes() == data
    assert data.count(strange) >= 1 + len(net.layer) * 2 + len(net.layers)


WRONG = {
    "empty": (b"", "an empty file"),
    "prototxt": (b'name: "x"\nlayer { }\n', r"a prototxt \(text\)"),
    "page": (b"<!DOCTYPE html><html>", "an HTML page"),
    "text": (b"not found\n", "a text file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", "a PNG picture"),
    "archive": (b"PK\x03\x04\0\0", "a ZIP archive"),
    "noise": (b"\x07" * 40, "none of Caffe's files"),
    "mean": ((GOLDEN / "mean.binaryproto").read_bytes(), "a binaryproto"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_another_kind_of_file_is_named_instead_of_weights_or_state(
    kind: str, tmp_path: Path
) -> None:
    data, message = WRONG[kind]
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(WeightsError, match=f"file is no caffemodel; it is {message}"):
        weights.read(tmp_path / "file")
    with pytest.raises(WeightsError, match=f"file is no solverstate; it is {message}"):
        read_state(tmp_path / "file")


def test_weights_and_states_are_not_taken_for_each_other() -> None:
    for end, what in (
        ("", "no caffemodel; it is a solverstate"),
        (".h5", "not weights.*a solverstate"),
    ):
        with pytest.raises(WeightsError, match=what):
            weights.read(FORMATS / f"shared.solverstate{end}")
    for end, what in (("", "a caffemodel"), (".h5", "HDF5 weights")):
        with pytest.raises(WeightsError, match=f"no solverstate.*{what}"):
            read_state(FORMATS / f"shared.caffemodel{end}")
    with pytest.raises(NetError, match=r"shared.caffemodel is no prototxt; it is a caffemodel"):
        parse.read_net(FORMATS / "shared.caffemodel")
    for read in (weights.read, read_state):
        with pytest.raises(WeightsError, match="nowhere: No such file"):
            read("nowhere")


def test_a_net_without_weights_is_refused(tmp_path: Path) -> None:
    net = pb.NetParameter()
    net.layer.add(name="a")
    weights.write(net, tmp_path / "w")
    with pytest.raises(WeightsError, match="none of its layers has blobs"):
        weights.read(tmp_path / "w")
    net.layers.add(name="b")
    weights.write(net, tmp_path / "w")
    with pytest.raises(WeightsError, match="both forms"):
        weights.read(tmp_path / "w")


def test_a_name_that_is_not_utf8_does_not_crash(tmp_path: Path) -> None:
    layer = b"\x0a\x02\xff\xfe" + b"\x3a\x06\x2a\x04\0\0\x80?"  # name, blobs { data: 1 }
    (tmp_path / "w").write_bytes(b"\xa2\x06" + bytes((len(layer),)) + layer)
    assert weights.read(tmp_path / "w").keys() == {r"\xff\xfe"}


def test_a_binary_file_that_is_cut_short_is_refused_or_lacks_whole_layers(tmp_path: Path) -> None:
    data = (FORMATS / "shared.caffemodel").read_bytes()
    whole = weights.read(FORMATS / "shared.caffemodel")
    said = 0
    for size in range(1, len(data)):
        (tmp_path / "w").write_bytes(data[:size])
        try:
            part = weights.read(tmp_path / "w")
        except WeightsError as error:
            said += "cut short: at least" in str(error)
        else:  # the cut fell between two layers; the transfer table tells that
            assert_equal(part, {k: whole[k] for k in list(whole)[: len(part)]})
    assert said > 0.9 * len(data)
    assert kinds.missing(data) == 0 and kinds.missing(data[:-7]) == 7


@pytest.mark.parametrize("name", ["caffemodel.h5", "solverstate.h5"])
def test_an_hdf5_file_that_is_cut_short_is_one_message(name: str, tmp_path: Path) -> None:
    data = (FORMATS / f"shared.{name}").read_bytes()
    read = read_state if name == "solverstate.h5" else weights.read
    for size in range(1, len(data), 61):
        (tmp_path / "f").write_bytes(data[:size])
        with pytest.raises(WeightsError, match=r"broken|no "):
            read(tmp_path / "f")


def test_a_solverstate_that_is_cut_short_is_refused_or_lacks_whole_histories(
    tmp_path: Path,
) -> None:
    data = (FORMATS / "shared.solverstate").read_bytes()
    read = []
    for size in range(1, len(data) - 2):  # without its last two bytes it lacks current_step alone
        (tmp_path / "f").write_bytes(data[:size])
        try:
            read.append(len(read_state(tmp_path / "f").history))
        except WeightsError as error:
            assert "cut short" in str(error) or size < 10
    assert read == [0, 1, 2, 3, 4, 5]


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(("caffemodel", "solverstate")), data=st.data())
def test_damaged_bytes_never_crash(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray((FORMATS / f"shared.{name}").read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    for read in (weights.read, read_state):
        try:
            read(path)
        except WeightsError as error:
            assert len(str(error)) < 500 + len(str(path))


SAMPLE = (FORMATS / "v1.prototxt").read_text(encoding="utf-8")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_prototxt_is_read_or_one_message_with_its_place(data: st.DataObject) -> None:
    text = SAMPLE
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        end = at + data.draw(st.integers(0, 9))
        text = text[:at] + data.draw(st.text('{}<>[]:,"\\#\n e0-.aé\0', max_size=4)) + text[end:]
    try:
        tree = parse_text(text, "net.prototxt")
        assert tree.render() == text
        parse.to_net(tree, "net.prototxt")
    except NetError as error:
        assert str(error).startswith("net.prototxt")
        assert "line " in str(error) or "both forms" in str(error), error
        assert len(str(error)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "layer {" * 100_000,
        "layer { a {" * 90 + "}}" * 90,
        "state { level: " + "9" * 100_000 + " }",
        'name: "' + "x" * 100_000,
        'name: "\\xff"',
        'name: "\\UFFFFFFFF"',
        "name: [1, 2]",
        "input_dim: 99999999999",
        "[a.b/c] { }",
    ],
)
def test_absurd_text_is_one_short_message_with_its_place(text: str) -> None:
    with pytest.raises(NetError, match=r"^net.prototxt, line 1, column \d+: ") as caught:
        parse.to_net(parse_text(text, "net.prototxt"), "net.prototxt")
    assert len(str(caught.value)) < 400


def test_a_prototxt_in_another_encoding_is_one_message_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "latin.prototxt").write_bytes('name: "x"\n  # für'.encode("latin-1"))
    with pytest.raises(NetError, match="latin.prototxt, line 2, column 6: byte 0xfc is no UTF-8"):
        parse.read_net(tmp_path / "latin.prototxt")
    (tmp_path / "wide.prototxt").write_text('name: "x"', encoding="utf-16")
    with pytest.raises(NetError, match="wide.prototxt is no prototxt; it is text in UTF-16"):
        parse.read_net(tmp_path / "wide.prototxt")
    (tmp_path / "bom.prototxt").write_text('name: "x"', encoding="utf-8-sig")
    assert parse.read_net(tmp_path / "bom.prototxt").name == "x"


def test_a_long_prototxt_is_read_in_time_that_grows_with_its_length() -> None:
    text = 'layer { name: "x" type: "ReLU" }\n' * 30_000
    tree = parse_text(text)  # a second; when each line was counted from the start, minutes
    assert tree.fields[-2].line == 30_000 and tree.render() == text


def test_a_list_of_fractions_is_a_list() -> None:
    assert parse_text("layer { loss_weight: [0.5, 1] }").fields[0].message.values("loss_weight") == [
        0.5, 1,
    ]  # fmt: skip
    net = parse.to_net(parse_text("layers { loss_weight: [0.5, 1] blobs_lr: [0.1, 2.] }"))
    wanted = "layer { loss_weight: 0.5 loss_weight: 1 param { lr_mult: 0.1 } param { lr_mult: 2 } }"
    assert net == text_format.Parse(wanted, pb.NetParameter())


def test_opencv_computes_with_weights_that_recaffe_wrote(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    conv, bias, full = (
        rng.normal(size=s).astype(np.float32) for s in ((4, 3, 1, 1), (4,), (2, 24))
    )
    layers = [("conv", "Convolution", [conv, bias]), ("fc", "InnerProduct", [full])]
    weights.write(weights.to_net("n", layers), tmp_path / "w.caffemodel")
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "in" type: "Input" top: "in" input_param { shape { dim: [1, 3, 2, 3] } } }
        layer { name: "conv" type: "Convolution" bottom: "in" top: "conv"
          convolution_param { num_output: 4 kernel_size: 1 } }
        layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
          inner_product_param { num_output: 2 bias_term: false } }""")
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel"))
    given = rng.normal(size=(1, 3, 2, 3)).astype(np.float32)
    net.setInput(given)
    made = np.tensordot(conv[:, :, 0, 0], given[0], 1) + bias[:, None, None]
    np.testing.assert_allclose(net.forward()[0], full @ made.ravel(), rtol=1e-4, atol=1e-5)
