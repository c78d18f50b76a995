"""fit on real stores: right against an in-memory fit, the same whoever works on it, resumable, and clear in refusal."""

import shutil

import naive
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, homogeneity_score

from streamcluster.config import FitSettings, IngestSettings
from streamcluster.console import summarize
from streamcluster.errors import (
    BudgetError,
    FitNotFoundError,
    Interrupted,
    NoPicturesError,
    SettingsError,
    StoreNotFoundError,
    TooFewPicturesError,
)
from streamcluster.jobs import fit as fit_module
from streamcluster.jobs.fit import fit
from streamcluster.jobs.ingest import ingest
from streamcluster.learn.features import SPACES
from streamcluster.learn.scores import shape_scores
from streamcluster.runtime.memory import resident_bytes
from streamcluster.runtime.progress import Progress
from streamcluster.store import collection as collection_module
from streamcluster.store.collection import open_collection, open_for_writing
from streamcluster.store.table import GONE

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40], [120, 40, 160]], np.uint8)


def write_pictures(folder, n, seed=0, colours=COLOURS):
    """Write n noisy one-colour pictures, and return the colour of each by its name."""
    import cv2

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    truth = {}
    for i in range(n):
        colour = int(rng.integers(len(colours)))
        picture = colours[colour] + rng.integers(-30, 30, (20, 20, 3))
        (folder / f"{i:04d}.png").write_bytes(cv2.imencode(".png", picture.clip(0, 255).astype(np.uint8))[1].tobytes())
        truth[f"{i:04d}.png"] = colour
    return truth


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of 200 pictures in blocks of 64, so that every job crosses borders."""
    monkeypatch.setattr(collection_module, "BLOCK_BYTES", 64 * 3 * 16 * 16)
    truth = write_pictures(tmp_path / "pictures", 200)
    path = str(tmp_path / "faces.zarr")
    ingest(IngestSettings(sources=(str(tmp_path / "pictures"),), store=path, image_size=16))
    assert open_collection(path).pointer.block_rows == 64
    return path, truth


def groups_of(path):
    return {picture.source.rsplit("/", 1)[1]: picture.cluster for picture in open_collection(path).grouped_pictures()}


def settings(path, **changes):
    return FitSettings(store=path, **{"clusters": 5, "components": 10, "batch_rows": 50, **changes})


def test_groups_are_the_colours(store):
    path, truth = store
    report = fit(settings(path))
    found = groups_of(path)
    assert found.keys() == truth.keys()
    assert adjusted_rand_score([truth[name] for name in truth], [found[name] for name in truth]) == 1
    assert report.sizes == sorted(np.bincount(list(truth.values())).tolist(), reverse=True)
    assert (report.pictures, report.clusters, report.components, report.up_to_date) == (200, 5, 10, False)


@pytest.mark.parametrize(
    ("features", "kind"), [(name, "half-whitened-unit") for name in SPACES] + [("color", "plain"), ("rgb", "whitened")]
)
def test_scores_labels_and_distances_are_what_they_say(store, features, kind):
    path, _ = store
    report = fit(settings(path, features=features, scores=kind))
    collection = open_collection(path)
    found = collection.fit()
    rows = SPACES[features].compute(collection.thumbnails(slice(0, 200))) * found.array("feature_scale").astype(float)
    plain = ((rows - found.array("mean")) @ found.array("components").T.astype(float)).astype(np.float32)
    scores = shape_scores(plain, found.array("explained_variance"), kind)
    np.testing.assert_allclose(found.array("scores"), scores, atol=2e-4)
    np.testing.assert_allclose(found.array("explained_variance"), plain.var(axis=0, ddof=1), rtol=0.3)
    assert found.attributes["recipe"]["scores"] == kind
    labels, distances = naive.nearest(found.array("scores").astype(float), found.array("centers"))
    np.testing.assert_array_equal(found.labels(), labels)
    np.testing.assert_allclose(found.distances(), distances, atol=1e-4)
    np.testing.assert_array_equal(found.array("counts"), np.bincount(labels, minlength=5))
    assert report.inertia == pytest.approx((distances**2).sum(), rel=1e-4)


def test_inertia_is_that_of_the_best_full_batch_run(store):
    path, _ = store
    report = fit(settings(path))
    scores = open_collection(path).fit().array("scores")
    best = min(KMeans(5, n_init=1, random_state=seed).fit(scores).inertia_ for seed in range(5))
    assert report.inertia == pytest.approx(best, rel=1e-3)


def test_one_worker_and_two_give_the_same_bytes(store, tmp_path):
    path, _ = store
    shutil.copytree(path, tmp_path / "copy.zarr")
    # A budget that is short for two workers: what is learned must not depend on how many there are.
    short = int((resident_bytes() + (200 << 20)) / 0.9)
    fit(settings(path, workers=1, clusters=7, batch_rows=None, memory=short))
    fit(settings(str(tmp_path / "copy.zarr"), workers=2, clusters=7, batch_rows=None, memory=short))
    one, two = open_collection(path).fit(), open_collection(str(tmp_path / "copy.zarr")).fit()
    for name in ("mean", "components", "explained_variance_ratio", "scores", "centers", "counts", "labels", "distance"):
        np.testing.assert_array_equal(one.array(name), two.array(name), err_msg=name)


def test_nothing_new_and_the_same_settings_do_nothing(store, monkeypatch):
    path, _ = store
    first = fit(settings(path))
    monkeypatch.setattr(fit_module, "Fitting", None)
    again = fit(settings(path))
    assert again.up_to_date
    assert again.fit == first.fit
    assert again.sizes == first.sizes


def test_new_pictures_and_new_settings_make_a_new_fit(store, tmp_path):
    path, _ = store
    assert fit(settings(path)).fit == "0001"
    assert fit(settings(path, clusters=4)).fit == "0002"
    write_pictures(tmp_path / "more", 10, seed=9)
    ingest(IngestSettings(sources=(str(tmp_path / "more"),), store=path))
    report = fit(settings(path, clusters=4))
    assert (report.fit, report.pictures) == ("0003", 210)


def test_pictures_that_are_gone_are_not_learned_from(store):
    path, _ = store
    with open_for_writing(path) as collection:
        gone = list(range(64)) + list(range(70, 200, 7))
        collection.set_state(collection.catalog, gone, GONE)
    report = fit(settings(path))
    labels = open_collection(path).fit().labels()
    assert report.pictures == 200 - len(gone) == sum(report.sizes)
    assert set(np.flatnonzero(labels < 0)) == set(gone)


@pytest.mark.parametrize("variance", [0.3, 0.6, 0.9])
def test_variance_chooses_the_number_of_components_that_an_exact_analysis_needs(store, variance):
    path, _ = store
    report = fit(settings(path, components=None, variance=variance, batch_rows=200, features="rgb"))
    rows = SPACES["rgb"].compute(open_collection(path).thumbnails(slice(0, 200))).astype(float)
    _, ratio = naive.principal_components(rows, 200)
    assert report.components == int(np.searchsorted(np.cumsum(ratio), variance)) + 1
    assert report.explained_variance_ratio >= variance


@pytest.mark.parametrize("stage", ["components", "scores"])
def test_a_run_that_stopped_after_a_stage_goes_on_from_there(store, monkeypatch, stage):
    path, _ = store
    fit(settings(path, clusters=6))
    expected = open_collection(path).fit()
    fit(settings(path, clusters=4))

    with monkeypatch.context() as patch:
        patch.setattr(fit_module.Fitting, {"components": "_write_scores", "scores": "grow_tree"}[stage], _die)
        with pytest.raises(KeyboardInterrupt):
            fit(settings(path, clusters=6))
    assert open_collection(path).current_fit == "0002"

    monkeypatch.setattr(fit_module, "merge_summaries", _die)
    if stage == "scores":
        monkeypatch.setattr(fit_module.ScoreSpace, "place", _die)
    assert fit(settings(path, clusters=6)).fit == "0003"
    assert adjusted_rand_score(open_collection(path).fit().labels(), expected.labels()) == 1


def test_parts_of_the_features_are_scaled_to_the_energies_that_were_asked_for(store):
    path, _ = store
    fit(settings(path, features="mixed", texture_weight=0.5))
    collection = open_collection(path)
    rows = SPACES["mixed"].compute(collection.thumbnails(slice(0, 200))) * collection.fit().array("feature_scale")
    parts = np.split(rows - rows.mean(axis=0), np.cumsum(SPACES["mixed"].part_sizes(16))[:-1], axis=1)
    np.testing.assert_allclose([(part**2).sum(axis=1).mean() for part in parts], [1, 1, 1, 1.5], rtol=1e-3)
    assert fit(settings(path, features="mixed", texture_weight=0.5)).up_to_date
    assert not fit(settings(path, features="mixed")).up_to_date


def test_the_scale_is_learned_from_a_sample_of_live_pictures(store, monkeypatch):
    path, _ = store
    monkeypatch.setattr(fit_module, "SCALE_ROWS", 70)
    met = []
    learn = fit_module.learn_scale
    monkeypatch.setattr(
        fit_module, "learn_scale", lambda batches, *more: learn([met.append(len(b)) or b for b in batches], *more)
    )
    fit(settings(path))
    assert sum(met) == 70


def test_a_fit_says_that_the_one_before_compared_something_else(store):
    path, _ = store
    first = fit(settings(path, features="texture"))
    second = fit(settings(path))
    assert [(r.features, r.features_before) for r in (first, second)] == [("texture", None), ("color", "texture")]
    assert fit(settings(path)).up_to_date


def test_plain_features_are_not_scaled(store):
    path, _ = store
    fit(settings(path, features="rgb"))
    np.testing.assert_array_equal(open_collection(path).fit().array("feature_scale"), np.ones(768, np.float32))


def test_a_run_that_stopped_before_the_pointer_is_published_by_the_next(store, monkeypatch):
    path, _ = store
    with monkeypatch.context() as patch:
        patch.setattr(collection_module.CollectionWriter, "_commit", _die)
        with pytest.raises(KeyboardInterrupt):
            fit(settings(path))
    assert open_collection(path).current_fit is None
    assert fit(settings(path)).fit == "0001"


def test_a_half_fit_of_other_settings_is_dropped(store, monkeypatch):
    path, truth = store
    with monkeypatch.context() as patch:
        patch.setattr(fit_module.Fitting, "find_groups", _die)
        with pytest.raises(KeyboardInterrupt):
            fit(settings(path, clusters=9))
    report = fit(settings(path))
    assert (report.fit, report.clusters) == ("0001", 5)
    assert set(groups_of(path)) == set(truth)


def _die(*_args, **_named):
    raise KeyboardInterrupt


def test_a_stop_leaves_the_fit_before(store):
    path, _ = store
    fit(settings(path))
    progress = Progress()
    progress.stop_signal = 15
    with pytest.raises(Interrupted) as stopped:
        fit(settings(path, clusters=3), progress=progress)
    assert stopped.value.signal_number == 15
    assert open_collection(path).current_fit == "0001"


def test_too_few_pictures_for_what_was_asked(store):
    path, _ = store
    with pytest.raises(TooFewPicturesError, match="--clusters 201"):
        fit(settings(path, clusters=201))
    with pytest.raises(TooFewPicturesError, match="--components 201"):
        fit(settings(path, components=201))
    assert fit(settings(path, clusters=200, components=200)).clusters == 200


def test_a_budget_that_is_too_small_is_refused_before_work_starts(store):
    path, _ = store
    with pytest.raises(BudgetError, match="--memory"):
        fit(settings(path, memory=64 << 20))
    assert open_collection(path).current_fit is None


def test_components_and_variance_contradict_each_other():
    with pytest.raises(SettingsError, match="--variance"):
        FitSettings(store="x", components=3, variance=0.5)


def test_no_store_and_no_pictures(tmp_path, store):
    with pytest.raises(StoreNotFoundError, match="streamcluster ingest"):
        fit(settings(str(tmp_path / "none.zarr")))
    path, _ = store
    with open_for_writing(path) as collection:
        collection.set_state(collection.catalog, list(range(200)), GONE)
    with pytest.raises(NoPicturesError):
        fit(settings(path))


def test_a_single_picture_has_nothing_to_be_grouped_with(tmp_path):
    write_pictures(tmp_path / "one", 1)
    path = str(tmp_path / "one.zarr")
    ingest(IngestSettings(sources=(str(tmp_path / "one"),), store=path))
    with pytest.raises(TooFewPicturesError, match="one picture"):
        fit(settings(path, clusters=1, components=None))


def test_identical_pictures_make_one_group_or_a_clear_refusal(tmp_path):
    write_pictures(tmp_path / "same", 1)
    for i in range(20):
        (tmp_path / "same" / f"copy{i}.png").write_bytes((tmp_path / "same" / "0000.png").read_bytes())
    path = str(tmp_path / "same.zarr")
    ingest(IngestSettings(sources=(str(tmp_path / "same"),), store=path))
    with pytest.raises(TooFewPicturesError, match="only 1"):
        fit(settings(path, clusters=2, components=None))
    report = fit(settings(path, clusters=1, components=None))
    assert report.sizes == [21]
    assert summarize(report)[0].endswith("21 pictures in 1 group of 21")
    assert report.explained_variance_ratio == 0
    with pytest.raises(SettingsError, match=r"use --components 1$"):
        fit(settings(path, clusters=1, components=None, variance=0.9))
    assert fit(settings(path, clusters=1, components=1)).sizes == [21]


def test_an_up_to_date_fit_counts_the_pictures_that_are_still_there(store):
    path, _ = store
    fit(settings(path))
    with open_for_writing(path) as collection:
        collection.set_state(collection.catalog, [0, 1], GONE)
    report = fit(settings(path))
    assert report.up_to_date
    assert report.pictures == sum(report.sizes) == 198


# --- updates, other cuts, kept fits


def add_pictures(path, folder, n, seed, colours=COLOURS):
    write_pictures(folder, n, seed, colours)
    ingest(IngestSettings(sources=(str(folder),), store=path))


def test_a_later_fit_goes_on_from_the_one_before_and_moves_nothing(store, tmp_path):
    path, _ = store
    fit(settings(path))
    before = open_collection(path).fit()
    add_pictures(path, tmp_path / "more", 20, seed=9)
    report = fit(settings(path))
    after = open_collection(path).fit()
    assert (report.mode, report.moved, report.pictures) == ("update", 0, 220)
    assert report.drift <= fit_module.MOST_DRIFT
    np.testing.assert_array_equal(after.labels()[:200], before.labels())
    np.testing.assert_array_equal(after.array("feature_scale"), before.array("feature_scale"))
    assert int(after.array("n_seen")[0]) == 220
    labels, distances = naive.nearest(after.array("scores").astype(float), after.array("centers"))
    np.testing.assert_array_equal(after.labels(), labels)
    np.testing.assert_allclose(after.distances(), distances, atol=1e-4)
    assert fit(settings(path)).up_to_date


def test_a_full_fit_learns_anew_and_groups_keep_their_numbers(store, tmp_path):
    path, _ = store
    fit(settings(path))
    before = open_collection(path).fit().labels()
    add_pictures(path, tmp_path / "more", 60, seed=9, colours=COLOURS[4:])
    fit(settings(path))
    report = fit(settings(path, full=True))
    assert (report.mode, report.moved, report.drift) == ("full", 0, None)
    np.testing.assert_array_equal(open_collection(path).fit().labels()[:200], before)
    assert fit(settings(path, full=True)).up_to_date


def test_pictures_unlike_those_learned_from_are_noticed(store, tmp_path, caplog):
    path, _ = store
    shutil.copytree(path, tmp_path / "auto.zarr")
    strange = np.array([[255, 120, 0], [0, 230, 230]], np.uint8)
    for name, mode, expected in ((path, "update", "update"), (str(tmp_path / "auto.zarr"), "auto", "full")):
        fit(settings(name))
        add_pictures(name, tmp_path / "strange", 40, seed=3, colours=strange)
        with caplog.at_level("WARNING", "streamcluster"):
            report = fit(settings(name, mode=mode))
        assert report.mode == expected
        assert ("--full" in caplog.text) == (mode == "update")
        caplog.clear()


@pytest.mark.parametrize("clusters", [2, 5, 9])
def test_a_recut_gives_other_groups_of_the_same_scores_without_a_look_at_the_pictures(store, monkeypatch, clusters):
    path, truth = store
    fit(settings(path, clusters=7))
    before = open_collection(path).fit()
    monkeypatch.setattr(collection_module.Collection, "thumbnails", _die)
    report = fit(settings(path, clusters=None, recut=clusters))
    after = open_collection(path).fit()
    assert (report.mode, report.clusters, report.pictures) == ("recut", clusters, 200)
    np.testing.assert_array_equal(after.array("scores"), before.array("scores"))
    if clusters == 5:
        found = groups_of(path)
        assert adjusted_rand_score([truth[name] for name in truth], [found[name] for name in truth]) == 1
    assert fit(settings(path, clusters=None, recut=clusters)).up_to_date


def test_a_recut_needs_a_fit_of_all_pictures(store, tmp_path):
    path, _ = store
    with pytest.raises(FitNotFoundError):
        fit(settings(path, clusters=None, recut=3))
    fit(settings(path))
    add_pictures(path, tmp_path / "more", 5, seed=9)
    with pytest.raises(FitNotFoundError):
        fit(settings(path, clusters=None, recut=3))
    with pytest.raises(TooFewPicturesError):
        fit(settings(path, clusters=None, recut=500))


def test_the_last_fits_are_kept_and_can_be_looked_at(store):
    path, _ = store
    for clusters in (2, 3, 4, 5):
        fit(settings(path, clusters=clusters, keep=2))
    assert open_collection(path).fits() == ["0003", "0004"]
    assert len({p.cluster for p in open_collection(path, "3").grouped_pictures()}) == 4
    with pytest.raises(FitNotFoundError, match="0002"):
        open_collection(path, "2")


def test_the_number_of_groups_can_be_left_open(store):
    path, truth = store
    report = fit(settings(path, clusters="auto", components=4, scores="plain"))
    assert 5 <= report.clusters <= 8
    found = groups_of(path)
    assert homogeneity_score([truth[name] for name in truth], [found[name] for name in truth]) == pytest.approx(1)
