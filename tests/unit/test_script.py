"""A rule's script ends a user's mistake with one message and keeps a defect's traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from recaffe import image
from recaffe.config import ROOT
from recaffe.files import sha256


def run(body: str, tmp_path: Path) -> tuple[int, str, str]:
    """Exit status, what the terminal would show, and the log."""
    log = tmp_path / "logs" / "x.log"
    code = (
        "from recaffe.errors import DataError\nfrom recaffe.script import script, tell\n"
        f"with script({str(log)!r}):\n    {body}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, log.read_text(encoding="utf-8")


def test_a_mistake_is_one_message_without_a_traceback(tmp_path: Path) -> None:
    status, shown, log = run("raise DataError('l.txt, line 3: no label. Write one.')", tmp_path)
    assert status == 1
    assert shown.strip() == "recaffe: l.txt, line 3: no label. Write one."
    assert "Traceback" not in log


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    status, shown, _ = run("raise KeyboardInterrupt", tmp_path)
    assert status == 130
    assert "Run the same command again" in shown


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    status, shown, _ = run("open('/dev/full', 'w').write('x' * 99999)", tmp_path)
    assert status == 1
    assert "No space left" in shown


def test_a_defect_keeps_its_traceback_in_the_log(tmp_path: Path) -> None:
    status, _, log = run("print('before'); 1 / 0", tmp_path)
    assert status == 1
    assert "before" in log
    assert "ZeroDivisionError" in log


def test_what_is_told_reaches_terminal_and_log(tmp_path: Path) -> None:
    status, shown, log = run("print('quiet'); tell('loud')", tmp_path)
    assert status == 0
    assert shown == "loud\n"
    assert log == "quiet\nloud\n"


def test_in_an_image_the_log_says_which_and_what_is_not_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "MARKER", tmp_path / "marker")
    assert image.begins() is image.ends() is image.name() is None
    pins = sha256(ROOT / "constraints.txt")
    image.MARKER.write_text(json.dumps({"image": "recaffe:cpu", "commit": "abc", "pins": pins}))
    assert image.begins() == "In the image recaffe:cpu, commit abc."
    assert image.ends() is None
    image.MARKER.write_text(json.dumps({"image": "recaffe:cpu", "commit": "abc", "pins": "old"}))
    assert "make images" in str(image.begins())
    stray = ModuleType("stray.part")
    stray.__file__ = "/mnt/snakemake_searchpaths/item_2/stray/part.py"
    monkeypatch.setitem(sys.modules, "stray.part", stray)
    assert image.ends() == "Not from the image: stray."
