"""Draw docs/result.png: the groups of a store, a row each, most central pictures first.

`make picture` runs `python docs/make_picture.py STORE` on the demo's store.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from streamcluster.store.collection import open_collection

COLUMNS, GAP = 20, 4


def main(path: str) -> None:
    """Lay the thumbnails out, and write the picture beside this file."""
    collection = open_collection(path)
    side = collection.pointer.image_size
    groups: dict[int, list[tuple[float, int]]] = {}
    for picture in collection.grouped_pictures():
        groups.setdefault(picture.cluster, []).append((picture.distance, picture.row))
    step = side + GAP
    sheet = np.full((len(groups) * step + GAP, COLUMNS * step + GAP, 3), 235, np.uint8)
    for i, (_, members) in enumerate(sorted(groups.items())):
        for j, (_, row) in enumerate(sorted(members)[:COLUMNS]):
            top, left = GAP + i * step, GAP + j * step
            sheet[top : top + side, left : left + side] = collection.thumbnails(slice(row, row + 1))[0]
    written = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2GRAY))[1]
    Path(__file__).with_name("result.png").write_bytes(written.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
