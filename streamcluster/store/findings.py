"""What was found out about the pictures, besides fits: each kind is immutable, and replaced whole by what is newer."""

from __future__ import annotations

import os
import shutil
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from streamcluster.runtime.paths import system_path
from streamcluster.store.durable import files_below, flush_files
from streamcluster.store.fits import fit_name
from streamcluster.store.table import COLUMN_ROWS, create_rows, open_array

#: Near-duplicates; suspects and flags; where each picture lies on a map of all; what a person said of pictures.
Kind = Literal["duplicates", "junk", "map", "marks"]


class Findings:
    """What is known of one kind, read-only."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group
        self.attributes: dict[str, Any] = dict(group.attrs)

    def array(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Return one of the arrays, or these rows of it; rows that came later are missing."""
        return np.asarray(open_array(self._group, name)[rows])


def write_findings(
    parent: zarr.Group, folder: str, before: str | None, arrays: dict[str, NDArray[Any]], attributes: dict[str, Any]
) -> str:
    """Write the findings after those named `before`, and return their name; they count once the pointer names them."""
    name = fit_name(1 if before is None else int(before) + 1)
    group = parent.create_group(name, attributes=attributes, overwrite=True)
    for key, values in arrays.items():
        array = create_rows(group, key, values.shape, str(values.dtype), chunk_rows=COLUMN_ROWS, compressors="auto")
        array[...] = values
    flush_files(files_below(folder), os.path.dirname(folder))
    return name


def remove_findings(folder: str, name: str) -> None:
    """Remove findings that no pointer names any more."""
    shutil.rmtree(system_path(os.path.join(folder, name)), ignore_errors=True)
