"""Each kind of change: exactly which rules run, and the result is that of an empty folder.

docs/reruns.md has these expectations as a table.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import save, texture
from tests.workflow import running
from tests.workflow.faults.conftest import clone_to
from tests.workflow.faults.small import (
    Small,
    everything,
    of_run,
    write_pictures,
    write_weights,
)


def overwrite_in_place(path: Path, data: bytes) -> None:
    """Other bytes, as many as before, with the old modification time."""
    stat = path.stat()
    assert len(data) == stat.st_size
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def same_as_from_nothing(small: Small, folder: Path) -> None:
    fresh = small.without_results(folder)
    fresh.run()
    assert small.artifacts() == fresh.artifacts()


def test_without_a_change_nothing_runs(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    assert small.run() == set()
    for picture in small.folder.glob("pics/*/*.png"):
        picture.touch()
    for name in ("net.prototxt", "own.yaml"):
        (small.folder / name).touch()
    assert small.run() == set()
    assert small.run(cores=2) == set()
    assert small.artifacts() == finished.artifacts()


# ---- pictures: whatever changes in them, their new list is scanned, split and trained on ---------


def add(pics: Path) -> None:
    save(texture(77, 1, (24, 24)), pics / "b" / "new.png")


def remove(pics: Path) -> None:
    (pics / "b" / "03.png").unlink()


def rename(pics: Path) -> None:
    (pics / "b" / "03.png").rename(pics / "b" / "other name.png")


def move_to_another_class(pics: Path) -> None:
    (pics / "b" / "03.png").rename(pics / "c" / "from b.png")


def add_a_class(pics: Path) -> None:
    for i in range(12):
        save(texture(5000 + i, 1, (24, 24)), pics / "bb" / f"{i:02d}.png")


def remove_a_class(pics: Path) -> None:
    shutil.rmtree(pics / "b")


def rename_a_class(pics: Path) -> None:
    (pics / "b").rename(pics / "z")


def corrupt(pics: Path) -> None:
    (pics / "b" / "03.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")


def overwrite_with_an_older_file(pics: Path) -> None:
    save(texture(78, 1, (24, 24)), pics / "b" / "03.png")
    os.utime(pics / "b" / "03.png", (10**9, 10**9))


@pytest.mark.parametrize(
    "change",
    [
        add, remove, rename, move_to_another_class, add_a_class, remove_a_class, rename_a_class,
        corrupt, overwrite_with_an_older_file,
    ],
)  # fmt: skip
def test_a_change_in_the_pictures(
    finished: Small, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    small = finished.copy(tmp_path / "copy")
    change(small.folder / "pics")
    assert small.run() == everything()
    same_as_from_nothing(small, tmp_path / "fresh")
    assert small.artifacts() != finished.artifacts()


def test_a_picture_that_keeps_size_and_time_is_seen_by_a_deep_check(
    finished: Small, tmp_path: Path
) -> None:
    small = finished.copy(tmp_path / "copy")
    for i in range(2):  # of one size
        save(texture(90 + i, 1, (24, 24)), small.folder / "pics" / "b" / f"{i}.bmp")
    picture, other = (small.folder / "pics" / "b" / f"{i}.bmp" for i in range(2))
    data = other.read_bytes()
    other.unlink()
    small.run()
    overwrite_in_place(picture, data)
    assert small.run() == set()
    assert small.run("--config", "deep_check=true") == everything()
    assert small.run() == set()
    assert small.run("--config", "deep_check=true") == set()
    same_as_from_nothing(small, tmp_path / "fresh")


def test_without_a_test_picture_the_training_is_the_same_and_not_done_again(
    finished: Small, tmp_path: Path
) -> None:
    small = finished.copy(tmp_path / "copy")
    lines = (small.results / "data" / "test.txt").read_text().splitlines()
    (small.folder / "pics" / lines[0].rpartition(" ")[0]).unlink()
    assert small.run() == everything()
    assert "train first goes on from its last snapshot" in small.said
    assert "train first: iteration 0" not in small.said


@pytest.mark.parametrize("change", ["a label's name", "one validation list"])
def test_a_change_in_the_lists(finished_lists: Small, tmp_path: Path, change: str) -> None:
    small = finished_lists.copy(tmp_path / "copy")
    if change == "a label's name":
        (small.folder / "names.txt").write_text("one\nzwei\nthree\n")
    else:
        lines = (small.folder / "val.txt").read_text().splitlines()
        (small.folder / "val.txt").write_text("\n".join(lines[1:]) + "\n")
    assert small.run() == everything()
    same_as_from_nothing(small, tmp_path / "fresh")
    assert small.artifacts() != finished_lists.artifacts()
    same = small.artifacts()["train_lmdb"] == finished_lists.artifacts()["train_lmdb"]
    assert same, "no picture of the training list has changed"


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lmdb", [{"width": 20}, {"mode": "crop", "width": 20}, {"gray": True, "encoded": "png"}]
)
def test_another_size_mode_or_encoding_of_records(
    finished: Small, tmp_path: Path, lmdb: dict
) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(lmdb=lmdb)
    assert small.run() == everything() - {"scan", "split"}
    same_as_from_nothing(small, tmp_path / "fresh")


def change_runs(small: Small) -> None:
    config = small.config
    for run, change in {
        "rate": {"base_lr": 0.02},
        "longer": {"max_iter": 8},
        "poly": {"max_iter": 8},
        "shorter": {"max_iter": 3},
        "batch": {"batch_size": 4},
        "seed": {"seed": 5},
        "mean": {"mean": [10, 20, 30]},
        "threads": {"threads": 2},
        "added": {},
    }.items():
        config["runs"][run] = {**config["runs"].get(run, {}), **change}
    small.config = config
    net = small.folder / "other.prototxt"
    net.write_text(net.read_text().replace("num_output: 4", "num_output: 5"))
    write_weights(small.folder / "start.caffemodel", 1)
    for file in (net, small.folder / "start.caffemodel"):
        os.utime(file, (10**9, 10**9))  # as a file that was moved here


def test_changes_of_runs_are_redone_from_where_they_count(
    finished_runs: Small, tmp_path: Path
) -> None:
    small = finished_runs.copy(tmp_path / "copy")
    change_runs(small)
    told = small.run(cores=2)
    rules = {name: {r for r in told if r.endswith(f":{name}")} for name in small.config["runs"]}
    after_solver = ("solver", "train", "predict", "metrics", "model")
    expected = {
        "plain": set(),
        "rate": of_run("rate", *after_solver),
        "longer": of_run("longer", *after_solver),
        "poly": of_run("poly", *after_solver),
        "shorter": of_run("shorter", *after_solver),
        "batch": of_run("batch"),
        "seed": of_run("seed", *after_solver),
        "mean": of_run("mean"),
        "threads": of_run("threads", "train", "predict", "metrics", "model"),
        "net": of_run("net"),
        "weights": of_run("weights") | {"linear:weights"},
        "added": of_run("added"),
    }
    assert rules == expected
    assert told - set().union(*rules.values()) == {"report"}
    assert "train longer goes on from its last snapshot" in small.said
    assert "train longer: iteration 0" not in small.said
    assert "train poly starts anew" in small.said and "poly may scale" in small.said
    assert small.run() == set()
    fresh = small.without_results(tmp_path / "fresh")
    fresh.run(cores=2)
    assert small.artifacts() == fresh.artifacts()
    for run in set(rules) - {"plain", "added"}:
        weights = small.results / run / "final.caffemodel"
        old = finished_runs.results / run / "final.caffemodel"
        # The best of a shorter or longer run may be the same snapshot.
        if run not in ("longer", "shorter", "poly"):
            assert weights.read_bytes() != old.read_bytes(), run


@pytest.mark.parametrize(
    "change",
    [{"report": {"description": "Words"}}, {"report": {"mistakes": 3}}, {"title": "Another"}],
)
def test_words_and_looks_make_only_the_report_and_the_models_card_anew(
    finished: Small, tmp_path: Path, change: dict
) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(**change)
    on_the_card = change != {"report": {"mistakes": 3}}
    assert small.run() == {"report"} | (of_run("first", "model") if on_the_card else set())


def test_where_the_net_looks_is_found_for_the_first_run_from_its_weights_alone(
    finished: Small, tmp_path: Path
) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(report={"heat_maps": 2}, runs={"second": {"seed": 5}})
    assert small.run() == of_run("first", "heat_maps") | of_run("second") | {"report"}
    found = small.results / "first" / "heat_maps.json"
    made = json.loads(found.read_text(encoding="utf-8"))
    assert (made["layer"], len(made["pictures"])) == ("relu", 2)
    small.change(report={"heat_maps": 3})
    assert small.run() == of_run("first", "heat_maps") | {"report"}
    small.change(report={"mistakes": 3})
    assert small.run() == {"report"}
    small.change(runs={"first": {"seed": 6}})
    trained = of_run("first", "solver", "train", "predict", "metrics", "model", "heat_maps")
    assert small.run() == trained | {"report"}
    assert made != json.loads(found.read_text(encoding="utf-8"))
    assert "heat_maps.json" in (small.results / "SHA256SUMS").read_text(encoding="utf-8")


# ---- what runs it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "rules"),
    [
        ("REPORT", {"report"}),
        ("MEAN", {"mean", "report"} | of_run("first", "train", "predict", "metrics", "model")),
        ("EVALUATE", {"report"} | of_run("first", "predict", "metrics", "model")),
        ("SPLIT", everything() - {"scan"}),
    ],
)
def test_a_raised_number_of_a_stage_runs_that_stage(
    finished: Small, tmp_path: Path, stage: str, rules: set[str]
) -> None:
    small = finished.copy(tmp_path / "copy")
    small.root = clone_to(tmp_path / "newer", small.root)
    stages = small.root / "recaffe" / "stages.py"
    stages.write_text(f"{stages.read_text()}\n{stage} += 1\n")
    assert small.run() == rules


def test_another_style_of_plots_makes_only_the_report_anew(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    small.root = clone_to(tmp_path / "newer", small.root)
    figures, stages = (small.root / "recaffe" / n for n in ("report/figures.py", "stages.py"))
    blue, teal = "#2b6ca3", "#0f8a8a"
    old = (small.results / "report.html").read_text(encoding="utf-8")
    figures.write_text(figures.read_text(encoding="utf-8").replace(blue, teal), encoding="utf-8")
    stages.write_text(f"{stages.read_text(encoding='utf-8')}\nREPORT += 1\n", encoding="utf-8")
    assert small.run() == {"report"}
    new = (small.results / "report.html").read_text(encoding="utf-8")
    assert teal in new and teal not in old
    assert small.artifacts() == finished.artifacts()


def test_another_release_of_recaffe_that_computes_the_same_runs_nothing(
    finished: Small, tmp_path: Path
) -> None:
    small = finished.copy(tmp_path / "copy")
    small.root = clone_to(tmp_path / "newer", small.root)
    init = small.root / "recaffe" / "__init__.py"
    init.write_text(re.sub('(__version__ = )".*"', r'\1"99.0"', init.read_text(encoding="utf-8")))
    assert small.run() == set()


def test_another_container_runs_everything(
    finished: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "apptainer"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho apptainer version 1.3.0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    small = finished.copy(tmp_path / "copy")
    image = tmp_path / "image.sif"
    image.touch()  # a plan opens none
    plan = small.plan("--software-deployment-method", "apptainer", "--config", f"container={image}")
    counted = {name.partition(":")[0] for name in everything()}
    assert set(plan) == counted and plan["lmdb"] == 3


def test_moved_results_are_taken_along(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    (small.folder / "results").rename(small.folder / "moved")
    small.change(results="moved")
    # The nets and the solver name the records by their new place.
    assert small.run() == of_run("first") | {"report"}
    assert "train first: iteration 0" not in small.said, "nothing was trained again"
    assert small.run() == set()
    same_as_from_nothing(small, tmp_path / "fresh")
    small.change(train={"base_lr": 0.5})
    assert set(small.plan()) == {"solver", "train", "predict", "metrics", "model", "report"}


def test_results_without_notes_are_made_anew(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    shutil.rmtree(small.folder / ".snakemake")
    assert small.run() == everything()
    assert "no note of how it was made" in small.said
    assert "train first: iteration 0" not in small.said, "nothing was trained again"
    assert small.artifacts() == finished.artifacts()
    assert small.run() == set()


def test_what_a_failed_step_was_about_is_not_forgotten(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    net = small.folder / "net.prototxt"
    net.write_text(net.read_text().replace("num_output: 4", "num_output: 6"))
    os.utime(net, (10**9, 10**9))
    # As Snakemake leaves a failed step: neither results nor notes.
    for name in ("train_val.prototxt", "deploy.prototxt", "net.json", "layers.csv"):
        output = f"results/own/first/{name}"
        (small.folder / output).unlink()
        code = base64.urlsafe_b64encode(output.encode()).decode()
        (small.folder / ".snakemake" / "metadata" / code).unlink()
    assert small.run() == of_run("first") | {"report"}


def test_a_lost_result_is_made_again(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    (small.results / "first" / "final.caffemodel").unlink()
    assert small.run() == of_run("first", "train", "predict", "metrics", "model") | {"report"}
    assert "train first: iteration 0" not in small.said, "nothing was trained again"
    assert small.artifacts() == finished.artifacts()


def test_a_second_snakemake_is_refused_and_harms_nothing(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(train={"epochs": 200, "base_lr": 0.001})
    log = small.results / "first" / "logs" / "train.log"
    log.unlink()
    command = running.command(small.file, root=small.root)
    with subprocess.Popen(
        command, cwd=small.folder, env=running.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as first:  # fmt: skip
        deadline = time.monotonic() + 600
        while not log.exists() and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert log.exists()
        os.killpg(first.pid, signal.SIGSTOP)  # or it might end before the second begins
        try:
            inventory = (small.results / "data" / "inventory.csv").read_bytes()
            write_pictures(small.folder / "pics", "d")
            running.refused(small.file, "cannot be locked", root=small.root)
            assert "scan" in small.plan()
            assert (small.results / "data" / "inventory.csv").read_bytes() == inventory
            shutil.rmtree(small.folder / "pics" / "d")
        finally:
            os.killpg(first.pid, signal.SIGCONT)
        said, _ = first.communicate(timeout=600)
    assert first.returncode == 0, said
    assert small.run() == set()
