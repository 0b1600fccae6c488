"""Caffe's training loop: solver.prototxt in, final.caffemodel out."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from recaffe.engines.base import Snapshot, Step, Test, TrainJob, TrainResult
from recaffe.engines.events import Best, Recorder
from recaffe.engines.torch.data import Batch, DataLayer
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.sgd import SGD, learning_rate
from recaffe.engines.torch.snapshots import Store
from recaffe.errors import Interrupted, NetError, TrainError
from recaffe.files import sha256, write_bytes
from recaffe.net import graph, weights
from recaffe.net.parse import read_net, to_solver
from recaffe.proto import caffe_pb2 as pb


def pick_device(name: str) -> torch.device:
    """auto → a GPU where there is one; raises `TrainError` if cuda is wanted and missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainError(
            "device is cuda, but PyTorch sees no GPU here. Set device: auto or cpu, or check the "
            "driver with nvidia-smi."
        )
    return torch.device(name)


def train(job: TrainJob) -> TrainResult:
    """Train from the newest whole snapshot, or from `job.weights`, to the solver's max_iter.

    Writes `job.final`, `job.log` and `job.csv`. SIGINT and SIGTERM end it after a snapshot with
    `Interrupted`; the same job run again goes on from there, and ends bit for bit (on the CPU)
    with what it would have been without the break.

    Raises `TrainError` when the loss is nan, infinite or stuck.
    """
    torch.set_num_threads(job.threads)
    with _stop_on_signals() as stop:
        trainer = Trainer(job)
        try:
            return trainer.run(stop)
        finally:
            trainer.close()


class Trainer:
    """The state of one training run."""

    def __init__(self, job: TrainJob) -> None:
        self.job, self.device = job, pick_device(job.device)
        self.solver = p = to_solver(job.solver.read_text(encoding="utf-8"), str(job.solver))
        param = read_net(p.net)
        self.data = _data_layer(param, pb.TRAIN, p.random_seed)
        self.val = _data_layer(param, pb.TEST, p.random_seed)
        self.net = Net(param, pb.TRAIN, self.data.shapes(), seed=max(0, p.random_seed))
        self.test_net = Net(param, pb.TEST, self.val.shapes(), share=self.net)
        self.accuracy, self.val_loss = _named_outputs(self.test_net)
        if job.weights is not None:
            self.net.load(weights.read(job.weights), job.copy)
        self.net.to(self.device)
        self.sgd = SGD(self.net, p)
        self.store = Store(job.snapshots)
        self.iteration, self.losses = 0, deque[float](maxlen=p.average_loss)
        self.best, self.best_digest = Best(iteration=-1), ""
        seconds = self._resume()
        self.recorder = Recorder(
            job.log, job.csv, self.iteration, p.max_iter, job.title, job.iters_per_epoch, seconds
        )
        self._announce()

    def _resume(self) -> float:
        extra = self.store.newest()
        if extra is None:
            return 0.0
        self.iteration = extra["iteration"]
        self.store.restore(self.net, self.sgd, self.iteration)
        self.losses.extend(extra["losses"])
        b = extra["best"]
        self.best = Best(
            b["iteration"],
            b["accuracy"],
            b["loss"] if b["loss"] is not None else math.inf,
            b["worse"],
        )
        self.best_digest = b["sha256"]
        return float(extra["seconds"])

    def _announce(self) -> None:
        say = self.recorder.say
        if self.iteration:
            say(f"Restoring previous solver status from {self.store.files(self.iteration).state}")
            return
        say(f"Creating training net from net file: {self.solver.net}")
        if self.job.weights is not None:
            say(f"Finetuning from {self.job.weights}")
        say(f"Solving {self.net.name}")
        say(f"Learning Rate Policy: {self.solver.lr_policy}")

    def run(self, stop: threading.Event) -> TrainResult:
        """The loop of `Solver::Step`: test, forward and backward, show, update, snapshot."""
        p, reason = self.solver, "reached max_iter"
        batches = self.data.batches(self.iteration * p.iter_size)
        shown, shown_at, began, first = (
            self.iteration - 1,
            time.monotonic(),
            time.monotonic(),
            self.iteration,
        )
        testing = 0.0
        while self.iteration < p.max_iter:
            if stop.is_set():  # before the test, which belongs to what the snapshot is followed by
                self._interrupted()
            if (
                p.test_interval
                and self.iteration % p.test_interval == 0
                and (self.iteration or p.test_initialization)
            ):
                t = time.monotonic()
                self._test()
                testing += time.monotonic() - t
                shown_at += time.monotonic() - t
                if self._out_of_patience():
                    reason = f"no better validation in {self.job.patience}"
                    break
            self.losses.append(self._forward_backward(batches))
            rate = learning_rate(p, self.iteration)
            if p.display and self.iteration % p.display == 0:
                now = time.monotonic()
                smoothed = sum(self.losses) / len(self.losses)
                steps, lapse = self.iteration - shown, now - shown_at
                pictures = steps * self.data.batch_size * p.iter_size / max(lapse, 1e-9)
                self.recorder.see(
                    Step(
                        self.iteration,
                        smoothed,
                        rate,
                        pictures,
                        lapse,
                        steps,
                        {"loss": self.losses[-1]},
                    )
                )
                shown, shown_at = self.iteration, now
            elif not math.isfinite(self.losses[-1]):
                self.recorder.watcher.see(self.iteration, self.losses[-1])
            self.sgd.step(rate)
            self.iteration += 1
            self.recorder.advance()
            if p.snapshot and self.iteration % p.snapshot == 0:
                self._snapshot()
        batches.close()  # type: ignore[attr-defined]  # a generator
        train_seconds = time.monotonic() - began - testing
        self._snapshot()
        if self.iteration == p.max_iter:
            self._test()
        self.recorder.say("Optimization Done.")
        chosen = self._write_final()
        return TrainResult(
            chosen, self.iteration, self.best.accuracy, reason,
            (self.iteration - first) * self.data.batch_size * p.iter_size / max(train_seconds, 1e-9),
            torch.cuda.get_device_name() if self.device.type == "cuda" else f"CPU, {self.job.threads} threads",
        )  # fmt: skip

    def close(self) -> None:
        """Close the log files."""
        self.recorder.close()

    def _forward_backward(self, batches: Any) -> float:
        # Dropout's numbers follow from seed and iteration, so a resumed run draws the same.
        torch.manual_seed((max(0, self.solver.random_seed) << 32) + self.iteration)
        total = 0.0
        for _ in range(self.solver.iter_size):
            batch: Batch = next(batches)
            loss = self.net.loss(self.net(self.data.blobs(batch, self.device)))
            loss.backward()
            total += float(loss.detach())
        return total / self.solver.iter_size

    @torch.no_grad()
    def _test(self) -> None:
        totals: dict[str, float] = {}
        seen = 0
        for batch in self.val.once():
            blobs = self.test_net(self.val.blobs(batch, self.device))
            n = len(batch.labels)
            for name in self.test_net.outputs:
                if blobs[name].numel() == 1:
                    totals[name] = totals.get(name, 0.0) + float(blobs[name]) * n
            seen += n
        means = {name: value / seen for name, value in totals.items()}
        test = Test(self.iteration, means, means[self.accuracy], means.get(self.val_loss, math.nan))
        self.recorder.see(test)
        if self.best.see(test):
            self.best_digest = sha256(self.store.save_best(self.net, self.iteration))

    def _snapshot(self) -> None:
        b = self.best
        files = self.store.save(
            self.net, self.sgd, self.iteration,
            {
                "losses": list(self.losses),
                "seconds": round(self.recorder.seconds, 3),
                "best": {
                    "iteration": b.iteration, "accuracy": b.accuracy,
                    "loss": b.loss if math.isfinite(b.loss) else None,
                    "worse": b.worse, "sha256": self.best_digest,
                },
            },
        )  # fmt: skip
        self.recorder.see(Snapshot(self.iteration, files.model, files.state))

    def _interrupted(self) -> None:
        if self.iteration:
            self._snapshot()
        raise Interrupted(
            f"Stopped at iteration {self.iteration} of {self.solver.max_iter}; the state is saved. "
            "Run the same command again to go on."
        )

    def _out_of_patience(self) -> bool:
        return bool(self.job.patience) and self.best.worse >= self.job.patience

    def _write_final(self) -> int:
        if self.job.select == "best":
            write_bytes(self.job.final, self.store.best(self.best.iteration).read_bytes())
            return self.best.iteration
        weights.write(self.net.to_proto(), self.job.final)
        return self.iteration


def _data_layer(net: pb.NetParameter, phase: int, seed: int) -> DataLayer:
    found = [x for x in graph.of_phase(net, phase) if x.type == "Data"]
    if len(found) != 1:
        raise NetError(
            f"The net has {len(found)} Data layers in {pb.Phase.Name(phase)}; the torch engine wants one."
        )
    return DataLayer(found[0], phase == pb.TRAIN, max(0, seed))


def _named_outputs(net: Net) -> tuple[str, str]:
    """The top-1 accuracy's and the main loss's blob of a test net."""
    accuracy = [
        x.top[0] for x in net.layers if x.type == "Accuracy" and x.accuracy_param.top_k == 1
    ]
    if not accuracy:
        raise NetError("The net has no top-1 Accuracy layer in TEST, so no snapshot can be chosen.")
    losses = [x.top[0] for x in net.layers if x.type in graph.CLASS_LOSSES]
    return accuracy[-1], losses[-1] if losses else ""


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT interrupts at once."""
    stop = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
