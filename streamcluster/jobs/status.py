"""What is in a store, what waits, and how large it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcluster.config import StatusSettings
from streamcluster.errors import SourceError
from streamcluster.jobs.intake import known_pictures, known_rejects
from streamcluster.jobs.mark import read_marks
from streamcluster.runtime.paths import decode_path
from streamcluster.runtime.progress import Progress
from streamcluster.sources.scan import Patterns, Scan, check_source
from streamcluster.store.collection import Collection, open_collection
from streamcluster.store.durable import files_below
from streamcluster.store.embeddings import Embeddings
from streamcluster.store.findings import Findings
from streamcluster.store.table import LIVE


@dataclass(frozen=True, slots=True)
class FitStatus:
    """One finished fit; `mode` is full, update or recut."""

    name: str
    mode: str
    pictures: int
    clusters: int
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EmbeddingStatus:
    """What one model made of the pictures: `width` numbers each, of so many rows, in so many bytes."""

    name: str
    model: str
    width: int
    pictures: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What `status` tells. Sizes are bytes on disk; `rejects` maps paths to reasons if they were asked for.

    live == grouped + waiting_for_fit. `waiting_for_ingest` and `missing` compare the sources with the catalogue by
    path, size and time, so that a moved file is among both; `unreachable` lists sources that cannot be looked at.
    `near_duplicates`, besides the best of each group, and `suspects` are None where nobody looked for them; `outdated`
    says what happened since.
    """

    store: str
    sources: list[str]
    image_size: int
    live: int
    gone: int
    replaced: int
    rejected: int
    grouped: int
    waiting_for_ingest: int
    waiting_for_fit: int
    missing: int
    unreachable: list[str]
    current_fit: str | None
    fits: list[FitStatus]
    embeddings: list[EmbeddingStatus]
    near_duplicates: int | None
    suspects: int | None
    outdated: dict[str, str]
    junk_marks: int
    keep_marks: int
    pixel_bytes: int
    catalog_bytes: int
    fit_bytes: int
    rejects: dict[str, str]


def status(settings: StatusSettings, *, progress: Progress | None = None) -> StatusReport:
    """Describe a store; needs no lock and changes nothing.

    Parameters
    ----------
    settings : StatusSettings
    progress : Progress, optional
        By default silent.

    Raises
    ------
    StoreNotFoundError, StoreFormatError
        There is no store at this path, or something else.
    Interrupted
        `progress` was asked to stop.
    """
    collection = open_collection(settings.store)
    counts = collection.counts()
    pending = _look_at_sources(collection, progress or Progress())
    marks = read_marks(collection)
    return StatusReport(
        store=collection.root,
        sources=list(collection.sources),
        image_size=collection.pointer.image_size,
        live=counts.live,
        gone=counts.gone,
        replaced=counts.replaced,
        rejected=counts.rejected,
        grouped=counts.grouped,
        waiting_for_ingest=pending.waiting,
        missing=pending.missing,
        unreachable=pending.unreachable,
        waiting_for_fit=counts.live - counts.grouped,
        current_fit=collection.current_fit,
        fits=[_describe_fit(collection, name) for name in collection.fits()],
        embeddings=[_describe_embeddings(collection, found) for found in collection.all_embeddings()],
        near_duplicates=_count_duplicates(collection.findings("duplicates")),
        suspects=_count_suspects(collection.findings("junk")),
        outdated=collection.outdated(),
        junk_marks=marks.count(junk=True),
        keep_marks=marks.count(junk=False),
        pixel_bytes=_folder_bytes(os.path.join(collection.root, "pixels")),
        catalog_bytes=sum(_folder_bytes(os.path.join(collection.root, name)) for name in ("catalog", "rejects")),
        fit_bytes=_folder_bytes(os.path.join(collection.root, "fits")),
        rejects=_list_rejects(collection) if settings.rejects else {},
    )


@dataclass(frozen=True, slots=True)
class Pending:
    """What the next ingest would find."""

    waiting: int
    missing: int
    unreachable: list[str]


def _look_at_sources(collection: Collection, progress: Progress) -> Pending:
    unreachable = []
    for source in collection.sources:
        try:
            check_source(source)
        except SourceError as error:
            unreachable.append(str(error))
    sources = [] if unreachable else collection.sources
    pointer = collection.pointer
    with Scan(sources, Patterns(pointer.include, pointer.exclude), pointer.seed, keep_out=collection.root) as scan:
        with progress.stage("scan", None, "files"):
            scan.list_sources(progress.advance_or_stop)
        scan.compare(progress.until_stopped(known_pictures(collection)), known_rejects(collection))
        return Pending(scan.count_to_decode() - scan.count_retries(), len(scan.missing()), unreachable)


def _describe_fit(collection: Collection, name: str) -> FitStatus:
    fit = collection.fit(name)
    attributes = fit.attributes
    clusters = len(fit.array("counts"))
    return FitStatus(name, attributes["mode"], attributes["pictures"], clusters, attributes["recipe"])


def _describe_embeddings(collection: Collection, found: Embeddings) -> EmbeddingStatus:
    n_made = int(np.count_nonzero(found.origins(collection.n_rows)))
    return EmbeddingStatus(found.name, found.attributes["model"], found.width, n_made, _folder_bytes(found.folder))


def _count_duplicates(found: Findings | None) -> int | None:
    if found is None:
        return None
    kept = found.array("kept")
    return int(np.count_nonzero(kept != np.arange(len(kept))))


def _count_suspects(found: Findings | None) -> int | None:
    return None if found is None else int(np.count_nonzero(found.array("score") > found.attributes["threshold"]))


def _list_rejects(collection: Collection) -> dict[str, str]:
    return {
        decode_path(path): reason
        for _, path, reason, state in collection.rejects.records("path", "reason", "state")
        if state == LIVE
    }


def _folder_bytes(folder: str) -> int:
    return sum(map(_file_bytes, files_below(folder)))


def _file_bytes(path: str) -> int:
    """Return the size of a file, 0 for one that a writer renamed since it was listed."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
