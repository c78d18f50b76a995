"""What was found out about the pictures, besides fits: each kind is immutable, and replaced whole by what is newer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import numpy as np
import zarr
from numpy.typing import NDArray

from streamcluster.runtime.paths import system_path
from streamcluster.store.durable import files_below, flush_files
from streamcluster.store.fits import fit_name
from streamcluster.store.table import COLUMN_ROWS, create_rows, open_array

#: Near-duplicates; suspects and flags; where each picture lies on a map of all; what a person said of pictures.
Kind = Literal["duplicates", "junk", "map", "marks"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Findings:
    """What is known of one kind, read-only."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group
        self.attributes: dict[str, Any] = dict(group.attrs)

    def count(self, name: str) -> int:
        """Return the length of one of the arrays."""
        return int(open_array(self._group, name).shape[0])

    def array(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Return one of the arrays, or these rows of it; rows that came later are missing."""
        return np.asarray(open_array(self._group, name)[rows])

    def flag_texts(self, rows: slice) -> list[str]:
        """Return the names of the flags of these rows, such as `dark|blurred`; rows that came later are missing."""
        names = tuple(self.attributes["flag_names"])
        return [_flag_text(flags, names) for flags in self.array("flags", rows).tolist()]


@lru_cache(maxsize=1024)
def _flag_text(flags: int, names: Sequence[str]) -> str:
    return "|".join(name for bit, name in enumerate(names) if flags >> bit & 1)


def describe_rows(found: Mapping[Kind, Findings | None], rows: slice) -> dict[str, list[Any]]:
    """Return what findings of all kinds tell of these rows, a list for each name; what is not known reads as nothing.

    `kept` is the best row of the row's near-duplicates, else the row itself; `junk_score`, `x` and `y` are NaN without
    a number; `suspect` is whether the score is above the threshold; `flags` are names with `|` between them.
    """
    n_rows = rows.stop - rows.start
    duplicates, junk, places = found.get("duplicates"), found.get("junk"), found.get("map")
    kept = np.arange(rows.start, rows.stop)
    score, x, y = (np.full(n_rows, np.nan, np.float32) for _ in range(3))
    flags = [""] * n_rows
    if duplicates is not None:
        _put_first(kept, duplicates.array("kept", rows))
    if junk is not None:
        _put_first(score, junk.array("score", rows))
        texts = junk.flag_texts(rows)
        flags[: len(texts)] = texts
    if places is not None:
        _put_first(x, places.array("x", rows))
        _put_first(y, places.array("y", rows))
    suspect = score > (np.inf if junk is None else float(junk.attributes["threshold"]))
    known = {"kept": kept, "junk_score": score, "suspect": suspect, "x": x, "y": y}
    return {name: values.tolist() for name, values in known.items()} | {"flags": flags}


def _put_first(target: NDArray[Any], values: NDArray[Any]) -> None:
    target[: len(values)] = values


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
