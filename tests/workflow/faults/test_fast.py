"""`lmdb.fast` is the scan's as well; off, it is as if unknown."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import save, texture
from tests.workflow.faults.small import Small, everything


def test_fast_decoding_makes_all_anew_and_off_is_nothing_new(
    finished: Small, tmp_path: Path
) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(lmdb={"fast": False})
    assert set(small.plan()) <= {"report"}, "the config on the report is another one"
    small.change(lmdb={"fast": True})
    assert {"scan", "split", "lmdb", "mean", "train", "model"} <= set(small.plan())
    save(texture(7, size=(120, 90)), small.folder / "pics" / "a" / "photo.jpg")
    assert small.run() == everything()
    note = json.loads((small.results / "first" / "model" / "model.json").read_text("utf-8"))
    assert note["preprocessing"]["record"]["fast"] is True
    fresh = small.without_results(tmp_path / "fresh")
    fresh.run(cores=2)
    assert small.artifacts() == fresh.artifacts()
    small.change(lmdb={"width": 20})
    assert "scan" in small.plan(), "another size of records is another size of what is looked at"
