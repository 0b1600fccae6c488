"""Each parser of files from elsewhere, as a function of bytes that may only end well or refuse.

What a target lets through, and the fuzzer counts as a find, is any exception but recaffe's own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from recaffe import config, mean
from recaffe.engines.scoring import transformation
from recaffe.errors import RecaffeError
from recaffe.evaluate import predictions
from recaffe.images import decode, inventory
from recaffe.lmdb import datum
from recaffe.lmdb import read as lmdb
from recaffe.lmdb.write import read_list
from recaffe.model import folder
from recaffe.net import graph, parse, prototxt, shapes, state, summary, weights
from recaffe.net.upgrade.files import upgrade_file
from recaffe.net.upgrade.tree import upgrade_solver_tree, upgrade_tree
from recaffe.packages import pickled
from recaffe.proto import caffe_pb2 as pb
from recaffe.weights import form

# A folder in memory: the fuzzer writes thousands of files a second.
_SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_FOLDER = tempfile.TemporaryDirectory(prefix="recaffe-fuzz-", dir=_SHM)
_MAX_PIXELS = 1_000_000


def _file(data: bytes, name: str = "input") -> Path:
    path = Path(_FOLDER.name) / name
    path.write_bytes(data)
    return path


def net(data: bytes) -> None:
    """A net's prototxt: the tree, its rendering, its upgrade, its shapes."""
    tree = parse.to_tree(data, "net.prototxt")
    text = data.decode("utf-8").removeprefix("\ufeff")
    assert tree.render() == text, "the tree doesn't render back"
    parse.unknown_fields(tree)
    _walk(parse.to_net(tree))
    upgraded = upgrade_tree(tree).tree
    prototxt.parse(upgraded.render())


def _walk(found: pb.NetParameter) -> None:
    for phase in (pb.TRAIN, pb.TEST):
        layers = graph.of_phase(found, phase)
        inputs = {
            top: (2, 3, 32, 32) if i == 0 else (2,)
            for x in layers
            if x.type in graph.DATA
            for i, top in enumerate(x.top)
        }
        summary.summary(shapes.walk(layers, inputs))


def solver(data: bytes) -> None:
    """A solver's prototxt."""
    from recaffe.solver import check

    tree = parse.to_tree(data, "solver.prototxt")
    check(parse.to_solver(data.decode("utf-8")))
    upgrade_solver_tree(tree)


def upgrade(data: bytes) -> None:
    """What `recaffe upgrade` is given: any file, text or binary."""
    upgrade_file(_file(data), Path(_FOLDER.name) / "out")


def caffemodel(data: bytes) -> None:
    """Weights, binary or HDF5."""
    weights.read(_file(data))


def published(data: bytes) -> None:
    """A caffemodel from elsewhere, brought up to date."""
    out = Path(_FOLDER.name) / "out.caffemodel"
    form.install(_file(data), out)
    weights.read(out)


def solverstate(data: bytes) -> None:
    """A solver's state, binary or HDF5."""
    state.read_state(_file(data))


def record(data: bytes) -> None:
    """A Datum and its pixels."""
    datum.pixels(datum.parse_datum(data))


def database(data: bytes) -> None:
    """An LMDB's data.mdb, every record read."""
    folder = Path(_FOLDER.name) / "lmdb"
    folder.mkdir(exist_ok=True)
    _file(data, "lmdb/data.mdb")
    lmdb.describe(folder)
    lmdb.keys(folder)


def mean_file(data: bytes) -> None:
    """A mean.binaryproto."""
    mean.read(_file(data))


def picture(data: bytes) -> None:
    """A picture in any format."""
    try:
        found = decode.decode(data, max_pixels=_MAX_PIXELS)
    except decode.RejectError:
        return
    assert found.bgr.shape[0] * found.bgr.shape[1] <= _MAX_PIXELS, "over the limit, and decoded"


def lists(data: bytes) -> None:
    """What a user may list pictures with: Caffe's lists, tables, and names of labels."""
    head, _, tail = data.partition(b"\0")
    _file(tail, "names.txt")
    for images in (
        {"train": {"list": str(_file(head, "list.txt"))}},
        {"train": {"list": str(_file(head, "list.txt"))}, "label_names": f"{_FOLDER.name}/names.txt"},
        {
            "path": str(_file(head, "table.csv")),
            "path_column": "path", "label_column": "label", "split_column": "", "root": "",
        },
    ):  # fmt: skip
        try:
            inventory.list_pictures(images)
        except RecaffeError:
            continue


def own_lists(data: bytes) -> None:
    """The lists and tables that recaffe itself wrote, when somebody has edited them."""
    file = _file(data)
    for read in (predictions.read, lambda f: read_list(f, 0)):
        try:
            read(file)
        except RecaffeError:
            continue


def settings(data: bytes) -> None:
    """A config."""
    config.load(_file(data, "config.yaml"))


def note(data: bytes) -> None:
    """A model's model.json."""
    path = _file(data, "model.json")
    transformation(folder.Model(path.parent, folder.read_note(path), []).job())


def pickle(data: bytes) -> None:
    """A package's pickled arrays."""
    pickled.load(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "net": net, "solver": solver, "upgrade": upgrade, "caffemodel": caffemodel,
    "solverstate": solverstate, "datum": record, "lmdb": database, "mean": mean_file,
    "picture": picture, "lists": lists, "own_lists": own_lists, "config": settings,
    "pickle": pickle, "note": note, "published": published,
}  # fmt: skip


def run(name: str, data: bytes) -> bool:
    """Whether the target took the input; False where it refused it with a message."""
    try:
        TARGETS[name](data)
    except RecaffeError as error:
        assert str(error).strip(), "a refusal without a word"
        return False
    return True
