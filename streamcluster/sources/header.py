"""What a picture file says about itself before anything is decoded.

The size decides whether a picture may be decoded at all, so it is read here from a few hundred bytes: a 30 kB file can
promise gigabytes. Formats are told apart by content, never by name. Every reader follows what the decoder of OpenCV 5
does with the file; what a format allows but OpenCV does not read is left to fail there. Left out: orientation from XMP,
colour profiles, and AVIF sequences without a still picture.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Final, Literal

from msgspec import Struct

from streamcluster.errors import UnreadablePictureError

Alpha = Literal["none", "straight", "premultiplied"]

_HEAD_BYTES: Final = 8192
_MAX_READS: Final = 20_000
_MAX_CHUNKS: Final = 10_000
# What a decode takes whatever its size. With the bytes per pixel below, which count two copies of the result (OpenCV's
# and the one in NumPy's memory) and the decoder's own buffers, the worst of 58 ways to store a picture of 0.8, 5 and 12
# million pixels stays under its estimate: `python -m benchmarks.decode_memory`, OpenCV 5.0.0.
_FIXED_BYTES: Final = 4 << 20


class Header(Struct, frozen=True, gc=False):
    """What has to be known of a picture before it is decoded.

    Attributes
    ----------
    format : str
        "JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF", "AVIF", "JPEG 2000", "HDR" or "PNM".
    width, height : int
        Pixels as stored, before orientation.
    orientation : int
        EXIF orientation, 1 to 8; 1 where the file says none.
    decode_bytes : int
        Upper estimate of the extra memory that decoding at full size takes, its result included and the file's own
        bytes not. The constants are measured by `benchmarks/decode_memory.py`.
    alpha : {"none", "straight", "premultiplied"}
        How a fourth channel, if one comes out of the decoder, relates to the colours.
    white : int
        Sample value of white in the unconverted pixels; 0 if the format does not say (floating point).
    raw : bool
        Whether the pixels must come unconverted (`cv2.IMREAD_UNCHANGED`), since OpenCV would drop the alpha channel,
        leave the samples unscaled or refuse.
    """

    format: str
    width: int
    height: int
    orientation: int
    decode_bytes: int
    alpha: Alpha = "none"
    white: int = 255
    raw: bool = False


def read_header(file: BinaryIO) -> Header:
    """Return what the picture in a seekable binary file says about itself.

    Raises
    ------
    UnreadablePictureError
        The bytes are no picture that OpenCV reads, or end before the size is known.
    """
    window = _Window(file)
    if not window.head:
        raise UnreadablePictureError("empty file")
    header = _reader_for(window.head)(window)
    if header.width < 1 or header.height < 1:
        raise UnreadablePictureError(f"{header.format} header says {header.width} × {header.height} pixels")
    return header


class _Window:
    """Bounded reads anywhere in a file; most headers are answered by the first block."""

    __slots__ = ("_file", "_reads_left", "head", "size")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._reads_left = _MAX_READS
        self.size = file.seek(0, 2)
        file.seek(0)
        self.head = file.read(_HEAD_BYTES)

    def at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` from `offset`, fewer at the end of the file."""
        if offset + n_bytes <= len(self.head) or self.size <= len(self.head):
            return self.head[offset : offset + n_bytes]
        if offset >= self.size:
            return b""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise UnreadablePictureError(f"the header is in more than {_MAX_READS:,} pieces")
        self._file.seek(offset)
        return self._file.read(n_bytes)

    def unpack(self, layout: struct.Struct, offset: int, name: str) -> tuple[Any, ...]:
        """Return the fields of `layout` at `offset`."""
        data = self.at(offset, layout.size)
        if len(data) < layout.size:
            raise UnreadablePictureError(f"truncated {name} header")
        return layout.unpack(data)


_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


# JPEG: ITU T.81, annex B.

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_LAST: Final = frozenset({0xD9, 0xDA})
_NO_MARKER: Final = frozenset({0x00, 0xFF})


def _jpeg(window: _Window) -> Header:
    marker, offset, orientation = 0, 2, 1
    frame, buffered = b"", False
    head, head_end = window.head, len(window.head) - 22
    while marker not in _JPEG_LAST:
        start = head[offset : offset + 22] if offset <= head_end else window.at(offset, 22)
        if len(start) < 4 or start[0] != 0xFF or start[1] in _NO_MARKER:
            offset = _jpeg_resync(window, offset)
            if offset < 0:
                break
            continue
        marker = start[1]
        if marker in _JPEG_FRAMES:
            frame, buffered = frame or start, marker & 3 == 2
        elif marker == 0xE1 and orientation == 1:
            orientation = _exif_orientation(window, offset + 4)
        # libjpeg takes a length below 2 for an empty segment.
        offset += 2 if marker in _JPEG_ALONE else 2 + max(2, start[2] << 8 | start[3])
    if len(frame) < 12:
        raise UnreadablePictureError("truncated JPEG header")
    width, height, n_components = frame[7] << 8 | frame[8], frame[5] << 8 | frame[6], frame[9]
    # A baseline file with one scan for each component is kept whole, just as a progressive one.
    buffered = buffered or (marker == 0xDA and len(start) > 4 and start[4] < n_components)
    bytes_per_pixel = 6 + (2.2 * _jpeg_samples(frame) if buffered else 0)
    return Header("JPEG", width, height, orientation, _cost(width, height, bytes_per_pixel))


def _jpeg_samples(frame: bytes) -> float:
    """Return the samples for each pixel, all components together; 3 for full colour, 1.5 with halved chroma."""
    areas = [max(1, (sampling >> 4) * (sampling & 15)) for sampling in frame[11::3][: frame[9]]]
    return sum(areas) / max(areas)


def _jpeg_resync(window: _Window, offset: int) -> int:
    """Return the offset of the next marker, or -1 where there is none; skips what libjpeg skips."""
    while len(block := window.at(offset, 4096)) >= 4:
        if found := _JPEG_MARKER.search(block, 0, len(block) - 2):
            return offset + found.end() - 2
        offset += len(block) - 3
    return -1


# EXIF and TIFF: TIFF 6.0, section 2; BigTIFF as libtiff describes it.

_TIFF_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_MAX_ENTRIES: Final = 4096


def _exif_orientation(window: _Window, offset: int) -> int:
    """Return the orientation of an EXIF block, with or without its "Exif" prefix; 1 if it says none."""
    start = window.at(offset, 10)
    if start[:6] == b"Exif\0\0":
        offset, start = offset + 6, start[6:]
    if start[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    return _valid_orientation(_tiff_tags(window, offset, frozenset({274})).get(274))


def _valid_orientation(value: int | None) -> int:
    return value if value is not None and 1 <= value <= 8 else 1


def _tiff_tags(window: _Window, base: int, wanted: frozenset[int]) -> dict[int, int]:
    """Return the first value of each wanted integer tag in the first directory of the TIFF structure at `base`."""
    start = window.at(base, 16)
    order = "<" if start[:1] == b"I" else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    at_offset, n_layout = (8, "Q") if big else (4, "H")
    word, entry_layout = ("Q", "HHQ8s") if big else ("I", "HHI4s")
    if len(start) < at_offset + struct.calcsize("=" + word):
        return {}
    (directory,) = struct.unpack_from(order + word, start, at_offset)
    n_bytes = struct.calcsize("=" + n_layout)
    n_entries = int.from_bytes(window.at(base + directory, n_bytes), "little" if order == "<" else "big")
    entry = struct.Struct(order + entry_layout)
    table = window.at(base + directory + n_bytes, min(n_entries, _MAX_ENTRIES) * entry.size)
    tags: dict[int, int] = {}
    for tag, kind, count, inline in entry.iter_unpack(table[: len(table) // entry.size * entry.size]):
        if tag in wanted and kind in _TIFF_INTEGERS and count and tag not in tags:
            value = _tiff_value(window, base, order, struct.Struct(order + _TIFF_INTEGERS[kind]), count, inline)
            if value is not None:
                tags[tag] = value
    return tags


def _tiff_value(window: _Window, base: int, order: str, value: struct.Struct, count: int, inline: bytes) -> int | None:
    if count * value.size > len(inline):
        where = int.from_bytes(inline, "little" if order == "<" else "big")
        inline = window.at(base + where, value.size)
    return int(value.unpack_from(inline)[0]) if len(inline) >= value.size else None


_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 278, 322, 323, 338, 339
_SUBFILE, _DNG_VERSION = 254, 50706
_TIFF_TAGS: Final = frozenset(
    {_SUBFILE, _DNG_VERSION, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES}
    | {_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT}
)
_LOG_PHOTOMETRICS: Final = frozenset({32844, 32845})
_SENSOR_PHOTOMETRICS: Final = frozenset({32803, 34892})
_CAMERA_RAW: Final = "camera raw files are not supported; convert to JPEG"


def _tiff(window: _Window) -> Header:
    tags = _tiff_tags(window, 0, _TIFF_TAGS)
    if _is_camera_raw(window, tags):
        raise UnreadablePictureError(_CAMERA_RAW)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise UnreadablePictureError("TIFF without a width and a height")
    width, height = tags[_WIDTH], tags[_HEIGHT]
    bits, samples = tags.get(_BITS, 1), tags.get(_SAMPLES, 1)
    alpha = _tiff_alpha(tags, bits, samples)
    free_range = bits > 16 or tags.get(_PHOTOMETRIC) in _LOG_PHOTOMETRICS
    raw = alpha != "none" or free_range or bits in (10, 12, 14)
    white = 0 if free_range else (1 << bits) - 1 if raw else 255
    sample_bytes = 4 if free_range and bits <= 16 else -(-bits // 8) if raw else 1
    cost = _cost(width, height, _tiff_bytes(samples, sample_bytes)) + _tiff_block(tags, samples * sample_bytes)
    return Header("TIFF", width, height, _valid_orientation(tags.get(_ORIENTATION)), cost, alpha, white, raw)


def _is_camera_raw(window: _Window, tags: dict[int, int]) -> bool:
    """Whether this holds what a sensor saw: DNG 1.7 and CR2 say so, others begin with a reduced preview or are CFA."""
    is_preview = bool(tags.get(_SUBFILE, 0) & 1)
    is_sensor = _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR_PHOTOMETRICS
    return is_preview or is_sensor or window.at(8, 2) == b"CR"


def _tiff_alpha(tags: dict[int, int], bits: int, samples: int) -> Alpha:
    """Say what the fourth sample of an RGB picture is; a missing tag means alpha, as for Pillow and for OpenCV's files.

    libtiff multiplies straight alpha in when it converts to 8 bits.
    """
    if tags.get(_PHOTOMETRIC) != 2 or samples != 4 or bits > 16:
        return "none"
    kind = tags.get(_EXTRA_SAMPLES)
    if kind == 0:
        return "none"
    return "premultiplied" if kind == 1 or (kind == 2 and bits <= 8) else "straight"


def _tiff_bytes(samples: int, sample_bytes: int) -> int:
    """Return the memory for each pixel: two copies of the result, or one and its conversion to 8-bit BGR."""
    return max(6, 2 * samples * sample_bytes, samples * sample_bytes + samples + 3)


def _tiff_block(tags: dict[int, int], pixel_bytes: int) -> int:
    """Return the memory for the strip or tile that libtiff decodes, then turns into RGBA."""
    width, height = tags[_WIDTH], tags[_HEIGHT]
    rows = min(height, tags.get(_ROWS_PER_STRIP, height))
    return tags.get(_TILE_WIDTH, width) * tags.get(_TILE_HEIGHT, rows) * (4 + pixel_bytes)


# PNG: W3C PNG, third edition.

_PNG_IHDR = struct.Struct(">8sI4sIIBBBBB")


def _png(window: _Window) -> Header:
    _, _, kind, width, height, bits, color, *_ = window.unpack(_PNG_IHDR, 0, "PNG")
    if kind != b"IHDR":
        raise UnreadablePictureError("PNG without a header")
    orientation, transparent, animated = 1, color in (4, 6), False
    for chunk, offset in islice(_png_chunks(window), _MAX_CHUNKS):
        if chunk == b"eXIf":
            orientation = _exif_orientation(window, offset)
        transparent = transparent or chunk == b"tRNS"
        animated = animated or chunk == b"acTL"
    alpha: Alpha = "straight" if transparent else "none"
    cost = _cost(width, height, _png_bytes(bits == 16, transparent, animated))
    return Header("PNG", width, height, orientation, cost, alpha, 65535 if bits == 16 else 255, transparent)


def _png_chunks(window: _Window) -> Iterator[tuple[bytes, int]]:
    """Yield name and start of the content of each chunk; orientation may stand behind the pixels."""
    offset = 33
    while len(start := window.at(offset, 8)) == 8 and start[4:] != b"IEND":
        length = int.from_bytes(start[:4], "big")
        yield start[4:], offset + 8
        offset += 12 + length


def _png_bytes(deep: bool, transparent: bool, animated: bool) -> int:
    return (16 if deep else 8) * (2 if animated else 1) if transparent or animated else 6


# WebP: RFC 9649.

_WEBP_CHUNK = struct.Struct("<4sI")


def _webp(window: _Window) -> Header:
    kind, _ = window.unpack(_WEBP_CHUNK, 12, "WebP")
    body = window.at(20, 10)
    if len(body) < 10:
        raise UnreadablePictureError("truncated WebP header")
    orientation, animated = 1, False
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(body[i : i + 3], "little") for i in (4, 7))
        transparent, animated = bool(body[0] & 0x10), bool(body[0] & 0x02)
        orientation = _webp_orientation(window) if body[0] & 0x08 else 1
    elif kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        width, height, transparent = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    elif kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        transparent = False
    else:
        raise UnreadablePictureError("WebP without a picture")
    return Header(
        "WebP",
        width,
        height,
        orientation,
        _cost(width, height, 13 if animated else 9 if transparent else 8),
        "straight" if transparent else "none",
        raw=transparent,
    )


def _webp_orientation(window: _Window) -> int:
    offset = 12
    for _ in range(_MAX_CHUNKS):
        start = window.at(offset, 8)
        if len(start) < 8:
            break
        kind, length = _WEBP_CHUNK.unpack(start)
        if kind == b"EXIF":
            return _exif_orientation(window, offset + 8)
        offset += 8 + length + (length & 1)
    return 1


# GIF89a. OpenCV says by its channels whether the first frame has transparent pixels.

_GIF_SCREEN = struct.Struct("<6sHH")


def _gif(window: _Window) -> Header:
    _, width, height = window.unpack(_GIF_SCREEN, 0, "GIF")
    return Header("GIF", width, height, 1, _cost(width, height, 10), "straight", raw=True)


# BMP, header sizes 12 and 36 or more, as OpenCV takes them.

_BMP_CORE = struct.Struct("<HHHH")
_BMP_INFO = struct.Struct("<iiHHI")


def _bmp(window: _Window) -> Header:
    header_size = int.from_bytes(window.at(14, 4), "little")
    if header_size == 12:
        width, height, _, bits = window.unpack(_BMP_CORE, 18, "BMP")
        compression = 0
    else:
        width, height, _, bits, compression = window.unpack(_BMP_INFO, 18, "BMP")
    has_mask = header_size >= 56 and compression == 3 and window.at(66, 4) not in (b"\0\0\0\0", b"")
    transparent = has_mask and bits == 32
    alpha: Alpha = "straight" if transparent else "none"
    width, height = abs(width), abs(height)
    return Header("BMP", width, height, 1, _cost(width, height, 8 if transparent else 6), alpha, raw=transparent)


# AVIF: ISO/IEC 14496-12 boxes, 23008-12 item properties.

_BOX = struct.Struct(">I4s")
_ISPE = struct.Struct(">III")
_ALPHA_URNS: Final = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


def _boxes(window: _Window, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box in a range."""
    while len(start := window.at(offset, 8)) == 8 and offset + 8 <= end:
        size, kind = _BOX.unpack(start)
        body = offset + 8
        if size == 1:
            size = int.from_bytes(window.at(body, 8), "big")
            body += 8
        stop = min(end, offset + size) if size else end
        if stop < body:
            return
        yield kind, body, stop
        offset = stop


def _find_box(window: _Window, kind: bytes, offset: int, end: int) -> tuple[int, int] | None:
    return next(((start, stop) for found, start, stop in _boxes(window, offset, end) if found == kind), None)


def _heif(window: _Window) -> Header:
    _, start, stop = next(_boxes(window, 0, window.size), (b"", 0, 0))
    brands = window.at(start, min(stop - start, 256))
    names = {brands[i : i + 4] for i in range(0, len(brands), 4)}
    if not names & {b"avif", b"avis"}:
        raise UnreadablePictureError(_other_brand(brands[:4]))
    meta = _find_box(window, b"meta", 0, window.size)
    if meta is None:
        raise UnreadablePictureError("AVIF without a still picture")
    return _avif(window, meta[0] + 4, meta[1])


def _other_brand(brand: bytes) -> str:
    if brand[:3] in (b"hei", b"hev", b"mif", b"msf"):
        return "HEIC pictures are not supported; convert to JPEG"
    if brand == b"crx ":
        return _CAMERA_RAW
    return f"not a picture (a video or other media file, brand {_shown(brand)})"


def _avif(window: _Window, start: int, end: int) -> Header:
    items = {kind: (body, stop) for kind, body, stop in _boxes(window, start, end)}
    if b"iprp" not in items or b"pitm" not in items:
        raise UnreadablePictureError("AVIF without a primary picture")
    version = window.at(items[b"pitm"][0], 1)
    primary = int.from_bytes(window.at(items[b"pitm"][0] + 4, 2 if version == b"\0" else 4), "big")
    container = _find_box(window, b"ipco", *items[b"iprp"])
    properties = list(_boxes(window, *container)) if container else []
    links = _find_box(window, b"ipma", *items[b"iprp"])
    own = [properties[i - 1] for i in _avif_links(window, links, primary) if 0 < i <= len(properties)]
    return _avif_header(window, {kind: body for kind, body, _ in own}, _avif_has_alpha(window, properties))


def _avif_has_alpha(window: _Window, properties: list[tuple[bytes, int, int]]) -> bool:
    return any(kind == b"auxC" and window.at(body + 4, 44).startswith(_ALPHA_URNS) for kind, body, _ in properties)


def _avif_links(window: _Window, box: tuple[int, int] | None, primary: int) -> list[int]:
    """Return the property indices of the primary item, 1-based (23008-12, 9.3)."""
    if box is None:
        return []
    offset, end = box
    start = window.at(offset, 8)
    id_bytes = 2 if start[:1] == b"\0" else 4
    wide = start[3:4] > b"" and bool(start[3] & 1)
    offset += 8
    while offset + id_bytes < end and len(entry := window.at(offset, id_bytes + 1)) == id_bytes + 1:
        n_bytes = entry[-1] * (1 + wide)
        offset += id_bytes + 1
        if int.from_bytes(entry[:-1], "big") == primary:
            table = window.at(offset, n_bytes)
            return (
                [v & 0x7FFF for (v,) in _U16.iter_unpack(table[: len(table) & ~1])]
                if wide
                else [v & 0x7F for v in table]
            )
        offset += n_bytes
    return []


def _avif_header(window: _Window, own: dict[bytes, int], transparent: bool) -> Header:
    if b"ispe" not in own:
        raise UnreadablePictureError("AVIF without a picture size")
    _, width, height = window.unpack(_ISPE, own[b"ispe"], "AVIF")
    angle = window.at(own[b"irot"], 1)[0] & 3 if b"irot" in own else 0
    mirror = window.at(own[b"imir"], 1)[0] & 1 if b"imir" in own else None
    config = window.at(own[b"av1C"] + 2, 1) if b"av1C" in own else b""
    bits = (12 if config[0] & 0x20 else 10) if config and config[0] & 0x40 else 8
    alpha: Alpha = "straight" if transparent else "none"
    cost = _cost(width, height, _avif_bytes(bits > 8, transparent))
    return Header("AVIF", width, height, _AVIF_ORIENTATION[angle, mirror], cost, alpha, (1 << bits) - 1, transparent)


def _avif_bytes(deep: bool, transparent: bool) -> int:
    return (44 if deep else 36) if transparent else (26 if deep else 22)


# Quarter turns against the clock, then the mirror (0: top to bottom, 1: left to right), as an EXIF orientation.
_AVIF_ORIENTATION: Final = {
    (0, None): 1,
    (1, None): 8,
    (2, None): 3,
    (3, None): 6,
    (0, 0): 4,
    (1, 0): 5,
    (2, 0): 2,
    (3, 0): 7,
    (0, 1): 2,
    (1, 1): 7,
    (2, 1): 4,
    (3, 1): 5,
}


# JPEG 2000: ITU T.800, annexes A and I.

_SIZ = struct.Struct(">HHIIIIIIIIHB")


def _jp2(window: _Window) -> Header:
    codestream = _find_box(window, b"jp2c", 0, window.size)
    if codestream is None:
        raise UnreadablePictureError("JPEG 2000 without a codestream")
    return _j2k(window, codestream[0])


def _j2k(window: _Window, offset: int = 0) -> Header:
    if window.at(offset, 4) != b"\xff\x4f\xff\x51":
        raise UnreadablePictureError("JPEG 2000 without a size")
    fields = window.unpack(_SIZ, offset + 4, "JPEG 2000")
    right, bottom, left, top = fields[2:6]
    samples, bits = fields[10], (fields[11] & 0x7F) + 1
    raw = samples == 4
    cost = _cost(right - left, bottom - top, _j2k_bytes(samples, bits))
    white = 65535 if bits > 8 else 255
    return Header("JPEG 2000", right - left, bottom - top, 1, cost, "straight" if raw else "none", white, raw)


def _j2k_bytes(samples: int, bits: int) -> int:
    return 5 * samples + (8 if bits > 8 else 4)


# Radiance HDR (Ward, 1991) and PNM (netpbm).

_HDR_SIZE = re.compile(rb"\n\n-Y +(\d{1,9}) +\+X +(\d{1,9})[ \r]*\n")
_PNM_SIZE = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:(?:\s|#[^\n]*\n)+(\d{1,5}))?")


def _hdr(window: _Window) -> Header:
    found = _HDR_SIZE.search(window.head)
    if found is None:
        raise UnreadablePictureError("HDR header without a size")
    height, width = int(found[1]), int(found[2])
    return Header("HDR", width, height, 1, _cost(width, height, 16), white=0)


def _pnm(window: _Window) -> Header:
    found = _PNM_SIZE.match(window.head)
    if found is None or (found[4] is None and found[1] not in b"14"):
        raise UnreadablePictureError("truncated PNM header")
    width, height = int(found[2]), int(found[3])
    white = int(found[4]) if found[1] in b"56" else 255
    raw = white not in (255, 65535)
    return Header("PNM", width, height, 1, _cost(width, height, 12 if raw else 6), "none", white, raw)


def _cost(width: int, height: int, bytes_per_pixel: float) -> int:
    return int(width * height * bytes_per_pixel) + _FIXED_BYTES


# Which reader a file's first bytes ask for, and what else people keep among their pictures.

_READERS: Final[tuple[tuple[Callable[[bytes], object], Callable[[_Window], Header]], ...]] = (
    (re.compile(rb"\xff\xd8\xff").match, _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n").match, _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL).match, _webp),
    (re.compile(rb"GIF8[79]a").match, _gif),
    (re.compile(rb"BM").match, _bmp),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+").match, _tiff),
    (re.compile(rb"....ftyp", re.DOTALL).match, _heif),
    (re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n").match, _jp2),
    (re.compile(rb"\xff\x4f\xff\x51").match, _j2k),
    (re.compile(rb"#\?(?:RADIANCE|RGBE)").match, _hdr),
    (re.compile(rb"P[1-6][\s#]").match, _pnm),
)

_OTHERS: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "JPEG XL pictures are not supported; convert to JPEG"),
    (re.compile(rb"8BPS"), "Photoshop files are not supported; export as PNG"),
    (re.compile(rb"%PDF"), "PDF files are not supported; export the pages as PNG"),
    (re.compile(rb"\0\0[\x01\x02]\0"), "icon files are not supported; convert to PNG"),
    (re.compile(rb"v/1\x01"), "OpenEXR pictures are not supported; convert to PNG"),
    (re.compile(rb"DDS "), "DDS textures are not supported; convert to PNG"),
    (re.compile(rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|II\x1a\0\0\0HEAP|\0MRM|FOVb"), _CAMERA_RAW),
    (re.compile(rb"qoif"), "QOI pictures are not supported; convert to PNG"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|!--|svg|!DOCTYPE svg)"), "SVG"),
)


def _reader_for(head: bytes) -> Callable[[_Window], Header]:
    for pattern, reader in _READERS:
        if pattern(head):
            return reader
    raise UnreadablePictureError(_why_not(head))


def _why_not(head: bytes) -> str:
    reason = next((text for pattern, text in _OTHERS if pattern.match(head)), None)
    if reason == "SVG":
        reason = "SVG drawings are not supported; convert to PNG" if b"<svg" in head else None
    if reason is None and not any(head):
        reason = "not a picture (only zero bytes)"
    return reason or f"not a picture (starts with {_shown(head[:8])})"


def _shown(data: bytes) -> str:
    return repr(data)[1:]
