"""The project's only door to picture decoding: one file in, one thumbnail and a grey picture to measure out.

OpenCV decodes, and simplejpeg the JPEG files that it decodes alike; `header.py` decides beforehand whether they may.
Everything behind the decoder works on a few thousand pixels, so that a picture costs little more than its decoding.
Colour profiles are not applied.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import compress
from typing import Any, BinaryIO, Final, Literal, NamedTuple, Protocol, TypeVar, cast

import cv2
import numpy as np
import simplejpeg
from msgspec import Struct
from numpy.typing import NDArray

from streamcluster.errors import ChangedWhileReadError, OversizePictureError, UnreadablePictureError
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.digests import digest_of
from streamcluster.runtime.memory import MemoryGate, format_bytes
from streamcluster.runtime.paths import system_path
from streamcluster.sources.header import Header, read_header

# Pictures are decoded by a pool of threads; OpenCV's own threads would only compete with it.
cv2.setNumThreads(1)

Aspect = Literal["squash", "pad", "crop"]
Pixels = NDArray[np.uint8]
#: What is wrong with a file, caught: the reasons stand at `decode_pictures`.
Refused = UnreadablePictureError | OSError
ResultT = TypeVar("ResultT")

LUMA_SIDE: Final = 128
_STRIP_SAMPLES: Final = 1 << 18
_REDUCED: Final = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_OUT_OF_MEMORY: Final = -4
_READ: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0)
#: Bytes of a file that are read before it is admitted; most pictures of a training set have no more.
START_BYTES: Final = 1 << 16
#: Decoded pixels of a stack: what malloc keeps, and what stays in the processor's cache.
STACK_BYTES: Final = 3 << 18


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How pictures become thumbnails, and which are too large.

    Attributes
    ----------
    image_size : int
        Side of the thumbnail in pixels.
    aspect : {"squash", "pad", "crop"}
        Fill the square by distorting, by a border in the background colour, or by cutting the longer side.
    background : tuple of int
        RGB under transparent pixels and beside padded pictures.
    max_pixels : int
        Largest width times height that is decoded.
    """

    image_size: int = 64
    aspect: Aspect = "squash"
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 100_000_000


def rgb_of(color: str) -> tuple[int, int, int]:
    """Return the values of a colour.

    >>> rgb_of("#ff8000")
    (255, 128, 0)
    """
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


class Decoded(Struct, frozen=True, gc=False):
    """What is kept of a picture once it is decoded.

    Attributes
    ----------
    thumbnail : ndarray of uint8, shape (image_size, image_size, 3)
        BGR; `stack_thumbnails` makes many at a time RGB.
    luma : ndarray of uint8, shape (at most 128, at most 128)
        To be measured.
    width, height : int
        Pixels as displayed, after orientation.
    size, mtime_ns : int
        Of the file that was read, in bytes and nanoseconds.
    digest : bytes
        SHA-256 of the file's bytes.
    """

    thumbnail: Pixels
    luma: Pixels
    width: int
    height: int
    size: int
    mtime_ns: int
    digest: bytes


class SeenFile(Protocol):
    """A file to read, as it was when it was last looked at."""

    @property
    def path(self) -> str:
        """Where it lies."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def mtime_ns(self) -> int:
        """Nanoseconds since 1970."""


class FileStart(NamedTuple):
    """The first bytes of a file, or all of them if it is small, and its size and time once they were read."""

    path: str
    size: int
    mtime_ns: int
    data: bytes

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the file."""
        return len(self.data) == self.size


class Admissible(NamedTuple):
    """A picture file that may be decoded: what it says about itself, how to decode it and in how many bytes."""

    start: FileStart
    header: Header
    reduction: int
    shape: tuple[int, int]
    n_bytes: int


def decode_pictures(files: Sequence[SeenFile], options: DecodeOptions, gate: MemoryGate) -> list[Decoded | Refused]:
    """Read picture files.

    Each step goes through all files: so its code stays in the processor's cache. JPEG files that come out alike are
    decoded into one stack and shrunk with one call: each call that frees the interpreter's lock is a chance that the
    threads wait for one another.

    Returns
    -------
    list
        For each file a `Decoded`, or an error that was caught:

        - `UnreadablePictureError`: the bytes are no picture.
        - `OversizePictureError`: the picture has more than `options.max_pixels`, or needs more than `gate` ever admits.
        - `ChangedWhileReadError`: the file changed while it was read.
        - `OSError`: the file could not be opened or read; it may work later.
    """
    starts = [_caught(_read_start, file) for file in files]
    admitted = [_caught(_admit, s, options, gate) if isinstance(s, FileStart) else s for s in starts]
    results: dict[int, Decoded | Refused] = {}
    pictures: dict[int, Admissible] = {}
    for i, found in enumerate(admitted):
        if isinstance(found, Admissible):
            pictures[i] = found
        else:
            results[i] = found
    for places in _alike(pictures):
        results.update(zip(places, _decode_alike([pictures[i] for i in places], options, gate), strict=True))
    return [results[i] for i in range(len(files))]


def _alike(pictures: Mapping[int, Admissible]) -> Iterator[list[int]]:
    """Yield the places of the pictures that make a stack: small JPEG files of one shape, any other by itself."""
    by_shape: dict[tuple[tuple[int, int], int], list[int]] = defaultdict(list)
    for i, picture in pictures.items():
        if picture.header.format == "JPEG" and picture.start.is_whole:
            by_shape[picture.shape, picture.header.orientation].append(i)
        else:
            yield [i]
    for ((height, width), _), places in by_shape.items():
        for rows in tile_rows(len(places), max(1, STACK_BYTES // (3 * height * width))):
            yield places[rows]


def _caught(step: Callable[..., ResultT], *arguments: object) -> ResultT | Refused:
    try:
        return step(*arguments)
    except (UnreadablePictureError, OSError) as error:
        return error.with_traceback(None)


def _read_start(file: SeenFile) -> FileStart:
    """Return the start of a file, or nothing of one that changed since it was seen: what was read may be of before."""
    descriptor = os.open(system_path(file.path), _READ)
    try:
        data = os.read(descriptor, min(file.size, START_BYTES))
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadablePictureError("not a regular file")
    size, mtime_ns = status.st_size, status.st_mtime_ns
    return FileStart(file.path, size, mtime_ns, data if (size, mtime_ns) == (file.size, file.mtime_ns) else b"")


def _admit(start: FileStart, options: DecodeOptions, gate: MemoryGate) -> Admissible:
    header = _read_header(start)
    reduction, shape, decode_bytes = _plan(header, options.image_size)
    n_bytes = start.size + decode_bytes
    _refuse_oversize(header, n_bytes, options.max_pixels, gate.capacity_bytes)
    return Admissible(start, header, reduction, shape, n_bytes)


@lru_cache(256)
def _plan(header: Header, image_size: int) -> tuple[int, tuple[int, int], int]:
    reduction = reduction_for(header, image_size)
    return reduction, _shrunk_shape(header, reduction), memory_for(header, reduction)


def _read_header(start: FileStart) -> Header:
    if start.is_whole:
        return read_header(BytesIO(start.data))
    with open(system_path(start.path), "rb", buffering=0) as file:
        return read_header(cast(BinaryIO, file))


def _decode_alike(pictures: Sequence[Admissible], options: DecodeOptions, gate: MemoryGate) -> list[Decoded | Refused]:
    return _decode_stack(pictures, options, gate) if len(pictures) > 1 else [_caught(_decode, *pictures, options, gate)]


def _decode(picture: Admissible, options: DecodeOptions, gate: MemoryGate) -> Decoded:
    start, header, _, _, n_bytes = picture
    with gate.hold(n_bytes):
        try:
            encoded = np.frombuffer(start.data, np.uint8) if start.is_whole else _read_all(start)
            digest = digest_of(memoryview(cast(Any, encoded)))
            pixels = decode_pixels(encoded, picture, options.background)
            (decoded,) = _shrink(pixels[None], [picture], [digest], options)
        except MemoryError:
            raise OversizePictureError(_too_large(header, n_bytes, "the system has no more; use --memory")) from None
        return decoded


def _decode_stack(pictures: Sequence[Admissible], options: DecodeOptions, gate: MemoryGate) -> list[Decoded | Refused]:
    """Decode JPEG files of one shape and orientation; an unusual one is then decoded alone."""
    stack = np.empty((len(pictures), *pictures[0].shape, 3), np.uint8)
    with gate.hold(max(picture.n_bytes for picture in pictures)):
        usual = [
            _decode_jpeg(picture.start.data, picture.shape, pixels) is not None
            for picture, pixels in zip(pictures, stack, strict=True)
        ]
    if not all(usual):
        stack = stack[usual]
    kept = list(compress(pictures, usual))
    decoded = iter(_shrink(stack, kept, [digest_of(picture.start.data) for picture in kept], options) if kept else ())
    return [
        next(decoded) if is_usual else _caught(_decode, picture, options, gate)
        for picture, is_usual in zip(pictures, usual, strict=True)
    ]


def reduction_for(header: Header, image_size: int) -> int:
    """Return by what a JPEG is shrunk while it is decoded: 1, 2, 4 or 8.

    Both sides keep twice the thumbnail's, and no less than the luma's, so that the measures do not depend on
    the size of small thumbnails.

    >>> reduction_for(Header("JPEG", 4000, 3000, 1, 0), 64)
    8
    >>> reduction_for(Header("PNG", 4000, 3000, 1, 0), 64)
    1
    """
    if header.format != "JPEG":
        return 1
    least = max(2 * image_size, LUMA_SIDE)
    shorter = min(header.width, header.height)
    return next((n for n in (8, 4, 2) if -(-shorter // n) >= least), 1)


def memory_for(header: Header, reduction: int) -> int:
    """Return the bytes that decoding takes when the result, of which there are two copies, is shrunk on the way."""
    height, width = _shrunk_shape(header, reduction)
    return header.decode_bytes - 2 * 3 * (header.width * header.height - width * height)


def _shrunk(side: int, reduction: int) -> int:
    return -(-side // reduction)


def _refuse_oversize(header: Header, n_bytes: int, max_pixels: int, capacity_bytes: int) -> None:
    n_pixels = header.width * header.height
    if n_pixels > max_pixels:
        raise OversizePictureError(
            f"{header.width:,} × {header.height:,} = {n_pixels / 1e6:,.1f} million pixels, "
            f"the limit is {max_pixels / 1e6:,.1f} million; use --max-pixels"
        )
    if n_bytes > capacity_bytes:
        left = f"{format_bytes(capacity_bytes)} are left for pictures; use --memory"
        raise OversizePictureError(_too_large(header, n_bytes, left))


def _too_large(header: Header, n_bytes: int, rest: str) -> str:
    return f"{header.width:,} × {header.height:,} {header.format} needs {format_bytes(n_bytes)} to decode, {rest}"


def _read_all(start: FileStart) -> Pixels:
    """Return the bytes of a file, that must be as it was when its header was read; a raw read may stop early."""
    data = np.empty(start.size, np.uint8)
    view = memoryview(cast(Any, data))
    with open(system_path(start.path), "rb", buffering=0) as source:
        n_read = 0
        while n_read < len(data) and (n := source.readinto(view[n_read:])):
            n_read += n
        status = os.fstat(source.fileno())
    if n_read < len(data) or (status.st_size, status.st_mtime_ns) != (start.size, start.mtime_ns):
        raise ChangedWhileReadError("the file changed while it was read; the next run reads it")
    return data


def decode_pixels(encoded: Pixels, picture: Admissible, background: tuple[int, int, int]) -> Pixels:
    """Return 8-bit BGR, or BGR that is already on the background plus a fourth channel to ignore, as stored.

    OpenCV turns TIFF the right way up by itself, and nothing else under these flags. Samples of a known range are
    scaled so that white is 255 (by OpenCV, where it can, which cuts 16 bits to the upper 8); the rest as in
    `stretch_to_8bit`, but for Radiance HDR, which OpenCV clips at 1. What OpenCV drops is lost: the transparent value
    of a grey PNG, the alpha of grey-and-alpha TIFF and JPEG 2000.
    """
    header, expected = picture.header, picture.shape
    if header.format == "JPEG" and (jpeg := _decode_jpeg(encoded, expected)) is not None:
        return jpeg
    flags = cv2.IMREAD_UNCHANGED if header.raw else _REDUCED[picture.reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = _imdecode(encoded, flags, header.format)
    if pixels.shape[:2] != (expected[::-1] if header.format == "TIFF" and header.orientation > 4 else expected):
        # The memory was admitted for the header's size, so a file that says two things is not read on.
        raise UnreadablePictureError(
            f"the {header.format} header says {header.width} × {header.height}, "
            f"the picture is {pixels.shape[1]} × {pixels.shape[0]}"
        )
    return _to_bgr8(pixels, header, background) if header.raw else pixels


def _decode_jpeg(encoded: bytes | Pixels, shape: tuple[int, int], buffer: Pixels | None = None) -> Pixels | None:
    """Return what OpenCV would, sooner, or None where anything about the file is unusual: OpenCV then decides.

    Both run libjpeg-turbo. At half size a 256 by 256 picture takes 207 µs instead of 238, at full size 264 instead of
    355 (simplejpeg 1.9.0, OpenCV 5.0.0). The pixels go into `buffer` if there is one.
    """
    height, width = shape
    try:
        pixels = simplejpeg.decode_jpeg(encoded, "BGR", min_height=height, min_width=width, buffer=buffer)
    except ValueError:
        return None
    return cast(Pixels, pixels) if pixels.shape == (height, width, 3) else None


def _shrunk_shape(header: Header, reduction: int) -> tuple[int, int]:
    return _shrunk(header.height, reduction), _shrunk(header.width, reduction)


def _imdecode(encoded: Pixels, flags: int, name: str) -> NDArray[Any]:
    try:
        pixels = cast("NDArray[Any] | None", cv2.imdecode(encoded, flags))
    except cv2.error as error:
        if error.code == _OUT_OF_MEMORY:
            raise MemoryError from error
        raise UnreadablePictureError(f"{name} of a kind that OpenCV refuses") from error
    if pixels is None:
        raise UnreadablePictureError(f"damaged, truncated or unusual {name}")
    return pixels


def _to_bgr8(pixels: NDArray[Any], header: Header, background: tuple[int, int, int]) -> Pixels:
    if header.white == 0:
        pixels = stretch_to_8bit(pixels)
    elif pixels.dtype != np.uint8 or header.white != 255:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / header.white)
    if pixels.ndim == 2:
        return cast(Pixels, cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    if pixels.shape[2] == 4 and header.alpha != "none":
        composite(pixels, background, premultiplied=header.alpha == "premultiplied")
    return cast(Pixels, pixels)


def _strips(pixels: NDArray[Any]) -> list[slice]:
    rows = max(1, _STRIP_SAMPLES // max(1, pixels[0].size))
    return [slice(start, start + rows) for start in range(0, len(pixels), rows)]


def stretch_to_8bit(pixels: NDArray[Any]) -> Pixels:
    """Return samples of unknown range as 8 bits: 0, or less if there is less, becomes 0; 1, or more, becomes 255.

    So floats from 0 to 1 are kept as they are meant, and anything else keeps its order. What is not finite becomes 0.
    """
    low, high = 0.0, 1.0
    for rows in _strips(pixels):
        finite = pixels[rows][np.isfinite(pixels[rows])]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    scaled = np.empty(pixels.shape, np.uint8)
    for rows in _strips(pixels):
        with np.errstate(over="ignore", invalid="ignore"):
            strip = (pixels[rows].astype(np.float64) - low) * (255 / (high - low))
        scaled[rows] = np.rint(np.nan_to_num(strip, copy=False, nan=0.0, posinf=0.0, neginf=0.0))
    return scaled


def composite(pixels: Pixels, background: tuple[int, int, int], *, premultiplied: bool) -> None:
    """Put BGRA `pixels` on an RGB `background`, in place and a few rows at a time; the alpha channel stays."""
    behind = np.array(background[::-1], np.uint16)
    for rows in _strips(pixels):
        strip = pixels[rows]
        alpha = strip[..., 3:].astype(np.uint16)
        if alpha.min() == 255:
            continue
        under = behind * (255 - alpha)
        if premultiplied:
            strip[..., :3] = np.minimum(255, strip[..., :3] + (under + 127) // 255)
        else:
            strip[..., :3] = (strip[..., :3] * alpha + under + 127) // 255


def _shrink(
    stack: Pixels, pictures: Sequence[Admissible], digests: Sequence[bytes], options: DecodeOptions
) -> list[Decoded]:
    """Return what is kept of pictures of one shape and orientation."""
    header = pictures[0].header
    orientation = 1 if header.format == "TIFF" else header.orientation
    thumbnails, lumas = make_thumbnails(stack, orientation, options), make_lumas(stack, orientation)
    return [
        _decoded(picture, digest, thumbnail, luma)
        for picture, digest, thumbnail, luma in zip(pictures, digests, thumbnails, lumas, strict=True)
    ]


def _decoded(picture: Admissible, digest: bytes, thumbnail: Pixels, luma: Pixels) -> Decoded:
    header, start = picture.header, picture.start
    width, height = (header.height, header.width) if header.orientation > 4 else (header.width, header.height)
    return Decoded(thumbnail, luma, width, height, start.size, start.mtime_ns, digest)


def stack_thumbnails(decoded: Sequence[Decoded], side: int) -> Pixels:
    """Return the (n, side, side, 3) RGB thumbnails of pictures, n may be 0."""
    if not decoded:
        return np.empty((0, side, side, 3), np.uint8)
    tall = np.concatenate([picture.thumbnail for picture in decoded])
    return cast(Pixels, cv2.cvtColor(tall, cv2.COLOR_BGR2RGB)).reshape(-1, side, side, 3)


def make_thumbnails(stack: Pixels, orientation: int, options: DecodeOptions) -> Pixels:
    """Return the (n, S, S, 3) BGR thumbnails of (n, h, w, 3 or 4) BGR or BGRA that still have to be oriented."""
    side = options.image_size
    if options.aspect == "crop":
        stack = _centre_squares(stack)
    height, width = _fit(stack.shape[1], stack.shape[2], side) if options.aspect == "pad" else (side, side)
    small = orient(resize_stack(stack, width, height), orientation)[..., :3]
    return small if width == height else _pad(small, side, options.background)


def _centre_squares(stack: Pixels) -> Pixels:
    height, width = stack.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return stack[:, top : top + side, left : left + side]


def _fit(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the largest size of this aspect in a square, at least one pixel each way.

    >>> _fit(50, 200, 64)
    (16, 64)
    """
    longer = max(height, width)
    return max(1, round(side * height / longer)), max(1, round(side * width / longer))


def _pad(stack: Pixels, side: int, background: tuple[int, int, int]) -> Pixels:
    squares = np.empty((len(stack), side, side, 3), np.uint8)
    squares[:] = background[::-1]
    height, width = stack.shape[1:3]
    top, left = (side - height) // 2, (side - width) // 2
    squares[:, top : top + height, left : left + width] = stack
    return squares


def resize_stack(stack: Pixels, width: int, height: int) -> Pixels:
    """Return each of (n, h, w, …) resized on its own, as `resize` does it.

    Where both sides shrink by whole numbers no cell spans two pictures, so that one call on the tall picture does it.
    """
    n, h, w, *channels = stack.shape
    if n == 1 or h % height or w % width:
        return np.stack([resize(picture, width, height) for picture in stack])
    tall = resize(stack.reshape(n * h, w, *channels), width, n * height)
    return tall.reshape(n, height, width, *channels)


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return `pixels` at a new size: area averages along an axis that shrinks, linear along one that grows.

    `cv2.INTER_AREA` alone turns linear in both as soon as one axis grows, and a shrinking axis then aliases.
    """
    least = (min(width, pixels.shape[1]), min(height, pixels.shape[0]))
    if least != pixels.shape[1::-1]:
        pixels = cast(Pixels, cv2.resize(pixels, least, interpolation=cv2.INTER_AREA))
    if least != (width, height):
        pixels = cast(Pixels, cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR))
    return pixels


def orient(stack: Pixels, orientation: int) -> Pixels:
    """Return stored pixels (n, h, w, …) as EXIF orientation (1 to 8) means them to be seen."""
    if orientation == 1:
        return stack
    seen = stack.swapaxes(1, 2) if orientation > 4 else stack
    seen = seen[:, ::-1] if orientation in (3, 4, 7, 8) else seen
    return np.ascontiguousarray(seen[:, :, ::-1] if orientation in (2, 3, 6, 7) else seen)


def make_lumas(stack: Pixels, orientation: int) -> Pixels:
    """Return the luma (ITU-R BT.601) of (n, h, w, 3 or 4), each axis area-averaged to 128 pixels, if it has more."""
    height, width = stack.shape[1:3]
    small = resize_stack(stack, min(width, LUMA_SIDE), min(height, LUMA_SIDE))
    n, height, width, channels = small.shape
    code = cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY
    luma = cv2.cvtColor(small.reshape(n * height, width, channels), code)
    return orient(cast(Pixels, luma).reshape(n, height, width), orientation)
