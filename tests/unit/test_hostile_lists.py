"""Lists, tables and folders that mean harm are refused, or do none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recaffe import tables
from recaffe.errors import DataError
from recaffe.images import inventory
from tests.conftest import save, texture


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../x.png", ".."])
@pytest.mark.parametrize("form", ["list", "table"])
def test_a_path_that_leaves_its_root_is_refused(tmp_path: Path, path: str, form: str) -> None:
    save(texture(1), tmp_path / "in" / "0.png")
    file = tmp_path / "in" / ("l.txt" if form == "list" else "t.csv")
    if form == "list":
        file.write_text(f"0.png 0\n{path} 1\n")
        images: dict = {"train": {"list": str(file)}}
    else:
        file.write_text(f"path,label\n0.png,a\n{path},b\n")
        images = {"path": str(file), "root": "", "path_column": "path", "label_column": "label", "split_column": ""}  # fmt: skip
    with pytest.raises(DataError, match="line 2|row 3") as caught:
        inventory.list_pictures(images)
    assert "leads out of the root" in str(caught.value)


def test_a_path_with_dots_that_stays_inside_its_root_is_fine(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a/../0.png 0\nb/1.png 1\n")
    items, _ = inventory.list_pictures({"train": {"list": str(tmp_path / "l.txt")}})
    assert len(items) == 2


@pytest.mark.parametrize("label", ["999999999", "9" * 5000, "²"])
def test_a_huge_label_is_a_message_not_a_huge_table(tmp_path: Path, label: str) -> None:
    (tmp_path / "l.txt").write_text(f"0.png 0\n1.png {label}\n", encoding="utf-8")
    began = time.process_time()
    with pytest.raises(DataError, match=r"no line has label 1, 2, 3, 4, 5\.|not a whole number"):
        inventory.list_pictures({"train": {"list": str(tmp_path / "l.txt")}})
    assert time.process_time() - began < 1


def test_folders_that_lead_in_a_circle_are_listed_once(tmp_path: Path) -> None:
    """Links to files are followed, and those to class folders; deeper ones to folders are not."""
    for name in ("a", "b"):
        save(texture(1), tmp_path / name / "0.png")
        (tmp_path / name / "again").symlink_to(tmp_path)
    (tmp_path / "b" / "link.png").symlink_to(tmp_path / "a" / "0.png")
    items, _ = inventory.list_pictures({"path": str(tmp_path), "root": "", "label_names": ""})
    assert [i.path for i in items] == ["a/0.png", "b/0.png", "b/link.png"]


@given(st.text(max_size=12))
def test_every_text_comes_back_from_a_table_and_none_starts_a_formula(text: str) -> None:
    cell = tables.cell_of(text)
    assert tables.text_of(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r") or cell.lstrip("+-").replace(".", "", 1).isdigit()


def test_classes_named_by_numbers_stay_numbers() -> None:
    assert [tables.cell_of(x) for x in ("-1", "+1", "0.5", "-0.5")] == ["-1", "+1", "0.5", "-0.5"]
    assert tables.cell_of("-1+cmd|' /C calc'!A0") == "'-1+cmd|' /C calc'!A0"
