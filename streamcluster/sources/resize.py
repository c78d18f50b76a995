"""Pictures at another size, one or a stack of them."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def resize_stack(stack: Pixels, width: int, height: int) -> Pixels:
    """Return each of (n, h, w, …) resized on its own, as `resize` does it.

    Where both sides shrink by whole numbers no cell spans two pictures, so that one call on the tall picture does it.
    """
    n, h, w, *channels = stack.shape
    if n == 1 or h % height or w % width:
        return np.stack([resize(picture, width, height) for picture in stack])
    tall = resize(stack.reshape(n * h, w, *channels), width, n * height)
    return tall.reshape(n, height, width, *channels)


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return `pixels` at a new size: area averages along an axis that shrinks, linear along one that grows.

    `cv2.INTER_AREA` alone turns linear in both as soon as one axis grows, and a shrinking axis then aliases.
    """
    least = (min(width, pixels.shape[1]), min(height, pixels.shape[0]))
    if least != pixels.shape[1::-1]:
        pixels = cast(Pixels, cv2.resize(pixels, least, interpolation=cv2.INTER_AREA))
    if least != (width, height):
        pixels = cast(Pixels, cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR))
    return pixels
