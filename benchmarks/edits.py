"""Edits of the shared pictures as people make them, beside those in the shared near-duplicates.

Crops lie off the middle and captions at the top too; gamma, contrast and saturation change; some get two edits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import SHARED

Picture = NDArray[np.uint8]
#: OpenCV's stubs give arrays of any type.
Edit = Callable[[Any, np.random.Generator], Any]

#: Edits of two kinds at once that a picture gets.
COMBINED: Final = 4
_BAR: Final = 0.15


def _crop(picture: Picture, rng: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    left, right, top, bottom = rng.uniform(0.01, 0.12, 4)
    return picture[int(top * height) : height - int(bottom * height), int(left * width) : width - int(right * width)]


def _crop_of_a_side(picture: Picture, rng: np.random.Generator) -> Picture:
    turns = int(rng.integers(4))
    turned = np.rot90(picture, turns)
    return np.rot90(turned[int(rng.uniform(0.03, 0.12) * len(turned)) :], -turns)


def _border(picture: Picture, rng: np.random.Generator) -> Any:
    margin = max(1, int(rng.uniform(0.02, 0.07) * min(picture.shape[:2])))
    value = [int(v) for v in rng.integers(0, 256, 3)]
    return cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=value)


def _caption(picture: Picture, rng: np.random.Generator) -> Any:
    written, height = picture.copy(), len(picture)
    bar, at_top = int(height * _BAR), rng.random() < 0.5
    if rng.random() < 0.5:
        written[:bar] = 0 if at_top else written[:bar]
        written[height - bar :] = written[height - bar :] if at_top else 0
    place = (4, int(bar * 0.7) if at_top else height - int(bar * 0.3))
    return cv2.putText(written, "seen on monday", place, cv2.FONT_HERSHEY_SIMPLEX, height / 400, (255, 255, 255), 1)


def _gamma(picture: Picture, rng: np.random.Generator) -> Any:
    curve = np.rint(255 * np.linspace(0, 1, 256) ** rng.uniform(0.7, 1.4))
    return cv2.LUT(picture, curve.astype(np.uint8))


def _grey(picture: Picture, _: np.random.Generator) -> Any:
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def _saturation(picture: Picture, rng: np.random.Generator) -> Any:
    share = rng.uniform(0.6, 1.4)
    return cv2.addWeighted(picture, share, _grey(picture, rng), 1 - share, 0)


def _contrast(picture: Picture, rng: np.random.Generator) -> Any:
    share = rng.uniform(0.7, 0.95)
    return cv2.convertScaleAbs(picture, alpha=share, beta=128 * (1 - share))


EDITS: Final[dict[str, Edit]] = {
    "encoded": lambda picture, _: picture,
    "crop": _crop,
    "side": _crop_of_a_side,
    "border": _border,
    "caption": _caption,
    "dim": lambda picture, rng: cv2.convertScaleAbs(picture, alpha=rng.uniform(0.45, 0.8)),
    "bright": lambda picture, rng: cv2.convertScaleAbs(picture, alpha=rng.uniform(1.1, 1.3)),
    "gamma": _gamma,
    "contrast": _contrast,
    "grey": _grey,
    "saturation": _saturation,
    "mirror": lambda picture, _: picture[:, ::-1],
    "half": lambda picture, _: cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "double": lambda picture, _: cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR),
}


def write_edits(folder: Path, name: str, n_edited: int, seed: int = 0) -> None:
    """Write the pictures of a shared set, and edits of some, as `GROUP-EDIT.ENDING`: all of a group are one picture.

    Edits are saved as JPEG or, every fourth, as WebP, of quality 25 to 95.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = sorted(path for path in (SHARED.parent / name).rglob("*") if path.suffix in (".jpg", ".png"))
    for i, place in enumerate(rng.permutation(len(paths))):
        picture = cv2.imread(str(paths[place]))
        cv2.imwrite(str(folder / f"{place}-original.png"), picture)
        for edit, changed in _edits_of(picture, rng) if i < n_edited else []:
            ending = "webp" if rng.random() < 0.25 else "jpg"
            quality = cv2.IMWRITE_WEBP_QUALITY if ending == "webp" else cv2.IMWRITE_JPEG_QUALITY
            options = [quality, int(rng.integers(25, 96))]
            cv2.imwrite(str(folder / f"{place}-{edit}.{ending}"), np.ascontiguousarray(changed), options)


def _edits_of(picture: Any, rng: np.random.Generator) -> list[tuple[str, Picture]]:
    single = [(name, edit(picture, rng)) for name, edit in EDITS.items()]
    names = [rng.choice(list(EDITS), 2, replace=False) for _ in range(COMBINED)]
    both = [(f"{i}-{one}-{two}", EDITS[two](EDITS[one](picture, rng), rng)) for i, (one, two) in enumerate(names)]
    return single + both
