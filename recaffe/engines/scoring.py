"""What both engines make of a deploy net and an LMDB: the layer that reads it, and a check."""

from __future__ import annotations

from collections.abc import Sequence

from recaffe.engines.base import PredictJob
from recaffe.errors import NetError
from recaffe.proto import caffe_pb2 as pb


def input_layer(job: PredictJob, net: pb.NetParameter) -> pb.LayerParameter:
    """The net's Input layer; raises `NetError` if it has none."""
    source = next((x for x in net.layer if x.type == "Input"), None)
    if source is None:
        raise NetError(f"{job.deploy} has no Input layer; it is not a deploy net.")
    return source


def data_layer(job: PredictJob, top: str, label: str) -> pb.LayerParameter:
    """The Data layer that reads the job's LMDB with its preprocessing."""
    layer = pb.LayerParameter(name="data", type="Data", top=[top, label])
    layer.data_param.source = str(job.lmdb)
    layer.data_param.batch_size = job.batch_size
    layer.data_param.backend = pb.DataParameter.LMDB
    layer.transform_param.CopyFrom(transformation(job))
    return layer


def transformation(job: PredictJob) -> pb.TransformationParameter:
    """What the job does to a record: centre crop, mean, scale."""
    param = pb.TransformationParameter(crop_size=job.crop_size, scale=job.scale)
    if job.mean_file is not None:
        param.mean_file = str(job.mean_file)
    param.mean_value.extend(job.mean_values)
    return param


def check_shape(job: PredictJob, source: pb.LayerParameter, shape: Sequence[int]) -> None:
    """Raises `NetError` if records of `shape` (C, H, W after the crop) aren't what the net wants."""
    wanted = tuple(source.input_param.shape[0].dim)[1:]
    if tuple(shape) != wanted:
        raise NetError(f"{job.deploy} wants {wanted}, the records give {tuple(shape)}.")
