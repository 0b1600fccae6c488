"""Weights, states, means, HDF5 and pickles that mean harm are refused, at once and in little memory."""

from __future__ import annotations

import ast
import os
import pickle
import resource
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from recaffe import mean
from recaffe.config import ROOT
from recaffe.engines.torch.data import Feed
from recaffe.errors import DataError, WeightsError
from recaffe.net import state, weights
from recaffe.packages import pickled
from recaffe.proto import caffe_pb2 as pb
from tests import records


def test_protobuf_that_is_nested_deep_or_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    inner = b""
    for _ in range(20_000):  # NetParameter.layers.layer.layer… with ever longer lengths
        inner = b"\x0a" + varint(len(inner)) + inner
        if len(inner) > 60_000:
            break
    for name, data in (("deep", b"\x12" + varint(len(inner)) + inner), ("long", b"\xa2\x06\xff\xff\xff\xff\x07abc")):  # fmt: skip
        file = tmp_path / name
        file.write_bytes(data)
        for read_file in (weights.read, state.read_state):
            with pytest.raises(WeightsError):
                read_file(file)
        with pytest.raises(DataError):
            mean.read(file)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def hostile_h5(kind: str, path: Path, name: str = "data/conv/0") -> None:
    """A dataset of that name that isn't what it says."""
    with h5py.File(path, "w") as file:
        layer = file.require_group(f"/{name}".rpartition("/")[0] or "/")
        name = name.rpartition("/")[2]
        if kind == "huge":
            layer.create_dataset(name, (1 << 40,), np.float32, chunks=(1 << 20,))
        elif kind == "compressed":
            zeros = np.zeros(1 << 22, np.float32)
            layer.create_dataset(name, (1 << 30,), np.float32, chunks=(1 << 22,), compression=9)
            layer[name][: 1 << 22] = zeros
        elif kind == "external":
            layer.create_dataset(name, (4,), np.float32, external=[("/etc/passwd", 0, 16)])
        elif kind == "link":
            layer[name] = h5py.ExternalLink("/etc/hosts", "/x")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), np.float32)
            layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
            layer.create_virtual_dataset(name, layout)
        else:
            layer["loop"] = file["data"]


KINDS = ["huge", "compressed", "external", "link", "virtual"]


@pytest.mark.parametrize("kind", [*KINDS, "loop"])
def test_hdf5_that_swells_loops_or_reads_other_files_is_refused(kind: str, tmp_path: Path) -> None:
    hostile_h5(kind, tmp_path / "x.caffemodel.h5")
    began = time.process_time()
    with pytest.raises(WeightsError):
        weights.read(tmp_path / "x.caffemodel.h5")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("kind", KINDS)
def test_hdf5_data_that_swells_or_reads_other_files_is_refused(kind: str, tmp_path: Path) -> None:
    hostile_h5(kind, tmp_path / "x.h5", "data")
    with pytest.raises(DataError, match="x.h5 can't be read as HDF5"):
        Feed(hdf5_layer(tmp_path), pb.TRAIN, 0)


def test_hdf5_data_that_was_replaced_by_harm_is_refused_when_it_is_read(tmp_path: Path) -> None:
    records.write_h5(tmp_path / "x.h5", data=np.zeros((8, 2)))
    feed = Feed(hdf5_layer(tmp_path), pb.TRAIN, 0)
    hostile_h5("compressed", tmp_path / "x.h5", "data")
    with pytest.raises(DataError, match="x.h5 has changed, or is broken"):
        next(feed.batches())


def test_a_small_dataset_that_was_never_written_is_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data", (8, 3), np.float32)
    batch = next(Feed(hdf5_layer(tmp_path), pb.TRAIN, 0).batches())
    assert batch.blobs["data"].tolist() == [[0, 0, 0]] * 2


def hdf5_layer(folder: Path) -> pb.NetParameter:
    """A net that reads `data` of x.h5, two rows at a time."""
    (folder / "list.txt").write_text(f"{folder}/x.h5\n")
    return records.net(
        'name: "d" type: "HDF5Data" top: "data" '
        f'hdf5_data_param {{ source: "{folder}/list.txt" batch_size: 2 }}'
    )


def test_no_code_loads_a_pickle_but_the_one_reader_that_admits_arrays_only() -> None:
    found = []
    for file in [*(ROOT / "recaffe").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), *(ROOT / "docker").rglob("*.py")]:  # fmt: skip
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
                found += [file.name for n in names if n in ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal")]  # fmt: skip
            elif isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                keys = {k.arg for k in node.keywords if ast.unparse(k.value) != "False"}
                only = [k for k in node.keywords if k.arg == "weights_only"]
                if call == "torch.load" and only and ast.unparse(only[0].value) == "True":
                    continue  # tensors, and nothing that runs
                if call in ("torch.load", "pickle.load", "pickle.loads", "yaml.load", "pd.read_pickle", "eval", "os.system"):  # fmt: skip
                    found.append(f"{file.name}: {call}")
                if "allow_pickle" in keys:
                    found.append(f"{file.name}: allow_pickle")
    assert sorted(set(found)) == ["pickled.py"]


class Harm:
    """What a pickle can do when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch /tmp/recaffe-was-here",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_refused(protocol: int) -> None:
    with pytest.raises(WeightsError, match="is not admitted"):
        pickled.load(pickle.dumps({"conv1": [Harm()]}, protocol))
    assert not Path("/tmp/recaffe-was-here").exists()


def test_a_pickle_that_asks_for_room_is_refused_in_little_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError):
        pickled.load(b"\x80\x02}r\xff\xff\xff\x7f.")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10
