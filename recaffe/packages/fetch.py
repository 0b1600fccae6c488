"""Fetch one file from the package registry with pip, and trust nothing but its SHA-256."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from recaffe.errors import MachineError
from recaffe.files import sha256, write_aside


def fetch(package: str, version: str, digest: str, out: Path) -> None:
    """Download the distribution whose file has this SHA-256 to `out`.

    pip checks the hash before it looks inside; it is checked again here. Raises `MachineError` if
    the registry can't be reached or the file is another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{package}=={version} --hash=sha256:{digest}\n")
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--require-hashes", "--dest", folder, "--requirement", str(wanted),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        files = [p for p in Path(folder).iterdir() if p != wanted]
        if done.returncode or len(files) != 1:
            lines = [x for x in done.stderr.strip().splitlines() if x.strip()]
            if "DO NOT MATCH THE HASHES" in done.stderr:
                raise MachineError(
                    f"{package} {version} from the registry doesn't have the SHA-256 {digest}. "
                    "It is not the file that recaffe was tested with; nothing was kept."
                )
            raise MachineError(
                f"{package} {version} could not be fetched with pip. Check the network and pip's own "
                f"settings, then run again. pip said: {lines[-1] if lines else 'nothing'}"
            )
        check(files[0], digest)
        with write_aside(out) as aside:
            aside.write_bytes(files[0].read_bytes())


def check(path: Path, digest: str) -> None:
    """Raises `MachineError` unless the file has this SHA-256."""
    found = sha256(path)
    if found != digest:
        raise MachineError(
            f"{path} has the SHA-256 {found}, not {digest}. Delete it and run again."
        )
