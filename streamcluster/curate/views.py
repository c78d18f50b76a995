"""Views of a picture: what crops, borders, captions and mirrors leave of it, and what of a view is compared.

A view is a rectangle of a thumbnail. If one of a picture's views looks like the whole of another, the one was cut from
the other, or was put into a border, or has a caption below or above.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.runtime.cosines import cosines

#: float32 arrays, of which NumPy's type stubs take many a product for something else.
Floats = NDArray[Any]

#: Side of the squares that are compared, in pixels; thumbnails of another size are resampled.
SIDE: Final = 64
#: Frequencies of a descriptor each way.
FREQUENCIES: Final = 8
#: Pixels of a view that descriptors are made of, each way.
VIEW_SIDE: Final = 16
#: Frequencies above this radius are left out: compression and shrinking change them.
MOST_FREQUENCY: Final = 7.0
#: Exponent of a frequency in its weight. Natural pictures have amplitudes of about 1/f (Field, JOSA A 4, 1987), so that
#: the lowest few would decide alone; half of that, as measured, finds most.
WHITENING: Final = 0.5
#: ITU-R BT.601.
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class View:
    """What is left of a picture without margins, each a share of the picture's side."""

    left: float
    top: float
    right: float
    bottom: float


def _inner(margin: float) -> View:
    return View(margin, margin, margin, margin)


_STRIP: Final = 0.11
#: The whole first. Even margins are for crops of all sides and borders, strips for crops of some sides and captions.
#: On pictures with 23 other changes, 8 neighbours a picture join 89 % of the pairs without strips and 96 % with them.
VIEWS: Final = (
    *map(_inner, (0.0, 0.04, 0.08, 0.12, 0.17)),
    View(_STRIP, 0, 0, 0),
    View(0, _STRIP, 0, 0),
    View(0, 0, _STRIP, 0),
    View(0, 0, 0, _STRIP),
    View(_STRIP, 0, _STRIP, 0),
    View(0, _STRIP, 0, _STRIP),
)

#: Share of the height that a caption may take, and what it leaves of a picture, whichever edge it is written along.
CAPTION: Final = 0.2
MIDDLE: Final = (View(0, CAPTION, 0, CAPTION),)


def luma_of(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rounded luma, uint8 (n, 64, 64), of RGB thumbnails, uint8 (n, S, S, 3)."""
    luma = thumbnails.astype(np.float32) @ _LUMA
    if luma.shape[1] != SIDE:
        shrink = averaging(0, 1, luma.shape[1], SIDE)
        luma = shrink @ luma @ shrink.T
    rounded: NDArray[np.uint8] = np.rint(luma).astype(np.uint8)
    return rounded


def chroma_of(thumbnails: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return half of red and blue minus luma, int8 (n, 2, 16, 16), of RGB thumbnails, uint8 (n, S, S, 3)."""
    shrink = averaging(0, 1, thumbnails.shape[1], VIEW_SIDE)
    colours = shrink @ np.moveaxis(thumbnails, 3, 1).astype(np.float32) @ shrink.T
    luma = np.einsum("c,ncyx->nyx", _LUMA, colours)
    halves = (colours[:, [0, 2]] - luma[:, None]) / 2
    rounded: NDArray[np.int8] = np.rint(np.clip(halves, -127, 127)).astype(np.int8)
    return rounded


def halved(luma: Floats) -> Floats:
    """Return float32 (n, S / 2, S / 2): means of 2 by 2 pixels."""
    means: Floats = (luma[:, ::2, ::2] + luma[:, 1::2, ::2] + luma[:, ::2, 1::2] + luma[:, 1::2, 1::2]) * np.float32(
        0.25
    )
    return means


@cache
def averaging(start: float, stop: float, n_pixels: int, n_out: int) -> Floats:
    """Return float32 (n_out, n_pixels): weights that average the pixels from `start` to `stop`, shares of the side.

    Nobody can write into them, since all who ask for the same get the same.

    >>> averaging(0, 1, 4, 2)
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0.5]], dtype=float32)
    """
    edges = np.linspace(start * n_pixels, stop * n_pixels, n_out + 1)
    pixels = np.arange(n_pixels)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(covered, 0, None)
    shares = np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
    shares.flags.writeable = False
    return shares


_COSINES: Final = cosines(FREQUENCIES, VIEW_SIDE)
_RADIUS: Final = np.hypot(*np.ogrid[:FREQUENCIES, :FREQUENCIES])
_KEPT: Final = (_RADIUS > 0) & (_RADIUS <= MOST_FREQUENCY)
_WEIGHTS: Final = np.asarray(_RADIUS[_KEPT] ** WHITENING, np.float32)
#: Signs by which a mirrored picture's frequencies differ.
_MIRROR: Final = np.asarray(np.where(np.nonzero(_KEPT)[1] % 2, -1, 1), np.float32)
#: Numbers of a descriptor.
N_NUMBERS: Final = int(_KEPT.sum())


def describe(luma: Floats, views: tuple[View, ...] = VIEWS) -> Floats:
    """Return descriptors of views: low frequencies of the luma, to unit length, so that a product is a correlation.

    Parameters
    ----------
    luma : float32 (n, S, S)
    views : tuple of View

    Returns
    -------
    float32 (n, 2 * len(views), N_NUMBERS)
        Of the views, then of the mirrored picture's views. Zeros for a plain picture.
    """
    numbers = np.stack([_frequencies(luma, view) for view in views], axis=1)
    lengths = np.linalg.norm(numbers, axis=2, keepdims=True)
    np.divide(numbers, lengths, out=numbers, where=lengths > 1e-3)
    # A view of the mirrored picture, mirrored back, is the view with left and right margins exchanged.
    mirrored = [views.index(View(view.right, view.top, view.left, view.bottom)) for view in views]
    return np.concatenate([numbers, numbers[:, mirrored] * _MIRROR], axis=1)


def _frequencies(luma: Floats, view: View) -> Floats:
    n_pixels = luma.shape[1]
    rows = _COSINES @ averaging(view.top, 1 - view.bottom, n_pixels, VIEW_SIDE)
    columns = _COSINES @ averaging(view.left, 1 - view.right, n_pixels, VIEW_SIDE)
    spectra: Floats = rows @ luma @ columns.T
    return spectra[:, _KEPT] * _WEIGHTS
