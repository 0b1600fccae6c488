"""Real Caffe as a function: a net's text and arrays in, all its blobs and gradients out."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.parity.caffe_worker import read, write

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Arrays = dict[str, np.ndarray]


class CaffeDiedError(Exception):
    """Caffe stopped at one of its checks; the text is the end of its stderr."""


@dataclass
class Answer:
    """All that Caffe computed: blobs and their gradients by name, parameters by layer."""

    loss: float
    outputs: list[str]
    blobs: Arrays
    diffs: Arrays
    params: dict[str, list[np.ndarray]]
    param_diffs: dict[str, list[np.ndarray]]


class Caffe:
    """A long-lived pycaffe process. One that Caffe aborted is started anew by the next call."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # open until close()

    def run(
        self,
        net: str,
        phase: str = "TRAIN",
        blobs: Mapping[str, np.ndarray] | None = None,
        params: Mapping[str, Sequence[np.ndarray]] | None = None,
        diffs: Mapping[str, np.ndarray] | None = None,
        backward: bool = True,
        passes: int = 1,
        level: int = 0,
        stages: Sequence[str] = (),
        seed: int | None = None,
    ) -> Answer:
        """Build `net` (prototxt), set `blobs` and `params`, go forward (`passes` times) and backward.

        `diffs` are the gradients that backward starts from, beside the net's own losses. Gradients
        of data need `force_backward: true` in the net. Raises `CaffeDiedError` with Caffe's words.
        """
        arrays: dict[tuple[str, str, int], np.ndarray] = {}
        arrays |= {("blob", name, 0): a for name, a in (blobs or {}).items()}
        arrays |= {("diff", name, 0): a for name, a in (diffs or {}).items()}
        for name, values in (params or {}).items():
            arrays |= {("param", name, i): a for i, a in enumerate(values)}
        header = {
            "net": net, "phase": phase, "backward": backward, "passes": passes,
            "level": level, "stages": list(stages), "seed": seed,
        }  # fmt: skip
        answer, results = self._ask(header, arrays)
        if "error" in answer:
            raise CaffeDiedError(answer["error"])
        out = Answer(answer["loss"], answer["outputs"], {}, {}, {}, {})
        for (kind, name, _), array in results.items():
            if kind == "blob":
                out.blobs[name] = array
            elif kind == "diff":
                out.diffs[name] = array
            else:
                target = out.params if kind == "param" else out.param_diffs
                target.setdefault(name, []).append(array)
        return out

    def close(self) -> None:
        """End the process."""
        self._stderr.close()
        if self._process is not None:
            self._hang_up()
        self._stderr.close()

    def _hang_up(self) -> None:
        assert self._process and self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._process = None

    def _ask(self, header: dict, arrays: dict) -> tuple[dict, dict]:
        if self._process is None:
            self._start()
        assert self._process and self._process.stdin and self._process.stdout
        try:
            write(self._process.stdin, header, arrays)
            message = read(self._process.stdout)
        except BrokenPipeError:
            message = None
        if message is None:
            code = self._process.wait()
            self._hang_up()
            self._stderr.seek(0)
            said = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
            raise CaffeDiedError(f"Caffe ended with {code}:\n" + "\n".join(said[-12:]))
        return message

    def _start(self) -> None:
        self._stderr.seek(0)
        self._stderr.truncate()
        self._process = subprocess.Popen(
            [os.environ.get("CAFFE_PYTHON", "/usr/bin/python3.11"), str(HERE / "caffe_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(self.home),
        )


def environment(home: Path) -> dict[str, str]:
    """Environment for Caffe's own programs and for pycaffe, on one thread and quiet."""
    env = dict(os.environ)
    for name, folder in (("PYTHONPATH", "python"), ("LD_LIBRARY_PATH", "lib"), ("PATH", "bin")):
        env[name] = os.pathsep.join(filter(None, (str(home / folder), env.get(name))))
    return {**env, "GLOG_minloglevel": "1", "GLOG_logtostderr": "1", "OPENBLAS_NUM_THREADS": "1"}


def find_home() -> Path | None:
    """The installed Caffe: CAFFE_HOME, or what `make caffe` built; None if there is none."""
    said = os.environ.get("CAFFE_HOME")
    candidates = [Path(said)] if said else [ROOT / ".caffe" / "install"]
    return next((c for c in candidates if (c / "python" / "caffe").is_dir()), None)
