"""Stores written straight through the store layer, for measurements that start at `fit`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import StoreDefaults
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.digests import DIGEST_BYTES
from streamcluster.store.collection import CATALOG, REJECTS, open_for_writing

#: Blocks that are committed together, as `ingest` does every few seconds.
COMMIT_BLOCKS = 64


def write_store(path: Path, n_rows: int, image_size: int, thumbnails_of: Callable[[slice], NDArray[np.uint8]]) -> Path:
    """Write a new store of `n_rows` rows, whose thumbnails a function makes a block at a time, and return its path."""
    shutil.rmtree(path, ignore_errors=True)
    with open_for_writing(str(path), StoreDefaults(image_size=image_size)) as store:
        store.make_room(n_rows)
        blocks = tile_rows(n_rows, store.pointer.block_rows)
        for together in tile_rows(len(blocks), COMMIT_BLOCKS):
            for rows in blocks[together]:
                store.write_block(rows.start, thumbnails_of(rows))
            store.commit_rows(_described(blocks[together][0].start, blocks[together][-1].stop), _nothing())
        store.trim()
    return path


def _described(start: int, stop: int) -> dict[str, list[Any]]:
    """Return catalogue entries of pictures that no file holds: paths and digests of their own, else zeros."""
    entry: dict[str, Any] = {column.name: np.zeros(column.shape, column.dtype) for column in CATALOG[1:]}
    entries = {name: [value] * (stop - start) for name, value in entry.items()}
    rows = range(start, stop)
    digests = [np.frombuffer(row.to_bytes(DIGEST_BYTES, "little"), np.uint8) for row in rows]
    return entries | {"path": [f"/made/{row:07d}.jpg" for row in rows], "digest": digests}


def _nothing() -> dict[str, list[Any]]:
    return {column.name: [] for column in REJECTS}
