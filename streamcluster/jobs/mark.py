"""What a person says of pictures, junk or not, kept in the store by the digest of their bytes.

So a mark outlives a move or a copy of the file: the folders of an export that a person sorted will do as well as the
files that were collected. A later mark of the same picture wins.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import MarkSettings
from streamcluster.errors import SettingsError, SourceNotFoundError, UnknownPictureError
from streamcluster.runtime.digests import DIGEST_BYTES, digest_of, file_digest
from streamcluster.runtime.paths import printable
from streamcluster.runtime.progress import Progress
from streamcluster.runtime.words import count
from streamcluster.sources.scan import Listing, Patterns, walk
from streamcluster.store.collection import Collection, CollectionWriter, open_for_writing

#: Ending of a list of paths.
LIST_ENDING: Final = ".txt"
#: Paths that an error names.
NAMED_PATHS: Final = 3


@dataclass(frozen=True, slots=True)
class MarkReport:
    """What `mark` did: pictures marked as junk and as none by this run, marks taken back, and all marks now."""

    junk: int
    keep: int
    forgotten: int
    junk_marks: int
    keep_marks: int


@dataclass(frozen=True)
class Marks:
    """All marks of a store: digests of pictures' bytes, and whether each is junk."""

    junk_of: dict[bytes, bool]

    def count(self, *, junk: bool) -> int:
        """Return how many are of this kind."""
        return sum(kind == junk for kind in self.junk_of.values())

    @cached_property
    def key(self) -> str:
        """What stands for all of them."""
        parts = (digest + bytes([kind]) for digest, kind in sorted(self.junk_of.items()))
        return digest_of(b"".join(parts)).hex()

    def of_rows(self, collection: Collection, wanted: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Return int8 (n,): of the rows that are wanted, 1 for junk, -1 for what is none, 0 without a mark."""
        found = np.zeros(len(wanted), np.int8)
        if self.junk_of:
            for rows, columns in collection.catalog.chunks("digest"):
                kinds = [self.junk_of.get(digest.tobytes()) for digest in columns["digest"]]
                found[rows] = [0 if kind is None else 1 if kind else -1 for kind in kinds]
        return np.where(wanted, found, 0).astype(np.int8)


def mark(settings: MarkSettings, *, progress: Progress | None = None) -> MarkReport:
    """Note which pictures are junk and which are not, for `junk` to learn from.

    Parameters
    ----------
    settings : MarkSettings
    progress : Progress, optional
        By default silent.

    Raises
    ------
    SourceNotFoundError
        A path does not exist, or nothing there is a picture.
    UnknownPictureError
        A file has bytes that the store has never seen. Nothing is stored.
    SettingsError
        The same picture is to be junk and not, or a list of paths cannot be read.
    StoreError
        There is no store, it is busy, or its disk refuses writes.
    Interrupted
        `progress` was asked to stop; nothing is stored.
    """
    progress = progress or Progress()
    with open_for_writing(settings.store) as collection:
        patterns = Patterns(collection.pointer.include or ("*",), ())
        named = {"--junk": settings.junk, "--keep": settings.keep, "--forget": settings.forget}
        with progress.stage("marks", None, "files"):
            found = {
                option: _digests_below(paths, patterns, collection.root, option, progress)
                for option, paths in named.items()
            }
        for option, paths in named.items():
            if paths and not found[option]:
                raise SourceNotFoundError(f"{option} {printable(paths[0])}: there is no picture; nothing was marked")
        _check(collection, found)
        before = read_marks(collection).junk_of
        forgotten = [digest for digest in found["--forget"] if digest in before]
        after = {digest: kind for digest, kind in before.items() if digest not in found["--forget"]}
        after |= dict.fromkeys(found["--junk"], True) | dict.fromkeys(found["--keep"], False)
        if after != before:
            _write_marks(collection, after)
        now = Marks(after)
        return MarkReport(
            len(found["--junk"]), len(found["--keep"]), len(forgotten), now.count(junk=True), now.count(junk=False)
        )


def read_marks(collection: Collection) -> Marks:
    """Return the marks of a store."""
    found = collection.findings("marks")
    if found is None:
        return Marks({})
    digests, junk = found.array("digest"), found.array("junk")
    return Marks({digest.tobytes(): bool(kind) for digest, kind in zip(digests, junk, strict=True)})


def _write_marks(collection: CollectionWriter, junk_of: dict[bytes, bool]) -> None:
    digests = sorted(junk_of)
    arrays = {
        "digest": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES),
        "junk": np.array([junk_of[digest] for digest in digests], np.uint8),
    }
    collection.publish_findings("marks", arrays, {})


def _digests_below(
    paths: Sequence[str], patterns: Patterns, keep_out: str, option: str, progress: Progress
) -> dict[bytes, str]:
    """Return the digests of all pictures that some paths stand for, each with the path of one."""
    found: dict[bytes, str] = {}
    for path in _listed(paths, option):
        for file in _files_of(path, patterns, keep_out, option):
            try:
                found[file_digest(file)] = file
            except OSError as error:
                raise SourceNotFoundError(
                    f"{option} {printable(file)}: cannot read this file ({error.strerror}); nothing was marked"
                ) from None
            progress.advance_or_stop(1)
    return found


def _listed(paths: Sequence[str], option: str) -> Iterator[str]:
    """Yield paths, and instead of a text file those that it lists, relative to its folder."""
    for path in paths:
        if not path.lower().endswith(LIST_ENDING) or (os.path.exists(path) and not os.path.isfile(path)):
            yield path
            continue
        try:
            with open(path, "rb") as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise SettingsError(f"{option} {printable(path)}: cannot read this list ({error.strerror})") from None
        folder = os.path.dirname(os.path.abspath(path))
        yield from (os.path.join(folder, os.fsdecode(line)) for line in lines if line.strip())


def _files_of(path: str, patterns: Patterns, keep_out: str, option: str) -> Iterator[str]:
    """Yield the file at a path, or the pictures in the folder there and below it."""
    if os.path.isdir(path):
        for entry in walk([os.path.abspath(path)], patterns, keep_out, Listing(), lambda: None):
            yield os.fsdecode(entry.path)
    elif os.path.isfile(path):
        yield path
    elif os.path.exists(path):
        raise SourceNotFoundError(f"{option} {printable(path)}: this is no file and no folder; nothing was marked")
    else:
        raise SourceNotFoundError(f"{option} {printable(path)}: there is no such file or folder; nothing was marked")


def _check(collection: Collection, found: dict[str, dict[bytes, str]]) -> None:
    """Refuse what contradicts itself, and pictures that the store has never seen."""
    for one, other in (("--junk", "--keep"), ("--junk", "--forget"), ("--keep", "--forget")):
        if both := [path for digest, path in found[one].items() if digest in found[other]]:
            raise SettingsError(f"{one} and {other} both name {_named(both)}; nothing was marked, name a picture once")
    unknown = {digest: path for paths in found.values() for digest, path in paths.items()}
    for _, columns in collection.catalog.chunks("digest"):
        for digest in columns["digest"]:
            unknown.pop(digest.tobytes(), None)
    if unknown:
        are = "is" if len(unknown) == 1 else "are"
        raise UnknownPictureError(
            f"{_named(list(unknown.values()))} {are} not in {printable(collection.root)}; nothing was marked, "
            "name pictures that ingest took, or copies of them"
        )


def _named(paths: list[str]) -> str:
    """Return how many pictures these are, and the first of them."""
    shown = ", ".join(map(printable, paths[:NAMED_PATHS]))
    more = f" and {len(paths) - NAMED_PATHS:,} more" if len(paths) > NAMED_PATHS else ""
    return f"{count(len(paths), 'picture')} ({shown}{more})"
