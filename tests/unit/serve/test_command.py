"""`recaffe serve`: a user's mistakes are one message."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from recaffe.cli import main
from recaffe.errors import MachineError
from recaffe.model import folder
from recaffe.serve import run
from recaffe.serve.listen import listening
from tests.served import FREE, Held


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
