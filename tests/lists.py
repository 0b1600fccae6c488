"""Pictures, lists of them, and LMDBs kept up to date with them, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recaffe import config
from recaffe.files import sha256
from recaffe.lmdb import write
from recaffe.lmdb.read import open_lmdb
from recaffe.lmdb.update import update
from tests.conftest import save, texture


class Item(NamedTuple):
    """A line of a list: which content the picture has, its label, and how often it is listed."""

    content: int
    label: int = 0
    times: int = 1


List = Mapping[str, Item]


def settings(**lmdb: Any) -> dict[str, Any]:
    """A whole config for records of 40×40."""
    return config.complete(
        {
            "dataset": "d",
            "images": "x",
            "runs": {"a": {"weights": "none"}},
            "lmdb": {"width": 40, "height": 40, **lmdb},
        }
    )


class Lists:
    """A folder of lists, their pictures, and one LMDB that is updated from list to list."""

    def __init__(self, folder: Path, threads: int = 1, **lmdb: Any) -> None:
        self.folder, self.settings, self.threads = folder, settings(**lmdb), threads
        self.store, self.out = folder / "lmdb" / "train", folder / "train_lmdb"
        self.sums: dict[int, str] = {}

    def content(self, number: int) -> Path:
        """The file of a content; many pictures may have it."""
        file = self.folder / "contents" / f"{number}.png"
        if not file.exists():
            save(texture(number), file)
        self.sums[number] = sha256(file)
        return file

    def lay(self, name: str, items: List) -> Path:
        """Write a list, and its pictures in a folder of its own; returns the list."""
        root = self.folder / name
        root.mkdir()
        for picture, item in items.items():
            (root / picture).hardlink_to(self.content(item.content))
        lines = [f"{p} {i.label}\n" for p, i in items.items() for _ in range(i.times)]
        (self.folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
        return self.folder / f"{name}.txt"

    def begun(self, name: str, items: List) -> Lists:
        """The same, with an LMDB of a list."""
        self.lay(name, items)
        self.update(name, items)
        return self

    def update(self, name: str, items: List) -> dict[str, Any]:
        """Bring the LMDB up to date with a list that was laid."""
        root = self.folder / name
        sums = {str(root / p): self.sums[item.content] for p, item in items.items()}
        return update(
            self.folder / f"{name}.txt", str(root), self.out, self.store,
            self.settings, 0, self.threads, sums.items(), add_up=True,
        )  # fmt: skip

    def fresh(self, name: str) -> list[tuple[bytes, bytes]]:
        """All keys and values of an LMDB built from nothing."""
        out = self.folder / f"fresh_{name}"
        write.write(
            self.folder / f"{name}.txt",
            str(self.folder / name),
            out,
            self.settings,
            0,
            self.threads,
        )
        return contents(out)


def contents(path: Path) -> list[tuple[bytes, bytes]]:
    """All keys and values in the LMDB's order."""
    with open_lmdb(path) as env, env.begin() as txn:
        return [(bytes(k), bytes(v)) for k, v in txn.cursor()]
