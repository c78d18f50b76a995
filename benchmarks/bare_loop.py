"""The peer of ingest: a loop that only reads and decodes. `python -m benchmarks.bare_loop FOLDER FLAG THREADS`."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np


def main(folder: str, flag: str, threads: str) -> None:
    """Decode every JPEG file below the folder with the named OpenCV flag."""
    cv2.setNumThreads(1)
    mode = getattr(cv2, flag)

    def read(path: Path) -> int:
        return int(cv2.imdecode(np.fromfile(path, np.uint8), mode).shape[0])

    with ThreadPoolExecutor(int(threads)) as pool:
        heights = list(pool.map(read, Path(folder).rglob("*.jpg"), chunksize=64))
    print(json.dumps({"pictures": len(heights)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
