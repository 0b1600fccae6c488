"""A net as an SVG: a box for each layer with the in-place ones under it, shapes on the edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from recaffe.errors import NetError
from recaffe.net import graph, shapes
from recaffe.net.layered import Layout, layout
from recaffe.net.shapes import LayerShapes, Shape
from recaffe.proto import caffe_pb2 as pb

FONT = 12.0
SMALL = 10.0  # of the shapes
LINE = 16.0  # height of a line of text
PAD = 8.0
RANK_GAP = 38.0  # room for a shape between two boxes
MARGIN = 24.0
# (fill, border) by what a layer does; light enough for black text.
COLOURS = {
    "data": ("#e8eaed", "#7a7f87"),
    "weights": ("#d3e3fd", "#3b6fc4"),
    "pooling": ("#d5efd8", "#3f8f4a"),
    "normalisation": ("#e7dcf7", "#7e57c2"),
    "activation": ("#fdf0cc", "#b98900"),
    "shape": ("#d4eeee", "#2c8a8a"),
    "loss": ("#fbd9d5", "#c0392b"),
    "measure": ("#f9dcea", "#b03a78"),
    "other": ("#ffffff", "#7a7f87"),
}
_KINDS = {
    "pooling": ("Pooling",),
    "normalisation": ("LRN", "BatchNorm", "MVN", "Scale", "Bias"),
    "activation": (
        "ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "Power", "Exp", "Log", "BNLL",
        "Threshold", "Dropout", "Softmax",
    ),
    "weights": ("Convolution", "Deconvolution", "InnerProduct", "Embed"),
    "shape": (
        "Eltwise", "Concat", "Slice", "Split", "Flatten", "Reshape", "Crop", "Reduction", "Tile",
    ),
    "measure": ("Accuracy", "ArgMax"),
    "data": tuple(graph.DATA),
    "loss": tuple(graph.LOSSES),
}  # fmt: skip
KIND = {name: kind for kind, names in _KINDS.items() for name in names}


@dataclass
class Box:
    """A layer, and the layers that work in place on its top."""

    layers: list[pb.LayerParameter]
    width: float = 0
    height: float = 0
    x: float = 0  # of the middle
    y: float = 0
    tops: list[str] = field(default_factory=list)
    sizes: dict[str, Shape] = field(default_factory=dict)  # of the tops


def svg(net: pb.NetParameter, walks: Sequence[Sequence[LayerShapes]], rankdir: str = "TB") -> str:
    """The SVG of a net.

    `walks` holds the shapes of each phase to draw (one, or both for a picture of all layers), or
    what `unshaped` makes of them.
    `rankdir` is TB (downwards) or LR (to the right).
    """
    order = {id(x): i for i, x in enumerate(net.layer)}
    layers = sorted({order[id(s.layer)] for walk in walks for s in walk})
    boxes, edges = _graph(net, layers, walks, order)
    down = rankdir == "TB"
    for box in boxes:
        _measure(box, down)
    placed = layout([b.width if down else b.height for b in boxes], edges)
    along = _ranks(boxes, placed, down, _label_room(boxes, down))
    for i, box in enumerate(boxes):
        box.x, box.y = _point(placed.across[i], along[placed.rank[i]], down)
    return _document(net.name, boxes, edges, placed, along, down)


def unshaped(layers: Sequence[pb.LayerParameter]) -> list[LayerShapes]:
    """A phase whose shapes nobody knows, such as that of a net with a layer of its author's own."""
    return [LayerShapes(layer, [], [], []) for layer in layers]


Edge = tuple[int, int, str]


def _graph(
    net: pb.NetParameter,
    layers: Sequence[int],
    walks: Sequence[Sequence[LayerShapes]],
    order: dict[int, int],
) -> tuple[list[Box], list[Edge]]:
    """Boxes in the layers' order, and edges as (box, box, blob)."""
    home: dict[int, int] = {}
    boxes: list[Box] = []
    edges: dict[Edge, None] = {}
    writers: list[dict[str, int]] = [{} for _ in walks]
    members = [{order[id(s.layer)]: s for s in walk} for walk in walks]
    for index in layers:
        layer = net.layer[index]
        for made, member in zip(writers, members, strict=True):
            if index not in member:
                continue
            if missing := [b for b in layer.bottom if b not in made]:
                raise NetError(
                    f"Layer {layer.name!r}: no layer above makes its bottom {missing[0]!r}."
                )
            below = [made[b] for b in layer.bottom]
            if index not in home:
                in_place = len(below) == 1 and list(layer.bottom) == list(layer.top)
                if in_place and list(layer.top) == boxes[below[0]].tops:
                    home[index] = below[0]
                    boxes[below[0]].layers.append(layer)
                else:
                    home[index] = len(boxes)
                    made_here = dict(zip(layer.top, member[index].tops, strict=False))
                    boxes.append(Box([layer], tops=list(layer.top), sizes=made_here))
            for blob, source in zip(layer.bottom, below, strict=True):
                if source != home[index]:
                    edges[source, home[index], blob] = None
            made.update(dict.fromkeys(layer.top, home[index]))
    return boxes, list(edges)


def detail(layer: pb.LayerParameter) -> str:
    """A layer's type and what matters of its parameters, in a few words."""
    try:
        return ", ".join(_words(layer))
    except NetError:  # a mistake in its parameters, or kernels of other than two axes
        return layer.type


def _words(layer: pb.LayerParameter) -> list[str]:
    words = [layer.type]
    if layer.type in ("Convolution", "Deconvolution"):
        c = layer.convolution_param
        words += [f"{c.num_output}", *_window(shapes.conv_window(c))]
        words += [f"group {c.group}"] if c.group > 1 else []
    elif layer.type == "Pooling":
        p = layer.pooling_param
        words[0] = f"{pb.PoolingParameter.PoolMethod.Name(p.pool)} {layer.type}"
        words += ["global"] if p.global_pooling else _window(shapes.pool_window(p, ()))
    elif layer.type == "InnerProduct":
        words.append(f"{layer.inner_product_param.num_output}")
    elif layer.type == "LRN":
        words.append(f"{layer.lrn_param.local_size}")
    elif layer.type == "Dropout":
        words.append(f"{layer.dropout_param.dropout_ratio:g}")
    elif layer.type == "Eltwise":
        words.append(pb.EltwiseParameter.EltwiseOp.Name(layer.eltwise_param.operation))
    elif layer.type == "Accuracy" and layer.accuracy_param.top_k > 1:
        words.append(f"top {layer.accuracy_param.top_k}")
    elif layer.include and layer.type in graph.DATA and layer.include[0].HasField("phase"):
        words.append(pb.Phase.Name(layer.include[0].phase))
    return words


def _window(w: shapes.Window) -> list[str]:
    words = ["×".join(map(str, w.kernel))]
    for name, pair, usual in (("stride", w.stride, 1), ("pad", w.pad, 0), ("dilation", w.dilation, 1)):  # fmt: skip
        if pair != (usual, usual):
            words.append(f"{name} " + (str(pair[0]) if pair[0] == pair[1] else "×".join(map(str, pair))))  # fmt: skip
    return words


def _measure(box: Box, down: bool) -> None:
    texts = [(x.name, detail(x)) for x in box.layers]
    # A letter of a sans-serif face is about 0.6 of its size wide in bold, 0.54 in regular.
    first = max(len(texts[0][0]) * 0.6, len(texts[0][1]) * 0.54)
    rest = max((0.54 * (len(n) + len(t) + 2) for n, t in texts[1:]), default=0)
    box.width = max(first, rest) * FONT + 2 * PAD
    box.height = 2 * LINE + PAD + (len(texts) - 1) * (LINE + 2)
    if len(box.tops) > 1:  # side by side, each with its shape
        room = (_longest([box]) + 10) if down else LINE
        across = room * (len(box.tops) + 1)
        box.width, box.height = (
            (max(box.width, across), box.height) if down else (box.width, max(box.height, across))
        )


def _longest(boxes: Sequence[Box]) -> float:
    """Width of the longest shape that is written beside an edge."""
    return max((len(_shape(s)) for b in boxes for s in b.sizes.values()), default=0) * 0.63 * SMALL


def _label_room(boxes: Sequence[Box], down: bool) -> float:
    """From one rank to the next."""
    return RANK_GAP if down else max(RANK_GAP, _longest(boxes) + 22)


def _ranks(boxes: Sequence[Box], placed: Layout, down: bool, gap: float) -> list[float]:
    """The middle of each rank along the direction of flow."""
    deep = [0.0] * (max(placed.rank, default=-1) + 1)
    for box, r in zip(boxes, placed.rank, strict=True):
        deep[r] = max(deep[r], box.height if down else box.width)
    middles, edge = [], 0.0
    for d in deep:
        middles.append(edge + d / 2)
        edge += d + gap
    return middles


def _point(across: float, along: float, down: bool) -> tuple[float, float]:
    return (across, along) if down else (along, across)


def _document(
    name: str,
    boxes: Sequence[Box],
    edges: Sequence[Edge],
    placed: Layout,
    along: Sequence[float],
    down: bool,
) -> str:
    lines, labels = [], []
    named: set[tuple[int, str]] = set()
    for (a, b, blob), path in zip(edges, placed.paths, strict=True):
        start, end = _port(boxes[a], blob, down), _entry(boxes[b], down)
        points = [start, *(_point(x, along[r], down) for r, x in path), end]
        size = boxes[a].sizes.get(blob)
        shape = "" if size is None else _shape(size)
        lines.append(
            f'<path d="{_curve(points, down)}"><title>{escape(f"{blob} {shape}".strip())}</title></path>'
        )
        if shape and (a, blob) not in named:
            named.add((a, blob))
            x, y = (start[0] + 5, start[1] + 14) if down else (start[0] + 5, start[1] - 4)
            labels.append(f'<text x="{x:.1f}" y="{y:.1f}">{shape}</text>')
    x, y, width, height = _frame(boxes, placed, down)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x:.1f} {y:.1f} {width:.1f} '
            f'{height:.1f}" width="{width:.0f}" height="{height:.0f}" '
            f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="{FONT:g}">',
            f"<title>{escape(name or 'net')}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#5f6368"/></marker></defs>',
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="#fff"/>',
            '<g fill="none" stroke="#5f6368" stroke-width="1.2" marker-end="url(#tip)">',
            *lines,
            "</g>",
            *(_draw(b) for b in boxes),
            f'<g fill="#444" font-size="{SMALL:g}" stroke="#fff" stroke-width="3" paint-order="stroke">',
            *labels,
            "</g>",
            "</svg>",
            "",
        ]
    )


def _frame(boxes: Sequence[Box], placed: Layout, down: bool) -> tuple[float, float, float, float]:
    """x, y, width and height of the whole picture."""
    corners = [
        (b.x + side * b.width / 2, b.y + side * b.height / 2) for b in boxes for side in (-1, 1)
    ]
    corners += [
        _point(across, boxes[0].y if down else boxes[0].x, down)
        for path in placed.paths
        for _, across in path
    ]
    if down:  # a shape may stand out to the right of its box
        ports = ((_port(b, t, True), s) for b in boxes for t, s in b.sizes.items())
        corners += [(x + 5 + len(_shape(s)) * 0.63 * SMALL, y) for (x, y), s in ports]
    left, right = min(x for x, _ in corners), max(x for x, _ in corners)
    top, bottom = min(y for _, y in corners), max(y for _, y in corners)
    return left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN


def _port(box: Box, blob: str, down: bool) -> tuple[float, float]:
    """Where a blob leaves its box: side by side in the order of the tops."""
    part = (box.tops.index(blob) + 1) / (len(box.tops) + 1) - 0.5
    if down:
        return box.x + part * box.width, box.y + box.height / 2
    return box.x + box.width / 2, box.y + part * box.height


def _entry(box: Box, down: bool) -> tuple[float, float]:
    return (box.x, box.y - box.height / 2) if down else (box.x - box.width / 2, box.y)


def _curve(points: Sequence[tuple[float, float]], down: bool) -> str:
    """A path that runs in the direction of flow at each of its points."""
    out = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        if down:
            half = (y1 - y0) / 2
            out += f"C{x0:.1f} {y0 + half:.1f} {x1:.1f} {y1 - half:.1f} {x1:.1f} {y1:.1f}"
        else:
            half = (x1 - x0) / 2
            out += f"C{x0 + half:.1f} {y0:.1f} {x1 - half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return out


def _draw(box: Box) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    first = box.layers[0]
    fill, border = COLOURS[KIND.get(first.type, "other")]
    out = [
        f"<g><title>{escape(', '.join(f'{n.name} ({n.type})' for n in box.layers))}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="5" '
        f'fill="{fill}" stroke="{border}"/>',
        f'<text x="{box.x:.1f}" y="{y + LINE:.1f}" text-anchor="middle" font-weight="bold">'
        f"{escape(first.name)}</text>",
        f'<text x="{box.x:.1f}" y="{y + 2 * LINE:.1f}" text-anchor="middle">{escape(detail(first))}</text>',
    ]
    for i, layer in enumerate(box.layers[1:]):
        at = y + 2 * LINE + PAD + i * (LINE + 2)
        fill, border = COLOURS[KIND.get(layer.type, "other")]
        out.append(
            f'<rect x="{x:.1f}" y="{at:.1f}" width="{box.width:.1f}" height="{LINE + 2:.1f}" '
            f'rx="4" fill="{fill}" stroke="{border}"/>'
            f'<text x="{box.x:.1f}" y="{at + LINE - 3:.1f}" text-anchor="middle" font-size="11">'
            f"{escape(layer.name)}, {escape(detail(layer))}</text>"
        )
    return "".join(out) + "</g>"


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "1"
