"""Small nets, and one for each mistake that a net can have, with what its message must say."""

from __future__ import annotations

from typing import Any

import torch

from recaffe.engines.torch.net import Net
from recaffe.net import parse
from recaffe.net.prototxt import parse as parse_text
from recaffe.proto import caffe_pb2 as pb

DATA = {"data": (4, 3, 8, 8), "label": (4,)}
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" '
    'convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "msra" } } }'
)
FC = (
    'layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" '
    'inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }'
)
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }'


def build(text: str, phase: int = pb.TRAIN, inputs: dict[str, Any] = DATA, **options: Any) -> Net:
    return Net(parse.to_net(parse_text(text)), phase, inputs, **options)


def inputs(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    maker = torch.Generator().manual_seed(seed)
    return {
        "data": torch.randn(DATA["data"], generator=maker, dtype=dtype),
        "label": torch.tensor([0, 5, 2, 3], dtype=dtype),
    }


MISTAKES = {
    "a bottom that nothing makes": (CONV.replace('"data"', '"dota"'), "'conv'.*'dota'.*Known blobs"),
    "a blob made twice": (CONV + CONV.replace('"conv" type', '"other" type'), "'other' makes the blob 'conv'.*'conv' makes already"),
    "a type of no Caffe": (CONV.replace('"Convolution"', '"Convulsion"'), "'Convulsion'.*spelling"),
    "a type of Caffe's": ('layer { name: "rnn" type: "LSTM" bottom: "data" top: "y" }', "'rnn'.*'LSTM'.*caffe train"),
    "a Python layer": ('layer { name: "p" type: "Python" bottom: "data" top: "y" }', "'p'.*'Python'.*caffe train"),
    "spatial pyramids": ('layer { name: "p" type: "SPP" bottom: "data" top: "y" }', "'p'.*'SPP'.*caffe train"),
    "stochastic pooling": ('layer { name: "p" type: "Pooling" bottom: "data" top: "y" pooling_param { pool: STOCHASTIC kernel_size: 2 } }', "'p'.*STOCHASTIC.*caffe train"),
    "a convolution over five axes": ('layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param { shape { dim: 1 dim: 1 } num_axes: 0 } } layer { name: "c" type: "Convolution" bottom: "r" top: "y" convolution_param { axis: 0 num_output: 2 kernel_size: 1 } }', "'c'.*over 1 to 3 axes"),
    "both rules": (CONV.replace('top: "conv"', 'top: "conv" include { phase: TRAIN } exclude { stage: "x" }'), "'conv'.*include and exclude"),
    "in place on a blob that another reads": (CONV + FC + 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }', "'relu' works in place on the blob 'conv', which layer 'fc' uses"),
    "in place where it can't be": (CONV + 'layer { name: "f" type: "Flatten" bottom: "conv" top: "conv" }', "'f'.*can't work in place"),
    "too many bottoms": ('layer { name: "r" type: "ReLU" bottom: "data" bottom: "label" top: "y" }', "'r'.*2 bottoms; it wants 1"),
    "too few bottoms": ('layer { name: "e" type: "Eltwise" bottom: "data" top: "y" }', "'e'.*1 bottoms; it wants 2 or more"),
    "too many tops": ('layer { name: "r" type: "ReLU" bottom: "data" top: "y" top: "z" }', "'r'.*2 tops; it makes 1"),
    "too many rates": (CONV.replace("convolution_param", "param {} param {} param {} convolution_param"), "'conv'.*3 `param`, but learns 2"),
    "two layers of one name": (CONV + FC.replace('"fc" type', '"conv" type'), "Two layers .*'conv'"),
    "a window larger than the picture": (CONV.replace("kernel_size: 3", "kernel_size: 9"), "'conv'.*too small for this net"),
    "a pooling window behind the picture": ('layer { name: "p" type: "Pooling" bottom: "data" top: "y" pooling_param { kernel_size: 1 stride: 3 } }', "'p'.*round_mode: FLOOR"),
    "shapes that differ": ('layer { name: "e" type: "Eltwise" bottom: "data" bottom: "label" top: "y" }', r"'e' \(Eltwise\): bottoms must have one shape"),
    "an axis that isn't there": ('layer { name: "c" type: "Concat" bottom: "data" bottom: "data" top: "y" concat_param { axis: 4 } }', "'c'.*axis 4 is out of range"),
    "no num_output": (CONV.replace("num_output: 5", ""), "'conv'.*num_output is missing"),
"dropping everything": ('layer { name: "n" type: "Dropout" bottom: "data" top: "y" dropout_param { dropout_ratio: 1 } }', "'n'.*dropout_ratio 1 must be"),
    "powers of nothing": ('layer { name: "n" type: "Exp" bottom: "data" top: "y" exp_param { base: 0 } }', "'n'.*base 0 must be positive"),
    "a factor beyond float32": ('layer { name: "n" type: "Exp" bottom: "data" top: "y" exp_param { base: 10 shift: 400 } }', "'n'.*shift 400"),
    "a logarithm to base 1": ('layer { name: "n" type: "Log" bottom: "data" top: "y" log_param { base: 1 } }', "'n'.*base 1 must be"),
    "a root of less than nothing": ('layer { name: "n" type: "Power" bottom: "data" top: "y" power_param { scale: 0 shift: -1 power: 0.5 } }', "'n'.*no real number"),
    "a dilation of nothing": ('layer { name: "n" type: "Convolution" bottom: "data" top: "y" convolution_param { num_output: 2 kernel_size: 3 dilation: 0 } }', "'n'.*dilation.*must be positive"),
    "an even window of LRN": ('layer { name: "n" type: "LRN" bottom: "data" top: "y" lrn_param { local_size: 4 } }', "'n'.*odd, not 4"),
    "a rate for BatchNorm": ('layer { name: "b" type: "BatchNorm" bottom: "data" top: "y" param { lr_mult: 1 } }', "'b'.*lr_mult must be 0"),
    "labels that don't fit": (CONV + 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "l" }', "'l'.*one label for each vector"),
    "too many loss weights": (CONV + FC + LOSS.replace("top:", "loss_weight: 1 loss_weight: 2 top:"), "'loss' has 2 loss_weight for 1 tops"),
    "labels that are computed": (CONV + FC + 'layer { name: "r" type: "Reduction" bottom: "fc" top: "r" reduction_param { axis: 1 } } layer { name: "l" type: "SoftmaxWithLoss" bottom: "fc" bottom: "r" top: "l" }', "'l'.*no gradient for its bottom 'r'"),
    "a loss behind a threshold": (CONV + 'layer { name: "t" type: "Threshold" bottom: "conv" top: "t" } layer { name: "m" type: "Reduction" bottom: "t" top: "m" loss_weight: 1 }', r"'t' \(Threshold\) has no gradient"),
    "a matrix that isn't there": (CONV + FC + 'layer { name: "l" type: "InfogainLoss" bottom: "fc" bottom: "label" top: "l" infogain_loss_param { source: "none.binaryproto" } }', "'l'.*none.binaryproto can't be read"),
    "an unknown filler": (CONV.replace("msra", "mrsa"), "'mrsa'"),
    "a filler that can't be sparse": (CONV.replace('"msra"', '"msra" sparse: 3'), "'msra' has no `sparse`"),
    "a bilinear filler for a rectangle": (CONV.replace("kernel_size: 3", "kernel_h: 3 kernel_w: 2").replace("msra", "bilinear"), "'bilinear' wants"),
}  # fmt: skip
