"""`recaffe verify` finds a flipped byte wherever it is, and says what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from recaffe import cli, provenance
from recaffe.errors import DataError
from recaffe.files import sha256
from recaffe.images import inventory
from recaffe.lmdb import read
from recaffe.verify import verify
from tests.small_results import build_results

LMDBS = tuple(f"data/{split}_lmdb/data.mdb" for split in inventory.SPLITS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_results(tmp_path_factory.mktemp("verify"))


@pytest.fixture
def results(built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder, mended after the test."""
    folder = built.parents[1]
    monkeypatch.chdir(folder)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    yield Path("results/own")
    for path in kept.rglob("*"):
        own = folder / path.relative_to(kept)
        if path.is_file() and (not own.exists() or own.read_bytes() != path.read_bytes()):
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, own)


def files(built: Path) -> list[str]:
    sums = (built / provenance.SUMS).read_text().splitlines()
    return [line.split("  ")[1] for line in sums[:-1]] + [provenance.SUMS]


def flip(path: Path, rng: np.random.Generator) -> bytes:
    """Change one byte; returns what was there."""
    whole = path.read_bytes()
    at = int(rng.integers(len(whole)))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :])
    return whole


def test_what_was_just_built_is_right_also_by_depth(results: Path) -> None:
    assert [str(p) for p in verify(results, deep=True)] == []
    assert cli.main(["verify", "results"]) == 0


def test_a_flipped_byte_is_found_in_every_file(results: Path) -> None:
    rng = np.random.default_rng(0)
    names = files(results)
    assert len(names) > 25
    for name in names:
        for _ in range(2):
            whole = flip(results / name, rng)
            found = [p.file for p in verify(results)]
            (results / name).write_bytes(whole)
            assert str(results / name) in found, name


def test_a_flipped_byte_of_a_record_is_found_in_every_lmdb(results: Path) -> None:
    rng = np.random.default_rng(1)
    for name in LMDBS:
        file, folder = results / name, (results / name).parent
        right, found = read.describe(folder), 0
        for _ in range(40):
            whole = flip(file, rng)
            problems = [p.file for p in verify(results)]
            try:
                same = read.describe(folder) == right
            except DataError:
                same = False
            file.write_bytes(whole)
            # A byte of a page that nobody reads doesn't matter.
            assert (problems == []) == same
            assert set(problems) <= {str(folder)}
            found += not same
        assert found > 5


def test_problems_name_the_file_and_the_remedy_and_the_status_is_1(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(results / "data" / "mean.binaryproto", np.random.default_rng(2))
    assert cli.main(["verify", "results/own"]) == 1
    said = capsys.readouterr().out
    assert "results/own/data/mean.binaryproto: it has changed" in said
    remedy = (
        "Remove results/own/data/mean.binaryproto and results/own/report.html, then run the same"
    )
    assert remedy in said
    assert said.count("mean.binaryproto: ") == 1


def test_a_label_that_differs_between_list_and_lmdb_is_found(results: Path) -> None:
    """The note's digest and SHA256SUMS are made to fit, as somebody who hides a change would."""
    folder = results / "data" / "test_lmdb"
    with lmdb.open(str(folder), map_size=2**24) as env, env.begin(write=True) as txn:
        key = next(iter(txn.cursor().iternext(values=False)))
        value = bytearray(txn.get(key))
        value[value.rindex(b"\x28") + 1] ^= 1  # Datum's label is field 5, after the pixels
        txn.put(key, bytes(value))
    (folder / "lock.mdb").unlink()
    note = results / "data" / "test_lmdb.json"
    note.write_text(json.dumps(read.describe(folder)))
    sums = (results / provenance.SUMS).read_text().splitlines()
    fitting = [f"{sha256(note)}  data/test_lmdb.json" if x.endswith("test_lmdb.json") else x for x in sums]  # fmt: skip
    (results / provenance.SUMS).write_text("\n".join(fitting) + "\n")
    found = [str(p) for p in verify(results)]
    assert any("label" in text and "test_lmdb" in text for text in found), found
    assert any("provenance.json has another digest" in text for text in found), found


def test_depth_finds_a_picture_that_changed_in_place_with_its_old_time(results: Path) -> None:
    picture = Path("pictures/cat/picture3.png")
    stat = picture.stat()
    flip(picture, np.random.default_rng(3))
    os.utime(picture, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert list(verify(results)) == []
    assert [p.file for p in verify(results, deep=True)] == [str(picture)]


@pytest.mark.parametrize("name", ["data/train_lmdb/data.mdb", "first/final.caffemodel", "SHA256SUMS"])  # fmt: skip
def test_a_missing_file_is_named(results: Path, name: str) -> None:
    (results / name).unlink()
    assert any(name.removesuffix("/data.mdb") in p.file for p in verify(results))


def test_the_chain_leads_from_the_metrics_to_every_picture(results: Path) -> None:
    chain = json.loads((results / "first" / provenance.CHAIN).read_text())
    made_from = {entry["file"]: entry["from"] for entry in chain["files"]}
    ends, todo, seen = set(), ["first/metrics.json"], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in made_from:
            todo += made_from[name]
        else:
            ends.add(name)
    assert ends == {"pictures", "net.prototxt"}
    assert seen > {"data/train_lmdb", "data/mean.binaryproto", "first/solver.prototxt", "first/final.caffemodel"}  # fmt: skip
    rows = inventory.read(results / chain["pictures"]["listed in"])
    assert len(rows) == chain["pictures"]["count"] == 28
    assert all(row["sha256"] == sha256(Path(row["root"]) / row["path"]) for row in rows)
    for entry in chain["inputs"]:
        assert sha256(entry["file"]) == entry["sha256"]


def test_two_builds_have_the_same_chain_and_sums_but_for_times(built: Path, tmp_path: Path) -> None:
    again = build_results(tmp_path)
    chain = Path("first") / provenance.CHAIN
    assert (again / chain).read_bytes() == (built / chain).read_bytes()
    ours, theirs = ((r / provenance.SUMS).read_text().splitlines() for r in (again, built))
    differ = {a.split("  ")[1] for a, b in zip(ours[:-1], theirs[:-1], strict=True) if a != b}
    training = {"first/train.csv", "first/train.log", "first/train.json"}
    assert differ <= {*training, "runs.csv", "report.html"}


def test_weights_that_were_trained_from_another_net_are_refused(results: Path) -> None:
    net = results / "first" / "train_val.prototxt"
    net.write_text(net.read_text().replace('"xavier"', '"gaussian"'))
    config = json.loads((results / "first" / provenance.CHAIN).read_text())["config"]
    with pytest.raises(DataError, match="trained from other files.*Remove it"):
        provenance.write(results, config, {"first": []})


def test_a_folder_without_results_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert cli.main(["verify", str(tmp_path)]) == 1
    assert "holds no results" in capsys.readouterr().err
    assert cli.main(["verify", str(tmp_path / "nowhere")]) == 1
