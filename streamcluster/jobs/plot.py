"""Figures of a fit, as PNG and SVG files in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import PlotSettings
from streamcluster.destination.look import is_within
from streamcluster.destination.place import write_whole, writing_to
from streamcluster.errors import DestinationError, NoPicturesError
from streamcluster.jobs.map import bring_map_up_to_date
from streamcluster.learn.eigenimages import eigenimages_of
from streamcluster.learn.map import check_extra as check_map_extra
from streamcluster.runtime.execution import Executor, one_blas_thread, using
from streamcluster.runtime.memory import MIB, peak_bytes, room_bytes
from streamcluster.runtime.paths import printable, system_path
from streamcluster.runtime.progress import Progress
from streamcluster.show import plots
from streamcluster.show.dendrogram import group_dendrogram
from streamcluster.show.groups import largest_groups, picture_groups
from streamcluster.show.scatter import first_scores, sample_rows
from streamcluster.store.collection import Collection, CollectionWriter, open_for_writing
from streamcluster.store.fits import Fit, fit_name

FIGURES: Final = ("variance", "scatter2d", "scatter3d", "map", "groups", "eigenimages", "sizes", "tree")
FILES: Final = tuple(f"{name}.{ending}" for name in FIGURES for ending in plots.ENDINGS)
#: Bytes at the start of a file among which its mark is.
HEAD_BYTES: Final = 4096
#: Memory a row: labels, distances, places, which are shown and in what order. And of drawing: 60 MiB
#: were measured.
ROW_BYTES: Final = 64
DRAWING_BYTES: Final = 96 * MIB


@dataclass(frozen=True, slots=True)
class PlotReport:
    """What `plot` did: which fit it drew, how many pictures in how many groups, and the files in `out_dir`."""

    out_dir: str
    fit: str
    pictures: int
    clusters: int
    files: list[str]
    peak_bytes: int | None


def plot(settings: PlotSettings, *, executor: Executor | None = None, progress: Progress | None = None) -> PlotReport:
    """Draw a fit, and write the figures into a folder.

    The map of all pictures is made where the store has none of this fit, and stays in the store.

    Parameters
    ----------
    settings : PlotSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    MissingExtraError
        matplotlib or openTSNE is not installed.
    DestinationError
        The folder cannot be used as it is, or its disk refuses writes.
    NoPicturesError
        The store holds no live picture, or the fit grouped none of them.
    FitNotFoundError
        There is no fit yet, or none of that name.
    BudgetError
        The work does not fit the memory budget.
    StoreError
        There is no store, it is busy, or its disk refuses writes.
    Interrupted
        `progress` was asked to stop; figures that were written stay.
    """
    progress = progress or Progress()
    plots.check_extra()
    check_map_extra()
    out_dir = os.path.abspath(settings.out_dir)
    with open_for_writing(settings.store) as collection, one_blas_thread():
        live = collection.live_rows()
        collection.check_any(live)
        fit = collection.fit(settings.fit and settings.fit.zfill(len(fit_name(1))))
        check_out_dir(out_dir, collection, force=settings.force)
        _check_memory(settings, collection, len(live))
        labels = fit.labels_of(live)
        _check_grouped(collection, fit, labels)
        with using(executor, settings.workers) as running:
            figures = _figures(settings, collection, fit, labels, running, progress)
            with progress.stage("figures", len(FIGURES), "figures"):
                for name, draw in progress.until_stopped(figures):
                    _write(out_dir, name, plots.encode(draw))
                    progress.advance(1)
        return PlotReport(
            out_dir=out_dir,
            fit=fit.name,
            pictures=int(np.count_nonzero(labels >= 0)),
            clusters=len(fit.array("counts")),
            files=list(FILES),
            peak_bytes=peak_bytes(),
        )


def check_out_dir(out_dir: str, collection: Collection, *, force: bool) -> None:
    """Refuse a folder in which figures would get in the way.

    Raises
    ------
    DestinationError
        `out_dir` is a file; lies in the store, or in a source, whose next ingest would take figures for pictures; or
        holds what `plot` did not write, without `force`.
    """
    shown = printable(out_dir)
    if os.path.lexists(system_path(out_dir)) and not os.path.isdir(system_path(out_dir)):
        raise DestinationError(f"{shown} is a file, not a folder; give another OUT_DIR")
    if is_within(out_dir, collection.root):
        raise DestinationError(f"{shown} lies in the store; give an OUT_DIR outside it")
    for source in collection.sources:
        if is_within(out_dir, source):
            raise DestinationError(
                f"{shown} lies in {printable(source)}, whose next ingest would take the figures for pictures; "
                "give an OUT_DIR outside it"
            )
    if force or not os.path.isdir(system_path(out_dir)):
        return
    foreign = next((name for name in sorted(os.listdir(system_path(out_dir))) if not _is_ours(out_dir, name)), None)
    if foreign is not None:
        raise DestinationError(
            f"{shown} holds {printable(foreign)}, which plot did not write; give a new or an empty folder as OUT_DIR, "
            f"or --force, which replaces only files of the names that plot writes"
        )


def _is_ours(out_dir: str, name: str) -> bool:
    """Whether a file has a name of ours, and says that it is."""
    path = system_path(os.path.join(out_dir, name))
    if name not in FILES or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return plots.MARK.encode() in file.read(HEAD_BYTES)


def _check_grouped(collection: Collection, fit: Fit, labels: NDArray[np.int32]) -> None:
    if not (labels >= 0).any():
        where = printable(collection.root)
        raise NoPicturesError(
            f"{where}: fit {fit.name} grouped none of its pictures; run: streamcluster fit --store {where}"
        )


def _check_memory(settings: PlotSettings, collection: Collection, n_rows: int) -> None:
    blocks = (settings.workers + 2) * 3 * collection.pointer.block_rows * collection.thumbnail_bytes
    room_bytes(settings.memory, ROW_BYTES * n_rows + DRAWING_BYTES + blocks, f"plotting {n_rows:,} rows")


def _figures(
    settings: PlotSettings,
    collection: CollectionWriter,
    fit: Fit,
    labels: NDArray[np.int32],
    executor: Executor,
    progress: Progress,
) -> list[tuple[str, Callable[[], Any]]]:
    """Return the figures by name, each as what draws it."""
    places = bring_map_up_to_date(collection, fit, settings, executor, progress)
    distances = np.pad(fit.distances(), (0, len(labels) - len(fit.distances())))
    n_groups = len(fit.array("counts"))
    sizes = np.bincount(labels[labels >= 0], minlength=n_groups)
    numbers = largest_groups(sizes)
    pictures = picture_groups(collection, labels, distances, numbers, executor, progress)
    xy = np.stack([places.array("x"), places.array("y")], axis=1)
    points = _draw_lots(fit, labels, xy, collection.pointer.seed)
    found = eigenimages_of(fit, collection.pointer.image_size)
    ratio, recipe = fit.array("explained_variance_ratio"), fit.attributes["recipe"]
    tree = group_dendrogram(fit.array("centers")[numbers], pictures.sizes)
    return [
        ("variance", partial(plots.draw_variance, ratio, recipe["variance"])),
        ("scatter2d", partial(plots.draw_scatter, points, sizes, ratio, recipe["scores"])),
        ("scatter3d", partial(plots.draw_scatter_3d, points, sizes, ratio, recipe["scores"])),
        ("map", partial(plots.draw_map, points, sizes)),
        ("groups", partial(plots.draw_groups, pictures, n_groups)),
        ("eigenimages", partial(plots.draw_eigenimages, found, ratio, recipe["features"])),
        ("sizes", partial(plots.draw_sizes, sizes)),
        ("tree", partial(plots.draw_tree, tree, pictures, n_groups)),
    ]


def _draw_lots(fit: Fit, labels: NDArray[np.int32], places: NDArray[np.float32], seed: int) -> plots.Points:
    """Return the pictures that scatters show, a uniform sample if there are many."""
    rows = sample_rows(labels >= 0, seed)
    return plots.Points(labels[rows], first_scores(fit, rows), places[rows], int(np.count_nonzero(labels >= 0)))


def _write(out_dir: str, name: str, files: dict[str, bytes]) -> None:
    with writing_to(out_dir):
        os.makedirs(system_path(out_dir), exist_ok=True)
        for ending, content in files.items():
            write_whole(os.path.join(out_dir, f"{name}.{ending}"), [content])
