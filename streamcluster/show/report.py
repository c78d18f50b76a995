"""What a report shows of a store: groups, findings, rejects, and which of the pictures stand for them."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.errors import NoPicturesError
from streamcluster.learn.eigenimages import Eigenimages, eigenimages_of
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.paths import decode_path, printable
from streamcluster.runtime.progress import Progress
from streamcluster.show.dendrogram import group_dendrogram
from streamcluster.show.encode import (
    MEDIA_TYPE,
    PICTURE_QUALITY,
    PICTURE_SIDE,
    SHEET_TILES,
    TILE_SIDE,
    encode,
    encode_sheet,
    shrink,
)
from streamcluster.show.extremes import Group, Labelled, survey_groups
from streamcluster.show.groups import (
    MOST_SIDE,
    BlockSums,
    GroupSums,
    largest_groups,
    mean_side,
    sums_of_block,
)
from streamcluster.show.scatter import Points, first_scores, packed, sample_rows, to_grid
from streamcluster.store.collection import Collection
from streamcluster.store.findings import Findings, Kind
from streamcluster.store.fits import Fit
from streamcluster.store.table import COLUMN_ROWS, LIVE

#: Pixels of all pictures of groups: where there are more groups, each has fewer pictures, but one at least.
GROUP_PIXELS: Final = 8_000 * 64**2
#: What is shown at most: groups of duplicates, others of each; suspects; pictures of each flag; rejects.
DUPLICATE_GROUPS, OTHERS, SUSPECTS, FLAGGED, REJECTS = 60, 7, 120, 12, 200
#: Rows that are looked through at a time.
SURVEY_ROWS: Final = 32 * COLUMN_ROWS


@dataclass(frozen=True, slots=True)
class Content:
    """What the page is made of: `data` as `report.js` reads it, encoded pictures, and sheets of tiles of the map.

    `pictures` are as many as `data["pictures"]`, in that order. `figures` are pictures that no file holds: means of
    groups and eigenimages; `data` tells their places.
    """

    data: dict[str, Any]
    pictures: list[bytes]
    figures: list[bytes]
    sheets: list[bytes]


class _Shelf:
    """Gives each row that is shown its place among the pictures, in the order of asking."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    def put(self, rows: Sequence[int]) -> list[int]:
        return [self._places.setdefault(row, len(self._places)) for row in rows]

    @property
    def rows(self) -> list[int]:
        return list(self._places)


def collect(
    collection: Collection,
    fit: Fit,
    live: NDArray[np.bool_],
    per_group: int,
    executor: Executor,
    progress: Progress,
) -> Content:
    """Return what a report shows of a fit, and of what was found besides.

    Parameters
    ----------
    collection : Collection
    fit : Fit
    live : bool (N,)
        Which rows are live.
    per_group : int
        Pictures of each group, half of them central and half outlying; fewer where there are very many groups.
    executor : Executor
    progress : Progress

    Raises
    ------
    NoPicturesError
        None of the live pictures has a group.
    Interrupted
        `progress` was asked to stop.
    """
    known = {kind: collection.findings(kind) for kind in _COMMANDS}
    labels = fit.labels_of(live)
    grouped = labels >= 0
    shelf = _Shelf()
    groups = _survey(collection, fit, labels, per_group, progress)
    sizes = np.array([group.size for group in groups])
    points = _place(fit, known["map"], labels, collection.pointer.seed)
    data: dict[str, Any] = {
        "groups": _groups_data(groups, known["junk"], fit, shelf),
        "tree": _tree_data(fit, sizes),
        "duplicates": _duplicates_data(known["duplicates"], grouped, shelf),
        "suspects": _suspects_data(known["junk"], grouped, shelf),
        "flags": _flags_data(known["junk"], grouped, shelf),
        "rejects": _rejects_data(collection),
        "commands": {kind: f"{command} {_quoted(collection.root)}" for kind, command in _COMMANDS.items()},
        "ratios": fit.array("explained_variance_ratio").astype(float).tolist(),
        "fit": _fit_data(fit),
        "store": printable(collection.root),
        "live": int(live.sum()),
        "type": MEDIA_TYPE,
        "side": min(PICTURE_SIDE, collection.pointer.image_size),
    }
    sums = GroupSums(len(groups), mean_side(collection.pointer.image_size, len(groups)))
    pictures, sheets = _encode_all(collection, shelf.rows, points.rows, labels, sums, executor, progress)
    figures = _add_means(data["groups"], sums.means(sizes))
    data["eigenimages"] = _eigenimages_data(collection, fit, figures)
    data["pictures"] = _pictures_data(collection, fit, known["junk"], shelf.rows)
    data["map"] = _map_data(collection, points)
    return Content(data, pictures, figures, sheets)


#: What each kind of findings is made by.
_COMMANDS: Final[dict[Kind, str]] = {
    "duplicates": "streamcluster duplicates --store",
    "junk": "streamcluster junk --store",
    "map": "streamcluster plot plots --store",
}


def _quoted(path: str) -> str:
    return shlex.quote(printable(path))


def _finite(value: float) -> float | None:
    """Return a number as JSON has it, where NaN is no number."""
    return round(value, 5) if math.isfinite(value) else None


# --- groups


def _survey(
    collection: Collection, fit: Fit, labels: NDArray[np.int32], per_group: int, progress: Progress
) -> list[Group]:
    n_groups = len(fit.array("counts"))
    side = min(PICTURE_SIDE, collection.pointer.image_size)
    most = max(1, GROUP_PIXELS // (side**2 * n_groups))
    with progress.stage("groups", len(labels)):
        groups = survey_groups(_labelled(fit, labels, progress), n_groups, min(per_group, most))
    if not any(group.size for group in groups):
        raise NoPicturesError(
            f"{printable(collection.root)} has no picture of fit {fit.name} left; "
            f"run: streamcluster fit --store {_quoted(collection.root)}"
        )
    return groups


def _labelled(fit: Fit, labels: NDArray[np.int32], progress: Progress) -> Iterator[Labelled]:
    """Yield rows that have a group, with it and with their distance."""
    for part in tile_rows(len(labels), SURVEY_ROWS):
        at = np.flatnonzero(labels[part] >= 0)
        yield at + part.start, labels[part][at], fit.distances(part)[at]
        progress.advance_or_stop(part.stop - part.start)


def _groups_data(groups: list[Group], junk: Findings | None, fit: Fit, shelf: _Shelf) -> list[dict[str, Any]]:
    of_fit = junk is not None and junk.attributes.get("fit") == fit.name
    scores = junk.array("cluster_score").tolist() if junk is not None and of_fit else [math.nan] * len(groups)
    return [
        {
            "number": group.number,
            "size": group.size,
            "spread": _finite(group.spread),
            "junk": _finite(score),
            "central": shelf.put(group.central),
            "outlying": shelf.put(group.outlying),
        }
        for group, score in zip(groups, scores, strict=True)
    ]


def _add_means(groups: list[dict[str, Any]], means: NDArray[np.uint8]) -> list[bytes]:
    """Return the files of the means of groups that have pictures, and tell each group its place among them."""
    files: list[bytes] = []
    for group, mean in zip(groups, means, strict=True):
        group["mean"] = len(files) if group["size"] else None
        if group["size"]:
            files.append(encode(mean, PICTURE_QUALITY))
    return files


def _tree_data(fit: Fit, sizes: NDArray[np.int64]) -> dict[str, Any] | None:
    """Return Ward's tree of the largest groups, in the order of its leaves; None where there are not two to join."""
    numbers = largest_groups(sizes)
    if len(numbers) < 2:
        return None
    tree = group_dendrogram(fit.array("centers")[numbers], sizes[numbers])
    return {"groups": numbers[tree.order].tolist(), "joins": [asdict(join) for join in tree.joins]}


def _eigenimages_data(collection: Collection, fit: Fit, figures: list[bytes]) -> dict[str, Any]:
    """Return what is told of the components as pictures, and add these to the figures: none where they are none."""
    found = eigenimages_of(fit, collection.pointer.image_size)
    features = str(fit.attributes["recipe"]["features"])
    if found is None:
        return {"features": features, "others": "", "first": len(figures), "shares": []}
    data = {
        "features": features,
        "others": found.others,
        "first": len(figures),
        "shares": [round(share, 3) for share in found.shares.tolist()],
    }
    figures += [encode(picture, PICTURE_QUALITY) for picture in shrink(_all_of(found), MOST_SIDE)]
    return data


def _all_of(found: Eigenimages) -> NDArray[np.uint8]:
    return np.concatenate([found.mean[None], found.components])


def _fit_data(fit: Fit) -> dict[str, Any]:
    recipe = {str(name): str(value) for name, value in sorted(fit.attributes["recipe"].items())}
    return {
        "name": fit.name,
        "mode": fit.attributes["mode"],
        "recipe": recipe,
        "wanted": fit.attributes["recipe"]["variance"],
    }


# --- findings


def _duplicates_data(found: Findings | None, grouped: NDArray[np.bool_], shelf: _Shelf) -> dict[str, Any] | None:
    """Return the largest groups of near-duplicates among the pictures that have a group in the fit."""
    if found is None:
        return None
    kept, difference = found.array("kept"), found.array("difference")
    rows = np.arange(len(kept))
    extra = np.flatnonzero((kept != rows) & grouped[: len(kept)] & grouped[kept])
    sizes = np.bincount(kept[extra], minlength=1)
    best = np.flatnonzero(sizes)
    shown = best[np.lexsort((best, -sizes[best]))][:DUPLICATE_GROUPS]
    of_shown = extra[np.isin(kept[extra], shown)]
    return {
        "threshold": found.attributes.get("threshold"),
        "groups": len(best),
        "extra": len(extra),
        "identical": int(np.count_nonzero(difference[extra] == 0)),
        "unseen": int(np.count_nonzero(grouped[len(kept) :])),
        "shown": [_duplicate_group(int(row), of_shown[kept[of_shown] == row], difference, shelf) for row in shown],
    }


def _duplicate_group(
    best: int, others: NDArray[np.int64], difference: NDArray[np.float32], shelf: _Shelf
) -> dict[str, Any]:
    nearest = others[np.lexsort((others, difference[others]))][:OTHERS]
    return {
        "size": len(others) + 1,
        "pictures": shelf.put([best, *nearest.tolist()]),
        "differences": [_finite(float(difference[row])) for row in nearest],
    }


def _suspects_data(found: Findings | None, grouped: NDArray[np.bool_], shelf: _Shelf) -> dict[str, Any] | None:
    """Return the likeliest junk, and how many pictures pass the threshold."""
    if found is None:
        return None
    scores = found.array("score")
    scores = np.where(grouped[: len(scores)], scores, np.nan)
    scored = np.flatnonzero(~np.isnan(scores))
    threshold = float(found.attributes["threshold"])
    suspect = scored[scores[scored] > threshold]
    return {
        "threshold": _finite(threshold),
        "fit": found.attributes.get("fit"),
        "total": len(suspect),
        "scored": len(scored),
        "unseen": int(np.count_nonzero(grouped[len(scores) :])),
        "shown": shelf.put(_highest(suspect, scores[suspect], SUSPECTS)),
    }


def _highest(rows: NDArray[np.int64], values: NDArray[np.float32], n: int) -> list[int]:
    """Return the `n` rows whose values are highest, the highest first; of equal ones the lower rows.

    >>> _highest(np.array([3, 5, 7, 9]), np.array([0.5, 0.9, 0.5, 0.1], np.float32), 2)
    [5, 3]
    """
    if len(rows) > n:
        least = np.partition(values, -n)[-n]
        rows, values = rows[values >= least], values[values >= least]
    chosen: list[int] = rows[np.lexsort((rows, -values))][:n].tolist()
    return chosen


def _flags_data(found: Findings | None, grouped: NDArray[np.bool_], shelf: _Shelf) -> list[dict[str, Any]] | None:
    if found is None:
        return None
    flags = found.array("flags")
    scores = found.array("score")
    told = []
    for bit, name in enumerate(found.attributes["flag_names"]):
        rows = np.flatnonzero(((flags >> bit) & 1).astype(bool) & grouped[: len(flags)])
        shown = _highest(rows, np.nan_to_num(scores[rows], nan=-1), FLAGGED)
        told.append({"name": str(name), "total": len(rows), "shown": shelf.put(shown)})
    return told


def _rejects_data(collection: Collection) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    shown: list[tuple[str, str]] = []
    for _, path, reason, state in collection.rejects.records("path", "reason", "state"):
        if state == LIVE:
            reasons[reason] += 1
            if len(shown) < REJECTS:
                shown.append((printable(decode_path(path)), reason))
    return {"total": reasons.total(), "reasons": reasons.most_common(REJECTS), "shown": sorted(shown)}


# --- map


def _place(fit: Fit, found: Findings | None, labels: NDArray[np.int32], seed: int) -> Points:
    """Return a sample of the pictures of which the map knows a place, if it does of any; else of all."""
    if found is not None:
        x, y = found.array("x"), found.array("y")
        placed = (labels[: len(x)] >= 0) & np.isfinite(x) & np.isfinite(y)
        if placed.any():
            rows = sample_rows(placed, seed)
            return _points(fit, rows, labels, to_grid(np.stack([x[rows], y[rows]], axis=1)))
    return _points(fit, sample_rows(labels >= 0, seed), labels, None)


def _points(fit: Fit, rows: NDArray[np.int64], labels: NDArray[np.int32], places: NDArray[np.uint16] | None) -> Points:
    return Points(rows, labels[rows], to_grid(first_scores(fit, rows)), places)


def _map_data(collection: Collection, points: Points) -> dict[str, Any]:
    paths = collection.catalog.pick("path", points.rows.tolist())
    return {
        "places": None if points.places is None else packed(points.places.T, "<u2"),
        "scores": packed(points.scores.T, "<u2"),
        "groups": packed(points.labels, "<i4"),
        "names": [_last_part(printable(decode_path(path))) for path in paths],
        "tile": min(TILE_SIDE, collection.pointer.image_size),
        "columns": SHEET_TILES,
    }


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


# --- pictures


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of one block of thumbnails that are shown, and that are points of the map."""

    rows: slice
    pictures: NDArray[np.int64]
    points: NDArray[np.int64]


def _encode_all(
    collection: Collection,
    shown: Sequence[int],
    points: NDArray[np.int64],
    labels: NDArray[np.int32],
    sums: GroupSums,
    executor: Executor,
    progress: Progress,
) -> tuple[list[bytes], list[bytes]]:
    """Return the files of the pictures shown, in their order, and of the sheets of tiles, in that of the points.

    Each block is read once; all pictures that have a group are added to its sum on the way.
    """
    wanted = np.sort(np.asarray(shown, np.int64))
    blocks = [_Block(rows, _within(wanted, rows), _within(points, rows)) for rows in collection.blocks]
    blocks = [block for block in blocks if len(block.pictures) or (labels[block.rows] >= 0).any()]
    encoded: dict[int, bytes] = {}
    sheets: list[bytes] = []
    side = min(TILE_SIDE, collection.pointer.image_size)
    waiting = np.empty((0, side, side, 3), np.uint8)

    def look(block: _Block) -> tuple[list[bytes], NDArray[np.uint8], BlockSums]:
        thumbnails = collection.thumbnails(block.rows)
        large = shrink(thumbnails[block.pictures - block.rows.start], PICTURE_SIDE)
        tiles = shrink(thumbnails[block.points - block.rows.start], TILE_SIDE)
        by_group = sums_of_block(thumbnails, labels[block.rows], sums.side)
        return [encode(picture, PICTURE_QUALITY) for picture in large], tiles, by_group

    with progress.stage("pictures", sum(block.rows.stop - block.rows.start for block in blocks)):
        looked = executor.map(look, progress.until_stopped(blocks), executor.in_flight(executor.workers))
        for block, (pictures, tiles, by_group) in zip(blocks, looked, strict=True):
            encoded.update(zip(block.pictures.tolist(), pictures, strict=True))
            sums.add(by_group)
            waiting = np.concatenate([waiting, tiles])
            while len(waiting) >= SHEET_TILES**2:
                sheets.append(encode_sheet(waiting[: SHEET_TILES**2]))
                waiting = waiting[SHEET_TILES**2 :]
            progress.advance(block.rows.stop - block.rows.start)
        if len(waiting):
            sheets.append(encode_sheet(waiting))
    return [encoded[row] for row in shown], sheets


def _within(ascending: NDArray[np.int64], rows: slice) -> NDArray[np.int64]:
    start, stop = np.searchsorted(ascending, [rows.start, rows.stop])
    return ascending[start:stop]


def _pictures_data(
    collection: Collection, fit: Fit, junk: Findings | None, rows: Sequence[int]
) -> list[dict[str, Any]]:
    """Return what is told of each picture that is shown."""
    pick = collection.catalog.pick
    at = np.asarray(rows, np.int64)
    columns = zip(pick("path", rows), pick("width", rows), pick("height", rows), pick("size", rows), strict=True)
    labels = _taken(fit.labels(), at, -1)
    distances = _taken(fit.distances(), at, math.nan)
    scores = _taken(junk.array("score") if junk else np.empty(0, np.float32), at, math.nan)
    flags = _taken(junk.array("flags") if junk else np.empty(0, np.uint16), at, 0)
    told = []
    for i, (stored, width, height, size) in enumerate(columns):
        path = decode_path(stored)
        grouped = int(labels[i]) >= 0
        told.append(
            {
                "path": path,
                "shown": printable(path),
                "address": _address(path),
                "width": width,
                "height": height,
                "size": size,
                "group": int(labels[i]) if grouped else None,
                "distance": _finite(float(distances[i])) if grouped else None,
                "junk": _finite(float(scores[i])),
                "flags": int(flags[i]),
            }
        )
    return told


def _taken(values: NDArray[Any], rows: NDArray[np.int64], missing: float) -> NDArray[Any]:
    """Return the values of these rows, `missing` for those that came later."""
    taken = np.full(len(rows), missing, values.dtype)
    there = rows < len(values)
    taken[there] = values[rows[there]]
    return taken


def _address(path: str) -> str | None:
    """Return the file's URL; None for a path of another system."""
    where = Path(path)
    return where.as_uri() if where.is_absolute() else None
