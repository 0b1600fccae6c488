"""Places of the nodes of a directed graph in ranks, for drawing.

Source: Sugiyama, Tagawa and Toda (1981): ranks by longest path, a waypoint where an edge passes a
rank, an order in each rank that crosses few edges, then coordinates that keep edges straight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
GAP = 18.0  # between neighbours in a rank
STRAIGHT = 8.0  # how much a waypoint weighs against a node, so that long edges don't wind


@dataclass
class Layout:
    """`across[i]` is node i's middle along its rank, `rank[i]` its rank's number, and `paths[e]`
    the (rank, place along it) of edge e's waypoints."""

    across: list[float]
    rank: list[int]
    paths: list[list[tuple[int, float]]]


def layout(sizes: Sequence[float], edges: Sequence[tuple[int, int, str]]) -> Layout:
    """Lay out nodes of these extents along their ranks.

    Each edge goes from a lower index to a higher one, as layers of a net do. Edges with the same
    source and the same text (their blob) share their way until they part.
    """
    rank = [0] * len(sizes)
    for a, b, _ in sorted(edges, key=lambda e: e[1]):
        rank[b] = max(rank[b], rank[a] + 1)
    _lower_sources(rank, edges)
    extent, level = list(sizes), list(rank)
    waypoints: dict[tuple[int, str, int], int] = {}
    links: set[tuple[int, int]] = set()
    chains: list[list[int]] = []
    for a, b, blob in edges:
        chain = []
        for r in range(rank[a] + 1, rank[b]):
            if (a, blob, r) not in waypoints:
                waypoints[a, blob, r] = len(extent)
                extent.append(4.0)
                level.append(r)
            chain.append(waypoints[a, blob, r])
        chains.append(chain)
        links.update(pairwise([a, *chain, b]))
    above: list[list[int]] = [[] for _ in extent]
    below: list[list[int]] = [[] for _ in extent]
    for a, b in sorted(links):
        above[b].append(a)
        below[a].append(b)
    rows: list[list[int]] = [[] for _ in range(max(level, default=-1) + 1)]
    for node, r in enumerate(level):
        rows[r].append(node)
    _order(rows, above, below)
    across = _coordinates(rows, above, below, extent, len(sizes))
    paths = [[(level[n], across[n]) for n in chain] for chain in chains]
    return Layout(across[: len(sizes)], rank, paths)


def _lower_sources(rank: list[int], edges: Sequence[tuple[int, int, str]]) -> None:
    """Put a node without a bottom right above its first reader, unless that is the net's start."""
    targets = {b for _, b, _ in edges}
    for node in range(len(rank)):
        readers = [rank[b] for a, b, _ in edges if a == node]
        if node not in targets and readers:
            rank[node] = min(readers) - 1


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    best, fewest = [list(r) for r in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for row in rows if down else reversed(rows):
            place = {n: i for r in rows for i, n in enumerate(r)}
            centre = {
                n: sum(place[m] for m in near[n]) / len(near[n]) if near[n] else place[n]
                for n in row
            }
            row.sort(key=lambda n: centre[n])
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(r) for r in rows], crossings
    rows[:] = best


def _crossings(rows: list[list[int]], below: list[list[int]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        place = {n: i for i, n in enumerate(lower)}
        ends = [place[m] for n in upper for m in sorted(below[n], key=place.__getitem__)]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _coordinates(
    rows: list[list[int]],
    above: list[list[int]],
    below: list[list[int]],
    extent: list[float],
    nodes: int,
) -> list[float]:
    across = [0.0] * len(extent)
    for row in rows:
        edge = -sum(extent[n] + GAP for n in row) / 2
        for n in row:
            across[n] = edge + extent[n] / 2
            edge += extent[n] + GAP
    for sweep in range(4 * SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for row in rows if down else reversed(rows):
            wanted = [
                sum(across[m] for m in near[n]) / len(near[n]) if near[n] else across[n]
                for n in row
            ]
            weight = [STRAIGHT if n >= nodes else 1.0 for n in row]
            apart = [(extent[a] + extent[b]) / 2 + GAP for a, b in pairwise(row)]
            for n, x in zip(row, _spread(wanted, weight, apart), strict=True):
                across[n] = x
    return across


def _spread(wanted: list[float], weight: list[float], apart: list[float]) -> list[float]:
    """The places nearest to `wanted` (least squares) that are at least `apart` from each other.

    Less the room that the ones before need, that is isotonic regression: pool adjacent violators.
    """
    before = [0.0]
    for gap in apart:
        before.append(before[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for x, w, room in zip(wanted, weight, before, strict=False):
        mean, total, size = x - room, w, 1
        while pools and pools[-1][0] > mean:
            m, t, s = pools.pop()
            mean, total, size = (mean * total + m * t) / (total + t), total + t, size + s
        pools.append((mean, total, size))
    means = [mean for mean, _, size in pools for _ in range(size)]
    return [m + room for m, room in zip(means, before, strict=False)]
