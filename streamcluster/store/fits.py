"""Fits: each one an immutable result. A draft becomes a fit when the store's pointer names it."""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.paths import system_path
from streamcluster.store.durable import files_below, flush_files
from streamcluster.store.table import CHUNK_KEYS, COLUMN_ROWS, create_rows, find_subgroup, open_array

_UNLABELLED = -1


def fit_name(number: int) -> str:
    """Return the name of the fit with this number, counted from 1."""
    return f"{number:04d}"


class Fit:
    """A finished fit, read-only."""

    def __init__(self, name: str, group: zarr.Group) -> None:
        self.name = name
        self._group = group
        self.attributes: dict[str, Any] = dict(group.attrs)

    def labels(self, rows: slice = slice(None)) -> NDArray[np.int32]:
        """Return the int32 group numbers of these rows, -1 where there is none; rows that came later are missing."""
        return self.array("labels", rows)

    def labels_of(self, live: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return int32 (N,): the group of each row that is live, bool (N,); -1 for the others and those without one."""
        labels = np.full(len(live), _UNLABELLED, np.int32)
        known = self.labels()
        labels[: len(known)] = np.where(live[: len(known)], known, _UNLABELLED)
        return labels

    def distances(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Return the float32 distances of these rows to their group's centre, in score space."""
        return self.array("distance", rows)

    def array(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Return one of the fit's arrays, or these rows of it."""
        return np.asarray(open_array(self._group, name)[rows])

    def scores_of(self, rows: NDArray[np.int64], width: int | None = None) -> NDArray[np.float32]:
        """Return the scores of some ascending rows, float32 (n, d), or the first `width`; each chunk is read once."""
        array = open_array(self._group, "scores")
        found = np.empty((len(rows), min(width or array.shape[1], array.shape[1])), np.float32)
        for tile in tile_rows(array.shape[0], COLUMN_ROWS):
            first, last = np.searchsorted(rows, (tile.start, tile.stop))
            if first < last:
                found[first:last] = np.asarray(array[tile])[rows[first:last] - tile.start, :width]
        return found


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class FitDraft:
    """A fit in the making, on disk stage by stage, so that a killed run goes on from the last whole stage."""

    def __init__(self, name: str, group: zarr.Group, folder: str) -> None:
        self.name = name
        self._group = group
        self._folder = folder

    @staticmethod
    def resume_or_create(fits: zarr.Group, folder: str, key: str, current: str | None) -> FitDraft:
        """Return the draft after the `current` fit if `key` describes it, else a new one in its place."""
        name = fit_name(1 if current is None else int(current) + 1)
        group = find_subgroup(fits, name)
        if group is not None and group.attrs.get("key") == key:
            return FitDraft(name, group, os.path.join(folder, name))
        shutil.rmtree(system_path(os.path.join(folder, name)), ignore_errors=True)
        group = fits.create_group(name, attributes={"key": key, "stages": []}, overwrite=True)
        return FitDraft(name, group, os.path.join(folder, name))

    def has(self, stage: str) -> bool:
        """Whether this stage is whole on disk."""
        return stage in self._stages()

    def complete(self, stage: str) -> None:
        """Note that this stage is whole, after making sure that it is on the disk."""
        self.flush()
        self._group.attrs["stages"] = [*self._stages(), stage]

    def take_over(self, fit: Fit, names: tuple[str, ...], stages: tuple[str, ...]) -> None:
        """Have the arrays of a finished fit too: as hard links where the file system has them, since none changes."""
        source = os.path.join(os.path.dirname(self._folder), fit.name)
        for name in names:
            target = os.path.join(self._folder, name)
            shutil.rmtree(system_path(target), ignore_errors=True)
            shutil.copytree(system_path(os.path.join(source, name)), system_path(target), copy_function=_link_or_copy)
        for stage in stages:
            self.complete(stage)

    def write(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Write small arrays, one chunk each."""
        for name, values in arrays.items():
            array = self._group.create_array(
                name,
                shape=values.shape,
                chunks=tuple(max(1, n) for n in values.shape),
                dtype=values.dtype,
                chunk_key_encoding=CHUNK_KEYS,
                overwrite=True,
            )
            array[...] = values

    def create_rows(self, name: str, n_rows: int, dtype: str, width: int | None = None) -> zarr.Array[Any]:
        """Return a new array with a row for each picture: (n_rows,) or (n_rows, width)."""
        inner = () if width is None else (width,)
        fill = _UNLABELLED if name == "labels" else 0
        return create_rows(self._group, name, (n_rows, *inner), dtype, chunk_rows=COLUMN_ROWS, fill_value=fill)

    def array(self, name: str) -> zarr.Array[Any]:
        """Return an array that an earlier stage wrote."""
        return open_array(self._group, name)

    def flush(self) -> None:
        """Wait until all that was written is on the disk."""
        flush_files(files_below(self._folder), os.path.dirname(self._folder))

    def finish(self, attributes: dict[str, Any]) -> None:
        """Write what describes the fit; it counts once the store's pointer names it."""
        self._group.attrs.update(attributes)
        self.flush()

    def _stages(self) -> list[str]:
        return list(self._group.attrs["stages"])  # type: ignore[arg-type]
