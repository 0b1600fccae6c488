"""Heat maps, against Grad-CAM's definition by finite differences and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recaffe.config import MODELS
from recaffe.engines.torch import cam
from recaffe.engines.torch.net import Net
from recaffe.errors import NetError
from recaffe.net import deploy, parse, patch
from recaffe.proto import caffe_pb2 as pb
from tests.unit.small_nets import build
from tests.unit.test_zoo import ZOO

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
SOFTMAX = 'layer { name: "prob" type: "Softmax" bottom: "%s" top: "prob" }'
# The place that each net's maps are of, and their size.
VIEWS = {
    "alexnet": ("relu5", 13), "caffenet": ("relu5", 13), "vgg_cnn_s": ("relu5", 17),
    "vgg16": ("relu5_3", 14), "vgg19": ("relu5_4", 14), "lenet": ("conv2", 8), "quick": ("relu3", 8),
    "googlenet": ("inception_5b/output", 7), "resnet50": ("res5c_relu", 7),
    "resnet101": ("res5c_relu", 7), "densenet121": ("relu5_blk", 7), "mobilenet_v1": ("relu6/sep", 7),
    # Their classifiers are convolutions under an average: the classes' own maps.
    "nin": ("relu12", 6), "squeezenet_v1.0": ("relu_conv10", 15), "squeezenet_v1.1": ("relu_conv10", 13),
}  # fmt: skip


def layer(name: str, kind: str, bottom: str, top: str, rest: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {rest} }}\n'


def conv(name: str, bottom: str, outputs: int, kernel: int = 3) -> str:
    rest = f'convolution_param {{ num_output: {outputs} kernel_size: {kernel} weight_filler {{ type: "msra" }} bias_filler {{ type: "uniform" min: -0.3 max: 0.3 }} }}'
    return layer(name, "Convolution", bottom, name, rest)


def inner(bottom: str, outputs: int = 4) -> str:
    rest = f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }}'
    return layer("fc", "InnerProduct", bottom, "fc", rest)


def relu(blob: str) -> str:
    return layer(f"relu_{blob}", "ReLU", blob, blob)


def pool(bottom: str, rest: str = "pool: MAX kernel_size: 2 stride: 2") -> str:
    return layer("pool", "Pooling", bottom, "pool", f"pooling_param {{ {rest} }}")


AVERAGE = "pool: AVE global_pooling: true"


def net_of(*layers: str, scores: str = "fc") -> Net:
    return build(INPUT + "".join(layers) + SOFTMAX % scores, pb.TEST, {"data": (2, 3, 8, 8)})


def pictures(n: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


def normed(heat: np.ndarray) -> np.ndarray:
    heat = np.maximum(heat, 0)
    most = heat.max((1, 2), keepdims=True)
    return np.divide(heat, most, out=np.zeros_like(heat), where=most > 0)


def test_maps_follow_the_definition_as_finite_differences_show_it() -> None:
    """The gradient of each class's score by each value of the blob, tried value by value."""
    # A ReLU's zeros would be equals under the pooling, where there is no gradient to find.
    net = net_of(
        conv("conv", "data", 5), layer("tanh", "TanH", "conv", "conv"), pool("conv"),
        layer("drop", "Dropout", "pool", "pool"), inner("pool"),
    ).double()  # fmt: skip
    blob = pictures().double()
    with torch.no_grad():
        features = net({"data": blob}, until="tanh")["conv"]

        def scores(value: torch.Tensor) -> torch.Tensor:
            pooled = torch.nn.functional.max_pool2d(value, 2)
            return pooled.flatten(1) @ net.blobs["fc"][0].T + net.blobs["fc"][1]

        for k in range(4):
            slope = torch.zeros_like(features)
            for c, y, x in np.ndindex(*features.shape[1:]):
                step = torch.zeros_like(features)
                step[:, c, y, x] = 1e-6
                up, down = scores(features + step)[:, k], scores(features - step)[:, k]
                slope[:, c, y, x] = (up - down) / 2e-6
            wanted = (slope.mean((2, 3), keepdim=True) * features).sum(1).numpy()
            found = cam.maps(net, blob, k)
            assert found.dtype == np.float32
            assert found.shape == (2, 6, 6)
            assert np.abs(found - normed(wanted)).max() < 1e-5


def test_under_a_global_average_a_map_is_the_classifiers_weights_over_the_features() -> None:
    net = net_of(conv("conv", "data", 5), relu("conv"), pool("conv", AVERAGE), inner("pool"))
    with torch.no_grad():
        blobs = net({"data": pictures()})
        features, weights = blobs["conv"], net.blobs["fc"][0]
        # Zhou et al. 2016, "Learning Deep Features for Discriminative Localization": CAM.
        activation = torch.einsum("kc,nchw->nkhw", weights, features).numpy()
    best = blobs["prob"].argmax(1)
    for classes in (None, best.tolist(), [3, 0], 2):
        rows = best if classes is None else torch.as_tensor(classes).expand(2)
        found = cam.maps(net, pictures(), classes)
        assert found == pytest.approx(normed(activation[[0, 1], rows]), abs=1e-6)
    assert found.max() == 1


def test_a_convolution_as_classifier_shows_the_classs_own_map() -> None:
    net = net_of(
        conv("conv", "data", 5), relu("conv"), conv("score", "conv", 4, 1), relu("score"),
        pool("score", AVERAGE), scores="pool",
    )  # fmt: skip
    with torch.no_grad():
        features = net({"data": pictures()})["score"].numpy()
    for k in range(4):
        assert cam.maps(net, pictures(), k) == pytest.approx(normed(features[:, k]), abs=1e-6)


def test_scores_of_each_place_are_averaged_as_the_scorer_does() -> None:
    net = net_of(conv("conv", "data", 5), relu("conv"), conv("score", "conv", 4), scores="score")
    with torch.no_grad():
        scores = net({"data": pictures()})["score"].numpy()
    best = scores.mean((2, 3)).argmax(1)
    found = cam.maps(net, pictures())
    assert found == pytest.approx(normed(scores[[0, 1], best]), abs=1e-6)


def test_a_map_doesnt_depend_on_the_other_pictures_of_its_batch() -> None:
    net = net_of(conv("conv", "data", 5), relu("conv"), pool("conv"), inner("pool"))
    both = cam.maps(net, pictures(), 1)
    for i in range(2):
        assert cam.maps(net, pictures()[i : i + 1], 1)[0] == pytest.approx(both[i], abs=1e-6)


def test_nothing_of_the_net_changes_and_no_weight_gets_a_gradient() -> None:
    net = net_of(conv("conv", "data", 5), relu("conv"), pool("conv"), inner("pool"))
    run, values = net.run, [p.detach().clone() for p in net.parameters()]
    with torch.no_grad():  # as whoever only classifies may be in
        cam.maps(net, pictures())
        assert not torch.is_grad_enabled()
    assert net.run is run
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(p, v) for p, v in zip(net.parameters(), values, strict=True))


def test_of_several_branches_the_map_is_where_they_have_met() -> None:
    net = net_of(
        conv("left", "data", 3), conv("right", "data", 2),
        'layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }\n',
        relu("both"), inner("both"),
    )  # fmt: skip
    assert cam.view(net).layer == "relu_both"
    assert cam.maps(net, pictures()).shape == (2, 6, 6)


@pytest.mark.parametrize(
    "layers",
    [
        [inner("data")],
        [conv("conv", "data", 5, 8), inner("conv")],
        [pool("data"), inner("pool")],
    ],
    ids=["inner products alone", "a convolution as large as the picture", "no convolution"],
)
def test_a_net_without_places_is_told(layers: list[str]) -> None:
    with pytest.raises(NetError, match="has no heat maps.*larger than 1×1"):
        cam.maps(net_of(*layers), pictures())


@pytest.mark.parametrize("classes", [4, -1, [0, 4]])
def test_a_class_that_isnt_there_is_told(classes: int | list[int]) -> None:
    net = net_of(conv("conv", "data", 5), inner("conv"))
    with pytest.raises(NetError, match="4 classes, 0 to 3"):
        cam.maps(net, pictures(), classes)


def test_where_nothing_speaks_for_a_class_its_map_is_cold() -> None:
    net = net_of(conv("conv", "data", 5), relu("conv"), pool("conv", AVERAGE), inner("pool"))
    with torch.no_grad():
        net.blobs["fc"][0].copy_(-net.blobs["fc"][0].abs())
    found = cam.maps(net, pictures())
    assert not found.any()
    assert np.isfinite(found).all()


def thin(name: str) -> tuple[Net, tuple[int, ...]]:
    """A net of the zoo for 7 classes, of a 32nd of its channels (a multiple of 4)."""
    tree = parse.read_tree(MODELS / name / "train_val.prototxt")
    side = {"lenet": 28, "quick": 32, "squeezenet_v1.0": 227, "alexnet": 227, "caffenet": 227}
    shape = (1 if name == "lenet" else 3, *(side.get(name, 224),) * 2)
    patch.patch(tree, patch.PatchSettings("x", 7, "a", "b", 2, 2))
    made = parse.to_net(deploy.deploy(tree, shape))
    for x in made.layer:
        for p in (x.convolution_param, x.inner_product_param):
            if p.num_output > 7:
                by_channel = x.convolution_param.group == p.num_output
                p.num_output = max(4, p.num_output // 128 * 4)
                if by_channel:
                    x.convolution_param.group = p.num_output
            if p.num_output:
                p.weight_filler.Clear()
                p.weight_filler.type = "msra"
    net = Net(made, pb.TEST, {made.layer[0].top[0]: (1, *shape)})
    for x in net.layers:
        if x.type == "BatchNorm":  # as if it had seen pictures of variance 1
            for blob in net.blobs[x.name][1:]:
                blob.data.fill_(1)
    return net, shape


@pytest.mark.parametrize("name", ZOO)
def test_every_net_of_the_zoo_has_maps(name: str) -> None:
    net, shape = thin(name)
    where, size = VIEWS[name]
    assert cam.view(net).layer == where
    blob = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))
    found = cam.maps(net, blob.expand(7, *shape), range(7))
    assert found.shape == (7, size, size)
    assert set(found.max((1, 2))) <= {0.0, 1.0}
    assert found.max() == 1
    assert found.min() == 0


def test_a_picture_is_brightest_where_its_map_is_hottest_and_as_before_where_it_is_cold() -> None:
    picture = np.full((40, 60, 3), (90, 100, 110), np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[1, 4] = 1
    laid = cam.overlay(picture, heat)
    assert laid.shape == picture.shape
    assert laid.dtype == np.uint8
    assert (laid[25:, :30] == picture[25:, :30]).all()
    light = laid.sum(2)
    y, x = np.unravel_index(light.argmax(), light.shape)
    assert (y // 10, x // 10) == (1, 4)


def test_a_map_is_enlarged_to_any_size_without_leaving_its_range() -> None:
    heat = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    for size in ((1, 1), (5, 3), (224, 300)):
        large = cam.enlarge(heat, *size)
        assert large.shape == size
        assert 0 <= large.min() <= large.max() <= 1
