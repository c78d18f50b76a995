"""Means and components of a feature space as pictures, where they are some, or have a part that is one."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from streamcluster.learn.features import LAB_LIGHTNESS, SPACES
from streamcluster.store.fits import Fit

Kind = Literal["rgb", "gray", "contrast", "lab", "cone"]

#: What the last part of each space is a picture of.
_KINDS: Final[dict[str, Kind]] = {
    "rgb": "rgb",
    "gray": "gray",
    "texture": "contrast",
    "mixed": "contrast",
    "lab": "lab",
    "hsv": "cone",
    "color": "cone",
}
#: What the parts before that are.
_OTHER_PARTS: Final = {"color": "histograms of colours", "mixed": "colours"}
#: Largest a* or b* of a component's picture; nearly all of sRGB lies within.
_LAB_SPAN: Final = 80
#: Components that are shown as pictures at most.
MOST_COMPONENTS: Final = 31


@dataclass(frozen=True, slots=True)
class Eigenimages:
    """Mean and components as pictures of one side; `shares` tells how much of each component the picture is.

    Attributes
    ----------
    mean : uint8 (side, side, 3) RGB
    components : uint8 (n, side, side, 3) RGB
        Each as it departs from middle grey, stretched to its largest departure.
    shares : float64 (n,)
        Part of the component's squared length, 0 to 1.
    others : str
        What the rest of the features are; empty where there is no rest.
    """

    mean: NDArray[np.uint8]
    components: NDArray[np.uint8]
    shares: NDArray[np.float64]
    others: str


def eigenimages_of(fit: Fit, side: int) -> Eigenimages | None:
    """Return what the mean and the first components of a fit of thumbnails of this side look like, if like anything."""
    components = fit.array("components", slice(MOST_COMPONENTS))
    features = fit.attributes["recipe"]["features"]
    return eigenimages(features, side, fit.array("feature_scale"), fit.array("mean"), components)


def eigenimages(
    features: str, side: int, scale: NDArray[np.float32], mean: NDArray[Any], components: NDArray[np.float32]
) -> Eigenimages | None:
    """Return what a fit's mean and components look like (Turk & Pentland 1991), None where features are no picture.

    Parameters
    ----------
    features : str
        Name of the feature space.
    side : int
        Of the thumbnails.
    scale : float32 (F,)
        What each feature was multiplied by.
    mean : float (F,)
    components : float32 (n, F)
        Orthonormal.
    """
    kind = _KINDS.get(features)
    if kind is None:
        return None
    n_features = SPACES[features].part_sizes(side)[-1]
    parts = components[:, -n_features:].astype(np.float64)
    largest = np.abs(parts).max(axis=1, keepdims=True, initial=0)
    departures = np.divide(parts, largest, out=np.zeros_like(parts), where=largest > 0)
    rest = mean[-n_features:] / scale[-n_features:]
    return Eigenimages(
        mean=_pictures(kind, _of_mean(kind, rest[None]))[0],
        components=_pictures(kind, _of_departures(kind, departures)),
        shares=np.square(parts).sum(axis=1),
        others=_OTHER_PARTS.get(features, ""),
    )


def _of_mean(kind: Kind, values: NDArray[Any]) -> NDArray[Any]:
    if kind == "contrast":
        return _of_departures(kind, values / max(np.abs(values).max(), np.finfo(np.float32).tiny))
    if kind == "lab":
        return (values.reshape(-1, 3) * 100 / [LAB_LIGHTNESS, 1, 1]).reshape(values.shape)
    return values


def _of_departures(kind: Kind, values: NDArray[Any]) -> NDArray[Any]:
    if kind in ("lab", "cone"):
        span, middle = ((50, _LAB_SPAN, _LAB_SPAN), (50, 0, 0)) if kind == "lab" else ((1, 1, 0.5), (0, 0, 0.5))
        return (values.reshape(-1, 3) * span + middle).reshape(values.shape)
    return np.asarray(0.5 + 0.5 * values)


def _pictures(kind: Kind, values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 (n, side, side, 3) RGB pictures of float (n, features) in a space's own units."""
    channels = 1 if kind in ("gray", "contrast") else 3
    side = isqrt(values.shape[1] // channels)
    planes = values.reshape(len(values), side, side, channels).astype(np.float32)
    if kind in ("lab", "cone"):
        tall = planes.reshape(-1, side, 3)
        rgb: Any = cv2.cvtColor(tall, cv2.COLOR_Lab2RGB) if kind == "lab" else _from_cone(tall)
        planes = rgb.reshape(planes.shape)
    whole = np.broadcast_to(planes, (*planes.shape[:3], 3))
    return np.rint(np.clip(whole, 0, 1) * 255).astype(np.uint8)


def _from_cone(cone: NDArray[np.float32]) -> Any:
    east, north, value = np.moveaxis(cone, -1, 0)
    hue = np.degrees(np.arctan2(north, east)) % 360
    saturation = np.clip(np.hypot(east, north), 0, 1)
    return cv2.cvtColor(np.stack([hue, saturation, np.clip(value, 0, 1)], axis=-1), cv2.COLOR_HSV2RGB)
