"""Writes the train_val.prototxt of the nets that repeat themselves.

python models/make.py [FOLDER]

Names of layers and blobs, sizes and fillers are those of the published nets, so that published
weights load by name. Nets that were published for deployment alone have the fillers that their
papers advise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from layers import Net, constant, gaussian

CAFFE_MEAN = (104, 117, 123)  # ImageNet's mean pixel, BGR, as BVLC rounds it
VGG_MEAN = (103.939, 116.779, 123.68)  # the same, as VGG publishes it
SHICAI_MEAN = (103.94, 116.78, 123.68)
MSRA = 'weight_filler { type: "msra" }'
XAVIER = 'weight_filler { type: "xavier" }'


def alexnet() -> Net:
    """Krizhevsky 2012, as BVLC trained it: two groups, biases start at 0.1."""
    net = Net("AlexNet", "AlexNet: names as in BVLC's published net.")
    net.data(227, "data/ilsvrc12/imagenet_mean.binaryproto", 256, 50)
    wide, pool = gaussian(0.01), "kernel_size: 3 stride: 2"
    net.conv("conv1", 96, "kernel_size: 11 stride: 4", wide, constant(0), relu="relu1")
    net.lrn("norm1")
    net.pool("pool1", "MAX", pool)
    net.conv("conv2", 256, "pad: 2 kernel_size: 5 group: 2", wide, constant(0.1), relu="relu2")
    net.lrn("norm2")
    net.pool("pool2", "MAX", pool)
    net.conv("conv3", 384, "pad: 1 kernel_size: 3", wide, constant(0), relu="relu3")
    net.conv("conv4", 384, "pad: 1 kernel_size: 3 group: 2", wide, constant(0.1), relu="relu4")
    net.conv("conv5", 256, "pad: 1 kernel_size: 3 group: 2", wide, constant(0.1), relu="relu5")
    net.pool("pool5", "MAX", pool)
    net.inner("fc6", 4096, gaussian(0.005), constant(0.1), relu="relu6", drop="drop6")
    net.inner("fc7", 4096, gaussian(0.005), constant(0.1), relu="relu7", drop="drop7")
    net.inner("fc8", 1000, wide, constant(0))
    net.loss(top_5="")
    return net


def vgg(depth: int) -> Net:
    """Simonyan and Zisserman 2014, configurations D and E. Published for deployment: fillers as
    the paper advises for training anew (Glorot and Bengio)."""
    net = Net(
        f"VGG_ILSVRC_{depth}_layers",
        f"VGG-{depth}: layer and blob names as in the published net, so that its weights load by name.",
    )
    net.data(224, VGG_MEAN, 64, 32)
    deep = 3 if depth == 16 else 4
    for block, (count, outputs) in enumerate(
        ((2, 64), (2, 128), (deep, 256), (deep, 512), (deep, 512)), start=1
    ):
        for i in range(1, count + 1):
            name = f"{block}_{i}"
            net.conv(f"conv{name}", outputs, "pad: 1 kernel_size: 3", XAVIER, relu=f"relu{name}")
        net.pool(f"pool{block}", "MAX", "kernel_size: 2 stride: 2")
    net.inner("fc6", 4096, XAVIER, relu="relu6", drop="drop6")
    net.inner("fc7", 4096, XAVIER, relu="relu7", drop="drop7")
    net.inner("fc8", 1000, gaussian(0.01))
    net.loss()
    return net


def vgg_cnn_s() -> Net:
    """Chatfield 2014, CNN-S: pooling by 3 after conv1 and conv5. Published for deployment."""
    net = Net("VGG_CNN_S", "VGG CNN-S: layer and blob names as in the published net.")
    net.data(224, "data/ilsvrc12/imagenet_mean.binaryproto", 128, 50)
    wide = gaussian(0.01)
    net.conv("conv1", 96, "kernel_size: 7 stride: 2", wide, relu="relu1")
    net.lrn("norm1", "local_size: 5 alpha: 0.0005 beta: 0.75 k: 2")
    net.pool("pool1", "MAX", "kernel_size: 3 stride: 3")
    net.conv("conv2", 256, "kernel_size: 5", wide, relu="relu2")
    net.pool("pool2", "MAX", "kernel_size: 2 stride: 2")
    for i in (3, 4, 5):
        net.conv(f"conv{i}", 512, "pad: 1 kernel_size: 3", wide, relu=f"relu{i}")
    net.pool("pool5", "MAX", "kernel_size: 3 stride: 3")
    net.inner("fc6", 4096, gaussian(0.005), relu="relu6", drop="drop6")
    net.inner("fc7", 4096, gaussian(0.005), relu="relu7", drop="drop7")
    net.inner("fc8", 1000, wide)
    net.loss()
    return net


# Szegedy 2014, table 1: outputs of 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5 and pool proj.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet() -> Net:
    """Szegedy 2014, as BVLC trained it, with both auxiliary heads."""
    net = Net("GoogleNet", "GoogLeNet with its auxiliary heads: names as in BVLC's published net.")
    net.data(224, CAFFE_MEAN, 32, 50)
    fill, pool = (XAVIER, constant(0.2)), "kernel_size: 3 stride: 2"
    net.conv("conv1/7x7_s2", 64, "pad: 3 kernel_size: 7 stride: 2", *fill, relu="conv1/relu_7x7")
    net.pool("pool1/3x3_s2", "MAX", pool)
    net.lrn("pool1/norm1")
    net.conv("conv2/3x3_reduce", 64, "kernel_size: 1", *fill, relu="conv2/relu_3x3_reduce")
    net.conv("conv2/3x3", 192, "pad: 1 kernel_size: 3", *fill, relu="conv2/relu_3x3")
    net.lrn("conv2/norm2")
    net.pool("pool2/3x3_s2", "MAX", pool)
    for name, sizes in INCEPTION.items():
        out = _inception(net, f"inception_{name}", sizes, fill)
        if name in ("3b", "4e"):
            net.pool(f"pool{name[0]}/3x3_s2", "MAX", pool)
        if name in ("4a", "4d"):
            _auxiliary(net, "loss1" if name == "4a" else "loss2", fill)
            net.top = out
    net.pool("pool5/7x7_s1", "AVE", "kernel_size: 7 stride: 1")
    net.drop("pool5/drop_7x7_s1", 0.4)
    net.inner("loss3/classifier", 1000, XAVIER, constant(0))
    net.loss("loss3/loss3", "loss3/top-1", "loss3/top-5", 1)
    return net


def _inception(net: Net, name: str, sizes: Sequence[int], fill: Sequence[str]) -> str:
    below = [net.top]
    one, reduce3, three, reduce5, five, proj = sizes

    def conv(kind: str, outputs: int, size: str, bottom: Sequence[str] = ()) -> str:
        relu = f"{name}/relu_{kind}"
        return net.conv(f"{name}/{kind}", outputs, size, *fill, relu=relu, bottom=bottom)

    tops = [conv("1x1", one, "kernel_size: 1", below)]
    conv("3x3_reduce", reduce3, "kernel_size: 1", below)
    tops.append(conv("3x3", three, "pad: 1 kernel_size: 3"))
    conv("5x5_reduce", reduce5, "kernel_size: 1", below)
    tops.append(conv("5x5", five, "pad: 2 kernel_size: 5"))
    net.pool(f"{name}/pool", "MAX", "kernel_size: 3 stride: 1 pad: 1", below)
    tops.append(conv("pool_proj", proj, "kernel_size: 1"))
    return net.layer(f"{name}/output", "Concat", bottom=tops)


def _auxiliary(net: Net, name: str, fill: Sequence[str]) -> None:
    net.pool(f"{name}/ave_pool", "AVE", "kernel_size: 5 stride: 3")
    net.conv(f"{name}/conv", 128, "kernel_size: 1", *fill, relu=f"{name}/relu_conv")
    net.inner(f"{name}/fc", 1024, *fill, relu=f"{name}/relu_fc")
    net.drop(f"{name}/drop_fc", 0.7)
    net.inner(f"{name}/classifier", 1000, XAVIER, constant(0))
    # The published loss layer and its blob differ in name: loss1/loss makes loss1/loss1.
    tops = [f"{name}/{name}", f"{name}/top-1", f"{name}/top-5"]
    net.loss(f"{name}/loss", *tops[1:], 0.3, tops)


def squeezenet_10() -> Net:
    """Iandola 2016, version 1.0."""
    net = Net(
        "SqueezeNet_v1.0",
        "SqueezeNet v1.0: layer and blob names as in the published net.",
        "as Caffe's default",
    )
    net.data(227, CAFFE_MEAN, 32, 25)
    pool = "kernel_size: 3 stride: 2"
    net.conv("conv1", 96, "kernel_size: 7 stride: 2", XAVIER, relu="relu_conv1")
    net.pool("pool1", "MAX", pool)
    for i, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), start=2):
        _fire(net, f"fire{i}", squeeze)
        if i in (4, 8):
            net.pool(f"pool{i}", "MAX", pool)
    net.drop("drop9")
    net.conv("conv10", 1000, "pad: 1 kernel_size: 1", gaussian(0.01), relu="relu_conv10")
    net.pool("pool10", "AVE", "global_pooling: true")
    net.loss()
    return net


def _fire(net: Net, name: str, squeeze: int) -> None:
    below = net.conv(f"{name}/squeeze1x1", squeeze, "kernel_size: 1", XAVIER,
                     relu=f"{name}/relu_squeeze1x1")  # fmt: skip
    tops = []
    for kind, size in (("1x1", "kernel_size: 1"), ("3x3", "pad: 1 kernel_size: 3")):
        tops.append(net.conv(f"{name}/expand{kind}", 4 * squeeze, size, XAVIER,
                             relu=f"{name}/relu_expand{kind}", bottom=[below]))  # fmt: skip
    net.layer(f"{name}/concat", "Concat", bottom=tops)


def resnet(depth: int) -> Net:
    """He 2015. Published for deployment: fillers as the paper says. A convolution that strides is
    the first 1×1 of a block."""
    net = Net(
        f"ResNet-{depth}",
        f"ResNet-{depth}: layer and blob names as in the published net.",
        "as Caffe's default",
    )
    net.data(224, "data/ilsvrc12/imagenet_mean.binaryproto", 32, 25)
    # The published ResNet-50 alone has a bias in its first convolution.
    bias = "" if depth == 50 else " bias_term: false"
    net.conv("conv1", 64, f"pad: 3 kernel_size: 7 stride: 2{bias}", MSRA)
    net.norm("bn_conv1", "scale_conv1")
    net.relu("conv1_relu")
    net.pool("pool1", "MAX", "kernel_size: 3 stride: 2")
    for stage, blocks in enumerate({50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth], start=2):
        width = 64 << (stage - 2)
        for block in range(blocks):
            # More than 26 blocks wouldn't do with letters: 101's long stages count b1, b2, …
            counted = depth > 50 and stage in (3, 4)
            name = f"{stage}a" if not block else f"{stage}b{block}"
            name = name if counted else f"{stage}{chr(ord('a') + block)}"
            stride = 2 if stage > 2 and not block else 1
            _bottleneck(net, name, width, stride, shortcut=not block)
    net.pool("pool5", "AVE", "kernel_size: 7 stride: 1")
    net.inner("fc1000", 1000, MSRA)
    net.loss()
    return net


def _bottleneck(net: Net, name: str, width: int, stride: int, shortcut: bool) -> None:
    below = net.top

    def conv(branch: str, outputs: int, size: str, bottom: Sequence[str] = ()) -> str:
        net.conv(f"res{name}_{branch}", outputs, f"{size} bias_term: false", MSRA, bottom=bottom)
        return net.norm(f"bn{name}_{branch}", f"scale{name}_{branch}")

    beside = below
    if shortcut:
        beside = conv("branch1", 4 * width, f"kernel_size: 1 stride: {stride}", [below])
    conv("branch2a", width, f"kernel_size: 1 stride: {stride}", [below])
    net.relu(f"res{name}_branch2a_relu")
    conv("branch2b", width, "pad: 1 kernel_size: 3")
    net.relu(f"res{name}_branch2b_relu")
    branch = conv("branch2c", 4 * width, "kernel_size: 1")
    net.layer(f"res{name}", "Eltwise", bottom=[beside, branch])
    net.relu(f"res{name}_relu")


def mobilenet() -> Net:
    """Howard 2017, width 1.0, as shicai trained it for Caffe: each depthwise convolution has as many
    groups as channels. engine: CAFFE, since cuDNN keeps a workspace for each group."""
    net = Net("MOBILENET", "MobileNet v1: layer and blob names as in the published net.", "weights")
    net.data(224, SHICAI_MEAN, 32, 32, scale=0.017)

    def step(name: str, relu: str, outputs: int, size: str) -> None:
        net.conv(name, outputs, f"{size} bias_term: false", MSRA)
        net.norm(f"{name}/bn", f"{name}/scale", "eps: 1e-5")
        net.relu(relu)

    step("conv1", "relu1", 32, "pad: 1 kernel_size: 3 stride: 2")
    channels = 32
    blocks = [("2_1", 64, 1), ("2_2", 128, 2), ("3_1", 128, 1), ("3_2", 256, 2), ("4_1", 256, 1)]
    blocks += [("4_2", 512, 2), *((f"5_{i}", 512, 1) for i in range(1, 6)), ("5_6", 1024, 2)]
    for name, outputs, stride in [*blocks, ("6", 1024, 1)]:
        depthwise = f"pad: 1 kernel_size: 3 stride: {stride} group: {channels} engine: CAFFE"
        step(f"conv{name}/dw", f"relu{name}/dw", channels, depthwise)
        step(f"conv{name}/sep", f"relu{name}/sep", outputs, "kernel_size: 1")
        channels = outputs
    net.pool("pool6", "AVE", "global_pooling: true")
    net.rates.append("lr_mult: 2 decay_mult: 0")
    net.conv("fc7", 1000, "kernel_size: 1", MSRA, constant(0))
    net.loss("loss", "top1/acc", "top5/acc")
    return net


def densenet() -> Net:
    """Huang 2016, 121 layers, growth 32, as shicai brought it to Caffe."""
    net = Net(
        "DENSENET_121",
        "DenseNet-121: layer and blob names as in the published net.",
        "as Caffe's default",
    )
    net.data(224, SHICAI_MEAN, 16, 16, scale=0.017)

    def norm(name: str, relu: str) -> str:
        net.norm(f"{name}/bn", f"{name}/scale", "eps: 1e-5", top=[f"{name}/bn"])
        return net.relu(relu)

    net.conv("conv1", 64, "pad: 3 kernel_size: 7 stride: 2 bias_term: false", MSRA)
    norm("conv1", "relu1")
    net.pool("pool1", "MAX", "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR")
    channels = 64
    for block, layers in enumerate((6, 12, 24, 16), start=2):
        for i in range(1, layers + 1):
            name, below = f"{block}_{i}", net.top
            norm(f"conv{name}/x1", f"relu{name}/x1")
            net.conv(f"conv{name}/x1", 128, "kernel_size: 1 bias_term: false", MSRA)
            norm(f"conv{name}/x2", f"relu{name}/x2")
            new = net.conv(f"conv{name}/x2", 32, "pad: 1 kernel_size: 3 bias_term: false", MSRA)
            net.layer(f"concat_{name}", "Concat", bottom=[below, new])
            channels += 32
        norm(f"conv{block}_blk", f"relu{block}_blk")
        if block < 5:
            channels //= 2
            net.conv(f"conv{block}_blk", channels, "kernel_size: 1 bias_term: false", MSRA)
            net.pool(f"pool{block}", "AVE", "kernel_size: 2 stride: 2")
    net.pool("pool5", "AVE", "global_pooling: true")
    net.conv("fc6", 1000, "kernel_size: 1", MSRA)
    net.loss()
    return net


def nin() -> Net:
    """Lin 2013, the ImageNet net. Two layers and their blobs differ in name, as published."""
    net = Net("nin_imagenet", "Network in Network: names as in the published net.")
    net.data(224, "data/ilsvrc12/imagenet_mean.binaryproto", 64, 89)
    pool, one = "kernel_size: 3 stride: 2", "kernel_size: 1"

    def pair(first: int, relus: Sequence[str], outputs: int) -> None:
        for i, relu in enumerate(relus):
            net.conv(f"cccp{first + i}", outputs, one, gaussian(0.05), constant(0), relu=relu)

    net.conv("conv1", 96, "kernel_size: 11 stride: 4", gaussian(0.01), constant(0), relu="relu0")
    pair(1, ("relu1", "relu2"), 96)
    net.pool("pool0", "MAX", pool)
    net.conv("conv2", 256, "pad: 2 kernel_size: 5", gaussian(0.05), constant(0), relu="relu3")
    pair(3, ("relu5", "relu6"), 256)
    net.pool("pool2", "MAX", pool)
    net.conv("conv3", 384, "pad: 1 kernel_size: 3", gaussian(0.01), constant(0), relu="relu7")
    pair(5, ("relu8", "relu9"), 384)
    net.pool("pool3", "MAX", pool)
    net.drop("drop")
    for name, top, outputs, size, std, relu in (
        ("conv4-1024", "conv4", 1024, "pad: 1 kernel_size: 3", 0.05, "relu10"),
        ("cccp7-1024", "cccp7", 1024, one, 0.05, "relu11"),
        ("cccp8-1024", "cccp8", 1000, one, 0.01, "relu12"),
    ):
        net.conv(name, outputs, size, gaussian(std), constant(0), relu=relu, top=[top])
    net.pool("pool4", "AVE", "kernel_size: 6 stride: 1")
    net.loss()
    return net


NETS: dict[str, Callable[[], Net]] = {
    "alexnet": alexnet,
    "vgg16": lambda: vgg(16),
    "vgg19": lambda: vgg(19),
    "vgg_cnn_s": vgg_cnn_s,
    "googlenet": googlenet,
    "squeezenet_v1.0": squeezenet_10,
    "resnet50": lambda: resnet(50),
    "resnet101": lambda: resnet(101),
    "mobilenet_v1": mobilenet,
    "densenet121": densenet,
    "nin": nin,
}


def main(folder: Path) -> None:
    """Write FOLDER/NAME/train_val.prototxt of each net."""
    for name, net in NETS.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "train_val.prototxt").write_text(net().text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
