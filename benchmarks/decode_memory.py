"""Measure what decoding takes in memory, against what `streamcluster.sources.header` promises.

    python -m benchmarks.decode_memory [--size 4000x3000]

Every picture is read in a fresh process; "measured" is the growth of its peak resident memory over the state before
`decode_pictures`, "admitted" is what the memory gate holds for it (the file's bytes and the estimate). Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from PIL import Image

from streamcluster.runtime.memory import MIB, MemoryGate
from streamcluster.sources.decode import DecodeOptions, decode_pictures, memory_for, reduction_for
from streamcluster.sources.header import read_header

Make = Callable[[Path], object]


def cases(width: int, height: int) -> Iterator[tuple[str, Make]]:
    """Yield a name and a function that writes the picture, for each way of decoding that costs differently."""
    rgb = _noisy_gradient(height, width)
    alpha = np.dstack([rgb, rgb[..., 0]])
    deep, deep_alpha = rgb.astype(np.uint16) * 257, alpha.astype(np.uint16) * 257
    image, image_alpha = Image.fromarray(rgb), Image.fromarray(alpha)

    def pillow(picture: Image.Image, kind: str, **options: object) -> Make:
        return lambda path: picture.save(path, kind, **options)

    def opencv(pixels: np.ndarray, suffix: str, *options: int) -> Make:
        return lambda path: path.write_bytes(cv2.imencode(suffix, pixels, options)[1].tobytes())

    yield "JPEG baseline 4:2:0", pillow(image, "JPEG")
    yield "JPEG baseline 4:4:4", pillow(image, "JPEG", subsampling=0)
    yield "JPEG progressive 4:2:0", pillow(image, "JPEG", progressive=True)
    yield "JPEG progressive 4:4:4", pillow(image, "JPEG", progressive=True, subsampling=0)
    yield "JPEG progressive CMYK", pillow(image.convert("CMYK"), "JPEG", progressive=True)
    yield "JPEG grey", pillow(image.convert("L"), "JPEG")
    yield "PNG RGB", pillow(image, "PNG", compress_level=1)
    yield "PNG RGBA", pillow(image_alpha, "PNG", compress_level=1)
    yield "PNG palette", pillow(image.quantize(64), "PNG", compress_level=1)
    yield "PNG grey", pillow(image.convert("L"), "PNG", compress_level=1)
    yield "PNG RGB 16-bit", opencv(deep, ".png", cv2.IMWRITE_PNG_COMPRESSION, 1)
    yield "PNG RGBA 16-bit", opencv(deep_alpha, ".png", cv2.IMWRITE_PNG_COMPRESSION, 1)
    yield "PNG RGB interlaced", lambda path: path.write_bytes(interlaced_png(rgb, 8))
    yield "PNG RGBA interlaced", lambda path: path.write_bytes(interlaced_png(alpha, 8))
    yield "PNG RGBA 16-bit interlaced", lambda path: path.write_bytes(interlaced_png(deep_alpha, 16))
    animated = {"save_all": True, "append_images": [Image.fromarray(alpha[::-1].copy())]}
    yield "APNG RGB", pillow(image, "PNG", compress_level=1, save_all=True, append_images=[image.rotate(180)])
    yield "APNG RGBA", pillow(image_alpha, "PNG", compress_level=1, **animated)
    yield "WebP lossy", pillow(image, "WEBP", method=0)
    yield "WebP lossy alpha", pillow(image_alpha, "WEBP", method=0)
    yield "WebP lossless", pillow(image, "WEBP", lossless=True, method=0, quality=0)
    yield "WebP lossless alpha", pillow(image_alpha, "WEBP", lossless=True, method=0, quality=0)
    yield "WebP animated", pillow(image_alpha, "WEBP", lossless=True, method=0, quality=0, **animated)
    yield "GIF", pillow(image.quantize(64), "GIF")
    yield "GIF transparent", pillow(image.quantize(64), "GIF", transparency=3)
    yield "GIF interlaced, 2 frames", pillow(image.quantize(64), "GIF", interlace=1, **animated)
    yield "BMP RGB", opencv(rgb, ".bmp")
    yield "BMP RGBA", opencv(alpha, ".bmp")
    yield "BMP 8-bit RLE or plain", pillow(image.quantize(64), "BMP")
    yield "TIFF RGB strips", pillow(image, "TIFF", compression="tiff_lzw")
    yield "TIFF RGB one strip", pillow(image, "TIFF", strip_size=1 << 40)
    yield "TIFF RGB one strip LZW", pillow(image, "TIFF", strip_size=1 << 40, compression="tiff_lzw")
    yield "TIFF RGBA", pillow(image_alpha, "TIFF", compression="tiff_lzw")
    yield "TIFF RGB 16-bit", opencv(deep, ".tiff")
    yield "TIFF RGBA 16-bit", opencv(deep_alpha, ".tiff")
    yield "TIFF RGB float", opencv(rgb.astype(np.float32), ".tiff")
    yield "TIFF RGB double", opencv(rgb.astype(np.float64), ".tiff")
    yield "TIFF grey float", opencv(rgb[..., 0].astype(np.float32), ".tiff")
    yield "TIFF CMYK", pillow(image.convert("CMYK"), "TIFF", compression="tiff_lzw")
    yield "TIFF bilevel", pillow(image.convert("1"), "TIFF", compression="group4")
    yield "TIFF RGB turned", pillow(image, "TIFF", tiffinfo={274: 6})
    yield "TIFF RGB tiled", lambda path: path.write_bytes(tiled_tiff(rgb, 512))
    yield "TIFF RGB float tiled", lambda path: path.write_bytes(tiled_tiff(rgb.astype(np.float32), 512))
    yield "TIFF RGB one tile", lambda path: path.write_bytes(tiled_tiff(rgb, -(-max(width, height) // 16) * 16))
    yield "AVIF 4:2:0", pillow(image, "AVIF", speed=10)
    yield "AVIF 4:4:4", pillow(image, "AVIF", speed=10, subsampling="4:4:4")
    yield "AVIF alpha", pillow(image_alpha, "AVIF", speed=10)
    avif = (cv2.IMWRITE_AVIF_SPEED, 10, cv2.IMWRITE_AVIF_DEPTH)
    yield "AVIF 10-bit", opencv(deep >> 6, ".avif", *avif, 10)
    yield "AVIF 10-bit alpha", opencv(deep_alpha >> 6, ".avif", *avif, 10)
    yield "AVIF 12-bit lossless", opencv(deep >> 4, ".avif", *avif, 12, cv2.IMWRITE_AVIF_QUALITY, 100)
    yield "JPEG 2000 RGB", opencv(rgb, ".jp2")
    yield "JPEG 2000 RGBA", pillow(image_alpha, "JPEG2000")
    yield "JPEG 2000 RGB 16-bit", opencv(deep, ".jp2")
    yield "JPEG 2000 grey", opencv(rgb[..., 0], ".jp2")
    yield "JPEG 2000 tiled", pillow(image, "JPEG2000", tile_size=(512, 512))
    yield "HDR", opencv(rgb.astype(np.float32) / 255, ".hdr")
    yield "PNM 8-bit", opencv(rgb, ".ppm")
    yield "PNM 16-bit", opencv(deep, ".ppm")
    yield "PNM 12-bit", lambda path: path.write_bytes(b"P6 %d %d 4095\n" % (width, height) + (deep >> 4).tobytes())


def _noisy_gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 24, (height, width, 3))
    return (np.dstack([x * 200 // width, y * 200 // height, (x + y) * 200 // (width + height)]) + noise).astype(
        np.uint8
    )


def interlaced_png(pixels: np.ndarray, bits: int) -> bytes:
    """Return an Adam7 PNG of 3 or 4 channels; neither Pillow nor OpenCV writes one."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = bytearray()
    for top, left, down, right in passes:
        part = pixels[top::down, left::right].astype(">u2" if bits == 16 else np.uint8)
        for row in part if part.shape[1] else ():
            rows += b"\0" + row.tobytes()
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if channels == 3 else 6, 0, 0, 1)
    data = zlib.compress(bytes(rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiled_tiff(rgb: np.ndarray, side: int) -> bytes:
    """Return an uncompressed RGB TIFF in square tiles, 8-bit or float32."""
    import struct

    height, width, _ = rgb.shape
    tiles = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            tile = np.zeros((side, side, 3), rgb.dtype)
            part = rgb[top : top + side, left : left + side]
            tile[: part.shape[0], : part.shape[1]] = part
            tiles.append(tile.tobytes())
    bits, sample_format = 8 * rgb.itemsize, 3 if rgb.dtype.kind == "f" else 1
    n_tiles, n_entries = len(tiles), 12
    extra = 8 + 2 + 12 * n_entries + 4
    lists = extra + 12
    first = lists + 8 * n_tiles
    offsets = [first + i * len(tiles[0]) for i in range(n_tiles)]
    single = n_tiles == 1
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, extra),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (284, 3, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, n_tiles, offsets[0] if single else lists),
        (325, 4, n_tiles, len(tiles[0]) if single else lists + 4 * n_tiles),
        (339, 3, 3, extra + 6),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, n_entries)
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    head += struct.pack("<6H", bits, bits, bits, sample_format, sample_format, sample_format)
    head += struct.pack(f"<{2 * n_tiles}I", *offsets, *[len(tile) for tile in tiles])
    return head + b"".join(tiles)


def measure(path: str) -> int:
    """Return by how many bytes reading the picture raises this process's peak resident memory."""
    warm = np.zeros((8, 8, 3), np.uint8)
    cv2.imdecode(cv2.imencode(".png", warm)[1], cv2.IMREAD_COLOR)
    status = os.stat(path)
    file = SimpleNamespace(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)
    before = _status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again at VmRSS
    options, gate = DecodeOptions(max_pixels=1 << 40), MemoryGate(1 << 40)
    decode_pictures([file], options, gate)
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _report(name: str, path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.decode_memory", "--measure", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    with path.open("rb") as file:
        header = read_header(file)
    reduction = reduction_for(header, DecodeOptions().image_size)
    size, admitted = path.stat().st_size, path.stat().st_size + memory_for(header, reduction)
    pixels = header.width * header.height
    if done.returncode:
        print(f"{name:27s} failed: {done.stderr.strip().splitlines()[-1][:80]}")
        return
    measured = int(done.stdout)
    print(
        f"{name:27s} {size / MIB:8.1f} {admitted / MIB:9.1f} {measured / MIB:9.1f} {admitted / measured:6.2f} "
        f"{(measured - size) / pixels:9.2f}{'' if measured <= admitted else '  UNDER'}",
        flush=True,
    )


def main() -> None:
    """Print the table, or with --measure one number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="4000x3000", help="width x height of the pictures")
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure(arguments.measure))
        return
    width, height = map(int, arguments.size.split("x"))
    print(f"{width} x {height}; OpenCV {cv2.__version__}; sizes in MiB")
    print(f"{'':27s} {'file':>8s} {'admitted':>9s} {'measured':>9s} {'ratio':>6s} {'B/pixel':>9s}")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in cases(width, height):
            if arguments.only.lower() in name.lower():
                path = Path(folder, "picture")
                make(path)
                _report(name, path)
                os.remove(path)


if __name__ == "__main__":
    main()
