"""Four ways to say which pictures there are; each mistake is one message that names its place."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recaffe import config, digests
from recaffe.errors import DataError
from recaffe.images import folders, inventory
from tests.conftest import save, texture


def images(value: Any) -> dict[str, Any]:
    full = config.complete({"dataset": "d", "images": value, "runs": {"a": {"weights": "none"}}})
    return full["images"]


def listed(value: Any) -> tuple[dict[str, tuple[str, str]], list[str]]:
    items, labels = inventory.list_pictures(images(value))
    return {item.path: (item.split, item.label) for item in items}, labels


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("train/a b/1.png", "train/ü/2.png", "val/a b/3.png", "test/ü/4.png"):
        save(texture(len(name)), tmp_path / name)
    return tmp_path


def test_folder_of_classes(tree: Path) -> None:
    found, labels = listed(str(tree / "train"))
    assert found == {"a b/1.png": ("", "a b"), "ü/2.png": ("", "ü")}
    assert labels == ["a b", "ü"]


def test_folder_of_splits(tree: Path) -> None:
    found, _ = listed(str(tree))
    assert found["val/a b/3.png"] == ("val", "a b")
    assert found["test/ü/4.png"] == ("test", "ü")
    assert len(found) == 4


def test_clutter_of_file_managers_is_passed_over(tree: Path) -> None:
    (tree / "train" / "ü" / "Thumbs.db").touch()
    (tree / "train" / ".DS_Store").touch()
    assert len(listed(str(tree / "train"))[0]) == 2


def test_lists_with_names(tree: Path) -> None:
    (tree / "train.txt").write_text("a b/1.png 0\nü/2.png\t1 \n\n")
    (tree / "val.txt").write_text("3.png 0\n")
    (tree / "names").write_text("eins\nzwei\n")
    found, labels = listed(
        {
            "train": {"list": str(tree / "train.txt"), "root": str(tree / "train")},
            "val": {"list": str(tree / "val.txt"), "root": str(tree / "val" / "a b")},
            "label_names": str(tree / "names"),
        }
    )
    assert found == {
        "a b/1.png": ("train", "eins"),
        "ü/2.png": ("train", "zwei"),
        "3.png": ("val", "eins"),
    }
    assert labels == ["eins", "zwei"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("absolute", [True, False])
def test_tables(tree: Path, kind: str, absolute: bool) -> None:
    paths = ["train/a b/1.png", "train/ü/2.png"]
    if absolute:
        paths = [str(tree / p) for p in paths]
    table = pd.DataFrame({"file": paths, "kind": ["x", "NA"]})
    path = tree / f"t.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False)
    found, labels = listed({"path": str(path), "path_column": "file", "label_column": "kind"})
    assert found == {paths[0]: ("", "x"), paths[1]: ("", "NA")}
    assert labels == ["NA", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\n", "line 1.*no label"),
        ("a.png 0\nb.png cat\n", "line 2.*'cat'.*whole number"),
        ("a.png 0\nb.png 2\n", "no line has label 1"),
        ("a.png -1\n", "line 1.*'-1'"),
        ("a.png 0\nb.png 1\na.png 1\n", "listed twice"),
        ("a.png 0\nb.png 0\n", "only one class"),
        ("\n", "no lines"),
    ],
)
def test_a_wrong_list_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        listed({"train": {"list": str(tmp_path / "l.txt")}})


def test_label_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a 0\nb 1\nc 2\n")
    (tmp_path / "n.txt").write_text("x\ny\n")
    with pytest.raises(DataError, match="line 3: label 2"):
        listed({"train": {"list": str(tmp_path / "l.txt")}, "label_names": str(tmp_path / "n.txt")})


def test_unknown_label_name(tree: Path) -> None:
    (tree / "n.txt").write_text("a b\n")
    with pytest.raises(DataError, match="unknown label name 'ü'"):
        listed({"path": str(tree / "train"), "label_names": str(tree / "n.txt")})


def test_missing_root_and_empty_class(tree: Path) -> None:
    with pytest.raises(DataError, match="there is no .*nowhere"):
        listed(str(tree / "nowhere"))
    (tree / "train" / "empty").mkdir()
    with pytest.raises(DataError, match="empty.*is empty"):
        listed(str(tree / "train"))


def test_touch_changes_nothing_and_one_byte_does(tree: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "out" / "inventory.csv", tmp_path / "out" / "cache"
    where = images(str(tree / "train"))
    first = inventory.take(where, out, cache)
    written = out.stat().st_mtime_ns
    picture = tree / "train" / "ü" / "2.png"
    os.utime(picture)
    assert inventory.take(where, out, cache) == first
    assert out.stat().st_mtime_ns == written
    picture.write_bytes(picture.read_bytes() + b"x")
    assert inventory.take(where, out, cache) != first


NAMES = st.sampled_from(["a", "a-b", "a b", "a.png", "a0", "A", "ü", ".a", "Thumbs.db"])
TREES = st.sets(st.lists(NAMES, min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


@given(TREES, st.sampled_from(["", "x", "./x/", "/"]))
def test_a_walk_is_in_the_order_of_its_paths(paths: set[tuple[str, ...]], prefix: str) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        for path in paths:
            with suppress(OSError):  # one is a file already, the other a folder of that name
                root.joinpath(*path).parent.mkdir(parents=True, exist_ok=True)
                root.joinpath(*path).touch()
        there = [f.relative_to(root) for f in root.rglob("*") if f.is_file()]
        kept = [p for p in there if not {".a", "Thumbs.db"} & set(p.parts)]
        wanted = sorted(str(Path(prefix) / p) for p in kept)
        assert list(folders.walk(root, prefix)) == wanted
        assert folders.is_empty(root) == (not wanted)


def test_pictures_come_in_the_order_of_split_and_path(tmp_path: Path) -> None:
    for folder in ("a", "a b", "a-b", "a/c", "ab", "B"):
        for split in ("val", "train", "test"):
            (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / split / folder / "1.png").touch()
    items, labels = inventory.list_pictures(images(str(tmp_path)))
    assert [(i.split, i.path) for i in items] == sorted((i.split, i.path) for i in items)
    assert len(items) == 18
    assert labels == ["B", "a", "a b", "a-b", "ab"]


def test_a_mistake_is_told_before_any_picture_is_read(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "zuletzt").mkdir()
    with patch.object(digests, "sha256") as read, pytest.raises(DataError, match="is empty"):
        inventory.take(images(str(tree / "train")), tmp_path / "inventory.csv", tmp_path / "cache")
    read.assert_not_called()
    assert not (tmp_path / "inventory.csv").exists()
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_read_is_named(tree: Path) -> None:
    def refused(folder: Path | str) -> Any:
        if str(folder).endswith("inside"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    (tree / "train" / "ü" / "inside").mkdir()
    scandir = os.scandir
    with patch.object(os, "scandir", refused), pytest.raises(DataError, match="ü/inside can't be"):
        inventory.list_pictures(images(str(tree / "train")))


def test_without_keep_nothing_is_written(tree: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "out" / "inventory.csv", tmp_path / "out" / "cache"
    where = images(str(tree / "train"))
    said = inventory.take(where, out, cache, keep=False)
    assert not out.parent.exists()
    assert inventory.take(where, out, cache) == said == inventory.digest_of(out)
    before = {f: f.read_bytes() for f in out.parent.iterdir()}
    save(texture(9), tree / "train" / "ü" / "neu.png")
    assert inventory.take(where, out, cache, keep=False) != said
    assert {f: f.read_bytes() for f in out.parent.iterdir()} == before
