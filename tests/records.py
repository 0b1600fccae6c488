"""Sources for data layers that tests write: LMDBs of any Datum, lists of pictures, HDF5 files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np
from google.protobuf import text_format

from recaffe.proto import caffe_pb2 as pb


def raw(picture: np.ndarray, label: int = 0) -> pb.Datum:
    """C×H×W pixels as a Datum: uint8, or float32 as float_data."""
    datum = pb.Datum(label=label)
    datum.channels, datum.height, datum.width = picture.shape
    if picture.dtype == np.uint8:
        datum.data = picture.tobytes()
    else:
        datum.float_data.extend(picture.ravel())
    return datum


def encoded(picture: np.ndarray, label: int = 0, code: str = "png") -> pb.Datum:
    """C×H×W uint8 pixels as an encoded Datum."""
    ok, data = cv2.imencode(f".{code}", picture.transpose(1, 2, 0))
    assert ok
    return pb.Datum(label=label, encoded=True, data=data.tobytes())


def write_lmdb(path: Path, records: Sequence[pb.Datum | bytes]) -> Path:
    """An LMDB with the records in this order."""
    with lmdb.open(str(path), map_size=2**26) as env, env.begin(write=True) as txn:
        for i, record in enumerate(records):
            value = record if isinstance(record, bytes) else record.SerializeToString()
            txn.put(f"{i:08}".encode(), value)
    (path / "lock.mdb").unlink()
    return path


def write_h5(path: Path, **datasets: np.ndarray) -> Path:
    """An HDF5 file."""
    with h5py.File(path, "w") as f:
        for name, values in datasets.items():
            f[name] = values
    return path


def pictures(n: int, shape: tuple[int, int, int], seed: int = 0) -> list[np.ndarray]:
    """Noise: uint8 C×H×W."""
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (n, *shape), dtype=np.uint8))


def net(*layers: str) -> pb.NetParameter:
    """A net of these layers, each the text within the braces."""
    out = pb.NetParameter(name="small")
    text_format.Parse("".join(f"layer {{ {text} }}" for text in layers), out)
    return out


def data(source: Path, batch: int = 4, transform: str = "", tops: str = "data label") -> str:
    """A Data layer's text."""
    names = " ".join(f'top: "{top}"' for top in tops.split())
    return (
        f'name: "here" type: "Data" {names} data_param {{ source: "{source}" batch_size: {batch} '
        f"backend: LMDB }} transform_param {{ {transform} }}"
    )
