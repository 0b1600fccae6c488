"""Data layers give the right records in order, once, and in shares."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from recaffe.engines.torch.data import Batch, Feed
from recaffe.engines.torch.data.batch import Buffers
from recaffe.engines.torch.data.prefetch import ahead
from recaffe.errors import DataError, NetError
from recaffe.proto import caffe_pb2 as pb
from tests.records import data, encoded, net, pictures, raw, write_h5, write_lmdb

TRAIN, TEST = pb.TRAIN, pb.TEST


def first(feed: Feed, n: int, start: int = 0) -> list[Batch]:
    batches = feed.batches(start)
    return list(itertools.islice(batches, n))


SHAPE = (3, 8, 7)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Callable[..., str]]:
    """Layers of each kind over the same 7 records, label 10 + i, for any batch size and options."""
    records = pictures(7, SHAPE)
    write_lmdb(tmp_path / "db", [raw(p, 10 + i) for i, p in enumerate(records)])
    write_lmdb(tmp_path / "png", [encoded(p, 10 + i) for i, p in enumerate(records)])
    for i, p in enumerate(records):
        cv2.imwrite(str(tmp_path / f"bild {i} ü.png"), p.transpose(1, 2, 0))
    (tmp_path / "list.txt").write_text("".join(f"bild {i} ü.png {10 + i}\n" for i in range(7)))
    array, labels = np.stack(records).astype(np.float32), np.arange(10, 17, dtype=np.float64)
    for k, rows in enumerate((slice(0, 2), slice(2, 3), slice(3, 7))):
        write_h5(tmp_path / f"{k}.h5", data=array[rows], label=labels[rows])
    (tmp_path / "h5.txt").write_text("".join(f"{tmp_path}/{k}.h5\n" for k in range(3)))
    tops = 'top: "data" top: "label"'

    def images(batch: int, options: str = "") -> str:
        return (
            f'name: "here" type: "ImageData" {tops} image_data_param {{ batch_size: {batch} '
            f'source: "{tmp_path}/list.txt" root_folder: "{tmp_path}/" {options} }}'
        )

    def hdf5(batch: int, options: str = "") -> str:
        return (
            f'name: "here" type: "HDF5Data" {tops} hdf5_data_param {{ batch_size: {batch} '
            f'source: "{tmp_path}/h5.txt" {options} }}'
        )

    def memory(batch: int, options: str = "") -> str:
        return (
            f'name: "here" type: "MemoryData" {tops} memory_data_param {{ batch_size: {batch} '
            f"channels: 3 height: 8 width: 7 {options} }}"
        )

    return {
        "Data": lambda batch, options="": data(tmp_path / "db", batch),
        "encoded": lambda batch, options="": data(tmp_path / "png", batch),
        "ImageData": images,
        "HDF5Data": hdf5,
        "MemoryData": memory,
    }


KINDS = ["Data", "encoded", "ImageData", "HDF5Data", "MemoryData"]


def feed_of(layer: str, phase: int = TRAIN, **options: Any) -> Feed:
    array = np.stack(pictures(7, SHAPE)).astype(np.float32)
    return Feed(net(layer), phase, 1, memory={"here": (array, np.arange(10, 17))}, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3, 7, 16])
def test_batches_wrap_around_as_one_endless_list(
    sources: dict[str, Callable[..., str]], kind: str, batch: int
) -> None:
    records = np.stack(pictures(7, SHAPE)).astype(np.float32)
    feed = feed_of(sources[kind](batch))
    assert feed.records == 7 and feed.batch_size == batch
    assert feed.shapes == {"data": (batch, *SHAPE), "label": (batch,)}
    for start in (0, 5):
        for index, got in enumerate(first(feed, 4, start), start):
            rows = np.arange(index * batch, (index + 1) * batch) % 7
            assert got.index == index and got.size == batch
            assert got.blobs["label"].tolist() == (rows + 10).tolist()
            assert (got.blobs["data"].numpy() == records[rows]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3, 7, 16])
def test_once_gives_each_record_once(
    sources: dict[str, Callable[..., str]], kind: str, batch: int
) -> None:
    feed = feed_of(sources[kind](batch), TEST)
    for _ in range(2):  # there is no cursor that would stay where it was
        batches = list(feed.once())
        assert [b.size for b in batches] == [batch] * (7 // batch) + [7 % batch] * (7 % batch > 0)
        assert torch.cat([b.blobs["label"] for b in batches]).tolist() == list(range(10, 17))
        assert all(len(b.blobs["data"]) == b.size for b in batches)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [2, 3, 6])
def test_shares_of_all_processes_make_up_the_whole_batch(
    sources: dict[str, Callable[..., str]], kind: str, world: int
) -> None:
    options = "shuffle: true" if kind in ("ImageData", "HDF5Data") else ""
    layer = sources[kind](6, options)
    if kind in ("Data", "encoded", "ImageData"):
        layer = layer.replace("transform_param {  }", "")
        layer += " transform_param { crop_size: 5 mirror: true mean_value: 9 }"
    whole = feed_of(layer)
    parts = [feed_of(layer, rank=r, world=world) for r in range(world)]
    assert all(p.shapes["data"][0] == 6 // world and p.batch_size == 6 for p in parts)
    for i, batch in enumerate(first(whole, 4, 2)):
        shares = [first(p, 4, 2)[i].blobs for p in parts]
        for top, blob in batch.blobs.items():
            assert torch.equal(torch.cat([s[top] for s in shares]), blob)
    found: dict[int, list[Batch]] = {}
    for p in parts:
        for b in p.once():
            found.setdefault(b.index, []).append(b)
    for batch in whole.once():
        shares = [b.blobs for b in found[batch.index]]
        assert sum(b.size for b in found[batch.index]) == batch.size
        for top, blob in batch.blobs.items():
            assert torch.equal(torch.cat([s[top] for s in shares]), blob)


def test_a_batch_that_processes_can_not_share_is_refused(sources: dict[str, Any]) -> None:
    with pytest.raises(NetError, match=r"'here'.*batch_size 6.*4 processes"):
        feed_of(sources["Data"](6), world=4)


def test_a_test_is_shared_unevenly(sources: dict[str, Any]) -> None:
    parts = [feed_of(sources["Data"](3), TEST, rank=r, world=4) for r in range(4)]
    rows = [[b.blobs["label"].tolist() for b in p.once()] for p in parts]
    assert sorted(x for share in rows for b in share for x in b) == list(range(10, 17))
    assert not list(parts[0].batches()) and len(first(parts[3], 5)) == 5


@pytest.mark.parametrize("kind", ["ImageData", "HDF5Data"])
def test_each_shuffled_epoch_is_another_permutation(
    sources: dict[str, Callable[..., str]], kind: str
) -> None:
    layer = sources[kind](3, "shuffle: true")
    labels = torch.cat([b.blobs["label"] for b in first(feed_of(layer), 14)]).tolist()
    epochs = [labels[i : i + 7] for i in range(0, 42, 7)]
    assert all(sorted(e) == list(range(10, 17)) for e in epochs)
    assert len({tuple(e) for e in epochs}) > 3
    again = torch.cat([b.blobs["label"] for b in first(feed_of(layer), 4, 10)]).tolist()
    assert again == labels[30:42], "an epoch's order is a function of seed and number"


def test_rand_skip_moves_where_training_starts_but_loses_nothing(sources: dict[str, Any]) -> None:
    starts = set()
    for seed in range(20):
        feed = Feed(net(sources["ImageData"](7, "rand_skip: 4")), TRAIN, seed)
        labels = first(feed, 1)[0].blobs["label"].tolist()
        assert sorted(labels) == list(range(10, 17))
        starts.add(labels[0])
        assert sorted(b.blobs["label"][0].item() for b in feed.once()) == [10]
    assert starts == {10, 11, 12, 13}


def test_two_readers_of_one_lmdb_do_not_disturb_each_other(sources: dict[str, Any]) -> None:
    one, two = (feed_of(sources["Data"](2)).batches() for _ in range(2))
    for index in range(9):
        a = next(one)
        if index % 2:
            continue
        b = next(two)
        assert a.index == index and b.index == index // 2
    one.close()  # type: ignore[attr-defined]  # a generator
    assert next(two).blobs["label"].tolist() == [10 + 10 % 7, 10 + 11 % 7]


def test_image_data_resizes_as_opencv_and_reads_gray(
    sources: dict[str, Any], tmp_path: Path
) -> None:
    for color, flag in (("true", cv2.IMREAD_COLOR), ("false", cv2.IMREAD_GRAYSCALE)):
        layer = sources["ImageData"](7, f"new_height: 5 new_width: 9 is_color: {color}")
        blob = first(feed_of(layer), 1)[0].blobs["data"].numpy()
        for i in range(7):
            image = cv2.resize(cv2.imread(str(tmp_path / f"bild {i} ü.png"), flag), (9, 5))
            assert (blob[i] == np.atleast_3d(image).transpose(2, 0, 1)).all()


def test_batches_that_are_kept_keep_their_content(sources: dict[str, Any]) -> None:
    batches = list(feed_of(sources["Data"](2)).once())
    blobs = [b.blobs for b in batches]
    del batches
    list(feed_of(sources["Data"](2)).once())
    wanted = np.stack(pictures(7, SHAPE)).astype(np.float32)
    assert (torch.cat([b["data"] for b in blobs]).numpy() == wanted).all()


def test_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    buffers = Buffers()
    shape = (10, 2**20)  # more than malloc keeps for itself: new memory is all zeros
    a = buffers.empty(shape, torch.float32).fill_(7)
    view = a[1]
    del a
    assert not (buffers.empty(shape, torch.float32) == 7).any()
    del view
    held = [buffers.empty(shape, torch.float32) for _ in range(2)]
    assert sorted(int((x == 7).all()) for x in held) == [0, 1]


def test_two_data_layers_of_a_net_draw_apart(sources: dict[str, Any], tmp_path: Path) -> None:
    layers = [data(tmp_path / "db", 7, "crop_size: 4", tops) for tops in ("a x", "b y")]
    blobs = first(Feed(net(*layers), TRAIN, 0), 1)[0].blobs
    assert torch.equal(blobs["x"], blobs["y"]) and not torch.equal(blobs["a"], blobs["b"])


def test_channels_last_is_a_matter_of_layout_only(sources: dict[str, Any]) -> None:
    batch = first(feed_of(sources["Data"](4)), 1)[0]
    there = batch.to(torch.device("cpu"), channels_last=True)
    assert there["data"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(there["data"], batch.blobs["data"])


def test_dummy_data_has_both_forms_of_shape_and_a_filler_a_top() -> None:
    feed = Feed(
        net(
            'name: "new" type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 4 dim: 2 }'
            ' shape { dim: 3 } data_filler { value: 2.5 } data_filler { type: "gaussian" std: 2 } }',
            'name: "old" type: "DummyData" top: "c" top: "d" dummy_data_param { num: 4 channels: 1 '
            "channels: 2 height: 3 width: 5 }",
        ),
        TRAIN,
        3,
    )
    assert feed.shapes == {"a": (4, 2), "b": (3,), "c": (4, 1, 3, 5), "d": (4, 2, 3, 5)}
    assert feed.records is None and feed.batch_size == 4
    one, two = (b.blobs for b in first(feed, 2))
    assert (one["a"] == 2.5).all() and (one["d"] == 0).all()
    assert not torch.equal(one["b"], two["b"]), "random numbers are drawn for each batch"
    assert torch.equal(first(feed, 1, 1)[0].blobs["b"], two["b"])
    with pytest.raises(NetError, match=r"'new', 'old' have no common end"):
        next(feed.once())


def test_data_without_end_goes_along_with_data_that_have_one(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "db", [raw(p) for p in pictures(5, SHAPE)])
    dummy = (
        'name: "d" type: "DummyData" top: "x" top: "one" dummy_data_param { shape { dim: 4 dim: 2 } '
        'shape { dim: 1 } data_filler { type: "uniform" } data_filler { value: 1 } }'
    )
    feed = Feed(net(dummy, data(tmp_path / "db")), TRAIN, 3)
    assert feed.records == 5 and feed.batch_size == 4
    assert [b.blobs["x"].shape[0] for b in feed.once()] == [4, 1]
    halves = [Feed(net(dummy, data(tmp_path / "db")), TRAIN, 3, rank=r, world=2) for r in range(2)]
    assert halves[1].shapes["x"] == (2, 2) and halves[1].shapes["one"] == (1,)
    shares = [first(f, 1)[0].blobs for f in halves]
    assert torch.equal(torch.cat([s["x"] for s in shares]), first(feed, 1)[0].blobs["x"])
    assert shares[1]["one"].tolist() == [1]


def test_an_input_layer_gives_zeros_of_its_shape() -> None:
    feed = Feed(
        net('name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } }'),
        TEST,
        0,
    )
    blobs = first(feed, 1)[0].blobs
    assert blobs["b"].shape == (2, 3) and not blobs["a"].any()


def test_phases_levels_and_stages_choose_the_layers(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "db", [raw(p) for p in pictures(5, SHAPE)])
    layers = [
        data(tmp_path / "db", 2, tops=top) + f" include {{ {rule} }}"
        for top, rule in (("a", "phase: TRAIN"), ("b", "stage: 's'"), ("c", "min_level: 3"))
    ]
    assert list(Feed(net(*layers), TRAIN, 0).shapes) == ["a"]
    assert list(Feed(net(*layers), TEST, 0, level=3, stages=("s",)).shapes) == ["b", "c"]
    with pytest.raises(NetError, match="no data layer in TEST"):
        Feed(net(*layers), TEST, 0)


def test_only_so_many_batches_are_made_in_advance() -> None:
    started: list[int] = []

    def tasks() -> Iterator[Callable[[], int]]:
        for i in range(50):
            started.append(i)
            yield lambda i=i: i

    results = ahead(tasks(), depth=3, threads=2)
    assert next(results) == 0 and len(started) == 4
    assert next(results) == 1 and len(started) == 5
    results.close()
    assert len(started) == 5


def test_results_and_errors_keep_their_order() -> None:
    def task(i: int) -> int:
        time.sleep(0.01 * (3 - i % 3))  # later ones are done first
        if i == 5:
            raise DataError("five")
        return i

    results = ahead(((lambda i=i: task(i)) for i in range(9)), depth=4, threads=4)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="five"):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_leaving_early_leaves_no_thread_and_no_open_lmdb(sources: dict[str, Any]) -> None:
    from recaffe.lmdb import read

    batches = feed_of(sources["encoded"](2)).batches()
    next(batches)
    assert read._open
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert not read._open
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]
