"""python -m bench.study [STUDY …] [--gather]: train the studies here, and make their table.

The studies are configs (config/studies/NAME.yaml) on picture sets from packages. Each is a workflow of
its own, so what was trained before is not trained again; `--gather` only reads what is there. Writes
bench/results/studies.csv, a row a training, and studies.md, a row a way of training.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import machine, write
from recaffe import config as configs
from recaffe import tables
from recaffe.evaluate import groups
from recaffe.files import write_text
from recaffe.report import collect

HERE = Path(__file__).parent
CONFIGS = configs.ROOT / "config" / "studies"
STUDIES = (
    "elpv", "elpv_lenet", "openclipart", "openclipart_lenet", "fashion_mnist", "fashion_mnist_lenet",
)  # fmt: skip
FIELDS = (
    "study", "pictures", "classes", "split", "train", "val", "test", "net", "way", "engine", "side", "iterations",
    "batch", "seed", "test_accuracy", "test_low", "test_high", "val_accuracy", "seconds", "cpu_seconds",
)  # fmt: skip


def rows(study: str, results: Path) -> Iterator[dict[str, Any]]:
    """A row for each run of a study whose report is there."""
    config = configs.load(CONFIGS / f"{study}.yaml")
    folder = results / config["dataset"]
    classes = tables.rows(folder / "data" / "classes.csv")
    counts = {key: sum(int(c[key]) for c in classes) for key in ("train", "val", "test")}
    for name, run in config["runs"].items():
        metrics = collect.read_json(folder / name / "metrics.json")
        trained = collect.read_json(folder / name / "train.json")
        spent = collect.benchmark(folder / name / "benchmarks" / "train.tsv")
        yield {
            "study": study,
            "pictures": config["images"]["package"],
            "classes": len(classes),
            "split": "official" if config["images"]["split_column"] else "by recaffe",
            **counts,
            "net": run["net"],
            "way": way(run),
            "engine": run["engine"],
            "side": run["crop_size"] or config["lmdb"]["width"],
            "iterations": trained["last_iteration"],
            "batch": run["batch_size"],
            "seed": run["seed"],
            "test_accuracy": round(metrics["top1"], 5),
            "test_low": round(metrics["top1_low"], 5),
            "test_high": round(metrics["top1_high"], 5),
            "val_accuracy": round(trained["val_accuracy"], 5),
            "seconds": round(float(spent["s"]), 1),
            "cpu_seconds": round(float(spent["cpu_time"]), 1),
        }


def way(run: dict[str, Any]) -> str:
    """What of the net a run trains, and from what."""
    if run["weights"] == "none":
        return "from scratch"
    return "head alone" if run["freeze_to"] else "whole net"


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: mean ± sample standard deviation over the seeds of each way, both engines side by side."""
    ways: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for row in found:
        key = tuple(row[k] for k in ("pictures", "net", "way"))
        ways.setdefault(key, {}).setdefault(row["engine"], []).append(row)
    lines = [
        "| pictures | train / val / test | split | net | trained | side | iterations | test accuracy, torch | CPU s | test accuracy, caffe | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (pictures, net, trained), engines in ways.items():
        one = next(iter(engines.values()))[0]
        cells = [
            pictures, f"{one['train']} / {one['val']} / {one['test']}", one["split"], net, trained,
            str(one["side"]), f"{one['iterations']} × {one['batch']}",
        ]  # fmt: skip
        for engine in ("torch", "caffe"):
            seeds = engines.get(engine, [])
            cells.append(spread([100 * row["test_accuracy"] for row in seeds]))
            cells.append(
                f"{statistics.median(row['cpu_seconds'] for row in seeds):.0f}" if seeds else ""
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """Percent as mean ± sample standard deviation, and of how many."""
    if not values:
        return ""
    found = groups.spread(values)
    sd = f" ± {found.sd:.1f}" if found.n > 1 else ""
    return f"{found.mean:.1f}{sd} ({found.n})"


def gather(studies: list[str], results: Path, out: Path) -> None:
    """Write `out`/studies.csv and `out`/studies.md from finished studies."""
    found = [row for study in studies for row in rows(study, results)]
    about = machine()
    write(out / "studies.csv", FIELDS, found, about)
    write_text(out / "studies.md", "# Studies\n\n" + HEAD.format(**about) + "\n" + table(found))


HEAD = """Made by `make study`; each training is a row of studies.csv. Accuracy is in percent of all test pictures, mean ±
standard deviation (of seeds). CPU seconds are the median of a whole training job of one thread, start and validations included, as
Snakemake samples them (each half second at first, each half minute later), on {processor}; what else the machine does changes them little.
"""


def main() -> int:
    """0, or the exit status of the first study that failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.study")
    parser.add_argument("studies", nargs="*", help=f"of {' '.join(STUDIES)} (all)")
    parser.add_argument("--gather", action="store_true", help="train nothing, make the table")
    parser.add_argument("--cores", type=int, default=2, help="trainings at a time (2)")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    if unknown := set(args.studies) - set(STUDIES):
        parser.error(f"no such study: {', '.join(sorted(unknown))}; there are {', '.join(STUDIES)}")
    studies = args.studies or list(STUDIES)
    for study in [] if args.gather else studies:
        command = [
            Path(sys.executable).with_name("snakemake"), "--cores", str(args.cores),
            "--configfile", CONFIGS / f"{study}.yaml",
        ]  # fmt: skip
        if status := subprocess.run(command, check=False).returncode:
            return status
    try:
        gather(studies, args.results, args.out)
    except FileNotFoundError as error:
        print(f"{error.filename} is missing: train the study first (make study).", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
