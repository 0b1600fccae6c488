"""DenseNet-121: torchvision's and timm's net is the published one."""

from __future__ import annotations

from recaffe.imports.rules import Rule, conv, norm

# torchvision's published file still has the names of 2017: norm.1 is norm1.
RENAME = (r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2")


def _norm(source: str, name: str) -> Rule:
    return norm(source, f"{name}/bn", f"{name}/scale")


def rules() -> list[Rule]:
    """A convolution stands behind its normalisation; the fifth block has none behind it."""
    out = [conv("features.conv0", "conv1"), _norm("features.norm0", "conv1")]
    for block, count in enumerate((6, 12, 24, 16), start=1):
        for i in range(1, count + 1):
            source, name = f"features.denseblock{block}.denselayer{i}", f"conv{block + 1}_{i}"
            for n in (1, 2):
                out.append(_norm(f"{source}.norm{n}", f"{name}/x{n}"))
                out.append(conv(f"{source}.conv{n}", f"{name}/x{n}"))
        if block < 4:
            between = f"features.transition{block}"
            out.append(_norm(f"{between}.norm", f"conv{block + 1}_blk"))
            out.append(conv(f"{between}.conv", f"conv{block + 1}_blk"))
    return [*out, _norm("features.norm5", "conv5_blk"), conv("classifier", "fc6")]
