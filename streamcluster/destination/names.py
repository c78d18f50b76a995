"""File names that are legal, and stay apart, on Windows, macOS and Linux."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from itertools import count

#: Longest name: 255 bytes of UTF-8 on Linux and macOS, 255 units of UTF-16 on Windows. The first implies the second.
MAX_NAME_BYTES = 255
#: What follows the last dot is an ending, and kept, up to this length with the dot.
_MAX_ENDING_BYTES = 24

_ILLEGAL = re.compile('[<>:"/\\\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
#: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{d}{n}" for d in ("com", "lpt") for n in "0123456789¹²³"
}


#: Folder of pictures that are likely junk: flat, so that a look at one folder tells.
SUSPECTS = "suspects"
#: Folder of a folder for each group of near-duplicates.
DUPLICATES = "duplicates"


def duplicates_folder(row: int) -> str:
    """Return the name of the folder for the near-duplicates of the picture in this row of the store.

    >>> duplicates_folder(12)
    'duplicates/group_0012'
    """
    return f"{DUPLICATES}/group_{row:04d}"


def cluster_folder(cluster: int) -> str:
    """Return the name of a group's folder.

    >>> cluster_folder(7)
    'cluster_07'
    """
    return f"cluster_{cluster:02d}"


def legal_name(name: str) -> str:
    """Return `name` as near as the three systems allow; hidden names become visible.

    >>> legal_name("what? 12:30.jpg"), legal_name("con.png"), legal_name("dot. ")
    ('what_ 12_30.jpg', '_con.png', 'dot__')
    """
    name = _ILLEGAL.sub("_", name) or "_"
    kept = name.rstrip(". ")
    name = kept + "_" * (len(name) - len(kept))
    if name.startswith("."):
        name = "_" + name[1:]
    if name.split(".")[0].rstrip(" ").casefold() in _DEVICES:
        name = "_" + name
    return _joined(*_split(name))


def fold(path: str) -> str:
    r"""Return what two paths share that some system takes for the same, whatever their case or Unicode normalisation.

    >>> fold("Caf\u00e9.JPG") == fold("cafe\u0301.jpg")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def candidate_names(source: str) -> Iterator[str]:
    """Yield names for the picture at `source`, the plain one first, then ones that hold a digest of its path.

    >>> from itertools import islice
    >>> list(islice(candidate_names("/a/1.jpg"), 2))
    ['1.jpg', '1~47b37583.jpg']
    """
    plain = legal_name(os.path.basename(source))
    yield plain
    digest = hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    stem, ending = _split(plain)
    for length in (8, 16, 32):
        yield _joined(stem, f"~{digest[:length]}{ending}")
    for number in count(2):
        yield _joined(stem, f"~{digest}-{number}{ending}")


def _split(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    if not stem or len((dot + ending).encode()) > _MAX_ENDING_BYTES:
        return name, ""
    return stem, dot + ending


def _joined(stem: str, rest: str) -> str:
    """Return both parts together, the first cut to what the limit leaves."""
    room = MAX_NAME_BYTES - len(rest.encode())
    return stem.encode()[:room].decode(errors="ignore") + rest
