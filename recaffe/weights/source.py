"""Where a caffemodel was published, and by what it is known."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from recaffe import config
from recaffe.errors import ConfigError

MIRRORS = "RECAFFE_MIRRORS"
HASHES = ("sha256", "sha1", "sha384")
_SCHEMES = ("http", "https", "file")


@dataclass(frozen=True)
class Source:
    """A published file. `name` is the zoo's net or the URL; what isn't known is empty or 0."""

    name: str
    file: str
    urls: tuple[str, ...]
    page: str = ""
    size: int = 0
    sha256: str = ""
    sha384: str = ""
    sha1: str = ""
    licence: str = ""

    @property
    def hashes(self) -> dict[str, str]:
        """The digests that are known, by kind; what a person compares by hand comes first."""
        return {kind: found for kind in HASHES if (found := getattr(self, kind))}

    @property
    def hash(self) -> str:
        """One of them with its kind, such as `sha256-…`; empty if none is known."""
        return next((f"{kind}-{found}" for kind, found in self.hashes.items()), "")

    @property
    def digest(self) -> str:
        """The same in words."""
        return next((f"{kind_name(k)} {found}" for k, found in self.hashes.items()), "")

    @property
    def key(self) -> str:
        """Names the file among all others: by its content if that is known, else by its place."""
        return self.hash or f"url-{_digest(self.urls[0])[:16]}"

    @property
    def slug(self) -> str:
        """A name for files that are made from it."""
        if not is_url(self.name):
            return self.name
        stem = re.sub(r"(\.caffemodel)?(\.h5)?$", "", self.file)
        return f"{stem}-{_digest(self.name + self.sha256)[:8]}"

    @property
    def mirrored(self) -> bool:
        """Whether mirrors are asked: any file could have the name of a URL without a digest."""
        return bool(self.hash) or not is_url(self.name)

    @property
    def places(self) -> list[str]:
        """All URLs to try, in turn: the site's own mirrors first.

        A mirror is asked for a file's name.
        """
        own = [f"{base}/{quote(self.file)}" for base in mirrors()] if self.mirrored else []
        return list(dict.fromkeys([*own, *self.urls]))


def kind_name(kind: str) -> str:
    """`sha256` as people write it."""
    return kind.upper().replace("SHA", "SHA-")


def is_url(text: str) -> bool:
    """Whether the config's `weights` is a URL, and no path."""
    return "://" in text


def of_net(net: str) -> Source:
    """The zoo's entry of a net; raises `ConfigError` if there is none."""
    said = config.model_card(net).get("published")
    if not said:
        raise ConfigError(
            f"No weights of {net!r} were published that recaffe knows of. `recaffe weights list` shows "
            "the nets that have some; others want the path or URL of a .caffemodel."
        )
    known = {k: said[k] for k in ("file", "page", "size", *HASHES, "licence") if k in said}
    return Source(name=net, urls=tuple(said["urls"]), **known)


def of_url(url: str, sha256: str = "") -> Source:
    """Weights at a URL; `sha256` may be empty. Raises `ConfigError` for a URL that can't be fetched."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that isn't closed
        parts = urlsplit("")
    if parts.scheme not in _SCHEMES or not parts.path.strip("/"):
        raise ConfigError(
            f"weights: {url} is no URL of a file; allowed are {', '.join(f'{s}://…' for s in _SCHEMES)}."
        )
    if not re.fullmatch(r"([0-9a-f]{64})?", sha256):
        raise ConfigError(f"{sha256!r} is no SHA-256, which has 64 digits of 0 to 9 and a to f.")
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(unquote(parts.path)).name).lstrip(".")
    return Source(name=url, file=name or "weights.caffemodel", urls=(url,), sha256=sha256)


def of_run(run: Mapping[str, Any]) -> Source | None:
    """What a run of the config wants fetched; None for a package's, a local file or no weights."""
    choice = run["weights"]
    if is_url(choice):
        return of_url(choice, run["weights_sha256"])
    if choice == "zoo" and "weights" not in config.model_card(run["net"]):
        return of_net(run["net"])
    return None


def mirrors() -> list[str]:
    """The base URLs in RECAFFE_MIRRORS, separated by white space; a folder's path is one as well."""
    found = []
    for word in os.environ.get(MIRRORS, "").split():
        found.append((word if is_url(word) else Path(word).absolute().as_uri()).rstrip("/"))
    return found


def local_folders(sources: Iterable[Source]) -> list[Path]:
    """Folders of this machine in which sources are looked for: a container must see them."""
    found = [urlsplit(place) for source in sources for place in source.places]
    files = [Path(url2pathname(parts.path)) for parts in found if parts.scheme == "file"]
    return [p for p in dict.fromkeys(f.parent for f in files) if p.is_dir()]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
