"""Files from elsewhere that mean harm end with a message, at once, in little memory."""

from __future__ import annotations

import ast
import csv
import html.parser
import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from recaffe import config, mean, tables
from recaffe.config import ROOT
from recaffe.engines.torch.data import Feed
from recaffe.errors import ConfigError, DataError, NetError, WeightsError
from recaffe.images import inventory
from recaffe.images.decode import RejectError, decode
from recaffe.lmdb import datum, pages, read
from recaffe.net import parse, shapes, state, weights
from recaffe.packages import pickled
from recaffe.proto import caffe_pb2 as pb
from tests import records
from tests.conftest import save, texture
from tests.small_results import build_results

# -- pictures


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
        assert decode(with_chunk(kind, head + bomb)).rgb.shape == (4, 4, 3)
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
    began = time.monotonic()
    with pytest.raises(DataError, match="can't be decoded"):
        datum.decode(bytes(whole), -1)
    assert time.monotonic() - began < 1


# -- lists and tables


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../x.png", ".."])
@pytest.mark.parametrize("form", ["list", "table"])
def test_a_path_that_leaves_its_root_is_refused(tmp_path: Path, path: str, form: str) -> None:
    save(texture(1), tmp_path / "in" / "0.png")
    file = tmp_path / "in" / ("l.txt" if form == "list" else "t.csv")
    if form == "list":
        file.write_text(f"0.png 0\n{path} 1\n")
        images: dict = {"train": {"list": str(file)}}
    else:
        file.write_text(f"path,label\n0.png,a\n{path},b\n")
        images = {"path": str(file), "root": "", "path_column": "path", "label_column": "label", "split_column": ""}  # fmt: skip
    with pytest.raises(DataError, match="line 2|row 3") as caught:
        inventory.list_pictures(images)
    assert "leads out of the root" in str(caught.value)


def test_a_path_with_dots_that_stays_inside_its_root_is_fine(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a/../0.png 0\nb/1.png 1\n")
    items, _ = inventory.list_pictures({"train": {"list": str(tmp_path / "l.txt")}})
    assert len(items) == 2


@pytest.mark.parametrize("label", ["999999999", "9" * 5000, "²"])
def test_a_huge_label_is_a_message_not_a_huge_table(tmp_path: Path, label: str) -> None:
    (tmp_path / "l.txt").write_text(f"0.png 0\n1.png {label}\n", encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(DataError, match=r"no line has label 1, 2, 3, 4, 5\.|not a whole number"):
        inventory.list_pictures({"train": {"list": str(tmp_path / "l.txt")}})
    assert time.monotonic() - began < 1


def test_folders_that_lead_in_a_circle_are_listed_once(tmp_path: Path) -> None:
    """Links to files are followed, and those to class folders; deeper ones to folders are not."""
    for name in ("a", "b"):
        save(texture(1), tmp_path / name / "0.png")
        (tmp_path / name / "again").symlink_to(tmp_path)
    (tmp_path / "b" / "link.png").symlink_to(tmp_path / "a" / "0.png")
    items, _ = inventory.list_pictures({"path": str(tmp_path), "root": "", "label_names": ""})
    assert [i.path for i in items] == ["a/0.png", "b/0.png", "b/link.png"]


# -- formulas


@given(st.text(max_size=12))
def test_every_text_comes_back_from_a_table_and_none_starts_a_formula(text: str) -> None:
    cell = tables.cell_of(text)
    assert tables.text_of(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r") or cell.lstrip("+-").replace(".", "", 1).isdigit()


def test_classes_named_by_numbers_stay_numbers() -> None:
    assert [tables.cell_of(x) for x in ("-1", "+1", "0.5", "-0.5")] == ["-1", "+1", "0.5", "-0.5"]
    assert tables.cell_of("-1+cmd|' /C calc'!A0") == "'-1+cmd|' /C calc'!A0"


# -- nets


@pytest.mark.parametrize(
    "layer",
    [
        'name: "big" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2147483647 }',
        'name: "big" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4000000000 kernel_size: 3 }',
        'name: "big" type: "DummyData" top: "y" dummy_data_param { shape { dim: 9000000000 dim: 9000000000 } }',
        'name: "big" type: "Input" top: "y" input_param { shape { dim: 9223372036854775807 dim: 3 } }',
        'name: "big" type: "Tile" bottom: "x" top: "y" tile_param { tiles: 2147483647 }',
    ],
)  # fmt: skip
def test_a_net_that_no_machine_can_hold_names_layer_and_size(layer: str) -> None:
    net = records.net(layer)
    inputs = {"x": (64, 300, 40, 40), "y": (1, 1)} if "DummyData" not in layer else {"y": (9 * 10**9, 9 * 10**9)}  # fmt: skip
    with pytest.raises(NetError, match=r"'big' .*×.* GiB. No machine"):
        shapes.walk(list(net.layer), inputs)


def test_weights_beyond_this_machines_memory_are_refused_before_any_is_made() -> None:
    from recaffe.engines.torch.net import Net

    net = records.net(
        'name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 900000 }'
    )
    with pytest.raises(NetError, match="GiB.*largest layer is 'ip'"):
        Net(net, pb.TRAIN, {"x": (1, 900_000)})


def test_text_that_is_nested_too_deep_is_a_message() -> None:
    with pytest.raises(NetError, match="deep"):
        parse.to_tree(b"layer { " * 5000, "x")
    with pytest.raises(NetError):
        parse.to_solver("net_param { layer { unknown { " * 5000)


@pytest.mark.parametrize("place", ["layer", "blob", "input"])
@pytest.mark.parametrize("harm", ["{0}", '{0}"""\n{1}\n"""', "{0}\n        {1}", "{0}\r{1}"])
def test_a_converted_net_holds_no_code_from_a_name(place: str, harm: str) -> None:
    from recaffe.convert.module import convert

    name = harm.format("conv", "raise SystemExit('harm')")
    layer, blob, given = (name if place == p else p for p in ("layer", "blob", "input"))
    net = pb.NetParameter(name=name)
    first = net.layer.add(name="data", type="Input", top=[given])
    first.input_param.shape.add().dim.extend((1, 2, 5, 5))
    second = net.layer.add(name=layer, type="PReLU", bottom=[given], top=[blob])
    second.prelu_param.channel_shared = True
    source = convert(net, {layer: [np.ones((), np.float32)]}, "net", name).source
    assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Raise)]


def test_a_number_of_a_hundred_thousand_digits_takes_no_time() -> None:
    began = time.monotonic()
    with pytest.raises(NetError):
        parse.to_tree(b"base_lr: " + b"1" * 100_000 + b"x", "x")
    assert time.monotonic() - began < 1


# -- weights


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
    began = time.monotonic()
    with pytest.raises(WeightsError):
        weights.read(tmp_path / "x.caffemodel.h5")
    assert time.monotonic() - began < 2


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


# -- LMDB


def test_a_tree_of_pages_that_would_crash_lmdb_is_refused(tmp_path: Path) -> None:
    """Every byte of the first record's page, and of the heads, once."""
    whole = (records.write_lmdb(tmp_path / "db", [records.raw(p) for p in records.pictures(3, (1, 4, 4))]) / "data.mdb").read_bytes()  # fmt: skip
    refused = 0
    for at in [*range(0, 160), *range(4096, 4096 + 160), *range(8192, 8192 + 40)]:
        file = tmp_path / "db" / "data.mdb"
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x81]) + whole[at + 1 :])
        try:
            read.describe(tmp_path / "db")
        except DataError:
            refused += 1
    assert refused > 50


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
@example(313076701)  # a file that ends before the last page, which is free
def test_every_lmdb_that_lmdb_itself_wrote_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        lmdb.open(folder, map_size=2**26, sync=False) as env,
    ):
        for _ in range(int(rng.integers(1, 8))):
            with env.begin(write=True) as txn:
                for number in map(int, rng.integers(0, 200, int(rng.integers(0, 80)))):
                    key = b"%0*d" % (3 + number % 150, number)
                    if rng.random() < 0.4:
                        txn.delete(key)
                    else:
                        txn.put(key, bytes(int(rng.choice([0, 7, 100, 1900, 5000]))))
            pages.check(folder)


# -- pickles, YAML


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


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.system ['true']", "a: !!python/name:os.system", "- [" * 5000]
)  # fmt: skip
def test_yaml_tags_and_depth_are_a_message(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not valid YAML"):
        config.load(tmp_path / "c.yaml")


def test_the_workflow_itself_refuses_yaml_tags(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: !!python/object/apply:os.system ['touch harm']")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "c.yaml"],
        cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert not (tmp_path / "harm").exists()


# -- the report


class Page(html.parser.HTMLParser):
    """The elements and attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markup_in_names_is_shown_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    script, image = "<script>alert(1)<script>", '"><img src=x onerror=alert(2)>'
    money = "$\\frac{ --> ]]> cost $5"
    results = build_results(tmp_path, (script, image, money), "\"'><b onload=alert(3)>")
    report = (results / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(report)
    assert "script" not in page.tags
    assert "b" in page.tags, "the report's own"
    assert not [a for a, _ in page.attributes if a.startswith("on")]
    assert {v for a, v in page.attributes if a == "src" and v and not v.startswith("data:image/jpeg;base64,")} == set()  # fmt: skip
    assert "x" not in [v for a, v in page.attributes if a == "src"]
    for name in (script, image, money):
        assert page.text.count(name) >= 3, "in tables and in figures"
    with (results / "first" / "predictions.csv").open(encoding="utf-8", newline="") as f:
        assert {row["label"] for row in csv.DictReader(f)} <= {script, image, money}
