"""Headers: sizes and orientations against Pillow, and no bytes whatever that do more than be refused."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from streamcluster.errors import UnreadablePictureError
from streamcluster.sources.header import Header, read_header

WIDTH, HEIGHT = 37, 23
PLAIN = [
    ("JPEG", "RGB", {}),
    ("JPEG", "CMYK", {"progressive": True}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGBA", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
    ("BMP", "RGB", {}),
    ("BMP", "1", {}),
    ("DIB-OS2", "RGB", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGBA", {}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "RGB", {"big_tiff": True}),
    ("GIF", "P", {}),
    ("AVIF", "RGB", {}),
    ("AVIF", "RGBA", {}),
    ("JPEG2000", "RGB", {}),
    ("JPEG2000", "RGBA", {"no_jp2": True}),
    ("PPM", "RGB", {}),
    ("PPM", "L", {}),
    ("PPM", "1", {}),
]
NAMES = {"JPEG2000": "JPEG 2000", "WEBP": "WebP", "PPM": "PNM", "DIB-OS2": "BMP"}


@cache
def encoded(index: int) -> bytes:
    kind, mode, options = PLAIN[index]
    if kind == "DIB-OS2":
        rows = bytes((WIDTH * 3 + 3) // 4 * 4 * HEIGHT)
        return b"BM" + struct.pack("<IIIIHHHH", 26 + len(rows), 0, 26, 12, WIDTH, HEIGHT, 1, 24) + rows
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    picture = gradient.convert("RGB").convert(mode)
    if mode == "RGBA":
        picture.putalpha(gradient)
    picture.save(file, kind, **options)
    return file.getvalue()


def parse(data: bytes) -> Header:
    return read_header(io.BytesIO(data))


def oriented(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "navy").save(file, kind, exif=exif)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("index", range(len(PLAIN)), ids=lambda i: "-".join(map(str, PLAIN[i])))
def test_reads_format_and_size(index: int) -> None:
    header = parse(encoded(index))
    kind = PLAIN[index][0]
    assert (header.format, header.width, header.height) == (NAMES.get(kind, kind), WIDTH, HEIGHT)
    assert header.orientation == 1
    assert header.decode_bytes >= 2 * 3 * WIDTH * HEIGHT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_reads_orientation(kind: str, orientation: int) -> None:
    header = parse(oriented(kind, orientation))
    assert header.orientation == orientation
    assert (header.width, header.height) == (WIDTH, HEIGHT)


def test_reads_orientation_of_a_png_behind_its_pixels() -> None:
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    data = encoded(2)
    assert parse(data[:-12] + png_chunk(b"eXIf", exif) + data[-12:]).orientation == 6


def test_a_png_in_many_chunks_is_read() -> None:
    """Encoders cut large pictures into chunks of 8 KiB; what no longer follows is only a late orientation."""
    data = encoded(2)
    assert parse(data[:-12] + png_chunk(b"IDAT", b"") * 50_000 + data[-12:]) == parse(data)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_ignores_an_orientation_that_means_nothing(value: int) -> None:
    exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, value, 0, 0)
    data = encoded(2)
    assert parse(data[:-12] + png_chunk(b"eXIf", exif) + data[-12:]).orientation == 1


def test_knows_what_is_transparent() -> None:
    for index, (kind, mode, options) in enumerate(PLAIN):
        if kind in ("PNG", "WEBP", "AVIF"):
            assert parse(encoded(index)).alpha == ("straight" if mode == "RGBA" else "none"), (kind, mode, options)


def test_finds_the_frame_behind_large_metadata() -> None:
    data = encoded(0)
    segment = b"\xff\xe2\xff\xff" + bytes(65533)
    assert parse(data[:2] + segment * 5 + data[2:]) == parse(data)


def test_progressive_jpeg_costs_its_coefficients() -> None:
    image = Image.effect_noise((640, 480), 50).convert("RGB")
    costs = []
    for progressive in (False, True):
        file = io.BytesIO()
        image.save(file, "JPEG", progressive=progressive, subsampling=0)
        costs.append(parse(file.getvalue()).decode_bytes)
    assert costs[1] - costs[0] >= 640 * 480 * 3 * 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (bytes(500), "only zero bytes"),
        (b"hello, world", "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "not a picture"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG"),
        (b"\xff\x0a\0\0\0\0", "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "truncated PNG"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "truncated JPEG"),
        (b"\xff\xd8\xff\xd9", "truncated JPEG"),
        (b"GIF89a\1", "truncated GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "truncated WebP"),
        (b"BM\0\0", "truncated BMP"),
        (b"II*\0\x08\0\0\0\0\0", "TIFF without"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw"),
        (b"IIRO\x08\0\0\0", "camera raw"),
        (b"IIU\0\x18\0\0\0", "camera raw"),
        (b"P6\n12", "truncated PNM"),
        (b"GIF89a\0\0\5\0\0\0\0", "0 × 5"),
    ],
)
def test_says_why_not(data: bytes, words: str) -> None:
    with pytest.raises(UnreadablePictureError, match=words):
        parse(data)


@pytest.mark.parametrize(("tag", "value"), [(254, 1), (262, 32803), (50706, 0x0401)])
def test_a_tiff_that_holds_what_a_sensor_saw_is_not_taken_for_its_preview(tag: int, value: int) -> None:
    file = io.BytesIO()
    tags = {tag: value} if tag != 262 else {}
    Image.new("RGB", (WIDTH, HEIGHT)).save(file, "TIFF", tiffinfo=tags)
    data = file.getvalue()
    if tag == 262:
        data = data.replace(struct.pack("<HHII", 262, 3, 1, 2), struct.pack("<HHII", 262, 3, 1, value))
    with pytest.raises(UnreadablePictureError, match="camera raw"):
        parse(data)


def test_ignores_the_rest_of_a_huge_file() -> None:
    """A reader that scans on would take far more than the allowed pieces."""

    class Counting(io.BytesIO):
        n_bytes = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.n_bytes += len(data)
            return data

    file = Counting(encoded(0) + bytes(5_000_000))
    read_header(file)
    assert file.n_bytes <= 16_384


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
        + struct.pack(">IIBBBBB", 5, 5, 8, 2, 0, 0, 0)
        + bytes(4)
        + bytes(12) * 200_000,
        b"\xff\xd8" + b"\xff\xd0" * 200_000,
        b"\xff\xd8\xff\xe0" + b"\0" * 200_000,
        b"\xff\xd8" + b"\xff\xd9" * 200_000,
        b"\xff\xd8" + b"\xff" * 200_000,
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\4\0\0\4\0\0" + bytes(8) * 100_000,
        b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * 100_000,
        b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\0meta" + b"\0\0\0\x08free" * 100_000,
    ],
    ids=["png", "jpeg-alone", "jpeg-empty", "jpeg-end", "jpeg-fill", "webp", "avif", "avif-meta"],
)
def test_gives_up_on_endless_chains(data: bytes) -> None:
    class Bounded(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            assert self.reads < 25_000
            assert size is not None
            assert 0 <= size <= 200_000
            return super().read(size)

    with contextlib.suppress(UnreadablePictureError):
        read_header(Bounded(data))


def refuses_or_reads(data: bytes) -> None:
    try:
        header = parse(data)
    except UnreadablePictureError:
        return
    assert min(header.width, header.height) > 0
    assert 1 <= header.orientation <= 8
    assert header.decode_bytes > 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    refuses_or_reads(data)


STARTS = [
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8X", b"RIFF0000WEBPVP8L", b"GIF89a", b"BM", b"II*\0"),
    *(b"MM\0*", b"II+\0\x08\0\0\0", b"\0\0\0\x18ftypavif", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"P6 "),
    b"#?RADIANCE\n",
]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=200))
@example(b"II+\0\x08\0\0\0", b"\xff" * 40)
@example(b"\0\0\0\x18ftypavif", b"\0" * 12 + b"\0\0\0\x01meta" + b"\xff" * 16)
def test_any_bytes_behind_a_signature_are_read_or_refused(start: bytes, rest: bytes) -> None:
    refuses_or_reads(start + rest)


@settings(max_examples=1200, deadline=None)
@given(
    st.integers(0, len(PLAIN) - 1),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8),
    st.integers(0, 1200),
)
def test_mutated_pictures_are_read_or_refused(index: int, edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(encoded(index))
    for offset, value in edits:
        data[offset % len(data)] = value
    refuses_or_reads(bytes(data[: len(data) if cut > 600 else cut]))
