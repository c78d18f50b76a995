import xml.etree.ElementTree as ET
from itertools import combinations

import cv2
import numpy as np
import pytest

from streamcluster.learn.eigenimages import eigenimages
from streamcluster.show import plots
from streamcluster.show.dendrogram import group_dendrogram
from streamcluster.show.groups import MOST_GROUPS, GroupPictures
from streamcluster.show.scatter import MOST_POINTS

#: Machado, Oliveira & Fernandes 2009, severity 1: what linear RGB becomes for who lacks a kind of cone.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def points_of(k, n=600):
    rng = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int32) % k
    scores = rng.normal(size=(n, 3)).astype(np.float32)
    return plots.Points(labels, scores, scores[:, :2], n), np.bincount(labels, minlength=k)


def pictures_of(k, side=16):
    pictures = np.random.default_rng(0).integers(0, 256, (2, k, side, side, 3), dtype=np.uint8)
    return GroupPictures(np.arange(k), np.arange(1, k + 1), *pictures)


def tree_of(k):
    return group_dendrogram(np.random.default_rng(0).normal(size=(k, 3)), np.ones(k, np.int64))


def ratio_of(d):
    return 0.4 ** np.arange(1, d + 1)


def check(draw, least=300):
    """The files are a PNG of a sensible size and an SVG that says the same size, and both say whose they are."""
    files = plots.encode(draw)
    assert set(files) == {"png", "svg"}
    height, width = cv2.imdecode(np.frombuffer(files["png"], np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert least <= height <= 5000
    assert 600 <= width <= 3000
    svg = ET.fromstring(files["svg"])
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(svg.get("width").removesuffix("pt")) / 72 * plots.DPI == pytest.approx(width, abs=2)
    assert all(plots.MARK.encode() in content[:4096] for content in files.values())
    return files


@pytest.mark.parametrize("k", [1, 50])
@pytest.mark.parametrize("draw", [plots.draw_scatter, plots.draw_scatter_3d])
def test_scatters(draw, k):
    points, sizes = points_of(k)
    check(lambda: draw(points, sizes, ratio_of(5), "plain"))


def test_a_map_is_small_however_many_points():
    points, sizes = points_of(5, n=MOST_POINTS)
    files = check(lambda: plots.draw_map(points, sizes))
    assert max(map(len, files.values())) < 1 << 20


@pytest.mark.parametrize("k", [1, 50, 100])
@pytest.mark.parametrize("draw", ["scatter", "map"])
def test_the_legend_names_each_group_beside_the_axes(k, draw):
    points, sizes = points_of(k, n=5000)
    figure = plots.draw_map(points, sizes) if draw == "map" else plots.draw_scatter(points, sizes, ratio_of(5), "plain")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{i}  ({n:,})" for i, n in enumerate(sizes)]
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert not box.overlaps(figure.axes[0].get_window_extent())


def test_of_very_many_groups_the_largest_are_told_apart():
    points, sizes = points_of(130, n=1000)
    figure = plots.draw_scatter(points, sizes, ratio_of(5), "plain")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == MOST_GROUPS + 1
    assert texts[-1] == "30 smaller"


def test_no_two_groups_look_the_same():
    looks = {
        (plots.COLORS[i % len(plots.COLORS)], plots.MARKERS[i // len(plots.COLORS) % len(plots.MARKERS)])
        for i in range(MOST_GROUPS)
    }
    assert len(looks) == MOST_GROUPS


@pytest.mark.parametrize("lack", ["none", *BLIND])
def test_the_colour_blind_tell_the_colours_apart(lack):
    rgb = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in plots.COLORS]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(BLIND.get(lack, np.eye(3))), 0, 1)
    shown = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(shown[None].astype(np.float32), cv2.COLOR_RGB2Lab)[0]
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 8


def test_a_fit_with_one_component():
    points, sizes = points_of(3)
    check(lambda: plots.draw_scatter(points, sizes, ratio_of(1), "plain"))
    check(lambda: plots.draw_variance(ratio_of(1), None))


def test_the_chosen_number_of_components_is_marked():
    figure = plots.draw_variance(np.array([0.5, 0.3, 0.15]), 0.9)
    assert any(
        np.allclose(line.get_xydata(), [[3, 0.95]]) and line.get_marker() == "o" for line in figure.axes[0].lines
    )
    check(lambda: plots.draw_variance(ratio_of(100), 0.9))


@pytest.mark.parametrize("k", [1, 2, 50])
def test_groups_and_their_tree(k):
    check(lambda: plots.draw_groups(pictures_of(k), k), least=150)
    check(lambda: plots.draw_tree(tree_of(k), pictures_of(k), k), least=150)


@pytest.mark.parametrize("k", [1, 50, 3000])
def test_sizes(k):
    check(lambda: plots.draw_sizes(np.arange(k, 0, -1)))


def test_the_tree_has_a_line_for_each_join():
    tree, pictures = tree_of(12), pictures_of(12)
    lines = plots.draw_tree(tree, pictures, 12).axes[0].lines
    assert [line.get_xydata()[1, 0] for line in lines] == [join.height for join in tree.joins]
    assert [line.get_xydata()[[0, -1], 1].tolist() for line in lines] == [list(join.x) for join in tree.joins]


@pytest.mark.parametrize("features", ["color", "onnx"])
def test_eigenimages(features):
    n_features = {"color": 2000, "onnx": 32}[features]
    components = np.linalg.qr(np.random.default_rng(0).normal(size=(n_features, 20)))[0].T.astype(np.float32)
    found = eigenimages(features, 16, np.ones(n_features, np.float32), np.full(n_features, 0.5), components)
    check(lambda: plots.draw_eigenimages(found, ratio_of(20), features), least=150)


def test_the_same_figure_gives_the_same_bytes_and_leaves_settings_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    points, sizes = points_of(5)
    first, second = (plots.encode(lambda: plots.draw_map(points, sizes)) for _ in range(2))
    assert first == second
    assert dict(mpl.rcParams) == before
