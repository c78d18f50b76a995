"""Near-duplicates: what must be found, what must be kept apart, and that blocks, cells and workers change nothing."""

import csv
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images

from streamcluster.curate import duplicates as looking
from streamcluster.curate.compare import FAR, differences
from streamcluster.curate.duplicates import TASK_BYTES, Pictures, find_duplicates
from streamcluster.curate.groups import LEAD_TILE, Standing, best_of_each, components, group_rows, without_returns
from streamcluster.curate.search import Cells, decode, encode, nearest, sort_into_cells
from streamcluster.curate.views import N_NUMBERS, VIEWS, chroma_of, describe, luma_of
from streamcluster.runtime.execution import Executor
from streamcluster.runtime.progress import Progress

DATA = Path(__file__).parents[3] / "shared" / "data"
SIDE = 64


def shrunk(picture):
    return cv2.resize(np.ascontiguousarray(picture), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def originals():
    """Pictures of different things: parts of two photographs, without the sky, in which there is nothing to see."""
    china, flower = load_sample_images().images
    places = [(china, 210), (flower, 0), (flower, 210)]
    return [photo[top : top + 200, left : left + 200] for photo, top in places for left in (0, 210, 420)]


def cropped(picture, share):
    side = len(picture)
    margin = round(share * side)
    return picture[margin : side - margin, margin : side - margin]


def coded(picture, ending, *options):
    return cv2.imdecode(cv2.imencode(ending, np.ascontiguousarray(picture), options)[1], cv2.IMREAD_COLOR)


def captioned(picture):
    written = picture.copy()
    place = (6, len(written) - 10)
    return cv2.putText(written, "seen somewhere", place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)


VARIANTS = {
    "quality 25": lambda p: coded(p, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 25),
    "webp": lambda p: coded(p, ".webp", cv2.IMWRITE_WEBP_QUALITY, 50),
    "a third": lambda p: cv2.resize(np.ascontiguousarray(p), None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA),
    "double": lambda p: cv2.resize(np.ascontiguousarray(p), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "crop 5 %": lambda p: cropped(p, 0.05),
    "crop 12 %": lambda p: cropped(p, 0.12),
    "crop of a side": lambda p: p[:, 20:],
    "border": lambda p: cv2.copyMakeBorder(p, 14, 14, 14, 14, cv2.BORDER_CONSTANT, value=(40, 40, 40)),
    "caption": captioned,
    "dark": lambda p: cv2.convertScaleAbs(p, alpha=0.45),
    "bright": lambda p: cv2.convertScaleAbs(p, alpha=1.3),
    "grey": lambda p: np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "mirror": lambda p: p[:, ::-1],
}


def standing_of(n):
    """Where all have the same qualities the oldest is the best, which is the first."""
    return Standing(np.ones(n, np.int64), np.ones(n, np.int64), np.zeros(n, np.float32), np.arange(n))


def found_in(thumbnails, *, threshold=1.0, workers=2, block_rows=16, digests=None, live=None):
    n = len(thumbnails)
    pictures = Pictures(
        blocks=[slice(start, min(start + block_rows, n)) for start in range(0, n, block_rows)],
        thumbnails=lambda block: thumbnails[block],
        live=np.ones(n, bool) if live is None else live,
        digests=np.random.default_rng(0).integers(0, 256, (n, 32), dtype=np.uint8) if digests is None else digests,
        standing=standing_of(n),
    )
    with Executor(workers) as executor:
        return find_duplicates(pictures, threshold=threshold, seed=0, executor=executor, progress=Progress())


def measured(one, other):
    a, b = one[None], other[None]
    return differences(luma_of(a), luma_of(b), chroma_of(a), chroma_of(b))


def difference(one, other):
    return float(measured(one, other).largest()[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_found_beside_its_original_and_nothing_else(variant):
    pictures = [shrunk(p) for p in originals()]
    thumbnails = np.stack([*pictures, *(shrunk(VARIANTS[variant](p)) for p in originals())])
    n = len(pictures)
    kept = found_in(thumbnails).kept
    assert kept[:n].tolist() == list(range(n))
    assert np.count_nonzero(kept[n:] == np.arange(n)) >= n - 2
    assert all(k in (i, n + i) for i, k in enumerate(kept[n:].tolist()))


def with_bar(picture, at_top):
    """Return a picture with a line of text on black, which covers a seventh of it."""
    written = picture.copy()
    bar = len(written) // 7
    written[:bar] = 0 if at_top else written[:bar]
    written[len(written) - bar :] = written[len(written) - bar :] if at_top else 0
    place = (6, bar - 8 if at_top else len(written) - 8)
    return cv2.putText(written, "seen somewhere", place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)


@pytest.mark.parametrize("at_top", [True, False])
def test_a_caption_on_a_bar_hides_no_copy(at_top):
    pictures = [shrunk(p) for p in originals()]
    captioned_ones = [shrunk(coded(with_bar(p, at_top), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 60)) for p in originals()]
    n = len(pictures)
    assert found_in(np.stack(pictures + captioned_ones)).kept.tolist() == 2 * list(range(n))
    for one, other in zip(pictures, captioned_ones, strict=True):
        assert difference(one, other) < 1
        assert difference(other, one) < 1


def test_all_variants_of_a_picture_are_one_group():
    thumbnails = np.stack([shrunk(make(p)) for p in originals()[:6] for make in (np.array, *VARIANTS.values())])
    kept = found_in(thumbnails).kept.reshape(6, -1)
    of_group = kept // kept.shape[1] == np.arange(6)[:, None]
    assert of_group.all()
    assert (kept == kept[:, :1]).mean() > 0.95


def test_plain_and_nearly_black_pictures_are_apart():
    rng = np.random.default_rng(0)
    plain = [np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 200, 30), (31, 200, 30))]
    black = [rng.integers(0, 3, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(3)]
    thumbnails = np.stack([*plain, plain[0], *black])
    assert found_in(thumbnails).kept.tolist() == list(range(7))


def test_a_face_that_smiles_is_not_the_same_picture():
    face = shrunk(originals()[7])
    smiling = face.copy()
    smiling[40:48, 24:40] = face[20:28, 10:26]
    assert difference(face, coded(face, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 50)) < 1
    assert difference(face, smiling) > 1


def moved_inside(picture, pixels):
    """Return a picture whose middle moved against the rest: what a turning head does."""
    grid = np.stack(np.meshgrid(np.arange(200), np.arange(200)), axis=2).astype(np.float32)
    bump = np.exp(-np.square((grid - 100) / 35).sum(axis=2))
    return cv2.remap(picture, grid[..., 0] + np.float32(pixels) * bump, grid[..., 1], cv2.INTER_CUBIC)


@pytest.mark.parametrize("which", [1, 4, 7])
def test_what_moves_inside_a_picture_makes_it_another(which):
    picture = originals()[which]
    same = shrunk(coded(picture, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 25))
    framed = shrunk(cv2.copyMakeBorder(picture, 7, 7, 7, 7, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    for other in (same, framed, shrunk(cropped(picture, 0.05))):
        assert measured(shrunk(picture), other).motion[0] < 1
    turned = measured(shrunk(picture), shrunk(moved_inside(picture, 4)))
    assert turned.motion[0] > 1
    assert turned.largest()[0] > 1


def test_the_same_shape_in_another_colour_is_not_the_same_picture():
    picture = shrunk(originals()[1])
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 90) % 180
    hsv[..., 1] = np.maximum(hsv[..., 1], 80)
    recoloured = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    a, b = picture[None], recoloured[None]
    assert differences(luma_of(a), luma_of(a), chroma_of(a), chroma_of(b)).colour[0] > 1


def pairs_of(*pairs):
    one, other = (np.stack(side) for side in zip(*pairs, strict=True))
    return luma_of(one), luma_of(other), chroma_of(one), chroma_of(other)


def test_pairs_of_which_none_is_alike_are_far_apart():
    pictures = [shrunk(p) for p in originals()]
    assert (differences(*pairs_of((pictures[0], pictures[7]), (pictures[1], pictures[8]))).largest() == FAR).all()
    assert len(differences(*(part[:0] for part in pairs_of((pictures[0], pictures[7])))).largest()) == 0


def test_what_differs_enough_is_not_looked_at_closer_and_the_rest_as_ever():
    pairs = pairs_of(*((shrunk(p), shrunk(make(p))) for p in originals() for make in VARIANTS.values()))
    whole, hurried = differences(*pairs).largest(), differences(*pairs, 0.3).largest()
    over = (hurried == FAR) & (whole < FAR)
    assert over.any()
    assert (whole[over] > 0.3).all()
    assert np.allclose(hurried[~over], whole[~over], rtol=1e-3)


def test_the_same_bytes_are_together_whatever_they_look_like():
    thumbnails = np.zeros((5, SIDE, SIDE, 3), np.uint8)
    digests = np.zeros((5, 32), np.uint8)
    digests[[1, 3], 5] = 7
    digests[4, 5] = 9
    live = np.array([True, True, False, True, True])
    for threshold in (0.0, 1.0):
        found = found_in(thumbnails, threshold=threshold, digests=digests, live=live)
        assert found.kept.tolist() == [0, 1, 2, 1, 4]
        assert found.difference.tolist() == [0] * 5


def test_workers_and_blocks_change_nothing():
    thumbnails = np.stack([shrunk(make(p)) for p in originals()[:4] for make in VARIANTS.values()])
    one, other = found_in(thumbnails, workers=1, block_rows=7), found_in(thumbnails, workers=3, block_rows=64)
    assert np.array_equal(one.kept, other.kept)
    assert np.array_equal(one.difference, other.difference)


def test_the_best_has_most_pixels_then_most_bytes_then_is_sharpest_then_oldest():
    standing = Standing(
        pixels=np.array([4, 9, 9, 9, 9, 9]),
        size=np.array([9, 1, 2, 2, 2, 2]),
        sharpness=np.array([9, 9, 1, 2, 2, 2], np.float32),
        mtime_ns=np.array([0, 0, 0, 3, 1, 2]),
    )
    assert np.argsort(standing.ranks()).tolist() == [4, 5, 3, 2, 1, 0]


edges = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20)


def reached(n, pairs):
    """Return the lowest row that each is connected with, by spreading until nothing changes."""
    lowest = list(range(n))
    for _ in range(n):
        for a, b in pairs:
            lowest[a] = lowest[b] = min(lowest[a], lowest[b])
    return lowest


@given(edges)
def test_components_are_what_edges_connect(pairs):
    one, other = (np.array([pair[i] for pair in pairs], np.int32) for i in (0, 1))
    assert components(12, one, other).tolist() == reached(12, pairs)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=14), st.integers(1, 6), st.randoms(use_true_random=False))
def test_each_member_is_close_to_the_best_and_links_hold_groups_together(places, slack, random):
    n = len(places)
    at = np.array(places, np.float32)
    ranks = np.array(random.sample(range(n), n), np.int32)
    neighbours = np.array([[j if j != i else -1 for j in range(n)] for i in range(n)], np.int32)

    def measure(one, other):
        return np.abs(at[one] - at[other])

    kept, differs = group_rows(np.ones(n, bool), neighbours, ranks, (1.0, float(slack)), measure)
    assert np.array_equal(kept[kept], kept)
    assert (ranks[kept] <= ranks).all()
    assert (np.abs(at - at[kept]) <= slack).all()
    assert np.array_equal(differs, np.abs(at - at[kept]))
    chain = components(n, *(np.array(rows, np.int32) for rows in np.nonzero(np.abs(at[:, None] - at) <= 1)))
    assert np.array_equal(chain[kept], chain)
    best = best_of_each(chain, ranks)
    close = np.abs(at - at[best]) <= slack
    assert np.array_equal(kept[close], best[close])


def ring_of_neighbours(n, reach):
    """Return each row's next rows of a block of `reach + 1`, which begins with row 0."""
    size = reach + 1
    first = np.arange(n) // size * size
    return (first[:, None] + (np.arange(n) - first)[:, None] + 1 + np.arange(reach)) % size + first[:, None]


def counting(measure):
    def count(one, other):
        count.pairs += len(one)
        return measure(one, other)

    count.pairs = 0
    return count


def test_copies_are_measured_hardly_more_than_once_each():
    n, reach = 9 * 1000, 8
    neighbours = ring_of_neighbours(n, reach).astype(np.int32)
    ranks = np.random.default_rng(0).permutation(n).astype(np.int32)
    measure = counting(lambda one, other: np.full(len(one), 0.5, np.float32))
    kept, differs = group_rows(np.ones(n, bool), neighbours, ranks, (1.0, 2.0), measure)
    assert np.array_equal(kept, best_of_each((np.arange(n) // 9 * 9).astype(np.int32), ranks))
    assert measure.pairs == n - n // 9
    assert np.array_equal(differs > 0, kept != np.arange(n))


def test_where_nothing_is_a_copy_the_first_few_tell():
    n, reach = 9 * 1000, 8
    neighbours = ring_of_neighbours(n, reach).astype(np.int32)
    measure = counting(lambda one, other: np.full(len(one), 3.0, np.float32))
    kept, _ = group_rows(np.ones(n, bool), neighbours, np.arange(n, dtype=np.int32), (1.0, 2.0), measure)
    assert np.array_equal(kept, np.arange(n))
    assert measure.pairs == LEAD_TILE + n * reach // 2


def test_of_a_pair_of_neighbours_one_remains():
    neighbours = np.array([[1, 2], [2, 0], [3, 1], [-1, -1]], np.int32)
    pairs = {frozenset((i, j)) for i, row in enumerate(neighbours.tolist()) for j in row if j >= 0}
    without_returns(neighbours)
    rest = [frozenset((i, j)) for i, row in enumerate(neighbours.tolist()) for j in row if j >= 0]
    assert len(rest) == len(set(rest))
    assert set(rest) == pairs


def test_cells_lose_hardly_any_neighbour_that_all_pairs_have():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(60, N_NUMBERS))
    rows = (np.repeat(centers, 10, axis=0) + 0.15 * rng.normal(size=(600, N_NUMBERS))).astype(np.float32)
    codes = encode(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    numbers = np.arange(600, dtype=np.int32)
    found = nearest(decode(codes)[:, None], numbers, sort_into_cells(codes, numbers, rng), 0.9, 9)
    alike = decode(codes) @ decode(codes).T
    np.fill_diagonal(alike, 0)
    expected = [set(np.flatnonzero(row >= 0.9).tolist()) for row in alike]
    hits = sum(len(want & set(have.tolist())) for want, have in zip(expected, found, strict=True))
    assert hits >= 0.98 * sum(map(len, expected))
    assert all(i not in row for i, row in enumerate(found))


def peak_of(act):
    act()
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_task_takes_what_is_planned_even_where_all_look_alike():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (2, 1024, 1024, 3), dtype=np.uint8)
    small = np.repeat(shrunk(originals()[0])[None], 1024, axis=0)
    luma, chroma = luma_of(small), chroma_of(small)
    views = describe(luma.astype(np.float32))
    codes = np.repeat(encode(views[:1, 0]), 30_000, axis=0)
    numbers = np.arange(len(codes), dtype=np.int32)
    one_cell = Cells(views[:1, 0], codes, numbers, np.array([0, len(codes)]))
    pairs = slice(0, looking._PAIRS)
    peaks = [
        peak_of(lambda: looking._looks_of(large)),
        peak_of(lambda: looking._looks_of(small[:512])),
        peak_of(lambda: nearest(views, numbers[:1024], one_cell, looking.WAYS[0].least, looking.WAYS[0].n_nearest)),
        peak_of(lambda: differences(luma[pairs], luma[pairs], chroma[pairs], chroma[pairs])),
    ]
    assert 2 * max(peaks) < TASK_BYTES


def test_a_view_of_a_mirrored_picture_is_described_from_the_picture():
    luma = luma_of(np.stack([shrunk(originals()[0])])).astype(np.float32)
    described, mirrored = describe(luma), describe(luma[:, :, ::-1].copy())
    n = len(VIEWS)
    assert np.allclose(described[:, n:], mirrored[:, :n], atol=1e-3)


@pytest.mark.skipif(not (DATA / "near-duplicates").is_dir(), reason=f"{DATA} has no near-duplicates")
def test_real_pictures_precision_and_recall():
    with open(DATA / "near-duplicates" / "truth.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    thumbnails = np.stack([shrunk(cv2.imread(str(DATA / "near-duplicates" / r["path"]))[..., ::-1]) for r in rows])
    groups = np.unique([r["group"] for r in rows], return_inverse=True)[1]
    kept = found_in(thumbnails, block_rows=512).kept
    together, truth = (labels[:, None] == labels for labels in (kept, groups))
    for pairs in (together, truth):
        np.fill_diagonal(pairs, False)
    true_ones = np.count_nonzero(together & truth)
    assert true_ones >= 0.995 * np.count_nonzero(together)
    assert true_ones >= 0.95 * np.count_nonzero(truth)


@pytest.mark.skipif(not (DATA / "faces-dark").is_dir(), reason=f"{DATA} has no faces-dark")
def test_real_faces_in_different_light_are_apart():
    paths = sorted((DATA / "faces-dark").rglob("*.png"))[:400]
    thumbnails = np.stack([shrunk(cv2.imread(str(path))[..., ::-1]) for path in paths])
    assert found_in(thumbnails, block_rows=512).kept.tolist() == list(range(len(paths)))


@pytest.mark.skipif(not (DATA / "faces-orl").is_dir(), reason=f"{DATA} has no faces-orl")
def test_real_faces_of_one_person_are_apart():
    """Of 1,800 pairs; those are frames a moment apart, in which nothing moved but the camera."""
    paths = sorted((DATA / "faces-orl").rglob("*.p[ng][gm]"))
    thumbnails = np.stack([shrunk(cv2.imread(str(path))[..., ::-1]) for path in paths])
    assert np.count_nonzero(found_in(thumbnails, block_rows=512).kept != np.arange(len(paths))) <= 8
