"""Settings of augmentation and of crops make again what they are about; off, they are as if unknown."""

from __future__ import annotations

import json
from pathlib import Path

from tests.workflow.faults.small import Small, of_run


def test_off_is_nothing_new_and_on_is_another_training(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    before = small.artifacts()
    small.change(train={"augment": {"rotate": 0, "scale": [1, 1]}, "test_crops": 1})
    assert set(small.plan()) <= {"report"}, "the config on the report is another one"
    small.change(train={"augment": {"rotate": 20, "mixup": 0.3}})
    assert small.run() == of_run("first", "train", "predict", "metrics", "model") | {"report"}
    after = small.artifacts()
    assert after["first/final.caffemodel"] != before["first/final.caffemodel"]
    assert "Augmentation" in (small.results / "report.html").read_text(encoding="utf-8")
    chain = json.loads((small.results / "first" / "provenance.json").read_text(encoding="utf-8"))
    assert chain["augment"] == {"rotate": 20, "mixup": 0.3}
    small.change(train={"augment": {}})
    small.run()
    assert "goes on from its last snapshot" in small.said
    assert small.artifacts() == before


def test_crops_are_the_tests_alone(finished: Small, tmp_path: Path) -> None:
    small = finished.copy(tmp_path / "copy")
    small.change(train={"crop_size": 12})
    small.run()
    small.change(train={"test_crops": 10})
    assert small.run() == of_run("first", "predict", "metrics", "model") | {"report"}
    note = json.loads((small.results / "first" / "model" / "model.json").read_text("utf-8"))
    assert note["preprocessing"]["crops"] == 10
