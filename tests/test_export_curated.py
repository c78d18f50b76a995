"""What becomes of near-duplicates and suspects in an export, and what its tables tell of them."""

import csv
import errno
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from pictures import SIDE, Pictures
from worlds import World, check_table, check_totals

import streamcluster as sc
from streamcluster.destination import parquet, place
from streamcluster.errors import (
    DestinationError,
    FindingsNotFoundError,
    FitNotFoundError,
    Interrupted,
    SettingsError,
    StoreBusyError,
)
from streamcluster.runtime.progress import Progress
from streamcluster.store import collection
from streamcluster.store.collection import open_collection, open_for_writing

LEFT_OUT = "near-duplicate of a better picture"


@pytest.fixture
def world(tmp_path):
    """A best picture in row 0 with two near-duplicates in other groups, one of them a suspect; a suspect; one more."""
    world = World(tmp_path)
    names = ("best", "small", "grey", "meme")
    best, small, grey, meme = (world.add(f"{name}.jpg", cluster=i) for i, name in enumerate(names))
    world.add("other.jpg")
    world.best_of = {str(small): str(best), str(grey): str(best)}
    world.scores = {str(grey): 0.8, str(meme): 0.9, str(best): 0.25}
    return world.ingest()


REST = {"cluster_00/best.jpg", "cluster_00/other.jpg", "cluster_03/meme.jpg"}
GROUP = {"duplicates/group_0000/small.jpg", "duplicates/group_0000/grey.jpg"}


def test_all_are_kept_and_counted_by_default(world):
    report = world.export(found={"duplicates", "junk"})
    check_totals(report)
    assert set(world.files()) == REST | {"cluster_01/small.jpg", "cluster_02/grey.jpg"}
    assert (report.duplicates, report.suspects, report.separated, report.set_aside) == (2, 2, {}, 0)
    nothing_known = world.export()
    assert (nothing_known.duplicates, nothing_known.suspects) == (None, None)


def test_separate_puts_the_others_of_a_group_together_and_undo_leaves_nothing(world):
    report = world.export(duplicates="separate", found={"duplicates"})
    check_totals(report)
    assert (report.grouped, report.duplicates, report.separated) == (5, 2, {"duplicates": 2})
    assert set(world.files()) == REST | GROUP
    assert set(check_table(world)) == set(world.files())
    assert {row["cluster"] for row in world.table().values() if row["duplicate_kept"] == "false"} == {"1", "2"}
    world.export(undo=True)
    assert not world.dest.exists()


def test_keep_best_leaves_the_others_out_and_lists_them_where_they_are(world):
    report = world.export(duplicates="keep-best", found={"duplicates"})
    check_totals(report)
    assert (report.pictures, report.grouped, report.duplicates) == (5, 3, 2)
    assert report.reasons == {LEFT_OUT: 2}
    assert set(check_table(world)) == REST
    assert set(world.files()) == set(check_table(world))
    left_out = world.left_out()
    places = [(row["file_name"], row["duplicate_group"], row["duplicate_kept"]) for row in left_out.values()]
    assert places[0] == ("cluster_00/best.jpg", "0", "true")
    assert set(places[1:]) == {(str(world.src / f"{n}.jpg"), "0", "false") for n in ("small", "grey")}
    world.export(undo=True)
    assert not world.dest.exists()


def test_suspects_lie_together_and_near_duplicates_win(world):
    report = world.export(junk="separate", found={"junk"})
    assert report.separated == {"suspects": 2}
    assert {name for name in world.files() if name.startswith("suspects")} == {"suspects/grey.jpg", "suspects/meme.jpg"}
    both = world.export(junk="separate", duplicates="separate")
    assert both.separated == {"duplicates": 2, "suspects": 1}
    assert (both.moved, both.copied) == (2, 0)
    assert set(world.files()) == {"cluster_00/best.jpg", "cluster_00/other.jpg", "suspects/meme.jpg"} | GROUP


@pytest.mark.parametrize("first", ["keep-all", "separate", "keep-best"])
@pytest.mark.parametrize("second", ["keep-all", "separate", "keep-best"])
def test_a_change_of_mind_gives_what_a_first_export_would(world, tmp_path, first, second):
    world.export(duplicates=first)
    report = world.export(duplicates=second)
    check_totals(report)
    world.export(dest=tmp_path / "fresh", duplicates=second)
    assert world.tree() == world.tree(tmp_path / "fresh")
    assert report.replaced == 0
    assert (report.copied > 0) == (first == "keep-best" != second)


def test_what_a_person_did_holds_whatever_becomes_of_duplicates(world):
    world.export()
    (world.dest / "cluster_01/small.jpg").unlink()
    (world.dest / "cluster_02/grey.jpg").rename(world.dest / "mine.jpg")
    for mode in ("separate", "keep-best", "keep-all"):
        report = world.export(duplicates=mode)
        check_totals(report)
        assert set(world.files()) == REST | {"mine.jpg"}
        assert report.reasons == {LEFT_OUT if mode == "keep-best" else "deleted by a person": 1}
        assert "mine.jpg" in check_table(world)
        assert len(world.left_out()) == (2 if mode == "keep-best" else 0)


def test_a_group_whose_best_a_person_deleted_is_told_apart(world):
    world.export(duplicates="keep-best")
    (world.dest / "cluster_00/best.jpg").unlink()
    report = world.export(duplicates="keep-best")
    check_totals(report)
    assert report.reasons == {"deleted by a person": 1, f"{LEFT_OUT} that is not in DEST": 2}
    assert next(iter(world.left_out().values()))["file_name"] == str(world.src / "best.jpg")
    restored = world.export(duplicates="keep-best", restore=True)
    assert (restored.restored, restored.reasons) == (1, {LEFT_OUT: 2})


def test_restoring_does_not_bring_what_is_left_out_for_a_better_one(world):
    world.export()
    (world.dest / "cluster_01/small.jpg").unlink()
    report = world.export(duplicates="keep-best", restore=True)
    check_totals(report)
    assert (report.restored, report.reasons) == (0, {LEFT_OUT: 2})
    assert len(world.left_out()) == 3


def test_a_group_without_its_best_is_no_group(world):
    world.export(duplicates="keep-best")
    world.remove(world.src / "best.jpg")
    report = world.ingest().export(duplicates="keep-best", found={"duplicates"})
    assert (report.duplicates, report.grouped, report.reasons) == (0, 4, {})
    assert {row["duplicate_group"] for row in world.table().values()} == {""}
    assert not (world.dest / "duplicates.csv").exists()


def test_all_of_one_group_and_a_dry_run(world):
    world.best_of = dict.fromkeys(world.clusters, str(world.src / "best.jpg"))
    dry = world.ingest().export(duplicates="separate", dry_run=True)
    assert (dry.copied, dry.separated) == (5, {"duplicates": 4})
    assert not world.dest.exists()
    dry = world.export(duplicates="keep-best", dry_run=True)
    assert (dry.copied, dry.grouped, dry.reasons) == (1, 1, {LEFT_OUT: 4})
    check_totals(dry)


def test_what_could_not_be_taken_away_still_lies_there(world, monkeypatch):
    world.export()

    def refuse(path):
        raise PermissionError(errno.EPERM, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(place, "remove_file", refuse)
        report = world.export(duplicates="keep-best")
    check_totals(report)
    assert (report.grouped, report.postponed) == (5, {"refused by the system": 2})
    assert len(check_table(world)) == 5
    assert not world.left_out()
    assert world.export(duplicates="keep-best").reasons == {LEFT_OUT: 2}


def test_a_stop_before_the_work_leaves_all_that_lies_there_in_the_table(world):
    class Stopping(Progress):
        def begin(self, name, total, unit):
            if name == "export":
                self.stop_signal = 2

    world.export()
    with pytest.raises(Interrupted):
        world.export(Stopping(), duplicates="keep-best")
    assert len(check_table(world)) == 5
    assert not world.left_out()


@pytest.mark.parametrize("name", ["duplicates", "suspects"])
def test_a_file_in_the_way_is_refused_before_anything_is_done(world, name):
    world.export()
    (world.dest / name).write_text("mine")
    before = world.tree()
    with pytest.raises(DestinationError, match=name):
        world.export(duplicates="separate", junk="separate")
    assert world.tree() == before


def test_a_table_of_the_left_out_that_a_person_edited_is_kept_aside(world):
    world.export(duplicates="keep-best")
    (world.dest / "duplicates.csv").write_text("my notes")
    world.export(duplicates="keep-best")
    assert (world.dest / "duplicates~edited1.csv").read_text() == "my notes"
    assert len(world.left_out()) == 3
    (world.dest / "duplicates.csv").write_text("more notes")
    world.export()
    assert (world.dest / "duplicates.csv").read_text() == "more notes"


def test_the_table_tells_what_is_known(world):
    world.wanted[4] = replace(world.wanted[4], flags="dark|blurred")
    world.export()
    columns = ("duplicate_group", "duplicate_kept", "junk_score", "flags")
    told = {source.rpartition("/")[2]: tuple(row[c] for c in columns) for source, row in world.table().items()}
    assert told == {
        "best.jpg": ("0", "true", "0.25", ""),
        "small.jpg": ("0", "false", "", ""),
        "grey.jpg": ("0", "false", "0.8", ""),
        "meme.jpg": ("", "", "0.9", ""),
        "other.jpg": ("", "", "", "dark|blurred"),
    }


def test_a_table_of_an_older_version_is_replaced(world, tmp_path):
    path = tmp_path / "pictures.csv"
    path.write_text("file_name,source,cluster,distance,width,height,brightness,sharpness,size,digest\n")
    assert world.export(dest=path, manifest_only=True).listed == 5


# --- Parquet


def test_parquet_holds_every_row_with_types_and_the_map(world, tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    path = tmp_path / "tables" / "all.parquet"
    world.wanted[:3] = [replace(picture, x=i / 2, y=-1.5) for i, picture in enumerate(world.wanted[:3])]
    for _ in range(2):
        report = world.export(dest=path, manifest_only=True)
        check_totals(report)
        assert report.listed == 5
    assert pq.ParquetFile(path).num_row_groups == 3
    read = pq.read_table(path)
    world.export(dest=tmp_path / "all.csv", manifest_only=True)
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as file:
        as_text = list(csv.DictReader(file))
    rows = read.to_pylist()
    assert [row["source"] for row in rows] == [row["source"] for row in as_text]
    assert read.column_names == [*as_text[0], "x", "y"]
    by_name = {row["source"].rpartition("/")[2]: row for row in rows}
    assert by_name["grey.jpg"]["duplicate_kept"] is False
    assert by_name["other.jpg"]["duplicate_group"] is by_name["other.jpg"]["junk_score"] is None
    assert (by_name["small.jpg"]["x"], by_name["small.jpg"]["y"], by_name["meme.jpg"]["x"]) == (0.5, -1.5, None)
    assert str(read.schema.field("x").type) == "float"
    assert not [name for name in path.parent.iterdir() if name != path]


def test_an_empty_parquet_table_and_one_that_is_not_ours(world, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    world.wanted = []
    world.export(dest=tmp_path / "none.parquet", manifest_only=True)
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    (tmp_path / "mine.parquet").write_text("mine")
    with pytest.raises(DestinationError, match=r"mine\.parquet"):
        world.export(dest=tmp_path / "mine.parquet", manifest_only=True)
    assert (tmp_path / "mine.parquet").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not have")
def test_names_that_are_no_text_are_written_as_in_the_other_table(world, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    world.add("\udcff.jpg")
    world.ingest().export(dest=tmp_path / "all.parquet", manifest_only=True)
    assert str(world.src / "\\udcff.jpg") in pq.read_table(tmp_path / "all.parquet")["source"].to_pylist()


# --- through the store


class Real:
    """Twelve pictures in a store with a fit; findings as the jobs publish them."""

    def __init__(self, root):
        self.root, self.store, self.dest = root, root / "s.zarr", root / "dest"
        self.pictures = Pictures(root / "src")
        for i in range(12):
            self.pictures.write(f"{i}.png", i)
        self.ingest(image_size=SIDE)
        sc.fit(sc.FitSettings(store=str(self.store), clusters=3, components=3))

    def ingest(self, **options):
        sc.ingest(sc.IngestSettings(sources=(str(self.root / "src"),), store=str(self.store), **options))

    def publish(self, kind, attributes=None, **arrays):
        with open_for_writing(str(self.store)) as writer:
            writer.publish_findings(kind, {k: np.asarray(v) for k, v in arrays.items()}, attributes or {})

    def publish_duplicates(self, kept):
        self.publish("duplicates", kept=np.array(kept, np.int32), difference=np.zeros(len(kept), np.float32))

    def export(self, **options):
        options.setdefault("dest", str(self.dest))
        report = sc.export(sc.ExportSettings(store=str(self.store), **options))
        check_totals(report)
        return report


@pytest.fixture
def real(tmp_path):
    return Real(tmp_path)


def test_what_was_not_looked_for_is_told_with_the_command_for_it(real):
    with pytest.raises(FindingsNotFoundError, match="streamcluster duplicates --store"):
        real.export(duplicates="keep-best")
    with pytest.raises(FindingsNotFoundError, match="streamcluster junk --store"):
        real.export(junk="separate")
    assert not real.dest.exists()
    assert real.export().duplicates is None


def test_findings_apply_and_rows_that_came_later_are_alone(real):
    pq = pytest.importorskip("pyarrow.parquet")
    real.publish_duplicates([0, 0, *range(2, 12)])
    score = np.full(12, np.nan, np.float32)
    score[2:4] = 0.5, 0.75
    flags = np.zeros(12, np.uint16)
    flags[5] = 0b101
    attributes = {"threshold": 0.5, "flag_names": ["dark", "bright", "blurred"]}
    real.publish("junk", attributes, score=score, flags=flags)
    real.publish("map", x=np.linspace(0, 1, 12, dtype=np.float32), y=np.full(12, np.nan, np.float32))
    real.pictures.write("new.png", "new")
    real.ingest()
    sc.fit(sc.FitSettings(store=str(real.store), clusters=3, components=3))
    report = real.export(duplicates="separate", junk="separate")
    assert (report.pictures, report.duplicates, report.suspects) == (13, 1, 1)
    assert report.separated == {"duplicates": 1, "suspects": 1}
    paths = [str(path) for path in open_collection(str(real.store)).catalog.column("path")]
    assert [path.name for path in real.dest.glob("duplicates/group_0000/*")] == [paths[1].rpartition("/")[2]]
    assert [path.name for path in real.dest.glob("suspects/*")] == [paths[3].rpartition("/")[2]]
    assert report.outdated == {"duplicates": "1 picture came since", "junk": "1 picture came since"}
    assert sc.status(sc.StatusSettings(store=str(real.store))).outdated == report.outdated
    real.export(dest=str(real.root / "all.parquet"), manifest_only=True)
    rows = {row["source"]: row for row in pq.read_table(real.root / "all.parquet").to_pylist()}
    assert rows[paths[5]]["flags"] == "dark|blurred"
    assert (rows[paths[0]]["duplicate_kept"], rows[paths[1]]["duplicate_kept"]) == (True, False)
    assert (rows[paths[11]]["x"], rows[paths[11]]["y"]) == (1.0, None)
    new = rows[str(real.root / "src" / "new.png")]
    assert [new[c] for c in ("duplicate_group", "junk_score", "flags", "x")] == [None, None, "", None]


def test_a_parquet_table_without_a_map_says_so(real, caplog):
    real.export(dest=str(real.root / "all.csv"), manifest_only=True)
    assert not caplog.messages
    real.export(dest=str(real.root / "all.parquet"), manifest_only=True)
    assert [message.partition(";")[0] for message in caplog.messages] == ["x and y are empty: no map was made yet"]


def test_a_table_alone_does_not_pretend_to_treat_some_pictures_apart(real):
    for apart in ({"duplicates": "keep-best"}, {"junk": "separate"}):
        with pytest.raises(SettingsError, match=f"leave out --{next(iter(apart))}"):
            real.export(dest=str(real.root / "all.csv"), manifest_only=True, **apart)


def test_a_best_picture_that_no_fit_has_grouped_yet_leaves_none_out(real):
    real.pictures.write("better.png", "better")
    real.ingest()
    real.publish_duplicates([*[12] * 4, *range(4, 13)])
    report = real.export(duplicates="keep-best")
    assert (report.pictures, report.grouped, report.duplicates) == (13, 12, 0)
    assert report.reasons == {"not yet grouped by a fit": 1}


def test_findings_that_are_replaced_while_they_are_read_are_not_taken_for_zeros(real):
    real.publish_duplicates(range(12))
    pictures = open_collection(str(real.store)).grouped_pictures()
    real.publish_duplicates([0, 0, *range(2, 12)])
    with pytest.raises(StoreBusyError, match="run the same command again"):
        list(pictures)
    assert [p.kept for p in open_collection(str(real.store)).grouped_pictures()] == [0, 0, *range(2, 12)]


def test_findings_that_are_replaced_right_after_they_were_read_do_not_count(real, monkeypatch):
    real.publish_duplicates(range(12))
    describe_rows = collection.describe_rows

    def replaced_meanwhile(found, rows):
        known = describe_rows(found, rows)
        real.publish_duplicates([0, 0, *range(2, 12)])
        return known

    monkeypatch.setattr(collection, "describe_rows", replaced_meanwhile)
    with pytest.raises(StoreBusyError):
        real.export(duplicates="keep-best")
    assert not real.dest.exists()


def test_without_a_fit_there_is_nothing_to_export(tmp_path):
    Pictures(tmp_path / "src").write("a.png", 1)
    sc.ingest(sc.IngestSettings(sources=(str(tmp_path / "src"),), store=str(tmp_path / "s.zarr")))
    with pytest.raises(FitNotFoundError):
        sc.export(sc.ExportSettings(store=str(tmp_path / "s.zarr"), dest=str(tmp_path / "a.csv"), manifest_only=True))


def test_a_run_looks_for_duplicates_where_it_is_asked_to(tmp_path):
    pictures = Pictures(tmp_path / "src")
    for i in range(8):
        pictures.write(f"{i}.png", i)
    (tmp_path / "src/again.png").write_bytes((tmp_path / "src/3.png").read_bytes())
    text = (
        f"store = 's.zarr'\n[ingest]\nsources = ['src']\nimage_size = {SIDE}\n[fit]\nclusters = 2\ncomponents = 2\n"
        "[export]\ndest = 'dest'\nduplicates = 'keep-best'\n"
    )
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "b.toml").write_text(text + "[duplicates]\nthreshold = 0\n")
    with pytest.raises(FindingsNotFoundError):
        sc.run(sc.run_settings(str(tmp_path / "a.toml")))
    report = sc.run(sc.run_settings(str(tmp_path / "b.toml")))
    assert (report.duplicates.threshold, report.duplicates.duplicates) == (0, 1)
    assert (report.export.grouped, report.export.reasons) == (8, {LEFT_OUT: 1})


def test_a_missing_pyarrow_is_one_line_that_names_the_extra(real):
    script = """
        import sys
        sys.modules["pyarrow"] = None
        from streamcluster.__main__ import main
        sys.argv[1:] = ["export", sys.argv[1], "--store", sys.argv[2], "--manifest-only"]
        main()
    """
    for name in ("all.parquet", "all.csv"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(real.root / name), str(real.store)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (real.root / name).exists() == (name == "all.csv"), done.stderr
        assert ("pip install 'streamcluster[parquet]'" in done.stderr) == (name == "all.parquet")
