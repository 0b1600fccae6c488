"""Who may ask the server, and what its pages allow."""

from __future__ import annotations

import re

import pytest
from starlette.types import ASGIApp

from recaffe.serve.guard import HEADERS
from tests.served import PREDICT, ask, ask_all, form, png


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
