"""Sources, a destination, and what a store would tell an export, without a store."""

import csv
import hashlib
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from streamcluster.config import ExportSettings
from streamcluster.jobs.export import export, export_pictures
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.progress import Progress


@dataclass(frozen=True, slots=True)
class Picture:
    """What the store tells of a picture."""

    row: int
    source: str
    size: int
    mtime_ns: int
    digest: bytes
    cluster: int
    width: int = 64
    height: int = 48
    distance: float = 0.25
    brightness: float = 101.5
    sharpness: float = 7.0
    kept: int = -1
    junk_score: float = math.nan
    suspect: bool = False
    flags: str = ""
    x: float = math.nan
    y: float = math.nan


def digest_of(content):
    return hashlib.sha256(content).digest()


class World:
    """A folder of sources, a destination, and what was ingested."""

    def __init__(self, root):
        self.src, self.dest, self.store = root / "src", root / "dest", root / "s.zarr"
        self.src.mkdir()
        self.store.mkdir()
        self.clusters = {}
        self.best_of, self.scores, self.options = {}, {}, {}
        self.wanted = []
        self._ticks = 0

    def add(self, name, content=None, cluster=0):
        path = self.src / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(path, name.encode("utf-8", "surrogateescape") if content is None else content)
        self.clusters[str(path)] = cluster
        return path

    def write(self, path, content):
        """As careful programs save: a new file, with a time of its own."""
        fresh = path.with_name("fresh~")
        fresh.write_bytes(content)
        self._ticks += 1
        os.utime(fresh, ns=(0, 1_600_000_000_000_000_000 + self._ticks * 1_000_000_007))
        os.replace(fresh, path)

    def remove(self, path):
        path.unlink()
        del self.clusters[str(path)]

    def ingest(self):
        """Take in what lies there, as rows in the order in which it came."""
        rows = {path: row for row, path in enumerate(self.clusters)}
        self.wanted = []
        for path, row in rows.items():
            status, score = os.stat(path), self.scores.get(path, math.nan)
            content = Path(path).read_bytes()
            picture = Picture(row, path, status.st_size, status.st_mtime_ns, digest_of(content), self.clusters[path])
            kept = rows.get(self.best_of.get(path, path), 10_000)
            self.wanted.append(replace(picture, kept=kept, junk_score=score, suspect=score > 0.5))
        return self

    def export(self, progress=None, dest=None, ungrouped=0, rejected=0, waiting=(), replaced=(), found=(), **options):
        options = self.options | options
        chosen = ExportSettings(store=str(self.store), dest=str(dest or self.dest), workers=2, **options)
        if chosen.undo:
            return export(chosen, progress=progress)
        with Executor(chosen.workers) as executor:
            return export_pictures(
                iter(self.wanted),
                chosen,
                executor,
                progress or Progress(),
                store=str(self.store),
                sources=[str(self.src)],
                waiting=waiting,
                replaced=replaced,
                ungrouped=ungrouped,
                rejected=rejected,
                found=found,
            )

    def tree(self, dest=None):
        """What a person sees: each file with its content, each folder; links by what they lead to."""
        root = dest or self.dest
        return {
            str(path.relative_to(root)): path.read_bytes()
            if path.is_file()
            else "folder"
            if path.is_dir()
            else "dangling"
            for path in root.rglob("*")
            if ".streamcluster" not in path.parts
        }

    def files(self, dest=None):
        tree = self.tree(dest)
        tables = ("metadata.csv", "duplicates.csv")
        return {name: content for name, content in tree.items() if content != "folder" and name not in tables}

    def table(self, dest=None, name="metadata.csv"):
        with open((dest or self.dest) / name, newline="", encoding="utf-8") as file:
            return {row["source"]: row for row in csv.DictReader(file)}

    def left_out(self):
        """Return the rows of the table of what was left out, by source."""
        return self.table(name="duplicates.csv") if (self.dest / "duplicates.csv").exists() else {}

    def sources(self):
        return {
            str(p): (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in self.src.rglob("*") if p.is_file()
        }


def check_totals(report):
    assert report.pictures == report.grouped + report.set_aside + report.rejected
    assert report.set_aside == sum(report.reasons.values())


def check_table(world, dest=None):
    """The table lists each file once that lies where it says, with the digest it says, in order."""
    with open((dest or world.dest) / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [row["file_name"] for row in rows]
    assert names == sorted(set(names))
    assert len({row["source"] for row in rows}) == len(rows)
    for row in rows:
        content = ((dest or world.dest) / row["file_name"]).read_bytes()
        assert digest_of(content).hex() == row["digest"]
        assert len(content) == int(row["size"])
    return names
