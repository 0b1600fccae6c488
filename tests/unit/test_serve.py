"""`recaffe serve` as its page and programs use it: the numbers of `recaffe predict`, limits, mistakes."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import re
import shutil
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.types import ASGIApp

from recaffe.cli import main
from recaffe.engines.torch import cam
from recaffe.errors import DataError, MachineError
from recaffe.model import folder
from recaffe.model.classifier import Classifier, as_rgb
from recaffe.model.predict import record_of
from recaffe.serve import BusyError, Limits, run
from recaffe.serve.app import build
from recaffe.serve.guard import HEADERS, Guard
from recaffe.serve.listen import listening
from recaffe.serve.pictures import name
from recaffe.serve.rate import Rate
from recaffe.serve.worker import Worker
from tests import served, small_models
from tests.served import ask, ask_all, form, png

PREDICT = "/api/predict"
FREE = Limits(rate=0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.build(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def model(built: Path) -> folder.Model:
    return folder.read(built / "results" / "own" / "first")


@pytest.fixture(scope="module")
def worker(model: folder.Model) -> Iterator[Worker]:
    with Worker(partial(Classifier, model, threads=1), capacity=64) as started:
        yield started


@pytest.fixture(scope="module")
def app(model: folder.Model, worker: Worker) -> ASGIApp:
    return build(model, worker, FREE, hosts=["127.0.0.1", "localhost"])


class Held:
    """Stands in for a classifier; passes wait until `go` is set. `sizes` are those of its batches."""

    def __init__(self, model: folder.Model, batch_size: int = 4) -> None:
        self.model, self.batch_size = model, batch_size
        self.go, self.within = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self.error: BaseException | None = None

    def scores(self, records: list[np.ndarray]) -> np.ndarray:
        self.sizes.append(len(records))
        if len(self.sizes) > 1:  # the first is the worker's own, at its start
            self.within.set()
            assert self.go.wait(30)
            if self.error is not None:
                raise self.error
        return np.eye(3, dtype=np.float32)[[int(x.flat[0]) % 3 for x in records]]

    def why_no_heat_maps(self) -> str:
        return "This net has no heat maps."


@pytest.fixture
def held(model: folder.Model) -> Iterator[Held]:
    made = Held(model)
    yield made
    made.go.set()


def working(held: Held, capacity: int = 64) -> Worker:
    return Worker(lambda: held, capacity)  # type: ignore[arg-type,return-value]


def blank(value: int) -> np.ndarray:
    return np.full((3, 10, 12), value, np.uint8)


# -- answers


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


# -- files that are no pictures


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


# -- requests that are none


@pytest.mark.parametrize(
    ("query", "request_", "status", "said"),
    [
        ("", {"json": {"files": []}}, 415, "multipart/form-data"),
        ("", {"content": b"", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ("", {"content": b"--x\r\nA: b\r\n\r\n1\r\n--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "name"),
        ("", {"content": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n', "headers": {"content-type": "multipart/form-data; boundary=x; charset=undefined"}}, 400, "form"),
        ("", {"files": {"x": (None, b"a text")}}, 422, "no file in the form"),
        ("?top_k=0", form(("a.png", png())), 422, "top_k: Input should be greater"),
        ("?top_k=many", form(("a.png", png())), 422, "top_k: Input should be a valid integer"),
        ("?threshold=nan", form(("a.png", png())), 422, "threshold: Input should be"),
        ("?heat_map=perhaps", form(("a.png", png())), 422, "heat_map: Input should be"),
    ],
)  # fmt: skip
def test_a_request_that_cant_be_read_is_told_in_one_sentence(
    app: ASGIApp, query: str, request_: dict[str, Any], status: int, said: str
) -> None:
    answer = ask(app, "POST", PREDICT + query, **request_)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert said in answer.json()["error"]


def test_addresses_and_methods_that_arent_there_are_told_in_json(app: ASGIApp) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404), ("GET", "/%2e%2e/style.css", 404), ("GET", PREDICT, 405),
        ("DELETE", "/", 405), ("OPTIONS", PREDICT, 405), ("GET", "/docs/", 404),
    ):  # fmt: skip
        answer = ask(app, method, path)
        assert answer.status_code == status, path
        assert "/docs says" in answer.json()["error"]


# -- limits


def test_a_request_may_be_as_large_as_said_however_it_is_sent(
    model: folder.Model, worker: Worker
) -> None:
    app = build(model, worker, Limits(body=5000, rate=0))
    rest = 5000 - len(png()) - 500

    async def chunks(size: int) -> Any:
        request = httpx_body(png() + b"\0" * size)
        for start in range(0, len(request), 100):
            yield request[start : start + 100]

    kind = {"content-type": "multipart/form-data; boundary=x"}
    for size, status in ((rest, 200), (rest + 1000, 413)):
        whole = ask(app, "POST", PREDICT, content=httpx_body(png() + b"\0" * size), headers=kind)
        assert whole.status_code == status
        chunked = ask(app, "POST", PREDICT, content=chunks(size), headers=kind)
        assert "content-length" not in chunked.request.headers
        assert chunked.status_code == status
        if status == 413:
            assert whole.json() == chunked.json()
            assert "larger than 0.00476837 MiB" in whole.json()["error"]


def httpx_body(content: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n"


@pytest.mark.parametrize("length", ["-1", "many", "9" * 40, "1e3"])
def test_a_length_that_is_no_number_is_refused(app: ASGIApp, length: str) -> None:
    async def nothing() -> Any:
        yield b""

    answer = ask(app, "POST", PREDICT, content=nothing(), headers={"content-length": length})
    assert answer.status_code == 413


def test_a_request_holds_so_many_pictures(model: folder.Model, worker: Worker) -> None:
    app = build(model, worker, Limits(pictures=2, rate=0))
    pictures = [(f"{i}.png", png()) for i in range(3)]
    assert ask(app, "POST", PREDICT, **form(*pictures[:2])).status_code == 200
    answer = ask(app, "POST", PREDICT, **form(*pictures))
    assert (answer.status_code, answer.json()["error"]) == (
        413,
        "3 pictures in one request; it may hold 2.",
    )


def test_a_bucket_fills_with_time_and_each_client_has_its_own() -> None:
    now = [0.0]
    rate = Rate(2, 3, clock=lambda: now[0])
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.take("b") == 0
    now[0] = 0.5
    assert rate.take("a") == 0
    assert rate.take("a") == 0.5
    now[0] = 1000
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    # A customer has 2**64 addresses of IPv6.
    assert [rate.take(f"2001:db8::{i}") for i in range(4)] == [0, 0, 0, 0.5]
    assert rate.take("2001:db8:0:1::1") == 0
    for i in range(10_000):
        rate.take(str(i))
    assert len(rate._buckets) <= 4096


def test_who_asks_too_often_is_told_when_to_come_again(model: folder.Model, worker: Worker) -> None:
    app = build(model, worker, Limits(rate=0.01, burst=2))
    requests = [("POST", PREDICT, form(("a.png", png())))] * 3
    answers = ask_all(app, requests)
    assert sorted(x.status_code for x in answers) == [200, 200, 429]
    refused = next(x for x in answers if x.status_code == 429)
    assert 50 < int(refused.headers["retry-after"]) <= 100
    assert ask_all(app, requests[:1], client="127.0.0.2")[0].status_code == 200
    assert ask(app, "GET", "/").status_code == 200, "looking costs nothing"
    forged = {**requests[0][2], "headers": {"x-forwarded-for": "9.9.9.9"}}
    assert ask_all(app, [("POST", PREDICT, forged)])[0].status_code == 429


def test_more_than_the_queue_holds_is_told_to_come_again(model: folder.Model, held: Held) -> None:
    with working(held, capacity=2) as worker:
        app = build(model, worker, FREE)

        async def asked() -> tuple[Any, Any, Any]:
            transport = served.httpx.ASGITransport(app=app)
            async with served.httpx.AsyncClient(
                transport=transport, base_url=served.LOCAL
            ) as asking:
                first = asyncio.create_task(
                    asking.post(PREDICT, **form(("a", png()), ("b", png())))
                )
                await asyncio.to_thread(held.within.wait, 30)
                refused = await asking.post(PREDICT, **form(("c", png())))
                held.go.set()
                return await first, refused, await asking.post(PREDICT, **form(("c", png())))

        first, refused, again = asyncio.run(asked())
    assert (first.status_code, refused.status_code, again.status_code) == (200, 503, 200)
    assert refused.headers["retry-after"] == "1"
    assert "busy" in refused.json()["error"]


def test_more_requests_than_are_read_at_once_are_told_to_come_again(
    model: folder.Model, worker: Worker
) -> None:
    app = build(model, worker, FREE)
    assert isinstance(app, Guard)
    picture = form(("a.png", png()))
    app.requests = 32
    answer = ask(app, "POST", PREDICT, **picture)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert ask(app, "GET", "/api/model").status_code == 200
    app.requests, app.held = 0, 8 * FREE.body
    assert ask(app, "POST", PREDICT, **picture).status_code == 503
    app.held = 0
    assert ask(app, "POST", PREDICT, **picture).status_code == 200
    assert (app.requests, app.held) == (0, 0)


def test_an_answer_that_takes_too_long_is_given_up(model: folder.Model, held: Held) -> None:
    with working(held) as worker:
        app = build(model, worker, Limits(timeout=0.5, rate=0))
        answer = ask(app, "POST", PREDICT, **form(("a.png", png())))
        assert (answer.status_code, "No answer within 0.5 s" in answer.text) == (503, True)
        assert worker.reserved == 0
        held.go.set()


def test_a_request_that_never_ends_is_given_up(model: folder.Model, worker: Worker) -> None:
    app = build(model, worker, Limits(timeout=0.05, rate=0))

    async def endless() -> Any:
        yield httpx_body(png())[:100]
        await asyncio.sleep(30)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = ask(app, "POST", PREDICT, content=endless(), headers=kind)
    assert (answer.status_code, "to arrive" in answer.text) == (408, True)


# -- who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:8000", 200), ("LOCALHOST:1", 200), ("localhost.", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost@evil.example", 421),
        ("", 421), ("[::2]:80", 421),
    ],
)  # fmt: skip
def test_other_names_than_this_machines_are_refused(app: ASGIApp, host: str, status: int) -> None:
    answer = ask(app, "GET", "/api/model", headers={"host": host})
    assert answer.status_code == status
    assert ("error" in answer.json()) == (status != 200)


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 200), ("http://127.0.0.1", 200), ("http://evil.example", 403), ("null", 403), ("http://[", 403)],
)  # fmt: skip
def test_other_pages_may_not_send_pictures(app: ASGIApp, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"origin": origin}
    answer = ask(app, "POST", PREDICT, headers=headers, **form(("a.png", png())))
    assert answer.status_code == status
    assert not [x for x in answer.headers if x.startswith("access-control-")]


def test_every_answer_has_the_headers_that_browsers_obey(app: ASGIApp) -> None:
    asked = [("GET", "/", {}), ("GET", "/docs", {}), ("HEAD", "/", {}), ("GET", "/nothing", {}),
             ("GET", "/", {"headers": {"host": "evil"}}), ("POST", PREDICT, {}),
             ("POST", PREDICT, form(("a.png", png())))]  # fmt: skip
    for answer in ask_all(app, asked):
        assert all(answer.headers[key] == value for key, value in HEADERS.items())
        assert "set-cookie" not in answer.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_the_page_asks_only_this_server_and_has_no_script_or_style_within(app: ASGIApp) -> None:
    for path in ("/", "/docs"):
        page = ask(app, "GET", path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert "style.css" in named
        for link in named:
            assert ask(app, "GET", f"/{link.removeprefix('./')}").status_code == 200, link
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page.text)
    for path in ("/style.css", "/script.js"):
        assert not re.search(r"https?://|@import|url\(", ask(app, "GET", path).text)


def test_the_api_describes_itself(app: ASGIApp) -> None:
    said = ask(app, "GET", "/openapi.json").json()
    post = said["paths"][PREDICT]["post"]
    assert {x["name"] for x in post["parameters"]} == {"top_k", "heat_map", "threshold"}
    assert "multipart/form-data" in post["requestBody"]["content"]
    assert {"200", "408", "413", "415", "422", "429", "503"} <= set(post["responses"])
    docs = ask(app, "GET", "/docs").text
    for path in (PREDICT, "/api/model", "/health", "top_k", "Retry-After"):
        assert path in docs


# -- the worker


def test_what_waits_is_computed_together(held: Held) -> None:
    with working(held) as worker:
        first = worker.submit(blank(0), heat=False)
        assert held.within.wait(30)
        rest = [worker.submit(blank(i), heat=False) for i in range(1, 8)]
        rest[2].cancel()
        held.go.set()
        assert first.result(30).scores.argmax() == 0
        for i, future in enumerate(rest, 1):
            if future is not rest[2]:
                assert future.result(30).scores.argmax() == i % 3
    assert held.sizes == [1, 1, 3, 3]


def test_an_error_is_told_to_those_whose_batch_it_was(model: folder.Model, held: Held) -> None:
    held.error = DataError("the disk is gone")
    held.go.set()
    with working(held) as worker:
        app = build(model, worker, FREE)
        answer = ask(app, "POST", PREDICT, **form(("a.png", png()), ("b.png", png())))
        assert (answer.status_code, answer.json()) == (503, {"error": "the disk is gone"})
        assert worker.reserved == 0
        held.error = None
        assert ask(app, "POST", PREDICT, **form(("a.png", png()))).status_code == 200


def test_a_defect_is_an_answer_without_a_traceback(
    model: folder.Model, held: Held, capsys: pytest.CaptureFixture[str]
) -> None:
    held.error = KeyError("a defect\x1b[2J")
    held.go.set()
    with working(held) as worker:
        answer = ask(build(model, worker, FREE), "POST", PREDICT, **form(("a.png", png())))
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "KeyError" in said
    assert "\x1b" not in said


def test_a_full_disk_is_told(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", full)
    answer = ask(app, "POST", PREDICT, **form(("a.png", png())))
    assert (answer.status_code, list(answer.json())) == (503, ["error"])
    assert "No space left" in answer.json()["error"]


def test_weights_that_give_no_numbers_are_told(model: folder.Model, held: Held) -> None:
    held.go.set()
    with working(held) as worker:
        held.scores = lambda records: np.full((len(records), 3), np.nan)  # type: ignore[method-assign]
        answer = ask(build(model, worker, FREE), "POST", PREDICT, **form(("a.png", png())))
    assert answer.status_code == 503
    assert "weights" in answer.json()["error"]


def test_a_worker_that_ends_leaves_nobody_waiting(held: Held) -> None:
    with working(held) as worker:
        worker.submit(blank(0), heat=False)
        assert held.within.wait(30)
        waiting = worker.submit(blank(1), heat=False)

        def go_once_it_ends() -> None:
            while not worker._ends:
                time.sleep(0.01)
            held.go.set()

        threading.Thread(target=go_once_it_ends, daemon=True).start()
    for future in (waiting, worker.submit(blank(2), heat=False)):
        with pytest.raises(CancelledError):
            future.result(30)
    assert not worker.alive


def test_what_loading_the_model_raises_comes_before_anything_is_served() -> None:
    def load() -> Classifier:
        raise DataError("no such weights")

    with pytest.raises(DataError, match="no such weights"), Worker(load, 1):
        pass


def test_a_reservation_is_given_back(held: Held) -> None:
    worker = working(held, capacity=3)
    with worker.reserve(2), pytest.raises(BusyError), worker.reserve(2):
        pass
    with worker.reserve(3):
        pass


# -- the command


def test_a_port_that_is_taken_is_one_message(
    model: folder.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(model.folder), "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"recaffe: Can't serve on 127.0.0.1:{port}: another program has that port. Give --port another "
        "one, or 0 for any that is free.\n"
    )


def test_a_host_that_isnt_this_machines_is_told() -> None:
    with pytest.raises(MachineError, match=r"--host no\.such\.name\.invalid is no name"):
        listening("no.such.name.invalid", 0)
    with pytest.raises(MachineError, match="this machine doesn't have that address"):
        listening("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)]
)
def test_who_opens_it_to_others_is_warned(
    model: folder.Model, held: Held, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], host: str, warned: bool,
) -> None:  # fmt: skip
    hosts: list[frozenset[str]] = []

    def stopped(server: Any, sockets: list[socket.socket]) -> None:
        hosts.append(server.config.app.hosts)

    monkeypatch.setattr("uvicorn.Server.run", stopped)
    with listening(host, 0) as listener:
        run.serve(model, lambda: held, host, listener, FREE, 0.0)  # type: ignore[arg-type,return-value]
    said = capsys.readouterr().err
    assert f"http://{host}:" in said
    assert ("no password" in said) == warned
    assert bool(hosts[0]) != warned


def test_a_package_that_lacks_is_named(
    model: folder.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    assert main(["serve", str(model.folder)]) == 1
    assert "recaffe serve needs uvicorn" in (said := capsys.readouterr().err)
    assert "'.[serve]'" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--port 65536", "'65536' is not a port"),
        ("--port x", "'x' is not a port"),
        ("--rate -1", "'-1' is not a number of requests"),
        ("--rate nan", "'nan' is not a number of requests"),
        ("--max-mb 0", "'0' is not a number from 1 on"),
        ("--threshold 2", "'2' is not a probability"),
        ("--hots 0.0.0.0", "--host is meant"),
    ],
)
def test_wrong_flags_are_told(flags: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "model", *flags.split()]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_model_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path)]) == 1
    assert "holds no model" in capsys.readouterr().err


def test_a_damaged_model_isnt_served(
    model: folder.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model.folder, tmp_path / "m")
    with (tmp_path / "m" / "weights.caffemodel").open("ab") as f:
        f.write(b"x")
    assert main(["serve", str(tmp_path / "m"), "--port", "0"]) == 1
    assert "is damaged" in capsys.readouterr().err
