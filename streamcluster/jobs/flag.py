"""The quality flags of all pictures: what `junk` looks for besides pictures that are unlike the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import FlagSettings
from streamcluster.curate.flags import flag_bits, grey_among_colour, inside_padding, looks_of
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.progress import Progress
from streamcluster.store.collection import Collection


def flag_pictures(
    collection: Collection, live: NDArray[np.bool_], settings: FlagSettings, executor: Executor, progress: Progress
) -> NDArray[np.uint16]:
    """Return the flags of all rows, uint16 (N,), 0 where one is not live; bit i stands for `FLAG_NAMES[i]`.

    Parameters
    ----------
    collection : Collection
    live : bool (N,)
    settings : FlagSettings
        The limits.
    executor : Executor
        Each task has a block of thumbnails, and what `looks_of` takes.
    progress : Progress

    Raises
    ------
    Interrupted
        `progress` was asked to stop.
    """
    width, height, sharpness = map(collection.catalog.column, ("width", "height", "sharpness"))
    layout = collection.pointer

    def flags_of(block: slice) -> NDArray[np.uint16]:
        shape = width[block], height[block]
        inside = inside_padding(*shape, layout.image_size) if layout.aspect == "pad" else None
        return flag_bits(looks_of(collection.thumbnails(block), inside), *shape, sharpness[block], settings)

    bits = np.zeros(len(live), np.uint16)
    with progress.stage("flags", len(live)):
        for block, found in zip(collection.blocks, executor.map(flags_of, collection.blocks), strict=True):
            bits[block] = found
            progress.advance_or_stop(len(found))
    bits[~live] = 0
    return grey_among_colour(bits, live, settings.grey)
