"""Group any number of collected pictures into folders of look-alikes, on a fixed amount of memory.

    import streamcluster as sc

    sc.ingest(sc.IngestSettings(sources=("faces",), store="faces.zarr"))
    sc.fit(sc.FitSettings(store="faces.zarr", clusters=50))
    sc.export(sc.ExportSettings(store="faces.zarr", dest="faces-grouped"))

Each function takes its settings, returns a frozen report, prints nothing, and raises a `StreamclusterError` whose
message says what to do. Each also takes, by name, a progress reporter, and `ingest`, `fit`, `duplicates`, `junk`,
`export`, `plot`, `report` and `run` an executor.
Names are imported when they are first used.
"""

# ruff: noqa: F401
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamcluster.config import (
        DemoSettings,
        DuplicatesSettings,
        ExportSettings,
        FitSettings,
        IngestSettings,
        JunkSettings,
        MarkSettings,
        PlotSettings,
        ReportSettings,
        RunSettings,
        StatusSettings,
        run_settings,
    )
    from streamcluster.errors import StreamclusterError
    from streamcluster.jobs.demo import DemoReport, demo
    from streamcluster.jobs.duplicates import DuplicatesReport, duplicates
    from streamcluster.jobs.export import ExportReport, export
    from streamcluster.jobs.fit import FitReport, fit
    from streamcluster.jobs.ingest import IngestReport, ingest
    from streamcluster.jobs.junk import JunkReport, junk
    from streamcluster.jobs.mark import MarkReport, mark
    from streamcluster.jobs.plot import PlotReport, plot
    from streamcluster.jobs.report import PageReport, report
    from streamcluster.jobs.run import RunReport, run
    from streamcluster.jobs.status import StatusReport, status
    from streamcluster.runtime.execution import Executor
    from streamcluster.runtime.progress import Progress
    from streamcluster.store.collection import Collection, open_collection

_HOMES = {
    "config": (
        "DemoSettings",
        "DuplicatesSettings",
        "ExportSettings",
        "FitSettings",
        "IngestSettings",
        "JunkSettings",
        "MarkSettings",
        "PlotSettings",
        "ReportSettings",
        "RunSettings",
        "StatusSettings",
        "run_settings",
    ),
    "errors": ("StreamclusterError",),
    "jobs.demo": ("DemoReport", "demo"),
    "jobs.duplicates": ("DuplicatesReport", "duplicates"),
    "jobs.export": ("ExportReport", "export"),
    "jobs.fit": ("FitReport", "fit"),
    "jobs.ingest": ("IngestReport", "ingest"),
    "jobs.junk": ("JunkReport", "junk"),
    "jobs.mark": ("MarkReport", "mark"),
    "jobs.plot": ("PlotReport", "plot"),
    "jobs.report": ("PageReport", "report"),
    "jobs.run": ("RunReport", "run"),
    "jobs.status": ("StatusReport", "status"),
    "runtime.execution": ("Executor",),
    "runtime.progress": ("Progress",),
    "store.collection": ("Collection", "open_collection"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'streamcluster' has no attribute {name!r}")
    return getattr(import_module(f"streamcluster.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
