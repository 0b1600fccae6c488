"""Published weights: what there is, what is here, and how to bring it here.

  recaffe weights list                 each net's file, size, digest and licence, and whether it is here
  recaffe weights where NET            the file's path in the cache; status 1 if it isn't there
  recaffe weights fetch NET …          fetch it into the cache and check it
  recaffe weights add NET FILE         put a file that was fetched elsewhere into the cache
  recaffe weights verify [NET …]       read cached files again and compare their digests

NET is a folder of models/, or a URL that a config names as `weights`. The cache is $RECAFFE_WEIGHTS,
else recaffe/weights in $XDG_CACHE_HOME or ~/.cache. RECAFFE_MIRRORS lists URLs or folders that are
looked into first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recaffe.weights.cache import Note
    from recaffe.weights.source import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's own subcommands."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="what was published, and what is here")
    for name, about, count in (
        ("where", "the path in the cache", None),
        ("fetch", "fetch into the cache", "+"),
        ("add", "put a file into the cache", None),
        ("verify", "read the cache again", "*"),
    ):
        action = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
        if count:
            action.add_argument("nets", metavar="NET", nargs=count)
        else:
            action.add_argument("net", metavar="NET")
        if name == "add":
            action.add_argument("file", metavar="FILE", type=Path)
            action.add_argument(
                "--unverified", action="store_true", help="take it though its digest is another one"
            )
        action.add_argument(
            "--sha256", default="", help="the digest of a URL's file, as in the config"
        )


def main(args: argparse.Namespace) -> int:
    """0; 1 if what was asked for isn't there or isn't as it was."""
    if args.action == "list":
        return _list()
    nets = args.nets if args.action in ("fetch", "verify") else [args.net]
    sources = [_source(net, args.sha256) for net in nets]
    if args.action == "where":
        return _where(sources[0])
    if args.action == "add":
        return _add(sources[0], args.file, args.unverified)
    return _fetch(sources) if args.action == "fetch" else _verify(sources)


def _source(name: str, sha256: str) -> Source:
    from recaffe.weights import source

    return source.of_url(name, sha256) if source.is_url(name) else source.of_net(name)


def _list() -> int:
    from recaffe import config
    from recaffe.weights import cache, source

    rows = [("net", "file", "MB", "licence", "here", "digest")]
    for card in sorted(config.MODELS.glob("*/model.yaml")):
        net = card.parent.name
        about = config.model_card(net)
        if "published" not in about:
            rows.append((net, "none published", "", "", "", ""))
            continue
        known = source.of_net(net)
        note = cache.note_of(cache.path_of(known))
        here = (
            "no"
            if note is None
            else "in the cache"
            if note.verified
            else "in the cache, unverified"
        )
        if "weights" in about:
            here = f"{here}; `zoo` takes the package {about['weights']['package']}"
        size = f"{known.size / 1e6:.0f}" if known.size else "?"
        rows.append((net, known.file, size, known.licence, here, known.digest or "none published"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    print(f"\nThe cache is {cache.folder()}.")
    return 0


def _where(source: Source) -> int:
    from recaffe.weights import cache

    print(cache.path_of(source))
    if cache.note_of(cache.path_of(source)):
        return 0
    print(
        f"recaffe: it isn't there; `recaffe weights fetch {source.name}` fetches it.",
        file=sys.stderr,
    )
    return 1


def _add(source: Source, file: Path, unverified: bool) -> int:
    from recaffe.weights import cache

    note = cache.add(source, file, str(file.absolute()), unverified=unverified)
    print(cache.path_of(source))
    _warn(source, note)
    return 0


def _warn(source: Source, note: Note) -> None:
    if not note.verified:
        print(
            f"recaffe: {source.file} is in the cache unverified: its SHA-256 is {note.sha256}.",
            file=sys.stderr,
        )


def _fetch(sources: list[Source]) -> int:
    from recaffe.weights import fetch

    for source in sources:
        path, note = fetch.get(source)
        print(path)
        _warn(source, note)
    return 0


def _verify(sources: list[Source]) -> int:
    from recaffe.weights import cache

    files = [cache.path_of(source) for source in sources] or cache.kept()
    wrong = 0
    for file in files:
        problem = cache.problem(file)
        note = cache.note_of(file)
        fine = "as published" if note and note.verified else "as it came, unverified"
        print(f"{problem}. Remove it, and it is fetched again." if problem else f"{file}: {fine}")
        wrong += bool(problem)
    print(f"{cache.folder()}: {len(files)} read, {wrong or 'none'} wrong", file=sys.stderr)
    return int(wrong > 0)
