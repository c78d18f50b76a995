"""What becomes of one picture: the decisions of an export, apart from carrying them out."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from streamcluster.destination.names import SUSPECTS, cluster_folder, duplicates_folder

#: Where the file of a picture that an export once put is now: as it was put; in a person's hands with its content
#: unchanged (moved, renamed, touched); with other content; nowhere.
Whereabouts = Literal["untouched", "theirs", "edited", "missing"]
Action = Literal["put", "restore", "keep", "move", "replace", "remove", "leave"]
Duplicates = Literal["keep-all", "separate", "keep-best"]
Junk = Literal["keep-all", "separate"]


class Wanted(Struct, frozen=True, gc=False):
    """The file that should be there: its content, its group's folder, and how it gets there."""

    digest: bytes
    folder: str
    mode: str


class Placed(Struct, frozen=True, gc=False):
    """The file that an earlier export put."""

    digest: bytes
    folder: str
    mode: str
    where: Whereabouts


def choose_folder(cluster: int, *, better: int | None, suspect: bool, duplicates: Duplicates, junk: Junk) -> str | None:
    """Return the folder that a picture belongs into, None if it is left out.

    A suspect that is a near-duplicate too counts as a near-duplicate: the better picture tells what it is.

    Parameters
    ----------
    cluster : int
    better : int or None
        Row of the best of its near-duplicates, unless it is that itself.
    suspect : bool
    duplicates : {"keep-all", "separate", "keep-best"}
    junk : {"keep-all", "separate"}

    >>> choose_folder(7, better=12, suspect=True, duplicates="separate", junk="separate")
    'duplicates/group_0012'
    >>> choose_folder(7, better=12, suspect=True, duplicates="keep-all", junk="separate")
    'suspects'
    """
    if better is not None and duplicates == "separate":
        return duplicates_folder(better)
    if better is not None and duplicates == "keep-best":
        return None
    return SUSPECTS if suspect and junk == "separate" else cluster_folder(cluster)


def decide(wanted: Wanted | None, placed: Placed | None, *, restore: bool) -> Action:
    """Return what to do about one picture.

    Only an untouched file is ever moved, replaced or removed.

    >>> decide(Wanted(b"x", "cluster_01", "copy"), Placed(b"x", "cluster_00", "copy", "untouched"), restore=False)
    'move'
    >>> decide(None, Placed(b"x", "alice", "copy", "theirs"), restore=False)
    'leave'
    """
    if placed is None:
        return "leave" if wanted is None else "put"
    if placed.where == "missing":
        return "restore" if restore and wanted is not None else "leave"
    if placed.where != "untouched":
        return "leave"
    if wanted is None:
        return "remove"
    if (placed.digest, placed.mode) != (wanted.digest, wanted.mode):
        return "replace"
    return "keep" if placed.folder == wanted.folder else "move"
