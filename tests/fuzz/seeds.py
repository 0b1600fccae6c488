"""Whole, small inputs of each target, for mutations to start from."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from pathlib import Path

import lmdb
import numpy as np
from google.protobuf import text_format
from PIL import Image

from recaffe import mean
from recaffe.config import ROOT
from recaffe.model import PARTS
from recaffe.net import hdf5, weights
from recaffe.net.state import State, write_state
from recaffe.proto import caffe_pb2 as pb
from tests import records

GOLDEN = ROOT / "tests" / "golden"


def seeds() -> dict[str, list[bytes]]:
    """Target → inputs that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        return _seeds(Path(folder))


def _seeds(folder: Path) -> dict[str, list[bytes]]:
    texts = [p.read_bytes() for p in sorted((GOLDEN / "formats").glob("v*.prototxt"))]
    nets = [*texts, (ROOT / "models" / "lenet" / "train_val.prototxt").read_bytes()]
    solvers = [
        (GOLDEN / "solver.prototxt").read_bytes(),
        (GOLDEN / "formats" / "solver.prototxt").read_bytes(),
    ]
    models, states = _weights(folder)
    return {
        "net": nets,
        "solver": solvers,
        "upgrade": [*nets, *solvers, (GOLDEN / "formats" / "all_v0.caffemodel").read_bytes(), *models],
        "caffemodel": models,
        "solverstate": states,
        "datum": _datums(),
        "lmdb": _databases(folder),
        "mean": _means(folder),
        "picture": _pictures(),
        "lists": [b"a/b.png 0\nc d.png\t1\n", b"a.png 0\nb.png 1\n\0cat\ndog\n", b'path,label\n"x, y.png",cat\nz.png,dog\n'],
        "own_lists": [b"path,label,predicted,confidence,p:a,p:b\nx.png,a,b,0.9,0.1,0.9\n", b"a b.png 0\nc.png 1\n"],
        "config": [(ROOT / "config" / name).read_bytes() for name in ("config.yaml", "demo.yaml")],
        "pickle": [pickle.dumps({"conv1": [np.ones((2, 3), np.float32)]}, protocol) for protocol in (0, 2, 4)],
        "note": _notes(),
        "published": [(GOLDEN / "formats" / "all_v0.caffemodel").read_bytes(), *_texts(models[:1]), *models],
    }  # fmt: skip


def _texts(models: list[bytes]) -> list[bytes]:
    return [text_format.MessageToString(pb.NetParameter.FromString(m)).encode() for m in models]


def _notes() -> list[bytes]:
    record = {"width": 256, "height": 256, "mode": "warp", "gray": False, "encoded": "none"}
    rules = {
        "record": record,
        "background": "#ffffff",
        "max_pixels": 10**8,
        "crop_size": 227,
        "scale": 1.0,
    }
    return [
        json.dumps(
            {"format": 1, "batch_size": 64, "files": dict.fromkeys(PARTS, "0"), "preprocessing": {**rules, "mean": mean}}
        ).encode()
        for mean in ("file", [104, 117, 123])
    ]  # fmt: skip


def _weights(folder: Path) -> tuple[list[bytes], list[bytes]]:
    blobs = [np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.zeros(2, np.float32)]
    weights.write(weights.to_net("n", [("conv", "Convolution", blobs)]), folder / "a.caffemodel")
    hdf5.write({"conv": blobs}, folder / "a.caffemodel.h5")
    state = State(7, "a.caffemodel", 1, blobs)
    write_state(state, folder / "a.solverstate")
    write_state(state, folder / "a.solverstate.h5")
    return (
        [(folder / name).read_bytes() for name in ("a.caffemodel", "a.caffemodel.h5")],
        [(folder / name).read_bytes() for name in ("a.solverstate", "a.solverstate.h5")],
    )


def _datums() -> list[bytes]:
    picture = records.pictures(1, (3, 5, 4))[0]
    floats = picture.astype(np.float32)
    return [d.SerializeToString() for d in (records.raw(picture, 3), records.raw(floats), records.encoded(picture))]  # fmt: skip


def _databases(folder: Path) -> list[bytes]:
    small = [records.raw(p, i) for i, p in enumerate(records.pictures(5, (1, 4, 4)))]
    # Branch pages, and records that take pages of their own.
    large = [records.raw(p, i) for i, p in enumerate(records.pictures(300, (1, 3, 3)))]
    large += [records.raw(p) for p in records.pictures(2, (1, 70, 70))]
    out = []
    for name, datums in (("small", small), ("large", large)):
        out.append((records.write_lmdb(folder / name, datums) / "data.mdb").read_bytes())
    # Deletions leave pages to the list of free ones.
    with lmdb.open(str(folder / "large"), map_size=2**26) as env:
        for i in range(0, 302, 4):
            with env.begin(write=True) as txn:
                txn.delete(f"{i:08}".encode())
    return [*out, (folder / "large" / "data.mdb").read_bytes()]


def _means(folder: Path) -> list[bytes]:
    mean.write(np.arange(48, dtype=np.float32).reshape(3, 4, 4), folder / "mean")
    return [(folder / "mean").read_bytes()]


def _pictures() -> list[bytes]:
    image = Image.fromarray(records.pictures(1, (9, 7, 3))[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    out = []
    for kind, mode, options in (
        ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "RGBA", {}), ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {}), ("GIF", "P", {}), ("BMP", "RGB", {}), ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("WEBP", "RGB", {}), ("PPM", "RGB", {}),
        ("TGA", "RGB", {"compression": "tga_rle"}), ("JPEG2000", "RGB", {}), ("AVIF", "RGB", {}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, kind, **options)
        out.append(buffer.getvalue())
    return out
