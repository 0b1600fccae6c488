"""What `recaffe verify` advises mends the results: one more run, and they are as before."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from recaffe.lmdb import read
from tests.workflow.faults.small import Small

DAMAGED = (
    "data/manifest.csv", "data/test_lmdb/data.mdb", "data/mean.binaryproto",
    "first/train_val.prototxt", "first/solver.prototxt", "first/final.caffemodel",
    "first/predictions.csv", "first/model/weights.caffemodel", "first/model/model.json", "summary.txt",
)  # fmt: skip


def verify(small: Small) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "recaffe", "verify", "results", "--deep"],
        cwd=small.folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode, done.stdout


def follow(said: str, small: Small) -> None:
    """Remove what verify, or a workflow that failed, says."""
    advised = {
        word.rstrip(",")
        for line in said.splitlines()
        for word in re.split(", then run| and run", line.partition(". Remove ")[2])[0].split()
    } - {"and"}
    subprocess.run(["rm", "-r", *sorted(advised)], cwd=small.folder, check=True)


def test_following_the_advice_of_verify_mends_the_results(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "own")
    right = small.artifacts()
    assert verify(small) == (0, "")
    lmdb = small.results / "data" / "test_lmdb"
    with read.open_lmdb(lmdb) as env, env.begin() as txn, txn.cursor() as cursor:
        cursor.first()
        pixels = bytes(cursor.value()[40:60])
    for name in DAMAGED:
        whole = bytearray((small.results / name).read_bytes())
        at = whole.index(pixels) if name.endswith(".mdb") else len(whole) // 2
        whole[at] ^= 1
        with (small.results / name).open("r+b") as file:  # in place, as a disk does it
            file.write(whole)
    status, said = verify(small)
    assert status == 1
    for name in DAMAGED:
        assert f"{name.removesuffix('/data.mdb')}: " in said, name
    follow(said, small)
    small.run()
    assert verify(small) == (0, "")
    assert small.artifacts() == right
