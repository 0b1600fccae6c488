"""Published architectures, written as prototxt from their papers' tables."""

from __future__ import annotations

from tests.parity.draw import layer

# Szegedy et al., Going deeper with convolutions, 2015, table 1: for each module the outputs of
# 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool proj.
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
# He et al., Deep residual learning for image recognition, 2016, table 1: blocks of each stage.
RESNET = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
LRN = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"


def googlenet(classes: int) -> str:
    """With both auxiliary heads, whose losses weigh 0.3. Dropout is off, as it is random."""
    out = _conv_relu("conv1", "data", 64, "kernel_size: 7 stride: 2 pad: 3")
    out += _pool("pool1", "conv1", "MAX", "kernel_size: 3 stride: 2")
    out += layer("LRN", LRN, ["pool1"], ["norm1"], "norm1")
    out += _conv_relu("reduce2", "norm1", 64, "kernel_size: 1")
    out += _conv_relu("conv2", "reduce2", 192, "kernel_size: 3 pad: 1")
    out += layer("LRN", LRN, ["conv2"], ["norm2"], "norm2")
    out += _pool("pool2", "norm2", "MAX", "kernel_size: 3 stride: 2")
    below = "pool2"
    for name, sizes in INCEPTION.items():
        if name in ("4a", "5a"):
            out += _pool(f"pool_{name}", below, "MAX", "kernel_size: 3 stride: 2")
            below = f"pool_{name}"
        out += _inception(name, below, sizes)
        below = name
        if name in ("4a", "4d"):
            out += _auxiliary(f"aux_{name}", below, classes)
    out += _pool("pool5", below, "AVE", "global_pooling: true")
    out += layer("Dropout", "dropout_param { dropout_ratio: 0 }", ["pool5"], ["pool5"], "drop5")
    out += _inner("fc", "pool5", classes)
    return out + layer("SoftmaxWithLoss", "", ["fc", "label"], ["loss"], "loss")


def resnet(depth: int, classes: int) -> str:
    """BatchNorm and Scale after each convolution, all in place, as in the published prototxt."""
    out = _conv_norm("conv1", "data", 64, "kernel_size: 7 stride: 2 pad: 3", relu=True)
    out += _pool("pool1", "conv1", "MAX", "kernel_size: 3 stride: 2")
    below, channels = "pool1", 64
    for stage, blocks in enumerate(RESNET[depth]):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            name = f"res{stage + 2}{chr(ord('a') + block)}"
            block_of = _bottleneck if depth >= 50 else _basic
            top = width * (4 if depth >= 50 else 1)
            text, branch = block_of(name, below, width, stride)
            shortcut = below
            if stride > 1 or channels != top:
                shortcut = f"{name}_branch1"
                text += _conv_norm(shortcut, below, top, f"kernel_size: 1 stride: {stride}")
            out += text + layer("Eltwise", "", [shortcut, branch], [name], name) + _relu(name)
            below, channels = name, top
    out += _pool("pool5", below, "AVE", "kernel_size: 7 stride: 1")
    out += _inner("fc", "pool5", classes)
    return out + layer("SoftmaxWithLoss", "", ["fc", "label"], ["loss"], "loss")


def _inception(name: str, below: str, sizes: tuple[int, ...]) -> str:
    one, reduce3, three, reduce5, five, pool = sizes
    out = _conv_relu(f"{name}/1x1", below, one, "kernel_size: 1")
    out += _conv_relu(f"{name}/3x3_reduce", below, reduce3, "kernel_size: 1")
    out += _conv_relu(f"{name}/3x3", f"{name}/3x3_reduce", three, "kernel_size: 3 pad: 1")
    out += _conv_relu(f"{name}/5x5_reduce", below, reduce5, "kernel_size: 1")
    out += _conv_relu(f"{name}/5x5", f"{name}/5x5_reduce", five, "kernel_size: 5 pad: 2")
    out += _pool(f"{name}/pool", below, "MAX", "kernel_size: 3 stride: 1 pad: 1")
    out += _conv_relu(f"{name}/pool_proj", f"{name}/pool", pool, "kernel_size: 1")
    parts = [f"{name}/{x}" for x in ("1x1", "3x3", "5x5", "pool_proj")]
    return out + layer("Concat", "", parts, [name], name)


def _auxiliary(name: str, below: str, classes: int) -> str:
    out = _pool(f"{name}/pool", below, "AVE", "kernel_size: 5 stride: 3")
    out += _conv_relu(f"{name}/conv", f"{name}/pool", 128, "kernel_size: 1")
    out += _inner(f"{name}/fc1", f"{name}/conv", 1024) + _relu(f"{name}/fc1")
    out += _inner(f"{name}/fc2", f"{name}/fc1", classes)
    tops = [f"{name}/fc2", "label"]
    return out + layer(
        "SoftmaxWithLoss", "loss_weight: 0.3", tops, [f"{name}/loss"], f"{name}/loss"
    )


def _basic(name: str, below: str, width: int, stride: int) -> tuple[str, str]:
    a, b = f"{name}_branch2a", f"{name}_branch2b"
    out = _conv_norm(a, below, width, f"kernel_size: 3 pad: 1 stride: {stride}", relu=True)
    return out + _conv_norm(b, a, width, "kernel_size: 3 pad: 1"), b


def _bottleneck(name: str, below: str, width: int, stride: int) -> tuple[str, str]:
    a, b, c = (f"{name}_branch2{x}" for x in "abc")
    out = _conv_norm(a, below, width, f"kernel_size: 1 stride: {stride}", relu=True)
    out += _conv_norm(b, a, width, "kernel_size: 3 pad: 1", relu=True)
    return out + _conv_norm(c, b, 4 * width, "kernel_size: 1"), c


def _conv_norm(name: str, below: str, outputs: int, window: str, relu: bool = False) -> str:
    out = _conv(name, below, outputs, f"{window} bias_term: false")
    out += layer("BatchNorm", "", [name], [name], f"bn_{name}")
    out += layer("Scale", "scale_param { bias_term: true }", [name], [name], f"scale_{name}")
    return out + (_relu(name) if relu else "")


def _conv_relu(name: str, below: str, outputs: int, window: str) -> str:
    return _conv(name, below, outputs, window) + _relu(name)


def _conv(name: str, below: str, outputs: int, window: str) -> str:
    settings = f"convolution_param {{ num_output: {outputs} {window} }}"
    return layer("Convolution", settings, [below], [name], name)


def _inner(name: str, below: str, outputs: int) -> str:
    settings = f"inner_product_param {{ num_output: {outputs} }}"
    return layer("InnerProduct", settings, [below], [name], name)


def _pool(name: str, below: str, kind: str, window: str) -> str:
    settings = f"pooling_param {{ pool: {kind} {window} }}"
    return layer("Pooling", settings, [below], [name], name)


def _relu(name: str) -> str:
    return layer("ReLU", "", [name], [name], f"relu_{name}")
