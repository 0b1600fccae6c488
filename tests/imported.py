"""Nets of torchvision's and timm's beside what `recaffe import` makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from recaffe.engines.torch.net import Net
from recaffe.imports import edit, write
from recaffe.imports.known import KNOWN, Known, Pixels
from recaffe.imports.write import SCALE, Imported
from recaffe.net import deploy, graph, parse
from recaffe.net.blobs import Weights, from_blob
from recaffe.net.prototxt import Message
from recaffe.net.prototxt import parse as parse_text
from recaffe.proto import caffe_pb2 as pb

SIDE = 224


def thinner(known: Known, thin: int) -> Known:
    """The same with all widths but the classifier's divided."""

    def change(tree: Message) -> None:
        if known.change:
            known.change(tree)
        for layer in tree.messages("layer"):
            for name in ("convolution_param", "inner_product_param"):
                for param in layer.messages(name):
                    for field in ("num_output", "group"):
                        if (width := param.get(field)) is not None and width != 1:
                            param.set(field, int(width) // thin)

    return replace(known, change=change)


def values(net: nn.Module) -> dict[str, np.ndarray]:
    """A state dict as `state.read` hands it over."""
    named = {k: v.numpy() for k, v in net.state_dict().items()}
    return {k: v for k, v in named.items() if not k.endswith("num_batches_tracked")}


def build(name: str, net: nn.Module, thin: int = 1, scale: float = SCALE) -> Imported:
    """What the command makes of a net."""
    known = KNOWN[name]
    return write.build(thinner(known, thin), name, values(net), known.pixels, scale)


def photographs(count: int = 2) -> np.ndarray:
    """uint8 N×H×W×3, RGB: smooth, with grain, other in each channel, each of another contrast."""
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 7, 7)))
    smooth = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear").permute(0, 2, 3, 1)
    grain = rng.normal(0, 8, smooth.shape)
    contrast = np.linspace(1, 0.3, count)[:, None, None, None]
    return ((smooth.numpy() + grain) * contrast).clip(0, 255).astype(np.uint8)


def pytorch_scores(net: nn.Module, pictures: np.ndarray, pixels: Pixels) -> np.ndarray:
    """ToTensor, Normalize, the net: N×classes."""
    x = (pictures / 255 - np.array(pixels.mean)) / np.array(pixels.std)
    with torch.no_grad():
        return net(torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)).numpy()


def caffe_input(pictures: np.ndarray, mean: list[float], scale: float = SCALE) -> np.ndarray:
    """What Caffe's data layer makes of the pictures' records: BGR, less the mean, times the scale."""
    bgr = (pictures[..., ::-1].astype(np.float32) - np.float32(mean)) * np.float32(scale)
    return np.ascontiguousarray(bgr.transpose(0, 3, 1, 2))


def blobs(made: Imported) -> Weights:
    """Layer → its blobs."""
    return {x.name: [from_blob(b, x.name) for b in x.blobs] for x in made.weights.layer}


def deployed(made: Imported) -> tuple[str, str, Weights]:
    """The deploy net's text (of one picture), its blob of scores, and its weights."""
    tree = deploy.deploy(parse_text(made.train_val), (3, SIDE, SIDE))
    scores = str(list(edit.layers(tree).values())[-1].get("bottom"))
    return tree.render(), scores, blobs(made)


def engine_scores(made: Imported, data: np.ndarray) -> np.ndarray:
    """The net's layers of TEST in the torch engine: N×classes, before softmax and loss."""
    chain = graph.of_phase(parse.to_net(parse_text(made.train_val)), pb.TEST)
    scores = chain[graph.main_loss(chain)].bottom[0]
    layers = [x for x in chain if x.type != "Data" and "label" not in x.bottom]
    net = Net(pb.NetParameter(layer=layers), pb.TEST, {"data": data.shape})
    net.load(blobs(made))
    with torch.no_grad():
        return net({"data": torch.from_numpy(data)})[scores].numpy().reshape(len(data), -1)
