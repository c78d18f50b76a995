"""What is known of near-duplicates: immutable, and replaced whole when they are looked for again."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamcluster.store.table import COLUMN_ROWS, create_rows, open_array


class StoredDuplicates:
    """A finished search for near-duplicates, read-only."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group
        self.attributes: dict[str, Any] = dict(group.attrs)

    def kept(self, rows: slice = slice(None)) -> NDArray[np.int32]:
        """Return the int32 best row of each row's group, itself where it is alone; rows that came later are missing."""
        return np.asarray(open_array(self._group, "kept")[rows])

    def differences(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Return how much each row differs from that, float32: 0 for the same bytes, 1 at the measured limits."""
        return np.asarray(open_array(self._group, "difference")[rows])


def write_duplicates(group: zarr.Group, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays with a row for each picture."""
    for name, values in arrays.items():
        array = create_rows(group, name, values.shape, str(values.dtype), chunk_rows=COLUMN_ROWS, compressors="auto")
        array[...] = values
