"""Programs that the checks find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.doctor.helpers import Program


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Put a shell script on a PATH that has nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, *lines: str) -> Path:
        file = folder / name
        file.write_text("\n".join(("#!/bin/sh", *lines, "")))
        file.chmod(0o755)
        return file

    return write
