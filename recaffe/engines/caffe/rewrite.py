"""A job's net, solver and weights as Caffe is to read them, beside the snapshots. A user's own files stay
as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recaffe import solver
from recaffe.engines.base import TrainJob
from recaffe.errors import ConfigError
from recaffe.files import write_text
from recaffe.lmdb import read
from recaffe.net import graph, kinds, parse, weights
from recaffe.net.prototxt import Message
from recaffe.net.upgrade.tree import upgrade_tree
from recaffe.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class Rewritten:
    """`plan` is the solver in the file `solver`, `net` its net in both phases in the file `net_file`.

    `batch` is the whole batch of TRAIN, over all GPUs; `sources` says which LMDB each link stands for.
    """

    solver: Path
    net_file: Path
    plan: pb.SolverParameter
    net: pb.NetParameter
    batch: int
    sources: dict[str, str]

    @property
    def tested(self) -> list[pb.LayerParameter]:
        """The layers of the first test net; none if the solver tests none."""
        return graph.of_phase(self.net, pb.TEST) if self.plan.test_iter else []


def read_solver(path: Path) -> pb.SolverParameter:
    """A solver that names one `net`; raises `ConfigError` for what Caffe refuses, or for another form."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read as a solver.prototxt: {error}.") from error
    plan = parse.to_solver(text, str(path))
    solver.check(plan)
    others = ("net_param", "train_net", "train_net_param", "test_net", "test_net_param")
    given = [f.name for f, _ in plan.ListFields() if f.name in others]
    if given or not plan.net:
        raise ConfigError(
            f"{path} has {given[0] if given else 'no net'}; here the caffe engine wants a solver with one "
            "`net` for both phases. Run `caffe train` by hand, or set `engine: torch`."
        )
    return plan


def batch_size(net: pb.NetParameter, source: Path | str) -> int:
    """The batch of the TRAIN phase's first Data layer."""
    layers = graph.of_phase(net, pb.TRAIN)
    found = next((x.data_param.batch_size for x in layers if x.type == "Data"), 0)
    if not found:
        raise ConfigError(f"{source} has no Data layer with a batch_size in TRAIN.")
    return int(found)


def rewrite(job: TrainJob, folder: Path, links: Path, gpus: Sequence[int], start: int) -> Rewritten:
    """Write solver.prototxt and net.prototxt to `folder`; training starts at iteration `start`.

    Caffe reads the LMDBs through `links`, a folder of its own, since it wants to make a lock.mdb beside
    the records. Each of `gpus` gets its share of the batch: in Caffe, batch_size is that of one GPU.

    Raises `ConfigError` for fields that Caffe doesn't have, and a batch that can't be shared.
    """
    plan = read_solver(job.solver)
    tree = upgrade_tree(parse.read_tree(plan.net), plan.net).tree
    if unknown := parse.unknown_fields(tree):
        raise ConfigError(
            f"{plan.net}, {unknown[0]}: Caffe 1.0 has no such field and would refuse the net. Remove it, "
            "or set `engine: torch`, which passes it over."
        )
    whole = parse.to_net(tree, plan.net)
    batch = batch_size(whole, plan.net)
    sources: dict[str, str] = {}
    for n, layer in enumerate(tree.messages("layer")):
        _test_each_once(layer, plan)
        sources |= _link_records(layer, links / str(n))
        if layer.get("type") == "Data" and graph.included(parse.to_layer(layer), pb.TRAIN):
            _share(layer, len(gpus))
    net_file = folder / "net.prototxt"
    write_text(net_file, tree.render())
    plan.net = str(net_file.absolute())
    plan.snapshot_prefix = str((folder / "snap").absolute())
    plan.snapshot_after_train = True
    plan.ClearField("snapshot_format")
    plan.ClearField("device_id")
    plan.solver_mode = pb.SolverParameter.GPU if gpus else pb.SolverParameter.CPU
    for i, name in enumerate(plan.weights):
        plan.weights[i] = ",".join(str(Path(x.strip()).absolute()) for x in name.split(","))
    if (job.select == "best" or job.patience) and plan.test_interval:
        _snapshot_where_tested(plan)
    if start and plan.random_seed >= 0:
        # The generators begin anew: from the same seed, the same crops would come once more.
        plan.random_seed += start
    file = folder / "solver.prototxt"
    write_text(file, solver.to_text(plan))
    net = parse.to_net(tree, plan.net)
    if plan.test_state:
        net.state.MergeFrom(plan.test_state[0])
    return Rewritten(file, net_file, plan, net, batch, sources)


def _snapshot_where_tested(plan: pb.SolverParameter) -> None:
    """Weights that did best must have been written: every test has a snapshot."""
    if not plan.snapshot or plan.test_interval % plan.snapshot:
        plan.snapshot = plan.test_interval


def _test_each_once(layer: Message, plan: pb.SolverParameter) -> None:
    """Batches that divide the records, where test_iter is meant for all of them.

    Caffe's tests go on where the one before ended: else each would count some records twice.
    """
    proto = parse.to_layer(layer)
    data = proto.data_param
    records = Path(data.source)
    if (
        data.backend != pb.DataParameter.LMDB
        or graph.included(proto, pb.TRAIN)
        or not (records / "data.mdb").is_file()
    ):
        return
    count, batch = read.count(records), max(data.batch_size, 1)
    if list(plan.test_iter) == [-(-count // batch)]:
        batch = max(b for b in range(1, min(batch, count) + 1) if count % b == 0)
        layer.child("data_param").set("batch_size", batch)
        plan.test_iter[0] = count // batch


def link(lmdb: Path, folder: Path) -> Path:
    """A folder whose data.mdb is that of `lmdb`, for a Caffe that writes a lock.mdb beside it."""
    records = (lmdb / "data.mdb").absolute()
    if not records.is_file():
        return lmdb.absolute()
    folder.mkdir(parents=True)
    (folder / "data.mdb").symlink_to(records)
    return folder


def _link_records(layer: Message, folder: Path) -> dict[str, str]:
    if parse.to_layer(layer).data_param.backend != pb.DataParameter.LMDB:
        return {}
    links = {}
    for data in layer.messages("data_param"):
        source = str(data.get("source", ""))
        linked = str(link(Path(source), folder))
        links[linked] = source
        data.set("source", linked)
    return links


def with_sources(model: bytes, sources: dict[str, str]) -> bytes:
    """A caffemodel, which holds all of its net, with the LMDBs' own names for those of `sources`."""
    net = pb.NetParameter()
    net.ParseFromString(model)
    for layer in net.layer:
        if (source := sources.get(layer.data_param.source)) is not None:
            layer.data_param.source = source
    return net.SerializeToString(deterministic=True)


def _share(layer: Message, gpus: int) -> None:
    data = layer.child("data_param")
    batch = int(str(data.get("batch_size", 0)))
    if gpus > 1 and batch % gpus:
        raise ConfigError(
            f"devices is {gpus}, which doesn't divide batch_size {batch}: every GPU gets the same share "
            "of a batch. Change one of them."
        )
    if gpus > 1:
        data.set("batch_size", batch // gpus)


def start_weights(job: TrainJob, net: pb.NetParameter, folder: Path) -> list[Path]:
    """The files to start from, each with only the layers that `job.copy` names.

    Caffe copies whatever has the name of a layer of the net, and ends where a shape differs; so where a
    file has more than is wanted, the wanted is written to `folder`.
    """
    given = job.weights if isinstance(job.weights, tuple) else (job.weights,)
    files = [p.absolute() for p in given if p is not None]
    if job.copy is None:
        return files
    wanted = set(job.copy)
    return [_only(p, wanted, net, folder / f"start{n}.caffemodel") for n, p in enumerate(files)]


def _only(path: Path, wanted: set[str], net: pb.NetParameter, aside: Path) -> Path:
    blobs = weights.read(path, net.layer)
    if not (blobs.keys() & {x.name for x in net.layer}) - wanted:
        return path
    data = path.read_bytes()
    kept = pb.NetParameter()
    if data.startswith(kinds.HDF5):
        kept = weights.to_net("", [(n, "", b) for n, b in blobs.items() if n in wanted])
    else:
        # As the file has them: older shapes have four dimensions, which Caffe knows by their form.
        kept.ParseFromString(data)
        for i in reversed(range(len(kept.layer))):
            if kept.layer[i].name not in wanted:
                del kept.layer[i]
        for i in reversed(range(len(kept.layers))):
            old = kept.layers[i]
            if (old.layer if old.HasField("layer") else old).name not in wanted:
                del kept.layers[i]
    weights.write(kept, aside)
    return aside
