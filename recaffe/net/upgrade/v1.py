"""Caffe's form of 2014 → today's: enum types to names, learning rates into `param` messages."""

from __future__ import annotations

from recaffe.errors import NetError
from recaffe.net.upgrade.v0 import put, unknown_numbers
from recaffe.proto import caffe_pb2 as pb

Old = pb.V1LayerParameter
TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}
# V1's field → the field of V2's `param` message that its i-th value goes to.
SPECS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
# Data layers whose transformation once stood in their own parameter.
TRANSFORMED = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
MOVED = ("scale", "mean_file", "crop_size", "mirror")


def type_name(value: int) -> str:
    """V2's name of a layer type, from V1's enum value."""
    return TYPES[Old.LayerType.Name(value)]


def data_upgrade_needed(net: pb.NetParameter) -> bool:
    """Whether a V1 data layer has transformation fields in its own parameter."""
    return any(
        getattr(layer, param).HasField(field)
        for layer in net.layers
        if (param := own_param(layer))
        for field in MOVED
    )


def move_transforms(net: pb.NetParameter) -> None:
    """Move V1 data layers' scale, mean_file, crop_size and mirror into transform_param.

    All such layers get both messages, empty ones too, as soon as one needs it: Caffe's tool does.
    """
    for layer in net.layers:
        param = own_param(layer)
        if param:
            own = getattr(layer, param)
            own.SetInParent()
            layer.transform_param.SetInParent()
            for field in MOVED:
                put(layer.transform_param, field, own)
                own.ClearField(field)


def upgrade(net: pb.NetParameter) -> list[str]:
    """Rewrite `net` in place as V2; a sentence for each field that had to be left out.

    Raises `NetError` if it has layers of both forms.
    """
    if net.layer:
        raise NetError(
            "The net has layers of both forms, `layer` and `layers`. Caffe refuses it: write all of "
            "them as `layer`."
        )
    lost = []
    for old in net.layers:
        lost += _layer(old, net.layer.add())
    del net.layers[:]
    return lost


def own_param(layer: Old) -> str:
    return TRANSFORMED.get(Old.LayerType.Name(layer.type), "")


def _layer(old: Old, new: pb.LayerParameter) -> list[str]:
    for field, values in old.ListFields():
        if field.name == "type":
            new.type = type_name(old.type)
        elif field.name in SPECS:
            while len(new.param) < len(values):
                new.param.add()
            for spec, value in zip(new.param, values, strict=False):
                setattr(spec, SPECS[field.name], value)
        elif field.name != "layer":
            put(new, field.name, old)
    return unknown_numbers(old, f"layer {old.name!r}")
