"""LMDBs in shards: every result is that of one LMDB, and a change touches few shards."""

from __future__ import annotations

import re
from pathlib import Path

from recaffe.lmdb.read import open_records
from tests.conftest import save, texture
from tests.workflow.faults.small import Small
from tests.workflow.faults.test_verify import follow, verify
from tests.workflow.running import snakemake


def test_the_number_of_shards_changes_no_result(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(lmdb={"shards": 3, "scratch": str(tmp_path)})
    ran = small.run(cores=2)
    assert {f"lmdb:train_{i}" for i in range(3)} | {"mean_0", "lmdb:train"} <= ran
    assert "nothing has changed that its numbers follow from" in small.said
    assert small.artifacts() == finished.artifacts()
    assert not small.plan()
    stores = {p.name for p in (small.results / "data" / "lmdb").iterdir()}
    assert stores == {f"{s}_{i}of3" for s in ("train", "val", "test") for i in range(3)}

    save(texture(77, 1, (24, 24)), small.folder / "pics" / "b" / "new.png")
    small.run(cores=2)
    touched = re.findall(
        r"(\w+_\dof3)_lmdb(?: is built from nothing: 1 of|.* 1 to decode)", small.said
    )
    assert len(touched) == 1, small.said
    small.change(lmdb={"shards": 1})
    small.run(cores=2)
    alone = small.without_results(tmp_path / "alone")
    alone.run(cores=2)
    assert small.artifacts() == alone.artifacts()
    assert {p.name for p in (small.results / "data" / "lmdb").iterdir()} == {"train", "val", "test"}
    assert not list((small.results / "data" / "shards").glob("*_lmdb"))


def test_a_flipped_byte_in_a_shard_is_mended_by_what_the_messages_advise(
    finished: Small, tmp_path: Path
) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(lmdb={"shards": 2})
    small.run(cores=2)
    assert verify(small) == (0, "")
    lmdb = small.results / "data" / "train_lmdb"

    def flip() -> None:
        with open_records(lmdb) as records:
            pixels = bytes(records.value(0)[40:60])
        at = (lmdb / "000" / "data.mdb").read_bytes().index(pixels)
        with (lmdb / "000" / "data.mdb").open("r+b") as file:
            file.seek(at)
            file.write(bytes([pixels[0] ^ 1]))

    flip()
    status, said = verify(small)
    assert status == 1
    follow(said, small)
    small.run(cores=2)
    assert verify(small) == (0, "")
    flip()
    (small.results / "first" / "final.caffemodel").unlink()
    done = snakemake(small.file, root=small.root)
    assert done.returncode != 0
    [message] = {x for x in done.stdout.splitlines() + done.stderr.splitlines() if x.startswith("recaffe: ")}  # fmt: skip
    follow(message, small)
    small.run(cores=2)
    assert small.artifacts() == finished.artifacts()
    assert verify(small) == (0, "")
