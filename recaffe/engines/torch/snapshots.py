"""Snapshots: caffemodel and solverstate as Caffe writes them, and what Caffe forgets beside them.

A snapshot counts only once its .json stands, which is written last and holds the digests of both
files; so a kill at any moment leaves the one before. The best weights on the validation set are
kept under the iteration's number for as long as a snapshot refers to them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recaffe.engines.torch.net import Net
from recaffe.engines.torch.sgd import SGD, current_step
from recaffe.errors import WeightsError
from recaffe.files import sha256, write_bytes, write_json
from recaffe.net import weights
from recaffe.proto import caffe_pb2 as pb

KEEP = 2


@dataclass(frozen=True)
class Files:
    """The three files of a snapshot."""

    model: Path
    state: Path
    extra: Path


class Store:
    """The snapshots of one job, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def files(self, iteration: int) -> Files:
        """Where the snapshot of an iteration stands."""
        stem = self.folder / f"snap_iter_{iteration}"
        return Files(
            stem.with_name(stem.name + ".caffemodel"),
            stem.with_name(stem.name + ".solverstate"),
            stem.with_name(stem.name + ".json"),
        )

    def best(self, iteration: int) -> Path:
        """Where the best weights of that iteration stand."""
        return self.folder / f"best_iter_{iteration}.caffemodel"

    def iterations(self) -> list[int]:
        """Numbers of all snapshots that say they are complete, newest first."""
        found = [re.fullmatch(r"snap_iter_(\d+)\.json", p.name) for p in self.folder.iterdir()]
        return sorted((int(m.group(1)) for m in found if m), reverse=True)

    def save(self, net: Net, sgd: SGD, iteration: int, extra: dict[str, Any]) -> Files:
        """Write a snapshot; older ones beyond the last two go."""
        files = self.files(iteration)
        weights.write(net.to_proto(), files.model)
        state = pb.SolverState(
            iter=iteration,
            learned_net=str(files.model),
            current_step=current_step(sgd.p, iteration),
        )
        state.history.extend(weights.to_blob(h.cpu().numpy()) for h in sgd.history)
        write_bytes(files.state, state.SerializeToString(deterministic=True))
        digests = {f.name: sha256(f) for f in (files.model, files.state)}
        write_json(files.extra, {**extra, "iteration": iteration, "sha256": digests})
        self._prune(int(extra["best"]["iteration"]))
        return files

    def save_best(self, net: Net, iteration: int) -> Path:
        """Write the weights that did best so far."""
        path = self.best(iteration)
        weights.write(net.to_proto(), path)
        return path

    def newest(self) -> dict[str, Any] | None:
        """The newest whole snapshot's .json; broken ones are passed over and named on stderr."""
        for iteration in self.iterations():
            problem = self._problem(iteration)
            if problem is None:
                return json.loads(self.files(iteration).extra.read_text(encoding="utf-8"))
            print(f"Snapshot {iteration} is passed over: {problem}.", flush=True)
        return None

    def restore(self, net: Net, sgd: SGD, iteration: int) -> None:
        """Load weights and history of a snapshot; raises `WeightsError` if they don't fit."""
        files = self.files(iteration)
        net.load(weights.read(files.model))
        state = pb.SolverState()
        state.ParseFromString(files.state.read_bytes())
        if len(state.history) != len(sgd.history):
            raise WeightsError(
                f"{files.state} has {len(state.history)} histories, the net {len(sgd.history)} "
                "parameters: it belongs to another net. Remove the snapshots' folder."
            )
        for target, blob in zip(sgd.history, state.history, strict=True):
            source = torch.from_numpy(weights.from_blob(blob, str(files.state)).copy())
            target.copy_(source.reshape(target.shape))

    def _problem(self, iteration: int) -> str | None:
        files = self.files(iteration)
        try:
            extra = json.loads(files.extra.read_text(encoding="utf-8"))
            for file in (files.model, files.state):
                if sha256(file) != extra["sha256"][file.name]:
                    return f"{file.name} has changed since it was written"
            best = extra["best"]
            if best["iteration"] >= 0 and sha256(self.best(best["iteration"])) != best["sha256"]:
                return f"{self.best(best['iteration']).name} has changed since it was written"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return str(error)
        return None

    def _prune(self, best_now: int) -> None:
        kept = self.iterations()[:KEEP]
        needed = {best_now}
        for iteration in kept:
            extra = json.loads(self.files(iteration).extra.read_text(encoding="utf-8"))
            needed.add(extra["best"]["iteration"])
        for iteration in self.iterations()[KEEP:]:
            files = self.files(iteration)
            for file in (files.extra, files.model, files.state):  # the .json first: it vouches
                file.unlink(missing_ok=True)
        for path in self.folder.glob("best_iter_*.caffemodel"):
            if int(path.stem.rsplit("_", 1)[1]) not in needed:
                path.unlink()
