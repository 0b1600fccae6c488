"""python -m bench.gpu [--nets alexnet vgg16 …] [--precisions bf16 …] [--runs 3]: see bench/README.md.

`--device cpu --quick` tries everything but the card itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gpu import card, rows
from bench.gpu.files import Files, Length
from bench.gpu.nets import NETS
from bench.gpu.programs import Programs, Setting
from bench.measure import Row, machine, store
from recaffe.config import ROOT
from recaffe.engines.caffe import find
from recaffe.engines.torch.devices import pick_device
from recaffe.errors import MachineError, RecaffeError

OUT = Path(__file__).parents[1] / "results" / "gpu.csv"
PRECISIONS = ("fp32", "tf32", "bf16")
TRY = "(All but the card can be tried without one: make bench-gpu BENCH='--device cpu --quick'.)"
NO_CAFFE = (
    "NO ROWS OF REAL CAFFE: there is neither CAFFE_CUDA_HOME nor .caffe/install-cuda. `make caffe-cuda` "
    "builds it; then run this again."
)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The flags, with what `--quick` stands for filled in."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …, or cpu for a try (cuda)")
    parser.add_argument("--nets", nargs="+", choices=NETS, help="alexnet vgg16 resnet50")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help=" ".join(PRECISIONS))
    parser.add_argument("--channels-last", nargs="+", choices=("no", "yes"), help="no yes")
    parser.add_argument("--compile", nargs="+", choices=("no", "yes"), help="no yes")
    parser.add_argument("--batch", type=int, help="pictures (256 AlexNet, 64 the others)")
    parser.add_argument("--runs", type=int, help="processes of each way (3)")
    parser.add_argument("--quick", action="store_true", help="a small net and few steps, as a try")
    parser.add_argument(
        "--out", type=Path, help="table (bench/results/gpu.csv, but for a try none)"
    )
    parser.add_argument("--work", type=Path, help="folder for nets and LMDBs (a temporary one)")
    args = parser.parse_args(words)
    quick = args.quick
    args.nets = args.nets or (["squeezenet_v1.1"] if quick else ["alexnet", "vgg16", "resnet50"])
    args.precisions = args.precisions or (["fp32", "bf16"] if quick else list(PRECISIONS))
    args.channels_last = args.channels_last or (["yes"] if quick else ["no", "yes"])
    args.compile = args.compile or ["no", "yes"]
    args.batch = args.batch or (2 if quick else None)
    args.runs = args.runs or (1 if quick else 3)
    if not quick and args.device != "cpu":
        args.out = args.out or OUT
    return args


def settings(args: argparse.Namespace) -> list[Setting]:
    """All that are asked for; compiled ones, which take long to begin, at the end."""
    return [
        Setting(precision, layout == "yes", compiled == "yes")
        for compiled in args.compile
        for precision in args.precisions
        for layout in args.channels_last
    ]


def caffe_for(device: str) -> find.Caffe | None:
    """Real Caffe for the device: CAFFE_CUDA_HOME or .caffe/install-cuda, for the CPU what `find` finds.

    None where there is none; raises `MachineError` for one that isn't built for GPUs.
    """
    home = os.environ.get("CAFFE_CUDA_HOME") or str(ROOT / ".caffe" / "install-cuda")
    if device != "cpu":
        if "CAFFE_CUDA_HOME" not in os.environ and not Path(home).is_dir():
            return None
        os.environ["CAFFE_HOME"] = home  # where `find` looks first
    try:
        found = find.find()
    except MachineError:
        if device == "cpu":
            return None
        raise
    if device != "cpu" and not found.cuda:
        raise MachineError(
            f"The Caffe in {home} isn't built for GPUs. `make caffe-cuda` builds one."
        )
    return found


def table(
    args: argparse.Namespace, programs: Programs, work: Path, failed: list[str]
) -> Iterator[Row]:
    """All rows; what fails (for lack of memory, perhaps) is named in `failed` and passed over."""
    length = Length(2, 2) if args.quick else Length()
    for name in args.nets:
        batch = args.batch or NETS[name].batch
        files = Files(work, name, batch, length, args.device != "cpu")
        caffe: tuple[list[float], str] = [], ""
        fastest: list[float] = []
        with _passing_over(f"{name} beside Caffe", failed):
            caffe = rows.of_caffe(files, programs, args.runs)
        for setting in settings(args):
            with _passing_over(f"{name}, {setting}", failed):
                for row in rows.of_setting(files, setting, programs, args.runs, caffe):
                    fastest += row.ours if row.stage.endswith(": synthetic") else []
                    yield row
        if fastest:
            with _passing_over(f"{name}'s data layer alone", failed):
                yield rows.of_feed(files, programs, args.runs, min(fastest))


@contextmanager
def _passing_over(what: str, failed: list[str]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        failed.append(what)
        print(f"FAILED: {what}: {error}", file=sys.stderr, flush=True)


def main() -> int:
    """Print each row as it is there, and store the table after each; 1 if something failed."""
    args = arguments()
    try:
        args.device = str(pick_device(args.device))
        programs = Programs(args.device, caffe_for(args.device))
    except RecaffeError as error:
        sys.exit(f"bench-gpu: {error} {TRY}")
    about = {**machine(), **card.about(args.device), "caffe": _facts(programs.caffe)}
    for name, value in about.items():
        print(f"{name}: {value}", flush=True)
    warn = NO_CAFFE if programs.caffe is None else ""
    print(warn, file=sys.stderr)
    made: list[Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="recaffe-bench-") as folder:
        for row in table(args, programs, args.work or Path(folder), failed):
            made.append(row)
            print(row.line(), flush=True)
            if args.out is not None:
                store(args.out, made, about)
    print(warn, file=sys.stderr)
    if failed:
        print(f"bench-gpu: no rows of {'; '.join(failed)}: see above.", file=sys.stderr)
    return 1 if failed else 0


def _facts(found: find.Caffe | None) -> str:
    """What its build.json says."""
    if found is None:
        return "none"
    file = found.program.parents[1] / "build.json"
    facts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    said = (f"{key} {facts[key] or 'none'}" for key in ("version", "cuda", "cudnn") if key in facts)
    return ", ".join(said) or str(found.program)


if __name__ == "__main__":
    sys.exit(main())
