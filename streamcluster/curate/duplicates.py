"""Near-duplicates: which pictures of a collection are one picture, saved, shrunk, cropped, framed or lit in other ways.

    thumbnails ─views─▶ codes ─cells─▶ a few neighbours each ─compare─▶ links ─components─▶ groups around their best

Codes find candidates, comparing decides. Pictures without a structure, plain or nearly black, are told apart by their
bytes alone. A picture that looks like another is a candidate of its too, so each is looked up by its own views only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.curate.compare import differences
from streamcluster.curate.groups import Rows, Standing, group_rows, same_content
from streamcluster.curate.search import Cells, encode, nearest, sort_into_cells
from streamcluster.curate.views import (
    MIDDLE,
    N_NUMBERS,
    SIDE,
    VIEW_SIDE,
    VIEWS,
    View,
    chroma_of,
    describe,
    halved,
    luma_of,
)
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.memory import MIB
from streamcluster.runtime.progress import Progress
from streamcluster.runtime.scratch import ScratchRows


@dataclass(frozen=True, slots=True)
class Way:
    """A way to find what may be the same picture: by views, the first of which is a picture's code.

    A picture has `n_nearest` neighbours at most whose code correlates by `least` or more with one of its views.
    """

    name: str
    views: tuple[View, ...]
    n_nearest: int
    least: float


#: By the whole of the others, and by their middle, since a caption may cover too much of the whole.
WAYS: Final = (Way("neighbours", VIEWS, 8, 0.88), Way("captions", MIDDLE, 2, 0.95))
#: Times the threshold that a picture may differ from the best of its group.
GROUP_SLACK: Final = 2.0

_LUMA_BYTES: Final = SIDE**2
_CHROMA_BYTES: Final = 2 * VIEW_SIDE**2
#: Pictures of which views are made at a time, rows that are looked up at a time, pairs that are compared at a time.
_VIEW_ROWS, _SEARCH_ROWS, _PAIRS = 64, 1024, 512
#: What a task takes at most, as a test measures it, twice: the allocator keeps what was freed.
TASK_BYTES: Final = 72 * MIB
#: What grows with the collection: codes, twice while they are sorted, neighbours, ranks, leads, groups, digests.
ROW_BYTES: Final = (1 + len(WAYS)) * N_NUMBERS + 4 * sum(way.n_nearest for way in WAYS) + 96


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is to be looked through.

    Attributes
    ----------
    blocks : sequence of slice
        Tiles of all rows, in order.
    thumbnails : callable
        Gives the uint8 (m, S, S, 3) RGB thumbnails of a block, in any thread.
    live : bool (n,)
        Rows that take part.
    digests : uint8 (n, 32)
    standing : Standing
        What decides which is kept.
    """

    blocks: Sequence[slice]
    thumbnails: Callable[[slice], NDArray[np.uint8]]
    live: NDArray[np.bool_]
    digests: NDArray[np.uint8]
    standing: Standing


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What belongs together.

    Attributes
    ----------
    kept : int32 (n,)
        The best row of each row's group; of a row that is alone, or takes no part, itself.
    difference : float32 (n,)
        How much a row differs from that, in units of the limits: 0 for the same bytes, at most the threshold where the
        two are linked, up to `GROUP_SLACK` times as much where others of the group lie between.
    """

    kept: Rows
    difference: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Looks:
    """What a block's pictures look like: codes by each way, and rows for the scratch file."""

    codes: NDArray[np.int8]
    rows: NDArray[np.uint8]


def find_duplicates(
    pictures: Pictures, *, threshold: float, seed: int, executor: Executor, progress: Progress
) -> Duplicates:
    """Group the live pictures that are one picture.

    Parameters
    ----------
    pictures : Pictures
    threshold : float
        How much linked pictures differ at most, where 1 is at the measured limits; 0 finds the same bytes only.
    seed : int
    executor : Executor
    progress : Progress

    Raises
    ------
    ScratchError
        The disk for temporary files refused a write.
    Interrupted
        `progress` was asked to stop.
    """
    ranks = pictures.standing.ranks()
    rows = np.flatnonzero(pictures.live).astype(np.int32)
    same = np.arange(len(ranks), dtype=np.int32)
    same[rows] = same_content(pictures.digests[rows], rows, ranks)
    if threshold == 0:
        return Duplicates(same, np.zeros(len(same), np.float32))
    with ExitStack() as stack:
        scratch = stack.enter_context(ScratchRows(_LUMA_BYTES + _CHROMA_BYTES))
        codes = _look(pictures, scratch, executor, progress)
        active = pictures.live & (same == np.arange(len(same))) & codes[0].any(axis=1)
        searches = [
            _search(way, code, active, scratch, seed, executor, progress) for way, code in zip(WAYS, codes, strict=True)
        ]
        neighbours = np.concatenate(searches, axis=1)
        del codes, searches
        with progress.stage("compare", None, "pairs"):
            measure = _Measuring(scratch, GROUP_SLACK * threshold, executor, progress)
            kept, difference = group_rows(active, neighbours, ranks, (threshold, GROUP_SLACK * threshold), measure)
    return Duplicates(kept[same], difference[same])


def _look(pictures: Pictures, scratch: ScratchRows, executor: Executor, progress: Progress) -> NDArray[np.int8]:
    """Return int8 (len(WAYS), n, N_NUMBERS): the codes of all rows; luma and chroma go to the scratch file."""
    n_rows = len(pictures.live)
    codes = np.empty((len(WAYS), n_rows, N_NUMBERS), np.int8)
    with progress.stage("views", n_rows):
        looks = executor.map(lambda block: _looks_of(pictures.thumbnails(block)), pictures.blocks)
        for block, look in zip(pictures.blocks, looks, strict=True):
            codes[:, block] = look.codes
            scratch.append(look.rows)
            progress.advance_or_stop(len(look.rows))
    return codes


def _looks_of(thumbnails: NDArray[np.uint8]) -> _Looks:
    codes = np.empty((len(WAYS), len(thumbnails), N_NUMBERS), np.int8)
    rows = np.empty((len(thumbnails), _LUMA_BYTES + _CHROMA_BYTES), np.uint8)
    for tile in tile_rows(len(thumbnails), _VIEW_ROWS):
        luma, chroma = luma_of(thumbnails[tile]), chroma_of(thumbnails[tile])
        half = halved(luma.astype(np.float32))
        for code, way in zip(codes, WAYS, strict=True):
            code[tile] = encode(describe(half, way.views[:1])[:, 0])
        rows[tile, :_LUMA_BYTES] = luma.reshape(len(luma), -1)
        rows[tile, _LUMA_BYTES:] = chroma.reshape(len(chroma), -1).view(np.uint8)
    return _Looks(codes, rows)


def _search(
    way: Way,
    codes: NDArray[np.int8],
    active: NDArray[np.bool_],
    scratch: ScratchRows,
    seed: int,
    executor: Executor,
    progress: Progress,
) -> Rows:
    """Return int32 (n, k): rows that may be the same picture, the likest first, then -1."""
    neighbours = np.full((len(codes), way.n_nearest), -1, np.int32)
    rows = np.flatnonzero(active).astype(np.int32)
    if not len(rows):
        return neighbours
    cells = sort_into_cells(codes, rows, np.random.default_rng(seed))
    with progress.stage(way.name, len(rows)):
        tiles = [rows[tile] for tile in tile_rows(len(rows), _SEARCH_ROWS)]
        found = executor.map(lambda tile: _nearest_to(tile, way, scratch, cells), tiles)
        for tile, near in zip(tiles, found, strict=True):
            neighbours[tile] = near
            progress.advance_or_stop(len(tile))
    return neighbours


def _nearest_to(rows: Rows, way: Way, scratch: ScratchRows, cells: Cells) -> Rows:
    luma, _ = _unpacked(scratch.read(rows))
    views = np.concatenate(
        [describe(halved(luma[tile].astype(np.float32)), way.views) for tile in tile_rows(len(rows), _VIEW_ROWS)]
    )
    return nearest(views, rows, cells, way.least, way.n_nearest)


def _unpacked(rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    luma = rows[:, :_LUMA_BYTES].reshape(len(rows), SIDE, SIDE)
    chroma = np.ascontiguousarray(rows[:, _LUMA_BYTES:]).view(np.int8)
    return luma, chroma.reshape(len(rows), 2, VIEW_SIDE, VIEW_SIDE)


class _Measuring:
    """Says how much pairs of rows differ, on the executor; of those that differ by more than enough only that."""

    def __init__(self, scratch: ScratchRows, enough: float, executor: Executor, progress: Progress) -> None:
        self._scratch = scratch
        self._enough = enough
        self._executor = executor
        self._progress = progress

    def __call__(self, one: Rows, other: Rows) -> NDArray[np.float32]:
        """Return float32 (p,)."""
        found = np.empty(len(one), np.float32)
        tiles = tile_rows(len(one), _PAIRS)
        for tile, differs in zip(tiles, self._executor.map(self._differ, self._pairs(one, other, tiles)), strict=True):
            found[tile] = differs
            self._progress.advance_or_stop(len(differs))
        return found

    @staticmethod
    def _pairs(one: Rows, other: Rows, tiles: list[slice]) -> list[tuple[Rows, Rows]]:
        return [(one[tile], other[tile]) for tile in tiles]

    def _differ(self, pairs: tuple[Rows, Rows]) -> NDArray[np.float32]:
        (luma_a, chroma_a), (luma_b, chroma_b) = (_unpacked(self._scratch.read(rows)) for rows in pairs)
        return differences(luma_a, luma_b, chroma_a, chroma_b, self._enough).largest()
