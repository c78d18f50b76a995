"""Parts of files in, parts of pictures out: how large a part is, and what it takes in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamcluster.errors import OversizePictureError, UnreadablePictureError
from streamcluster.runtime.memory import MIB, MemoryGate, room_bytes
from streamcluster.sources.decode import (
    LUMA_SIDE,
    STACK_BYTES,
    START_BYTES,
    Decoded,
    DecodeOptions,
    Refused,
    decode_pictures,
    stack_thumbnails,
)
from streamcluster.sources.measure import Picture, measure_pictures
from streamcluster.sources.scan import FoundFile

#: Files of one part: enough to hide the cost of a task, few enough that a stop is quick.
PART_FILES = 64
#: Thumbnails of one part, where they are large; and files, where those are.
PART_BYTES = MIB
PART_SOURCE_BYTES = 8 * MIB
#: The luma that waits to be measured, and the stacks in which it is, for each file of a part that is being decoded.
LUMA_BYTES = 2 * LUMA_SIDE**2
#: Parts that are decoded or packed at the same time for each worker.
PARTS_A_WORKER = 3
#: What a worker decodes without asking for room: a picture of half a million pixels.
SMALL_DECODE_BYTES = 8 * MIB
#: Room for two photographs of 24 million pixels; a budget with less is refused.
MIN_DECODE_BYTES = 64 * MIB


class Outcome(Struct, frozen=True, gc=False):
    """What became of one file: a picture, or the reason why not. `passing` reasons are not remembered."""

    file: FoundFile
    picture: Picture | None = None
    reason: str = ""
    oversize: bool = False
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What became of some files; uint8 (n, S, S, 3) thumbnails of those that are pictures, in their order."""

    outcomes: list[Outcome]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read within a budget: the files of a part, the parts in work, and the work itself."""

    part_files: int
    n_parts: int
    options: DecodeOptions
    gate: MemoryGate

    def parts_of(self, files: Iterable[FoundFile]) -> Iterator[list[FoundFile]]:
        """Yield the files of a part at a time, fewer large ones, so that a stop is quick."""
        part: list[FoundFile] = []
        n_bytes = 0
        for file in files:
            part.append(file)
            n_bytes += file.size
            if len(part) == self.part_files or n_bytes >= PART_SOURCE_BYTES:
                yield part
                part, n_bytes = [], 0
        if part:
            yield part

    def read(self, files: list[FoundFile]) -> Part:
        """Decode and measure the files of a part; nothing that is wrong with one of them is raised."""
        results = decode_pictures(files, self.options, self.gate)
        decoded = [picture for picture in results if isinstance(picture, Decoded)]
        pictures = iter(measure_pictures(decoded))
        outcomes = [
            Outcome(file, next(pictures)) if isinstance(result, Decoded) else _explain(file, result)
            for file, result in zip(files, results, strict=True)
        ]
        return Part(outcomes, stack_thumbnails(decoded, self.options.image_size))


def plan_reading(options: DecodeOptions, budget_bytes: int, workers: int, other_bytes: int) -> Reading:
    """Return how to read files, with as many parts in work as there are workers, or as the budget has memory for.

    Parameters
    ----------
    options : DecodeOptions
    budget_bytes : int
        For the whole process.
    workers : int
        Parts in work at most.
    other_bytes : int
        What the caller holds besides.

    Raises
    ------
    BudgetError
        The budget is too small for one part in work.
    """
    thumbnail_bytes = 3 * options.image_size**2
    part_files = max(1, min(PART_FILES, PART_BYTES // thumbnail_bytes))
    thumbnails = max(PART_BYTES, thumbnail_bytes)
    part = PARTS_A_WORKER * thumbnails + part_files * (START_BYTES + LUMA_BYTES)
    n_parts, gate = share_room(budget_bytes, part, workers, other_bytes, "reading pictures")
    return Reading(part_files, n_parts, options, gate)


def share_room(budget_bytes: int, part_bytes: int, workers: int, other_bytes: int, what: str) -> tuple[int, MemoryGate]:
    """Return how many parts the budget has memory for at a time, up to `workers`, and the gate of their decoding.

    Parameters
    ----------
    budget_bytes : int
        For the whole process.
    part_bytes : int
        What a part in work takes beside the decoding of its pictures.
    workers : int
    other_bytes : int
        What the caller holds besides.
    what : str
        For the error: what is to be done.

    Raises
    ------
    BudgetError
        The budget is too small for one part in work.
    """
    part, others = part_bytes + STACK_BYTES + SMALL_DECODE_BYTES, other_bytes + MIN_DECODE_BYTES
    room = room_bytes(budget_bytes, part + others, what) - others
    n_parts = min(workers, room // part)
    return n_parts, MemoryGate(room - n_parts * part + MIN_DECODE_BYTES, SMALL_DECODE_BYTES)


def _explain(file: FoundFile, error: Refused) -> Outcome:
    if isinstance(error, UnreadablePictureError):
        return Outcome(file, reason=str(error), oversize=isinstance(error, OversizePictureError))
    return Outcome(file, reason=error.strerror or str(error), passing=True)
