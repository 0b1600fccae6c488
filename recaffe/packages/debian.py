"""Fetch one Debian package with apt, and trust nothing but its SHA-256; read files out of it."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recaffe.errors import DataError, MachineError
from recaffe.files import write_aside
from recaffe.packages.fetch import check


def fetch(package: str, version: str, digest: str, out: Path) -> None:
    """Download the package of this version to `out`; no root is needed, and nothing is installed.

    Raises `MachineError` if apt isn't here or can't fetch it, or the file is another one.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise MachineError(
            f"{package} {version} is a package of Debian, and there is no apt-get here. Fetch it on a "
            f"Debian 12 machine (apt-get download {package}) and put the file here as {out}."
        )
    with tempfile.TemporaryDirectory() as folder:
        # As root, apt would fetch as a user who can't write here, and warn.
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", f"{package}={version}"]
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        files = list(Path(folder).glob("*.deb"))
        if done.returncode or len(files) != 1:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise MachineError(
                f"{package} {version} could not be fetched with apt-get. It is of Debian 12; there, try "
                f"`apt-get update` first. apt-get said: {said[-1] if said else 'nothing'}"
            )
        check(files[0], digest)
        with write_aside(out) as aside:
            shutil.copyfile(files[0], aside)


@contextmanager
def members(package: Path) -> Iterator[Iterator[tuple[str, bytes]]]:
    """The package's regular files as (name without a leading "./", content), in its order.

    Links and folders are passed over. Raises `DataError` for a file that is no whole package.
    """
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as unpacking:
        try:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive:
                yield (
                    (item.name.removeprefix("./"), archive.extractfile(item).read())  # type: ignore[union-attr] # a regular file has content
                    for item in archive
                    if item.isreg()
                )
        except tarfile.TarError as error:
            raise DataError(
                f"{package} is no whole Debian package ({error}). Delete it and run again."
            ) from error
        finally:
            # Reading may end before the archive does.
            unpacking.kill()
