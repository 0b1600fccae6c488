"""What the report says of a test, from few pictures whose answers are known."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from recaffe.errors import DataError
from recaffe.evaluate import answers, metrics, predictions
from recaffe.evaluate.answers import Answer
from recaffe.images.decode import decode
from recaffe.lmdb import read, write
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.report import figures, heat_maps
from recaffe.report.album import Album, thumbnail
from recaffe.report.sections import calibration, classes, net
from tests.conftest import save, texture
from tests.small_results import NET, build_results

CONVOLUTION = NET.replace(
    'layer { name: "fc" type: "InnerProduct" bottom: "data"',
    """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
      convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
    layer { name: "fc" type: "InnerProduct" bottom: "conv\"""",
)
SCAN = {"background": "#ffffff", "max_pixels": 10**7}


def answer(path: str, label: int, predicted: int, confidence: float) -> Answer:
    rest = 1 - confidence
    own = confidence if label == predicted else rest
    return Answer(path, label, predicted, 1 - predicted, confidence, rest, own)


def test_predictions_are_read_row_by_row_as_they_were_written(tmp_path: Path) -> None:
    table = predictions.Table(
        ["=a.png", "b.png", "c, d.png"],
        np.array([0, 1, 2]),
        np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]]),
        ["-one", "two", "th,ree"],
    )
    predictions.write(table, tmp_path / "predictions.csv")
    found = answers.read(tmp_path / "predictions.csv")
    assert [a.path for a in found] == table.paths
    assert [a.predicted for a in found] == table.predicted.tolist() == [0, 0, 2]
    assert [a.right for a in found] == [True, False, True]
    assert found[1] == Answer("b.png", 1, 0, 1, 0.5, 0.3, 0.3)
    assert found[0].lead == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["", "path,label\n", "path,label,predicted,confidence,p:a,p:b\nx,y,a,1,1,0\n"])  # fmt: skip
def test_what_is_no_table_of_predictions_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(DataError, match=r"predictions\.csv is not a predictions\.csv"):
        answers.read(tmp_path / "predictions.csv")


def test_each_class_and_each_mistake_has_a_picture_before_any_has_many() -> None:
    found = [answer(f"hit{i}", 0, 0, 0.5 + i / 100) for i in range(10)]
    found += [answer(f"miss{i}", 0, 1, 0.5 + i / 100) for i in range(10)]
    found += [answer("other", 1, 1, 0.9), answer("wrong", 1, 0, 0.6)]
    cells = classes.cells_of(found)
    assert [a.path for a in cells[0, 0][:2]] == ["hit0", "hit1"], "least sure first"
    assert [a.path for a in cells[0, 1][:2]] == ["miss9", "miss8"], "surest first"

    def paths(most: int) -> list[str]:
        return sorted(a.path for found in classes.choose(cells, most).values() for a in found)

    assert paths(0) == []
    assert paths(2) == ["hit0", "other"]
    assert paths(4) == ["hit0", "miss9", "other", "wrong"]
    assert len(paths(14)) == 14 and sum(path.startswith("miss") for path in paths(14)) == 10
    assert len(paths(100)) == len(found)


def test_confused_classes_become_neighbours() -> None:
    counts = np.diag([10] * 6)
    for a, b in ((0, 3), (1, 5), (2, 4)):
        counts[a, b] = counts[b, a] = 5
    order = classes.together(counts)
    assert sorted(order) == list(range(6))
    for a, b in ((0, 3), (1, 5), (2, 4)):
        assert abs(order.index(a) - order.index(b)) == 1
    assert classes.together(counts[:2, :2]) == [0, 1]
    empty = np.zeros((4, 4), int)  # a class without test pictures
    assert sorted(classes.together(empty)) == [0, 1, 2, 3]


def test_of_very_many_classes_those_with_most_mistakes_are_drawn() -> None:
    many = classes.DRAWN + 50
    counts = np.diag([10] * many)
    assert classes.most_mistaken(counts[:9, :9]) == list(range(9))
    counts[many - 1, 3] = 2
    drawn = classes.most_mistaken(counts)
    assert len(drawn) == classes.DRAWN
    assert drawn == sorted(drawn)
    assert {3, many - 1} <= set(drawn)


def test_only_sure_answers_are_fewer_and_counted_by_themselves() -> None:
    found = [answer(str(i), 0, int(i < 5), 0.6) for i in range(10)]
    found += [answer(f"sure{i}", 1, 1, 0.96) for i in range(10)]
    by = {row["least"]: row for row in calibration.thresholds(found)}
    assert (by[0.0]["n"], by[0.0]["accuracy"]) == (20, 0.75)
    assert (by[0.95]["n"], by[0.95]["share"], by[0.95]["accuracy"]) == (10, 0.5, 1.0)
    assert (by[0.95]["low"], by[0.95]["high"]) == metrics.wilson(10, 10)
    assert 0.99 not in by, "no picture passes"


def test_half_of_the_heat_maps_are_mistakes_and_the_others_of_different_classes() -> None:
    wrong = [answer(f"wrong{i}", 0, 1, 0.5 + i / 100) for i in range(5)]
    right = [answer(f"right{i}", i % 2, i % 2, 0.9 - i / 100) for i in range(6)]
    chosen = [a.path for a in heat_maps.choose([*wrong, *right], 4)]
    assert chosen == ["wrong4", "wrong3", "right0", "right1"]
    assert [a.path for a in heat_maps.choose(wrong, 4)] == ["wrong4", "wrong3", "wrong2", "wrong1"]
    assert len(heat_maps.choose([wrong[0], *right], 6)) == 6
    assert len(heat_maps.choose([*wrong, *right], 100)) == 11


def test_a_heat_map_is_of_what_the_net_saw_of_that_picture(tmp_path: Path) -> None:
    results = build_results(
        tmp_path, net=CONVOLUTION, lmdb={"width": 24, "height": 24},
        train={"crop_size": 16, "epochs": 1}, report={"heat_maps": 4},
    )  # fmt: skip
    found = json.loads((results / "first" / "heat_maps.json").read_text(encoding="utf-8"))
    assert (found["layer"], found["grid"], found["reason"]) == ("conv", [14, 14], "")
    assert len({row["path"] for row in found["pictures"]}) == 4
    key = {e.path: e.key for e in write.read_list(results / "data" / "test.txt", 0)}
    with read.open_records(results / "data" / "test_lmdb") as records:
        record = {bytes(k).decode(): pixels(parse_datum(bytes(v))) for k, v in records}
    for row in found["pictures"]:
        seen = record[key[row["path"]]][:, 4:20, 4:20].transpose(1, 2, 0)
        large = cv2.resize(seen, (heat_maps.SIDE, heat_maps.SIDE), interpolation=cv2.INTER_LINEAR)
        shown, overlay = (decoded(row[name]) for name in ("picture", "overlay"))
        assert np.abs(shown.astype(int) - large).mean() < 6, "up to JPEG's losses"
        assert np.abs(shown.astype(int) - overlay).mean() > 6


def decoded(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_picture_is_embedded_once_and_shown_again_by_its_number(tmp_path: Path) -> None:
    save(texture(1), tmp_path / "a.png")
    save(texture(2), tmp_path / "b.png")
    album = Album(tmp_path, SCAN)
    kept = album.keep("b.png")
    first, again = album.show("a.png"), album.show("a.png")
    assert first.count("data:image/jpeg") == 1
    assert "data:" not in again
    number = re.search(r'id="picture-(\d+)"', first)
    assert number and f'data-same="{number[1]}"' in again
    assert list(album.rest()) == [kept], "what is shown isn't there a second time"
    album.show("b.png")
    assert album.rest() == {}
    assert "no longer readable" in album.show("gone.png")


def test_a_thumbnail_of_a_large_photo_is_quick_and_the_same(tmp_path: Path) -> None:
    photo = texture(3, size=(1600, 1200))
    save(photo, tmp_path / "photo.png")
    save(photo, tmp_path / "photo.jpg")
    large = decode((tmp_path / "photo.jpg").read_bytes(), side=224).bgr
    assert large.shape == (300, 400, 3), "of which the thumbnail is made"
    png, jpg = (decoded(thumbnail(tmp_path / f"photo.{kind}", SCAN)) for kind in ("png", "jpg"))
    assert png.shape == jpg.shape == (84, 112, 3)
    assert np.abs(png.astype(int) - jpg).mean() < 4


def test_a_training_that_exploded_has_curves_all_the_same() -> None:
    losses = ("2.3", "inf", "nan", "")
    rows = [{"epoch": str(i), "loss": loss, "val_accuracy": "nan"} for i, loss in enumerate(losses)]
    for column in ("loss", "val_accuracy"):
        assert "<svg" in figures.curve({"run": rows}, {"run": 30}, column, column)
    assert "<svg" in figures.curve({"run": rows[3:]}, {"run": 0}, "loss", "loss")


def test_pictures_of_very_many_sizes_are_counted_in_areas() -> None:
    many = [(100 + i, 100 + 7 * i % 401) for i in range(2000)]
    assert len(figures.sizes(many, (256, 256))) < 300_000


def test_long_names_leave_room_in_figures() -> None:
    svg = figures.intervals([("x" * 200, 0.5, 0.4, 0.6)])
    assert f"{'x' * 39}…" in svg and "x" * 41 not in svg


def test_the_picture_of_a_net_marks_new_and_frozen_layers() -> None:
    deploy = """name: "d" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
    layer { name: "a<b" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }
    layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 2 } }"""
    svg = net.picture(deploy, "one", new={"fc"}, frozen={"a<b"})
    assert '<g class="is-frozen"><title>a&lt;b (Convolution)' in svg
    assert '<g class="is-new"><title>fc (InnerProduct)' in svg
    assert svg.count("class=") == 3
    assert 'id="one-tip"' in svg and "url(#one-tip)" in svg and "url(#tip)" not in svg


def test_figures_take_the_pages_colours_and_have_ids_of_their_own() -> None:
    rows = [("a", 0.5, 0.4, 0.6), ("<b>", 0.7, 0.6, 0.8)]
    one, two = figures.intervals(rows), figures.sizes([(10, 20), (30, 40)], (8, 8))
    for svg in (one, two):
        assert "var(--ink)" in svg
        assert "#010203" not in svg and "#000000" not in svg
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    for svg, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= own
        assert set(re.findall(r'href="#([^"]+)"', svg)) <= own
    assert "&lt;b&gt;" in one and "<b>" not in one
