"""What each layer type computes, with Caffe's numerics; gradients come from autograd.

A layer is a function of its LayerParameter, its bottoms and its parameters. Source: the
`Forward_cpu` and `Backward_cpu` of each layer in BVLC Caffe 1.0.
"""

from __future__ import annotations

import torch

from recaffe.engines.torch.layers import common, loss, neuron, norm, vision
from recaffe.engines.torch.layers.base import Context, Forward
from recaffe.engines.torch.layers.lrn import lrn

__all__ = ["FORWARD", "Context", "Forward"]

FORWARD: dict[str, Forward] = {
    "AbsVal": neuron.one(torch.abs),
    "Accuracy": loss.accuracy,
    "ArgMax": common.argmax,
    "BatchNorm": norm.batch_norm,
    "BatchReindex": common.batch_reindex,
    "Bias": neuron.bias,
    "BNLL": neuron.bnll,
    "Clip": neuron.clip,
    "Concat": common.concat,
    "ContrastiveLoss": loss.contrastive_loss,
    "Convolution": vision.convolution,
    "Crop": vision.crop,
    "Deconvolution": vision.deconvolution,
    "Dropout": neuron.dropout,
    "Eltwise": common.eltwise,
    "ELU": neuron.elu,
    "Embed": common.embed,
    "EuclideanLoss": loss.euclidean_loss,
    "Exp": neuron.exp,
    "Filter": common.filtered,
    "Flatten": common.to_shape,
    "HingeLoss": loss.hinge_loss,
    "Im2col": vision.im2col,
    "InfogainLoss": loss.infogain_loss,
    "InnerProduct": common.inner_product,
    "Log": neuron.log,
    "LRN": lrn,
    "MultinomialLogisticLoss": loss.multinomial_logistic_loss,
    "MVN": norm.mvn,
    "Parameter": lambda layer, x, w, c: [w[0]],
    "Pooling": vision.pooling,
    "Power": neuron.power,
    "PReLU": neuron.prelu,
    "Reduction": common.reduction,
    "ReLU": neuron.relu,
    "Reshape": common.to_shape,
    "Scale": neuron.scale,
    "Sigmoid": neuron.one(torch.sigmoid),
    "SigmoidCrossEntropyLoss": loss.sigmoid_cross_entropy_loss,
    "Silence": lambda layer, x, w, c: [],
    "Slice": common.slices,
    "Softmax": loss.softmax,
    "SoftmaxWithLoss": loss.softmax_loss,
    "Split": common.copies,
    "Swish": neuron.swish,
    "TanH": neuron.one(torch.tanh),
    "Threshold": neuron.threshold,
    "Tile": common.tile,
}
