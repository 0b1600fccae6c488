"""Caffe's training loop: solver.prototxt in, caffemodel out."""

from __future__ import annotations

import math
import secrets
import time
from contextlib import closing
from typing import Any

import torch

from recaffe.allocator import keep_freed_memory
from recaffe.engines import signals
from recaffe.engines.base import Snapshot, Step, TrainJob, TrainResult
from recaffe.engines.events import Best, Recorder, check_selection
from recaffe.engines.store import alone
from recaffe.engines.torch import devices, distributed, losses, nets, prefix
from recaffe.engines.torch.debug import Say
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.passes import Batches, Passes
from recaffe.engines.torch.replica import Replica, statistics
from recaffe.engines.torch.smoothing import Losses
from recaffe.engines.torch.snapshots import Store, restore_from
from recaffe.engines.torch.solvers import make_solver
from recaffe.engines.torch.tester import Tester
from recaffe.engines.torch.upload import on_device
from recaffe.errors import Interrupted, TrainError
from recaffe.files import sha256, write_bytes
from recaffe.glog import number
from recaffe.net import weights


def train(job: TrainJob) -> TrainResult:
    """Train from the newest whole snapshot, `job.resume` or `job.weights` to the solver's max_iter.

    Writes `job.final`, `job.log` and `job.csv`, as far as they are wanted. SIGINT and SIGTERM end it
    after a snapshot with `Interrupted`; the same job run again goes on from there, and ends bit for
    bit (on the CPU) with what it would have been without the break. Under `torchrun` this process
    is one of several that train together; only the first writes files.

    Raises `TrainError` when the loss is nan, infinite or stuck, when memory runs out, or when
    another process of the training has ended.
    """
    group = distributed.place()
    device = devices.pick_device(job.device, group.local_rank, group.local_world)
    if device.type == "cpu":
        keep_freed_memory()
    with (
        signals.requests(job.sigint_effect, job.sighup_effect) as asked,
        devices.numerics(job, device),
        distributed.together(group, device),
        alone(job.snapshots if group.first else None),
        closing(Trainer(job, group, device)) as trainer,
    ):
        return trainer.run(asked)


class Trainer:
    """The state of one training run, in one of its processes."""

    def __init__(self, job: TrainJob, group: Group, device: torch.device) -> None:
        self.job, self.group, self.device = job, group, device
        self.p = p = nets.read_solver(job.solver)
        self.store = None if job.snapshots is None else Store(job.snapshots)
        if self.store is None and group.first and (p.snapshot or p.snapshot_after_train):
            prefix.check_writable(p.snapshot_prefix)
        saved = self.store.newest(p.max_iter) if self.store is not None else None
        self.noted = prefix.notes(job.resume)
        self.seed = self._seed(saved)
        source = nets.train_net(p, job.level, job.stages)
        self.feed = source.feed(self.seed, group, job.augment)
        channels_last = devices.keeps_channels_last(job.channels_last, job.precision, device)
        self.channels_last = channels_last
        self.net = Net(
            source.net,
            source.net.state.phase,
            self.feed.shapes,
            self.seed,
            channels_last=channels_last,
        )
        self.terms = losses.terms(self.net.walked, self.net.name)
        tested = nets.test_nets(p)
        total = p.test_compute_loss
        self.testers = [
            Tester(s, i, self.net, job, group, device, self.seed, p.test_iter[i], total)
            for i, s in enumerate(tested)
        ]
        check_selection(
            job, bool(self.testers) and bool(self.testers[0].accuracy or self.testers[0].loss)
        )
        self.start = nets.start_weights(job, p)
        self._load_weights()
        self.replica = Replica(self.net, self.terms, job.precision)
        self.passes = Passes(self.replica, self.feed, group, device, p, self.seed)
        with self.passes.explained():
            self.net.to(device)
            self.solver = make_solver(self.net, p)
        self.iteration = 0
        self.asked = signals.Requests()
        self.losses = Losses(p.average_loss, group, self._watch)
        self.best, self.best_digest, self.accuracy = Best(), "", math.nan
        seconds = self._resume(saved)
        self.passes.start()
        self.recorder = Recorder(
            job.log, job.csv, self.iteration, p.max_iter, job.title, job.iters_per_epoch, seconds,
            muted=not group.first,
        )  # fmt: skip
        if job.compile:
            self.replica.compile_net(self.recorder.say)
        self._announce([source, *tested])

    def close(self) -> None:
        """Close the log files."""
        self.recorder.close()

    @property
    def _debug(self) -> Say | None:
        """Where debug_info's lines go, if they are wanted of this process."""
        return self.recorder.say if self.p.debug_info and self.group.first else None

    # -- before the first iteration

    def _seed(self, saved: dict[str, Any] | None) -> int:
        """random_seed; or where it is -1, one drawn now, or by the run that is resumed."""
        if self.p.random_seed >= 0:
            return self.p.random_seed % 2**32  # Caffe keeps as much of it
        noted = saved or self.noted
        drawn = noted["seed"] if "seed" in noted else secrets.randbelow(2**31)
        return self.group.from_first(drawn)

    def _load_weights(self) -> None:
        for path in self.start:
            self.net.load(weights.read(path, self.net.layers), self.job.copy)
            # A test net shares its layers with the net in training, but for those it has alone.
            for tested in (t.net for t in self.testers):
                own = [n for n in tested.blobs if n not in self.net.blobs]
                wanted = own if self.job.copy is None else [n for n in own if n in self.job.copy]
                tested.load(weights.read(path, tested.layers), wanted)

    def _resume(self, saved: dict[str, Any] | None) -> float:
        """Go on from what was saved; returns the seconds that it took to get there."""
        self._check_same_files(saved)
        if saved is None or self.store is None:
            if self.job.resume is not None:
                self.iteration = restore_from(self.job.resume, self.net, self.solver)
                self.losses.values.extend(self.noted.get("losses", ()))
            return 0.0
        self.iteration = saved["iteration"]
        self.store.restore(self.net, self.solver, self.iteration)
        self.losses.values.extend(saved["losses"])
        self.best, self.best_digest = Best.from_note(saved["best"])
        return float(saved["seconds"])

    def _check_same_files(self, saved: dict[str, Any] | None) -> None:
        own = -1 if saved is None else int(saved["iteration"])
        if self.group.highest(int(own != self.group.from_first(own))):
            raise TrainError(
                f"Process {self.group.rank} finds the snapshot {own} in {self.job.snapshots}, another "
                "process another. All nodes must see the same files: put `results` on a disk that "
                "they share."
            )

    def _announce(self, sources: list[nets.Source]) -> None:
        say = self.recorder.say
        if self.p.random_seed < 0:
            say(f"random_seed is -1; this run's seed is {self.seed}")
        if self.job.precision == "tf32" and self.device.type == "cpu":
            say("tf32 is a mode of GPUs; the CPU computes in fp32")
        if self.group.world > 1:
            say(
                f"{self.group.world} processes, {self.feed.batch_size // self.group.world} pictures each"
            )
        if self.iteration:
            state = self.job.resume
            if self.store is not None:
                state = self.store.files(self.iteration).state
            say(f"Restoring previous solver status from {state}")
        else:
            for source in sources:
                say(source.said)
            for path in self.start:
                say(f"Finetuning from {path}", "caffe.cpp")
        say(f"Solving {self.net.name}")
        say(f"Learning Rate Policy: {self.p.lr_policy}")

    # -- the loop

    def run(self, asked: signals.Requests) -> TrainResult:
        """Train to the end and write what the job wants; see `train`."""
        self.asked = asked
        first, began, say = self.iteration, time.monotonic(), self.recorder.say
        batches = on_device(
            self.feed.batches(self.iteration * self.p.iter_size),
            self.device,
            self.channels_last,
            self.net.walked,
        )
        with closing(batches) as ready:  # type: ignore[type-var]  # a generator
            if self.iteration < self.p.max_iter or self._is_loss_due():
                ready, own = self.passes.choose_parts(self.job.micro_batch, ready), self.passes.own
                if self.job.micro_batch == "auto":
                    say(
                        f"micro_batch: auto is {own // self.passes.parts} of {own} pictures at once"
                    )
            reason, testing = self._loop(ready)
            seconds = time.monotonic() - began - testing
            self._snapshot_at_the_end()
            if self._is_loss_due():
                self._show_loss(ready, after=first)
        if self.iteration >= self.p.max_iter:
            self._test()
        self.recorder.say("Optimization Done.")
        self.recorder.say("Optimization Done.", "caffe.cpp")
        chosen = self._write_final()
        self.group.wait()
        pictures = (self.iteration - first) * self.feed.batch_size * self.p.iter_size
        best = self.best.accuracy if self.job.select == "best" else self.accuracy
        return TrainResult(
            chosen, self.iteration, best if best >= 0 else math.nan, reason,
            pictures / max(seconds, 1e-9), devices.name_of(self.device, self.job.threads),
        )  # fmt: skip

    def _loop(self, batches: Batches) -> tuple[str, float]:
        """`Solver::Step`: test, forward and backward, show, update, snapshot.

        Returns why it ended, and the seconds that were spent on tests.
        """
        p, testing = self.p, 0.0
        shown, shown_at = self.iteration - 1, time.monotonic()
        while self.iteration < p.max_iter:
            # Before the test, which belongs to what the snapshot is followed by.
            request = self.group.highest(self.asked.take())
            if request == signals.STOP:
                self._interrupted()
            elif request == signals.SNAPSHOT:
                self._snapshot()
            if self._is_test_due():
                began = time.monotonic()
                self._test()
                lapse = time.monotonic() - began
                testing, shown_at = testing + lapse, shown_at + lapse
                if self.job.patience and self.best.worse >= self.job.patience:
                    return f"no better validation in {self.job.patience}", testing
            display = bool(p.display) and self.iteration % p.display == 0
            debug = self._debug if display else None
            loss, outputs = self.passes.gradients(batches, self.iteration, display, debug)
            self.losses.add(self.iteration, loss)
            rate = self.solver.rate(self.iteration)
            status = self.solver.status(self.iteration)
            if display:
                self.losses.read()
                now = time.monotonic()
                steps, lapse = self.iteration - shown, now - shown_at
                pictures = steps * self.feed.batch_size * p.iter_size / max(lapse, 1e-9)
                mean = self.losses.mean
                self.recorder.see(
                    Step(self.iteration, mean, rate, pictures, lapse, steps, outputs, status)
                )
                shown, shown_at = self.iteration, now
            elif status:
                self.recorder.say(status, "sgd_solver.cpp")
            self.solver.step(rate, self.iteration)
            self.iteration += 1
            self.recorder.advance()
            if p.snapshot and self.iteration % p.snapshot == 0:
                self._snapshot()
        return "reached max_iter", testing

    def _is_loss_due(self) -> bool:
        """Whether Caffe says, after the last update, what the loss of one more batch is."""
        p = self.p
        return bool(p.display) and self.iteration >= p.max_iter and self.iteration % p.display == 0

    def _show_loss(self, batches: Batches, after: int) -> None:
        """Caffe's last line of the loss, in a training that began after so many iterations."""
        # debug_info is left as it was in the last iteration.
        told = self.iteration > after and (self.iteration - 1) % self.p.display == 0
        debug = self._debug if told else None
        self.losses.add(self.iteration, self.passes.loss(batches, self.iteration, debug))
        self.losses.read()
        self.recorder.say(f"Iteration {self.iteration}, loss = {number(self.losses.mean)}")

    def _is_test_due(self) -> bool:
        p = self.p
        return bool(
            self.testers
            and self.iteration % p.test_interval == 0
            and (self.iteration or p.test_initialization)
        )

    def _watch(self, iteration: int, loss: float) -> None:
        self.recorder.watcher.see(iteration, loss)

    # -- tests, snapshots, the end

    def _test(self) -> None:
        if self.group.world > 1:
            self.group.average(statistics(self.net))
        for tester in self.testers:
            self.recorder.say(f"Iteration {self.iteration}, Testing net (#{tester.number})")
            # Only the first: once that has counted for the best, it can't be done again.
            look_up = None if tester.number else self._stop_in_a_test
            test = tester.test(self.iteration, self._debug, look_up)
            self.recorder.see(test)
            if tester.number:
                continue
            self.accuracy = test.accuracy
            better = self.best.see(test)
            if better and self.store is not None and self.group.first:
                self.best_digest = sha256(self.store.save_best(self.net, self.iteration))

    def _stop_in_a_test(self) -> None:
        """Nothing of a test that is broken off stays: it comes first when the training goes on.

        Several processes, which must stop at the same place, stop after it.
        """
        if self.group.world == 1 and self.asked.asked == signals.STOP:
            self._interrupted()

    def _snapshot(self) -> None:
        self.losses.read()
        if self.group.world > 1:
            self.group.average(statistics(self.net))
        if self.group.first:
            model, state = self._save()
            self.recorder.see(Snapshot(self.iteration, model, state))
        self.group.wait()  # or the others would be gone before a last snapshot is written

    def _save(self) -> tuple[Any, Any]:
        if self.store is None:
            losses = self.losses.values
            return prefix.save(self.net, self.solver, self.iteration, self.seed, losses)
        files = self.store.save(
            self.net, self.solver, self.iteration,
            {
                "losses": list(self.losses.values),
                "seconds": round(self.recorder.seconds, 3),
                "seed": self.seed,
                "best": self.best.note(self.best_digest),
            },
        )  # fmt: skip
        return files.model, files.state

    def _snapshot_at_the_end(self) -> None:
        p = self.p
        done = p.snapshot and self.iteration % p.snapshot == 0
        if self.store is not None or (p.snapshot_after_train and not done):
            self._snapshot()

    def _interrupted(self) -> None:
        if self.iteration:
            self._snapshot()
        self.recorder.say("Optimization stopped early.")
        raise Interrupted(
            f"Stopped at iteration 0 of {self.p.max_iter}: nothing was done yet."
            if not self.iteration
            else f"Stopped at iteration {self.iteration} of {self.p.max_iter}; the state is saved. "
            + (
                "Run the same command again to go on."
                if self.store is not None
                else f"Go on from {self.p.snapshot_prefix}_iter_{self.iteration}.solverstate."
            )
        )

    def _write_final(self) -> int:
        best = self.job.select == "best" and self.store is not None
        if self.job.final is not None and self.group.first:
            if best and self.store is not None:
                write_bytes(self.job.final, self.store.best(self.best.iteration).read_bytes())
            else:
                weights.write(self.net.to_proto(), self.job.final)
        return self.best.iteration if best else self.iteration
