"""The split follows from content: nothing moves when others come or go, no twins across it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe import config
from recaffe.errors import DataError
from recaffe.images import inventory, scan, split
from tests.conftest import texture

SHARES = {"val": 0.2, "test": 0.2, "seed": 0, "oversample": False}


def row(seed: int, label: str = "a", **more: str) -> dict[str, str]:
    look = scan.describe(_picture(texture(seed)))
    return {
        "root": ".",
        "path": f"{label}/{seed}.png",
        "split": "",
        "label": label,
        **{k: str(v) for k, v in look.items()},
        **more,
    }


def _picture(bgr: np.ndarray) -> Any:
    from recaffe.images.decode import Picture

    return Picture(bgr, bgr.shape[1], bgr.shape[0], "PNG", "RGB", 1, 1)


ROWS = [row(seed) for seed in range(120)]


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 119), min_size=1), st.integers(0, 3))
def test_removing_pictures_moves_no_other(kept: set[int], seed: int) -> None:
    shares = {**SHARES, "seed": seed}
    whole = split.assign(ROWS, shares, 10, False)
    part = split.assign([ROWS[i] for i in sorted(kept)], shares, 10, False)
    assert part.place == [whole.place[i] for i in sorted(kept)]


def test_order_and_names_of_files_do_not_matter() -> None:
    shuffled = list(enumerate(ROWS))
    random.Random(1).shuffle(shuffled)
    renamed = [{**r, "path": f"x{i}"} for i, r in shuffled]
    whole = split.assign(ROWS, SHARES, 10, False).place
    assert split.assign(renamed, SHARES, 10, False).place == [whole[i] for i, _ in shuffled]


def test_shares_are_about_right() -> None:
    place = split.assign(ROWS, SHARES, -1, False).place
    assert 12 <= place.count("test") <= 38
    assert 12 <= place.count("val") <= 38
    assert "" not in place


def near_twins() -> list[dict[str, str]]:
    """Sixty pictures, each followed by a copy and by one that is a little brighter."""
    rows = []
    for seed in range(60):
        image = texture(seed, size=(96, 80))
        near = np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8)
        for n, version in enumerate((image, image, near)):
            look = {k: str(v) for k, v in scan.describe(_picture(version)).items()}
            rows.append({"root": ".", "path": f"{seed}-{n}", "split": "", "label": "a", **look})
    return rows


def test_exact_and_near_twins_share_a_split_or_are_left_out() -> None:
    rows = near_twins()
    made = split.assign(rows, SHARES, 10, False)
    for seed in range(60):
        places = set(made.place[3 * seed : 3 * seed + 3]) - {""}
        assert len(places) == 1
    assert len(made.groups) == 60


def test_given_splits_are_kept_and_training_twins_go() -> None:
    rows = [
        row(1, split="test"),
        row(1, path="b", split="train"),
        row(2, split="train"),
        row(3, split="val"),
    ]
    made = split.assign(rows, SHARES, 10, False)
    assert made.place == ["test", "", "train", "val"]
    assert "twin" in made.reasons[1]


def test_one_picture_under_two_labels_is_an_error_unless_allowed() -> None:
    rows = [row(1), row(1, label="b"), row(2)]
    with pytest.raises(DataError, match=r"a/1.png \(a\) = b/1.png \(b\)"):
        split.assign(rows, SHARES, 10, False)
    assert split.assign(rows, SHARES, 10, True).place[:2] == ["", ""]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=600))
def test_record_keys_fit_lmdb(name: str) -> None:
    assert len(split.record_key(name, 0).encode()) <= 511


def test_lists_from_folders(class_folders: Path, tmp_path: Path) -> None:
    full = config.complete(
        {
            "dataset": "d",
            "images": str(class_folders),
            "runs": {"a": {"weights": "none"}},
            "split": {"oversample": True},
        }
    )
    data = tmp_path / "data"
    inventory.take(full["images"], data / "inventory.csv", data / "cache")
    scan.scan(data / "inventory.csv", data / "manifest.csv", data / "rejected.csv", full["scan"], 1)
    split.write(data / "manifest.csv", data / "inventory.csv", data / "rejected.csv", data, full)
    labels = (data / "labels.txt").read_text().splitlines()
    assert labels == ["blau", "grün Wald", "rot"]
    seen: list[str] = []
    for part in ("train", "val", "test"):
        lines = (data / f"{part}.txt").read_text().splitlines()
        for line in lines:
            path, _, label = line.rpartition(" ")
            assert path.split("/")[0] == labels[int(label)]
            assert (class_folders / path).is_file()
        seen += {line.rpartition(" ")[0] for line in lines}
        if part == "train":
            counts = [sum(line.endswith(f" {k}") for line in lines) for k in range(3)]
            assert len(set(counts)) == 1, "oversampling evens the classes out"
    assert sorted(seen) == sorted(
        str(p.relative_to(class_folders)) for p in class_folders.rglob("*.png")
    )


def test_too_many_rejects_stop_with_the_head_of_the_list(
    class_folders: Path, tmp_path: Path
) -> None:
    full = config.complete(
        {"dataset": "d", "images": str(class_folders), "runs": {"a": {"weights": "none"}}}
    )
    for i in range(12):
        (class_folders / "rot" / f"broken{i}.jpg").write_bytes(b"nothing" if i else b"")
    data = tmp_path / "data"
    inventory.take(full["images"], data / "inventory.csv", data / "cache")
    with pytest.raises(DataError, match=r"12 of 132.*\n.*broken0.jpg: empty"):
        scan.scan(
            data / "inventory.csv", data / "manifest.csv", data / "rejected.csv", full["scan"], 1
        )
    assert (data / "rejected.csv").read_text().count("\n") == 13
    assert not (data / "manifest.csv").exists()
