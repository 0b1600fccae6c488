"""Pictures and encoded records that mean harm are refused, at once and in little memory."""

from __future__ import annotations

import io
import os
import resource
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from recaffe.errors import DataError
from recaffe.files import sha256
from recaffe.images import inventory, scan
from recaffe.images.decode import RejectError, decode, read
from recaffe.lmdb import datum
from tests.conftest import save, texture
from tests.lists import Item, Lists, settings


def png(image: Image.Image, info: PngImagePlugin.PngInfo | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk, after its head."""
    whole = png(Image.new("RGB", (4, 4)))
    return whole[:33] + chunk(kind, data) + whole[33:]


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_compressed_text_or_profile_that_swells_is_refused_in_little_memory(kind: bytes) -> None:
    bomb = zlib.compress(bytes(150 << 20), 9)
    head = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        assert decode(with_chunk(kind, head + bomb)).bgr.shape == (4, 4, 3)
    except RejectError as error:
        assert "broken" in str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 << 10, f"{grown} KiB"


def test_postscript_is_never_run() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) run\n%%EOF\n"
    with pytest.raises(RejectError, match="not a picture"):
        decode(eps)


def test_an_icon_with_a_picture_larger_than_it_says_is_refused() -> None:
    inner = png(Image.new("1", (3_000, 3_000)))
    head = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)  # fmt: skip
    with pytest.raises(RejectError):
        decode(head + inner, max_pixels=10_000)


def test_an_encoded_record_of_a_huge_picture_is_refused() -> None:
    bomb = png(Image.new("1", (11_000, 11_000)))
    with pytest.raises(DataError, match="can't be decoded"):
        datum.pixels(datum.Datum(encoded=True, data=memoryview(bomb)))


def test_a_png_record_whose_chunk_says_4_gib_is_refused_at_once() -> None:
    whole = bytearray(png(Image.new("RGB", (4, 4))))
    whole[33:37] = b"\xed\0\0L"
    began = time.process_time()
    with pytest.raises(DataError, match="can't be decoded"):
        datum.decode(bytes(whole), -1)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_no_picture_also_behind_a_link(kind: str, tmp_path: Path) -> None:
    target = Path("/dev/zero")
    if kind == "pipe":
        target = tmp_path / "pipe"
        os.mkfifo(target)
    (tmp_path / "x.png").symlink_to(target)
    for path in (target, tmp_path / "x.png"):
        with pytest.raises(RejectError, match="is a pipe, a device or a socket"):
            read(path)


def test_a_link_out_of_the_root_counts_by_the_content_that_it_leads_to(tmp_path: Path) -> None:
    outside = save(texture(9), tmp_path / "outside.png")
    for name in ("a", "b"):
        save(texture(1), tmp_path / "in" / name / "0.png")
    (tmp_path / "in" / "a" / "link.png").symlink_to(outside)
    (tmp_path / "in" / "a" / "zero.png").symlink_to("/dev/zero")
    images = {"path": str(tmp_path / "in"), "root": "", "label_names": ""}
    out = tmp_path / "inventory.csv"
    first = inventory.take(images, out, tmp_path / "cache.csv")
    rows = {row["path"]: row["sha256"] for row in inventory.read(out)}
    assert rows["a/link.png"] == sha256(outside)
    assert rows["a/zero.png"] == "", "never read"
    save(texture(10), outside)
    assert inventory.take(images, out, tmp_path / "cache.csv") != first, "a change outside is seen"


@pytest.mark.parametrize("size", [(3, 400_000), (900_000, 1)])
def test_a_picture_too_thin_for_its_record_is_named_with_what_to_do(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    lists = Lists(tmp_path, mode="crop", width=200, height=200)
    lists.lay("thin", {"a.png": Item(0), "b.png": Item(1)})
    (tmp_path / "thin" / "b.png").unlink()
    (tmp_path / "thin" / "b.png").write_bytes(png(Image.new("RGB", size)))
    lists.sums[1] = sha256(tmp_path / "thin" / "b.png")
    with pytest.raises(
        DataError, match=r"thin/b\.png: .* too thin for lmdb\.mode crop: .*warp or fill"
    ):
        lists.update("thin", {"a.png": Item(0), "b.png": Item(1)})
    lists.settings["lmdb"]["mode"] = "fill"
    assert lists.update("thin", {"a.png": Item(0), "b.png": Item(1)})["records"] == 2


def test_a_picture_too_thin_for_its_record_ends_no_scan(tmp_path: Path) -> None:
    save(texture(1), tmp_path / "pictures" / "a" / "0.png")
    (tmp_path / "pictures" / "b").mkdir()
    (tmp_path / "pictures" / "b" / "thin.png").write_bytes(png(Image.new("RGB", (900_000, 1))))
    inventory.take({"path": str(tmp_path / "pictures")}, tmp_path / "i.csv", tmp_path / "cache.csv")
    config = settings(mode="crop", width=200, height=200)
    files = (tmp_path / name for name in ("i.csv", "m.csv", "r.csv"))
    counts = scan.scan(*files, config["scan"], 1, config["lmdb"])
    assert counts == {"pictures": 2, "rejected": 0}
