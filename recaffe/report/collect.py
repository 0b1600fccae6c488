"""Everything that the report says, read from the workflow's files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from recaffe import mean, provenance, rate_range
from recaffe.evaluate import answers, groups
from recaffe.files import sha256
from recaffe.images import inventory
from recaffe.tables import rows

MOST = 5  # groups of runs that are named in the summary


def collect(results: Path, config: dict[str, Any], weights: dict[str, list[str]]) -> dict[str, Any]:
    """The facts of one data set's folder; `weights` gives each run's pretrained file or none."""
    data = results / "data"
    classes = rows(data / "classes.csv")
    labels = [row["name"] for row in classes]
    runs = {name: _run(results / name, row) for name, row in config["runs"].items()}
    first_name, first = next(iter(runs.items()))
    # Where the net looked is shown of the run that the report is about.
    looked = results / first_name / "heat_maps.json"
    if config["report"]["heat_maps"] and looked.is_file():
        first["heat_maps"] = read_json(looked)
    return {
        "config": config,
        "title": config["title"] or config["dataset"],
        "labels": labels,
        "classes": classes,
        "totals": {
            key: sum(int(row[key]) for row in classes)
            for key in ("train", "val", "test", "left_out", "rejected")
        },
        "lists": read_json(data / "lists.json"),
        "rejected": rows(data / "rejected.csv"),
        "duplicates": rows(data / "duplicates.csv"),
        "manifest": inventory.read(data / "manifest.csv"),
        "test": _entries(data / "test.txt"),
        "train": _entries(data / "train.txt"),
        "shape": read_json(data / "train_lmdb.json")["shape"],
        "mean": mean.read(data / "mean.binaryproto"),
        "runs": runs,
        "first_name": first_name,
        "first": first,
        "stages": stages(results, config),
        "provenance": _provenance(results, config, weights),
    }


def _run(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    linear = folder / "linear.json"
    return {
        "row": row,
        "metrics": read_json(folder / "metrics.json"),
        "net": read_json(folder / "net.json"),
        "layers": rows(folder / "layers.csv"),
        "deploy": (folder / "deploy.prototxt").read_text(encoding="utf-8"),
        "train": read_json(folder / "train.json"),
        "curve": rows(folder / "train.csv"),
        "answers": answers.read(folder / "predictions.csv"),
        "heat_maps": None,
        "lr_range": _lr_range(folder) if rate_range.is_wanted(row) else None,
        "linear": read_json(linear) if linear.is_file() and row["weights"] != "none" else None,
    }


def _lr_range(folder: Path) -> dict[str, Any]:
    curve, note = (folder / name for name in rate_range.FILES)
    return {"curve": rows(curve), "note": read_json(note)}


def headline(facts: dict[str, Any]) -> str:
    """The one line that a run of the workflow ends with."""
    return "; ".join(f"{label} {value}" for label, value in comparison(facts))


def comparison(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The first run's accuracy and what it must be seen beside, as (label, text).

    Runs that differ only in the seed are one line, mean ± standard deviation. Of more than a few groups
    of runs only the one that is best on the validation pictures is named: the best on the test pictures
    would be the luckiest.
    """
    runs = facts["runs"]
    name, first = next(iter(runs.items()))
    m = first["metrics"]
    own, *others = found = groups.of_table(groups.table(facts["config"], runs))
    lines = [(f"{name}: test accuracy", accuracy(m))]
    if len(own.runs) > 1:
        lines.append((f"{own.name}, {len(own.runs)} seeds", str(own.measures["accuracy"])))
    lines.append((f"majority class ({m['majority_class']})", f"{m['majority']:.3f}"))
    for group in others if len(found) <= MOST else ():
        kind = "from scratch" if runs[group.runs[0]]["row"]["weights"] == "none" else "fine-tuned"
        seeds = f", {len(group.runs)} seeds" if len(group.runs) > 1 else ""
        lines.append((f"{group.name} ({kind}{seeds})", str(group.measures["accuracy"])))
    best = groups.best(found)
    if best and len(found) > 2:
        label = f"{best.name}, best of {len(found)} by validation accuracy: test accuracy"
        lines.append((label, str(best.measures["accuracy"])))
    lines += [
        ("linear classifier on frozen features", f"{run['linear']['top1']:.3f}")
        for run in runs.values()
        if run["linear"]
    ]
    return lines


def accuracy(m: dict[str, Any]) -> str:
    """An accuracy never stands without its interval and N."""
    return (
        f"{m['top1']:.3f} (95 % interval {m['top1_low']:.3f} to {m['top1_high']:.3f}, N = {m['n']})"
    )


def stages(results: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds, peak memory and, where it means something, pictures a second of each stage."""
    counts = {s: len(_entries(results / "data" / f"{s}.txt")) for s in ("train", "val", "test")}
    scanned = len(inventory.read(results / "data" / "manifest.csv"))
    pictures = {
        "scan": scanned,
        **{f"lmdb_{s}": n for s, n in counts.items()},
        "predict": counts["test"],
    }
    folders = [("", Path(config["resources"])), ("", results)]
    folders += [(f"{name}: ", results / name) for name in config["runs"]]
    found = []
    for prefix, folder in folders:
        for path in sorted((folder / "benchmarks").glob("*.tsv"), key=lambda p: p.stat().st_mtime):
            if path.stem == "report":
                continue
            last = benchmark(path)
            seconds = float(last["s"])
            speed = ""
            if path.stem in pictures:
                speed = f"{pictures[path.stem] / max(seconds, 1e-9):.0f}"
            elif path.stem == "train":
                speed = f"{read_json(folder / 'train.json')['images_per_second']:.0f}"
            memory = last.get("max_rss", "-")
            memory = f"{float(memory):.0f}" if memory not in ("-", "NA", "") else ""
            found.append(
                {"stage": prefix + path.stem, "seconds": seconds, "rate": speed, "memory": memory}
            )
    return found


def _provenance(
    results: Path, config: dict[str, Any], weights: dict[str, list[str]]
) -> list[tuple[str, str]]:
    data = results / "data"
    lines = list(provenance.versions().items())
    lines.append(("inventory of pictures", sha256(data / "inventory.csv")))
    lines += [
        (f"{s} LMDB", read_json(data / f"{s}_lmdb.json")["sha256"])
        for s in ("train", "val", "test")
    ]
    files = sorted({file for found in weights.values() for file in found})
    lines += [(f"pretrained {file}", sha256(file)) for file in files]
    for name, row in config["runs"].items():
        result = read_json(results / name / "train.json")
        lines.append((f"{name}: trained on", f"{result['device']}, seed {row['seed']}"))
        lines.append((f"{name}: final.caffemodel", result["sha256"]))
    return lines


def _entries(path: Path) -> list[tuple[str, int]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in lines if line]


def benchmark(path: Path) -> dict[str, str]:
    """What Snakemake measured of a job, by its columns' names."""
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))[-1]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
