"""A deploy net over an LMDB by pycaffe: each record exactly once, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from google.protobuf import text_format

from recaffe import mean as means
from recaffe import stop
from recaffe.engines import preflight, views
from recaffe.engines.base import Predictions, PredictJob
from recaffe.engines.caffe import find, messages, rewrite, run
from recaffe.engines.caffe.child import Child
from recaffe.engines.caffe.find import Caffe
from recaffe.engines.scoring import check_shape, data_layer, input_layer
from recaffe.errors import NetError
from recaffe.lmdb import read
from recaffe.net import graph, shapes, weights
from recaffe.net.parse import read_net
from recaffe.progress import progress
from recaffe.proto import caffe_pb2 as pb

_SCRIPT = Path(__file__).with_name("pycaffe_scores.py")
_BATCH = "recaffe: batch"
_SECONDS_BETWEEN_LOOKS = 0.5


def predict(job: PredictJob, title: str = "test", blob: str = "") -> Predictions:
    """The net's output (or the named blob, averaged over space) for every record, as Caffe computes it.

    Raises `NetError` if the deploy net's input doesn't fit the records, `MachineError` where there is
    no Caffe, `WeightsError` if a layer of the net isn't in the weights, and `TrainError` with why it
    stopped.
    """
    caffe = find.find()
    net = read_net(job.deploy)
    source = input_layer(job, net)
    channels, height, width = read.first_shape(job.lmdb)
    crop = job.crop_size
    shape = (channels, crop or height, crop or width)
    views.check(job.crops, crop, (height, width))
    check_shape(job, source, shape)
    if not blob:
        _check_weights(job, net, {source.top[0]: (1, *shape)})
    keys = read.keys(job.lmdb)
    batches = -(-len(keys) // job.batch_size)
    chosen = run.gpus(caffe, job.device, 1, job.batch_size)
    if chosen:
        preflight.check_caffe(caffe.program.parents[1], chosen)
    with TemporaryDirectory(prefix="recaffe-") as name:
        folder = Path(name)
        wanted = blob or graph.outputs(graph.of_phase(net, pb.TEST))[-1]
        scores, labels = folder / "scores.npy", folder / "labels.npy"
        task = {
            "net": str(_write_net(job, net, source, folder)), "weights": str(job.weights.absolute()),
            "blob": wanted, "label": _label(net), "batches": batches,
            "gpu": chosen[0] if chosen else None, "scores": str(scores), "labels": str(labels),
            "crops": _crops(job, net, source, (height, width), folder),
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(task), encoding="utf-8")
        for _ in progress(_done(caffe, job, folder / "job.json"), batches, title, "batch"):
            pass
        # The last batch goes on with the first records.
        return Predictions(np.load(scores)[: len(keys)], np.load(labels)[: len(keys)], keys)


def _check_weights(job: PredictJob, net: pb.NetParameter, inputs: dict[str, shapes.Shape]) -> None:
    """Caffe leaves a layer that the weights lack at its random start, in silence."""
    layers = graph.of_phase(net, pb.TEST)
    try:
        walked = shapes.walk(layers, inputs)
    except NetError:
        return  # a type that only Caffe knows: which layers learn isn't known here
    weights.of_net(walked, job.weights)


def _label(net: pb.NetParameter) -> str:
    """A name that no blob of the net has."""
    taken = {top for layer in net.layer for top in layer.top}
    name = "label"
    while name in taken:
        name += "_"
    return name


def _write_net(
    job: PredictJob, net: pb.NetParameter, source: pb.LayerParameter, folder: Path
) -> Path:
    """The deploy net with a Data layer in the place of its Input; or, for several crops, that alone."""
    data = data_layer(job, source.top[0], _label(net))
    data.data_param.source = str(rewrite.link(job.lmdb, folder / "lmdb"))
    if job.mean_file is not None:
        data.transform_param.mean_file = str(job.mean_file.absolute())
    own = pb.NetParameter()
    if job.crops > 1:
        data.ClearField("transform_param")
        own.layer.append(data)
    else:
        own.CopyFrom(net)
        own.layer[list(net.layer).index(source)].CopyFrom(data)
    file = folder / "net.prototxt"
    file.write_text(text_format.MessageToString(own), encoding="utf-8")
    return file


def _crops(
    job: PredictJob, net: pb.NetParameter, source: pb.LayerParameter, record: tuple[int, int],
    folder: Path,
) -> dict[str, Any] | None:  # fmt: skip
    """What the script needs to score several crops of a record (height, width): the deploy net beside."""
    if job.crops == 1:
        return None
    own = pb.NetParameter()
    own.CopyFrom(net)
    own.layer[list(net.layer).index(source)].input_param.shape[0].dim[0] = job.batch_size
    file = folder / "deploy.prototxt"
    file.write_text(text_format.MessageToString(own), encoding="utf-8")
    values = None
    if job.mean_file is not None:
        values = means.read(job.mean_file)
    elif job.mean_values:
        values = np.array(job.mean_values, np.float32)[:, None, None]
    if values is not None:
        np.save(folder / "mean.npy", values)
    rest = (record[0] - job.crop_size, record[1] - job.crop_size)
    return {
        "net": str(file), "input": source.top[0], "size": job.crop_size, "scale": job.scale,
        "views": [views.place(view, rest) for view in range(views.COUNT)],
        "mean": str(folder / "mean.npy") if values is not None else None,
    }  # fmt: skip


def _done(caffe: Caffe, job: PredictJob, task: Path) -> Iterator[None]:
    """Run the script to its end; one value for each batch.

    Raises `TrainError` with why it ended, if not well.
    """
    said: list[str] = []
    command = [find.interpreter(), str(_SCRIPT), str(task)]
    with Child(command, run.environment(caffe, job.threads, quiet=True)) as child:
        for line in child.lines(_SECONDS_BETWEEN_LOOKS):
            stop.look_up()
            if line is None:
                continue
            if line.startswith(_BATCH):
                yield
            else:
                print(line, flush=True)
                said.append(line)
        code = child.process.returncode
    if code:
        raise messages.explain(said[-200:], code, "what it said above")
