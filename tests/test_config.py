"""Settings are checked however they are made, and each place they come from has its rank."""

import os
from pathlib import Path

import pytest

from streamcluster.config import ExportSettings, FitSettings, IngestSettings, run_settings
from streamcluster.errors import SettingsError


@pytest.mark.parametrize("make", [lambda values: FitSettings(**values), FitSettings.from_mapping])
@pytest.mark.parametrize(
    "wrong",
    [
        {"clusters": 0},
        {"clusters": "many"},
        {"memory": "much"},
        {"variance": 1.0},
        {"features": "smell"},
        {"components": 3, "variance": 0.5},
        {"recut": 3, "full": True},
        {"recut": 3, "clusters": 4},
    ],
)
def test_what_cannot_be_used_is_refused_however_it_is_given(make, wrong):
    with pytest.raises(SettingsError):
        make({"store": "a.zarr", **wrong})


def test_what_has_another_form_is_converted():
    settings = FitSettings(store=Path("a.zarr"), memory="512MiB", clusters="7")
    assert (settings.store, settings.memory, settings.clusters) == ("a.zarr", 512 << 20, 7)
    assert str(settings.memory) == "512MiB"
    assert IngestSettings(store="a.zarr", sources="hold").sources == ("hold",)
    assert IngestSettings(store="a.zarr", sources=[Path("a"), "b\udcff"]).sources == ("a", "b\udcff")


def test_only_an_undo_needs_no_store():
    assert ExportSettings(dest="groups", undo=True).store == ""
    with pytest.raises(SettingsError, match="--store"):
        ExportSettings(dest="groups")


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / "faces.toml"
    path.write_text(
        "store = 'faces.zarr'\n[ingest]\nsources = ['faces']\n[fit]\nclusters = 3\nvariance = 0.9\n"
        "[export]\nmode = 'copy'\n"
    )
    return str(path)


def test_the_environment_beats_the_file_of_a_run_in_each_job_that_has_the_setting(settings_file):
    settings = run_settings(
        settings_file,
        {
            "STREAMCLUSTER_CLUSTERS": "7",
            "STREAMCLUSTER_COMPONENTS": "5",
            "STREAMCLUSTER_STORE": "other.zarr",
            "STREAMCLUSTER_SOURCES": os.pathsep.join(["a b", "c"]),
            "STREAMCLUSTER_DEST": "groups",
            "STREAMCLUSTER_FIT_MODE": "auto",
            "STREAMCLUSTER_EXPORT_MODE": "hardlink",
            "STREAMCLUSTER_FULL": "1",
            "STREAMCLUSTER_SCORES": "",
        },
    )
    assert {settings.ingest.store, settings.fit.store, settings.export.store} == {"other.zarr"}
    assert settings.ingest.sources == ("a b", "c")
    assert (settings.fit.clusters, settings.fit.components, settings.fit.variance) == (7, 5, None)
    assert (settings.fit.mode, settings.fit.full, settings.fit.scores) == ("auto", True, "half-whitened-unit")
    assert (settings.export.dest, settings.export.mode) == ("groups", "hardlink")


def test_a_variable_with_a_value_that_cannot_be_used_is_named(settings_file):
    with pytest.raises(SettingsError, match="STREAMCLUSTER_CLUSTERS"):
        run_settings(settings_file, {"STREAMCLUSTER_CLUSTERS": "0"})


def test_without_an_environment_the_file_holds(settings_file):
    settings = run_settings(settings_file)
    assert (settings.fit.clusters, settings.fit.variance, settings.export) == (3, 0.9, None)


@pytest.mark.parametrize(
    ("values", "way_out"),
    [
        ({"scores": "smell"}, "use half-whitened-unit, plain or whitened"),
        ({"clusters": "foo"}, "use a whole number or auto"),
        ({"clusters": 0}, "use 1 or more"),
        ({"clusters": "1.5"}, "use a whole number or auto"),
        ({"workers": "x"}, "use a whole number"),
        ({"variance": 2}, "use less than 1.0"),
        ({"variance": "x"}, "use a number"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_what_can(values, way_out):
    (name,) = values
    with pytest.raises(SettingsError) as told:
        FitSettings(store="s.zarr", **values)
    assert str(told.value) == f"--{name} {values[name]}: {way_out}"
