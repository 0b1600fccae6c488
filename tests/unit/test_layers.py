"""Layers and nets without Caffe: gradients against finite differences, parts of batches, and every
mistake in a net that is told at load."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from recaffe.engines.torch.layers import FORWARD, Context
from recaffe.engines.torch.layers.loss import ContrastiveLoss, InfogainLoss, SoftmaxLoss
from recaffe.engines.torch.layers.lrn import AcrossChannels
from recaffe.engines.torch.layers.norm import MeanVariance, OwnStatistics
from recaffe.errors import NetError, WeightsError
from recaffe.net import graph, parse, shapes, summary
from recaffe.net.prototxt import parse as parse_text
from recaffe.net.shapes.windows import pool_size
from recaffe.proto import caffe_pb2 as pb
from tests.unit.small_nets import CONV, DATA, FC, LOSS, MISTAKES, build, inputs


def normal(*shape: int) -> torch.Tensor:
    maker = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=maker, dtype=torch.float64).requires_grad_()


# -- gradients of the layers that have their own backward pass


@pytest.mark.parametrize(("half", "beta"), [(1, 0.75), (2, 0.5), (9, 0.75)])
def test_lrn_gradient_is_that_of_finite_differences(half: int, beta: float) -> None:
    assert gradcheck(lambda x: AcrossChannels.apply(x, half, 0.3, beta, 1.5), normal(2, 6, 2, 3))


def test_batch_norm_gradient_is_that_of_finite_differences() -> None:
    for shape in ((5, 3), (2, 3, 2, 4), (2, 2, 2, 2, 2)):
        assert gradcheck(lambda x: OwnStatistics.apply(x, 0.1, None, None)[0], normal(*shape))
        channels = (normal(shape[1]), normal(shape[1]))
        assert gradcheck(
            lambda x, g, b: OwnStatistics.apply(x, 0.1, g, b)[0], (normal(*shape), *channels)
        )


def test_mean_variance_gradient_is_that_of_finite_differences() -> None:
    # With an epsilon Caffe's gradient isn't the function's own, so there is none here.
    assert gradcheck(lambda x: MeanVariance.apply(x, (2, 3), 0.0), normal(2, 3, 2, 4))


@pytest.mark.parametrize("ignoring", [False, True])
def test_loss_gradients_are_those_of_finite_differences(ignoring: bool) -> None:
    labels = torch.tensor([[0, 3], [1, 1], [2, 0]])
    valid = torch.tensor([[True, False], [True, True], [False, True]]) if ignoring else None
    matrix = normal(4, 4).detach().abs()
    scores = normal(3, 4, 2)
    assert gradcheck(lambda x: SoftmaxLoss.apply(x, labels, valid)[0], scores)
    assert gradcheck(lambda x: InfogainLoss.apply(x, labels, valid, matrix)[0], scores)


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive_gradient_is_that_of_finite_differences(legacy: bool) -> None:
    same = torch.tensor([True, False, False, True, False])
    # Caffe adds 1e-4 to a distance, so the gradient is off by that much.
    assert gradcheck(
        lambda x: ContrastiveLoss.apply(x, same, 3.0, legacy), normal(5, 3), rtol=1e-3, atol=1e-4
    )


def test_a_hopeless_label_keeps_its_gradient_at_the_loss_s_ceiling() -> None:
    scores = torch.tensor([[200.0, 0.0]], requires_grad=True)
    layer = pb.LayerParameter(name="loss", type="SoftmaxWithLoss", top=["loss"])
    (loss,) = FORWARD["SoftmaxWithLoss"](layer, [scores, torch.tensor([1.0])], [], None)  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == pytest.approx(87.3365, abs=1e-3)
    assert scores.grad is not None and scores.grad.tolist() == [[1.0, -1.0]]


# -- nets


def test_parts_of_a_batch_draw_the_dropout_of_the_whole() -> None:
    text = f'{CONV} layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv" }} {FC} {LOSS}'
    net, whole = build(text), inputs()
    torch.manual_seed(3)
    together = net(whole)["conv"]
    for world in (2, 4):
        parts = []
        for rank in range(world):
            torch.manual_seed(3)
            net.rank, net.world = rank, world
            own = {k: v.chunk(world)[rank] for k, v in whole.items()}
            parts.append(net(own)["conv"])
        assert torch.allclose(torch.cat(parts), together, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
def test_dropout_keeps_each_value_by_a_draw_of_its_own(
    ratio: float, layout: torch.memory_format
) -> None:
    layer = pb.LayerParameter(type="Dropout", dropout_param={"dropout_ratio": ratio})
    bottom = torch.ones(5, 15, 21, 23).to(memory_format=layout)
    torch.manual_seed(5)
    (top,) = FORWARD["Dropout"](layer, [bottom], [], Context(training=True))
    again = FORWARD["Dropout"](layer, [bottom], [], Context(training=True))[0]
    assert top.is_contiguous(memory_format=layout)
    assert top.unique().tolist() == [0, pytest.approx(1 / (1 - ratio))]
    kept, later = (x.permute(0, 2, 3, 1).reshape(-1) != 0 for x in (top, again))
    # Four values come of one number of the generator's: neither their places nor neighbours may show it.
    shares = [kept[i::4] for i in range(4)]
    spread = (ratio * (1 - ratio) / shares[0].numel()) ** 0.5
    assert all(abs(share.double().mean() - (1 - ratio)) < 5 * spread for share in shares)
    pairs = [(kept[:-step], kept[step:]) for step in (1, 2, 3, 4)] + [(kept, later)]
    for one, other in pairs:
        together = torch.corrcoef(torch.stack([one, other]).double())[0, 1]
        assert abs(together) < 5 / one.numel() ** 0.5


def test_an_in_place_relu_changes_nothing_but_memory() -> None:
    relu = 'layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "{0}" }}'
    one = build(f"{CONV} {relu.format('conv')} {FC} {LOSS}")
    two = build(f"{CONV} {relu.format('r')} {FC.replace('conv', 'r')} {LOSS}")
    losses = []
    for net in (one, two):
        loss = net.loss(net(inputs()))
        loss.backward()
        losses.append(loss)
    assert losses[0] == losses[1]
    for (_, _, a, _), (_, _, b, _) in zip(one.learnable(), two.learnable(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("phase", [pb.TRAIN, pb.TEST])
@pytest.mark.parametrize("bias", ["true", "false"])
def test_batch_norm_and_scale_in_one_go_are_both_one_after_the_other(phase: int, bias: str) -> None:
    norm = 'layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }'
    scale = (
        'layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { '
        f'bias_term: {bias} filler {{ type: "uniform" min: 0.5 max: 2 }} }} }}'
    )
    relu = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }'
    one, two = (build(f"{CONV} {norm} {scale} {relu} {FC} {LOSS}", phase) for _ in range(2))
    statistics = {"bn": [np.full(5, 0.3), np.full(5, 4.0), np.array([2.0])]}
    for net in (one, two):
        net.load(statistics)
    run = two.run
    two.run = lambda *args: run(*args)  # who looks on sees each layer by itself
    for net in (one, two):
        net.loss(net(inputs())).backward()
    for name in one.blobs:
        for a, b in zip(one.blobs[name], two.blobs[name], strict=True):
            assert torch.allclose(a, b, rtol=1e-5)
            assert (a.grad is None) == (b.grad is None)
            assert a.grad is None or torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-6)  # type: ignore[arg-type]
    before = one(inputs(), until="bn")["conv"]
    assert torch.allclose(before, two(inputs(), until="bn")["conv"], atol=1e-5)


def test_layout_in_memory_changes_no_more_than_last_digits() -> None:
    text = f'{CONV} layer {{ name: "norm" type: "LRN" bottom: "conv" top: "n" }} '
    text += FC.replace('"conv"', '"n"') + LOSS
    a, b = (build(text, channels_last=c)(inputs())["loss"].item() for c in (True, False))
    assert a == pytest.approx(b, rel=1e-6)


def test_frozen_layers_get_no_gradient_and_nothing_below_them_does() -> None:
    frozen = CONV.replace(
        "convolution_param", "param { lr_mult: 0 } param { lr_mult: 0 } convolution_param"
    )
    net = build(f"{frozen} {FC} {LOSS}")
    blobs = net(inputs())
    net.loss(blobs).backward()
    assert not blobs["conv"].requires_grad
    assert all(b.grad is None for b in net.blobs["conv"])
    assert all(b.grad is not None for b in net.blobs["fc"])


def test_propagate_down_false_stops_a_gradient() -> None:
    net = build(
        f"{CONV} {FC.replace('inner_product_param', 'propagate_down: false inner_product_param')} {LOSS}"
    )
    net.loss(net(inputs())).backward()
    assert net.blobs["conv"][0].grad is None and net.blobs["fc"][0].grad is not None


def test_shared_parameters_are_one_and_gather_both_gradients() -> None:
    twin = """
    layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" }
      inner_product_param { num_output: 4 bias_term: false weight_filler { type: "xavier" } } }
    layer { name: "b" type: "InnerProduct" bottom: "data" top: "b" param { name: "w" SHARE }
      inner_product_param { num_output: NUM bias_term: false transpose: true } }
    layer { name: "la" type: "Reduction" bottom: "a" top: "la" loss_weight: 1 }
    layer { name: "lb" type: "Reduction" bottom: "b" top: "lb" loss_weight: 0.5 }
    """
    net = build(twin.replace("SHARE", "share_mode: PERMISSIVE").replace("NUM", "4"))
    assert len(list(net.learnable())) == 1
    x = inputs()
    net.loss(net(x)).backward()
    weight = net.blobs["a"][0]
    flat = x["data"].flatten(1).sum(0)
    by_hand = flat.expand(4, -1) + 0.5 * flat[:, None].expand(-1, 4).reshape(4, -1)
    assert weight.grad is not None and torch.allclose(weight.grad, by_hand, rtol=1e-4, atol=1e-5)
    with pytest.raises(NetError, match="'b' shares the parameter 'w'.*PERMISSIVE"):
        build(twin.replace("SHARE", "").replace("NUM", "4"))
    with pytest.raises(NetError, match="'b' shares"):
        build(twin.replace("SHARE", "share_mode: PERMISSIVE").replace("NUM", "5"))


def test_a_loss_weight_makes_any_top_a_loss() -> None:
    mean = 'layer { name: "m" type: "Reduction" bottom: "fc" top: "m" loss_weight: 0.3 }'
    net = build(f"{CONV} {FC} {LOSS} {mean}")
    blobs = net(inputs())
    wanted = blobs["loss"] + 0.3 * blobs["fc"].sum()
    assert net.loss(blobs).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_loss_without_a_top_counts_all_the_same() -> None:
    net = build(
        f"{CONV} {FC} {LOSS.replace(chr(34) + 'loss' + chr(34) + ' }', '').replace('top: ', '')} }}"
    )
    assert len(net.loss_weights) == 1 and net.loss(net(inputs())).item() > 0


def test_a_test_net_shares_what_the_training_net_has_and_fills_the_rest() -> None:
    net = build(f"{CONV} {FC} {LOSS}")
    extra = FC.replace('"fc"', '"extra"')
    test = build(f"{CONV} {FC} {extra}", pb.TEST, share=net)
    assert test.blobs["fc"][0] is net.blobs["fc"][0]
    assert test.blobs["extra"][0].abs().sum() > 0


def test_batch_norm_in_test_divides_its_sums_by_the_third_blob() -> None:
    text = (
        'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "y" batch_norm_param { eps: 0 } }'
    )
    net = build(text, pb.TEST)
    net.load({"bn": [np.full(3, 4.0), np.full(3, 8.0), np.array([2.0])]})
    x = inputs()["data"]
    assert torch.allclose(net({"data": x})["y"], (x - 2) / 2, atol=1e-6)


def test_weights_of_another_shape_are_refused() -> None:
    net = build(f"{CONV} {FC} {LOSS}")
    with pytest.raises(WeightsError, match=r"'conv' has blobs of the shapes .*\(5, 3, 3, 3\)"):
        net.load({"conv": [np.zeros((5, 3, 9, 1)), np.zeros(5)]})
    net.load({"conv": [np.ones((5, 3, 3, 3)), np.ones((1, 1, 1, 5))]})  # the legacy form
    assert net.blobs["conv"][1].tolist() == [1] * 5


def test_a_net_whose_weights_follow_is_not_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = build(f"{CONV} {FC}", pb.TEST)
    source = {name: [b.detach().numpy() for b in blobs] for name, blobs in filled.blobs.items()}
    for array in (a for blobs in source.values() for a in blobs):
        array.setflags(write=False)  # as a mapped file's are
    monkeypatch.setattr("recaffe.engines.torch.net.fill", lambda *_: pytest.fail("filled"))
    empty = build(f"{CONV} {FC}", pb.TEST, filled=False)
    empty.load(source)
    assert torch.equal(empty(inputs())["fc"], filled(inputs())["fc"])


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 30),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 5),
    pad=st.integers(0, 6),
)
def test_pooled_sizes_cover_the_picture_and_start_in_it(
    size: int, kernel: int, stride: int, pad: int
) -> None:
    if kernel > size or pad >= kernel:
        return
    out = pool_size(size, kernel, stride, pad, ceil=True, padded=pad > 0)
    if pad:
        assert (out - 1) * stride - pad < size, "the last window starts in the picture"
    if stride <= kernel:
        assert (out - 1) * stride + kernel >= size + pad, "no value is left out"


def test_a_deconvolution_agrees_with_opencv(tmp_path: Any) -> None:
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 7 dim: 9 } } }
    layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
      convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 2
        weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.5 } } }
    """
    from recaffe.net import weights

    net = build(text, pb.TEST, {})
    (tmp_path / "net.prototxt").write_text(text)
    weights.write(net.to_proto(), tmp_path / "w.caffemodel")
    x = np.random.default_rng(0).normal(0, 1, (1, 4, 7, 9)).astype(np.float32)
    theirs = cv2.dnn.readNetFromCaffe(
        str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel")
    )
    theirs.setInput(x)
    with torch.no_grad():
        mine = net({"data": torch.from_numpy(x)})["up"].numpy()
    assert np.abs(mine - theirs.forward()).max() < 1e-5


def test_every_layer_has_shapes_and_multiply_adds() -> None:
    net = build(f'{CONV} layer {{ name: "s" type: "Scale" bottom: "conv" top: "s" }}', pb.TEST)
    assert [summary.macs(s) for s in net.walked] == [4 * 5 * 36 * 27, 4 * 5 * 36]
    up = 'layer { name: "u" type: "Deconvolution" bottom: "data" top: "u" convolution_param { num_output: 2 kernel_size: 2 stride: 2 } }'
    assert summary.macs(build(up, pb.TEST).walked[0]) == 4 * 3 * 64 * 2 * 4


def test_a_net_compiles_in_one_piece() -> None:
    text = f"""{CONV}
    layer {{ name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }}
    layer {{ name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param {{ bias_term: true }} }}
    layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
    layer {{ name: "norm" type: "LRN" bottom: "conv" top: "norm" }}
    layer {{ name: "pool" type: "Pooling" bottom: "norm" top: "pool"
      pooling_param {{ kernel_size: 3 pad: 1 stride: 2 }} }}
    layer {{ name: "flat" type: "Reshape" bottom: "pool" top: "flat"
      reshape_param {{ shape {{ dim: 0 dim: -1 }} }} }}
    {FC.replace('"conv"', '"flat"')} {LOSS}"""
    net = build(text)
    whole = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.allclose(whole(inputs())["loss"], net(inputs())["loss"])


# -- mistakes, told at load with the layer's name


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_net_is_one_message_at_load(mistake: str) -> None:
    text, message = MISTAKES[mistake]
    with pytest.raises(NetError, match=f"(?s){message}") as caught:
        build(text)
    assert "\n" not in str(caught.value)


def test_a_net_without_a_loss_says_so_when_it_is_to_be_trained() -> None:
    net = build(f"{CONV} {FC}")
    with pytest.raises(NetError, match="has no loss"):
        net.loss(net(inputs()))


@pytest.mark.parametrize(
    ("level", "stages", "kept"),
    [
        (0, [], ["a", "d"]),
        (1, [], ["b", "d"]),
        (3, ["deploy"], ["b", "c"]),
        (0, ["deploy"], ["a", "c"]),
    ],
)
def test_layers_follow_level_and_stage(level: int, stages: list[str], kept: list[str]) -> None:
    relu = 'layer {{ name: "{0}" type: "ReLU" bottom: "data" top: "{0}" {1} }}'
    net = parse.to_net(
        parse_text(
            relu.format("a", "include { max_level: 0 }")
            + relu.format("b", "include { min_level: 1 }")
            + relu.format("c", 'include { phase: TRAIN stage: "deploy" }')
            + relu.format("d", 'exclude { stage: "deploy" }')
        )
    )
    net.state.level = level
    net.state.stage.extend(stages)
    assert graph.names(graph.of_phase(net, pb.TRAIN)) == kept


def test_walk_and_net_agree_on_every_shape() -> None:
    text = f"{CONV} {FC} {LOSS}"
    net = build(text)
    blobs = net(inputs())
    for s in shapes.walk(graph.of_phase(parse.to_net(parse_text(text)), pb.TRAIN), DATA):
        for name, shape in zip(s.layer.top, s.tops, strict=True):
            assert tuple(blobs[name].shape) == shape


def test_a_power_without_x_is_its_constant_whatever_x_is() -> None:
    net = build(
        'layer { name: "p" type: "Power" bottom: "data" top: "y" power_param { scale: 0 shift: 3 power: 2 } }'
    )
    x = torch.tensor([1.0, -torch.inf, torch.nan]).requires_grad_()
    y = net({"data": x})["y"]
    y.sum().backward()
    assert y.tolist() == [9, 9, 9]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0]
