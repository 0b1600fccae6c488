"""The demonstration's promise: fine-tuning reaches 0.88 and beats all three baselines."""

import json
import sys
from pathlib import Path


def main(folder: Path) -> int:
    """Exit status 1 with the failed promise if one doesn't hold."""
    tuned = json.loads((folder / "finetune" / "metrics.json").read_text())
    scratch = json.loads((folder / "scratch" / "metrics.json").read_text())
    linear = json.loads((folder / "finetune" / "linear.json").read_text())
    floor = {
        "0.88": 0.88,
        "majority": tuned["majority"],
        "scratch": scratch["top1"],
        "linear": linear["top1"],
    }
    failed = {name: value for name, value in floor.items() if tuned["top1"] < value}
    for name, value in failed.items():
        print(f"fine-tuned {tuned['top1']:.4f} is below {name} ({value:.4f})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
