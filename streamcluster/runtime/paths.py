"""Paths as the three desktop systems need them.

File names are bytes on Linux and may be no text at all; Python shows such bytes as lone surrogates. zarr, JSON and CSV
want text, so names are stored with those bytes percent-encoded.
"""

from __future__ import annotations

import os
import re
import sys
from urllib.parse import quote_from_bytes, unquote_to_bytes

_NOT_STORABLE = re.compile("[%\ud800-\udfff]")


def encode_path(path: str) -> str:
    r"""Return `path` as valid Unicode that `decode_path` turns back into the same bytes.

    >>> encode_path("faces/100%.png")
    'faces/100%25.png'
    >>> decode_path(encode_path("bad\udcff.png")) == "bad\udcff.png"
    True
    """
    if path.isascii() and "%" not in path:
        return path
    return _NOT_STORABLE.sub(lambda match: quote_from_bytes(os.fsencode(match[0]), safe=""), path)


def decode_path(stored: str) -> str:
    """Return the path that `encode_path` stored."""
    return os.fsdecode(unquote_to_bytes(stored)) if "%" in stored else stored


def printable(path: str) -> str:
    """Return `path` fit for a terminal, a log line or a table: no control characters, no lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path)


def system_path(path: str) -> str:
    """Return `path` as the system calls take it: on Windows absolute and exempt from the limit of 260 characters."""
    if sys.platform != "win32" or path.startswith("\\\\?\\"):
        return path
    absolute = os.path.abspath(path)
    return "\\\\?\\UNC\\" + absolute[2:] if absolute.startswith("\\\\") else "\\\\?\\" + absolute
