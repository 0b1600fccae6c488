"""Data layers beside real Caffe's: the same records in the same batches, transformed alike.

Where the order or the window is drawn by chance, the two draw differently; then both must draw from
the same set, all of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from recaffe import mean as mean_files
from recaffe.engines.torch.data import Feed
from recaffe.errors import RecaffeError
from recaffe.proto import caffe_pb2 as pb
from tests.conftest import texture
from tests.parity.caffe_client import Arrays, Caffe, CaffeDiedError
from tests.parity.compare import TABLE, error
from tests.records import data, encoded, net, pictures, raw, write_h5, write_lmdb

SHAPE = (3, 8, 7)
BATCH = 4
RECORDS = 7  # so that batches of 4 wrap around in the middle


def batches(caffe: Caffe, layer: str, n: int, phase: str = "TEST") -> list[tuple[Arrays, Arrays]]:
    """The first n batches, ours and Caffe's, as dictionaries of blobs."""
    feed = Feed(net(layer), pb.Phase.Value(phase), 1)
    ours = [{k: v.numpy() for k, v in b.blobs.items()} for b in itertools.islice(feed.batches(), n)]
    text = f"layer {{ {layer} }}"
    theirs = [caffe.run(text, phase, backward=False, passes=i + 1, seed=1).blobs for i in range(n)]
    return list(zip(ours, theirs, strict=True))


def check(caffe: Caffe, layer: str, n: int, what: str, allowed: float = 0.0) -> None:
    """Fail if a value of n batches in TEST is further apart than allowed."""
    for ours, theirs in batches(caffe, layer, n):
        assert set(ours) == set(theirs)
        for name in ours:
            assert ours[name].shape == theirs[name].shape, name
            assert np.abs(ours[name] - theirs[name]).max() <= allowed, name
        TABLE.add(what, max(error(ours[k], theirs[k]) for k in ours), None)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """LMDBs, pictures, HDF5 files and means of the same few records."""
    records = pictures(RECORDS, SHAPE)
    gray = pictures(RECORDS, (1, *SHAPE[1:]), seed=1)
    rng = np.random.default_rng(2)
    floats = [rng.normal(0, 50, SHAPE).astype(np.float32) for _ in records]
    smooth = [texture(i, i, (61, 48)).transpose(2, 0, 1) for i in range(RECORDS)]
    write_lmdb(tmp_path / "raw", [raw(p, i) for i, p in enumerate(records)])
    write_lmdb(tmp_path / "gray", [raw(p, i) for i, p in enumerate(gray)])
    write_lmdb(tmp_path / "float", [raw(p, -i) for i, p in enumerate(floats)])
    write_lmdb(tmp_path / "png", [encoded(p, i) for i, p in enumerate(records)])
    write_lmdb(tmp_path / "graypng", [encoded(p, i) for i, p in enumerate(gray)])
    write_lmdb(tmp_path / "jpg", [encoded(p, i, "jpg") for i, p in enumerate(smooth)])
    mean_files.write(rng.uniform(0, 255, SHAPE).astype(np.float32), tmp_path / "mean")
    mean_files.write(rng.uniform(0, 255, (1, 8, 7)).astype(np.float32), tmp_path / "graymean")
    for i, p in enumerate(records):
        cv2.imwrite(str(tmp_path / f"picture {i}.png"), p.transpose(1, 2, 0))
    (tmp_path / "list").write_text("".join(f"picture {i}.png {i}\n" for i in range(RECORDS)))
    array = np.stack(records)
    for k, rows in enumerate((slice(0, 2), slice(2, 3), slice(3, RECORDS))):
        write_h5(
            tmp_path / f"{k}.h5",
            data=array[rows].astype((np.float32, np.float64, np.uint8)[k]),
            label=np.arange(RECORDS)[rows],
            weight=rng.normal(0, 1, (RECORDS, 2))[rows],
        )
    (tmp_path / "h5").write_text("".join(f"{tmp_path}/{k}.h5\n" for k in range(3)))
    return tmp_path


def images(root: Path, options: str = "", transform: str = "", batch: int = BATCH) -> str:
    return (
        f'name: "here" type: "ImageData" top: "data" top: "label" image_data_param {{ '
        f'batch_size: {batch} source: "{root}/list" root_folder: "{root}/" {options} }} '
        f"transform_param {{ {transform} }}"
    )


def hdf5(root: Path, options: str = "", batch: int = BATCH) -> str:
    return (
        'name: "here" type: "HDF5Data" top: "label" top: "data" top: "weight" hdf5_data_param { '
        f'batch_size: {batch} source: "{root}/h5" {options} }}'
    )


TRANSFORMS = [
    "",
    "scale: 0.0078125",
    "crop_size: 5",
    "mean_value: 104.3",
    "mean_file: 'MEAN'",
    "mean_file: 'MEAN' crop_size: 4 scale: 0.3",
    "mean_value: 99.5 crop_size: 7 scale: -2.7",
]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("records", ["raw", "gray", "float", "png", "graypng"])
def test_data_gives_caffes_batches(
    caffe: Caffe, sources: Path, records: str, transform: str
) -> None:
    mean = sources / ("graymean" if "gray" in records else "mean")
    text = transform.replace("MEAN", str(mean))
    check(caffe, data(sources / records, BATCH, text), 4, f"Data ({records})")


def test_data_takes_a_mean_value_a_channel(caffe: Caffe, sources: Path) -> None:
    means = "mean_value: 104 mean_value: 116.7 mean_value: 122.7 crop_size: 6 scale: 0.017"
    check(caffe, data(sources / "raw", BATCH, means), 3, "Data (raw)")
    check(caffe, data(sources / "png", BATCH, means), 3, "Data (png)")


@pytest.mark.parametrize("transform", ["", "crop_size: 5 mean_value: 100"])
def test_jpeg_records_differ_by_the_decoders_rounding_at_most(
    caffe: Caffe, sources: Path, transform: str
) -> None:
    check(caffe, data(sources / "jpg", BATCH, transform), 3, "Data (jpg)", allowed=2)


@pytest.mark.parametrize("force", ["color", "gray"])
@pytest.mark.parametrize("records", ["png", "graypng"])
def test_records_are_forced_to_gray_or_color_alike(
    caffe: Caffe, sources: Path, records: str, force: str
) -> None:
    # What is gray is left to libpng, whose versions round otherwise.
    allowed = 2 if (records, force) == ("png", "gray") else 0
    layer = data(sources / records, BATCH, f"force_{force}: true crop_size: 6")
    check(caffe, layer, 3, f"Data ({records}, forced)", allowed)


def test_data_without_labels_and_with_rand_skip_reads_what_caffe_reads(
    caffe: Caffe, sources: Path
) -> None:
    layer = data(sources / "raw", BATCH, tops="data").replace(
        "batch_size", "rand_skip: 5 batch_size"
    )
    check(caffe, layer, 3, "Data (raw)")


def test_encoded_records_of_several_sizes_are_cropped_alike(caffe: Caffe, tmp_path: Path) -> None:
    records = [
        pictures(1, (3, h, w), seed=h)[0] for h, w in ((6, 8), (9, 6), (6, 6), (20, 31), (7, 7))
    ]
    path = write_lmdb(tmp_path / "db", [encoded(p, i) for i, p in enumerate(records)])
    check(caffe, data(path, BATCH, "crop_size: 6"), 3, "Data (several sizes)")
    check(caffe, data(path, 1), 7, "Data (several sizes)")


@pytest.mark.parametrize("records", ["raw", "png"])
@pytest.mark.parametrize(
    ("phase", "transform"),
    [("TRAIN", "crop_size: 6 mirror: true"), ("TRAIN", "mirror: true"), ("TRAIN", "crop_size: 5"),
     ("TEST", "crop_size: 6 mirror: true")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["mean_file: 'MEAN' scale: 0.5", "mean_value: 100", ""])
def test_random_crops_and_mirror_images_come_from_the_same_windows(
    caffe: Caffe, sources: Path, records: str, phase: str, transform: str, kind: str
) -> None:
    text = f"{transform} {kind}".replace("MEAN", str(sources / "mean"))
    mean = mean_files.read(sources / "mean") if "mean_file" in kind else np.zeros(SHAPE, np.float32)
    if "mean_value" in kind:
        mean += 100
    whole = [
        (p - mean) * np.float32(0.5 if "scale" in kind else 1) for p in pictures(RECORDS, SHAPE)
    ]
    crop = next((int(c) for c in "65" if f"crop_size: {c}" in transform), 0)
    h, w = (crop, crop) if crop else SHAPE[1:]
    places = [(y, x) for y in range(SHAPE[1] - h + 1) for x in range(SHAPE[2] - w + 1)]
    if phase == "TEST":
        places = [((SHAPE[1] - h) // 2, (SHAPE[2] - w) // 2)]
    flips = (False, True) if "mirror" in transform else (False,)
    seen: tuple[set, set] = (set(), set())
    layer = data(sources / records, 30, text)
    for index, pair in enumerate(batches(caffe, layer, 6, phase)):
        for blobs, found in zip(pair, seen, strict=True):
            for row in range(30):
                record = (index * 30 + row) % RECORDS
                assert blobs["label"][row] == record
                fits = [
                    (y, x, f)
                    for (y, x), f in itertools.product(places, flips)
                    if (blobs["data"][row] == _window(whole[record], y, x, h, w, f)).all()
                ]
                assert len(fits) == 1, f"batch {index}, row {row} is no window of its record"
                found.add(fits[0])
    everything = {(y, x, f) for (y, x), f in itertools.product(places, flips)}
    assert seen == (everything, everything)
    TABLE.add("Data (random windows)", 0.0, None)


def _window(record: np.ndarray, y: int, x: int, h: int, w: int, flip: bool) -> np.ndarray:
    window = record[:, y : y + h, x : x + w]
    return window[:, :, ::-1] if flip else window


@pytest.mark.parametrize(
    ("options", "transform"),
    [
        ("", ""),
        ("", "crop_size: 5 mean_file: 'MEAN' scale: 0.1"),
        ("new_height: 6 new_width: 11", "mean_value: 3"),
        ("new_height: 31 new_width: 20", "crop_size: 17"),
        ("is_color: false", ""),
        ("is_color: false new_height: 5 new_width: 5", "mean_value: 128 scale: 0.01"),
    ],
)
def test_image_data_gives_caffes_batches(
    caffe: Caffe, sources: Path, options: str, transform: str
) -> None:
    allowed = 2.0 if "false" in options else 0  # gray is left to libpng
    text = transform.replace("MEAN", str(sources / "mean"))
    check(caffe, images(sources, options, text), 4, "ImageData", allowed)


def test_hdf5_data_gives_caffes_batches_over_the_files_ends(caffe: Caffe, sources: Path) -> None:
    for batch in (1, BATCH, 9):
        check(caffe, hdf5(sources, batch=batch), 9, "HDF5Data")


@pytest.mark.parametrize("layer", [images, hdf5])
def test_shuffled_epochs_hold_each_record_once_in_both(
    caffe: Caffe, sources: Path, layer: Callable[..., str]
) -> None:
    found = batches(caffe, layer(sources, "shuffle: true", batch=RECORDS), 4, "TRAIN")
    records = np.stack(pictures(RECORDS, SHAPE))
    orders: tuple[set, set] = (set(), set())
    for pair in found:
        for blobs, order in zip(pair, orders, strict=True):
            labels = blobs["label"].astype(int)
            assert sorted(labels) == list(range(RECORDS))
            assert (blobs["data"] == records[labels]).all()
            order.add(tuple(labels))
    assert len(orders[0]) > 1 and len(orders[1]) > 1
    TABLE.add(f"{'ImageData' if layer is images else 'HDF5Data'} (shuffled)", 0.0, None)


def test_image_data_skips_at_random_as_far_as_caffe_does(caffe: Caffe, sources: Path) -> None:
    layer = images(sources, "rand_skip: 3", batch=1)
    for seed in range(8):
        ours = next(Feed(net(layer), pb.TEST, seed).batches()).blobs["label"].item()
        theirs = caffe.run(f"layer {{ {layer} }}", "TEST", backward=False, seed=seed).blobs["label"]
        assert ours in (0, 1, 2) and theirs.item() in (0, 1, 2)


def test_dummy_data_and_input_give_caffes_constants(caffe: Caffe) -> None:
    for layer in (
        'name: "a" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 2 dim: 3 } '
        "shape { dim: 4 } data_filler { value: 2.5 } data_filler { value: -1 } }",
        'name: "a" type: "DummyData" top: "x" top: "y" dummy_data_param { num: 2 channels: 3 '
        'channels: 1 height: 4 width: 5 data_filler { type: "constant" value: 0.1 } }',
        'name: "a" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 } }',
        'name: "a" type: "Input" top: "x" top: "y" input_param { shape { dim: 2 dim: 3 } }',
    ):
        check(caffe, layer, 2, "DummyData, Input")


@pytest.mark.parametrize(
    "layer",
    [
        lambda d: data(d / "raw", 2, "crop_size: 8"),
        lambda d: data(d / "raw", 2, "mean_value: 1 mean_value: 2"),
        lambda d: data(d / "raw", 2, f"mean_value: 1 mean_file: '{d}/mean'"),
        lambda d: data(d / "raw", 2, f"mean_file: '{d}/graymean'"),
        lambda d: data(d / "nowhere", 2),
        lambda d: data(d / "png", 2, "force_color: true force_gray: true"),
        lambda d: images(d, "new_height: 3"),
        lambda d: images(d, "rand_skip: 3", transform="crop_size: 9"),
        lambda d: hdf5(d) + " transform_param { scale: 2 }",
        lambda d: hdf5(d).replace('"weight"', '"none"'),
    ],
)
def test_what_is_refused_here_caffe_refuses_too(
    caffe: Caffe, sources: Path, layer: Callable[[Path], str]
) -> None:
    with pytest.raises(RecaffeError):
        Feed(net(layer(sources)), pb.TEST, 0)
    with pytest.raises(CaffeDiedError):
        caffe.run(f"layer {{ {layer(sources)} }}", "TEST", backward=False)
