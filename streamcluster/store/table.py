"""Columns of one length: the catalogue and the rejects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.array_spec import ArrayConfigParams
from zarr.core.chunk_key_encodings import ChunkKeyEncodingParams

from streamcluster.errors import StoreFormatError
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.paths import printable

#: Rows a chunk of a column: some 100 kB of paths, so that a commit rewrites little and a million rows are few files.
COLUMN_ROWS = 8192

#: zarr otherwise compares each chunk with the fill value before it writes it, which takes four times as long as to
#: compress and write it: 57 against 16 ms for 6 MiB of thumbnails (zarr 3.1.6).
EVERY_CHUNK: Final[ArrayConfigParams] = {"write_empty_chunks": True}
#: Chunks lie side by side in their array's folder: a folder for each would have to be flushed too.
CHUNK_KEYS: Final[ChunkKeyEncodingParams] = {"name": "default", "separator": "."}

#: What zarr raises, each version in another place, when a `zarr.json` was damaged and describes nothing.
NO_DESCRIPTION: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

NodeT = TypeVar("NodeT", zarr.Array[Any], zarr.Group)

LIVE, GONE, REPLACED = 0, 1, 2
STATES = ("live", "gone", "replaced")


@dataclass(frozen=True, slots=True)
class Column:
    """Name, dtype and per-row shape of a column, and what its numbers mean."""

    name: str
    dtype: str
    meaning: str
    shape: tuple[int, ...] = ()


class Table:
    """A zarr group of equally long arrays; row i of each belongs together.

    Rows at and past `n_rows` are not committed: they may hold anything.
    """

    def __init__(self, group: zarr.Group, columns: tuple[Column, ...], root: str, n_rows: int) -> None:
        self._arrays = {column.name: open_array(group, column.name) for column in columns}
        self._folder = os.path.join(root, group.basename)
        self.n_rows = n_rows

    @staticmethod
    def create(parent: zarr.Group, name: str, columns: tuple[Column, ...]) -> None:
        """Make an empty table."""
        group = parent.create_group(name)
        for column in columns:
            group.create_array(
                column.name,
                shape=(0, *column.shape),
                chunks=(COLUMN_ROWS, *column.shape),
                dtype=column.dtype,
                chunk_key_encoding=CHUNK_KEYS,
                attributes={"meaning": column.meaning},
            )

    def read(self, names: tuple[str, ...], rows: slice) -> dict[str, NDArray[Any]]:
        """Return the named columns of these rows."""
        return {name: np.asarray(self._arrays[name][rows]) for name in names}

    def chunks(self, *names: str) -> Iterator[tuple[slice, dict[str, NDArray[Any]]]]:
        """Yield (rows, columns) of all committed rows, a chunk at a time."""
        for rows in tile_rows(self.n_rows, COLUMN_ROWS):
            yield rows, self.read(names, rows)

    def records(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Yield (row, value of each named column) of all committed rows."""
        for rows, columns in self.chunks(*names):
            lists = (columns[name].tolist() if columns[name].ndim == 1 else columns[name] for name in names)
            yield from zip(range(rows.start, rows.stop), *lists, strict=True)

    def pick(self, name: str, rows: Sequence[int]) -> list[Any]:
        """Return one column of a few rows, in their order; each chunk is read once."""
        at = np.asarray(rows, dtype=np.int64)
        values: dict[int, Any] = {}
        for chunk in np.unique(at // COLUMN_ROWS).tolist():
            inside = at[at // COLUMN_ROWS == chunk]
            start = chunk * COLUMN_ROWS
            column = self.read((name,), slice(start, min(start + COLUMN_ROWS, self.n_rows)))[name]
            values.update(zip(inside.tolist(), column[inside - start].tolist(), strict=True))
        return [values[row] for row in rows]

    def column(self, name: str) -> NDArray[Any]:
        """Return one whole column; meant for narrow ones."""
        return np.asarray(self._arrays[name][: self.n_rows])

    def resize(self, n_rows: int) -> list[str]:
        """Give every column room for `n_rows` rows, and return the files that changed."""
        changed: list[str] = []
        for name, array in self._arrays.items():
            if array.shape[0] != n_rows:
                array.resize((n_rows, *array.shape[1:]))
                changed.append(os.path.join(self._folder, name, "zarr.json"))
        return changed

    def write(self, start: int, columns: Mapping[str, Any]) -> list[str]:
        """Write rows from `start` on, and return the files that changed."""
        changed: list[str] = []
        for name, values in columns.items():
            array = self._arrays[name]
            stop = start + len(values)
            if stop == start:
                continue
            array[start:stop] = np.asarray(values, dtype=array.dtype)
            changed += [self._chunk_file(name, rows.start // COLUMN_ROWS) for rows in _covering(start, stop)]
            changed.append(os.path.join(self._folder, name, "zarr.json"))
        return changed

    def update(self, rows: Sequence[int], columns: Mapping[str, Any]) -> list[str]:
        """Overwrite single committed rows, a chunk at a time, and return the files that changed.

        Each chunk is replaced whole; a run that is killed in between has done some rows and not others, and the next
        run finds the others still to do.
        """
        changed: list[str] = []
        at = np.asarray(rows, dtype=np.int64)
        typed = {name: np.asarray(values, dtype=self._arrays[name].dtype) for name, values in columns.items()}
        for chunk in np.unique(at // COLUMN_ROWS).tolist():
            inside = np.flatnonzero(at // COLUMN_ROWS == chunk)
            span = slice(chunk * COLUMN_ROWS, min((chunk + 1) * COLUMN_ROWS, self.n_rows))
            for name, values in typed.items():
                whole = np.asarray(self._arrays[name][span])
                whole[at[inside] - span.start] = values[inside]
                self._arrays[name][span] = whole
                changed.append(self._chunk_file(name, chunk))
        return changed

    def _chunk_file(self, name: str, chunk: int) -> str:
        return os.path.join(self._folder, name, chunk_file(chunk, self._arrays[name].ndim))


def chunk_file(number: int, n_axes: int) -> str:
    """Return the name of the file of a chunk that is the whole array but for its first axis.

    >>> chunk_file(7, 4)
    'c.7.0.0.0'
    """
    return ".".join(["c", str(number), *["0"] * (n_axes - 1)])


def _covering(start: int, stop: int) -> list[slice]:
    first = start - start % COLUMN_ROWS
    return [slice(first + rows.start, first + rows.stop) for rows in tile_rows(stop - first, COLUMN_ROWS)]


def open_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a group, by name: a listing would stumble over files that others put there.

    Raises
    ------
    StoreFormatError
        It is not there.
    """
    array: zarr.Array[Any] = _open(group, name, zarr.Array).with_config(EVERY_CHUNK)
    return array


def open_subgroup(group: zarr.Group, name: str) -> zarr.Group:
    """Return a group in a group, as `open_array`."""
    return _open(group, name, zarr.Group)


def find_subgroup(group: zarr.Group, name: str) -> zarr.Group | None:
    """Return a group in a group; None where there is none, or a power cut left nothing that describes it."""
    node = _node(group, name)
    return node if isinstance(node, zarr.Group) else None


def create_rows(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    *,
    chunk_rows: int,
    fill_value: int = 0,
    compressors: Literal["auto"] | None = None,
) -> zarr.Array[Any]:
    """Return a new array with a row for each picture, in the place of what a killed run left there."""
    return group.create_array(
        name,
        shape=shape,
        chunks=(chunk_rows, *shape[1:]),
        dtype=dtype,
        fill_value=fill_value,
        compressors=compressors,
        chunk_key_encoding=CHUNK_KEYS,
        overwrite=True,
        config=EVERY_CHUNK,
    )


def _node(group: zarr.Group, name: str) -> object:
    try:
        return group[name]
    except NO_DESCRIPTION:
        return None


def _open(group: zarr.Group, name: str, kind: type[NodeT]) -> NodeT:
    node = _node(group, name)
    if not isinstance(node, kind):
        raise StoreFormatError(
            f"{printable(str(group.store_path))}: {name} is missing or damaged; bring it back from a copy, "
            "or ingest into another --store"
        )
    return node
