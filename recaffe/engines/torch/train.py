"""Caffe's training loop: solver.prototxt in, caffemodel out."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import torch
from torch import Tensor

from recaffe.engines import signals
from recaffe.engines.base import Output, Snapshot, Step, TrainJob, TrainResult
from recaffe.engines.events import Best, Recorder, check_selection
from recaffe.engines.store import alone
from recaffe.engines.torch import devices, distributed, losses, memory, nets, parts, prefix
from recaffe.engines.torch.allocator import keep_freed_memory
from recaffe.engines.torch.data import Batch
from recaffe.engines.torch.debug import Debug
from recaffe.engines.torch.distributed import Group
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.outputs import Means
from recaffe.engines.torch.replica import Replica, Together, statistics
from recaffe.engines.torch.smoothing import Losses
from recaffe.engines.torch.snapshots import Store, restore_from
from recaffe.engines.torch.solvers import make_solver
from recaffe.engines.torch.tester import Tester
from recaffe.engines.torch.upload import on_device, split
from recaffe.errors import Interrupted, TrainError
from recaffe.files import sha256, write_bytes
from recaffe.net import weights

Blobs = dict[str, Tensor]


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
        self.feed = source.feed(self.seed, group)
        # A blob whose first axis isn't the batch (a matrix, a factor by channel) is whole in each part.
        self.batched = {
            top
            for s in self.feed.sources
            for top, shape in s.shapes.items()
            if shape and shape[0] == s.batch_size
        }
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
        self.free, self.parts = memory.available(device), 1
        with memory.explained(self._out_of_memory):
            self.net.to(device)
            self.solver = make_solver(self.net, p)
        self.replica = Replica(self.net, self.terms, job.precision)
        self.iteration = 0
        self.asked = signals.Requests()
        self.losses = Losses(p.average_loss, group, self._watch)
        self.best, self.best_digest, self.accuracy = Best(), "", math.nan
        seconds = self._resume(saved)
        self.together = Together(self.replica, group)
        self.recorder = Recorder(
            job.log, job.csv, self.iteration, p.max_iter, job.title, job.iters_per_epoch, seconds,
            muted=not group.first,
        )  # fmt: skip
        if job.compile:
            self.replica.compile_net(self.recorder.say)
        self.free = memory.available(device)
        self._announce([source, *tested])

    def close(self) -> None:
        """Close the log files."""
        self.recorder.close()

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
            if self.iteration < self.p.max_iter:
                own, wanted = self.feed.batch_size // self.group.world, self.job.micro_batch
                self.parts, ready = parts.choose(
                    wanted, own, self.replica, ready, self.group, self.device, self.batched
                )
                if self.parts * self.group.world > 1:
                    losses.check_parts(self.terms, self.net.walked)
                if wanted == "auto":
                    say(f"micro_batch: auto is {own // self.parts} of {own} pictures at once")
            reason, testing = self._loop(ready)
        seconds = time.monotonic() - began - testing
        self._snapshot_at_the_end()
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

    def _loop(self, batches: Iterator[tuple[Batch, Blobs]]) -> tuple[str, float]:
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
            outputs = self._forward_backward(batches, display)
            rate = self.solver.rate(self.iteration)
            status = self.solver.status(self.iteration)
            if display:
                self.losses.read()
                now = time.monotonic()
                steps, lapse = self.iteration - shown, now - shown_at
                pictures = steps * self.feed.batch_size * p.iter_size / max(lapse, 1e-9)
                loss = self.losses.mean
                self.recorder.see(
                    Step(self.iteration, loss, rate, pictures, lapse, steps, outputs, status)
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

    def _is_test_due(self) -> bool:
        p = self.p
        return bool(
            self.testers
            and self.iteration % p.test_interval == 0
            and (self.iteration or p.test_initialization)
        )

    def _forward_backward(
        self, batches: Iterator[tuple[Batch, Blobs]], display: bool
    ) -> tuple[Output, ...]:
        """Gradients of one iteration, summed over iter_size; the loss goes to `losses`.

        Returns the outputs of its last batch where they are to be displayed.
        """
        p = self.p
        total: Tensor | None = None
        outputs: tuple[Output, ...] = ()
        for i in range(p.iter_size):
            last = i == p.iter_size - 1
            means = self._means() if display and last else None
            with memory.explained(self._out_of_memory):
                _, blobs = next(batches)
                loss = self._batch(blobs, i, last, display and p.debug_info, means)
            total = loss if total is None else total + loss
            outputs = means.outputs(self.group) if means is not None else ()
        assert total is not None, "iter_size is at least 1"
        self.losses.add(self.iteration, total / p.iter_size)
        return outputs

    def _means(self) -> Means:
        return Means(self.net, self.device, self.feed.batch_size)

    def _batch(self, blobs: Blobs, i: int, last: bool, debug: bool, means: Means | None) -> Tensor:
        """Add the gradients of batch `i` of an iteration; returns its loss (this process's share)."""
        pieces = split(blobs, self.parts, self.batched)
        shares = losses.shares(self.terms, pieces, self.group)
        total: Tensor | None = None
        for n, (part, share) in enumerate(zip(pieces, shares, strict=True)):
            self._seed_dropout(i, n)
            watch: AbstractContextManager[None] = nullcontext()
            if debug and self.group.first:
                watch = Debug(self.net, self.recorder.say).watching(part)
            with watch:
                loss, outputs = self.together.backward(part, share, last and n == self.parts - 1)
            total = loss if total is None else total + loss
            if means is not None:
                means.add(
                    {**part, **outputs}, self.feed.batch_size // self.group.world // self.parts
                )
        assert total is not None, "there is at least one part"
        return total

    def _seed_dropout(self, i: int, part: int) -> None:
        """Dropout's numbers follow from seed and iteration, so a resumed run draws the same; and
        from the part's place in the whole batch, so that parts draw what the whole would."""
        step = self.iteration * self.p.iter_size + i
        torch.manual_seed((self.seed << 32) + step)
        self.net.rank = self.group.rank * self.parts + part
        self.net.world = self.group.world * self.parts

    def _watch(self, iteration: int, loss: float) -> None:
        self.recorder.watcher.see(iteration, loss)

    # -- tests, snapshots, the end

    def _test(self) -> None:
        if self.group.world > 1:
            self.group.average(statistics(self.net))
        debug = self.p.debug_info and self.group.first
        for tester in self.testers:
            self.recorder.say(f"Iteration {self.iteration}, Testing net (#{tester.number})")
            # Only the first: once that has counted for the best, it can't be done again.
            look_up = None if tester.number else self._stop_in_a_test
            test = tester.test(self.iteration, self.recorder.say if debug else None, look_up)
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

    def _out_of_memory(self) -> str:
        own = self.feed.batch_size // self.group.world // self.parts
        batch = (self.feed.batch_size, self.p.iter_size)
        return memory.explain(self.net.walked, self.device, own, self.free, batch, self.group.world)
