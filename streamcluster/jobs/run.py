"""The jobs one after another, under one lock: what cron calls."""

from __future__ import annotations

from dataclasses import dataclass

from streamcluster.config import RunSettings
from streamcluster.jobs.duplicates import DuplicatesReport, duplicates
from streamcluster.jobs.export import ExportReport, export
from streamcluster.jobs.fit import FitReport, fit
from streamcluster.jobs.ingest import IngestReport, ingest
from streamcluster.jobs.junk import JunkReport, junk
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.progress import Progress
from streamcluster.store.pointer import exclusive_store


@dataclass(frozen=True, slots=True)
class RunReport:
    """The reports of the jobs that ran; None where the settings do not ask for one, or name no destination."""

    ingest: IngestReport
    fit: FitReport
    duplicates: DuplicatesReport | None
    junk: JunkReport | None
    export: ExportReport | None


def run(settings: RunSettings, *, executor: Executor | None = None, progress: Progress | None = None) -> RunReport:
    """Ingest, fit, look for near-duplicates and junk, and export, as one writer.

    Parameters
    ----------
    settings : RunSettings
    executor : Executor, optional
        By default each job starts its own threads.
    progress : Progress, optional
        By default silent.

    Raises
    ------
    StreamclusterError
        As the job in which it happened; what the jobs before it did stands.
    """
    with exclusive_store(settings.ingest.store):
        ingested = ingest(settings.ingest, executor=executor, progress=progress)
        fitted = fit(settings.fit, executor=executor, progress=progress)
        copies = duplicates(settings.duplicates, executor=executor, progress=progress) if settings.duplicates else None
        suspects = junk(settings.junk, executor=executor, progress=progress) if settings.junk else None
        exported = export(settings.export, executor=executor, progress=progress) if settings.export else None
        return RunReport(ingested, fitted, copies, suspects, exported)
