"""What becomes of an engine's events: Caffe's log lines, train.csv, a bar, and the watcher."""

from __future__ import annotations

import csv
import math
import os
import time
from pathlib import Path
from typing import Any

from recaffe import glog
from recaffe.engines.base import Event, Output, Snapshot, Step, Test, TrainJob
from recaffe.errors import ConfigError, TrainError
from recaffe.glog import number
from recaffe.progress import bar, line

CSV_COLUMNS = (
    "iteration", "epoch", "seconds", "loss", "lr", "images_per_second", "val_accuracy", "val_loss",
)  # fmt: skip
# -log(FLT_MIN): what SoftmaxWithLoss says when every probability has gone to 0.
STUCK_LOSS = 87.3365
_CAUSES = (
    "The usual causes: base_lr is too high (divide it by 10); labels outside 0…K-1; a mean or scale "
    "that doesn't fit the pretrained net; a record that is not a picture."
)


class Watcher:
    """Stops a run whose loss is nan, infinite, or stuck at 87.3365 for three reports."""

    def __init__(self) -> None:
        self.stuck = 0

    def see(self, iteration: int, loss: float) -> None:
        """Raises `TrainError` with the usual causes."""
        if not math.isfinite(loss):
            raise TrainError(f"The loss is {loss} at iteration {iteration}. {_CAUSES}")
        self.stuck = self.stuck + 1 if abs(loss - STUCK_LOSS) < 0.01 else 0
        if self.stuck >= 3:
            raise TrainError(
                f"The loss is stuck at {STUCK_LOSS} at iteration {iteration}: every probability of "
                f"the right class is 0. {_CAUSES}"
            )


class Best:
    """The best validation so far: highest accuracy, then lowest loss, then earliest.

    A net without an Accuracy layer is judged by its loss alone. `worse` counts the validations since,
    the last of them at iteration `seen`.
    """

    def __init__(
        self,
        iteration: int = -1,
        accuracy: float = -1.0,
        loss: float = math.inf,
        worse: int = 0,
        seen: int = -1,
    ):
        self.iteration, self.accuracy, self.loss = iteration, accuracy, loss
        self.worse, self.seen = worse, seen

    def see(self, test: Test) -> bool:
        """Whether this validation is the new best; else one more that wasn't.

        One that was seen before counts once: a run whose patience was raised begins with the test that
        had ended it.
        """
        if test.iteration == self.seen:
            return False
        self.seen = test.iteration
        accuracy = -1.0 if math.isnan(test.accuracy) else test.accuracy
        loss = math.inf if math.isnan(test.loss) else test.loss
        if self.iteration < 0 or (accuracy, -loss) > (self.accuracy, -self.loss):
            self.iteration, self.accuracy, self.loss, self.worse = (
                test.iteration, accuracy, loss, 0,
            )  # fmt: skip
            return True
        self.worse += 1
        return False

    def note(self, digest: str) -> dict[str, Any]:
        """What a snapshot's .json says of it; `digest` is that of the best weights' file."""
        return {
            "iteration": self.iteration, "accuracy": self.accuracy,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "worse": self.worse, "seen": self.seen, "sha256": digest,
        }  # fmt: skip

    @classmethod
    def from_note(cls, note: dict[str, Any]) -> tuple[Best, str]:
        """The best and the digest that `note` was made of."""
        loss = math.inf if note["loss"] is None else note["loss"]
        seen = note.get("seen", -1)  # snapshots of recaffe's first versions don't say
        best = cls(note["iteration"], note["accuracy"], loss, note["worse"], seen)
        return best, note["sha256"]


def check_selection(job: TrainJob, judged: bool) -> None:
    """Raises `ConfigError` where `select: best` has no place for snapshots, or a net that isn't `judged`:
    one that isn't tested, or has neither a top-1 Accuracy nor a loss in TEST."""
    if job.select != "best":
        return
    if job.snapshots is None or job.final is None:
        raise ConfigError("select: best wants a folder for snapshots and a place for the best.")
    if not judged:
        raise ConfigError(
            "select is best, but nothing says which snapshot is: the solver tests no net, or that "
            "net has neither a top-1 Accuracy nor a loss in TEST. Set select: last, or add them."
        )


class Recorder:
    """Writes each event to the log as Caffe would, to train.csv, and to the progress bar.

    Without a `log`, Caffe's lines go to stderr; without a `table` there is no csv. Both files are appended to on a resume: rows beyond `start` are dropped first, so that a
    run that was killed after its last snapshot leaves no iteration twice. A `muted` recorder
    watches the loss and writes nothing: that of all processes but the first. One that is `told` what
    goes to the log, line by line (`keep`), writes no lines of its own there.
    """

    def __init__(
        self,
        log: Path | None,
        table: Path | None,
        start: int,
        max_iter: int,
        title: str,
        iters_per_epoch: float,
        seconds: float = 0.0,
        muted: bool = False,
        told: bool = False,
    ) -> None:
        self.iters_per_epoch, self.began = iters_per_epoch, time.monotonic() - seconds
        self.title, self.max_iter = title, max_iter
        self.muted, self.told = muted, told
        self._line = line if not muted and log is not None else lambda text: None
        self._log = None
        if log is not None:
            path = Path(os.devnull) if muted else log
            self._log = path.open("a" if start else "w", encoding="utf-8")
        path = Path(os.devnull) if muted or table is None else table
        rows = _rows_before(path, start)
        self._csv = path.open("w", encoding="utf-8", newline="")
        self._table = csv.writer(self._csv, lineterminator="\n")
        self._table.writerow(CSV_COLUMNS)
        self._table.writerows(rows)
        self._bar = None if muted else bar(max_iter, title, "it", initial=start)
        self._last_line = 0.0
        self.watcher = Watcher()

    @property
    def seconds(self) -> float:
        """Training time so far, resumed runs included."""
        return time.monotonic() - self.began

    def say(self, text: str, source: str = "solver.cpp") -> None:
        """A line in Caffe's (glog's) form; `source` is the file of Caffe that says it."""
        if self.muted or self.told:
            return
        if self._log is None:
            glog.say(text, source)
            return
        self._log.write(f"{glog.stamp(source)}{text}\n")
        self._log.flush()

    def keep(self, text: str) -> None:
        """A line of the log that Caffe itself wrote, as it is."""
        assert self._log is not None, "a log is kept in a file"
        self._log.write(f"{text}\n")
        self._log.flush()

    def see(self, event: Event) -> None:
        """Record one event; raises `TrainError` on a loss that can't be."""
        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Test):
            self._test(event)
        elif isinstance(event, Snapshot):
            kind = "HDF5" if event.model.suffix == ".h5" else "binary proto"
            self.say(f"Snapshotting to {kind} file {event.model}")
            self.say(f"Snapshotting solver state to {kind} file {event.state}", "sgd_solver.cpp")
        self._csv.flush()

    def advance(self, iterations: int = 1) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(iterations)

    def close(self) -> None:
        """Close files and bar."""
        if self._bar is not None:
            self._bar.close()
        self._csv.close()
        if self._log is not None:
            self._log.close()

    def _step(self, e: Step) -> None:
        rate = f"{e.steps / max(e.lapse, 1e-9):.6g} iter/s, {e.lapse:.6g}s/{e.steps} iters"
        self.say(f"Iteration {e.iteration} ({rate}), loss = {number(e.loss)}")
        self._outputs("Train", e.outputs)
        if e.status:
            self.say(e.status, "sgd_solver.cpp")
        self.say(f"Iteration {e.iteration}, lr = {number(e.lr)}", "sgd_solver.cpp")
        self._row(e.iteration, f"{e.loss:.6g}", f"{e.lr:.6g}", f"{e.images_per_second:.1f}", "", "")
        if self._bar is not None:
            self._bar.say(loss=e.loss, lr=e.lr, images_per_second=e.images_per_second)
            if self.iters_per_epoch:
                self._bar.say(epoch=e.iteration / self.iters_per_epoch)
        if time.monotonic() - self._last_line > 10:
            self._last_line = time.monotonic()
            self._line(
                f"{self.title}: iteration {e.iteration} of {self.max_iter}, loss {e.loss:.4f}, "
                f"{e.images_per_second:.0f} img/s"
            )
        self.watcher.see(e.iteration, e.loss)

    def _test(self, e: Test) -> None:
        if not math.isnan(e.total):
            self.say(f"Test loss: {number(e.total)}")
        self._outputs("Test", e.outputs)
        if e.net:
            return  # the first test net is the one that counts
        if self._bar is not None and not math.isnan(e.accuracy):
            self._bar.say(val_accuracy=e.accuracy)
        self._row(
            e.iteration, "", "", "",
            "" if math.isnan(e.accuracy) else f"{e.accuracy:.6f}",
            "" if math.isnan(e.loss) else f"{e.loss:.6g}",
        )  # fmt: skip
        self._line(
            f"{self.title}: iteration {e.iteration}, validation accuracy {e.accuracy:.4f}, "
            f"loss {e.loss:.4f}"
        )

    def _outputs(self, phase: str, outputs: tuple[Output, ...]) -> None:
        for n, o in enumerate(outputs):
            loss = f" (* {number(o.weight)} = {number(o.weight * o.value)} loss)"
            self.say(
                f"    {phase} net output #{n}: {o.name} = {number(o.value)}{loss * bool(o.weight)}"
            )

    def _row(self, iteration: int, *values: str) -> None:
        epoch = iteration / self.iters_per_epoch if self.iters_per_epoch else 0
        self._table.writerow((iteration, f"{epoch:.3f}", f"{self.seconds:.1f}", *values))


def _rows_before(table: Path, start: int) -> list[list[str]]:
    """The rows that stand when training resumes at `start`: both kinds are written at the start of
    an iteration, after any snapshot of that number."""
    if not start or not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as f:
        rows = list(csv.reader(f))[1:]
    return [r for r in rows if len(r) == len(CSV_COLUMNS) and int(r[0]) < start]
