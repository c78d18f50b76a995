"""The job, and the page that it writes in a real browser."""

import base64
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest
from browser import browsing, open_page
from pictures import Pictures, pointer_of

import streamcluster as sc
from streamcluster.errors import (
    BudgetError,
    DestinationError,
    FitNotFoundError,
    Interrupted,
    NoPicturesError,
    StoreNotFoundError,
)
from streamcluster.learn.eigenimages import eigenimages_of
from streamcluster.learn.tree import cut_tree, ward_tree
from streamcluster.runtime.paths import decode_path
from streamcluster.runtime.progress import Progress
from streamcluster.show import report as shown
from streamcluster.store.collection import open_collection, open_for_writing

HOSTILE = [
    "<script>window.__hit=1<_script>.png",
    "<img src=x onerror=window.__hit=2>.png",
    "\"onmouseover='window.__hit=3' x=\".png",
    "<!--<script>.png",
    "line\nbreak & ampersand \u2028.png",
]
HOSTILE_REASON = "<b>no picture</b></script><script>window.__hit=4</script>"
N, GROUPS = 60, 3
FLAGS = ["dark", "<i>blurred</i>"]


def hostile_names():
    """Names that Windows has no way to write are left out there."""
    return [name for name in HOSTILE if sys.platform != "win32" or not re.search(r'[<>:"|?*\x00-\x1f]', name)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A fitted store of N pictures, some with hostile names, two files that are none, and no findings."""
    root = tmp_path_factory.mktemp("report")
    folder = root / "in"
    folder.mkdir()
    pictures = Pictures(folder)
    names = hostile_names()
    for i in range(N):
        pictures.write(names[i] if i < len(names) else f"{i:03d}.png", i)
    pictures.write_bytes("broken.png", b"no picture")
    sc.ingest(sc.IngestSettings(sources=(str(folder),), store=str(root / "s.zarr"), image_size=16))
    sc.fit(sc.FitSettings(store=str(root / "s.zarr"), clusters=GROUPS, components=4))
    return root / "s.zarr"


@pytest.fixture(scope="module")
def curated(store, tmp_path_factory):
    """The same store with findings of every kind: three duplicates, two suspects, two flags, a map."""
    path = tmp_path_factory.mktemp("curated") / "it's a <store>.zarr" if sys.platform != "win32" else store
    if path != store:
        shutil.copytree(store, path)
    kept = np.arange(N, dtype=np.int32)
    kept[[1, 2]], kept[11] = 0, 10
    difference = np.zeros(N, np.float32)
    difference[[1, 11]] = 0.25
    score = np.full(N, 0.1, np.float32)
    score[[5, 6]] = 0.7, 0.9
    score[7] = np.nan
    flags = np.zeros(N, np.uint16)
    flags[5], flags[6] = 3, 1
    rng = np.random.default_rng(0)
    with open_for_writing(str(path)) as collection:
        collection.publish_findings(
            "duplicates", {"kept": kept, "difference": difference}, {"key": "k", "threshold": 1.0, "version": 1}
        )
        collection.publish_findings(
            "junk",
            {"score": score, "cluster_score": np.array([0.1, 0.8, np.nan], np.float32), "flags": flags},
            {"key": "k", "fit": "0001", "threshold": 0.5, "flag_names": FLAGS, "version": 1},
        )
        places = rng.normal(size=(2, N)).astype(np.float32)
        places[:, 3] = np.nan
        collection.publish_findings("map", {"x": places[0], "y": places[1]}, {"key": "k", "fit": "0001"})
        collection.update(collection.rejects, [0], {"reason": [HOSTILE_REASON]})
    return path


def write(store, out, progress=None, **settings):
    return sc.report(sc.ReportSettings(store=str(store), out=str(out), **settings), progress=progress)


def data_of(out):
    """Return what the page's script reads."""
    text = out.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def figures_of(out):
    """Return the pictures that no file holds, uint8 RGB."""
    text = out.read_text(encoding="utf-8")
    lines = re.search(r'id="figures">(.*?)</script>', text, re.DOTALL)[1].split("\n")
    encoded = (np.frombuffer(base64.b64decode(line), np.uint8) for line in lines)
    return [cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1] for file in encoded]


def check_alike(shown, real):
    """WebP loses a little of what is neither smooth nor grey."""
    assert shown.shape == real.shape
    assert np.abs(shown.astype(float).mean(axis=2) - real.astype(float).mean(axis=2)).mean() < 5


# --- the job


def test_groups_have_their_nearest_and_farthest_pictures(store, tmp_path):
    report = write(store, tmp_path / "r.html", per_group=6)
    data = data_of(tmp_path / "r.html")
    collection = open_collection(str(store))
    labels, distances = collection.fit().labels(), collection.fit().distances()
    paths = collection.catalog.column("path").tolist()
    assert (report.pictures, report.groups, report.rejected) == (N, GROUPS, 1)
    assert (report.duplicates, report.suspects, report.points) == (None, None, N)
    for group in data["groups"]:
        members = np.flatnonzero(labels == group["number"])
        ordered = members[np.argsort(distances[members])]
        assert group["size"] == len(members) > 6
        assert group["spread"] == pytest.approx(distances[members].mean(), abs=1e-4)
        shown = [[data["pictures"][place]["path"] for place in group[half]] for half in ("central", "outlying")]
        real = [decode_path(paths[row]) for row in ordered]
        assert shown == [real[:3], real[:-4:-1]]
    assert report.shown == len(data["pictures"]) == 6 * GROUPS


def test_a_group_without_more_pictures_than_asked_for_shows_all_once(store, tmp_path):
    write(store, tmp_path / "r.html", per_group=N)
    for group in data_of(tmp_path / "r.html")["groups"]:
        assert len(set(group["central"])) == group["size"]
        assert group["outlying"] == []


def test_findings_are_in_the_data(curated, tmp_path):
    report = write(curated, tmp_path / "r.html")
    data = data_of(tmp_path / "r.html")
    assert (report.duplicates, report.suspects, report.points) == (3, 2, N - 1)
    assert [group["size"] for group in data["duplicates"]["shown"]] == [3, 2]
    assert data["duplicates"]["identical"] == 1
    assert [data["pictures"][place]["junk"] for place in data["suspects"]["shown"]] == pytest.approx([0.9, 0.7])
    assert [(flag["name"], flag["total"]) for flag in data["flags"]] == [(FLAGS[0], 2), (FLAGS[1], 1)]
    assert [group["junk"] for group in data["groups"]] == [pytest.approx(0.1), pytest.approx(0.8), None]
    assert data["map"]["places"]


def test_each_group_has_its_mean(store, tmp_path):
    write(store, tmp_path / "r.html")
    data, figures = data_of(tmp_path / "r.html"), figures_of(tmp_path / "r.html")
    collection = open_collection(str(store))
    labels, thumbnails = collection.fit().labels(), collection.thumbnails(slice(0, N))
    for group in data["groups"]:
        check_alike(figures[group["mean"]], thumbnails[labels == group["number"]].mean(axis=0))


def test_the_tree_joins_the_groups_of_the_fit(store, tmp_path):
    write(store, tmp_path / "r.html")
    tree = data_of(tmp_path / "r.html")["tree"]
    fit = open_collection(str(store)).fit()
    real = ward_tree(fit.array("centers"), fit.array("counts"))
    assert sorted(tree["groups"]) == list(range(GROUPS))
    assert [join["height"] for join in tree["joins"]] == pytest.approx(real[:, 2].tolist())
    top = tree["joins"][-1]
    halves = tree["groups"][: top["middle"]], tree["groups"][top["middle"] :]
    assert [{*cut_tree(real, 2)[list(half)]} for half in halves] in ([{0}, {1}], [{1}, {0}])


def test_components_are_shown_as_pictures(store, tmp_path):
    write(store, tmp_path / "r.html")
    told, figures = data_of(tmp_path / "r.html")["eigenimages"], figures_of(tmp_path / "r.html")
    found = eigenimages_of(open_collection(str(store)).fit(), 16)
    assert told["shares"] == pytest.approx(found.shares.tolist(), abs=1e-3)
    assert len(figures) == told["first"] + 1 + 4
    for figure, real in zip(figures[told["first"] :], [found.mean, *found.components], strict=True):
        check_alike(figure, real)


def test_the_first_three_scores_are_in_the_data(curated, tmp_path):
    write(curated, tmp_path / "r.html")
    data = data_of(tmp_path / "r.html")["map"]
    shown = np.frombuffer(base64.b64decode(data["scores"]), "<u2").reshape(3, -1).T
    rows = np.delete(np.arange(N), 3)  # which has no place on the map
    real = open_collection(str(curated)).fit().array("scores")[rows, :3]
    steps = (shown - shown[0].astype(float)) * np.ptp(real, axis=0).max() / 65535
    assert np.allclose(steps, real - real[0], atol=1e-3 * np.ptp(real))


def test_a_picture_without_a_group_is_counted_as_such_and_in_no_finding(store, tmp_path):
    copy = tmp_path / "s.zarr"
    shutil.copytree(store, copy)
    (tmp_path / "in").mkdir()
    for i in range(2):
        Pictures(tmp_path / "in").write(f"new{i}.png", 1000)
    sc.ingest(sc.IngestSettings(sources=(str(tmp_path / "in"),), store=str(copy), image_size=16))
    with open_for_writing(str(copy)) as collection:
        n_rows = collection.n_rows
        assert n_rows == N + 2
        kept = np.arange(n_rows, dtype=np.int32)
        kept[-1], kept[3], kept[5] = N, N, 4
        score, flags = np.zeros(n_rows, np.float32), np.zeros(n_rows, np.uint16)
        score[[-1, 7]], flags[[-1, 7]] = 0.9, 1
        collection.publish_findings(
            "duplicates", {"kept": kept, "difference": np.zeros(n_rows, np.float32)}, {"threshold": 1.0}
        )
        arrays = {"score": score, "cluster_score": np.zeros(GROUPS, np.float32), "flags": flags}
        collection.publish_findings("junk", arrays, {"fit": "0001", "threshold": 0.5, "flag_names": FLAGS})
    report = write(copy, tmp_path / "r.html")
    data = data_of(tmp_path / "r.html")
    assert (report.pictures, sum(group["size"] for group in data["groups"])) == (N + 2, N)
    # Beside the best is the one whose best has a group too, and nothing is left to look at.
    assert (report.duplicates, data["duplicates"]["groups"], data["duplicates"]["unseen"]) == (1, 1, 0)
    assert (report.suspects, data["suspects"]["scored"], data["flags"][0]["total"]) == (1, N, 1)
    assert all(picture["group"] is not None for picture in data["pictures"])


def test_any_number_of_workers_writes_the_same_bytes(curated, tmp_path):
    write(curated, tmp_path / "1.html", workers=1)
    write(curated, tmp_path / "3.html", workers=3)
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "3.html").read_bytes()


def test_neither_scikit_learn_nor_matplotlib_is_loaded_for_it():
    heavy = "[name for name in ('sklearn', 'dask', 'matplotlib') if name in sys.modules]"
    program = f"import sys, streamcluster.jobs.report; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_store_stays_as_it_was(curated, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in curated.rglob("*")}
    write(curated, tmp_path / "r.html")
    assert {path: path.stat().st_mtime_ns for path in curated.rglob("*")} == before


def test_an_older_report_is_replaced_only_by_force_and_another_file_never(store, tmp_path):
    out = tmp_path / "new" / "r.html"
    write(store, out)
    before = out.read_bytes()
    with pytest.raises(DestinationError, match="--force"):
        write(store, out, per_group=2)
    assert out.read_bytes() == before
    write(store, out, per_group=2, force=True)
    assert len(out.read_bytes()) < len(before)
    other = tmp_path / "letter.html"
    other.write_text("dear")
    for taken in (other, tmp_path):
        with pytest.raises(DestinationError):
            write(store, taken, force=True)
    assert other.read_text() == "dear"
    assert [path.name for path in out.parent.iterdir()] == ["r.html"]


def test_bad_input_is_told_and_writes_nothing(store, tmp_path):
    out = tmp_path / "r.html"
    with pytest.raises(StoreNotFoundError):
        write(tmp_path / "none.zarr", out)
    with pytest.raises(FitNotFoundError, match="0001"):
        write(store, out, fit="7")
    with pytest.raises(BudgetError, match="--memory"):
        write(store, out, memory="64MiB")
    assert not out.exists()


def test_a_store_without_a_fit_or_without_pictures_is_told(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = Pictures(folder)
    pictures.write("a.png", 1)
    settings = {"sources": (str(folder),), "store": str(tmp_path / "s.zarr")}
    sc.ingest(sc.IngestSettings(**settings))
    with pytest.raises(FitNotFoundError, match="streamcluster fit"):
        write(tmp_path / "s.zarr", tmp_path / "r.html")
    pictures.remove("a.png")
    with pytest.raises(NoPicturesError):
        sc.ingest(sc.IngestSettings(**settings, allow_gone=True))
    with pytest.raises(NoPicturesError):
        write(tmp_path / "s.zarr", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_stop_writes_nothing(store, tmp_path):
    class Stopping(Progress):
        def begin(self, name, total, unit):
            if name == "pictures":
                self.stop_signal = 2

    with pytest.raises(Interrupted):
        write(store, tmp_path / "r.html", Stopping())
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_came_or_went_since_are_told(store, tmp_path):
    copy = tmp_path / "s.zarr"
    shutil.copytree(store, copy)
    n_known = 20
    kept = np.zeros(n_known, np.int32)
    with open_for_writing(str(copy)) as collection:
        collection.publish_findings(
            "duplicates",
            {"kept": kept, "difference": np.ones(n_known, np.float32)},
            {"key": "k", "threshold": 1.0, "version": 1},
        )
        collection.set_state(collection.catalog, [0, 30], 1)
    write(copy, tmp_path / "r.html")
    data = data_of(tmp_path / "r.html")
    assert pointer_of(copy)["findings"]["duplicates"] == "0001"
    # The kept picture is gone: nothing is beside it any more.
    assert (data["duplicates"]["extra"], data["duplicates"]["unseen"]) == (0, N - n_known - 1)
    assert sum(group["size"] for group in data["groups"]) == data["live"] == N - 2


# --- the page


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def out(curated, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "r.html"
    write(curated, path)
    return path


@pytest.fixture
def tab(browser, out):
    """The page, whose console must have nothing to say."""
    tab, complaints = open_page(browser, out)
    yield tab
    assert complaints == []
    assert tab.evaluate("window.__hit") is None
    tab.close()


def scroll_through(tab):
    tab.evaluate(
        """async () => {
            for (let y = 0; y < document.documentElement.scrollHeight; y += 400) {
                scrollTo({ top: y, behavior: "instant" });
                await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
            }
        }"""
    )
    tab.wait_for_function("[...document.querySelectorAll('.thumb img')].every((image) => image.src && image.complete)")


def test_every_picture_shows_and_only_when_it_is_near(tab, out):
    assert tab.evaluate("[...document.querySelectorAll('.thumb img')].some((image) => !image.src)")
    scroll_through(tab)
    widths = tab.evaluate("[...document.querySelectorAll('.thumb img')].map((image) => image.naturalWidth)")
    assert len(widths) > len(data_of(out)["pictures"])
    assert set(widths) == {16}


def test_hostile_names_are_text(tab, curated):
    scroll_through(tab)
    assert tab.locator("main b:not(.card b), main script, main i:not([aria-hidden]):not(.share i)").count() == 0
    assert tab.locator("#flags h3").all_text_contents() == FLAGS
    assert tab.title() == tab.inner_text("#title") == curated.name
    assert HOSTILE_REASON in tab.locator("#rejects").text_content()
    if names := hostile_names():
        tab.fill("#filter", names[0].lower())
        tab.locator("#groups .thumb:visible").first.hover()
        assert tab.locator("#groups article:visible").count() == 1


def test_the_filter_hides_what_does_not_match(tab):
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "filter"
    tab.keyboard.type("#1")
    assert tab.locator("#groups article:visible h3").all_text_contents() == ["Group 1"]
    assert f"1 of {GROUPS}" in tab.locator("#groups .head").inner_text()
    tab.fill("#filter", "no such path")
    assert tab.locator("#groups article:visible").count() == 0
    assert tab.locator("#duplicates article:visible").count() == 0
    assert tab.locator("#rejects tbody tr:visible .path").count() == 0
    tab.keyboard.press("Escape")
    assert tab.locator("#groups article:visible").count() == GROUPS


def test_groups_are_sorted(tab, out):
    sizes = {f"Group {group['number']}": group["size"] for group in data_of(out)["groups"]}
    tab.select_option("#sort", "smallest")
    assert tab.locator("#groups h3").all_text_contents() == sorted(sizes, key=lambda name: (sizes[name], name))
    tab.select_option("#sort", "junk")
    assert tab.locator("#groups h3").first.text_content() == "Group 1"


def test_a_picture_is_enlarged_and_left_by_the_keyboard_alone(tab, out):
    thumb = tab.locator("#groups .thumb").first
    thumb.focus()
    tab.keyboard.press("Enter")
    dialog = tab.locator("dialog[open]")
    data = data_of(out)
    first, second = (data["pictures"][place] for place in data["groups"][0]["central"][:2])
    assert tab.inner_text("#enlarged-name") == first["shown"]
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#enlarged-name") == second["shown"]
    assert tab.get_attribute("dialog .original", "href") == second["address"]
    assert dialog.locator("figure img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 16
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#enlarged-name") == first["shown"]
    tab.keyboard.press("Escape")
    assert dialog.count() == 0
    assert thumb.evaluate("(thumb) => thumb === document.activeElement")


def test_a_path_is_copied_as_it_is(browser, out):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab, complaints = open_page(context, out)
    data = data_of(out)
    tab.locator("#groups .thumb").first.click()
    tab.click("dialog .copy")
    tab.wait_for_function("document.querySelector('dialog .copy').textContent === 'Copied'")
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == data["pictures"][data["groups"][0]["central"][0]]["path"]
    assert complaints == []
    context.close()


def test_an_address_leads_to_a_group(browser, out):
    tab = browser.new_page()
    tab.goto(f"{out.as_uri()}#group-2")
    tab.wait_for_function("document.activeElement.id === 'group-2'")
    tab.close()


def test_the_kept_one_of_duplicates_is_marked(tab):
    first = tab.locator("#duplicates article").first
    assert first.locator(".thumb small").all_text_contents() == ["kept", "0.00", "0.25"]
    assert "kept" in first.locator(".thumb").first.get_attribute("aria-label")


def test_a_point_of_the_map_shows_its_picture_and_goes_to_its_group(tab):
    tab.locator("#canvas").scroll_into_view_if_needed()
    found = picture_under(tab)
    assert found
    tab.wait_for_function(
        "document.querySelector('#tip canvas').getContext('2d').getImageData(0, 0, 96, 96).data.some((value) => value)"
    )
    tab.mouse.down()
    tab.mouse.up()
    assert tab.evaluate("document.activeElement.id") == f"group-{found}"


def picture_under(tab, steps=25):
    """Move over the canvas until a picture shows, and return the group that it says."""
    box = tab.locator("#canvas").bounding_box()
    for x in np.linspace(0.1, 0.9, steps):
        for y in np.linspace(0.1, 0.9, steps):
            tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if tab.locator("#tip").is_visible():
                return re.match(r"Group (\d+)", tab.inner_text("#tip p"))[1]
    return None


@pytest.mark.parametrize("kind", ["PC1, PC2", "PC1, PC2, PC3"])
def test_scores_are_seen_as_the_map_is(tab, kind):
    tab.locator("#canvas").scroll_into_view_if_needed()
    before = tab.locator("#canvas").screenshot()
    button = tab.locator("#kinds button", has_text=re.compile(f"^{kind}$"))
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    tab.wait_for_timeout(100)
    assert tab.locator("#canvas").screenshot() != before
    assert tab.locator("#canvas").get_attribute("aria-label").startswith(f"{kind} of ")
    found = picture_under(tab)
    tab.mouse.down()
    tab.mouse.up()
    assert tab.evaluate("document.activeElement.id") == f"group-{found}"


def test_three_scores_are_turned_by_dragging_and_by_buttons(tab):
    assert not tab.locator("#left").is_visible()
    tab.locator("#kinds button").last.click()
    tab.locator("#canvas").scroll_into_view_if_needed()
    box = tab.locator("#canvas").bounding_box()
    seen = []
    for act in (lambda: None, lambda: tab.mouse.move(box["x"] + 300, box["y"] + 250), lambda: tab.click("#left")):
        tab.mouse.move(box["x"] + 200, box["y"] + 200)
        tab.mouse.down()
        act()
        tab.mouse.up()
        tab.mouse.move(0, 0)
        tab.wait_for_timeout(100)
        seen.append(tab.locator("#canvas").screenshot())
    assert len(set(seen)) == 3


def test_a_leaf_of_the_tree_leads_to_its_group_in_its_colour(tab, out):
    tree = data_of(out)["tree"]
    leaves = tab.locator("#tree a:has(.stem)")
    assert leaves.locator("text").all_text_contents() == [str(group) for group in tree["groups"]]
    assert tab.locator("#tree g.cut text").text_content() == f"this fit: {GROUPS}"
    for leaf, group in zip(leaves.all(), tree["groups"], strict=True):
        stroke = leaf.locator(".stem").evaluate("(stem) => getComputedStyle(stem).stroke")
        dot = tab.locator(f"#group-{group} .dot").evaluate("(dot) => getComputedStyle(dot).backgroundColor")
        assert stroke == dot
    leaves.first.locator("image").click()
    assert tab.evaluate("document.activeElement.id") == f"group-{tree['groups'][0]}"


def test_a_branch_of_the_tree_leads_to_its_groups_by_the_keyboard_alone(tab, out):
    tree = data_of(out)["tree"]
    (root,) = tab.locator("#tree a[tabindex='0']").all()
    root.focus()
    assert root.get_attribute("aria-label").startswith(f"Branch of {GROUPS} groups")
    low = next(join for join in tree["joins"] if join["stop"] - join["first"] == 2)
    inside = sorted(tree["groups"][low["first"] : low["stop"]])
    tab.keyboard.press("ArrowDown")
    if low["first"]:  # the way down leads along the left, to the leaf beside the branch
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowUp")
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')").endswith(f": {inside[0]}, {inside[1]}")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("Enter")
    shown = tab.locator("#groups article:visible h3").all_text_contents()
    assert shown == [f"Group {group}" for group in inside]
    assert tab.evaluate("document.activeElement.id") == f"group-{inside[0]}"
    assert tab.locator("#tree a[tabindex='0']").count() == 1
    tab.locator("#tree a[tabindex='0']").focus()
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("Enter")
    assert tab.input_value("#filter") == ""
    assert tab.locator("#groups article:visible").count() == GROUPS


@pytest.mark.parametrize("width", [390, 1280])
def test_leaves_of_many_groups_stand_apart(browser, store, tmp_path, width):
    copy = tmp_path / "s.zarr"
    shutil.copytree(store, copy)
    sc.fit(sc.FitSettings(store=str(copy), clusters=25, components=4))
    write(copy, tmp_path / "r.html")
    tab, complaints = open_page(browser, tmp_path / "r.html", viewport={"width": width, "height": 800})
    for part in ("text", "image"):
        boxes = [part.bounding_box() for part in tab.locator(f"#tree a {part}").all()]
        assert len(boxes) == 25
        boxes.sort(key=lambda box: box["x"])
        assert all(a["x"] + a["width"] < b["x"] for a, b in pairwise(boxes))
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    tab.close()


def test_means_and_eigenimages_show_and_say_what_they_are(tab):
    scroll_through(tab)
    means = tab.locator("#groups .mean img")
    names = [mean.get_attribute("alt") for mean in means.all()]
    assert names == [f"Mean of the pictures of group {group}" for group in range(GROUPS)]
    components = tab.locator("#eigenimages img")
    assert [image.get_attribute("alt") for image in components.all()] == ["Mean", "PC1", "PC2", "PC3", "PC4"]
    for image in (*means.all(), *components.all()):
        assert image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 16


def test_components_of_a_model_are_no_pictures(browser, store, tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "eigenimages_of", lambda *_: None)
    write(store, tmp_path / "r.html")
    tab, complaints = open_page(browser, tmp_path / "r.html")
    assert "no picture" in tab.inner_text("#eigenimages")
    assert complaints == []
    tab.close()


def test_the_chosen_number_of_components_is_marked(tab, out):
    total = sum(data_of(out)["ratios"])
    chart = tab.locator("#charts svg").last
    assert chart.locator(".chosen").count() == 1
    assert chart.locator("text.strong").text_content() == f"4 chosen: {100 * total:.1f} %"


def test_several_groups_are_filtered_for_together(tab):
    tab.fill("#filter", "#0 #2")
    assert tab.locator("#groups article:visible h3").all_text_contents() == ["Group 0", "Group 2"]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window_in_both_schemes(browser, out, width, scheme):
    tab, complaints = open_page(browser, out, viewport={"width": width, "height": 800}, color_scheme=scheme)
    scroll_through(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = np.mean([int(part) for part in re.findall(r"\d+", ground)[:3]])
    assert (lightness > 127) == (scheme == "light")
    tab.click("#theme")
    tab.click("#theme")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert np.mean([int(part) for part in re.findall(r"\d+", ground)[:3]]) < 127
    assert complaints == []
    tab.close()


def test_whatever_can_be_used_has_a_name(tab):
    nameless = tab.evaluate(
        """[...document.querySelectorAll('button, a, input, select, [role=img]')]
            .filter((element) => ![element.getAttribute('aria-label'), element.textContent,
                                   element.labels?.[0]?.textContent].some((name) => name?.trim()))
            .map((element) => element.outerHTML)"""
    )
    assert nameless == []


def test_what_was_not_looked_for_tells_its_command(browser, store, tmp_path):
    write(store, tmp_path / "r.html")
    tab, complaints = open_page(browser, tmp_path / "r.html")
    for section, command in (
        ("duplicates", "duplicates"),
        ("suspects", "junk"),
        ("flags", "junk"),
        ("map", "plot plots"),
    ):
        assert f"streamcluster {command} --store" in tab.inner_text(f"#{section}")
    assert complaints == []
    tab.close()


def test_one_group_and_nothing_but_duplicates(browser, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = Pictures(folder)
    for i in range(9):
        pictures.write(f"{i}.png", i // 8)
    path = tmp_path / "s.zarr"
    sc.ingest(sc.IngestSettings(sources=(str(folder),), store=str(path), image_size=16))
    sc.fit(sc.FitSettings(store=str(path), clusters=1, components=1))
    with open_for_writing(str(path)) as collection:
        collection.publish_findings(
            "duplicates",
            {"kept": np.zeros(9, np.int32), "difference": np.zeros(9, np.float32)},
            {"key": "k", "threshold": 1.0, "version": 1},
        )
    report = write(path, tmp_path / "r.html")
    assert (report.groups, report.duplicates) == (1, 8)
    tab, complaints = open_page(browser, tmp_path / "r.html")
    assert tab.locator("#duplicates .thumb").count() == 8
    assert "Group 0" in tab.inner_text("#groups")
    assert tab.locator("#tree").count() == 0
    assert complaints == []
    tab.close()


def test_it_stays_small_with_more_groups_than_can_have_all_their_pictures(store, tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "GROUP_PIXELS", 4 * GROUPS * 16**2)
    assert write(store, tmp_path / "r.html").shown == 4 * GROUPS
    monkeypatch.setattr(shown, "GROUP_PIXELS", 1)
    assert write(store, tmp_path / "r.html", force=True).shown == GROUPS
