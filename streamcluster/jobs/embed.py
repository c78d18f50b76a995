"""What `fit` does first where a model of a person's is to look at the pictures: original files become embeddings.

    rows without an embedding ─▶ parts of files ─decode─▶ pictures ─model─▶ rows ─▶ blocks of the store

Each live row is embedded once for a model, and stored. A picture whose file cannot be read as it was ingested (gone,
changed, broken) is embedded from its thumbnail, so that every live picture has a group, and tried again by the next
fit. Rows of pictures that are gone or replaced are left out; one that comes back is embedded then.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from streamcluster.config import FitSettings
from streamcluster.errors import SourceNotFoundError
from streamcluster.learn.embedding import EmbeddingModel, ModelOptions, Preparation, open_model
from streamcluster.learn.rows import EmbeddingRows
from streamcluster.runtime.execution import Executor, using
from streamcluster.runtime.memory import MIB, MemoryGate
from streamcluster.runtime.paths import decode_path, printable
from streamcluster.runtime.progress import Progress
from streamcluster.runtime.words import count
from streamcluster.sources.decode import (
    LUMA_SIDE,
    START_BYTES,
    Decoded,
    DecodeOptions,
    Refused,
    decode_pictures,
    resize,
    rgb_of,
    stack_thumbnails,
)
from streamcluster.sources.read import share_room
from streamcluster.store.collection import BLOCK_BYTES, Collection, CollectionWriter
from streamcluster.store.embeddings import EMBEDDING_ROWS, FILE, THUMBNAIL, Embeddings

log = logging.getLogger(__name__)

#: Pictures of one task, and their bytes as the model sees them.
PART_FILES = 32
PART_BYTES = 2 * MIB
#: Seconds after which a block is written although more of it is to come.
COMMIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """How many pictures a run embedded, and how many of these from their thumbnails."""

    pictures: int = 0
    from_thumbnails: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A row to embed: where its picture lies, and size, time and SHA-256 of the file that was ingested."""

    row: int
    path: str
    size: int
    mtime_ns: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """Embeddings of some rows of one block: intp (n,), float32 (n, D), uint8 (n,); and why not from which files."""

    rows: NDArray[np.intp]
    vectors: NDArray[np.float32]
    origins: NDArray[np.uint8]
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reader:
    """A task: some files are read, or else their thumbnails, and the model looks at them."""

    model: EmbeddingModel
    collection: Collection
    options: DecodeOptions
    gate: MemoryGate

    def embed(self, part: list[Wanted]) -> Made:
        """Return the embeddings of some rows.

        Raises
        ------
        ModelError
            The model fails.
        SourceNotFoundError
            A file is missing since its whole source is.
        """
        results = decode_pictures(part, self.options, self.gate)
        reasons = map(self._refusal, part, results)
        refusals = {i: why for i, why in enumerate(reasons) if why}
        decoded = [result for i, result in enumerate(results) if i not in refusals and isinstance(result, Decoded)]
        read = iter(stack_thumbnails(decoded, self.options.image_size))
        pictures = [self._thumbnail(w.row) if i in refusals else self._fitted(next(read)) for i, w in enumerate(part)]
        vectors = self.model.embed(np.stack(pictures))
        for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            refusals[i] = "the model gives no finite numbers"
            vectors[i] = self._embed_thumbnail(part[i].row)
        return Made(
            rows=np.array([wanted.row for wanted in part], np.intp),
            vectors=vectors,
            origins=np.array([THUMBNAIL if i in refusals else FILE for i in range(len(part))], np.uint8),
            reasons={part[i].path: why for i, why in sorted(refusals.items())},
        )

    def _refusal(self, wanted: Wanted, result: Decoded | Refused) -> str:
        """Return why a file is not the picture of its row; nothing if it is."""
        if isinstance(result, Decoded):
            return "" if result.digest == wanted.digest else "changed since it was ingested"
        if isinstance(result, FileNotFoundError):
            self._check_source_of(wanted.path)
        return (result.strerror if isinstance(result, OSError) else None) or str(result)

    def _check_source_of(self, path: str) -> None:
        """Refuse to take an unmounted disk for so many pictures that are gone."""
        for source in self.collection.sources:
            if path.startswith(os.path.join(source, "")) and not _has_entries(source):
                raise SourceNotFoundError(
                    f"{printable(source)} was there at the last ingest, and is empty or gone now; is it mounted? What "
                    "was embedded stands. If it is really gone, run ingest with --allow-gone"
                )

    def _embed_thumbnail(self, row: int) -> NDArray[np.float32]:
        """Return a thumbnail's embedding; zeros where that is not finite either, such as a black picture's may be."""
        vector = self.model.embed(self._thumbnail(row)[None])[0]
        return vector if np.isfinite(vector).all() else np.zeros_like(vector)

    def _thumbnail(self, row: int) -> NDArray[np.uint8]:
        return self._fitted(self.collection.thumbnails(slice(row, row + 1))[0])

    def _fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize(picture, self.model.preparation.width, self.model.preparation.height)


@dataclass(frozen=True, slots=True)
class Embedder:
    """A model, and the embeddings of it that a store holds."""

    model: EmbeddingModel
    embeddings: Embeddings
    settings: FitSettings
    collection: CollectionWriter

    @property
    def rows(self) -> EmbeddingRows:
        """What a fit learns from."""
        return EmbeddingRows(self.embeddings, self.collection.n_rows)

    def embed_missing(self, live: NDArray[np.bool_], executor: Executor | None, progress: Progress) -> Embedded:
        """Embed the live rows that are not, or only from their thumbnails, and forget the model.

        Raises
        ------
        ModelError, SourceNotFoundError
            As `Reader.embed`; what was embedded before stands.
        BudgetError
            The model has no room to run.
        Interrupted
            `progress` was asked to stop; what was embedded stands.
        """
        wanted = live & (self.embeddings.origins(len(live)) != FILE)
        if not wanted.any():
            self.model.unload()
            return Embedded()
        n_workers, part_files, gate = self._plan()
        reader = Reader(self.model, self.collection, self._decode_options(), gate)
        with (
            using(executor, n_workers, self.settings.scheduler) as running,
            progress.stage("embeddings", int(wanted.sum())),
        ):
            parts = progress.before_stop(self._parts(wanted, part_files))
            embedded = self._write(running.map(reader.embed, parts, running.in_flight(n_workers)), progress)
        self.model.unload()
        progress.stop_if_asked()
        if embedded.from_thumbnails:
            log.warning(
                "%s embedded from the thumbnail: the file is gone, changed or unreadable; the next fit tries again",
                count(embedded.from_thumbnails, "picture"),
            )
        return embedded

    def _plan(self) -> tuple[int, int, MemoryGate]:
        """Return how many workers the budget has memory for, the files of a part, and the gate of their decoding."""
        width, run_bytes = self.model.try_out()
        picture_bytes = 3 * self.model.preparation.side**2
        part_files = max(1, min(PART_FILES, PART_BYTES // picture_bytes))
        pictures = 4 * max(PART_BYTES, picture_bytes) + part_files * (START_BYTES + LUMA_SIDE**2)
        part, waiting = run_bytes + pictures + 2 * BLOCK_BYTES, 4 * 4 * EMBEDDING_ROWS * width
        settings = self.settings
        n_workers, gate = share_room(settings.memory, part, settings.workers, waiting, "running the model")
        return n_workers, part_files, gate

    def _decode_options(self) -> DecodeOptions:
        """Return how the store's pictures are made, at the size that the model takes; ingest let all of them pass."""
        layout = self.collection.pointer
        return DecodeOptions(self.model.preparation.side, layout.aspect, rgb_of(layout.background), sys.maxsize)

    def _parts(self, wanted: NDArray[np.bool_], part_files: int) -> Iterator[list[Wanted]]:
        """Yield the rows to embed, some at a time, and never of two blocks."""
        for block in self.embeddings.blocks(len(wanted)):
            rows = block.start + np.flatnonzero(wanted[block])
            if not len(rows):
                continue
            columns = self.collection.catalog.read(("path", "size", "mtime_ns", "digest"), block)
            for start in range(0, len(rows), part_files):
                yield [
                    Wanted(
                        int(row),
                        decode_path(str(columns["path"][row - block.start])),
                        int(columns["size"][row - block.start]),
                        int(columns["mtime_ns"][row - block.start]),
                        columns["digest"][row - block.start].tobytes(),
                    )
                    for row in rows[start : start + part_files]
                ]

    def _write(self, parts: Iterator[Made], progress: Progress) -> Embedded:
        """Write what comes, a block at a time, or what there is of one after some seconds, and at the end."""
        waiting: list[Made] = []
        reasons: Counter[str] = Counter()
        n_pictures, written_at = 0, time.monotonic()
        try:
            for made in parts:
                full = waiting and self._block_of(waiting[0]) != self._block_of(made)
                if full or time.monotonic() - written_at > COMMIT_SECONDS:
                    self._write_block(waiting)
                    waiting, written_at = [], time.monotonic()
                waiting.append(made)
                n_pictures += len(made.rows)
                reasons.update(made.reasons.values())
                for path, why in made.reasons.items():
                    log.debug("embedded from its thumbnail: %s: %s", printable(path), why)
                progress.advance(len(made.rows))
        finally:
            self._write_block(waiting)
        return Embedded(n_pictures, reasons.total())

    def _block_of(self, made: Made) -> slice:
        return self.embeddings.block_of(int(made.rows[0]), self.collection.n_rows)

    def _write_block(self, parts: list[Made]) -> None:
        if not parts:
            return
        with self.collection.writing():
            self.embeddings.write(
                self._block_of(parts[0]),
                np.concatenate([part.rows for part in parts]),
                np.concatenate([part.vectors for part in parts]),
                np.concatenate([part.origins for part in parts]),
            )


def _has_entries(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return False


def open_embedder(path: str, settings: FitSettings, collection: CollectionWriter) -> Embedder:
    """Load the model at `path`, and find or lay out its embeddings in a store.

    Raises
    ------
    ModelError, SettingsError, BudgetError
        As `open_model`, and `EmbeddingModel.try_out`.
    """
    options = ModelOptions(
        size=settings.onnx_size,
        layout=settings.onnx_layout,
        mean=settings.onnx_mean,
        std=settings.onnx_std,
        output=settings.onnx_output,
    )
    model = open_model(os.path.abspath(path), options, settings.memory)
    known = collection.embeddings(model.name)
    width = known.width if known else model.try_out()[0]
    embeddings = collection.make_embeddings(model.name, width, describe_model(model))
    return Embedder(model, embeddings, settings, collection)


def describe_model(model: EmbeddingModel) -> dict[str, object]:
    """Return what a store notes about the model of its embeddings."""
    prepared: Preparation = model.preparation
    return {"model": printable(os.path.basename(model.path)), "sha256": model.digest, **asdict(prepared)}
