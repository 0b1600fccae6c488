"""The picture sets that the config's `images.package` may name.

Each module has PACKAGE, VERSION and SHA256 of the file; `fetch(package, version, digest, out)`, which
gets it from its registry; and `unpack(file, out)`, which writes `out`/pictures.csv and what that names.
"""

from __future__ import annotations

from types import ModuleType

from recaffe.packages import elpv, fashion_mnist, openclipart

SETS: dict[str, ModuleType] = {
    "elpv": elpv,
    "fashion_mnist": fashion_mnist,
    "openclipart": openclipart,
}
