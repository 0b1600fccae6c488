"""`recaffe serve` under load, under nonsense, and when it is told to end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import small_models
from tests.faults.started import PATIENCE, THOROUGH
from tests.served import form, png, started

REQUESTS, AT_ONCE = (2000 if THOROUGH else 200), 16
GROWTH = 150 * 2**20  # bytes: less than the largest queue of the largest requests would keep
EXAMPLES = 2000 if THOROUGH else 150
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
PATHS = ("/", "/api/predict", "/api/model", "/health", "/docs", "/openapi.json", "/nothing")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.build(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def model(built: Path) -> Path:
    return built / "results" / "own" / "first" / "model"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[tuple[int, str]]:
    """Its process and its address."""
    with started(model, "--rate", "0") as (program, address):
        yield program.pid, address
        assert program.poll() is None, "it has lived through all of it"


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_many_at_once_are_all_answered_right_and_leave_no_memory_behind(
    server: tuple[int, str], built: Path
) -> None:
    pid, address = server
    paths = [Path(x) for x in small_models.in_test_order(built)]
    requests = [form(x) for x in paths]
    with httpx.Client(timeout=PATIENCE) as client:
        alone = [client.post(f"{address}/api/predict", **x).json()["results"][0] for x in requests]
        client.post(f"{address}/api/predict?heat_map=1", **requests[0])
    before = resident(pid)

    async def load() -> list[httpx.Response]:
        gate = asyncio.Semaphore(AT_ONCE)
        async with httpx.AsyncClient(timeout=PATIENCE) as client:

            async def one(i: int) -> httpx.Response:
                async with gate:
                    heat = str(i % 10 == 0).lower()
                    url = f"{address}/api/predict?heat_map={heat}"
                    return await client.post(url, **requests[i % len(paths)])

            return await asyncio.gather(*map(one, range(REQUESTS)))

    answers = asyncio.run(load())
    for i, answer in enumerate(answers):
        assert answer.status_code == 200
        found, right = answer.json()["results"][0], alone[i % len(paths)]
        assert found["name"] == right["name"]
        assert [x["p"] for x in found["top"]] == pytest.approx([x["p"] for x in right["top"]], abs=1e-5)  # fmt: skip
        assert ("heat_map" in found) == (i % 10 == 0)
    assert resident(pid) - before < GROWTH
    assert httpx.get(f"{address}/health").json()["pictures"] == 0


def test_large_pictures_from_all_sides_are_answered_or_refused(model: Path) -> None:
    with started(model, "--rate", "0", "--queue", "4") as (program, address):
        large = form(*((f"{i}.png", png(1500, 1500, i)) for i in range(3)))

        async def load() -> list[int]:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                sent = [client.post(f"{address}/api/predict", **large) for _ in range(12)]
                return [x.status_code for x in await asyncio.gather(*sent)]

        found = asyncio.run(load())
        # How many come while there is no room is chance; that they are told so is tests/unit's.
        assert 200 in found
        assert set(found) <= {200, 503}
        assert resident(program.pid) < 2**31
        assert httpx.post(f"{address}/api/predict", timeout=PATIENCE, **large).status_code == 200


def sent(address: str, data: bytes, whole: bool) -> bytes:
    """Raw bytes to the server, and all that it says until it closes the connection.

    What isn't a whole request ends on this side, so that it doesn't wait for the rest.
    """
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(data)
        if not whole:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while part := connection.recv(65536):
                said += part
        except ConnectionResetError:
            pass  # what it hadn't read when it closed
        return said


WORDS = st.text(
    st.characters(codec="latin-1", exclude_characters="\r\n\0"), min_size=1, max_size=30
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(
        ("Content-Type", "Content-Disposition", "Origin", "Accept", "Range", "Expect", "Cookie", "X-Forwarded-For",
         "Transfer-Encoding", "Content-Encoding", "Content-Length", "Connection", "Upgrade", "If-None-Match")
    ),
    st.one_of(
        WORDS,
        st.sampled_from(
            ("multipart/form-data; boundary=x", "multipart/form-data", "application/json", "chunked", "0", "-1",
             "9999999999999999999", "websocket", "multipart/form-data; boundary=x; charset=utf-7",
             "multipart/form-data; boundary=x; charset=undefined", "100-continue", "null", "http://[")
        ),
    ),
    max_size=4,
)  # fmt: skip
PARTS = st.lists(
    st.tuples(
        st.sampled_from(
            (b'form-data; name="files"; filename="a.png"', b'form-data; name="files"; filename="\xff\xfe/../\\"',
             b"form-data", b'form-data; name="top_k"', b'form-data; name=""; filename*=utf-8\'\'%ff', b"")
        ),
        st.one_of(st.binary(max_size=200), st.just(png()), st.builds(lambda x: png()[:x], st.integers(1, 400))),
    ),
    max_size=4,
)  # fmt: skip


def multipart(parts: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(
        b"--x\r\nContent-Disposition: " + head + b"\r\n\r\n" + content + b"\r\n"
        for head, content in parts
    )
    return body + b"--x--\r\n"


QUERIES = st.one_of(
    st.just(""),
    st.dictionaries(
        st.sampled_from(("top_k", "heat_map", "threshold", "other")),
        st.one_of(st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8), st.booleans()),
    ).map(lambda x: f"?{httpx.QueryParams({k: str(v) for k, v in x.items()})}" if x else ""),
)


NO_EXCUSE = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=not THOROUGH,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@NO_EXCUSE
@given(query=QUERIES, parts=PARTS, headers=HEADERS, cut=st.integers(0, 20))
def test_forms_of_any_content_are_answered(
    server: tuple[int, str], query: str, parts: list[tuple[bytes, bytes]], headers: dict[str, str], cut: int
) -> None:  # fmt: skip
    body = multipart(parts)
    body = body[: len(body) - cut]
    for name in ("Transfer-Encoding", "Connection", "Upgrade", "Expect"):
        headers.pop(name, None)
    headers |= {"Content-Length": str(len(body))}
    if "multipart" not in headers.get("Content-Type", ""):
        headers |= {"Content-Type": "multipart/form-data; boundary=x"}
    said = sent(server[1], request("POST", f"/api/predict{query}", headers, body), whole=True)
    assert said.startswith((b"HTTP/1.1 200", b"HTTP/1.1 4")), said
    head, _, answer = said.partition(b"\r\n\r\n")
    if b"application/json" in head:  # all but what the server says of a broken head by itself
        assert ("results" if b" 200 " in head[:16] else "error") in json.loads(answer)
    check(said)


@NO_EXCUSE
@given(
    method=st.sampled_from(METHODS), path=st.sampled_from(PATHS), query=QUERIES, headers=HEADERS,
    body=st.one_of(st.binary(max_size=300), PARTS.map(multipart)),
)  # fmt: skip
def test_nonsense_is_never_a_failure_of_the_server(
    server: tuple[int, str], method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> None:  # fmt: skip
    check(sent(server[1], request(method, path + query, headers, body), whole=False))


@NO_EXCUSE
@given(data=st.binary(max_size=500))
def test_bytes_that_are_no_request_are_never_a_failure_of_the_server(
    server: tuple[int, str], data: bytes
) -> None:
    check(sent(server[1], data, whole=False))


def check(said: bytes) -> None:
    head = said.split(b"\r\n", 1)[0]
    assert not head or head.startswith(b"HTTP/1.1 "), said
    # 503 is what it says when it has no room, and nothing here takes any.
    assert not head.startswith(b"HTTP/1.1 5"), said
    assert b"Traceback" not in said
    assert b"site-packages" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(model: Path, number: signal.Signals) -> None:
    with started(model) as (program, address):
        assert httpx.get(f"{address}/health").status_code == 200
        program.send_signal(number)
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == (130 if number == signal.SIGINT else -number)
    assert said == ("recaffe: stopped.\n" if number == signal.SIGINT else "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")


def test_a_signal_ends_it_while_a_request_hangs(model: Path) -> None:
    with started(model) as (program, address):
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
            )
            while httpx.get(f"{address}/health").status_code != 200:
                time.sleep(0.1)
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 130
    assert "Traceback" not in said


def test_who_connects_and_says_nothing_keeps_nobody_out(
    model: Path,
) -> None:
    with started(model, "--rate", "0") as (_, address):
        host, _, port = address.removeprefix("http://").partition(":")
        silent = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(200)]
        try:
            for connection in silent:
                connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            answer = httpx.post(
                f"{address}/api/predict", timeout=PATIENCE, **form(("a.png", png()))
            )
            assert answer.status_code == 200
            # And the server hangs up on them.
            assert [x.recv(1) for x in silent] == [b""] * len(silent)
        finally:
            for connection in silent:
                connection.close()


def test_bodies_that_never_end_leave_room_for_others(model: Path) -> None:
    with started(model, "--rate", "0", "--timeout", "2") as (_, address):
        host, _, port = address.removeprefix("http://").partition(":")
        begun: list[Any] = []
        try:
            for _ in range(40):
                connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
                begun.append(connection)
                connection.sendall(
                    b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
                )
            said = [x.recv(65536).split(b"\r\n", 1)[0] for x in begun]
            statuses = {x.split(b" ")[1] for x in said}
            assert b"408" in statuses
            assert statuses <= {b"408", b"503"}
            answer = httpx.post(
                f"{address}/api/predict", timeout=PATIENCE, **form(("a.png", png()))
            )
            assert answer.status_code == 200
        finally:
            for connection in begun:
                connection.close()
