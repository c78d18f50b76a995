"""Many different pictures, made from the shared product photographs by small edits."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "clothing"
SIDE = 256


def list_originals() -> list[Path]:
    """Return the shared photographs; they lie in a folder for each kind of product."""
    originals = sorted(SHARED.rglob("*.jpg"))
    if not originals:
        sys.exit(f"{SHARED} has no photographs; the benchmarks need them")
    return originals


def shrink_originals(side: int) -> NDArray[np.uint8]:
    """Return the shared photographs, uint8 (n, side, side, 3) RGB."""
    photographs = [cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_REDUCED_COLOR_2) for path in list_originals()]
    return np.stack([cv2.resize(p, (side, side), interpolation=cv2.INTER_AREA)[..., ::-1] for p in photographs])


def make_pictures(folder: Path, n: int) -> Path:
    """Write n JPEG files of 256 by 256 pixels into folders of 1,000 below `folder`, and return it.

    File i is the same in every run: a photograph, cropped, perhaps mirrored, lighter or darker, by a seeded generator.
    """
    originals = list_originals()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda i: _make_picture(folder, i, originals), range(n)))
    return folder


def _make_picture(folder: Path, i: int, originals: list[Path]) -> None:
    target = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(i)
    original = cv2.imdecode(np.fromfile(originals[i % len(originals)], np.uint8), cv2.IMREAD_COLOR)
    jpeg = cv2.imencode(".jpg", _edit(original, rng), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    target.write_bytes(jpeg.tobytes())


def _edit(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    top, left = rng.integers(0, height // 8), rng.integers(0, width // 8)
    cropped = picture[top : height - height // 8 + top, left : width - width // 8 + left]
    if rng.random() < 0.5:
        cropped = cropped[:, ::-1]
    shrunk = cv2.resize(np.ascontiguousarray(cropped), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    edited: NDArray[np.uint8] = cv2.convertScaleAbs(shrunk, alpha=rng.uniform(0.7, 1.2))
    return edited
