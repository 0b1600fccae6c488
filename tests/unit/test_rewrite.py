"""A file rewritten block by block: what was written, or the file that it was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recaffe.errors import MachineError
from recaffe.files import rewrite, write_text_if_changed

CONTENT = st.lists(st.binary(min_size=1, max_size=6), max_size=6)


@given(st.none() | st.binary(max_size=20), CONTENT, st.booleans())
def test_the_content_is_the_blocks_and_a_file_with_just_that_is_left_alone(
    old: bytes | None, blocks: list[bytes], keep: bool
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "file")
        for first in (old, b"".join(blocks), b"".join(blocks[:-1]), b"".join([*blocks, b"x"])):
            path.unlink(missing_ok=True)
            if first is not None:
                path.write_bytes(first)
            node = path.stat().st_ino if path.exists() else None
            with rewrite(path, keep=keep) as new:
                for block in blocks:
                    new.write(block)
            wanted = b"".join(blocks)
            assert new.sha256() == hashlib.sha256(wanted).hexdigest()
            if keep:
                assert path.read_bytes() == wanted
            elif first is None:
                assert not path.exists()
            else:
                assert path.read_bytes() == first
            if first == wanted or not keep:
                assert (path.stat().st_ino if path.exists() else None) == node
            assert {p.name for p in Path(folder).iterdir()} <= {"file"}


def test_a_failure_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), rewrite(path) as new:
        new.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_files_place_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file" / "in").mkdir(parents=True)
    with pytest.raises(MachineError, match="file"), rewrite(tmp_path / "file") as new:
        new.write(b"new")
    assert (tmp_path / "file" / "in").is_dir()


def test_a_file_in_the_folders_place_is_explained(tmp_path: Path) -> None:
    (tmp_path / "not").write_bytes(b"")
    with pytest.raises(MachineError, match="not"), rewrite(tmp_path / "not" / "file") as new:
        new.write(b"new")


def test_a_text_with_a_name_that_is_not_utf8_is_written_as_it_was(tmp_path: Path) -> None:
    write_text_if_changed(tmp_path / "file", os.fsdecode(b"caf\xe9\n"))
    assert (tmp_path / "file").read_bytes() == b"caf\xe9\n"


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old" * 10000)
    with pytest.raises(MachineError, match="shorter while it was read"), rewrite(path) as new:
        new.write(b"old" * 10000)
        path.write_bytes(b"")
        new.write(b"and more")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
