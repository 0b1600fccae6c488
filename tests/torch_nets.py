"""torchvision's and timm's nets by their parameters' names, thinner where `thin` divides all widths.

Written by hand after their forward passes in torchvision 0.29 and timm 1.0.31, so that the tests
need neither; names of modules that hold no weights don't matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.parity.nets import INCEPTION


def _conv_relu(*sizes: int, **more: int) -> list[nn.Module]:
    return [nn.Conv2d(*sizes, **more), nn.ReLU()]


class Plain(nn.Module):
    """`features`, pooled to a fixed size, then `classifier`: AlexNet, VGG."""

    def __init__(self, features: Sequence[nn.Module], side: int, classifier: Sequence[nn.Module]):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.side = side
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), self.side).flatten(1))


def alexnet(classes: int, thin: int) -> nn.Module:
    a, b, c, d, wide = (n // thin for n in (64, 192, 384, 256, 4096))
    features = [
        *_conv_relu(3, a, 11, stride=4, padding=2), nn.MaxPool2d(3, 2),
        *_conv_relu(a, b, 5, padding=2), nn.MaxPool2d(3, 2), *_conv_relu(b, c, 3, padding=1),
        *_conv_relu(c, d, 3, padding=1), *_conv_relu(d, d, 3, padding=1), nn.MaxPool2d(3, 2),
    ]  # fmt: skip
    classifier = [
        nn.Dropout(), nn.Linear(d * 36, wide), nn.ReLU(), nn.Dropout(), nn.Linear(wide, wide),
        nn.ReLU(), nn.Linear(wide, classes),
    ]  # fmt: skip
    return Plain(features, 6, classifier)


def _vgg_features(deep: int, thin: int) -> list[nn.Module]:
    features: list[nn.Module] = []
    below = 3
    for count, width in ((2, 64), (2, 128), (deep, 256), (deep, 512), (deep, 512)):
        for _ in range(count):
            features += _conv_relu(below, width // thin, 3, padding=1)
            below = width // thin
        features.append(nn.MaxPool2d(2, 2))
    return features


def vgg(classes: int, thin: int, deep: int = 3) -> nn.Module:
    below, wide = 512 // thin * 49, 4096 // thin
    classifier = [
        nn.Linear(below, wide), nn.ReLU(), nn.Dropout(), nn.Linear(wide, wide), nn.ReLU(),
        nn.Dropout(), nn.Linear(wide, classes),
    ]  # fmt: skip
    return Plain(_vgg_features(deep, thin), 7, classifier)


class TimmVgg(nn.Module):
    """timm's: the inner products of the middle are convolutions."""

    def __init__(self, classes: int, thin: int):
        super().__init__()
        wide = 4096 // thin
        self.features = nn.Sequential(*_vgg_features(3, thin))
        self.pre_logits = nn.Module()
        self.pre_logits.fc1 = nn.Conv2d(512 // thin, wide, 7)
        self.pre_logits.fc2 = nn.Conv2d(wide, wide, 1)
        self.head = nn.Module()
        self.head.fc = nn.Linear(wide, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.pre_logits.fc1(self.features(x)))
        return self.head.fc(F.relu(self.pre_logits.fc2(x)).mean((2, 3)))


class Fire(nn.Module):
    def __init__(self, below: int, squeeze: int):
        super().__init__()
        self.squeeze = nn.Conv2d(below, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.expand3x3 = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self, classes: int, thin: int, version: str):
        super().__init__()
        stem, kernel = (96, 7) if version == "1.0" else (64, 3)
        pooled = (4, 8) if version == "1.0" else (3, 5)  # the fire modules before a pooling
        features: list[nn.Module] = [*_conv_relu(3, stem // thin, kernel, stride=2), self._pool()]
        below = stem // thin
        for fire, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), start=2):
            features.append(Fire(below, squeeze // thin))
            below = 8 * squeeze // thin
            if fire in pooled:
                features.append(self._pool())
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(below, classes, 1))

    @staticmethod
    def _pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.classifier(self.features(x))).mean((2, 3))


class Bottleneck(nn.Module):
    def __init__(self, below: int, width: int, stride: int, shortcut: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(below, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        if shortcut:
            self.downsample = nn.Sequential(
                nn.Conv2d(below, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (self.downsample(x) if self.shortcut else x))


class ResNet(nn.Module):
    def __init__(self, classes: int, thin: int, blocks: Sequence[int] = (3, 4, 6, 3)):
        super().__init__()
        below = 64 // thin
        self.conv1 = nn.Conv2d(3, below, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(below)
        for stage, count in enumerate(blocks):
            width, layer = (64 << stage) // thin, []
            for i in range(count):
                layer.append(Bottleneck(below, width, 2 if stage and not i else 1, not i))
                below = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.fc = nn.Linear(below, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, below: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(below)
        self.conv1 = nn.Conv2d(below, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, new], 1)


class Transition(nn.Module):
    def __init__(self, below: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(below)
        self.conv = nn.Conv2d(below, below // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2, 2)


class DenseNet(nn.Module):
    def __init__(self, classes: int, thin: int):
        super().__init__()
        below, growth = 64 // thin, 32 // thin
        f = self.features = nn.Sequential()
        f.add_module("conv0", nn.Conv2d(3, below, 7, 2, 3, bias=False))
        f.add_module("norm0", nn.BatchNorm2d(below))
        f.add_module("relu0", nn.ReLU())
        f.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        for block, count in enumerate((6, 12, 24, 16), start=1):
            layers = nn.Sequential()
            for i in range(count):
                layers.add_module(f"denselayer{i + 1}", DenseLayer(below, growth))
                below += growth
            f.add_module(f"denseblock{block}", layers)
            if block < 4:
                f.add_module(f"transition{block}", Transition(below))
                below //= 2
        f.add_module("norm5", nn.BatchNorm2d(below))
        self.classifier = nn.Linear(below, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


class BasicConv(nn.Module):
    def __init__(self, below: int, width: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(below, width, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, below: int, sizes: Sequence[int]):
        super().__init__()
        one, reduce3, three, reduce5, five, proj = sizes
        self.branch1 = BasicConv(below, one, 1)
        self.branch2 = nn.Sequential(BasicConv(below, reduce3, 1), BasicConv(reduce3, three, 3))
        self.branch3 = nn.Sequential(BasicConv(below, reduce5, 1), BasicConv(reduce5, five, 3))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv(below, proj, 1)
        )
        self.width = one + three + five + proj

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """With one of the auxiliary heads' weights, which only training uses."""

    def __init__(self, classes: int, thin: int):
        super().__init__()
        a, below = 64 // thin, 192 // thin
        self.conv1, self.conv2 = BasicConv(3, a, 7, 2), BasicConv(a, a, 1)
        self.conv3 = BasicConv(a, below, 3)
        for name, sizes in INCEPTION.items():
            module = Inception(below, [n // thin for n in sizes])
            setattr(self, f"inception{name}", module)
            below = module.width
        self.aux1 = nn.Linear(4, 4)
        self.fc = nn.Linear(below, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        for name in INCEPTION:
            x = getattr(self, f"inception{name}")(x)
            if name == "3b":
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            elif name == "4e":
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        return self.fc(x.mean((2, 3)))


class Separable(nn.Module):
    def __init__(self, below: int, width: int, stride: int):
        super().__init__()
        self.conv_dw = nn.Conv2d(below, below, 3, stride, 1, groups=below, bias=False)
        self.bn1 = nn.BatchNorm2d(below)
        self.conv_pw = nn.Conv2d(below, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x))))))


class MobileNet(nn.Module):
    def __init__(self, classes: int, thin: int):
        super().__init__()
        below = 32 // thin
        self.conv_stem = nn.Conv2d(3, below, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(below)
        stages = []
        for count, width, stride in (
            (1, 64, 1),
            (2, 128, 2),
            (2, 256, 2),
            (6, 512, 2),
            (2, 1024, 2),
        ):
            stage = []
            for i in range(count):
                stage.append(Separable(below, width // thin, 1 if i else stride))
                below = width // thin
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(below, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(x))))
        return self.classifier(x.mean((2, 3)))


NETS = {
    "torchvision:alexnet": alexnet,
    "torchvision:vgg16": vgg,
    "torchvision:vgg19": lambda classes, thin: vgg(classes, thin, 4),
    "torchvision:googlenet": GoogLeNet,
    "torchvision:squeezenet1_0": lambda classes, thin: SqueezeNet(classes, thin, "1.0"),
    "torchvision:squeezenet1_1": lambda classes, thin: SqueezeNet(classes, thin, "1.1"),
    "torchvision:resnet50": ResNet,
    "torchvision:resnet101": lambda classes, thin: ResNet(classes, thin, (3, 4, 23, 3)),
    "torchvision:densenet121": DenseNet,
    "timm:vgg16": TimmVgg,
    "timm:mobilenetv1_100": MobileNet,
}


def net(name: str, classes: int = 7, thin: int = 1) -> nn.Module:
    """A net of random weights and biases, in TEST, with the statistics of two smooth pictures."""
    torch.manual_seed(0)
    built = NETS[name](classes, thin)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
    with torch.no_grad():
        built(F.interpolate(torch.randn(2, 3, 7, 7), (224, 224), mode="bilinear"))
    return built.eval()
