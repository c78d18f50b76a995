"""A store on disk: thumbnails, what is known of them, and the fits made from them.

A collection is a plain zarr v3 group that `zarr.open` reads without streamcluster. One small set of attributes is the
truth: rows and rejects count up to what it says is committed, a fit counts once it names it. It is written last, after
all it points to is on the disk; so a kill, a full disk or a power cut leaves the last committed state.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from streamcluster.config import StoreDefaults
from streamcluster.errors import FitNotFoundError, NoPicturesError, StoreBusyError, StoreFormatError
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.digests import DIGEST_BYTES
from streamcluster.runtime.memory import MIB
from streamcluster.runtime.paths import decode_path, encode_path, printable, system_path
from streamcluster.runtime.words import count
from streamcluster.store.durable import files_below, flush_files, remove_partial_files, write_file, writing_to
from streamcluster.store.embeddings import Embeddings, create_embeddings, find_embeddings
from streamcluster.store.findings import KINDS, Findings, Kind, describe_rows, remove_findings, write_findings
from streamcluster.store.fits import Fit, FitDraft, fit_name
from streamcluster.store.pointer import ATTRIBUTE, Pointer, SettledScan, exclusive_store, is_free, read_pointer
from streamcluster.store.table import (
    CHUNK_KEYS,
    GONE,
    LIVE,
    NO_DESCRIPTION,
    REPLACED,
    STATES,
    Column,
    Table,
    chunk_file,
    find_subgroup,
    open_array,
    open_subgroup,
)

#: Bytes of a block of thumbnails. Measured best around 6 MiB: larger ones cost memory, smaller ones files.
BLOCK_BYTES = 6 * MIB

#: Without shuffling it is twice as fast to write and five times to read as with, 9 % larger on photographs, and smaller
#: on pictures with plain backgrounds (3.2 times smaller than raw, instead of 2.6).
COMPRESSOR = BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle")
#: The same, for blocks: zarr's event loop and its copies of 6 MiB were a fifth of the time at the interpreter's lock.
_CHUNK_CODEC = Blosc(cname="lz4", clevel=5, shuffle=Blosc.NOSHUFFLE)

#: Pictures in groups that are made of columns at a time.
_MADE_ROWS = 512
#: What a picture in a group has a column for, plain numbers.
_NUMBERS = ("size", "mtime_ns", "width", "height", "brightness", "sharpness")
#: What has a value for each row, by what was looked for.
_OF_ROWS: dict[Kind, str] = {"duplicates": "kept", "junk": "score"}

CATALOG = (
    Column("path", "string", "absolute path; '%' and bytes that are not text are percent-encoded"),
    Column("size", "int64", "bytes of the file"),
    Column("mtime_ns", "int64", "modification time of the file, nanoseconds since 1970"),
    Column("width", "int32", "pixels, upright"),
    Column("height", "int32", "pixels, upright"),
    Column("digest", "uint8", "SHA-256 of the file's bytes", (DIGEST_BYTES,)),
    Column("phash", "uint64", "perceptual hash: signs of an 8 by 8 DCT"),
    Column("brightness", "float32", "mean luma, 0 to 255"),
    Column("sharpness", "float32", "variance of the Laplacian of the luma"),
    Column("state", "uint8", "0 live, 1 gone, 2 replaced"),
)
REJECTS = (
    Column("path", "string", "absolute path; '%' and bytes that are not text are percent-encoded"),
    Column("size", "int64", "bytes of the file"),
    Column("mtime_ns", "int64", "modification time of the file, nanoseconds since 1970"),
    Column("reason", "string", "why it is not in the collection"),
    Column("oversize", "bool", "a limit refused it, so it is tried again"),
    Column("state", "uint8", "0 live, 1 gone, 2 replaced"),
)


class GroupedPicture(msgspec.Struct, frozen=True, gc=False):
    """A picture with the group that the current fit put it in, and what else was found out about it.

    Attributes
    ----------
    cluster : int
        -1, and no distance, where it has none yet.
    kept : int
        Row of the best of its near-duplicates: its own where it is that, is alone, or was not looked at.
    junk_score : float
        0 to 1, higher is likelier junk; NaN where none is known. A `suspect` is above the threshold of `junk`.
    flags : str
        Names of what may be wrong with it, such as `dark|blurred`.
    x, y : float
        Its place on the map of all pictures, NaN where it has none.
    """

    row: int
    source: str
    size: int
    mtime_ns: int
    digest: bytes
    width: int
    height: int
    cluster: int
    distance: float
    brightness: float
    sharpness: float
    kept: int
    junk_score: float
    suspect: bool
    flags: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows are in which state; `grouped` of the `live` ones have a label of the current fit."""

    live: int
    gone: int
    replaced: int
    grouped: int
    rejected: int


class Collection:
    """One store, opened for reading; `open_for_writing` gives the one writer its own."""

    def __init__(self, root: str, mode: Literal["r", "r+"] = "r") -> None:
        self.root = root
        self.pointer = read_pointer(root)
        # A Path, since zarr takes a string for an address: before 3.2 one with "::", from then on one with "#" or "?".
        self._group = group = zarr.open_group(Path(root), mode=mode, zarr_format=3)
        self._pixels = open_array(group, "pixels")
        self.catalog = Table(open_subgroup(group, "catalog"), CATALOG, root, self.pointer.committed)
        self.rejects = Table(open_subgroup(group, "rejects"), REJECTS, root, self.pointer.committed_rejects)

    @property
    def n_rows(self) -> int:
        """Committed rows, of pictures in any state."""
        return self.pointer.committed

    @property
    def sources(self) -> tuple[str, ...]:
        """The folders that earlier ingests scanned."""
        return self.pointer.source_folders

    @property
    def current_fit(self) -> str | None:
        """The name of the fit that counts, None before the first."""
        return self.pointer.current_fit

    @property
    def thumbnail_bytes(self) -> int:
        """Bytes of one thumbnail."""
        return 3 * self.pointer.image_size**2

    @property
    def blocks(self) -> list[slice]:
        """The rows of each block of thumbnails."""
        return tile_rows(self.n_rows, self.pointer.block_rows)

    def thumbnails(self, rows: slice) -> NDArray[np.uint8]:
        """Return uint8 (n, S, S, 3) RGB thumbnails of these rows."""
        rows = slice(rows.start, min(rows.stop, self.n_rows))
        block, start = divmod(rows.start, self.pointer.block_rows)
        if start + rows.stop - rows.start <= self.pointer.block_rows:
            with suppress(OSError, RuntimeError, ValueError):
                chunk = self._read_block(block)
                part = chunk[start : start + rows.stop - rows.start]
                # A view of a few rows would keep the whole block in memory.
                return part if len(part) == len(chunk) else part.copy()
        return np.asarray(self._pixels[rows])

    def _read_block(self, number: int) -> NDArray[np.uint8]:
        """Return a chunk as it is stored, for half of what zarr's event loop and copies take."""
        chunk = np.empty((self.pointer.block_rows, *self._pixels.shape[1:]), np.uint8)
        with open(system_path(self._chunk_path(number)), "rb") as file:
            _CHUNK_CODEC.decode(file.read(), out=chunk)
        return chunk

    def _chunk_path(self, number: int) -> str:
        return os.path.join(self.root, "pixels", chunk_file(number, self._pixels.ndim))

    def live_rows(self) -> NDArray[np.bool_]:
        """Return bool (N,): which committed rows are live."""
        live: NDArray[np.bool_] = self.catalog.column("state") == LIVE
        return live

    def check_any(self, live: NDArray[np.bool_]) -> None:
        """Raise NoPicturesError if no row is live."""
        if not live.any():
            shown = printable(self.root)
            raise NoPicturesError(f"{shown} holds no pictures; run: streamcluster ingest FOLDER --store {shown}")

    def counts(self) -> Counts:
        """Count the rows by state."""
        fit = self.fit() if self.current_fit else None
        by_state = np.zeros(len(STATES), dtype=np.int64)
        grouped = 0
        for rows, columns in self.catalog.chunks("state"):
            states = columns["state"]
            by_state += np.bincount(states, minlength=len(STATES))
            labels = fit.labels(rows) if fit else np.empty(0, np.int32)
            grouped += int(np.count_nonzero((states[: len(labels)] == LIVE) & (labels >= 0)))
        rejected = int(np.count_nonzero(self.rejects.column("state") == LIVE))
        return Counts(int(by_state[LIVE]), int(by_state[GONE]), int(by_state[REPLACED]), grouped, rejected)

    def fit(self, name: str | None = None) -> Fit:
        """Return a fit, by default the current one.

        Raises
        ------
        FitNotFoundError
            There is none yet, or none of that name.
        """
        name = name or self.current_fit
        if name is None:
            raise FitNotFoundError(f"{printable(self.root)} has no fit yet; run: streamcluster fit --store {self.root}")
        if name not in self.fits():
            raise FitNotFoundError(f"{printable(self.root)} has no fit {name}; it has {', '.join(self.fits())}")
        return Fit(name, open_subgroup(self._group, f"fits/{name}"))

    def fits(self) -> list[str]:
        """Return the names of the finished fits, oldest first."""
        names = sorted(filter(str.isdecimal, os.listdir(os.path.join(self.root, "fits"))))
        return [name for name in names if self.current_fit and int(name) <= int(self.current_fit)]

    def embeddings(self, name: str) -> Embeddings | None:
        """Return what the model of this name made, None if nothing."""
        parent = self._embeddings_group()
        return None if parent is None else find_embeddings(parent, self._embeddings_folder(name), name)

    def all_embeddings(self) -> list[Embeddings]:
        """Return what all models made, by name."""
        folder = self._embeddings_folder()
        names = sorted(os.listdir(folder)) if self._embeddings_group() is not None else []
        found = (self.embeddings(name) for name in names if os.path.isdir(os.path.join(folder, name)))
        return [embeddings for embeddings in found if embeddings is not None]

    def _embeddings_folder(self, *name: str) -> str:
        return os.path.join(self.root, "embeddings", *name)

    def _embeddings_group(self) -> zarr.Group | None:
        """Return the group of all embeddings; None where there is none yet, or a kill came while it was made."""
        return find_subgroup(self._group, "embeddings")

    def findings(self, kind: Kind) -> Findings | None:
        """Return what was last found of this kind, None before the first time."""
        name = self.pointer.findings.get(kind)
        return None if name is None else Findings(open_subgroup(self._group, f"{kind}/{name}"))

    def outdated(self) -> dict[str, str]:
        """Return what happened since near-duplicates and junk were looked for, of each that is older than the store."""
        live, told = self.live_rows(), dict[str, str]()
        for kind, array in _OF_ROWS.items():
            if (found := self.findings(kind)) is None:
                continue
            new = int(np.count_nonzero(live[found.count(array) :]))
            marked = kind == "junk" and found.attributes.get("marks") != self.pointer.findings.get("marks")
            if new or marked:
                told[kind] = f"{count(new, 'picture')} came since" if new else "marks changed since"
        return told

    def grouped_pictures(self) -> Iterator[GroupedPicture]:
        """Yield the live pictures that the current fit labelled, in row order."""
        return self._pictures(LIVE, grouped=True)

    def waiting_pictures(self) -> Iterator[GroupedPicture]:
        """Yield the live pictures that came, changed or came back since the current fit, in row order."""
        return self._pictures(LIVE, grouped=False)

    def replaced_pictures(self) -> Iterator[GroupedPicture]:
        """Yield what the current fit labelled and was replaced since, in row order."""
        return self._pictures(REPLACED, grouped=True)

    def _pictures(self, state: int, *, grouped: bool) -> Iterator[GroupedPicture]:
        fit = self.fit()
        with self._reading_findings():
            found = {kind: self.findings(kind) for kind in KINDS}
        for rows, columns in self.catalog.chunks("path", "digest", "state", *_NUMBERS):
            states = columns["state"]
            with self._reading_findings():
                known = describe_rows(found, rows)
            labels, distances = _padded(fit.labels(rows), len(states), -1), _padded(fit.distances(rows), len(states), 0)
            wanted = np.flatnonzero((states == state) & ((labels >= 0) == grouped))
            for tile in tile_rows(len(wanted), _MADE_ROWS):
                chosen = wanted[tile]
                values = {name: columns[name][chosen].tolist() for name in _NUMBERS}
                values |= {name: list(map(column.__getitem__, chosen.tolist())) for name, column in known.items()}
                values["row"] = (rows.start + chosen).tolist()
                values["source"] = [decode_path(str(path)) for path in columns["path"][chosen]]
                values["digest"] = [digest.tobytes() for digest in columns["digest"][chosen]]
                values["cluster"], values["distance"] = labels[chosen].tolist(), distances[chosen].tolist()
                yield from map(GroupedPicture, *(values[name] for name in GroupedPicture.__struct_fields__))

    @contextmanager
    def _reading_findings(self) -> Iterator[None]:
        """Refuse findings that were replaced while a `with` block read them: zarr takes a missing chunk for zeros.

        Raises
        ------
        StoreBusyError
            Newer findings count.
        """
        try:
            yield
        except (StoreFormatError, OSError, *NO_DESCRIPTION):
            self._check_findings()
            raise
        self._check_findings()

    def _check_findings(self) -> None:
        now = read_pointer(self.root).findings
        if any(now.get(kind) != name for kind, name in self.pointer.findings.items()):
            raise StoreBusyError(
                f"{printable(self.root)}: what is known of the pictures was replaced while it was read; nothing was "
                "changed, run the same command again"
            )


class CollectionWriter(Collection):
    """The one writer of a store.

    Rows are appended in three steps: `make_room` once, `write_block` for each block (from any thread, one task a
    block), `commit_rows` from the coordinator.
    """

    def recover(self) -> None:
        """Drop what a killed run left uncommitted."""
        with self.writing():
            remove_partial_files(self.root)
        self.trim()

    def make_room(self, n_rows: int) -> None:
        """Let pixels, catalogue and rejects take up to `n_rows` more rows each."""
        with self.writing():
            self._pixels.resize((self.n_rows + n_rows, *self._pixels.shape[1:]))
            self.catalog.resize(self.catalog.n_rows + n_rows)
            self.rejects.resize(self.rejects.n_rows + n_rows)

    def trim(self) -> None:
        """Cut all arrays to what is committed."""
        with self.writing():
            changed = self.catalog.resize(self.catalog.n_rows) + self.rejects.resize(self.rejects.n_rows)
            if self._pixels.shape[0] != self.n_rows:
                self._pixels.resize((self.n_rows, *self._pixels.shape[1:]))
                changed.append(os.path.join(self.root, "pixels", "zarr.json"))
            if changed:
                flush_files(changed, self.root)

    def write_block(self, start: int, thumbnails: NDArray[np.uint8]) -> None:
        """Write the rows of one block, from its first; safe beside other blocks' writers.

        Parameters
        ----------
        start : int
            A multiple of `block_rows`.
        thumbnails : uint8 (n, S, S, 3)
            n <= block_rows. What is committed of this block is part of it.
        """
        assert start % self.pointer.block_rows == 0
        chunk = thumbnails if len(thumbnails) == self.pointer.block_rows else self._whole_block(thumbnails)
        with self.writing():
            write_file(self._chunk_path(start // self.pointer.block_rows), _CHUNK_CODEC.encode(chunk))

    def _whole_block(self, thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a block that begins with these rows; chunks are stored whole."""
        chunk = np.zeros((self.pointer.block_rows, *thumbnails.shape[1:]), np.uint8)
        chunk[: len(thumbnails)] = thumbnails
        return chunk

    def commit_rows(self, pictures: dict[str, list[Any]], rejects: dict[str, list[Any]]) -> None:
        """Write what is known of the next rows, whose thumbnails are written, and let them count."""
        if pictures["path"] or rejects["path"]:
            self.remember_scan(None)
        with self.writing():
            changed = self.catalog.write(self.catalog.n_rows, pictures)
            changed += self.rejects.write(self.rejects.n_rows, rejects)
            changed.append(os.path.join(self.root, "pixels", "zarr.json"))
            flush_files(changed, self.root)
            self._commit(
                committed=self.catalog.n_rows + len(pictures["path"]),
                committed_rejects=self.rejects.n_rows + len(rejects["path"]),
            )
        self.catalog.n_rows = self.pointer.committed
        self.rejects.n_rows = self.pointer.committed_rejects

    def set_state(self, table: Table, rows: Sequence[int], state: int) -> None:
        """Mark rows live, gone or replaced."""
        self.update(table, rows, {"state": np.full(len(rows), state)})

    def update(self, table: Table, rows: Sequence[int], columns: dict[str, Any]) -> None:
        """Change what is known of committed rows; the next commit makes sure that it is on the disk."""
        if rows:
            self.remember_scan(None)
            with self.writing():
                flush_files(table.update(rows, columns), self.root)

    def remember_sources(
        self, present: Iterable[str], absent: Iterable[str], include: tuple[str, ...], exclude: tuple[str, ...]
    ) -> None:
        """Add to the folders that make up this collection or take away from them, and note which files were taken."""
        merged = dict.fromkeys([*self.pointer.sources, *sorted(map(encode_path, present))])
        kept = tuple(source for source in merged if source not in set(map(encode_path, absent)))
        if (kept, include, exclude) != (self.pointer.sources, self.pointer.include, self.pointer.exclude):
            self._commit(sources=kept, include=include, exclude=exclude, settled=None)

    def remember_scan(self, settled: SettledScan | None) -> None:
        """Note that a run which finds these files has nothing to do; every change of rows or sources forgets that."""
        if settled != self.pointer.settled:
            self._commit(settled=settled)

    def make_embeddings(self, name: str, width: int, attributes: dict[str, Any]) -> Embeddings:
        """Return the embeddings of this name, new ones if there are none, with room for all rows."""
        with self.writing():
            found = self.embeddings(name)
            if found is None:
                parent = self._embeddings_group() or self._group.create_group("embeddings", overwrite=True)
                flush_files([os.path.join(self._embeddings_folder(), "zarr.json")], self.root)
                found = create_embeddings(parent, self._embeddings_folder(name), name, width, attributes)
            found.make_room(self.n_rows)
        return found

    def writing(self) -> AbstractContextManager[None]:
        """Turn a write that the disk refuses inside a `with` block into a StoreWriteError; drafts do not themselves."""
        return writing_to(self.root)

    def draft_fit(self, key: str) -> FitDraft:
        """Return the unfinished fit that `key` describes, as far as an interrupted run got, or a new one."""
        with self.writing():
            return FitDraft.resume_or_create(
                open_subgroup(self._group, "fits"), os.path.join(self.root, "fits"), key, self.current_fit
            )

    def publish_fit(self, draft: FitDraft, attributes: dict[str, Any]) -> None:
        """Let a finished fit be the current one."""
        with self.writing():
            draft.finish(attributes)
            self._commit(current_fit=draft.name)

    def publish_findings(self, kind: Kind, arrays: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> None:
        """Let this be what is known of this kind, and remove what was known before."""
        before = self.pointer.findings.get(kind)
        folder = os.path.join(self.root, kind)
        with self.writing():
            name = write_findings(self._group.require_group(kind), folder, before, arrays, attributes)
        self._commit(findings=self.pointer.findings | {kind: name})
        if before is not None:
            remove_findings(folder, before)

    def prune_fits(self, keep: int) -> None:
        """Remove all but the last `keep` finished fits."""
        for name in self.fits()[:-keep]:
            shutil.rmtree(system_path(os.path.join(self.root, "fits", name)), ignore_errors=True)

    def _commit(self, **changes: Any) -> None:
        pointer = msgspec.structs.replace(self.pointer, **changes)
        with self.writing():
            self._group.attrs[ATTRIBUTE] = msgspec.to_builtins(pointer)
            flush_files([os.path.join(self.root, "zarr.json")], self.root)
        self.pointer = pointer


def _padded(values: NDArray[Any], length: int, rest: int) -> NDArray[Any]:
    """Return the values of a fit for rows of which it may not have known the last ones."""
    return np.pad(values, (0, length - len(values)), constant_values=rest)


def open_collection(path: str, fit: str | None = None) -> Collection:
    """Open a store for reading; needs no lock.

    Parameters
    ----------
    path : str
    fit : str, optional
        Name of the fit that is to be looked at as the current one.

    Raises
    ------
    StoreNotFoundError
        Nothing is there.
    StoreFormatError
        What is there is not a store, or of a newer format.
    FitNotFoundError
        It has no fit of that name.
    """
    root = os.path.realpath(path)
    collection = Collection(root)
    if fit is not None:
        name = collection.fit(fit.zfill(len(fit_name(1)))).name
        collection.pointer = msgspec.structs.replace(collection.pointer, current_fit=name)
    return collection


@contextmanager
def open_for_writing(path: str, create: StoreDefaults | None = None) -> Iterator[CollectionWriter]:
    """Open a store as its one writer, and make it first if it does not exist and `create` says how.

    Raises
    ------
    StoreBusyError
        Another process writes to it.
    StoreNotFoundError, StoreFormatError
        As `open_collection`.
    """
    root = os.path.realpath(path)
    if create is None:
        read_pointer(root)
    with exclusive_store(root):
        if create is not None and is_free(root):
            _create(root, create)
        collection = CollectionWriter(root, "r+")
        collection.recover()
        yield collection


def _create(root: str, layout: StoreDefaults) -> None:
    """Make the store under a temporary name, so that it is there whole or not at all."""
    making = root + ".making"
    if os.path.lexists(making) and not os.path.exists(os.path.join(making, "zarr.json")):
        raise StoreFormatError(
            f"{printable(making)} is in the way of making a store; move it, or choose another --store"
        )
    with writing_to(root):
        group = zarr.open_group(Path(making), mode="w", zarr_format=3)
        block_rows = rows_per_block(layout.image_size)
        group.create_array(
            "pixels",
            shape=(0, layout.image_size, layout.image_size, 3),
            chunks=(block_rows, layout.image_size, layout.image_size, 3),
            dtype="uint8",
            compressors=COMPRESSOR,
            chunk_key_encoding=CHUNK_KEYS,
            attributes={"meaning": "RGB thumbnails; row i belongs to row i of catalog"},
        )
        Table.create(group, "catalog", CATALOG)
        Table.create(group, "rejects", REJECTS)
        group.create_group("fits")
        pointer = Pointer(**msgspec.structs.asdict(layout), block_rows=block_rows)
        group.attrs[ATTRIBUTE] = msgspec.to_builtins(pointer)
        flush_files(files_below(making), making)
        if os.path.isdir(root):
            os.rmdir(root)
        os.rename(making, root)
        flush_files([], os.path.dirname(root))


def rows_per_block(image_size: int) -> int:
    """Return how many thumbnails of this side make a block: a power of two, 512 at 64 pixels."""
    rows = max(1, BLOCK_BYTES // (3 * image_size * image_size))
    return 1 << (rows.bit_length() - 1)
