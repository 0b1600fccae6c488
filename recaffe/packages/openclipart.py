"""Clip art: drawings in colour, many with transparency, in folders by subject; public domain.

The Open Clip Art Library's release 0.18 as Debian draws it to PNG. Eleven subjects: those with at
least a hundred drawings of their own, but for `special` and `unsorted`, which are no subjects. A
link from one folder into another is passed over, so that each drawing counts where it is at home.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from recaffe.errors import DataError
from recaffe.files import write_aside, write_text
from recaffe.packages import debian

PACKAGE, VERSION = "openclipart-png", "1:0.18+dfsg-19"
SHA256 = "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02"
fetch = debian.fetch
CLASSES = (
    "animals", "computer", "food", "geography", "office", "people", "recreation", "shapes", "signs_and_symbols",
    "tools", "transportation",
)  # fmt: skip
_FOLDER = "usr/share/openclipart/png/"


def unpack(package: Path, out: Path) -> int:
    """Unpack the drawings to `out`/SUBJECT/… and their labels to `out`/pictures.csv (path, label).

    Returns the number of drawings; raises `DataError` if the package isn't laid out as known.
    """
    paths = []
    with write_aside(out) as aside, debian.members(package) as files:
        for name, data in files:
            path = PurePosixPath(name.removeprefix(_FOLDER))
            wanted = name.startswith(_FOLDER) and path.parts[0] in CLASSES
            # An archive must not choose where its files go.
            if wanted and ".." not in path.parts and path.suffix == ".png":
                (aside / path).parent.mkdir(parents=True, exist_ok=True)
                (aside / path).write_bytes(data)
                paths.append(path)
        if {path.parts[0] for path in paths} != set(CLASSES):
            raise DataError(f"{package} lacks subjects below {_FOLDER}.")
        rows = [f'"{path}",{path.parts[0]}' for path in sorted(paths)]
        write_text(aside / "pictures.csv", "\n".join(["path,label", *rows]) + "\n")
    return len(paths)
