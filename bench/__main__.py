"""python -m bench [STAGE …] [--runs 5] [--quick] [--out bench/results/cpu.csv]: see bench/README.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import data, data_layer, layers, memory, startup, training, whole
from bench.measure import Row, machine, store
from recaffe.engines.caffe import find

HERE = Path(__file__).parent


def main() -> int:
    """Print each row as it is there; the table is stored after each, so that an end loses nothing."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument(
        "stages", nargs="*", help="start data memory datalayer layers train whole (all)"
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each of the two (5)")
    parser.add_argument(
        "--quick", action="store_true", help="small inputs, to try the bench itself"
    )
    parser.add_argument("--nets", nargs="*", help="of the training steps, these alone")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "cpu.csv")
    parser.add_argument("--work", type=Path, help="folder for pictures and LMDBs (a temporary one)")
    args = parser.parse_args()
    caffe = find.find().program.parents[1]
    recaffe = Path(sys.executable).with_name("recaffe")
    stages: dict[str, Callable[[Path], Iterator[Row]]] = {
        "start": lambda work: startup.rows(recaffe, args.runs),
        "data": lambda work: data.rows(work, caffe, args.runs, args.quick),
        "memory": lambda work: memory.rows(work, args.quick, args.out.with_name("memory.csv")),
        "datalayer": lambda work: data_layer.rows(args.runs, args.quick),
        "layers": lambda work: layers.rows(
            work, caffe, recaffe, args.runs, args.quick, args.out.with_name("layers.csv")
        ),
        "train": lambda work: training.rows(work, caffe, recaffe, args.runs, args.quick, args.nets),
        "whole": lambda work: whole.rows(work, caffe, args.runs, args.quick),
    }
    if unknown := set(args.stages) - set(stages):
        parser.error(f"no such stage: {', '.join(unknown)}; there are {', '.join(stages)}")
    about, rows = machine(), []
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"{'stage':44} {'ours, s':>9} {'other, s':>9} {'ratio':>7}")
    with tempfile.TemporaryDirectory(prefix="recaffe-bench-") as folder:
        work = args.work or Path(folder)
        for name in args.stages or stages:
            for row in stages[name](work):
                rows.append(row)
                print(row.line(), flush=True)
                store(args.out, rows, about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
