"""Requests that are none, and the limits of those that are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import ASGIApp

from recaffe.model import folder
from recaffe.serve import Limits
from recaffe.serve.app import build
from recaffe.serve.guard import Guard
from recaffe.serve.rate import Rate
from recaffe.serve.worker import Worker
from tests import served
from tests.served import FREE, PREDICT, Held, ask, ask_all, form, png, working


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
