"""Small pictures whose thumbnails are known beforehand, and what a store holds, read without streamcluster."""

import csv
import hashlib
import json
import os
from collections import Counter

import cv2
import numpy as np
import zarr

#: Side of the thumbnails; the files have twice as many pixels, each one repeated, so that shrinking is exact.
SIDE = 16
#: Times of files are fixed, so that a collection can be made again.
BIRTH_NS = 1_600_000_000_000_000_000

#: How the names of half-made files in a destination begin.
TEMPORARY = ".streamcluster-tmp-"


def thumbnail_of(key):
    """Return a picture of a few soft colours, uint8 (16, 16, 3) RGB, another one for each key."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8])
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


class Pictures:
    """A folder of pictures, and every content that its files ever had.

    `thumbnails` maps digests to thumbnails; `versions` holds (path, size, mtime_ns, digest) of each file that ever was.
    """

    def __init__(self, folder):
        self.folder = folder
        self.thumbnails = {}
        self.versions = set()
        self._ticks = 0

    def write(self, name, key):
        thumbnail = thumbnail_of(key)
        large = np.repeat(np.repeat(thumbnail, 2, axis=0), 2, axis=1)
        content = cv2.imencode(".png", large[..., ::-1])[1].tobytes()
        self.thumbnails[hashlib.sha256(content).digest()] = thumbnail
        self.write_bytes(name, content)

    def write_bytes(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.touch(name)

    def touch(self, name):
        """Give a file a time of its own, the same one each time that the collection is made."""
        path = self.folder / name
        self._ticks += 1
        os.utime(path, ns=(BIRTH_NS, BIRTH_NS + self._ticks * 1_000_000_000))
        self._note(path)

    def move(self, old, new):
        (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / old).rename(self.folder / new)
        self._note(self.folder / new)

    def remove(self, name):
        (self.folder / name).unlink()

    def _note(self, path):
        status = path.stat()
        digest = hashlib.sha256(path.read_bytes()).digest()
        self.versions.add((str(path), status.st_size, status.st_mtime_ns, digest))


def pointer_of(store):
    """Return the attributes that say what of a store counts; {} where there is no store yet."""
    return dict(zarr.open_group(store, mode="r").attrs["streamcluster"]) if os.path.isdir(store) else {}


def arrays_of(store):
    """Return what of a store counts, by name: pixels, catalogue, rejects, the current fit, and their attributes."""
    pointer = pointer_of(store)
    counted = {".": pointer["committed"], "catalog": pointer["committed"], "rejects": pointer["committed_rejects"]}
    found, lengths = {}, {}
    for table, n_rows in counted.items():
        for name, array in _arrays_in(store / table):
            found[f"{table}/{name}"] = array[:n_rows]
            lengths[f"{table}/{name}"] = array.shape[0]
    if fit := pointer["current_fit"]:
        found |= {f"fit/{name}": array[...] for name, array in _arrays_in(store / "fits" / fit)}
        found["fit"] = dict(zarr.open_group(store / "fits" / fit, mode="r").attrs)
    return found | {"pointer": pointer, "lengths": lengths}


def embeddings_of(store):
    """Return the arrays of a store's embeddings that are laid out, by name."""
    folders = [path.parent for path in sorted(store.glob("embeddings/*/zarr.json"))]
    laid_out = [folder for folder in folders if zarr.open_group(folder, mode="r").attrs]
    return {f"{folder.name}/{name}": array[...] for folder in laid_out for name, array in _arrays_in(folder)}


def findings_of(store):
    """Return the arrays of the findings of a store that count, by name."""
    kinds = pointer_of(store)["findings"].items()
    return {f"{kind}/{name}": a[...] for kind, which in kinds for name, a in _arrays_in(store / kind / which)}


def _arrays_in(folder):
    """Yield (name, array) without a listing by zarr, which warns of what a kill left."""
    for path in sorted(folder.glob("*/zarr.json")):
        if json.loads(path.read_text())["node_type"] == "array":
            yield path.parent.name, zarr.open_array(path.parent, mode="r")


def check_same(found, expected):
    """Two results of `arrays_of` are the same to the last bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype, name
            assert np.array_equal(found[name], value, equal_nan=value.dtype.kind == "f"), name
        else:
            assert found[name] == value, name


def check_rows(store, pictures):
    """Every row that counts holds the thumbnail of the file that it names, and no path is live twice."""
    found = arrays_of(store)
    live = found["catalog/state"] == 0
    files = list(zip(*(found[f"catalog/{name}"].tolist() for name in ("path", "size", "mtime_ns")), strict=True))
    assert len(files) == len(found["./pixels"]) == len(found["catalog/digest"])
    for i, thumbnail in enumerate(found["./pixels"]):
        digest = found["catalog/digest"][i].tobytes()
        assert np.array_equal(thumbnail, pictures.thumbnails[digest]), files[i]
        assert not live[i] or (*files[i], digest) in pictures.versions
    paths = [file[0] for file, is_live in zip(files, live, strict=True) if is_live]
    assert len(set(paths)) == len(paths)
    return len(files)


def tree(dest):
    """What lies in a destination: contents and times of pictures, the table, and the names of our own files."""
    files = [path for path in dest.rglob("*") if path.is_file()]
    own = sorted(path.name for path in files if ".streamcluster" in path.parts)
    shown = {str(path.relative_to(dest)): path for path in files if ".streamcluster" not in path.parts}
    times = {name: path.stat().st_mtime_ns for name, path in shown.items() if name != "metadata.csv"}
    return {name: (path.read_bytes(), times.get(name)) for name, path in shown.items()} | {"own": own}


def contents(dest):
    """Return how often each picture's content lies in a destination, half-made files left out."""
    found = [path for path in dest.glob("cluster_*/*") if not path.name.startswith(TEMPORARY)]
    return Counter(path.read_bytes() for path in found)


def listed(table):
    """Return how often each picture's content lies where a table says it does."""
    with open(table, newline="", encoding="utf-8") as file:
        return Counter((table.parent / row["file_name"]).read_bytes() for row in csv.DictReader(file))
