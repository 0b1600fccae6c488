"""Answers of the server: those of `recaffe predict`, also where a file is no picture."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.types import ASGIApp

from recaffe.cli import main
from recaffe.engines.torch import cam
from recaffe.model import folder
from recaffe.model.classifier import Classifier, as_rgb
from recaffe.model.predict import record_of
from recaffe.serve.app import build
from recaffe.serve.pictures import name
from tests import small_models
from tests.served import FREE, PREDICT, Held, ask, form, png, working


def test_the_probabilities_are_those_of_predict_to_the_last_digit(
    app: ASGIApp, built: Path, model: folder.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = small_models.in_test_order(built)
    command = ["predict", str(model.folder), *paths, "--format", "jsonl", "--threshold", "0.5"]
    assert main([*command, "--batch-size", "1", "--threads", "1"]) == 0
    wanted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for path, right in zip(paths, wanted, strict=True):
        answer = ask(app, "POST", f"{PREDICT}?top_k=3&threshold=0.5", **form(Path(path)))
        assert answer.status_code == 200
        del right["path"]
        assert answer.json() == {"results": [{"name": Path(path).name, **right}]}


def test_several_pictures_are_answered_in_their_order(app: ASGIApp, built: Path) -> None:
    paths = [Path(x) for x in small_models.in_test_order(built)][:10]
    alone = [ask(app, "POST", PREDICT, **form(x)).json()["results"][0] for x in paths]
    together = ask(app, "POST", PREDICT, **form(*paths)).json()["results"]
    assert [x["name"] for x in together] == [x.name for x in paths]
    for one, same in zip(alone, together, strict=True):
        assert [x["class"] for x in one["top"]] == [x["class"] for x in same["top"]]
        assert [x["p"] for x in one["top"]] == pytest.approx(
            [x["p"] for x in same["top"]], abs=1e-5
        )


def test_a_heat_map_shows_what_the_net_saw_and_where_it_looked(
    app: ASGIApp, built: Path, model: folder.Model
) -> None:
    path = small_models.in_test_order(built)[0]
    answer = ask(app, "POST", f"{PREDICT}?heat_map=true", **form(Path(path))).json()["results"][0]
    kind, _, text = answer["heat_map"].partition(",")
    assert kind == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    classifier = Classifier(model, threads=1)
    best = model.labels.index(answer["predicted"])
    (seen,), (heat,) = classifier.heat_maps([record_of(path, model.rules)], [best])
    assert seen.shape == (9, 9, 3)
    factor = shown.shape[0] // 9
    assert (shown == cam.overlay(seen.repeat(factor, 0).repeat(factor, 1), heat)).all()
    assert shown.shape[0] >= 320
    assert "heat_map" not in ask(app, "POST", PREDICT, **form(Path(path))).json()["results"][0]


def test_what_the_net_saw_is_shown_in_the_colours_that_it_had() -> None:
    window = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert as_rgb(window)[1, 0].tolist() == [10, 6, 2], "records are BGR"
    assert as_rgb(window[:1])[1, 0].tolist() == [2, 2, 2]
    assert as_rgb(np.array([[[-3, 254.7]]], np.float32))[0].tolist() == [[0] * 3, [255] * 3]


def test_a_net_without_heat_maps_says_so(model: folder.Model, held: Held) -> None:
    held.go.set()
    with working(held) as worker:
        app = build(model, worker, FREE)
        answer = ask(app, "POST", f"{PREDICT}?heat_map=1", **form(("a.png", png())))
        assert (answer.status_code, answer.json()["error"]) == (422, "This net has no heat maps.")
        assert ask(app, "GET", "/api/model").json()["heat_maps"] is False


def test_what_the_model_is_can_be_read_and_says_nothing_of_the_machine(
    app: ASGIApp, model: folder.Model, built: Path
) -> None:
    told = ask(app, "GET", "/api/model").json()
    assert told["labels"] == list(small_models.CLASSES)
    assert told["preprocessing"]["crop_size"] == 9
    assert told["metrics"]["n"] == model.note["metrics"]["n"]
    assert told["limits"] == {"bytes": FREE.body, "pictures": FREE.pictures, "pixels": FREE.pixels}
    assert str(built) not in json.dumps(told)
    assert ask(app, "GET", "/health").json()["status"] == "ok"


def bomb() -> bytes:
    """A PNG of 20000×20000 pixels in 50 KB."""
    head = (20_000).to_bytes(4, "big") * 2 + b"\1\0\0\0\0"
    rows = zlib.compress(b"\0" * (2501 * 20_000))
    chunks = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    body = b"".join(
        len(x).to_bytes(4, "big") + kind + x + zlib.crc32(kind + x).to_bytes(4, "big")
        for kind, x in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 422, "bad.png: empty file"),
        (b"just a text", 422, "bad.png: not a picture that can be recognised"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "not a picture"),
        (png()[:200], 422, "bad.png: broken or truncated"),
        (bomb(), 413, "20000×20000 pixels; this server takes up to 50,000,000"),
    ],
    ids=["empty", "text", "PostScript", "cut off", "bomb"],
)
def test_a_bad_file_is_told_in_one_sentence(
    app: ASGIApp, content: bytes, status: int, said: str
) -> None:
    answer = ask(app, "POST", PREDICT, **form(("bad.png", content)))
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_bad_file_spoils_no_other(app: ASGIApp) -> None:
    answer = ask(app, "POST", PREDICT, **form(("a.png", png()), ("b.png", b"no"), ("c.png", png())))
    assert answer.status_code == 200
    a, b, c = answer.json()["results"]
    assert b == {"name": "b.png", "error": "not a picture that can be recognised"}
    assert a["top"] == c["top"]
    none = ask(app, "POST", PREDICT, **form(("a.txt", b"x"), ("b.txt", b"y")))
    assert none.status_code == 422
    assert none.json()["error"].startswith("None of 2 files is a picture. a.txt: not a picture")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\rex.jpg", "rex.jpg"),
        ("a\x1b[2J\nb.png", "a\\x1b[2J\\nb.png"),
        ("grün 猫.png", "grün 猫.png"),
        ("\ud800.png", "\\ud800.png"),
        ("gpj\u202e.exe", "gpj\\u202e.exe"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        (None, ""),
        ("", ""),
    ],
)
def test_a_hostile_name_is_only_a_text(given: str | None, shown: str) -> None:
    assert name(given) == shown


def test_a_long_name_is_cut(app: ASGIApp) -> None:
    answer = ask(app, "POST", PREDICT, **form((f"{'x' * 1000}.png", png())))
    assert answer.json()["results"][0]["name"] == "x" * 199 + "…"
