"""The peer of ingest: a loop that only reads and decodes. `python -m benchmarks.bare_loop FOLDER FLAG THREADS`."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

#: Files that a thread takes at a time, so that handing them out costs the loop nothing.
PART_FILES = 64


def main(folder: str, flag: str, threads: str) -> None:
    """Decode every JPEG file below the folder with the named OpenCV flag."""
    cv2.setNumThreads(1)
    mode = getattr(cv2, flag)

    def read(paths: list[str]) -> int:
        return sum(cv2.imdecode(np.frombuffer(_read_bytes(path), np.uint8), mode) is not None for path in paths)

    paths = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]
    parts = [paths[start : start + PART_FILES] for start in range(0, len(paths), PART_FILES)]
    with ThreadPoolExecutor(int(threads)) as pool:
        print(json.dumps({"pictures": sum(pool.map(read, parts))}))


def _read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
