"""What is measured of pictures while they are in hand: perceptual hash, brightness, sharpness.

Pictures are measured many at a time, as one stack for each size: a call of OpenCV or NumPy costs more than its work on
so few pixels, and each one that frees the interpreter's lock is a chance that the threads wait for one another. A stack
is small enough for malloc to keep its memory: asking the system for 64 pictures' took as long as measuring them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, cast

import cv2
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.cosines import cosines
from streamcluster.sources.decode import Decoded, Pixels, resize

HASH_SIDE: Final = 32
HASH_FREQUENCIES: Final = 8
#: Pictures of a stack: 384 KiB of luma, 768 of its Laplacian.
STACK_PICTURES: Final = 24


class Picture(Struct, frozen=True, gc=False):
    """What the catalogue keeps of a picture.

    Attributes
    ----------
    width, height, size, mtime_ns, digest
        As in `Decoded`.
    phash : int
        64-bit perceptual hash, see `perceptual_hashes`.
    brightness : float
        Mean luma (ITU-R BT.601), 0 to 255.
    sharpness : float
        See `sharpnesses`.
    """

    width: int
    height: int
    size: int
    mtime_ns: int
    digest: bytes
    phash: int
    brightness: float
    sharpness: float


def measure_pictures(decoded: Sequence[Decoded]) -> list[Picture]:
    """Return what the catalogue keeps of these pictures, in their order."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, picture in enumerate(decoded):
        by_shape[picture.luma.shape].append(i)
    measured: dict[int, tuple[int, float, float]] = {}
    for shape, alike in by_shape.items():
        for tile in tile_rows(len(alike), STACK_PICTURES):
            indices = alike[tile]
            luma = np.concatenate([decoded[i].luma for i in indices]).reshape(-1, *shape)
            small = shrink_stack(luma, HASH_SIDE)
            spectra = low_frequencies(small)
            values = (perceptual_hashes(spectra), spectra[:, 0] / HASH_SIDE, sharpnesses(luma))
            measured.update(zip(indices, zip(*(v.tolist() for v in values), strict=True), strict=True))
    return [Picture(d.width, d.height, d.size, d.mtime_ns, d.digest, *measured[i]) for i, d in enumerate(decoded)]


def shrink_stack(luma: Pixels, side: int) -> Pixels:
    """Return uint8 (n, side, side), each picture resized on its own."""
    n, height, width = luma.shape
    if height % side or width % side:
        return np.stack([resize(picture, side, side) for picture in luma])
    # Halving averages whole cells, so that one call on the tall picture mixes no two pictures; it is also the factor
    # that OpenCV has a fast way for: 128 to 32 pixels in 2 µs a picture instead of 11.
    tall = luma.reshape(n * height, width)
    while height % (2 * side) == 0 == width % (2 * side):
        height, width = height // 2, width // 2
        tall = resize(tall, width, n * height)
    return resize(tall, side, n * side).reshape(n, side, side)


def sharpnesses(luma: Pixels) -> NDArray[np.float64]:
    """Return the variance of the Laplacian (4 neighbours) of each of (n, h, w), in squared luma steps.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000. One scale for all pictures makes
    the values comparable; blur that is finer than it goes unseen. With the border repeated the Laplacian sums to zero,
    so its mean square is its variance.
    """
    n, height, width = luma.shape
    framed = np.empty((n, height + 2, width), np.int16)
    framed[:, 1:-1], framed[:, 0], framed[:, -1] = luma, luma[:, 0], luma[:, -1]
    # One row after the other, so that the neighbours of all pixels are four long pieces of the same memory; that took
    # 10 µs a picture, and OpenCV's filter 15 to 18.
    flat = framed.reshape(n, -1)
    here = slice(width, -width)
    laplacian = flat[:, : -2 * width] + flat[:, 2 * width :]
    laplacian += flat[:, width - 1 : -width - 1]
    laplacian += flat[:, width + 1 : flat.shape[1] - width + 1]
    laplacian -= flat[:, here] << 2
    # At its ends, each row saw the row before and after instead of its own border again.
    rows = laplacian.reshape(luma.shape)
    rows[:, :, 0] += framed[:, 1:-1, 0] - framed[:, :-2, -1]
    rows[:, :, -1] += framed[:, 1:-1, -1] - framed[:, 2:, 0]
    energies = np.array([cv2.norm(picture, cv2.NORM_L2SQR) for picture in rows], np.float64)
    return cast("NDArray[np.float64]", energies / (height * width))


def low_frequencies(luma: Pixels) -> NDArray[np.float32]:
    """Return the 8 × 8 lowest frequencies, row by row, of each uint8 (n, 32, 32): float32 (n, 64).

    The transform is the orthonormal DCT-II, so that the first is 32 times the mean.
    """
    spectra: NDArray[np.float32] = _COSINES @ luma.astype(np.float32) @ _COSINES.T
    return spectra.reshape(len(luma), HASH_FREQUENCIES**2)


def perceptual_hashes(low: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return the 64-bit DCT hash of pictures of which these are the low frequencies, float32 (n, 64).

    Each frequency against their median, from the highest bit down (Zauner, "Implementation and benchmarking of
    perceptual image hash functions", 2010, 3.2.1). Half a luma step of tolerance keeps rounding out of the hashes of
    plain pictures.
    """
    middle = low.shape[1] // 2
    threshold = np.sort(low, axis=1)[:, middle - 1 : middle + 1].mean(axis=1, keepdims=True) + np.float32(0.5)
    return np.packbits(low > threshold, axis=1).view(">u8").ravel().astype(np.uint64)


_COSINES: Final = cosines(HASH_FREQUENCIES, HASH_SIDE)
