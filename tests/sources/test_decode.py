"""Decoding against Pillow and plain averages, and on files that are broken, hostile or odd."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from streamcluster.errors import ChangedWhileReadError, OversizePictureError, UnreadablePictureError
from streamcluster.runtime.digests import file_digest
from streamcluster.runtime.memory import MIB, MemoryGate
from streamcluster.sources import decode
from streamcluster.sources.decode import (
    Aspect,
    Decoded,
    DecodeOptions,
    decode_pictures,
    resize,
    stack_thumbnails,
)
from streamcluster.sources.header import Header, read_header
from streamcluster.sources.measure import measure_pictures

DAMAGED = Path(__file__).resolve().parents[3] / "shared" / "data" / "damaged"
ROOM = MemoryGate(1 << 30)


def read(path: Path | str, **options: Any) -> SimpleNamespace:
    """Return all that is kept of a picture: its thumbnail and what the catalogue says."""
    decoded = read_picture(os.fspath(path), DecodeOptions(**options), ROOM)
    return SimpleNamespace(
        thumbnail=stack_thumbnails([decoded], len(decoded.thumbnail))[0],
        **msgspec.structs.asdict(measure_pictures([decoded])[0]),
    )


def seen(path: str) -> SimpleNamespace:
    """Return what a scan knows of a file; of one that vanished since, its size was 1."""
    status = os.stat(path) if os.path.exists(path) else SimpleNamespace(st_size=1, st_mtime_ns=0)
    return SimpleNamespace(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)


def read_picture(path: str, options: DecodeOptions, gate: MemoryGate) -> Decoded:
    (result,) = decode_pictures([seen(path)], options, gate)
    if isinstance(result, Decoded):
        return result
    raise result


def quadrants(width: int = 160, height: int = 96) -> Image.Image:
    """A picture of four colours and a shade, that looks different in each orientation."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 40, 40)
    pixels[: height // 2, width // 2 :] = (40, 200, 40)
    pixels[height // 2 :, : width // 2] = (40, 40, 230)
    pixels[height // 2 :, width // 2 :] = np.linspace(0, 255, width - width // 2)[None, :, None]
    return Image.fromarray(pixels)


def area_average(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Exact area averages of a picture that shrinks in both axes."""
    return np.einsum(
        "yh,hwc,xw->yxc", _overlaps(pixels.shape[0], height), pixels, _overlaps(pixels.shape[1], width), optimize=True
    )


def _overlaps(n_pixels: int, n_cells: int) -> np.ndarray:
    """Return the share that each old pixel has in each new one."""
    edges = np.arange(n_cells + 1) * (n_pixels / n_cells)
    low = np.maximum(edges[:-1, None], np.arange(n_pixels))
    high = np.minimum(edges[1:, None], np.arange(n_pixels) + 1)
    return np.maximum(0, high - low) * (n_cells / n_pixels)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).mean())


def pillow_thumbnail(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    image = ImageOps.exif_transpose(image).convert("RGBA")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return area_average(np.asarray(Image.alpha_composite(canvas, image).convert("RGB")), 64, 64)


# Orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, kind: str, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "picture"
    image = quadrants().convert(mode if kind != "JPEG" or mode != "RGBA" else "CMYK")
    if mode == "RGBA" and kind != "JPEG":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path, kind, exif=exif)
    # From memory: Pillow 13 garbles a grey turned TIFF that it maps from a file.
    with Image.open(io.BytesIO(path.read_bytes())) as saved:
        expected = pillow_thumbnail(saved)
    picture = read(path)
    assert (picture.width, picture.height) == ((96, 160) if orientation > 4 else (160, 96))
    if kind == "TIFF" and mode == "RGBA":  # Pillow reads libtiff's premultiplied pixels as straight ones
        expected = pillow_thumbnail(ImageOps.exif_transpose(_with_orientation(image, orientation)))
    assert difference(picture.thumbnail, expected) < 3


def _with_orientation(image: Image.Image, orientation: int) -> Image.Image:
    copy = image.copy()
    copy.getexif()[274] = orientation
    return copy


def test_orientation_of_a_deep_tiff(tmp_path: Path) -> None:
    grey = np.asarray(quadrants().convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.tif", tiffinfo={274: 8})
    picture = read(tmp_path / "deep.tif")
    assert (picture.width, picture.height) == (96, 160)
    expected = pillow_thumbnail(quadrants().convert("L").transpose(Image.Transpose.ROTATE_90))
    assert difference(picture.thumbnail, expected) < 2


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("aspect", ["pad", "crop"])
def test_orientation_goes_with_aspect(tmp_path: Path, orientation: int, aspect: Aspect) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    quadrants().save(tmp_path / "turned.png", exif=exif)
    upright = ImageOps.exif_transpose(_with_orientation(quadrants(), orientation))
    upright.save(tmp_path / "upright.png")
    turned, expected = (read(tmp_path / name, aspect=aspect) for name in ("turned.png", "upright.png"))
    assert difference(turned.thumbnail, expected.thumbnail) < 1
    assert turned.phash == expected.phash


# Colour and depth


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 90)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 100}), ("JPEG2000", {}), ("TIFF", {})],
)
def test_alpha_is_composited(
    tmp_path: Path, kind: str, options: dict[str, Any], background: tuple[int, int, int]
) -> None:
    image = quadrants()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "alpha", kind, **options)
    picture = read(tmp_path / "alpha", background=background)
    assert difference(picture.thumbnail, pillow_thumbnail(image, background)) < 1.5


def test_transparent_palettes(tmp_path: Path) -> None:
    palette = quadrants().quantize(8)
    transparent = palette.getpixel((2, 2))
    for kind in ("PNG", "GIF"):
        palette.save(tmp_path / kind, kind, transparency=transparent)
        thumbnail = read(tmp_path / kind, background=(1, 2, 3)).thumbnail
        assert thumbnail[2, 2].tolist() == [1, 2, 3]
        assert difference(thumbnail[40:, :20], np.array([40, 40, 230])) < 2


def test_deep_alpha(tmp_path: Path) -> None:
    pixels = np.full((80, 80, 4), (0x1000, 0x8000, 0xF000, 0x8000), np.uint16)
    for suffix in (".png", ".tiff"):
        (tmp_path / "deep").write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
        expected = np.array([0xF0, 0x80, 0x10]) / 2 + 127.5
        assert difference(read(tmp_path / "deep").thumbnail, expected) < 1.5


@pytest.mark.parametrize(("extra", "expected"), [(0, (200, 100, 50)), (1, (255, 227, 177)), (2, (227, 177, 152))])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_alpha_of_each_kind(tmp_path: Path, bits: int, extra: int, expected: tuple[int, int, int]) -> None:
    """Unspecified is ignored, associated is added to the background's share, unassociated is mixed."""
    pixels = np.full((80, 80, 4), (200, 100, 50, 128), np.uint16) * (257 if bits == 16 else 1)
    data = pixels.astype("<u2" if bits == 16 else np.uint8).tobytes()
    (tmp_path / "alpha.tif").write_bytes(plain_tiff(80, 80, 4, bits, data, extra))
    assert difference(read(tmp_path / "alpha.tif").thumbnail, np.array(expected)) < 1.5


def plain_tiff(width: int, height: int, samples: int, bits: int, data: bytes, extra: int) -> bytes:
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, 158), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 166), (277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)),
        *((338, 3, 1, extra), (339, 3, 1, 1)),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return head + bytes(4) + struct.pack("<4H", *[bits] * 4) + data


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(tmp_path: Path, kind: str) -> None:
    image = quadrants().convert("CMYK")
    image.save(tmp_path / "cmyk", kind)
    assert difference(read(tmp_path / "cmyk").thumbnail, pillow_thumbnail(image.convert("RGB"))) < 3


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_few_colours(tmp_path: Path, mode: str) -> None:
    image = quadrants().convert(mode)
    image.save(tmp_path / "few.png")
    assert difference(read(tmp_path / "few.png").thumbnail, pillow_thumbnail(image)) < 1


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jp2", ".ppm"])
def test_16_bits(tmp_path: Path, suffix: str) -> None:
    shallow = np.asarray(quadrants())
    (tmp_path / "deep").write_bytes(cv2.imencode(suffix, shallow[..., ::-1].astype(np.uint16) * 257)[1].tobytes())
    assert difference(read(tmp_path / "deep").thumbnail, pillow_thumbnail(quadrants())) < 2


def test_10_bit_avif_with_alpha(tmp_path: Path) -> None:
    pixels = np.full((80, 80, 4), (512, 512, 512, 512), np.uint16)
    parameters = [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100]
    (tmp_path / "deep.avif").write_bytes(cv2.imencode(".avif", pixels, parameters)[1].tobytes())
    assert difference(read(tmp_path / "deep.avif").thumbnail, np.array([191.5])) < 3


@pytest.mark.parametrize("white", [15, 255, 1023])
def test_pnm_white_is_white(tmp_path: Path, white: int) -> None:
    sample = struct.pack(">H", white) if white > 255 else bytes([white])
    (tmp_path / "white.pgm").write_bytes(b"P5\n# a comment\n8 8\n%d\n" % white + sample * 64)
    assert (read(tmp_path / "white.pgm").thumbnail == 255).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.0, 1.0, 127.5), (0.0, 0.5, 63.75), (0, 400, 127.5), (-3, 3, 127.5)]
)
def test_floats_are_stretched_to_8_bits(tmp_path: Path, low: float, high: float, expected: float) -> None:
    ramp = np.linspace(low, high, 256, dtype=np.float32)[None].repeat(64, 0)
    ramp[0, 0] = np.nan
    (tmp_path / "float.tiff").write_bytes(cv2.imencode(".tiff", ramp)[1].tobytes())
    picture = read(tmp_path / "float.tiff")
    assert picture.thumbnail[32].mean() == pytest.approx(expected, abs=2)
    assert (np.diff(picture.thumbnail[32, :, 0].astype(int)) >= 0).all()


def test_the_first_frame_counts(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (80, 80), (250, 0, 0)), Image.new("RGB", (80, 80), (0, 0, 250))
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        red.save(tmp_path / kind, kind, save_all=True, append_images=[blue, red])
        assert difference(read(tmp_path / kind).thumbnail, np.array([250, 0, 0])) < 6, kind


# Thumbnails


@pytest.mark.parametrize("size", [(64, 64), (100, 70), (333, 1000), (65, 640)])
def test_thumbnails_are_area_averages(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    assert np.abs(read(tmp_path / "noise.png").thumbnail - area_average(pixels, 64, 64)).max() <= 1


@pytest.mark.parametrize("size", [(10, 1000), (1000, 10), (1, 500)])
def test_a_shrinking_axis_is_averaged_while_the_other_grows(tmp_path: Path, size: tuple[int, int]) -> None:
    """One-pixel stripes along the long axis: an aliasing resize keeps some, an average makes an even grey."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    if size[0] > size[1]:
        pixels[:, ::2] = 255
    else:
        pixels[::2] = 255
    Image.fromarray(pixels).save(tmp_path / "stripes.png")
    thumbnail = read(tmp_path / "stripes.png").thumbnail.astype(int)
    assert np.abs(thumbnail - 127).max() <= 10


def test_a_growing_axis_is_linear() -> None:
    grown = resize(np.array([[[0] * 3, [240] * 3]], np.uint8), 8, 1)[0, :, 0].astype(int)
    assert grown[0] == 0
    assert grown[-1] == 240
    assert (np.diff(grown) >= 0).all()
    assert len(set(grown)) > 3


def test_reduced_jpegs_look_like_whole_ones(tmp_path: Path) -> None:
    image = quadrants(1603, 1201).filter(ImageFilter.GaussianBlur(3))
    image.save(tmp_path / "large.jpg", quality=95, subsampling=0)
    with Image.open(tmp_path / "large.jpg") as saved:
        assert difference(read(tmp_path / "large.jpg").thumbnail, pillow_thumbnail(saved)) < 1.5


@pytest.mark.parametrize(
    "size", [(128, 128), (255, 257), (256, 256), (511, 513), (1023, 1100), (1025, 2049), (3000, 140)]
)
def test_reduction_keeps_twice_the_target(size: tuple[int, int]) -> None:
    for image_size in (16, 64, 100, 256):
        factor = decode.reduction_for(Header("JPEG", *size, 1, 0), image_size)
        reduced = [-(-side // factor) for side in size]
        assert factor == 1 or min(reduced) >= max(2 * image_size, 128)
        assert factor == 8 or min(-(-side // (2 * factor)) for side in size) < max(2 * image_size, 128)


def test_pad_and_crop(tmp_path: Path) -> None:
    pixels = np.full((100, 200, 3), 90, np.uint8)
    pixels[:, :50] = pixels[:, 150:] = 180
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (read(tmp_path / "wide.png", aspect="crop").thumbnail == 90).all()
    padded = read(tmp_path / "wide.png", aspect="pad", background=(1, 2, 3)).thumbnail
    assert (padded[:16] == (1, 2, 3)).all()
    assert (padded[48:] == (1, 2, 3)).all()
    assert (padded[16:48, :16] == 180).all()
    assert (padded[16:48, 17:47] == 90).all()


@pytest.mark.parametrize("aspect", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (5, 7)])
@pytest.mark.parametrize("image_size", [1, 31, 64])
def test_every_shape_fits(tmp_path: Path, aspect: Aspect, size: tuple[int, int], image_size: int) -> None:
    Image.new("RGB", size, (9, 99, 199)).save(tmp_path / "odd.png")
    picture = read(tmp_path / "odd.png", aspect=aspect, image_size=image_size, background=(9, 99, 199))
    assert picture.thumbnail.shape == (image_size, image_size, 3)
    assert (picture.thumbnail == (9, 99, 199)).all()


# Measures


def test_measures_of_known_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (77, 77, 77)).save(tmp_path / "plain.png")
    plain = read(tmp_path / "plain.png")
    assert plain.brightness == pytest.approx(77, abs=0.01)
    assert plain.sharpness == 0
    checks = np.indices((128, 128)).sum(0) % 2 * 10
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "checks.png")
    # Inside, each pixel differs by 10 from its four neighbours: a Laplacian of 40 everywhere, a variance of 1600.
    assert read(tmp_path / "checks.png").sharpness == pytest.approx(1600, rel=0.03)


def test_brightness_is_the_mean_luma(tmp_path: Path) -> None:
    quadrants(211, 173).save(tmp_path / "q.png")
    expected = np.asarray(quadrants(211, 173)).astype(float).mean((0, 1)) @ [0.299, 0.587, 0.114]
    assert read(tmp_path / "q.png").brightness == pytest.approx(expected, abs=0.5)


def test_blur_lowers_sharpness(tmp_path: Path) -> None:
    noise = Image.effect_noise((400, 300), 90)
    values = []
    for radius in (0, 2, 6):
        noise.filter(ImageFilter.GaussianBlur(radius)).save(tmp_path / "b.png")
        values.append(read(tmp_path / "b.png").sharpness)
    assert values[0] > 2 * values[1] > 4 * values[2]


def test_phash_survives_reencoding_and_tells_pictures_apart(tmp_path: Path) -> None:
    image = Image.effect_noise((12, 9), 100).resize((700, 500), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.jpg", quality=60)
    ImageOps.mirror(image).save(tmp_path / "b.png")
    a, again, b = (read(tmp_path / name).phash for name in ("a.png", "a.jpg", "b.png"))
    assert 0 <= a < 1 << 64
    assert (a ^ again).bit_count() <= 4
    assert (a ^ b).bit_count() >= 16


def test_phash_of_plain_pictures_is_one_value(tmp_path: Path) -> None:
    hashes = set()
    for index, color in enumerate([(255, 255, 255), (13, 130, 77), (200, 201, 202)]):
        for kind in ("PNG", "JPEG"):
            Image.new("RGB", (300 + index, 200), color).save(tmp_path / "plain", kind)
            hashes.add(read(tmp_path / "plain").phash)
    assert hashes == {1 << 63}


@pytest.mark.parametrize("size", [(64, 64), (900, 700)])
def test_digest_is_of_the_whole_file(tmp_path: Path, size: tuple[int, int]) -> None:
    """Small files are read in one go, large ones in two."""
    path = tmp_path / "noise.png"
    Image.effect_noise(size, 80).save(path)
    assert (path.stat().st_size > 1 << 16) == (size != (64, 64))
    picture = read(path)
    assert picture.digest == file_digest(str(path)) == hashlib.sha256(path.read_bytes()).digest()
    assert (picture.size, picture.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


# What is refused


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    for data, words in [(b"", "empty"), (b"just text", "not a picture"), (b"\0" * 99, "zero bytes")]:
        (tmp_path / "file.jpg").write_bytes(data)
        with pytest.raises(UnreadablePictureError, match=words):
            read(tmp_path / "file.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_truncated_files(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    Image.effect_noise((300, 300), 80).convert("RGB").save(file, kind)
    data = file.getvalue()
    for share in (0.02, 0.3, 0.9):
        (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UnreadablePictureError):
            read(tmp_path / "cut")


def test_names_do_not_matter(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "picture.gif", "PNG")
    assert read(tmp_path / "picture.gif").width == 160


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture
def _no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        pytest.fail("decoded")

    monkeypatch.setattr(decode.cv2, "imdecode", fail)


@pytest.mark.usefixtures("_no_decoding")
def test_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(
        OversizePictureError, match=r"50,000 × 50,000 = 2,500\.0 million.*100\.0 million; use --max-pixels"
    ):
        read(tmp_path / "bomb.png")


@pytest.mark.usefixtures("_no_decoding")
def test_what_exceeds_the_memory_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bomb(4000, 4000))
    with pytest.raises(OversizePictureError, match="--memory"):
        read_picture(str(tmp_path / "large.png"), DecodeOptions(), MemoryGate(64 * MIB))


def test_the_gate_is_held_for_file_and_pixels_and_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quadrants(400, 300).save(tmp_path / "p.png")
    held: list[int] = []
    gate = MemoryGate(1 << 30)
    hold = gate.hold
    monkeypatch.setattr(gate, "hold", lambda n: held.append(n) or hold(n))
    read_picture(str(tmp_path / "p.png"), DecodeOptions(), gate)
    with (tmp_path / "p.png").open("rb") as file:
        assert held == [(tmp_path / "p.png").stat().st_size + read_header(file).decode_bytes]
    with hold(1 << 30):
        pass


@pytest.mark.parametrize("failure", [MemoryError(), "opencv"])
def test_running_out_of_memory_is_oversize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: object) -> None:
    def fail(*_: object) -> None:
        if isinstance(failure, MemoryError):
            raise failure
        error = cv2.error("Failed to allocate")
        error.code, error.err = -4, "Failed to allocate"
        raise error

    quadrants().save(tmp_path / "p.png")
    monkeypatch.setattr(decode.cv2, "imdecode", fail)
    with pytest.raises(OversizePictureError, match="--memory"):
        read(tmp_path / "p.png")


@pytest.mark.parametrize("size", [(64, 64), (900, 700)])
@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_a_file_that_changes_is_read_anew_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], change: str
) -> None:
    path = tmp_path / "p.png"
    Image.effect_noise(size, 80).save(path)

    def then_change(step: Callable[..., Any]) -> Callable[..., Any]:
        def both(*arguments: Any) -> Any:
            result = step(*arguments)
            if change == "touch":
                os.utime(path, ns=(1, 1))
            else:
                os.truncate(path, path.stat().st_size + (100 if change == "grow" else -100))
            return result

        return both

    if size == (64, 64):
        monkeypatch.setattr(decode.os, "read", then_change(os.read))
    else:
        monkeypatch.setattr(decode, "read_header", then_change(read_header))
    if size == (64, 64) and change != "shrink":
        assert read(path).mtime_ns == path.stat().st_mtime_ns
    else:
        with pytest.raises(UnreadablePictureError if size == (64, 64) else ChangedWhileReadError):
            read(path)


def test_a_header_that_contradicts_the_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quadrants().save(tmp_path / "p.png")
    monkeypatch.setattr(decode, "read_header", lambda _: Header("PNG", 16, 10, 1, 4096))
    with pytest.raises(UnreadablePictureError, match="160 × 96"):
        read(tmp_path / "p.png")


def test_missing_and_forbidden_files_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.png")
    quadrants().save(tmp_path / "p.png")

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decode.os, "read", broken)
    with pytest.raises(OSError, match="Input/output"):
        read(tmp_path / "p.png")


NAMES = [b"caf\xe9.png", "🖼️ ünï.png".encode(), b"two\nlines\t.png", b"x" * 251 + b".png", b"%20 #?&'\".png"]


@pytest.mark.parametrize("name", NAMES, ids=["latin-1", "emoji", "newline", "255", "quotes"])
def test_any_name_the_system_takes(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    try:
        with open(path, "wb") as file:
            quadrants().save(file, "PNG")
    except (OSError, ValueError) as error:
        pytest.skip(f"{sys.platform} does not take this name: {error}")
    assert read(os.fsdecode(path)).width == 160
    assert file_digest(os.fsdecode(path)) == read(os.fsdecode(path)).digest


# Files that others broke

# The column `opencv` was made with cv2.imread, which fills the missing part of a truncated JPEG with grey; from memory
# OpenCV refuses it, and so do we: a half-grey picture would be grouped by its grey.
TRUNCATED = {
    "jpeg-decoder/d5913997c959_194531363df5b73f59c4c0517422f917.jpg",
    "jpeg-decoder/cfd89d30bce7_46f5d9c1b0fe352353688f736e5617b6.jpg",
    "jpeg-decoder/9ce8c8eab2de_9efd60f04cd971daa83d3131e6d6f389.jpg",
    "jpeg-decoder/8adbf4529865_eecb78b937a7c5f04aae2f5b0f5b5acc.jpg",
    "jpeg-decoder/772e14596bfc_5c67195f6993c9f8d0d32d4ffe0d8e62.jpg",
    "jpeg-decoder/e50e56b489eb_fd44dc63fa7bdd12ee34fc602231ef02.jpg",
    "jpeg-decoder/17db8fd0414a_59d3b529c78ac722127c41ba75b3355b.jpg",
    "pillow/50f8cdfc216b_ultrahdr.jpg",
    "pillow/9a83b18bfa4b_truncated_jpeg.jpg",
    "wuffs/f27d6235594d_peacock.progressive.truncated.jpeg",
    "wuffs/6e8f2439fdb3_peacock.default.truncated.jpeg",
}


def _damaged() -> list[dict[str, str]]:
    if not DAMAGED.is_dir():
        pytest.skip(f"{DAMAGED} is not there; it is not part of the project")
    with (DAMAGED / "truth.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _expected_size(row: dict[str, str]) -> tuple[int, int] | None:
    if ":" not in row["opencv"] or row["opencv"].startswith("exc:") or row["path"] in TRUNCATED:
        return None
    height, width = map(int, row["opencv"].split(":")[0].split("x")[:2])
    turned = row["exif_orientation"] in ("5", "6", "7", "8")
    return (height, width) if turned else (width, height)


def test_damaged_files_are_read_as_opencv_reads_them_or_refused() -> None:
    rows = _damaged()
    wrong = []
    for row in rows:
        try:
            picture = read(DAMAGED / row["path"])
            size = (picture.width, picture.height)
        except UnreadablePictureError:
            size = None
        if size != _expected_size(row):
            wrong.append((row["path"], size, _expected_size(row)))
    assert not wrong
    assert sum(_expected_size(row) is not None for row in rows) > 200
    assert {row["path"] for row in rows} >= TRUNCATED


@pytest.mark.parametrize("aspect", ["squash", "pad", "crop"])
def test_pictures_that_are_decoded_together_are_as_when_each_is_alone(tmp_path, aspect):
    rng = np.random.default_rng(3)
    sizes = [(256, 256)] * 4 + [(300, 200)] * 3 + [(200, 300), (90, 40), (90, 40), (64, 64)]
    paths = [os.fspath(tmp_path / f"{i}.jpg") for i in range(len(sizes))]
    for i, (path, (width, height)) in enumerate(zip(paths, sizes, strict=True)):
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 5 else 1
        (picture.convert("L") if i == 2 else picture).save(path, exif=exif)
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:4000])
    options = DecodeOptions(aspect=aspect)
    together = decode_pictures(list(map(seen, paths)), options, ROOM)
    for path, result in zip(paths, together, strict=True):
        (alone,) = decode_pictures([seen(path)], options, ROOM)
        assert type(result) is type(alone)
        if isinstance(alone, Decoded):
            np.testing.assert_equal(msgspec.structs.asdict(result), msgspec.structs.asdict(alone))
    assert [isinstance(result, Decoded) for result in together] == [i != 1 for i in range(len(paths))]
