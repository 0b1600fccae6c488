"""ELPV: 2,624 electroluminescence photographs of solar cells, labelled by defect probability.

Buerhop-Lutz et al., "A benchmark for visual identification of defective solar cells in
electroluminescence imagery", 2018; CC-BY-NC-SA-4.0. The four classes are those cells whose
experts agreed (probability 0 or 1), by crystal type: 2,223 pictures.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from recaffe.errors import DataError
from recaffe.files import write_aside, write_text
from recaffe.packages import fetch as pip

PACKAGE, VERSION = "elpv-dataset", "1.0.0.post1"
SHA256 = "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c"
fetch = pip.fetch
_FOLDER = "elpv_dataset/data/"


def unpack(wheel: Path, out: Path) -> int:
    """Unpack pictures into `out`/images and their labels into `out`/pictures.csv.

    Returns the number of pictures; raises `DataError` if the wheel isn't laid out as known.
    """
    with zipfile.ZipFile(wheel) as archive, write_aside(out) as aside:
        try:
            labels = archive.read(_FOLDER + "labels.csv").decode("utf-8")
        except KeyError as error:
            raise DataError(f"{wheel} holds no {_FOLDER}labels.csv.") from error
        images = aside / "images"
        images.mkdir(parents=True)
        lines = ["path,label"]
        for line in labels.splitlines():
            path, probability, kind = line.split()
            if float(probability) in (0.0, 1.0):
                state = "defect" if float(probability) else "ok"
                # Only the base name: an archive must not choose where its files go.
                name = Path(path).name
                (images / name).write_bytes(archive.read(_FOLDER + path))
                lines.append(f"images/{name},{kind}_{state}")
        write_text(aside / "pictures.csv", "\n".join(lines) + "\n")
    return len(lines) - 1
