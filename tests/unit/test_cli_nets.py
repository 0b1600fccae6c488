"""`recaffe time`, `summary` and `draw`: what they tell of a net, whether its data are here or not."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe.cli import main
from recaffe.config import MODELS
from recaffe.net.layered import GAP, layout
from tests.unit.commands import recaffe, texts

LENET = str(MODELS / "lenet" / "train_val.prototxt")
SQUEEZENET = str(MODELS / "squeezenet_v1.1" / "train_val.prototxt")
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }\n'


@pytest.mark.parametrize("missing", [False, True])
def test_time_lists_each_layer_forward_and_backward(
    golden: Path, missing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if missing:
        shutil.rmtree("warped.lmdb")
    flags = ["--input", "3,20,24"] if missing else []
    net = (golden / "net.prototxt").read_text(encoding="utf-8")
    (golden / "net.prototxt").write_text(net.replace('name: "data"', 'name: "pictures"'))
    assert main(["time", "-model", "net.prototxt", "-iterations", "2", *flags]) == 0
    lines = texts(capsys.readouterr().err)
    times = [m for x in lines if (m := re.fullmatch(r" *(\w+)\t(for|back)ward: (\S+) ms\.", x))]
    layers = ["pictures", "conv1", "relu1", "norm1", "pool1", "conv2", "pool2", "left", "both", "fc", "loss"]  # fmt: skip
    assert [(m[1], m[2]) for m in times] == [(x, way) for x in layers for way in ("for", "back")]
    assert all(float(m[3]) > 0 for m in times if m[1] not in ("pictures", "both"))
    total = next(float(x.split()[-2]) for x in lines if x.startswith("Total Time"))
    assert 0 < 2 * sum(float(m[3]) for m in times) < total
    assert any("random" in x for x in lines) == missing


def test_summary_counts_as_the_papers_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", LENET, "--input", "1,28,28", "--json"]) == 0
    lenet = json.loads(capsys.readouterr().out)
    assert lenet["parameters"] == 431_080  # MNIST LeNet of Caffe's examples
    assert lenet["macs"] / lenet["batch"] == 288_000 + 1_600_000 + 400_000 + 5_000
    params = 4 * 431_080
    memory = lenet["memory"]
    assert memory["weights"] == memory["weight_gradients"] == memory["momentum"] == params
    blobs = sum(x["blob_bytes"] for x in lenet["layers"])
    assert memory["activations"] == blobs
    assert memory["gradients"] == blobs - 4 * 64 * (28 * 28 + 1)  # pictures and labels have none
    assert memory["total"] == 2 * blobs - 4 * 64 * 785 + 3 * params


def test_shapes_come_from_hdf5_and_pictures_where_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["x"] = np.zeros((5, 2, 6, 7), np.float32)
        file["y"] = np.zeros((5, 4), np.float32)
    Path("h5.txt").write_text("a.h5\n")
    cv2.imwrite("a.png", np.zeros((9, 11, 3), np.uint8))
    Path("list.txt").write_text("a.png 0\n")
    sources = {
        'name: "h" type: "HDF5Data" top: "x" top: "y" hdf5_data_param { source: "h5.txt" batch_size: 3 }': [
            [3, 2, 6, 7],
            [3, 4],
        ],
        'name: "i" type: "ImageData" top: "x" top: "y" image_data_param { source: "list.txt" batch_size: 1 }': [
            [1, 3, 9, 11],
            [1],
        ],
    }
    for text, shapes in sources.items():
        silence = 'layer { name: "s" type: "Silence" bottom: "x" bottom: "y" }'
        Path("net.prototxt").write_text(f"layer {{ {text} }}\n{silence}\n")
        assert recaffe("summary net.prototxt --json") == 0
        assert json.loads(capsys.readouterr().out)["layers"][0]["tops"] == dict(
            zip("xy", shapes, strict=True)
        )
        assert recaffe("time -model net.prototxt -iterations 1") == 0
        capsys.readouterr()
    Path("h5.txt").unlink()
    Path("net.prototxt").write_text(f"layer {{ {next(iter(sources))} }}\n{silence}\n")
    assert recaffe("summary net.prototxt") == 1
    assert "its source is not here" in capsys.readouterr().err


def test_the_shapes_of_dummy_data_are_those_that_the_engine_gives_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    each = "dummy_data_param { num: 4 channels: 1 channels: 2 height: 3 width: 5 }"
    silence = 'layer { name: "s" type: "Silence" bottom: "x" bottom: "y" }'
    net = tmp_path / "net.prototxt"
    net.write_text(f'layer {{ name: "d" type: "DummyData" top: "x" top: "y" {each} }} {silence}')
    assert main(["summary", str(net), "--json"]) == 0
    tops = json.loads(capsys.readouterr().out)["layers"][0]["tops"]
    assert tops == {"x": [4, 1, 3, 5], "y": [4, 2, 3, 5]}
    net.write_text(net.read_text().replace("num: 4", "num: 4 num: 4 num: 4"))
    assert main(["summary", str(net)]) == 1
    assert "Layer 'd' (DummyData): num stands 3 times for 2 tops" in capsys.readouterr().err


def test_summary_is_an_aligned_table_with_sums(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", SQUEEZENET, "--phase", "TEST"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (total,) = (x for x in lines if x.startswith("total"))
    assert total.split()[1] == "1,235,496"  # as published
    column = lines[1].index("type")
    body = lines[3 : lines.index(total) - 1]
    assert len(body) > 60
    assert all(x[column - 2 : column] == "  " and x[column] != " " for x in body)


def test_parameters_that_layers_share_count_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = 'layer {{ name: "{0}" type: "InnerProduct" bottom: "{1}" top: "{0}" {2} inner_product_param {{ num_output: 9 bias_term: false axis: 3 }} }}\n'
    for shared, count in (("", 2 * 81), ('param { name: "w" }', 81)):
        text = INPUT + layer.format("a", "data", shared) + layer.format("b", "a", shared)
        (tmp_path / "net.prototxt").write_text(text)
        assert main(["summary", str(tmp_path / "net.prototxt"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["parameters"] == count


@pytest.mark.parametrize("rankdir", ["TB", "LR"])
def test_the_picture_has_each_layer_in_a_box_of_its_own(tmp_path: Path, rankdir: str) -> None:
    out = tmp_path / "net.svg"
    assert main(["draw", SQUEEZENET, str(out), "--rankdir", rankdir]) == 0
    root = ET.fromstring(out.read_text(encoding="utf-8"))
    svg = "{http://www.w3.org/2000/svg}"
    shown = " ".join("".join(t.itertext()) for t in root.iter(f"{svg}text"))
    for name in ("fire2/squeeze1x1", "fire9/concat", "relu_conv10", "32×64×113×113", "Data, TRAIN"):
        assert name in shown
    x, y, width, height = map(float, root.attrib["viewBox"].split())
    boxes = []
    for group in root.iter(f"{svg}g"):
        if (rect := group.find(f"{svg}rect")) is not None:
            boxes.append([float(rect.attrib[k]) for k in ("x", "y", "width", "height")])
    assert len(boxes) > 40
    for a in boxes:
        assert x <= a[0] and a[0] + a[2] <= x + width
        assert y <= a[1] and a[1] + a[3] <= y + height
    for a, b in combinations(boxes, 2):
        apart = a[0] + a[2] < b[0] or b[0] + b[2] < a[0] or a[1] + a[3] < b[1] or b[1] + b[3] < a[1]
        assert apart


def test_a_net_with_layers_of_its_authors_own_is_drawn_without_shapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = 'layer { name: "mine <1>" type: "Python" bottom: "data" top: "mine" }\n'
    (tmp_path / "net.prototxt").write_text(INPUT + own)
    assert main(["draw", str(tmp_path / "net.prototxt"), str(tmp_path / "net.svg")]) == 0
    assert "shows no shapes" in capsys.readouterr().err
    shown = "".join(ET.parse(tmp_path / "net.svg").getroot().itertext())
    assert "mine <1>" in shown and "Python" in shown and "2×3×9×9" not in shown


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_graph_is_laid_out_downwards_and_without_overlap(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 14))
    sizes = data.draw(st.lists(st.floats(1, 90), min_size=n, max_size=n))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=25)) if pairs else []
    edges = [(a, b, str(a)) for a, b in chosen]
    placed = layout(sizes, edges)
    for (a, b, _), path in zip(edges, placed.paths, strict=True):
        assert [r for r, _ in path] == list(range(placed.rank[a] + 1, placed.rank[b]))
    for a, b in combinations(range(n), 2):
        if placed.rank[a] == placed.rank[b]:
            room = (sizes[a] + sizes[b]) / 2 + GAP
            assert abs(placed.across[a] - placed.across[b]) >= room - 1e-6
