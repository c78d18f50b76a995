"""Imports run one way, and each foreign library has one door."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streamcluster"

#: Rooms from the ground up; a module may import from its own room and from those below.
STOREYS = [
    {"errors"},
    {"config", "runtime"},
    {"sources", "store", "destination"},
    {"learn", "curate"},
    {"show"},
    {"jobs"},
    {"console"},
    {"cli"},
    {"__main__"},
]
DOORS = {
    "zarr": {"store"},
    "numcodecs": {"store.collection"},
    "sklearn": {"learn", "jobs.demo"},
    "scipy": {"learn"},
    "dask": {"runtime.execution", "learn.kmeans", "jobs.fit"},
    "cv2": {"sources.decode", "sources.measure", "learn.features", "learn.eigenimages", "show.encode", "jobs.demo"},
    "simplejpeg": {"sources.decode"},
    "distributed": {"runtime.execution"},
    "filelock": {"runtime.locks"},
    "sqlite3": {"runtime.scratch"},
    "rich": {"console"},
    "typer": {"cli"},
    "threadpoolctl": {"runtime.execution"},
    "onnxruntime": {"learn.embedding"},
    "openTSNE": {"learn.map"},
    "matplotlib": {"show.plots"},
    "pyarrow": {"destination.parquet"},
    "concurrent": {"runtime.execution"},
}


def imports_of(path):
    """Return the absolute names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): imports_of(path)
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


def storey(module):
    return next(i for i, rooms in enumerate(STOREYS) if module.split(".")[0] in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    for name in MODULES[module]:
        if name.startswith("streamcluster."):
            assert storey(name.removeprefix("streamcluster.")) <= storey(module), f"{module} imports {name}"


@pytest.mark.parametrize("library", DOORS)
def test_each_foreign_library_has_its_door(library):
    users = {module for module, names in MODULES.items() if library in {name.split(".")[0] for name in names}}
    inside = {module for module in users if any(f"{module}.".startswith(f"{door}.") for door in DOORS[library])}
    assert users
    assert users == inside


def test_nothing_pickles():
    for module, names in MODULES.items():
        assert not {"pickle", "joblib", "shelve", "marshal"} & {name.split(".")[0] for name in names}, module
