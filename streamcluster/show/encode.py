"""Thumbnails as a page holds them: the only place that encodes them."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

#: Of the kind of file that `encode` returns.
MEDIA_TYPE: Final = "image/webp"
#: WebP at these qualities takes 0.6 of the bytes of a JPEG of the same peak signal-to-noise ratio: at 64 pixels 0.89 to
#: 1.18 kB instead of 1.48 to 1.86 kB, 33 to 40 dB (300 pictures of each of four kinds).
PICTURE_QUALITY: Final = 85
TILE_QUALITY: Final = 75

#: Sides of a picture and of a tile of a sheet, in pixels, at most; and tiles along each side of a sheet.
PICTURE_SIDE, TILE_SIDE, SHEET_TILES = 128, 32, 32

Pixels = NDArray[np.uint8]


def encode(pixels: Pixels, quality: int) -> bytes:
    """Return the WebP file of uint8 (H, W, 3) RGB pixels."""
    return cv2.imencode(".webp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])[
        1
    ].tobytes()


def shrink(thumbnails: Pixels, side: int) -> Pixels:
    """Return uint8 (n, s, s, 3) thumbnails whose side is `side`, or as it was if that is less."""
    before = thumbnails.shape[1]
    if before <= side or not len(thumbnails):
        return thumbnails
    small = [cv2.resize(thumbnail, (side, side), interpolation=cv2.INTER_AREA) for thumbnail in thumbnails]
    return np.asarray(np.stack(small), np.uint8)


def encode_sheet(tiles: Pixels) -> bytes:
    """Return the file of a sheet of uint8 (n, s, s, 3) tiles, `SHEET_TILES` a row, from the top left; n of a sheet."""
    n, side = tiles.shape[:2]
    n_rows = -(-n // SHEET_TILES)
    sheet = np.zeros((n_rows * SHEET_TILES, side, side, 3), np.uint8)
    sheet[:n] = tiles
    laid = sheet.reshape(n_rows, SHEET_TILES, side, side, 3).swapaxes(1, 2)
    return encode(np.ascontiguousarray(laid).reshape(n_rows * side, SHEET_TILES * side, 3), TILE_QUALITY)
