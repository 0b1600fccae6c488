"""Converted nets compute what the engine computes, layer by layer and as files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recaffe.cli import main
from recaffe.convert import check, layers, write
from recaffe.convert.module import Module, convert, deploy_layers
from recaffe.convert.pieces import Piece
from recaffe.engines.torch.net import Net
from recaffe.errors import NetError
from recaffe.net import prototxt, shapes, weights
from recaffe.net.parse import to_net
from recaffe.proto import caffe_pb2 as pb

INPUT = 'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {} }} }} }}\n'
# (a layer on the blob x of 2×6×9×7, its parameters)
ONE = {
    "Convolution": 'convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0 }',
    "Convolution in groups": 'convolution_param { num_output: 4 kernel_size: 3 dilation: 2 pad: 2 group: 2 bias_term: false }',
    "Deconvolution": 'convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 }',
    "Deconvolution in groups": 'convolution_param { num_output: 6 kernel_size: 3 stride: 3 group: 6 bias_term: false }',
    "InnerProduct": 'inner_product_param { num_output: 5 }',
    "InnerProduct along the last axis": 'inner_product_param { num_output: 5 axis: -1 transpose: true bias_term: false }',
    "Pooling of means": 'pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
    "Pooling of maxima": 'pooling_param { pool: MAX kernel_size: 2 stride: 2 }',
    "Pooling rounded down": 'pooling_param { pool: MAX kernel_size: 2 stride: 2 round_mode: FLOOR }',
    "Pooling of all, means": 'pooling_param { pool: AVE global_pooling: true }',
    "Pooling of all, maxima": 'pooling_param { pool: MAX global_pooling: true }',
    "LRN": 'lrn_param { local_size: 5 alpha: 0.8 beta: 0.6 k: 2 }',
    "LRN within": 'lrn_param { local_size: 3 alpha: 0.8 beta: 0.6 norm_region: WITHIN_CHANNEL }',
    "ReLU": '',
    "ReLU leaking": 'relu_param { negative_slope: 0.2 }',
    "PReLU": '',
    "PReLU shared": 'prelu_param { channel_shared: true }',
    "ELU": 'elu_param { alpha: 0.7 }',
    "Clip": 'clip_param { min: -0.5 max: 0.25 }',
    "Swish": 'swish_param { beta: 1.5 }',
    "Sigmoid": '', "TanH": '', "AbsVal": '', "BNLL": '', "Dropout": '', "Flatten": '', "Split": '',
    "Threshold": 'threshold_param { threshold: 0.3 }',
    "Power": 'power_param { power: 2 scale: 0.7 shift: -0.3 }',
    "Exp": 'exp_param { base: 3 scale: 0.5 shift: 0.2 }',
    "Log": 'log_param { base: 2 scale: 0.01 shift: 9 }',
    "BatchNorm": 'batch_norm_param { eps: 0.001 }',
    "Scale": 'scale_param { bias_term: true }',
    "Scale of two axes": 'scale_param { axis: 1 num_axes: 2 }',
    "Bias": '',
    "MVN": '', "MVN across": 'mvn_param { across_channels: true normalize_variance: false }',
    "Softmax": '', "Softmax along rows": 'softmax_param { axis: 3 }',
    "Reshape": 'reshape_param { shape { dim: 0 dim: 3 dim: -1 } }',
    "Reshape of the batch": 'reshape_param { shape { dim: -1 dim: 7 } }',
    "Tile": 'tile_param { axis: 2 tiles: 3 }',
    "Reduction": 'reduction_param { operation: SUMSQ axis: 1 coeff: 0.5 }',
    "Reduction of means": 'reduction_param { operation: MEAN axis: 2 }',
    "ArgMax": '', "ArgMax of three": 'argmax_param { top_k: 3 out_max_val: true }',
    "ArgMax along an axis": 'argmax_param { axis: 1 top_k: 2 }',
}  # fmt: skip
TWO = {
    "Eltwise": 'eltwise_param { coeff: 0.5 coeff: -1 }',
    "Eltwise product": 'eltwise_param { operation: PROD }',
    "Eltwise maximum": 'eltwise_param { operation: MAX }',
    "Concat": '', "Concat along rows": 'concat_param { axis: 2 }',
    "Scale by a blob": 'scale_param { axis: 0 }',
    "Bias by a blob": 'bias_param { axis: 0 }',
}  # fmt: skip


def net_of(body: str, dims: tuple[int, ...] = (2, 6, 9, 7)) -> pb.NetParameter:
    text = INPUT.format(" ".join(f"dim: {d}" for d in dims)) + body
    return to_net(prototxt.parse(f'name: "small"\n{text}', "small"), "small")


def layer(kind: str, parameters: str, bottoms: str = 'bottom: "data"', tops: str = 'top: "out"') -> str:  # fmt: skip
    return f'layer {{ name: "it" type: "{kind.split()[0]}" {bottoms} {tops} {parameters} }}\n'


def random_weights(net: pb.NetParameter) -> weights.Weights:
    rng = np.random.default_rng(1)
    out: weights.Weights = {}
    for s in shapes.walk(deploy_layers(net, "small"), {}):
        blobs = [rng.normal(0, 0.5, shape).astype(np.float32) for shape, _ in s.params]
        if s.layer.type == "BatchNorm":  # a variance, and how many it was summed over
            blobs = [blobs[0], np.abs(blobs[1]) + 1, np.array([2.5], np.float32)]
        if blobs:
            out[s.layer.name] = blobs
    return out


def difference(net: pb.NetParameter) -> dict[str, check.Difference]:
    """Of the generated source, run right here, from the engine."""
    given = random_weights(net)
    module = convert(net, given, "small", "A test's net.")

    def run(samples: list[check.Blobs]) -> list[list[np.ndarray]]:
        built = build(module)
        out = []
        for inputs in samples:
            with torch.no_grad():
                made = built(*(torch.from_numpy(x) for x in inputs.values()))
            out.append([x.numpy() for x in (made if isinstance(made, tuple) else (made,))])
        return out

    return check.compare(net, given, module, "small", run)


def build(module: Module) -> torch.nn.Module:
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(module.source, namespace)
    built = namespace[module.class_name]()
    built.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in module.state.items()})
    return built.eval()


@pytest.mark.parametrize("kind", ONE)
def test_a_layer_becomes_what_it_was(kind: str) -> None:
    for d in difference(net_of(layer(kind, ONE[kind]))).values():
        assert d.relative < 1e-5 and d.largest > 0


@pytest.mark.parametrize("kind", TWO)
def test_a_layer_of_two_bottoms_becomes_what_it_was(kind: str) -> None:
    other = "half" if "a blob" in kind else "relu"
    body = (
        layer("ReLU", "").replace('"it"', '"relu"').replace('"out"', '"relu"')
        + 'layer { name: "half" type: "Reduction" bottom: "data" top: "half" reduction_param { axis: 2 } }\n'
        + layer(kind, TWO[kind], f'bottom: "data" bottom: "{other}"')
    )
    for d in difference(net_of(body)).values():
        assert d.relative < 1e-5 and d.largest > 0


def test_slices_crops_and_embeddings_become_what_they_were() -> None:
    body = (
        layer("Slice", "slice_param { slice_point: 2 slice_point: 3 }", tops='top: "a" top: "b" top: "c"')
        + 'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 3 } }\n'
        + 'layer { name: "crop" type: "Crop" bottom: "data" bottom: "pool" top: "crop" crop_param { axis: 2 offset: 1 offset: 2 } }\n'
        + 'layer { name: "best" type: "ArgMax" bottom: "data" top: "best" argmax_param { axis: 1 } }\n'
        + 'layer { name: "table" type: "Embed" bottom: "best" top: "table" embed_param { input_dim: 6 num_output: 4 } }\n'
    )  # fmt: skip
    for d in difference(net_of(body)).values():
        assert d.relative < 1e-5


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["MAX", "AVE"]), st.tuples(st.integers(4, 17), st.integers(4, 17)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
)  # fmt: skip
def test_any_pooling_becomes_what_it_was_or_is_refused(
    pool: str, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
    pad: tuple[int, int],
) -> None:  # fmt: skip
    pad = (min(pad[0], kernel[0] - 1), min(pad[1], kernel[1] - 1))
    words = f"pool: {pool} kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]}"
    words += f" pad_h: {pad[0]} pad_w: {pad[1]}"
    net = net_of(layer("Pooling", f"pooling_param {{ {words} }}"), (2, 3, *size))
    try:
        found = difference(net)
    except NetError as error:
        assert "behind the bottom" in str(error)  # in Caffe too
        assert not any(pad) and any(s > k for s, k in zip(stride, kernel, strict=True))
        return
    assert all(d.relative < 1e-5 for d in found.values())


WHOLE = (
    'layer { name: "conv/1" type: "Convolution" bottom: "data" top: "conv/1" convolution_param { num_output: 8 kernel_size: 3 stride: 2 } }\n'
    'layer { name: "bn" type: "BatchNorm" bottom: "conv/1" top: "conv/1" }\n'
    'layer { name: "scale" type: "Scale" bottom: "conv/1" top: "conv/1" scale_param { bias_term: true } }\n'
    'layer { name: "relu" type: "ReLU" bottom: "conv/1" top: "conv/1" }\n'
    'layer { name: "norm" type: "LRN" bottom: "conv/1" top: "norm" lrn_param { local_size: 5 alpha: 0.5 } }\n'
    'layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }\n'
    'layer { name: "maxi" type: "Pooling" bottom: "norm" top: "maxi" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }\n'
    'layer { name: "group" type: "Convolution" bottom: "maxi" top: "group" convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 2 } }\n'
    'layer { name: "prelu" type: "PReLU" bottom: "group" top: "group" }\n'
    'layer { name: "sum" type: "Eltwise" bottom: "group" bottom: "pool" top: "sum" }\n'
    'layer { name: "cat" type: "Concat" bottom: "sum" bottom: "maxi" top: "cat" }\n'
    'layer { name: "up" type: "Deconvolution" bottom: "cat" top: "up" convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 4 } }\n'
    'layer { name: "slice" type: "Slice" bottom: "cat" top: "first" top: "second" }\n'
    'layer { name: "flat" type: "Reshape" bottom: "second" top: "flat" reshape_param { shape { dim: 0 dim: -1 } } }\n'
    'layer { name: "drop" type: "Dropout" bottom: "flat" top: "flat" }\n'
    'layer { name: "forward" type: "InnerProduct" bottom: "flat" top: "class" inner_product_param { num_output: 5 } }\n'
    'layer { name: "prob" type: "Softmax" bottom: "class" top: "prob" }\n'
)  # fmt: skip


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deploy net of many layer types and its weights, in a folder where commands run."""
    monkeypatch.chdir(tmp_path)
    net = net_of(WHOLE, (10, 3, 23, 19))
    Path("deploy.prototxt").write_text(
        'name: "small"\n' + INPUT.format("dim: 10 dim: 3 dim: 23 dim: 19") + WHOLE, encoding="utf-8"
    )
    blobs = random_weights(net)
    kinds = {x.name: x.type for x in net.layer}
    weights.write(
        weights.to_net("small", [(n, kinds[n], b) for n, b in blobs.items()]), "w.caffemodel"
    )
    return tmp_path


def test_a_pytorch_module_needs_only_torch_and_its_weights(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "deploy.prototxt", "w.caffemodel", "net.py"]) == 0
    said = re.findall(r"net.py: on ([\w ]+) the largest difference is (\S+) of (\S+)", capsys.readouterr().out)  # fmt: skip
    assert [x[0] for x in said] == ["noise", "pictures", "scaled pictures"]
    assert all(float(d) < 1e-5 * float(largest) for _, d, largest in said)
    source = Path("net.py").read_text(encoding="utf-8")
    imports = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in imports if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in imports if isinstance(n, ast.ImportFrom)}
    assert {n.split(".")[0] for n in names} == {"torch"}
    # As a user of the file would: another process, another batch, what the docstring says.
    use = re.search(r"Use it with\n\n(.*?)\n\nTakes", source, re.DOTALL)
    assert use is not None
    script = "import torch, safetensors.torch\nfrom net import small\n"
    script += "\n".join(x.strip() for x in use[1].splitlines())
    script += "\nsums = [y.flatten(1).sum(1) for y in net(torch.ones(7, 3, 23, 19))]\nprint(len(sums), len(sums[0]))"
    script += "\nassert isinstance(net.conv_1, torch.nn.Conv2d) and isinstance(net.forward_, torch.nn.Linear)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == "3 7\n", done.stderr  # first, prob, up


def test_an_onnx_file_takes_any_batch_under_the_blobs_names(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "deploy.prototxt", "w.caffemodel", "net.onnx"]) == 0
    assert len(re.findall(r"on [a-z ]+ the largest", capsys.readouterr().out)) == 3
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    assert [x.name for x in session.get_inputs()] == ["data"]
    assert [x.name for x in session.get_outputs()] == ["first", "prob", "up"]
    net, blobs = net_of(WHOLE, (5, 3, 23, 19)), weights.read("w.caffemodel")
    engine = Net(net, pb.TEST, {"data": (5, 3, 23, 19)})
    engine.load(blobs)
    x = np.random.default_rng(3).normal(0, 40, (5, 3, 23, 19)).astype(np.float32)
    with torch.no_grad():
        wanted = engine({"data": torch.from_numpy(x)})
    for name, ours in zip(("first", "prob", "up"), session.run(None, {"data": x}), strict=True):
        assert np.abs(ours - wanted[name].numpy()).max() < 1e-5 * np.abs(wanted[name].numpy()).max()


@pytest.mark.parametrize("out", ["net.py", "net.onnx"])
def test_a_net_that_comes_out_wrong_is_not_written(
    files: Path, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The fault that the check is there for: a rule that is nearly right.
    monkeypatch.setitem(layers.PIECES, "ReLU", lambda s: Piece([f"{s.x[0]}.clamp_min(-0.001)"]))
    before = sorted(files.iterdir())
    assert main(["convert", "deploy.prototxt", "w.caffemodel", out]) == 1
    assert "differs from the engine by" in capsys.readouterr().err
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (layer("Slice", "slice_param { axis: 0 }", tops='top: "a" top: "b"'), "slices the batch"),
        (
            layer("Pooling", "pooling_param { kernel_size: 2 }", tops='top: "a" top: "b"'),
            "second top",
        ),
        (
            layer("InnerProduct", "inner_product_param { num_output: 2 axis: 0 }"),
            "the batch's size",
        ),
        (layer("Filter", "", 'bottom: "data" bottom: "data"'), "Filter"),
        (layer("BatchNorm", "batch_norm_param { use_global_stats: false }"), "the whole batch"),
    ],
)
def test_what_has_no_counterpart_is_named(
    body: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = net_of(body)
    with pytest.raises(NetError, match=said) as caught:
        convert(net, random_weights(net), "small", "")
    assert "'it'" in str(caught.value)


def test_without_the_extra_one_message_says_how_to_get_it(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["convert", "deploy.prototxt", "w.caffemodel", "net.onnx"]) == 1
    assert "onnxscript" in (err := capsys.readouterr().err) and "'.[convert]'" in err
    assert not Path("net.onnx").exists()


def test_pooling_and_deconvolution_of_all_kinds_are_valid_onnx(tmp_path: Path) -> None:
    body = ""
    for pool in ("AVE", "MAX"):
        for k, stride, pad in ((2, 2, 0), (3, 2, 1), (3, 3, 1), (5, 3, 2), (3, 2, 2), (7, 1, 0)):
            name = f"{pool}{k}{stride}{pad}"
            words = f"pool: {pool} kernel_size: {k} stride: {stride} pad: {pad}"
            body += f'layer {{ name: "{name}" type: "Pooling" bottom: "data" top: "{name}" pooling_param {{ {words} }} }}\n'
    for k, stride, pad, group in ((3, 1, 1, 1), (4, 2, 1, 2), (5, 3, 2, 2)):
        words = f"num_output: 4 kernel_size: {k} stride: {stride} pad: {pad} group: {group}"
        body += f'layer {{ name: "up{k}" type: "Deconvolution" bottom: "data" top: "up{k}" convolution_param {{ {words} }} }}\n'
    net = net_of(body, (2, 6, 23, 18))
    found = write.onnx(net, random_weights(net), tmp_path / "net.onnx", "small", "A test's net.")
    assert all(d.relative < 1e-5 for d in found.values())
