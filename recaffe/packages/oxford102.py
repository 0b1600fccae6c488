"""Oxford-102 flowers, as downloaded, to a table that the config's `images` names.

    python -m recaffe.packages.oxford102 FOLDER

FOLDER holds imagelabels.mat, setid.mat and jpg/ (image_00001.jpg …), as the Visual Geometry Group
publishes them. The official split has 1,020 pictures to train, 1,020 to validate, 6,149 to test;
with train and test swapped, as some publish, it is another task.
Nilsback and Zisserman, "Automated flower classification over a large number of classes", 2008.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from recaffe.errors import DataError, RecaffeError
from recaffe.files import write_text

TABLE = "pictures.csv"
_SETS = {"train": "trnid", "val": "valid", "test": "tstid"}


def write_table(folder: Path) -> dict[str, int]:
    """Write FOLDER/pictures.csv (path, label, split); returns the number of pictures of each set.

    Raises `DataError` if a file is missing or isn't what is published.
    """
    labels = _numbers(folder / "imagelabels.mat", "labels")
    rows, counts, seen = ["path,label,split"], {}, np.zeros(len(labels), int)
    for split, name in _SETS.items():
        numbers = _numbers(folder / "setid.mat", name)
        if numbers.size and not (numbers.min() >= 1 and numbers.max() <= len(labels)):
            raise DataError(
                f"{folder / 'setid.mat'}: {name} names picture {numbers.max()}, and imagelabels.mat has "
                f"{len(labels)} labels. Download both again."
            )
        np.add.at(seen, numbers - 1, 1)
        counts[split] = len(numbers)
        # Three digits, so that the order of the names is the order of the published numbers.
        rows += [f"jpg/image_{n:05d}.jpg,{labels[n - 1]:03d},{split}" for n in sorted(numbers)]
    if (seen > 1).any():
        twice = int(seen.argmax()) + 1
        raise DataError(
            f"{folder / 'setid.mat'} has picture {twice} in two sets. Download it again."
        )
    if not (folder / "jpg").is_dir():
        raise DataError(f"There is no {folder / 'jpg'}. Unpack 102flowers.tgz there.")
    write_text(folder / TABLE, "\n".join(rows) + "\n")
    return counts


def _numbers(file: Path, name: str) -> np.ndarray:
    try:
        with file.open("rb") as f:
            return np.asarray(loadmat(f)[name], dtype=int).ravel()
    except FileNotFoundError as error:
        raise DataError(f"There is no {file}. Download it from the data set's page.") from error
    except Exception as error:  # scipy's reader raises almost anything on a broken file
        raise DataError(f"{file} isn't MATLAB's file with `{name}`: {error}.") from error


def main() -> int:
    """The command: 0, or 1 after a message."""
    if len(sys.argv) != 2:
        print("usage: python -m recaffe.packages.oxford102 FOLDER", file=sys.stderr)
        return 2
    try:
        counts = write_table(Path(sys.argv[1]))
    except RecaffeError as error:
        print(f"recaffe: {error}", file=sys.stderr)
        return 1
    print(f"{sys.argv[1]}/{TABLE}: {', '.join(f'{n} {split}' for split, n in counts.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
