"""Published weights over a real connection: whole, cut, moved on, refused, and never wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recaffe.errors import ConfigError, MachineError
from recaffe.net import weights as caffemodel
from recaffe.weights import cache, download, fetch
from recaffe.weights.source import MIRRORS, Source, of_url
from tests.file_server import Served, Server, running

BLOBS = [np.random.default_rng(0).normal(size=(40, 30, 5, 5)).astype(np.float32)]
MODEL = caffemodel.to_net("n", [("conv", "Convolution", BLOBS)]).SerializeToString()
OTHER = caffemodel.to_net("n", [("conv", "Convolution", [BLOBS[0] + 1])]).SerializeToString()
HTML = b"<!DOCTYPE html><html><body>Confirm that you want to download</body></html>"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    monkeypatch.delenv(MIRRORS, raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as found:
        yield found


def source(*urls: str, **about: object) -> Source:
    """The zoo's entry of MODEL."""
    known: dict[str, object] = {"sha256": hashlib.sha256(MODEL).hexdigest(), "size": len(MODEL)}
    known |= {"page": "the-page", **about}
    return Source(name="net", file="n.caffemodel", urls=urls, **known)  # type: ignore[arg-type]


def refused(wanted: Source) -> str:
    """What is said where nothing could be fetched; nothing is taken for the file."""
    with pytest.raises(MachineError) as told:
        fetch.get(wanted)
    assert not cache.path_of(wanted).exists()
    assert cache.note_of(cache.path_of(wanted)) is None
    return str(told.value)


def test_a_file_is_fetched_once_and_checked(server: Server) -> None:
    server.files["n"] = Served(MODEL)
    wanted = source(f"{server.url}/n")
    path, note = fetch.get(wanted)
    assert path.read_bytes() == MODEL
    assert (note.verified, note.size) == (True, len(MODEL))
    assert fetch.get(wanted) == (path, note)
    assert len(server.asked) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [
        ".lock", "n.caffemodel", "n.caffemodel.json",
    ]  # fmt: skip


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server) -> None:
    server.files["n"] = Served(MODEL)
    wanted = source(f"{server.url}/n")
    path, _ = fetch.get(wanted)
    with path.open("r+b") as f:
        f.write(b"\xff")
    assert fetch.get(wanted)[0].read_bytes() == MODEL
    path.write_bytes(MODEL[:-1])
    assert fetch.get(wanted)[0].read_bytes() == MODEL
    assert len(server.asked) == 3


def test_a_file_whose_note_a_kill_prevented_is_not_fetched_again(server: Server) -> None:
    server.files["n"] = Served(MODEL)
    wanted = source(f"{server.url}/n")
    path, note = fetch.get(wanted)
    path.with_name("n.caffemodel.json").unlink()
    assert fetch.get(wanted) == (path, note)
    assert len(server.asked) == 1


def test_a_whole_file_that_a_kill_left_unchecked_is_not_fetched_again(server: Server) -> None:
    wanted = source(f"{server.url}/n")
    cache.path_of(wanted).parent.mkdir(parents=True)
    cache.path_of(wanted).with_name("n.caffemodel.part").write_bytes(MODEL)
    assert fetch.get(wanted)[0].read_bytes() == MODEL
    assert server.asked == []


def test_what_another_process_fetched_meanwhile_is_taken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").write_bytes(MODEL)
    wanted = source(f"{server.url}/n", sha256="", size=0)
    locked = cache.locked

    @contextmanager
    def after_another(of: Source) -> Iterator[None]:
        with monkeypatch.context() as free:
            free.setattr(cache, "locked", locked)
            cache.add(of, tmp_path / "theirs", "another process")
        with locked(of):
            yield

    monkeypatch.setattr(cache, "locked", after_another)
    path, note = fetch.get(wanted)
    assert (path.read_bytes(), note.came_from) == (MODEL, "another process")
    assert server.asked == []


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.lists(st.integers(0, len(MODEL)), max_size=4),
    ranges=st.booleans(),
    length=st.booleans(),
    etag=st.sampled_from(['"one"', 'W/"weak"', ""]),
    kind=st.sampled_from(["sha256", "sha1", "sha384"]),
)
def test_whatever_is_cut_what_arrives_is_the_file_or_nothing(
    server: Server, cuts: list[int], ranges: bool, length: bool, etag: str, kind: str
) -> None:
    server.files["n"] = Served(MODEL, ranges=ranges, length=length, etag=etag, cuts=list(cuts))
    about = {"size": 0, "sha256": "", kind: hashlib.new(kind, MODEL).hexdigest()}
    wanted = source(f"{server.url}/n", **about)
    cache.remove(wanted)
    download.forget(cache.path_of(wanted).with_name("n.caffemodel.part"))
    for _ in range(len(cuts) + 1):  # what has arrived is kept from one command to the next
        try:
            path, note = fetch.get(wanted)
        except MachineError:
            assert not cache.path_of(wanted).exists()
        else:
            assert path.read_bytes() == MODEL
            assert note.verified
            return
    raise AssertionError("it never arrived")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=4),
    ranges=st.booleans(),
    length=st.booleans(),
    shift=st.integers(-3, 3),
    about=st.sampled_from([{}, {"size": 0}, {"sha256": ""}, {"sha256": "", "size": 0}]),
)
def test_whatever_another_file_is_and_however_it_comes_it_is_refused(
    server: Server, data: bytes, cuts: list[int], ranges: bool, length: bool, shift: int,
    about: dict[str, object],
) -> None:  # fmt: skip
    served = Served(data, ranges=ranges, length=length, cuts=list(cuts), shift=shift)
    server.files["n"] = served
    assert "could not be fetched" in refused(source(f"{server.url}/n", **about))


def test_a_cut_file_is_gone_on_with_where_it_ended(server: Server) -> None:
    server.files["n"] = Served(MODEL, cuts=[1000, 2000])
    fetch.get(source(f"{server.url}/n"))
    assert server.asked == [("n", ""), ("n", "bytes=1000-"), ("n", "bytes=3000-")]


def test_a_later_command_goes_on_as_well_and_from_another_place(server: Server) -> None:
    server.files["a"] = Served(MODEL, cuts=[1000, 0, 0, 0])
    server.files["b"] = Served(MODEL, etag='"two"')
    refused(source(f"{server.url}/a"))
    fetch.get(source(f"{server.url}/b"))
    assert server.asked[-1] == ("b", "bytes=1000-")


@pytest.mark.parametrize("etags", [('"one"', '"two"'), ("", "")])
def test_a_file_that_changed_on_the_server_meanwhile_is_begun_anew(
    etags: tuple[str, str], server: Server
) -> None:
    server.files["n"] = Served(OTHER, cuts=[len(OTHER) // 2, 0, 0, 0], etag=etags[0])
    wanted = source(f"{server.url}/n", sha256="", size=0)
    refused(wanted)
    server.files["n"] = Served(MODEL, etag=etags[1])
    assert fetch.get(wanted)[0].read_bytes() == MODEL


def test_a_beginning_of_another_file_is_thrown_away(server: Server) -> None:
    server.files["n"] = Served(OTHER, cuts=[len(OTHER) // 2, 0, 0, 0])
    refused(source(f"{server.url}/n"))
    server.files["n"] = Served(MODEL)  # under the same ETag
    assert fetch.get(source(f"{server.url}/n"))[0].read_bytes() == MODEL


def test_a_server_that_answers_from_another_byte_is_not_believed(server: Server) -> None:
    server.files["n"] = Served(MODEL, cuts=[1000], shift=10)
    assert "from byte 1,010, where byte 1,000 was asked for" in refused(source(f"{server.url}/n"))


def test_a_stop_keeps_what_has_arrived(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["n"] = Served(MODEL)
    monkeypatch.setattr(download, "_CHUNK", 1000)
    looks = iter([False, False, True])
    with monkeypatch.context() as patched:
        patched.setattr(download.stop, "asked", lambda: next(looks))
        with pytest.raises(KeyboardInterrupt):
            fetch.get(source(f"{server.url}/n"))
    fetch.get(source(f"{server.url}/n"))
    (_, none), (_, again) = server.asked
    assert none == ""
    assert 0 < int(again.removeprefix("bytes=").removesuffix("-")) <= 2000


def test_a_file_that_is_here_is_used_without_a_right_to_write(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["n"] = Served(MODEL)
    found = fetch.get(source(f"{server.url}/n"))

    def refuse(*args: object) -> None:
        raise PermissionError

    for name in ("locked", "keep", "remove"):
        monkeypatch.setattr(cache, name, refuse)
    assert fetch.get(source(f"{server.url}/n")) == found


def test_a_url_is_taken_as_people_write_it(server: Server) -> None:
    server.files["my%20n%C3%A4t"] = Served(MODEL)
    for url in ("my nät", "my%20n%C3%A4t"):
        wanted = of_url(f"{server.url}/{url}", hashlib.sha256(MODEL).hexdigest())
        assert fetch.get(wanted)[0].read_bytes() == MODEL
        cache.remove(wanted)


def test_a_server_that_is_busy_is_asked_again(server: Server) -> None:
    server.files["n"] = Served(MODEL, states=[503, 429])
    assert fetch.get(source(f"{server.url}/n"))[0].read_bytes() == MODEL


def test_places_are_tried_in_turn_and_mirrors_first(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["n.caffemodel"] = Served(MODEL)
    monkeypatch.setenv(MIRRORS, f"{server.url}/mirror/ {server.url}")
    _, note = fetch.get(source(f"{server.url}/published"))
    assert server.asked == [("mirror/n.caffemodel", ""), ("n.caffemodel", "")]
    assert note.came_from == f"{server.url}/n.caffemodel"


def test_a_folder_is_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "n.caffemodel").write_bytes(MODEL)
    for mirror in (str(tmp_path / "kept"), (tmp_path / "kept").as_uri()):
        monkeypatch.setenv(MIRRORS, mirror)
        wanted = source("https://no.such.host.invalid/n")
        assert fetch.get(wanted)[0].read_bytes() == MODEL
        cache.remove(wanted)


REFUSALS = {
    "not there": (None, "the server answers 404"),
    "forbidden": (Served(MODEL, states=[403]), "the server answers 403"),
    "a page": (Served(HTML, length=False), "answers with an HTML page"),
    "a page that says how long it is": (Served(HTML), "it has 74 bytes, not"),
    "a page that begins oddly": (
        Served(b"<!-- --> " + HTML, length=False),
        "it has fewer bytes than are here already",
    ),
    "another size": (Served(MODEL + b"x"), f"bytes, not {len(MODEL):,} as published"),
    "another file": (Served(OTHER), "its SHA-256 is"),
    "always cut": (Served(MODEL, cuts=[0] * 9), "the connection was cut after 0 of"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_went_wrong_is_one_message_with_the_way_by_hand(name: str, server: Server) -> None:
    file, says = REFUSALS[name]
    if file:
        server.files["n"] = Served(**{**vars(file), "states": [*file.states], "cuts": [*file.cuts]})
    said = refused(source(f"{server.url}/n"))
    for words in (says, f"{server.url}/n", "recaffe weights add net FILE", "the-page", MIRRORS):
        assert words in said, words


def test_another_file_is_kept_aside_under_a_name_that_is_told(server: Server) -> None:
    server.files["n"] = Served(OTHER)
    wanted = source(f"{server.url}/n")
    said = refused(wanted)
    aside = cache.path_of(wanted).with_name("n.caffemodel.wrong")
    assert f"kept as {aside}" in said
    assert aside.read_bytes() == OTHER
    assert not list(aside.parent.glob("*.part*"))


def test_no_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as gone:
        pass
    assert "no connection (" in refused(source(f"{gone.url}/n"))


def test_weights_without_a_published_digest_must_be_a_caffemodel(server: Server) -> None:
    wanted = source(f"{server.url}/n", sha256="", size=0)
    server.files["n"] = Served(b"name: 'n'\n")
    assert "holds no weights" in refused(wanted)
    server.files["n"] = Served(MODEL[:-5])
    assert "cut short" in refused(wanted)
    server.files["n"] = Served(MODEL)
    _, note = fetch.get(wanted)
    assert not note.verified


def test_a_url_of_the_config_is_looked_for_in_mirrors_only_by_its_digest(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRRORS, "http://mirror")
    assert of_url("https://a/b%20c.caffemodel").places == ["https://a/b%20c.caffemodel"]
    known = of_url("https://a/b.caffemodel?dl=1", "0" * 64)
    assert known.places == ["http://mirror/b.caffemodel", "https://a/b.caffemodel?dl=1"]


@pytest.mark.parametrize("url", ["https://", "https://host/", "https://[host/a", "s3://a/b"])
def test_a_url_of_no_file_is_a_mistake_in_the_config(url: str) -> None:
    with pytest.raises(ConfigError, match="no URL of a file"):
        of_url(url)


@given(st.text(min_size=1))
def test_a_url_cannot_choose_where_its_file_goes(text: str) -> None:
    try:
        found = of_url(f"https://host/{text}")
    except ConfigError:
        return
    assert "/" not in found.file
    assert found.file not in ("", ".", "..")
    assert not found.file.startswith(".")


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["n"] = Served(MODEL)
    usage = type("usage", (), {"free": len(MODEL) - 1})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)
    assert "has room for" in refused(source(f"{server.url}/n"))


def test_a_cache_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "file"))
    assert cache.FOLDER in refused(source("http://127.0.0.1:9/n"))


def test_processes_that_want_the_same_file_fetch_it_once(server: Server) -> None:
    server.files["n"] = Served(MODEL, cuts=[5000])
    digest = hashlib.sha256(MODEL).hexdigest()
    command = [sys.executable, "-m", "recaffe", "weights", "fetch", f"{server.url}/n"]
    started = [
        subprocess.Popen([*command, "--sha256", digest], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    path = cache.path_of(of_url(f"{server.url}/n", digest))
    for process in started:
        assert process.communicate()[0] == f"{path}\n"
        assert process.returncode == 0
    assert server.asked == [("n", ""), ("n", "bytes=5000-")]
    assert path.read_bytes() == MODEL
