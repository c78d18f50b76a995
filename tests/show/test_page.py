"""The page says what it may load, and its data mean nothing to HTML."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np

from streamcluster.show.encode import SHEET_TILES, encode, encode_sheet, shrink
from streamcluster.show.page import HEAD, inert_json, page
from streamcluster.show.scatter import MOST_POINTS, packed, sample_rows, to_grid

NASTY = "</script><script>alert(1)</script><!--\u2028\n\"'&\udcff"


class Elements(HTMLParser):
    """Notes the scripts and styles of a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.styles, self.sources = [], [], []
        self._into = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.sources += [value for name, value in attributes.items() if name in ("src", "href")]
        if tag in ("script", "style"):
            kept = self.scripts if tag == "script" else self.styles
            kept.append([attributes.get("type"), ""])
            self._into = kept[-1]

    def handle_endtag(self, tag):
        self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into[1] += data


def text_of(data, pictures=(), figures=(), sheets=()):
    return b"".join(page(NASTY, data, pictures, figures, sheets)).decode("utf-8")


def test_json_comes_back_as_it_was_and_is_inert():
    value = {"path": NASTY, "numbers": [1, 2.5, None]}
    assert json.loads(inert_json(value)) == value
    assert not set("<>&\u2028") & set(inert_json(value))


def test_there_is_one_script_and_one_style_and_the_policy_names_both():
    text = text_of({"path": NASTY}, [b"a", b"b"], [b"c"], [b"d"])
    found = Elements(text)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert text.encode().startswith(HEAD)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    running = [script for kind, script in found.scripts if kind is None]
    assert len(running) == len(found.styles) == 1
    for name, element in (("script", running[0]), ("style", found.styles[0][1])):
        digest = base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert all(source.startswith("#") for source in found.sources)
    texts = [script for kind, script in found.scripts if kind == "text/plain"]
    assert [[base64.b64decode(line) for line in lines.split("\n")] for lines in texts] == [[b"a", b"b"], [b"c"], [b"d"]]


def test_tiles_lie_in_a_sheet_in_their_order():
    rng = np.random.default_rng(0)
    n = SHEET_TILES + 3
    tiles = np.repeat(rng.integers(0, 256, (n, 1, 1, 3), dtype=np.uint8), 8, axis=1).repeat(8, axis=2)
    sheet = cv2.imdecode(np.frombuffer(encode_sheet(tiles), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert sheet.shape == (16, SHEET_TILES * 8, 3)
    for i, tile in enumerate(tiles):
        top, left = 8 * (i // SHEET_TILES), 8 * (i % SHEET_TILES)
        # WebP holds colours at half the resolution, so neighbours bleed into the edges.
        middle = sheet[top + 3 : top + 5, left + 3 : left + 5].mean(axis=(0, 1))
        assert np.abs(middle - tile[0, 0]).max() < 40, i


def test_large_thumbnails_are_shrunk_and_small_ones_stay():
    thumbnails = np.full((2, 64, 64, 3), 7, np.uint8)
    assert shrink(thumbnails, 32).shape == (2, 32, 32, 3)
    assert shrink(thumbnails, 128) is thumbnails
    assert shrink(thumbnails[:0], 32).shape[0] == 0
    assert encode(thumbnails[0], 85)[8:12] == b"WEBP"


def test_a_sample_has_no_row_twice_and_only_rows_that_are_placed():
    placed = np.ones(3 * MOST_POINTS, bool)
    placed[::2] = False
    rows = sample_rows(placed, 1)
    assert len(rows) == MOST_POINTS
    assert (np.diff(rows) > 0).all()
    assert placed[rows].all()
    assert np.array_equal(rows, sample_rows(placed, 1))
    assert np.array_equal(sample_rows(placed[:100], 1), np.arange(1, 100, 2))


def test_places_keep_their_shape_on_the_square():
    places = np.array([[-3, 10], [5, 14], [1, 12]], np.float32)
    square = to_grid(places).astype(float)
    assert square.min() >= 0
    assert square[:, 0].tolist() == [0, 65535, 32768]
    steps = np.diff(square, axis=0) / np.diff(places, axis=0)
    assert np.allclose(steps, steps[0, 0], rtol=1e-3)
    assert len(to_grid(np.ones((4, 2), np.float32))) == 4
    assert to_grid(np.empty((0, 3), np.float32)).shape == (0, 3)
    assert to_grid(np.array([[0, 0, 4], [1, 2, 0]], np.float32)).tolist() == [[24576, 16384, 65535], [40959, 49151, 0]]


def test_arrays_travel_as_bytes():
    values = np.array([0, 1, 65535], np.uint16)
    assert np.array_equal(np.frombuffer(base64.b64decode(packed(values, "<u2")), "<u2"), values)
