"""Training by the real `caffe train`: its events, its snapshots, its end."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recaffe.engines import preflight, signals
from recaffe.engines.base import Event, Snapshot, Test, TrainJob, TrainResult
from recaffe.engines.caffe import find, limits, messages, rewrite, run, tester, whole
from recaffe.engines.caffe.child import Child
from recaffe.engines.caffe.find import Caffe
from recaffe.engines.caffe.log import Parser
from recaffe.engines.events import Best, Recorder, check_selection
from recaffe.engines.store import Store, alone
from recaffe.errors import ConfigError, Interrupted, MachineError, TrainError
from recaffe.files import sha256, write_bytes
from recaffe.net import graph
from recaffe.net.parse import read_net

# Seconds that a stopped Caffe has to write its last snapshot, and one that is done to end.
GRACE = 600.0
_AFTER_THE_END = 30.0
# After so long without a line it is looked whether a snapshot is complete.
_SILENCE = 0.2


def train(job: TrainJob) -> TrainResult:
    """Train from the newest whole snapshot or `job.weights` to the solver's max_iter, in a process of
    its own; see `torch.train.train` for what is written.

    SIGINT and SIGTERM become Caffe's own stop after a snapshot, and `Interrupted`; a second SIGINT
    kills. The same job run again goes on from there, as Caffe does: with weights, history and iteration,
    but from the first record and with other crops.

    Raises `MachineError` where there is no Caffe, `ConfigError` for settings that it hasn't, and
    `TrainError` when the loss is nan, infinite or stuck, or with why Caffe stopped.
    """
    limits.check(asdict(job))
    if job.snapshots is None or job.final is None or job.log is None:
        raise ConfigError(
            "The caffe engine wants a folder for snapshots, a place for the final weights, and a log. By "
            "hand, use `caffe train` itself."
        )
    caffe = find.find()
    with (
        signals.requests(job.sigint_effect, job.sighup_effect) as asked,
        alone(job.snapshots),
        TemporaryDirectory(prefix="recaffe-") as links,
        closing(Training(job, caffe, job.snapshots, Path(links))) as training,
    ):
        return training.run(asked)


class Training:
    """One training, from its rewritten files to its result."""

    def __init__(self, job: TrainJob, caffe: Caffe, folder: Path, links: Path) -> None:
        self.job, self.caffe, self.folder, self.links = job, caffe, folder, links
        plan = rewrite.read_solver(job.solver)
        batch = rewrite.batch_size(read_net(plan.net), plan.net)
        self.gpus = run.gpus(caffe, job.device, job.devices, batch)
        if self.gpus:
            preflight.check_caffe(caffe.program.parents[1], self.gpus)
        self.store = Store(folder)
        saved = self.store.newest(plan.max_iter)
        self.start = self.iteration = self.saved = saved["iteration"] if saved else 0
        self.files = rewrite.rewrite(job, folder, links, self.gpus, self.start)
        self.plan = self.files.plan
        self.judges = graph.judges(self.files.tested)
        check_selection(job, any(self.judges))
        self.chooses = job.select == "best" or job.patience > 0
        self.best, self.digest = Best.from_note(saved["best"]) if saved else (Best(), "")
        self.accuracy, self.tested = math.nan, -1
        self._remove_leftovers()
        self.asked = signals.Requests()
        self.deadline = math.inf
        self.recorder = Recorder(
            job.log, job.csv, self.start, self.plan.max_iter, job.title, job.iters_per_epoch,
            float(saved["seconds"]) if saved else 0.0, told=True,
        )  # fmt: skip

    def close(self) -> None:
        """Close the log files."""
        self.recorder.close()

    def run(self, asked: signals.Requests) -> TrainResult:
        """Train to the end and write the final weights; see `train`."""
        self.asked = asked
        reason, rate = "reached max_iter", 0.0
        if self._has_lost_patience():
            reason = self._patience_said()
        elif self.iteration < self.plan.max_iter:
            reason, rate = self._train()
        self._check_saved()
        if self.saved == self.plan.max_iter and self.files.tested and self.tested != self.saved:
            self._test_last()
        chosen, model = self.saved, self.store.files(self.saved).model
        if self.job.select == "best":
            chosen, model = self.best.iteration, self.store.best(self.best.iteration)
        assert self.job.final is not None, "train"
        write_bytes(self.job.final, rewrite.with_sources(model.read_bytes(), self.files.sources))
        accuracy = self.best.accuracy if self.job.select == "best" else self.accuracy
        return TrainResult(
            chosen, self.saved, accuracy if accuracy >= 0 else math.nan, reason, rate,
            run.name_of(self.gpus, self.job.threads),
        )  # fmt: skip

    # -- caffe train

    def _train(self) -> tuple[str, float]:
        """Run `caffe train`; returns why it ended, and pictures a second."""
        pictures = self.files.batch * self.plan.iter_size
        parser = Parser(self.start, pictures, *self.judges)
        began = time.monotonic()
        with Child(self._command(), run.environment(self.caffe, self.job.threads)) as child:
            for line in child.lines(_SILENCE):
                self._read(parser, line)
                self._act(child, parser)
            code = child.process.returncode
        seconds = time.monotonic() - began - parser.testing
        for event in parser.finish():
            self._see(event, running=False)
        if not parser.done:
            self._explain_end(parser, code)
        rate = (self.saved - self.start) * pictures / max(seconds, 1e-9)
        return "reached max_iter" if parser.done else self._patience_said(), rate

    def _command(self) -> list[str]:
        job = self.job
        options = [f"-solver={self.files.solver}", "-sigint_effect=stop", "-sighup_effect=snapshot"]
        if self.gpus:
            options.append(f"-gpu={','.join(map(str, self.gpus))}")
        if job.level:
            options.append(f"-level={job.level}")
        if job.stages:
            options.append(f"-stage={','.join(job.stages)}")
        if self.start:
            files = self.store.files(self.start)
            state = whole.pointing_to(
                files.model.absolute(), files.state, self.folder / "resume.solverstate"
            )
            options.append(f"-snapshot={state}")
        elif weights := rewrite.start_weights(job, self.files.net, self.folder):
            options.append(f"-weights={','.join(map(self._without_comma, weights))}")
        return [str(self.caffe.program), "train", *options]

    def _without_comma(self, path: Path) -> str:
        """Caffe takes a comma for the end of a file's name."""
        if "," not in str(path):
            return str(path)
        link = self.links / path.name.replace(",", "_")
        link.symlink_to(path)
        return str(link)

    def _read(self, parser: Parser, line: str | None) -> None:
        if line is None:
            if parser.writing is not None and whole.problem(parser.writing) is None:
                written, parser.writing = parser.writing, None
                self._see(written)
            return
        self.recorder.keep(line)
        for event in parser.feed(line):
            self._see(event)
        if parser.iteration > self.iteration:
            self.recorder.advance(parser.iteration - self.iteration)
            self.iteration = parser.iteration

    def _act(self, child: Child, parser: Parser) -> None:
        """Pass on what was asked for; end a Caffe that doesn't end."""
        now, request = time.monotonic(), self.asked.take()
        if request == signals.SNAPSHOT:
            child.process.send_signal(signal.SIGHUP)
        wants_stop = request == signals.STOP or self._has_lost_patience()
        if wants_stop and self.deadline == math.inf:
            child.interrupt()
            self.deadline = now + GRACE
        if parser.stopped or parser.done:
            # On several GPUs, the others wait for ever for the one that has stopped.
            self.deadline = min(self.deadline, now + _AFTER_THE_END)
        if now > self.deadline:
            child.kill()

    def _explain_end(self, parser: Parser, code: int) -> None:
        """Raises why Caffe ended before max_iter, unless patience had."""
        if self.asked.asked == signals.STOP:
            raise self._interrupted()
        if self.deadline < math.inf and self._has_lost_patience():
            return
        if parser.stopped:  # somebody else has sent Caffe a SIGINT
            raise self._interrupted()
        assert self.job.log is not None, "train"
        raise messages.explain(parser.last, code, self.job.log)

    # -- events

    def _see(self, event: Event, running: bool = True) -> None:
        if isinstance(event, Snapshot):
            self._note(event, running)
            return
        self.recorder.see(event)
        if not isinstance(event, Test) or event.net:
            return
        self.accuracy, self.tested = event.accuracy, event.iteration
        # What a net knows before the first update isn't kept: Caffe writes no snapshot of it.
        if self.chooses and event.iteration and self.best.see(event):
            self.digest = self._keep_best(event.iteration)

    def _note(self, snapshot: Snapshot, running: bool) -> None:
        """Vouch for a snapshot that is whole."""
        if problem := whole.problem(snapshot):
            if not running:  # Caffe ended while it wrote
                return
            raise MachineError(
                f"The snapshot of iteration {snapshot.iteration} isn't whole: {problem}. Is the disk of "
                f"{self.folder} full? Make room, then run the same command again."
            )
        extra: dict[str, Any] = {
            "seconds": round(self.recorder.seconds, 3),
            "best": self.best.note(self.digest),
        }
        self.store.note(self.store.files(snapshot.iteration), snapshot.iteration, extra)
        self.saved = snapshot.iteration
        self.recorder.see(snapshot)

    def _keep_best(self, iteration: int) -> str:
        model, best = self.store.files(iteration).model, self.store.best(iteration)
        best.unlink(missing_ok=True)
        try:
            os.link(model, best)
        except OSError:  # a disk without hard links
            shutil.copyfile(model, best)
        return sha256(best)

    # -- the end

    def _has_lost_patience(self) -> bool:
        return 0 < self.job.patience <= self.best.worse

    def _patience_said(self) -> str:
        return f"no better validation in {self.job.patience}"

    def _check_saved(self) -> None:
        newest = self.store.newest(self.plan.max_iter)
        if newest is None or newest["iteration"] != self.saved:
            raise TrainError(
                f"Caffe has ended, but {self.folder} has no whole snapshot of its last iteration. Run the "
                "same command again to go on from the one before."
            )

    def _test_last(self) -> None:
        """The test at max_iter, where the interval of tests left it out."""
        model = self.store.files(self.saved).model
        command = tester.command(self.caffe, self.files, model, self.gpus)
        said: list[str] = []
        with Child(command, run.environment(self.caffe, self.job.threads)) as child:
            for line in child.lines(_SILENCE):
                if self.asked.asked == signals.STOP:
                    raise self._interrupted()
                if line is not None:
                    self.recorder.keep(line)
                    said.append(line)
            code = child.process.returncode
        values = tester.outputs(said)
        if code and not values:
            assert self.job.log is not None, "train"
            raise messages.explain(said[-200:], code, self.job.log)
        self._see(tester.event(self.saved, values, self.judges))

    def _interrupted(self) -> Interrupted:
        if not self.saved:
            return Interrupted(
                f"Stopped at iteration {self.iteration} of {self.plan.max_iter}: nothing was saved yet."
            )
        return Interrupted(
            f"Stopped at iteration {self.saved} of {self.plan.max_iter}; the state is saved. Run the same "
            "command again to go on."
        )

    def _remove_leftovers(self) -> None:
        """Files that Caffe was writing when it was killed, and snapshots that were passed over.

        Best weights may be links to them, which Caffe would write over.
        """
        kept = {i for i in self.store.iterations() if i <= self.start}
        for path in self.folder.glob("snap_iter_*"):
            number = path.name.split(".")[0].rpartition("_")[2]
            if not number.isdigit() or int(number) not in kept:
                path.unlink()
