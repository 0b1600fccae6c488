"""Metrics agree with scikit-learn; weights from a package are read without running anything."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from recaffe.engines.base import Predictions
from recaffe.errors import DataError, MachineError, WeightsError
from recaffe.evaluate import metrics, predictions
from recaffe.files import write_aside
from recaffe.lmdb.write import Entry
from recaffe.packages import fetch, pickled


def table(seed: int, n: int = 200, k: int = 7) -> predictions.Table:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(k), n)
    return predictions.Table(
        [f'p {i} ü,".png' for i in range(n)],
        rng.integers(0, k, n),
        scores,
        [f"klasse {i}, ü" for i in range(k)],
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 200), st.integers(2, 9))
def test_metrics_agree_with_sklearn(seed: int, n: int, k: int) -> None:
    t = table(seed, n, k)
    m = metrics.compute(t)
    labels = list(range(k))
    assert m["top1"] == pytest.approx(theirs.accuracy_score(t.labels, t.predicted))
    assert m["confusion"] == theirs.confusion_matrix(t.labels, t.predicted, labels=labels).tolist()
    p, r, f, s = theirs.precision_recall_fscore_support(
        t.labels, t.predicted, labels=labels, zero_division=0
    )
    for i, row in enumerate(m["classes"]):
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
            (p[i], r[i], f[i], s[i])
        )
    assert m["log_loss"] == pytest.approx(
        theirs.log_loss(t.labels, t.probabilities, labels=labels), rel=1e-6
    )
    if k > 5:
        assert m["top5"] == pytest.approx(
            theirs.top_k_accuracy_score(t.labels, t.probabilities, k=5, labels=labels)
        )
    else:
        assert "top5" not in m
    assert sum(b["n"] for b in m["reliability"]) == n


def test_wilson_agrees_with_the_published_table() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert metrics.wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_perfect_confidence_has_no_calibration_error() -> None:
    t = predictions.Table(["a", "b"], np.array([0, 1]), np.eye(2), ["x", "y"])
    assert metrics.compute(t)["ece"] == 0


def test_predictions_survive_their_file(tmp_path: Path) -> None:
    t = table(1)
    predictions.write(t, tmp_path / "p.csv")
    back = predictions.read(tmp_path / "p.csv")
    assert back.paths == t.paths
    assert back.classes == t.classes
    assert (back.labels == t.labels).all()
    assert np.allclose(back.probabilities, t.probabilities, rtol=1e-5)


def test_list_and_lmdb_must_agree() -> None:
    found = Predictions(np.eye(2, dtype=np.float32), np.array([0, 1]), ["a", "b"])
    predictions.tabulate(found, [Entry("a", "a", 0), Entry("b", "b", 1)], ["x", "y"])
    with pytest.raises(DataError, match="don't agree"):
        predictions.tabulate(found, [Entry("a", "a", 0), Entry("c", "c", 1)], ["x", "y"])


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    "value", [Evil(), {"a": [Evil()]}, {"a": [np.array([Evil()], object)]}, {"a": "text"}, [1]]
)
def test_a_hostile_pickle_runs_nothing(
    value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError):
        pickled.load(pickle.dumps(value))
    assert not Path("pwned").exists()


@pytest.mark.parametrize("protocol", [3, 4])
def test_plain_arrays_are_read(protocol: int) -> None:
    arrays = {"conv": [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros(2, np.float64)]}
    out = io.BytesIO()
    pickle.dump(arrays, out, protocol)
    back = pickled.load(out.getvalue())
    assert all((a == b).all() for a, b in zip(arrays["conv"], back["conv"], strict=True))


def test_a_wrong_digest_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(MachineError, match="SHA-256"):
        fetch.check(tmp_path / "f", "0" * 64)


def test_write_aside_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), write_aside(path) as aside:
        aside.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_and_the_way_out() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    from recaffe.files import explain_os_error

    with pytest.raises(OSError) as caught, Path("/dev/full").open("w") as f:
        f.write("x" * 100_000)
    assert "No space left while writing out.bin" in str(explain_os_error(caught.value, "out.bin"))
