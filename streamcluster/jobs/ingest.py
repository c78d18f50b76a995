"""The first job: a person's folders become thumbnails and a catalogue.

    scan ─▶ the very files that the last run left settled: done
         ─▶ anything else: `intake.py`

Most runs of a night find nothing new. So zarr and what decodes are imported only where they are needed.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from streamcluster.config import IngestSettings, StoreDefaults
from streamcluster.errors import SettingsConflictError, SettingsError, SourceError, SourceNotFoundError
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.memory import peak_bytes
from streamcluster.runtime.paths import printable
from streamcluster.runtime.progress import Progress
from streamcluster.sources.scan import Patterns, Scan, check_source
from streamcluster.store.pointer import Pointer, exclusive_store, find_pointer


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What `ingest` found and did, in files.

    found == unchanged + moved + new + changed + rejected + postponed; the catalogue then holds `live` pictures. Those
    that `gone` counts are not there any more; `left_out` ones are not asked for any more.
    """

    found: int
    unchanged: int
    moved: int = 0
    new: int = 0
    changed: int = 0
    rejected: int
    postponed: int = 0
    gone: int = 0
    left_out: int = 0
    ignored: int
    live: int
    postponed_files: dict[str, str] = field(default_factory=dict)
    peak_bytes: int | None


def ingest(
    settings: IngestSettings, *, executor: Executor | None = None, progress: Progress | None = None
) -> IngestReport:
    """Bring a store up to date with its source folders, decoding only what is new or changed.

    Parameters
    ----------
    settings : IngestSettings
    executor : Executor, optional
        By default threads, `settings.workers` of them.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    SourceError
        A source is missing, is no folder, cannot be listed, or lost so much at once that it is likelier unmounted; or
        one to drop was never one.
    SettingsConflictError
        A setting contradicts what the store was made with.
    BudgetError
        The memory budget is too small to read pictures at all.
    NoPicturesError
        There is nothing to ingest, or nothing that could be read.
    StoreError
        The store is busy, of another format, or its disk refuses writes.
    Interrupted
        `progress` was asked to stop; what was read so far is committed.
    """
    progress = progress or Progress()
    sources = [os.path.abspath(source) for source in settings.sources]
    earlier = find_pointer(settings.store)
    absent = check_sources(sources, settings.allow_gone, known=earlier.source_folders if earlier else ())
    dropped = {os.path.abspath(folder) for folder in settings.drop}
    check_dropped(dropped, sources, settings.store, earlier)
    layout = resolve_layout(settings, earlier)
    patterns = Patterns(settings.include, settings.exclude)
    with (
        exclusive_store(settings.store),
        Scan(sources, patterns, layout.seed, keep_out=settings.store, dropped=dropped) as scan,
    ):
        with progress.stage("scan", None, "files"):
            scan.list_sources(progress.advance_or_stop, absent)
        if earlier is None:
            scan.check_found()
        if not absent | dropped and (report := _report_unchanged(scan, find_pointer(settings.store))):
            return report
        from streamcluster.jobs.intake import bring_up_to_date

        return bring_up_to_date(scan, settings, layout, absent, executor, progress)


def check_sources(sources: Iterable[str], allow_gone: bool, known: Container[str]) -> set[str]:
    """Return the `known` sources that are not there any more, and that a person allows to be gone.

    Raises
    ------
    SourceError
        A source is missing or is no folder.
    """
    absent = set()
    for source in sources:
        try:
            check_source(source)
        except SourceNotFoundError:
            if source not in known:
                raise
            if not allow_gone:
                raise SourceNotFoundError(
                    f"{printable(source)} was there last time and is not now; is it mounted? Nothing was changed. "
                    "Use --allow-gone if it is really gone"
                ) from None
            absent.add(source)
    return absent


def check_dropped(dropped: Iterable[str], sources: Container[str], store: str, earlier: Pointer | None) -> None:
    """Refuse to drop what is no source; what was dropped before may be dropped again, as a killed run is run again.

    Raises
    ------
    SettingsError
        A folder is to be scanned, too.
    SourceError
        The store knows nothing of a folder.
    """
    for folder in dropped:
        if folder in sources:
            raise SettingsError(f"--drop {printable(folder)} is named as a source, too; leave one of them out")
        if earlier is None or not (folder in earlier.source_folders or _knows_pictures_below(folder, store)):
            known = ", ".join(map(printable, earlier.source_folders)) if earlier else "none"
            raise SourceError(f"--drop {printable(folder)} is no source of this store, its sources are: {known}")


def _knows_pictures_below(folder: str, store: str) -> bool:
    from streamcluster.jobs.intake import known_pictures
    from streamcluster.store.collection import open_collection

    inside = os.path.join(folder, "")
    return any(known.path.startswith(inside) for known in known_pictures(open_collection(store)))


def resolve_layout(settings: IngestSettings, earlier: Pointer | None) -> StoreDefaults:
    """Return what the store is made with: as it is, as the settings say, or by default.

    Raises
    ------
    SettingsConflictError
        The store was made with another value.
    """
    names = StoreDefaults.__struct_fields__
    asked = {name: value for name in names if (value := getattr(settings, name)) is not None}
    if earlier is None:
        return StoreDefaults(**asked)
    made_with = StoreDefaults(**{name: getattr(earlier, name) for name in names})
    for name, value in asked.items():
        if value != getattr(made_with, name):
            raise SettingsConflictError(
                f"--{name.replace('_', '-')} {value}: {printable(settings.store)} was made with "
                f"{getattr(made_with, name)}; leave the option out, or ingest into another --store"
            )
    return made_with


def _report_unchanged(scan: Scan, pointer: Pointer | None) -> IngestReport | None:
    """Return the report of a run that finds what the last one left settled; None where there may be more to do."""
    settled = pointer.settled if pointer else None
    if settled is None or settled.digest != scan.digest or scan.listing.unreadable:
        return None
    return IngestReport(
        found=scan.found,
        unchanged=scan.found - settled.rejected,
        rejected=settled.rejected,
        ignored=scan.listing.ignored,
        live=settled.live,
        peak_bytes=peak_bytes(),
    )
