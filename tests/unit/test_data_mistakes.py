"""What a data layer can't read is one message with the layer's name, before training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from recaffe import mean as mean_files
from recaffe.engines.torch.data import Feed
from recaffe.errors import DataError, NetError, RecaffeError
from recaffe.proto import caffe_pb2 as pb
from tests.records import data, net, pictures, raw, write_h5, write_lmdb

TRAIN, TEST = pb.TRAIN, pb.TEST


SHAPE = (3, 8, 7)
GOOD = raw(pictures(1, SHAPE)[0])


def test_an_lmdb_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "db", [raw(p) for p in pictures(40, (3, 30, 30))])
    with (path / "data.mdb").open("r+b") as f:
        f.truncate(9 * 4096)
    with pytest.raises(DataError, match=r"'here'.*cut short"):
        Feed(net(data(path)), TRAIN, 0)


def test_an_lmdb_of_garbage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"'here'.*can't be opened as an LMDB"):
        Feed(net(data(tmp_path / "db")), TRAIN, 0)


def test_an_empty_lmdb_and_a_leveldb_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'here'.*no records"):
        Feed(net(data(write_lmdb(tmp_path / "empty", []))), TRAIN, 0)
    (tmp_path / "level").mkdir()
    (tmp_path / "level" / "CURRENT").write_text("MANIFEST-000004\n")
    with pytest.raises(DataError, match=r"'here'.*LevelDB.*caffe train"):
        Feed(net(data(tmp_path / "level")), TRAIN, 0)


IMAGES = 'type: "ImageData" top: "a" top: "b" image_data_param'
BAD: list[tuple[str, str]] = [
    ('type: "Data" top: "a" data_param { source: "DIR/db" backend: LMDB }', "batch_size is missing"),
    ('type: "Data" top: "a" data_param { source: "DIR/db" batch_size: 2 }', "LevelDB.*caffe train"),
    ('type: "Data" top: "a" data_param { source: "DIR/no" batch_size: 2 backend: LMDB }', "no/data.mdb"),
    ('type: "Data" top: "a" top: "b" top: "c" data_param { source: "DIR/db" batch_size: 2 backend: LMDB }',
     "has 3 tops; Caffe wants 1 or 2"),
    ('type: "Data" top: "a" bottom: "x" data_param { source: "DIR/db" batch_size: 2 backend: LMDB }',
     "no bottom"),
    (IMAGES + ' { source: "DIR/none.txt" }', "none.txt: No such file"),
    (IMAGES + ' { source: "DIR/list.txt" new_height: 3 }', "new_height and new_width"),
    (IMAGES + ' { source: "DIR/list.txt" }', "list.txt, line 1: there is no file"),
    (IMAGES + ' { source: "DIR/list.txt" root_folder: "DIR" }', "must end with a slash"),
    (IMAGES + ' { source: "DIR/name.txt" root_folder: "DIR/" }', "name.txt, line 2: 'a.png cat'"),
    (IMAGES + ' { source: "DIR/blank.txt" root_folder: "DIR/" }', "blank.txt, line 2: ''"),
    (IMAGES + ' { source: "DIR/tab.txt" root_folder: "DIR/" }', "tab.txt, line 1"),
    (IMAGES + ' { source: "DIR/empty.txt" }', "empty.txt is empty"),
    (IMAGES + ' { source: "DIR/text.txt" root_folder: "DIR/" }', "can't be read as a picture"),
    (IMAGES + ' { source: "DIR/list.txt" root_folder: "DIR/" } transform_param { crop_size: 9 }',
     r"crop_size 9 is larger than the records \(7×8\)"),
    ('type: "HDF5Data" top: "data" hdf5_data_param { source: "DIR/none.txt" batch_size: 2 }', "none.txt"),
    ('type: "HDF5Data" top: "data" hdf5_data_param { source: "DIR/empty.txt" batch_size: 2 }',
     "names no file"),
    ('type: "HDF5Data" top: "data" hdf5_data_param { source: "DIR/gone.txt" batch_size: 2 }',
     "gone.txt, line 2: there is no file /nowhere.h5"),
    ('type: "HDF5Data" top: "data" hdf5_data_param { source: "DIR/text.h5.txt" batch_size: 2 }',
     "can't be read as HDF5"),
    ('type: "HDF5Data" top: "other" hdf5_data_param { source: "DIR/h5.txt" batch_size: 2 }',
     "no dataset 'other', only data, label, words"),
    ('type: "HDF5Data" top: "words" hdf5_data_param { source: "DIR/h5.txt" batch_size: 2 }',
     "rows of numbers"),
    ('type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "DIR/h5.txt" batch_size: 2 }',
     "as many rows"),
    ('type: "HDF5Data" top: "data" hdf5_data_param { source: "DIR/h5.txt" batch_size: 2 } '
     "transform_param { scale: 2 }", "no transform_param"),
    ('type: "HDF5Data" top: "data" hdf5_data_param { source: "DIR/two.txt" batch_size: 2 }',
     r"rows of 'data' are \(4,\), and \(5,\)"),
    ('type: "MemoryData" top: "a" top: "b" memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 }',
     "from a program"),
    ('type: "DummyData" top: "a" top: "b" top: "c" dummy_data_param { shape { dim: 1 } shape { dim: 1 } }',
     "shape stands 2 times for 3 tops"),
    ('type: "DummyData" top: "a" dummy_data_param { shape { dim: 1 } num: 1 }', "both shape and num"),
    ('type: "DummyData" top: "a" dummy_data_param { num: 1 channels: 1 height: 1 }', "width stands 0 times"),
    ('type: "Input" top: "a"', "shape stands 0 times"),
    ('type: "WindowData" top: "a" top: "b"', "caffe train"),
]  # fmt: skip


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources with one fault each."""
    root = tmp_path_factory.mktemp("bad")
    write_lmdb(root / "db", [GOOD])
    cv2.imwrite(str(root / "a.png"), pictures(1, SHAPE)[0].transpose(1, 2, 0))
    (root / "no.png").write_text("text")
    for name, text in {
        "list": "a.png 1\n", "name": "a.png 1\na.png cat\n", "blank": "a.png 1\n\na.png 2\n",
        "tab": "a.png\t1\n", "empty": "", "text": "no.png 3", "h5": f"{root}/ok.h5\n",
        "gone": f"{root}/ok.h5\n/nowhere.h5", "text.h5": f"{root}/no.png\n",
        "two": f"{root}/ok.h5 {root}/other.h5",
    }.items():  # fmt: skip
        (root / f"{name}.txt").write_text(text)
    write_h5(root / "ok.h5", data=np.zeros((3, 5)), label=np.zeros(4), words=np.array([b"x"] * 3))
    write_h5(root / "other.h5", data=np.zeros((3, 4)))
    return root


@pytest.mark.parametrize(("layer", "message"), BAD)
def test_what_a_layer_can_not_read_is_told_before_training(
    bad: Path, layer: str, message: str
) -> None:
    text = f'name: "here" {layer}'.replace("DIR", str(bad))
    with pytest.raises(RecaffeError, match=rf"^Layer 'here' \(\w+\): .*{message}") as caught:
        Feed(net(text), TRAIN, 0)
    assert isinstance(caught.value, DataError | NetError)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ("crop_size: 8", r"crop_size 8 is larger than the records \(7×8\)"),
        ("mean_value: 1 mean_value: 2", "2 mean values for 3 channels"),
        ("mean_file: 'DIR/mean' mean_value: 1", "both mean_file and mean_value"),
        ("mean_file: 'DIR/mean'", "3×8×8 but the records are 3×8×7"),
        ("mean_file: 'DIR/none'", "none: No such file"),
        ("mean_file: 'DIR/db/data.mdb'", "not a mean file"),
        ("force_color: true force_gray: true", "both force_color and force_gray"),
    ],
)
def test_what_does_not_fit_the_records_is_told_before_training(
    bad: Path, transform: str, message: str
) -> None:
    mean_files.write(np.zeros((3, 8, 8), np.float32), bad / "mean")
    with pytest.raises(RecaffeError, match=rf"^Layer 'here' \(Data\): .*{message}"):
        Feed(net(data(bad / "db", 2, transform.replace("DIR", str(bad)))), TRAIN, 0)


def test_arrays_of_another_shape_are_refused() -> None:
    layer = (
        'name: "here" type: "MemoryData" top: "a" top: "b" '
        "memory_data_param { batch_size: 2 channels: 3 height: 8 width: 7 }"
    )
    arrays = {"here": (np.zeros((4, 3, 7, 8), np.float32), np.zeros(4))}
    with pytest.raises(DataError, match=r"N×3×8×7.*\(4, 3, 7, 8\)"):
        Feed(net(layer), TRAIN, 0, memory=arrays)
