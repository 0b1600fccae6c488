"""Write envs/recaffe.yaml from constraints.txt: the same versions for conda's users."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
# What only developers and `recaffe convert` need doesn't belong in a job's environment.
DEVELOPERS = (
    "atheris",
    "flatbuffers",
    "grpcio",
    "hypothesis",
    "ml_dtypes",
    "mypy",
    "onnx",
    "pandas-stubs",
    "pytest",
    "ruff",
    "safetensors",
    "snakefmt",
    "types-",
)


def environment() -> str:
    """The text of envs/recaffe.yaml."""
    lines = (HERE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [x for x in lines if x and x[0] != "#" and not x.lower().startswith(DEVELOPERS)]
    return (
        "# Made from constraints.txt by `make envs`; change versions there.\n"
        "channels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n"
        + "".join(f"      - {pin}\n" for pin in pins)
    )


if __name__ == "__main__":
    (HERE / "recaffe.yaml").write_text(environment(), encoding="utf-8")
