"""Records are read in place, as protobuf and OpenCV read them, and broken ones are refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recaffe.engines.torch.data import Batch, Feed
from recaffe.errors import DataError
from recaffe.lmdb.datum import parse_datum, pixels
from recaffe.proto import caffe_pb2 as pb
from tests.records import data, encoded, net, pictures, raw, write_lmdb

TRAIN, TEST = pb.TRAIN, pb.TEST


SHAPE = (3, 8, 7)


def first(feed: Feed, n: int, start: int = 0) -> list[Batch]:
    batches = feed.batches(start)
    return list(itertools.islice(batches, n))


def test_encoded_records_of_several_sizes_want_a_crop(tmp_path: Path) -> None:
    sizes = [(6, 8), (9, 6), (6, 6), (20, 31)]
    records = [pictures(1, (3, *size), seed=i)[0] for i, size in enumerate(sizes)]
    write_lmdb(tmp_path / "db", [encoded(p, i) for i, p in enumerate(records)])
    blob = first(Feed(net(data(tmp_path / "db", 4, "crop_size: 6")), TEST, 0), 1)[0].blobs["data"]
    for p, got in zip(records, blob.numpy(), strict=True):
        y, x = (p.shape[1] - 6) // 2, (p.shape[2] - 6) // 2
        assert (got == p[:, y : y + 6, x : x + 6]).all()
    feed = Feed(net(data(tmp_path / "db", 4, "crop_size: 6")), TRAIN, 0)
    places = set()
    for batch in first(feed, 60):
        got = batch.blobs["data"][3].numpy()
        p = records[3]
        fits = [
            (y, x)
            for y in range(15)
            for x in range(26)
            if (p[:, y : y + 6, x : x + 6] == got).all()
        ]
        assert len(fits) == 1
        places.add(fits[0])
    assert len(places) > 40
    write_lmdb(tmp_path / "twins", [encoded(records[i]) for i in (0, 3, 3)])
    feed = Feed(net(data(tmp_path / "twins", 3, "crop_size: 6")), TRAIN, 0)
    assert not all(torch.equal(b.blobs["data"][1], b.blobs["data"][2]) for b in first(feed, 3))
    with pytest.raises(DataError, match=r"Layer 'here'.*3×9×6 and 3×6×8.*crop_size"):
        first(Feed(net(data(tmp_path / "db", 4)), TEST, 0), 1)
    shapes = [
        b.blobs["data"].shape[2:] for b in Feed(net(data(tmp_path / "db", 1)), TEST, 0).once()
    ]
    assert shapes == sizes, "with one record a batch, each may have its own size"


def test_force_color_and_force_gray_decide_how_encoded_records_are_read(tmp_path: Path) -> None:
    color, gray = pictures(1, (3, 6, 5))[0], pictures(1, (1, 6, 5))[0]
    write_lmdb(tmp_path / "db", [encoded(color), encoded(gray)])
    blobs = first(Feed(net(data(tmp_path / "db", 2, "force_color: true")), TEST, 0), 1)[0].blobs
    assert (blobs["data"][1].numpy() == gray).all() and (blobs["data"][0].numpy() == color).all()
    blobs = first(Feed(net(data(tmp_path / "db", 2, "force_gray: true")), TEST, 0), 1)[0].blobs
    assert blobs["data"].shape == (2, 1, 6, 5)
    with pytest.raises(DataError, match=r"1×6×5 and 3×6×5.*force_color"):
        first(Feed(net(data(tmp_path / "db", 2, "crop_size: 5")), TEST, 0), 1)


_int32 = st.integers(-(2**31), 2**31 - 1)


@st.composite
def datums(draw: st.DrawFn) -> pb.Datum:
    datum = pb.Datum()
    for name in ("channels", "height", "width", "label"):
        if draw(st.booleans()):
            setattr(datum, name, draw(_int32))
    if draw(st.booleans()):
        datum.data = draw(st.binary(max_size=300))
    datum.float_data.extend(draw(st.lists(st.floats(width=32, allow_nan=False), max_size=20)))
    if draw(st.booleans()):
        datum.encoded = draw(st.booleans())
    return datum


def agree(value: bytes, theirs: pb.Datum) -> None:
    ours = parse_datum(value)
    for name in ("channels", "height", "width", "label", "encoded"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert bytes(ours.data) == theirs.data
    assert ours.float_data.tobytes() == np.array(theirs.float_data, np.float32).tobytes()


@settings(max_examples=200, deadline=None)
@given(datums(), st.booleans())
def test_datums_are_parsed_as_protobuf_parses_them(datum: pb.Datum, packed: bool) -> None:
    value = datum.SerializeToString()
    if packed:  # as a later version of protobuf may write it
        floats = np.array(datum.float_data, "<f4").tobytes()
        bare = pb.Datum()
        bare.CopyFrom(datum)
        bare.ClearField("float_data")
        size = bytes([len(floats)]) if len(floats) < 128 else b""
        if not size:
            return
        value = b"\x32" + size + floats + bare.SerializeToString()
    later = b"\x7a\x03abc" + b"\x81\x01" + b"8 bytes." + b"\x80\x01\xff\x01" + b"\x85\x01four"
    agree(later + value + later, datum)


@settings(max_examples=400, deadline=None)
@given(datums(), st.data())
@example(pb.Datum(data=b"x" * 40), None)
def test_broken_datums_are_refused_and_never_read_otherwise(datum: pb.Datum, more: Any) -> None:
    value = bytearray(datum.SerializeToString())
    if more is None:
        value = value[:-1]
    elif value:
        for _ in range(more.draw(st.integers(1, 4))):
            value[more.draw(st.integers(0, len(value) - 1))] = more.draw(st.integers(0, 255))
        value = value[: more.draw(st.integers(0, len(value)))]
    try:
        parse_datum(bytes(value))
    except DataError:
        return
    theirs = pb.Datum()
    theirs.ParseFromString(bytes(value))
    agree(bytes(value), theirs)


HUGE = b"\x08\x03\x10\x80\x80\x04\x18\x80\x80\x04\x22\xff\xff\xff\xff\x0f"
GOOD = raw(pictures(1, SHAPE)[0])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (GOOD.SerializeToString()[:-3], "not a Datum"),
        (HUGE + b"abc", "not a Datum"),
        (b"\x08" + b"\xff" * 11, "not a Datum"),
        (raw(pictures(1, SHAPE)[0]).SerializeToString().replace(b"\x10\x08", b"\x10\x09"), "168 values"),
        (pb.Datum(channels=-3, height=-8, width=7, data=b"x" * 168), "values"),
        (pb.Datum(channels=2**31 - 1, height=2**31 - 1, width=2**31 - 1, data=b"x"), "values"),
        (pb.Datum(channels=3, height=8, width=7), "0 values"),
        (pb.Datum(encoded=True), "can't be decoded"),
        (pb.Datum(encoded=True, data=b"\x89PNG\r\n\x1a\n" + b"\xff" * 90), "can't be decoded"),
        (pb.Datum(encoded=True, data=encoded(pictures(1, SHAPE)[0]).data[:40]), "can't be decoded"),
        (raw(pictures(1, (1, 8, 7))[0]), "1×8×7 and 3×8×7"),
        (b"", "0 values"),
    ],
)  # fmt: skip
def test_hostile_records_end_with_the_layers_name(
    tmp_path: Path, record: pb.Datum | bytes, message: str
) -> None:
    write_lmdb(tmp_path / "db", [GOOD, GOOD, GOOD, record])
    batches = Feed(net(data(tmp_path / "db", 2)), TRAIN, 0).batches()
    assert next(batches).size == 2, "what stands before it is read"
    with pytest.raises(DataError, match=rf"Layer 'here' \(Data\): .*{message}"):
        next(batches)
    write_lmdb(tmp_path / "first", [record])
    if message != "1×8×7 and 3×8×7":
        with pytest.raises(DataError, match=rf"Layer 'here' \(Data\): .*{message}"):
            Feed(net(data(tmp_path / "first", 2)), TRAIN, 0)


def test_sixteen_bit_pictures_are_refused(tmp_path: Path) -> None:
    _, code = cv2.imencode(".png", np.full((5, 5, 3), 40000, np.uint16))
    write_lmdb(tmp_path / "db", [pb.Datum(encoded=True, data=code.tobytes())])
    with pytest.raises(DataError, match=r"uint16.*8 bits"):
        Feed(net(data(tmp_path / "db")), TRAIN, 0)


def test_pixels_are_a_view_of_the_record() -> None:
    value = GOOD.SerializeToString()
    found = pixels(parse_datum(value))
    assert not found.flags.owndata and np.shares_memory(found, np.frombuffer(value, np.uint8))
