"""Quality flags against those of cleanvision 0.3, and what both find of pictures blurred on purpose.

`python -m benchmarks.flags [SET ...]`, after `pip install cleanvision`: it comes with pandas, which nothing else here
needs, so that it is no dependency of development.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import WORK
from benchmarks.pictures import SHARED
from streamcluster import IngestSettings, ingest, open_collection
from streamcluster.config import FlagSettings
from streamcluster.curate.flags import FLAG_NAMES, Looks, flag_bits, grey_among_colour, looks_of
from streamcluster.runtime.paths import decode_path
from streamcluster.store.collection import Collection

SETS: Final = ("clothing", "sprites", "faces-orl", "faces-dark", "near-duplicates")
#: What cleanvision calls what a flag of ours says.
ISSUES: Final = {
    "dark": "dark",
    "bright": "light",
    "blurred": "blurry",
    "low_information": "low_information",
    "tiny": "odd_size",
    "odd_aspect": "odd_aspect_ratio",
    "grey": "grayscale",
}
#: Pictures of each set that are blurred, and the standard deviations of the Gaussian, as shares of the longer side.
N_BLURRED: Final = 100
BLURS: Final = (0.0, 0.005, 0.01, 0.02, 0.04)

#: For each flag, the paths of the pictures that have it.
Flagged = dict[str, set[str]]


def list_files(folder: Path) -> list[Path]:
    """Return the pictures of a shared set."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png", ".webp"))


def flatten(folder: Path, target: Path) -> Path:
    """Copy pictures, those with alpha or a palette onto white, as ingest does; cleanvision fails on grey with alpha."""
    shutil.rmtree(target, ignore_errors=True)
    for path in list_files(folder):
        written = target / path.relative_to(folder)
        written.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            written.write_bytes(cv2.imencode(".png", _on_white(path))[1].tobytes())
        else:
            shutil.copyfile(path, written)
    return target


def _on_white(path: Path) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        alpha = pixels[..., 3:] / 255
        pixels = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha))
    opaque: NDArray[np.uint8] = pixels.astype(np.uint8)
    return opaque


def blur(folder: Path, target: Path, share: float) -> Path:
    """Write a seeded sample of pictures as PNG, blurred by a Gaussian of this share of the longer side."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = list_files(folder)
    for i in np.random.default_rng(0).permutation(len(files))[:N_BLURRED]:
        pixels = _on_white(files[i])
        if share > 0:
            pixels = cv2.GaussianBlur(pixels, (0, 0), share * max(pixels.shape[:2]), borderType=cv2.BORDER_REPLICATE)
        (target / f"{i}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return target


def find_ours(folder: Path, store: Path) -> tuple[Flagged, float]:
    """Return what our flags say, and the microseconds of processor time that `looks_of` takes a thumbnail."""
    shutil.rmtree(store, ignore_errors=True)
    ingest(IngestSettings(sources=(str(folder),), store=str(store)))
    collection = open_collection(str(store))
    column, settings = collection.catalog.column, FlagSettings(store=str(store))
    n_rows = len(column("path"))
    bits = np.empty(n_rows, np.uint16)
    seconds = 0.0
    for block in collection.blocks:
        looks, elapsed = _timed_looks(collection, block)
        seconds += elapsed
        bits[block] = flag_bits(
            looks, column("width")[block], column("height")[block], column("sharpness")[block], settings
        )
    bits = grey_among_colour(bits, collection.live_rows(), settings.grey)
    paths = np.array([decode_path(str(path)) for path in column("path")])
    return {flag: set(paths[bits >> i & 1 == 1]) for i, flag in enumerate(FLAG_NAMES)}, 1e6 * seconds / n_rows


def _timed_looks(collection: Collection, block: slice) -> tuple[Looks, float]:
    thumbnails = collection.thumbnails(block)
    started = time.thread_time()
    looks = looks_of(thumbnails)
    return looks, time.thread_time() - started


def find_theirs(folder: Path, flags: Sequence[str] = FLAG_NAMES) -> Flagged:
    """Return what cleanvision says, with its defaults."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder), verbose=False)
    lab.find_issues({ISSUES[flag]: {} for flag in flags}, n_jobs=1, verbose=False)
    found = {flag: lab.issues[f"is_{ISSUES[flag]}_issue"] for flag in flags}
    return {flag: set(issue.index[issue]) for flag, issue in found.items()}


def measure(work: Path, sets: Sequence[str] = SETS) -> list[str]:
    """Return the lines of the report."""
    if find_spec("cleanvision") is None:
        sys.exit("cleanvision is missing; pip install cleanvision")
    return [*_measure_agreement(work, sets), "", *_measure_blurred(work, sets)]


def _measure_agreement(work: Path, sets: Sequence[str]) -> list[str]:
    rows: dict[str, list[str]] = {flag: [] for flag in FLAG_NAMES}
    costs = []
    for name in sets:
        folder = flatten(SHARED.parent / name, work / f"flags-{name}")
        ours, microseconds = find_ours(folder, work / f"flags-{name}.zarr")
        theirs = find_theirs(folder)
        costs.append(microseconds)
        for flag in FLAG_NAMES:
            one, other = ours[flag], theirs[flag]
            rows[flag].append(f"{len(one & other)} / {len(one - other)} / {len(other - one)}")
    return [
        "### Quality flags",
        "",
        "Pictures that both flag / only streamcluster / only cleanvision, each with its defaults. Pictures with alpha "
        f"lie on white for both. Ours takes {min(costs):.0f} to {max(costs):.0f} µs of processor time a thumbnail, "
        "besides reading it.",
        "",
        f"| flag | cleanvision | {' | '.join(sets)} |",
        f"|---|---|{'---|' * len(sets)}",
        *(f"| {flag} | {ISSUES[flag]} | {' | '.join(cells)} |" for flag, cells in rows.items()),
    ]


def _measure_blurred(work: Path, sets: Sequence[str]) -> list[str]:
    lines = [
        f"Of {N_BLURRED} pictures of each set, blurred by a Gaussian whose standard deviation is a share of the longer "
        "side: flagged as blurred by streamcluster / by cleanvision.",
        "",
        f"| set | {' | '.join(f'{share:.1%}' if share else 'as it was' for share in BLURS)} |",
        f"|---|{'---|' * len(BLURS)}",
    ]
    for name in sets:
        cells = []
        for share in BLURS:
            folder = blur(SHARED.parent / name, work / "flags-blurred", share)
            ours, _ = find_ours(folder, work / "flags-blurred.zarr")
            cells.append(f"{len(ours['blurred'])} / {len(find_theirs(folder, ['blurred'])['blurred'])}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(measure(WORK, sys.argv[1:] or SETS)))
