"""Embeddings: what a model makes of the original files, kept beside the pictures since it takes long to make.

Each block of rows is written whole before its origins say that it counts; so a kill loses one block, and a row that
was made of a thumbnail, because its file could not be read, can be made of the file later.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamcluster.errors import StoreFormatError
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.paths import system_path
from streamcluster.store.durable import files_below, flush_files
from streamcluster.store.table import COLUMN_ROWS, chunk_file, create_rows, find_subgroup, open_array

#: Rows of a chunk: 1 MB of 512 numbers each, and what a kill may lose.
EMBEDDING_ROWS = 512
#: What a row was made of.
NOTHING, FILE, THUMBNAIL = 0, 1, 2


class Embeddings:
    """The embeddings that one model made: float32 (N, D) vectors, and what each was made of.

    `attributes` tell which model and how it was fed.
    """

    def __init__(self, name: str, group: zarr.Group, folder: str) -> None:
        self.name = name
        self.folder = folder
        self.attributes: dict[str, Any] = dict(group.attrs)
        self._vectors = open_array(group, "vectors")
        self._origins = open_array(group, "origin")

    @property
    def width(self) -> int:
        """Numbers of a row, D."""
        return int(self._vectors.shape[1])

    def origins(self, n_rows: int) -> NDArray[np.uint8]:
        """Return uint8 (n_rows,): what each row was made of, `NOTHING` where it is still to be made."""
        known = np.asarray(self._origins[:n_rows])
        return np.pad(known, (0, n_rows - len(known)), constant_values=NOTHING)

    def vectors(self, rows: slice) -> NDArray[np.float32]:
        """Return float32 (n, D) rows; zeros where nothing is made."""
        return np.asarray(self._vectors[rows])

    def blocks(self, n_rows: int) -> list[slice]:
        """Return the rows of each block."""
        return tile_rows(n_rows, int(self._vectors.chunks[0]))

    def block_of(self, row: int, n_rows: int) -> slice:
        """Return the rows of the block that holds a row."""
        chunk_rows = int(self._vectors.chunks[0])
        start = row - row % chunk_rows
        return slice(start, min(start + chunk_rows, n_rows))

    def make_room(self, n_rows: int) -> None:
        """Have a row for each picture."""
        for array in (self._vectors, self._origins):
            if array.shape[0] < n_rows:
                array.resize((n_rows, *array.shape[1:]))
        flush_files([os.path.join(self.folder, name, "zarr.json") for name in ("vectors", "origin")], self.folder)

    def write(
        self, rows: slice, made: NDArray[np.intp], vectors: NDArray[np.float32], origin: NDArray[np.uint8]
    ) -> None:
        """Write what was made of some rows of one block, and let it count.

        Parameters
        ----------
        rows : slice
            The block.
        made : intp (n,)
            Their numbers, within `rows`.
        vectors : float32 (n, D)
        origin : uint8 (n,)
        """
        for array, name, values in ((self._vectors, "vectors", vectors), (self._origins, "origin", origin)):
            whole = np.asarray(array[rows])
            whole[made - rows.start] = values
            array[rows] = whole
            number = rows.start // int(array.chunks[0])
            flush_files([os.path.join(self.folder, name, chunk_file(number, array.ndim))], self.folder)


def find_embeddings(parent: zarr.Group, folder: str, name: str) -> Embeddings | None:
    """Return stored embeddings, or None if there are none, or a kill came while they were first laid out."""
    group = find_subgroup(parent, name)
    try:
        return Embeddings(name, group, folder) if group is not None and group.attrs else None
    except StoreFormatError:
        return None


def create_embeddings(parent: zarr.Group, folder: str, name: str, width: int, attributes: dict[str, Any]) -> Embeddings:
    """Lay out embeddings without rows; the attributes, which are written last, make them count."""
    shutil.rmtree(system_path(folder), ignore_errors=True)
    group = parent.create_group(name, overwrite=True)
    create_rows(group, "vectors", (0, width), "float32", chunk_rows=EMBEDDING_ROWS)
    create_rows(group, "origin", (0,), "uint8", chunk_rows=COLUMN_ROWS)
    flush_files(files_below(folder), os.path.dirname(folder))
    group.attrs.update(attributes)
    flush_files([os.path.join(folder, "zarr.json")], os.path.dirname(folder))
    return Embeddings(name, group, folder)
