"""The folder that a user ships, and `recaffe predict` on it: the numbers of the workflow's own test."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recaffe import config as configs
from recaffe import mean
from recaffe.cli import main
from recaffe.engines.torch.data.batch import CPU, Buffers
from recaffe.engines.torch.data.transform import Transform
from recaffe.errors import DataError
from recaffe.files import sha256
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.lmdb.read import open_records
from recaffe.lmdb.write import read_list, write
from recaffe.model import EXAMPLES, FILES, NOTE, PARTS, WEIGHTS
from recaffe.model.predict import record_of
from recaffe.net import weights
from recaffe.proto import caffe_pb2 as pb
from tests.conftest import save, texture
from tests.small_models import build, check_example, in_test_order, same_as_predictions


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(built: Path, tmp_path: Path) -> Path:
    """A copy of the model elsewhere."""
    folder = tmp_path / "taken along"
    shutil.copytree(built / "results" / "own" / "first" / "model", folder)
    return folder


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ---- the folder ----------------------------------------------------------------------------------


def test_the_folder_holds_what_it_says_and_nothing_of_where_it_was_made(
    model: Path, built: Path
) -> None:
    assert {p.name for p in model.iterdir()} == set(FILES)
    note = json.loads((model / NOTE).read_text(encoding="utf-8"))
    for name in (*PARTS, *EXAMPLES):
        assert note["files"][name] == sha256(model / name)
    run = built / "results" / "own" / "first"
    assert sha256(model / WEIGHTS) == sha256(run / "final.caffemodel")
    found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert {k: note["metrics"][k] for k in ("n", "top1", "top1_low", "top1_high")} == {
        k: found[k] for k in ("n", "top1", "top1_low", "top1_high")
    }
    for path in model.iterdir():
        assert str(built).encode() not in path.read_bytes(), path.name
        if path.suffix in (".json", ".md", ".prototxt", ".txt"):
            assert not re.search(r'(^|[\s"`(])/\w', path.read_text(encoding="utf-8")), path.name
    card = (model / "README.md").read_text(encoding="utf-8")
    for words in (f"N = {found['n']}", "95 % interval", "random weights", r"\=do\|g\_x", "12×10", "90, 100, 110.5"):  # fmt: skip
        assert words in card, words
    constant = mean.read(model / "mean.binaryproto")
    assert constant.shape == (3, 10, 12)
    assert (constant == np.array([90, 100, 110.5])[:, None, None]).all()


def test_the_licence_of_base_weights_is_on_the_card() -> None:
    from recaffe.model import card
    from recaffe.model.build import _base

    zoo = {"net": "squeezenet_v1.1", "weights": "zoo"}
    assert _base(zoo) == {"weights": "ndf 0.1.4", "licence": "MIT (package)"}
    assert _base({**zoo, "net": "googlenet"})["licence"].startswith("unrestricted use (http")
    for own in ("/home/me/own.caffemodel", "https://me:key@a.example/own.caffemodel?key=1"):
        assert _base({**zoo, "weights": own}) == {"weights": "own.caffemodel", "licence": "unknown"}
    assert card.plain("# <b>a_b</b>\n|") == r"\# \<b\>a\_b\</b\> \|"


# ---- the same numbers as in the workflow -----------------------------------------------------------


def test_probabilities_are_those_of_the_test_to_the_last_digit(
    model: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = in_test_order(built)
    assert main(["predict", str(model), *paths, "--format=csv", "--top=9", "--threads=1"]) == 0
    rows = same_as_predictions(capsys.readouterr().out, built / "results" / "own" / "first")
    assert len(rows) > 6
    assert len({row["confidence"] for row in rows} - {"1"}) > 5, "they tell something"


def odd_pictures(folder: Path) -> list[str]:
    """One of each kind that decoding has a rule for, in several sizes."""
    rng = np.random.default_rng(3)
    rgb = Image.fromarray(texture(1, 0, (37, 61)))
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = Image.fromarray(rng.integers(0, 256, (23, 50, 4), dtype=np.uint8), "RGBA")
    clear = rgb.quantize(9)
    made = {
        "turned.jpg": (rgb, {"exif": exif, "quality": 90}),
        "clear.png": (alpha, {}),
        "palette.png": (clear, {"transparency": 2}),
        "gray.png": (rgb.convert("L"), {}),
        "gray alpha.png": (alpha.convert("LA"), {}),
        "deep.png": (Image.fromarray(rng.integers(0, 65536, (40, 30), dtype=np.uint16)), {}),
        "moving.gif": (clear, {"save_all": True, "append_images": [clear.rotate(90)]}),
        "print.jpg": (rgb.convert("CMYK"), {}),
        "twice.png": (rgb.resize((24, 20)), {}),
        "exact.png": (rgb.resize((12, 10)), {}),
        "small.bmp": (rgb.resize((3, 5)), {}),
    }
    folder.mkdir()
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return list(made)


def shipped(folder: Path, rules: dict[str, Any], mean_file: np.ndarray) -> ModuleType:
    """The examples' preprocess.py, in a model's folder of its own."""
    folder.mkdir()
    source = configs.ROOT / "recaffe" / "model" / "shipped" / "preprocess.py"
    shutil.copy(source, folder)
    (folder / NOTE).write_text(json.dumps({"preprocessing": rules}))
    (folder / "labels.txt").write_text("a\nb\n")
    mean.write(mean_file, folder / "mean.binaryproto")
    module = ModuleType("preprocess")
    module.__file__ = str(folder / "preprocess.py")
    exec(compile(source.read_text(encoding="utf-8"), module.__file__, "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("mode", ["warp", "crop", "fill", "half_crop"])
@pytest.mark.parametrize(
    ("gray", "encoded", "fast"),
    [(False, "none", False), (True, "png", False), (False, "jpg", False), (False, "none", True), (True, "png", True)],
)  # fmt: skip
def test_records_are_those_of_the_lmdb_also_in_the_examples(
    mode: str, gray: bool, encoded: str, fast: bool, tmp_path: Path
) -> None:
    names = odd_pictures(tmp_path / "odd")
    record = {
        "width": 12,
        "height": 10,
        "mode": mode,
        "gray": gray,
        "encoded": encoded,
        "fast": fast,
    }
    config = configs.complete({"dataset": "d", "images": "x", "runs": {"a": {"mean": "file"}}, "lmdb": record, "scan": {"background": "#204060"}})  # fmt: skip
    (tmp_path / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
    write(tmp_path / "list.txt", str(tmp_path / "odd"), tmp_path / "lmdb", config, 0, 1)
    channels = 1 if gray else 3
    mean_file = np.random.default_rng(0).uniform(0, 255, (channels, 10, 12)).astype(np.float32)
    rules = {**config["scan"], "record": record, "crop_size": 7, "scale": 0.0078125}
    example = shipped(tmp_path / "model", rules, mean_file)
    mean_path = str(tmp_path / "model" / "mean.binaryproto")
    param = pb.TransformationParameter(crop_size=7, scale=0.0078125, mean_file=mean_path)
    transform = Transform(param, (channels, 10, 12), training=False, seed=0)
    with open_records(tmp_path / "lmdb") as found:
        entries = read_list(tmp_path / "list.txt", 0)
        for entry, (_, value) in zip(entries, found, strict=True):
            wanted = pixels(parse_datum(value))
            path = tmp_path / "odd" / entry.path
            assert (record_of(str(path), rules) == wanted).all(), entry.path
            filling = transform.start(0, 1, range(1), Buffers())
            filling.add(wanted)
            blob = filling.done().floats(CPU, Buffers()).numpy()
            # Of a mean, one more or less; of values that are not averaged, nothing.
            apart = np.abs(example.blob(path) - blob).max()
            assert apart <= (1.001 * rules["scale"] if fast else 0), entry.path


def test_stretching_without_opencv_is_opencvs_to_the_bit(tmp_path: Path) -> None:
    import cv2

    rules = {"crop_size": 0, "scale": 1, "background": "#ffffff", "record": {}}
    stretch = shipped(tmp_path / "model", rules, np.zeros((3, 1, 1), np.float32)).stretch
    rng = np.random.default_rng(0)
    for i in range(400):
        h, w, height, width = (int(n) for n in rng.integers(1, 90, 4))
        if i % 4 == 0:
            height, width = max(1, h // 2), max(1, w // 2)
        image = rng.integers(0, 256, (h, w, 3) if i % 3 else (h, w), dtype=np.uint8)
        assert (stretch(image, width, height) == cv2.resize(image, (width, height))).all()


def test_the_opencv_example_agrees(model: Path, built: Path) -> None:
    script, paths = model / "classify_opencv.py", in_test_order(built)
    assert len(script.read_text().splitlines()) <= 25
    bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script, *paths], cwd="/", env=bare, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_example(done.stdout, built, 1e-4)


# ---- what is given, what is printed ----------------------------------------------------------------


class Stdin:
    """A standard input that holds these bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_files_folders_and_a_list_are_taken_in_their_order(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", "b/deep/.hidden.png", "b/deep/3.png"):
        save(texture(1), tmp_path / "p" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Stdin(b"p/a.png\r\n\np/b/deep\n"))
    assert main(["predict", str(model), "p/b", "-", "./p/a.png", "--format", "jsonl"]) == 0
    said = capsys.readouterr()
    names = ["p/b/1.png", "p/b/2.png", "p/b/deep/3.png", "p/a.png", "p/b/deep/3.png", "./p/a.png"]
    assert [row["path"] for row in answers(said.out)] == names
    assert "6 of 6 pictures classified" in said.err


def test_what_is_no_picture_is_named_and_passed_over(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save(texture(1), tmp_path / "good.png")
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    given = [str(notes), str(good), str(tmp_path / "gone.png"), str(good)]
    assert main(["predict", str(model), *given, "--batch-size", "1", "--format=jsonl"]) == 3
    said = capsys.readouterr()
    assert [row["path"] for row in answers(said.out)] == [str(good)] * 2
    assert f"recaffe: {notes}: not a picture that can be recognised" in said.err
    assert "gone.png: no such file" in said.err
    assert "2 of 4 pictures classified" in said.err
    assert main(["predict", str(model), str(notes)]) == 1
    assert "None of 1 pictures could be read." in capsys.readouterr().err


def test_a_stop_leaves_whole_rows_and_one_word(
    model: Path, built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = in_test_order(built)
    ctrl_c = paths[4]

    def until_ctrl_c(path: str) -> bytes:
        if path == ctrl_c:
            print("what a library prints")
            raise KeyboardInterrupt
        return Path(path).read_bytes()

    monkeypatch.setattr("recaffe.model.predict.read", until_ctrl_c)
    assert main(["predict", str(model), *paths, "--batch-size", "2", "--format", "jsonl"]) == 130
    said = capsys.readouterr()
    assert [row["path"] for row in answers(said.out)] == paths[:4]
    assert said.err.endswith("recaffe: stopped.\n")
    assert "what a library prints" in said.err


def test_unsure_answers_are_marked(
    model: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = in_test_order(built)
    command = ["predict", str(model), *paths, "--top", "1", "--format"]
    assert main([*command, "jsonl"]) == 0
    found = [row["confidence"] for row in answers(capsys.readouterr().out)]
    middle = str(sorted(found)[len(found) // 2])
    assert main([*command, "jsonl", "--threshold", middle]) == 0
    said = capsys.readouterr()
    unsure = [row["unsure"] for row in answers(said.out)]
    assert sum(unsure) == sum(p < float(middle) for p in found) > 0
    assert f"{sum(unsure)} of them unsure" in said.err
    assert main([*command, "table", "--threshold", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["picture", "class", "p"]
    assert sum("(unsure)" in line for line in lines) == len(paths)
    assert len({line.rindex("  ") for line in lines}) == 1, "columns stand below each other"


def test_names_do_no_harm_in_spreadsheets_and_terminals(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "\x1b[2J.png", os.fsdecode(b"\xff.png")]
    for name in names:
        save(texture(1), Path(name))
    assert main(["predict", str(model), *names, "--format=csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows] == ["'=1+1.png", "\x1b[2J.png", r"\xff.png"]
    assert main(["predict", str(model), *names, "--format=jsonl"]) == 0
    assert [r["path"] for r in answers(capsys.readouterr().out)] == [*names[:2], r"\xff.png"]
    assert main(["predict", str(model), *names, "--format=table"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_runs_folder_stands_for_its_model(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = built / "results" / "own" / "first"
    assert main(["predict", str(run), in_test_order(built)[0]]) == 0
    out = capsys.readouterr().out
    assert out.startswith("path,predicted,confidence,unsure,class_2,p_2,class_3,p_3\n"), (
        "no terminal"
    )


# ---- mistakes --------------------------------------------------------------------------------------


def flip_a_byte(name: str):
    def flip(model: Path) -> None:
        data = bytearray((model / name).read_bytes())
        data[len(data) // 2] ^= 1
        (model / name).write_bytes(data)

    return flip


def edit(**changes: Any):
    def write_note(model: Path) -> None:
        note = json.loads((model / NOTE).read_text(encoding="utf-8"))
        (model / NOTE).write_text(json.dumps({**note, **changes}))

    return write_note


def odd_rule(model: Path) -> None:
    note = json.loads((model / NOTE).read_text(encoding="utf-8"))
    note["preprocessing"]["record"]["fast"] = "yes"
    (model / NOTE).write_text(json.dumps(note))


DAMAGE = {
    "nothing there": (shutil.rmtree, "doesn't exist"),
    "no note": (lambda m: (m / NOTE).unlink(), "holds no model: there is no model.json"),
    "no weights": (lambda m: (m / WEIGHTS).unlink(), "weights.caffemodel is missing"),
    **{f"{name} damaged": (flip_a_byte(name), f"{name} is damaged") for name in PARTS},
    "note cut short": (lambda m: (m / NOTE).write_text('{"format": 1'), "isn't as recaffe writes it"),
    "another JSON": (lambda m: (m / NOTE).write_text("[]"), "isn't as recaffe writes it"),
    "an odd rule": (odd_rule, "preprocessing.record.fast: 'yes' is not"),
    "no rules": (edit(preprocessing={}), "isn't as recaffe writes it"),
    "a later recaffe's": (edit(format=2, preprocessing={}), "format 2, and this recaffe reads 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_one_message(
    kind: str, model: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, words = DAMAGE[kind]
    damage(model)
    assert main(["predict", str(model), *in_test_order(built)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("recaffe: ") and words in said.err, said.err


def test_a_wrong_device_is_one_message(
    model: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), *in_test_order(built), "--device", "gpu"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "cuda:1" in said.err


def test_weights_without_a_layer_are_no_model(
    model: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = [np.zeros((2, 2), np.float32)]
    weights.write(weights.to_net("", [("other", "InnerProduct", blobs)]), model / WEIGHTS)
    files = json.loads((model / NOTE).read_text(encoding="utf-8"))["files"]
    edit(files={**files, WEIGHTS: sha256(model / WEIGHTS)})(model)
    assert main(["predict", str(model), *in_test_order(built)]) == 1
    assert "fc_own: new; net" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--top 0", "--threshold 1.5", "--threshold x", "--batch-size -1", "--format xml"]
)
def test_flags_are_checked(words: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(model), "x.png", *words.split()]) == 2
    assert capsys.readouterr().err.startswith("recaffe: ")


def test_a_folder_without_files_is_named(model: Path, tmp_path: Path) -> None:
    from recaffe.model.predict import listed

    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files in the folder .*empty"):
        listed([str(tmp_path / "empty")], ())
    assert main(["predict", str(model), str(tmp_path / "empty")]) == 1
