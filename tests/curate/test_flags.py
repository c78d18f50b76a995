"""Quality flags: known pictures for each, limits, padding, grey among colour, and real pictures."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from streamcluster.config import FlagSettings, IngestSettings
from streamcluster.curate.flags import FLAG_NAMES, flag_bits, grey_among_colour, inside_padding, looks_of
from streamcluster.errors import SettingsError
from streamcluster.jobs.ingest import ingest
from streamcluster.runtime.paths import decode_path
from streamcluster.sources.measure import sharpnesses
from streamcluster.store.collection import open_collection

DATA = Path(__file__).parents[3] / "shared" / "data"
SIDE = 64
PHOTO = load_sample_images().images[0][200:400, 200:400]
GREY = 1 << FLAG_NAMES.index("grey")
OFF = {"dark": 0, "bright": 255, "blurred": 0, "low_information": 0, "tiny": 0, "odd_aspect": 0, "grey": 0}


def settings(**limits):
    return FlagSettings(store="s.zarr", **limits)


def resized(picture, side):
    return cv2.resize(np.ascontiguousarray(picture), (side, side), interpolation=cv2.INTER_AREA)


def bits_of(picture, *, side=SIDE, width=200, height=200, **limits):
    """Flag one picture as a job does, with the sharpness that ingest would measure."""
    luma = cv2.cvtColor(resized(picture, 128), cv2.COLOR_RGB2GRAY)
    looks = looks_of(resized(picture, side)[None])
    size = np.array([width], np.int32), np.array([height], np.int32)
    return flag_bits(looks, *size, sharpnesses(luma[None]).astype(np.float32), settings(**limits))


def flags_text(bits):
    return "|".join(name for i, name in enumerate(FLAG_NAMES) if bits >> i & 1)


def flags_of(picture, **options):
    return flags_text(int(bits_of(picture, **options)[0]))


def faded(picture, low, high):
    return np.rint(low + (high - low) * (picture / 255)).astype(np.uint8)


def plain(*colour):
    return np.full((200, 200, 3), colour, np.uint8)


GREY_PHOTO = np.repeat(cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
#: Pictures, what else is known of them, and their flags.
KNOWN = {
    "as it was": (PHOTO, {}, ""),
    "under a lamp": (faded(PHOTO, 0, 75), {}, "dark"),
    "in the fog": (faded(PHOTO, 244, 255), {}, "bright"),
    "of low contrast": (faded(PHOTO, 100, 150), {}, ""),
    "out of focus": (cv2.GaussianBlur(PHOTO, (0, 0), 5), {}, "blurred"),
    "out of focus, of low contrast": (cv2.GaussianBlur(faded(PHOTO, 60, 180), (0, 0), 5), {}, "blurred"),
    "faint": (plain(130, 100, 70) + np.linspace(0, 12, 200).astype(np.uint8)[:, None], {}, ""),
    "blue": (plain(70, 130, 220), {}, "low_information"),
    "black": (plain(0, 0, 0), {}, "dark|low_information|grey"),
    "white": (plain(255, 255, 255), {}, "bright|low_information|grey"),
    "31 pixels high": (PHOTO, {"height": 31, "width": 80}, "tiny"),
    "32 pixels high": (PHOTO, {"height": 32, "width": 80}, ""),
    "a banner": (PHOTO, {"width": 1000, "height": 349}, "odd_aspect"),
    "a column": (PHOTO, {"width": 349, "height": 1000}, "odd_aspect"),
    "nearly a banner": (PHOTO, {"width": 1000, "height": 351}, ""),
    "a line": (PHOTO, {"width": 1, "height": 1000}, "tiny|odd_aspect"),
    "grey": (GREY_PHOTO, {}, "grey"),
    "grey, as JPEG": (cv2.imdecode(cv2.imencode(".jpg", GREY_PHOTO)[1], cv2.IMREAD_COLOR), {}, "grey"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_pictures_have_their_flags(name):
    picture, options, flags = KNOWN[name]
    assert flags_of(picture, **options) == flags


@pytest.mark.parametrize("name", ["as it was", "under a lamp", "in the fog", "out of focus", "black", "grey"])
@pytest.mark.parametrize("side", [32, 128])
def test_thumbnails_of_any_size_have_the_same_flags(name, side):
    picture, options, flags = KNOWN[name]
    assert flags_of(picture, side=side, **options) == flags


@pytest.mark.parametrize("name", KNOWN)
def test_every_limit_can_be_turned_off(name):
    picture, options, _ = KNOWN[name]
    bits = grey_among_colour(bits_of(picture, **options, **OFF), np.ones(1, bool), OFF["grey"])
    assert flags_text(int(bits[0])) == ""


@pytest.mark.parametrize(
    ("limits", "flag"),
    [
        ({"dark": 255}, "dark"),
        ({"bright": 5}, "bright"),
        ({"blurred": 1000}, "blurred"),
        ({"low_information": 8}, "low_information"),
        ({"tiny": 201}, "tiny"),
        ({"odd_aspect": 1}, "odd_aspect"),
    ],
)
def test_limits_decide(limits, flag):
    assert flags_of(PHOTO, width=201) == ""
    assert flags_of(PHOTO, width=201, **limits) == flag


@pytest.mark.parametrize("limit", [{"dark": -1}, {"low_information": 9}, {"grey": 1.5}, {"tiny": "a few"}])
def test_limits_that_make_no_sense_are_refused(limit):
    name = next(iter(limit)).replace("_", "-")
    with pytest.raises(SettingsError, match=f"--{name}"):
        settings(**limit)


def test_numbers_are_those_of_numpy():
    thumbnails = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    thumbnails[1] //= 8
    looks = looks_of(thumbnails)
    exact = np.sqrt((thumbnails.astype(float) ** 2) @ [0.241, 0.691, 0.068]).reshape(len(thumbnails), -1)
    for share, found in ((5, looks.low), (99, looks.high)):
        expected = np.percentile(exact, share, axis=1, method="inverted_cdf")
        np.testing.assert_allclose(found, expected, atol=0.51)
    np.testing.assert_allclose(looks.contrast, exact.std(axis=1), atol=0.1)
    for levels, entropy in zip(np.rint(exact).astype(int), looks.entropy, strict=True):
        shares = np.unique(levels, return_counts=True)[1] / levels.size
        assert entropy == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-5)
    assert all(numbers.dtype == np.float32 for numbers in (looks.low, looks.high, looks.contrast, looks.entropy))


def test_a_picture_has_the_same_numbers_in_any_block():
    thumbnails = np.random.default_rng(0).integers(0, 256, (130, 16, 16, 3), dtype=np.uint8)
    whole, parts = looks_of(thumbnails), [looks_of(thumbnails[:1]), looks_of(thumbnails[1:])]
    for name in ("low", "high", "contrast", "entropy", "coloured"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined)


def test_no_picture_has_no_flags():
    none = np.empty(0, np.int32)
    looks = looks_of(np.empty((0, SIDE, SIDE, 3), np.uint8))
    assert len(flag_bits(looks, none, none, np.empty(0, np.float32), settings())) == 0


def test_grey_is_a_flag_only_where_it_is_the_exception():
    bits = np.array([GREY, 0, 0, GREY | 1], np.uint16)
    live = np.ones(4, bool)
    np.testing.assert_array_equal(grey_among_colour(bits, live, 0.51), bits)
    np.testing.assert_array_equal(grey_among_colour(bits, live, 0.5), [0, 0, 0, 1])
    all_grey = np.full(4, GREY, np.uint16)
    assert not grey_among_colour(all_grey, live, 1.0).any()


def test_rows_that_are_gone_have_no_say_in_what_is_the_exception():
    bits = np.array([GREY, GREY, GREY, 0, 0, GREY], np.uint16)
    live = np.array([False, False, False, True, True, True])
    np.testing.assert_array_equal(grey_among_colour(bits, live, 0.5), bits)
    assert not grey_among_colour(bits, ~live, 0.5).any()


def test_padding_is_not_looked_at(tmp_path):
    for width, height in [(400, 130), (130, 400), (300, 100), (7, 1000), (333, 200), (101, 100)]:
        dark = faded(cv2.resize(np.ascontiguousarray(PHOTO), (width, height), interpolation=cv2.INTER_AREA), 0, 70)
        (tmp_path / f"{width}.png").write_bytes(cv2.imencode(".png", dark)[1].tobytes())
    store = str(tmp_path / "s.zarr")
    ingest(IngestSettings(sources=(str(tmp_path),), store=store, aspect="pad", background="#ff00ff"))
    collection = open_collection(store)
    column, thumbnails = collection.catalog.column, collection.thumbnails(slice(0, 6))
    inside = inside_padding(column("width"), column("height"), SIDE)
    np.testing.assert_array_equal(inside, (thumbnails != (255, 0, 255)).any(axis=3))
    looks = looks_of(thumbnails, inside)
    assert (looks.high < 82).all()
    assert (looks_of(thumbnails).high[column("width") != 101] > 82).all()
    for picture, mask, coloured in zip(thumbnails, inside, looks.coloured, strict=True):
        assert coloured == pytest.approx((np.ptp(picture[mask], axis=1) >= 5).mean(), abs=1e-6)


def flagged(name, tmp_path):
    """Return the flags of each picture of a shared set, by its path there."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    store = str(tmp_path / "s.zarr")
    ingest(IngestSettings(sources=(str(folder),), store=store))
    collection = open_collection(store)
    column = collection.catalog.column
    looks = looks_of(np.concatenate([collection.thumbnails(block) for block in collection.blocks]))
    bits = flag_bits(looks, column("width"), column("height"), column("sharpness"), settings())
    bits = grey_among_colour(bits, collection.live_rows(), settings().grey)
    paths = [Path(decode_path(str(path))).relative_to(folder).as_posix() for path in column("path")]
    return dict(zip(paths, map(flags_text, bits.tolist()), strict=True))


def test_faces_nearly_in_the_dark_are_dark_and_the_lit_ones_are_not(tmp_path):
    flags = flagged("faces-dark", tmp_path)
    with open(DATA / "faces-dark" / "truth.csv", newline="", encoding="utf-8") as file:
        brightness = {row["path"]: float(row["mean_brightness"]) for row in csv.DictReader(file)}
    darkest = sorted(brightness, key=brightness.__getitem__)[:20]
    assert all("dark" in flags[path] for path in darkest)
    assert not [path for path, mean in brightness.items() if mean > 60 and "dark" in flags[path]]
    assert not [path for path, found in flags.items() if "grey" in found]


def test_evenly_lit_faces_have_no_flags(tmp_path):
    flags = flagged("faces-orl", tmp_path)
    assert len(flags) == 400
    assert not any(flags.values())
