"""The lr range test: its rates, its losses, and what it proposes."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from recaffe import config, rate_range
from recaffe.cli import main
from recaffe.engines.base import TrainJob
from recaffe.engines.torch import nets
from recaffe.engines.torch.rate_range import measure
from recaffe.engines.torch.rates import learning_rate
from recaffe.engines.torch.train import train
from recaffe.errors import ConfigError, TrainError
from recaffe.proto import caffe_pb2 as pb
from recaffe.rate_range import Span, Watcher, plan, propose, rounded
from recaffe.tables import rows
from tests.training import write_training

SPAN = Span(1e-5, 1.0, 101)  # twenty rates a decade


def curve(lowest: float, noise: float = 0.0) -> tuple[list[float], list[float]]:
    """Losses that stay, fall over two decades to their lowest at a rate, then explode."""
    rates = [1e-5 * 10 ** (i / 20) for i in range(101)]
    rng = np.random.default_rng(0)
    losses = []
    for rate in rates:
        decades = math.log10(lowest / rate)  # before the lowest
        loss = 0.5 + 1.5 * min(1, max(0, decades / 2)) if decades >= 0 else 0.5 * 100**-decades
        losses.append(loss + noise * rng.normal())
    return rates, losses


def test_the_rate_grows_by_one_factor_from_the_first_to_the_last() -> None:
    solver = pb.SolverParameter(base_lr=3, lr_policy="step", stepsize=5, gamma=0.1, type="Adam")
    planned = plan(solver, Span(1e-4, 1e-1, 31))
    rates = [learning_rate(planned, i) for i in range(planned.max_iter)]
    assert rates[0] == pytest.approx(1e-4, rel=1e-6)
    assert rates[-1] == pytest.approx(1e-1, rel=1e-5)
    ratios = np.divide(rates[1:], rates[:-1])
    assert np.allclose(ratios, ratios[0], rtol=1e-5)
    assert (planned.type, solver.lr_policy) == ("Adam", "step")


@pytest.mark.parametrize("lowest", [1e-3, 1e-2, 1e-1])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_tenth_of_the_rate_at_the_lowest_loss_is_proposed(lowest: float, noise: float) -> None:
    rates, losses = curve(lowest, noise)
    found = propose(rates, losses, SPAN)
    assert found.base_lr is not None
    assert lowest / 25 <= found.base_lr <= lowest / 5
    assert found.minimum is not None and found.steepest is not None
    assert found.steepest < found.minimum
    assert not found.said


def test_without_a_fall_no_rate_is_proposed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rates = curve(1)[0]
    for span in (SPAN, Span(1e-5, 1.0, 20)):
        n = span.iterations
        found = [propose(rates[:n], list(2 + 0.2 * rng.normal(size=n)), span) for _ in range(100)]
        refused = [x for x in found if x.base_lr is None]
        assert len(refused) >= 96  # chance looks like a fall in one of a hundred
        assert "chance" in refused[0].said
    exploded = propose(rates[:4], [2, 2.1, 9, 80], SPAN)
    assert exploded.base_lr is None
    assert "lower rate than 1e-05" in exploded.said
    note = tmp_path / "lr_range.json"
    note.write_text(json.dumps(rate_range.note(exploded, SPAN, 4, "CPU", 0)))
    with pytest.raises(TrainError, match="set base_lr to a number"):
        rate_range.proposed(note)


def test_a_loss_that_still_falls_at_the_end_is_said() -> None:
    found = propose(*curve(10.0), SPAN)
    assert found.base_lr == 0.1
    assert "still fell at the highest rate, 1" in found.said


def test_a_single_bad_batch_is_no_divergence_and_a_rise_is() -> None:
    watcher = Watcher()
    assert not any(map(watcher.has_diverged, [2.0] * 10 + [9.0] + [1.0] * 20))
    assert any(map(watcher.has_diverged, [30.0] * 5))
    assert Watcher().has_diverged(math.nan)
    assert Watcher().has_diverged(math.inf)
    easy = Watcher()  # four times next to nothing is nothing
    assert not any(map(easy.has_diverged, [2.0] * 10 + [0.01] * 90 + [0.1] * 20))


@pytest.mark.parametrize(
    ("rate", "near"), [(0.0014, 0.001), (0.0015, 0.002), (0.03, 0.02), (0.034, 0.05), (0.8, 1.0)]
)
def test_rates_are_rounded_to_1_2_5(rate: float, near: float) -> None:
    assert rounded(rate) == near


@pytest.mark.parametrize("values", [(0, 1, 100), (1, 0.1, 100), (1, 1, 100), (1e-3, 1, 19)])
def test_what_is_no_range_is_refused(values: tuple[float, float, int]) -> None:
    with pytest.raises(ConfigError, match="lr range test"):
        Span(*values)


def test_its_losses_are_those_of_a_training_at_these_rates(tmp_path: Path) -> None:
    solver = write_training(tmp_path / "a", iter_size=2)
    before = {p.name for p in solver.parent.iterdir()}
    planned = plan(nets.read_solver(solver), Span(1e-4, 0.05, 20))
    job = TrainJob(solver, device="cpu")
    found = measure(job, planned)
    assert {p.name for p in solver.parent.iterdir()} == before
    assert measure(job, planned) == found
    other = tmp_path / "exp.prototxt"
    planned.snapshot_prefix = str(tmp_path / "snap")
    other.write_text(text_format.MessageToString(planned))
    train(TrainJob(other, device="cpu", log=tmp_path / "log", csv=tmp_path / "train.csv"))
    shown = [(float(r["lr"]), float(r["loss"])) for r in rows(tmp_path / "train.csv") if r["loss"]]
    assert len(found.losses) == 20
    assert np.allclose([lr for lr, _ in shown][:20], found.rates, rtol=1e-4)
    assert np.allclose([loss for _, loss in shown][:20], found.losses, rtol=1e-4)
    parts = measure(TrainJob(solver, device="cpu", micro_batch=4), planned)
    assert np.allclose(parts.losses, found.losses, rtol=1e-3)


def test_it_ends_where_the_loss_has_left(tmp_path: Path) -> None:
    solver = write_training(tmp_path, momentum=0.99)
    found = measure(
        TrainJob(solver, device="cpu"), plan(nets.read_solver(solver), Span(1, 1e12, 40))
    )
    assert len(found.losses) < 40
    assert all(map(math.isfinite, found.losses))


def test_the_command_writes_the_curve_its_picture_and_the_proposal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = write_training(tmp_path)
    assert main(["lr-range", "-solver", str(solver), "--min", "1e-4", "--iterations", "60"]) == 0
    stem = tmp_path / "solver_lr_range"
    note = json.loads(stem.with_suffix(".json").read_text())
    assert f"base_lr {note['base_lr']:g} is proposed" in capsys.readouterr().out
    with stem.with_suffix(".csv").open() as f:
        table = list(csv.DictReader(f))
    assert tuple(table[0]) == rate_range.COLUMNS
    assert len(table) == note["ran"]
    picture = stem.with_suffix(".svg").read_text()
    assert picture.startswith("<svg")
    assert "var(" not in picture
    words = re.findall(r">([^<>]*)</text>", picture)
    assert {"0.0001", "0.01", "1", "base_lr"} <= set(words)
    assert not any("\\" in word for word in words), "no mathematics"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min", "2"], "goes from 2 to 1"),
        (["--iterations", "3"], "takes at least 20"),
        (["--out", "/nowhere/x"], "there is no folder /nowhere"),
        (["--weights", "/nowhere.caffemodel"], "there is no such file"),
    ],
)
def test_the_command_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    solver = write_training(tmp_path)
    assert main(["lr-range", "--solver", str(solver), *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"base_lr": "fast"}, "base_lr is 'fast'; allowed is text that matches .auto"),
        ({"lr_range_min": 1}, r"lr_range_min is 1; it must be less than lr_range_max \(1\)"),
        ({"lr_range_iters": 5}, "lr_range_iters is 5; allowed is at least 20"),
    ],
)
def test_a_config_that_has_no_range_is_refused(row: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.complete({"dataset": "x", "images": "y", "runs": {"a": {"weights": "none", **row}}})
