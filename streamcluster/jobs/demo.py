"""Real pictures for a first run, without a download: the handwritten digits that come with scikit-learn.

1,797 digits of 8 by 8 pixels, from the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak,
1998; CC BY 4.0).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np

from streamcluster.config import DemoSettings
from streamcluster.errors import DestinationError
from streamcluster.runtime.paths import printable, system_path
from streamcluster.runtime.progress import Progress

#: Side of the pictures written: large enough to look at in a file manager.
SIDE = 64


@dataclass(frozen=True, slots=True)
class DemoReport:
    """How many pictures were written, and where."""

    directory: str
    pictures: int


def demo(settings: DemoSettings, *, progress: Progress | None = None) -> DemoReport:
    """Write the digits as PNG files `digit_0000.png`, …, all in one folder, as one who collects would have them.

    Parameters
    ----------
    settings : DemoSettings
    progress : Progress, optional
        By default silent.

    Raises
    ------
    DestinationError
        The folder cannot be written, or holds files of other names.
    Interrupted
        `progress` was asked to stop; the same call writes the rest.
    """
    from sklearn.datasets import load_digits

    progress = progress or Progress()
    folder = os.path.abspath(settings.directory)
    images = load_digits().images
    names = [f"digit_{i:04d}.png" for i in range(len(images))]
    try:
        os.makedirs(system_path(folder), exist_ok=True)
        if strangers := set(os.listdir(system_path(folder))) - set(names):
            raise DestinationError(
                f"{printable(folder)} holds other files, such as {printable(min(strangers))}; choose an empty folder"
            )
        with progress.stage("write", len(names)):
            for name, image in zip(names, images, strict=True):
                _write_png(os.path.join(folder, name), image)
                progress.advance_or_stop(1)
    except OSError as error:
        if isinstance(error, DestinationError):
            raise
        raise DestinationError(f"{printable(folder)}: cannot write ({error.strerror})") from None
    return DemoReport(folder, len(images))


def _write_png(path: str, image: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """Write one digit, 0 to 16 as ink on paper; one that is there already stays, so that its time does not change."""
    if os.path.exists(system_path(path)):
        return
    ink = cv2.resize(image.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    paper = np.clip(255 - ink * (255 / 16), 0, 255).astype(np.uint8)
    with open(system_path(path), "wb") as file:
        file.write(cv2.imencode(".png", paper)[1].tobytes())
