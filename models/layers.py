"""Text of a net, layer by layer: what models/make.py writes with."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 100


def gaussian(std: float) -> str:
    """A weight filler."""
    return f'weight_filler {{ type: "gaussian" std: {std} }}'


def constant(value: float) -> str:
    """A bias filler."""
    return f'bias_filler {{ type: "constant" value: {value} }}'


def message(name: str, *parts: str) -> str:
    """`name { parts }` on one line where it fits."""
    inside = [p for p in parts if p]
    line = f"{name} {{ {' '.join(inside)} }}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name} {{", *("  " + p.replace("\n", "\n  ") for p in inside), "}"])


class Net:
    """Text of a net, layer by layer; `top` is the blob that was made last."""

    def __init__(self, name: str, comment: str, learned: str = "weights and bias") -> None:
        self.text = f'# {comment}\nname: "{name}"\n'
        self.top = "data"
        # BVLC's nets learn biases twice as fast and don't decay them.
        self.rates = {
            "weights and bias": ["lr_mult: 1 decay_mult: 1", "lr_mult: 2 decay_mult: 0"],
            "weights": ["lr_mult: 1 decay_mult: 1"],
            "as Caffe's default": [],
        }[learned]

    def layer(
        self, name: str, kind: str, *parts: str, bottom: Sequence[str] = (), top: Sequence[str] = ()
    ) -> str:
        """Add a layer on the last blob, or on `bottom`; its top is named after it unless said."""
        bottoms, tops = list(bottom) or [self.top], list(top) or [name]
        fields = [f'name: "{name}"', f'type: "{kind}"']
        fields += [f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops]
        self.text += message("layer", *fields, *parts) + "\n"
        self.top = tops[0]
        return self.top

    def data(
        self, crop: int, mean: Sequence[float] | str, train: int, test: int, scale: float = 0
    ) -> None:
        """The data layers of both phases; `mean` is BGR values or a file."""
        for phase, folder, batch in (("TRAIN", "train", train), ("TEST", "val", test)):
            values = [f'mean_file: "{mean}"'] if isinstance(mean, str) else []
            values += [] if isinstance(mean, str) else [f"mean_value: {m}" for m in mean]
            self.text += message(
                "layer", 'name: "data"', 'type: "Data"', 'top: "data"', 'top: "label"',
                f"include {{ phase: {phase} }}",
                message(
                    "transform_param", f"scale: {scale}" if scale else "",
                    "mirror: true" if phase == "TRAIN" else "", f"crop_size: {crop}", *values,
                ),
                message(
                    "data_param", f'source: "examples/imagenet/ilsvrc12_{folder}_lmdb"',
                    f"batch_size: {batch}", "backend: LMDB",
                ),
            ) + "\n"  # fmt: skip

    def conv(
        self, name: str, outputs: int, size: str, *fillers: str, relu: str = "",
        bottom: Sequence[str] = (), top: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """Convolution; `size` holds pad, kernel, stride and group, `relu` names a ReLU in place."""
        rates = self.rates[:1] if "bias_term: false" in size else self.rates
        self.layer(
            name, "Convolution", *(f"param {{ {r} }}" for r in rates),
            message("convolution_param", f"num_output: {outputs}", size, *fillers),
            bottom=bottom, top=top,
        )  # fmt: skip
        return self.relu(relu) if relu else self.top

    def inner(self, name: str, outputs: int, *fillers: str, relu: str = "", drop: str = "") -> str:
        """InnerProduct, with ReLU and Dropout (0.5) in place where they are named."""
        self.layer(
            name, "InnerProduct", *(f"param {{ {r} }}" for r in self.rates),
            message("inner_product_param", f"num_output: {outputs}", *fillers),
        )  # fmt: skip
        if relu:
            self.relu(relu)
        return self.drop(drop) if drop else self.top

    def relu(self, name: str) -> str:
        """ReLU in place."""
        return self.layer(name, "ReLU", top=[self.top])

    def drop(self, name: str, ratio: float = 0.5) -> str:
        """Dropout in place."""
        return self.layer(
            name, "Dropout", f"dropout_param {{ dropout_ratio: {ratio} }}", top=[self.top]
        )

    def pool(self, name: str, pool: str, size: str, bottom: Sequence[str] = ()) -> str:
        """Pooling; `size` holds kernel, stride and pad."""
        return self.layer(
            name, "Pooling", f"pooling_param {{ pool: {pool} {size} }}", bottom=bottom
        )

    def lrn(self, name: str, param: str = "local_size: 5 alpha: 0.0001 beta: 0.75") -> str:
        """Local response normalisation."""
        return self.layer(name, "LRN", f"lrn_param {{ {param} }}")

    def norm(self, batch_norm: str, scale: str, eps: str = "", top: Sequence[str] = ()) -> str:
        """BatchNorm, whose statistics no rate moves, and the Scale that learns; in place unless `top`."""
        self.layer(
            batch_norm, "BatchNorm", *["param { lr_mult: 0 decay_mult: 0 }"] * 3,
            message("batch_norm_param", eps) if eps else "", top=top or [self.top],
        )  # fmt: skip
        return self.layer(scale, "Scale", "scale_param { bias_term: true }", top=[self.top])

    def loss(self, loss: str = "loss", top_1: str = "accuracy", top_5: str = "accuracy_top5",
             weight: float = 0, tops: Sequence[str] = ()) -> None:  # fmt: skip
        """The loss on labels; in TEST the share of pictures whose label is first, or of five (where
        `top_5` isn't empty). `tops` are the three's blobs where they aren't named after the layers."""
        scores = [self.top, "label"]
        names = list(tops) or [loss, top_1, top_5]
        said = f"loss_weight: {weight}" if weight else ""
        self.layer(loss, "SoftmaxWithLoss", said, bottom=scores, top=names[:1])
        test = "include { phase: TEST }"
        self.layer(top_1, "Accuracy", test, bottom=scores, top=names[1:2])
        if top_5:
            self.layer(top_5, "Accuracy", test, "accuracy_param { top_k: 5 }", bottom=scores,
                   top=names[2:])  # fmt: skip
