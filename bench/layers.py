"""What each layer costs, forward and backward, beside real Caffe's: `recaffe time` and `caffe time` on one prototxt.

`recaffe time` runs each layer by itself and waits for its end, and no layer in place, so a layer may cost more here than
its part of a step in training. A blob that several layers read: Caffe's Split layer adds up their gradients; here the first
of the readers does, so Caffe's Split counts as part of that one. Data layers are listed (their cost is the wait for
a batch that threads make), but not judged; nor are layers that take under 0.2 ms in both programs.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import measure
from bench.measure import Row, said
from bench.training import Net
from recaffe.net import graph
from recaffe.proto import caffe_pb2 as pb

FIELDS = (
    "net", "batch", "layer", "type", "unit", "ours_forward", "ours_backward", "caffe_forward", "caffe_backward",
    "ratio", "ratio_min", "ratio_max", "runs", "verdict",
)  # fmt: skip
_LINE = re.compile(r"\] *(\S+)\t(?:for|back)ward: (\S+) ms\.$", re.MULTILINE)
_TOTAL = re.compile(r"Average Forward-Backward: (\S+) ms")
_NOISE = 0.2  # ms
_THREADS = (1, 2)  # of Caffe's OpenBLAS
# A net, its batch, passes a run.
_NETS = (("caffenet", 16, 10), ("caffenet", 64, 5), ("squeezenet_v1.1", 16, 10))
_QUICK = (("squeezenet_v1.1", 2, 2),)

Cost = tuple[float, float]  # milliseconds forward and backward


@dataclass
class Layer:
    """A line of the table: what each run of either program says."""

    name: str
    type: str
    ours: list[Cost] = field(default_factory=list)
    caffe: list[Cost] = field(default_factory=list)

    @property
    def sums(self) -> tuple[list[float], list[float]]:
        """Milliseconds both ways of each run: ours, Caffe's."""
        return [sum(c) for c in self.ours], [sum(c) for c in self.caffe]

    @property
    def ratios(self) -> list[float]:
        """Caffe's time by ours, of neighbouring runs."""
        return [b / a if a else 0.0 for a, b in zip(*self.sums, strict=True)]

    @property
    def verdict(self) -> str:
        """`slower` than Caffe's or `faster`; `data` and `short` aren't judged."""
        if self.type in graph.DATA:
            return "data"
        if all(statistics.median(ms) < _NOISE for ms in self.sums):
            return "short"
        return "faster" if statistics.median(self.ratios) >= 1 else "slower"

    def cells(self) -> dict[str, str]:
        """As the CSV has them: medians of the runs."""
        out = {"layer": self.name, "type": self.type, "unit": "ms", "runs": str(len(self.ours))}
        for who, costs in (("ours", self.ours), ("caffe", self.caffe)):
            for i, way in enumerate(("forward", "backward")):
                out[f"{who}_{way}"] = f"{statistics.median(c[i] for c in costs):.4g}"
        out["verdict"] = self.verdict
        if self.verdict == "data":  # two waits, of which one may be 0
            return out
        for name, of in (
            ("ratio", statistics.median), ("ratio_min", min), ("ratio_max", max)
        ):  # fmt: skip
            out[name] = f"{of(self.ratios):.4g}"
        return out


def rows(
    work: Path, caffe: Path, recaffe: Path, runs: int, quick: bool, out: Path
) -> Iterator[Row]:
    """Of each net the layer that is slowest beside Caffe's; all layers go to the table `out`."""
    table: list[dict[str, str]] = []
    about = measure.machine()
    for name, batch, passes in _QUICK if quick else _NETS:
        net = Net(work, caffe, name, batch, 1)
        threads, layers = _timed(net, recaffe, passes, runs)
        table += [{"net": name, "batch": str(batch), **layer.cells()} for layer in layers]
        measure.write(out, FIELDS, table, about)
        for layer in layers:
            if layer.verdict == "slower":
                print(f"  slower than Caffe's: {layer.name} ({layer.type})")
        judged = [x for x in layers if x.verdict in ("faster", "slower")]
        worst = min(judged, key=lambda x: statistics.median(x.ratios))
        ours, theirs = ([ms / 1e3 for ms in sums] for sums in worst.sums)
        yield Row(
            f"slowest layer, {name}, batch {batch}: {worst.name}",
            f"caffe time, {threads} thread{'s' * (threads > 1)}",
            ours, theirs, 1.0, f"the same {len(layers)} layers",
        )  # fmt: skip


def _timed(net: Net, recaffe: Path, passes: int, runs: int) -> tuple[int, list[Layer]]:
    """Caffe's better number of threads, and each layer's costs by both, in turn."""
    model = net.work / "net.prototxt"
    flags = ["time", f"--model={model}", f"--iterations={passes}"]

    def theirs(threads: int) -> str:
        count = str(threads)
        environ = {"OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count, "GLOG_logtostderr": "1"}
        return said([net.caffe / "bin/caffe", *flags], environ)

    best = min(_THREADS, key=lambda n: total(theirs(n)))
    trained = graph.of_phase(net.net, pb.TRAIN)
    layers, readers = [Layer(x.name, x.type) for x in trained], split_readers(trained)
    for _ in range(runs):
        ours = costs(said([recaffe, *flags]))
        caffes = without_splits(costs(theirs(best)), readers)
        names = [layer.name for layer in layers]
        if not list(ours) == list(caffes) == names:
            raise RuntimeError(
                f"{model}: layers {names}, ours {list(ours)}, Caffe's {list(caffes)}"
            )
        for layer in layers:
            layer.ours.append(ours[layer.name])
            layer.caffe.append(caffes[layer.name])
    return best, layers


def costs(text: str) -> dict[str, Cost]:
    """Milliseconds of each layer, forward and backward, in what either program prints."""
    said_of: dict[str, list[float]] = {}
    for name, ms in _LINE.findall(text):
        said_of.setdefault(name, []).append(float(ms))
    return {name: (ms[0], ms[1]) for name, ms in said_of.items()}


def total(text: str) -> float:
    """Milliseconds of a whole pass."""
    found = _TOTAL.search(text)
    if found is None:
        raise RuntimeError(f"no total in the log: {text[-1000:]}")
    return float(found[1])


def split_readers(layers: Iterable[pb.LayerParameter]) -> dict[str, str]:
    """For each Split layer that Caffe may insert, by the name it gets, the first layer that reads it."""
    makers: dict[str, str] = {}
    readers: dict[str, str] = {}
    for layer in layers:
        for bottom in layer.bottom:
            readers.setdefault(f"{bottom}_{makers[bottom]}_split", layer.name)
        makers |= {top: f"{layer.name}_{i}" for i, top in enumerate(layer.top)}
    return readers


def without_splits(costs: Mapping[str, Cost], readers: Mapping[str, str]) -> dict[str, Cost]:
    """The costs of the net's own layers, those of the inserted ones added to their first readers'."""
    out = {name: cost for name, cost in costs.items() if name not in readers}
    for split in costs.keys() & readers.keys():
        forward, backward = out[readers[split]]
        out[readers[split]] = forward + costs[split][0], backward + costs[split][1]
    return out
