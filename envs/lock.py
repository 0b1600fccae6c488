"""Write the conda environments of the rules from constraints.txt: the same versions for conda's users.

`tools.yaml` runs every rule that no engine is needed for, `torch.yaml` those that train and test with
the torch engine, `caffe.yaml` those with the caffe engine, whose programs come by CAFFE_HOME.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = {"tools.yaml": (), "torch.yaml": ("torch",), "caffe.yaml": ()}
# What one of the environments has and the others don't.
ENGINES = ("torch",)


def key(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub("[-_.]+", "-", name).lower()


def closure(names: Iterable[str]) -> set[str]:
    """These packages and all that they need here, as installed."""
    seen: set[tuple[str, str]] = set()
    waiting = [(key(name), "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                waiting += [(key(wanted.name), e) for e in ("", *wanted.extras)]
    return {name for name, _ in seen}


def environment(extra: Iterable[str]) -> str:
    """The text of an environment for the project's dependencies, of the engines' only `extra`."""
    text = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    direct = {key(name) for name in tomllib.loads(text)["project"]["dependencies"]}
    wanted = closure(direct - set(ENGINES) | set(extra))
    lines = (HERE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {key(line.partition("==")[0]): line for line in lines if line and line[0] != "#"}
    if missing := sorted(wanted - set(pins)):
        raise SystemExit(f"constraints.txt pins no {', '.join(missing)}.")
    return (
        "# Made from constraints.txt by `make envs`; change versions there.\n"
        "channels:\n  - conda-forge\n  - nodefaults\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n"
        + "".join(f"      - {pins[name]}\n" for name in sorted(wanted))
    )


if __name__ == "__main__":
    for name, extra in ENVIRONMENTS.items():
        (HERE / name).write_text(environment(extra), encoding="utf-8")
