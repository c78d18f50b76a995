"""The one small file that says what counts in a store, read without zarr: a run with nothing to do needs no more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Literal

import msgspec

from streamcluster.errors import StoreFormatError, StoreNotFoundError
from streamcluster.runtime.locks import exclusive
from streamcluster.runtime.paths import decode_path, printable, system_path
from streamcluster.store.durable import writing_to

FORMAT_VERSION: Final = 1
#: The attribute of the zarr group that is the pointer.
ATTRIBUTE: Final = "streamcluster"


class SettledScan(msgspec.Struct, frozen=True):
    """A scan that left nothing to do: its digest, how many of its files are rejects, and the live rows of the store."""

    digest: str
    rejected: int
    live: int


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes that say what counts."""

    format: int = FORMAT_VERSION
    image_size: int
    aspect: Literal["squash", "pad", "crop"]
    background: str
    seed: int
    block_rows: int
    committed: int = 0
    committed_rejects: int = 0
    current_fit: str | None = None
    findings: dict[str, str] = {}
    sources: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    settled: SettledScan | None = None

    @property
    def source_folders(self) -> tuple[str, ...]:
        """The folders that earlier ingests scanned, as the system names them."""
        return tuple(map(decode_path, self.sources))


def find_pointer(path: str) -> Pointer | None:
    """Return the pointer of a store; None where there is nothing, or an empty folder, so that one may be made.

    Raises
    ------
    StoreFormatError
        As `read_pointer`.
    """
    root = os.path.realpath(path)
    return None if is_free(root) else read_pointer(root)


def read_pointer(root: str) -> Pointer:
    """Return the pointer of the store in a folder.

    Raises
    ------
    StoreNotFoundError
        Nothing is there.
    StoreFormatError
        What is there is not a store, or of a newer format.
    """
    shown = printable(root)
    if not os.path.lexists(root):
        raise StoreNotFoundError(f"{shown}: no store there; make one with: streamcluster ingest FOLDER --store {shown}")
    try:
        with open(system_path(os.path.join(root, "zarr.json")), "rb") as file:
            node = msgspec.json.decode(file.read(), type=_Node)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        raise StoreFormatError(f"{shown} exists and is not a store of streamcluster; choose another --store") from None
    except OSError as error:
        raise StoreFormatError(f"{shown}: cannot open this store ({error.strerror or error})") from None
    pointer = node.attributes.get(ATTRIBUTE)
    version = pointer.get("format") if isinstance(pointer, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreFormatError(
            f"{shown} has format {version}, this streamcluster reads up to {FORMAT_VERSION}; upgrade it"
        )
    try:
        return msgspec.convert(pointer, Pointer)
    except msgspec.ValidationError:
        raise StoreFormatError(
            f"{shown} is a zarr group but not a store of streamcluster; choose another --store"
        ) from None


class _Node(msgspec.Struct):
    """What zarr writes of a group, as far as it matters here."""

    zarr_format: Literal[3]
    node_type: Literal["group"]
    attributes: dict[str, Any] = {}


@contextmanager
def exclusive_store(path: str) -> Iterator[None]:
    """Hold the store's lock, a file beside the real folder, so that two links to one store share it."""
    root = os.path.realpath(path)
    with ExitStack() as stack:
        with writing_to(root):
            os.makedirs(os.path.dirname(root), exist_ok=True)
            stack.enter_context(exclusive(root + ".lock", root))
        yield


def is_free(root: str) -> bool:
    """Whether a store may be made here: nothing is there, or an empty folder."""
    if not os.path.lexists(root):
        return True
    return os.path.isdir(root) and not os.listdir(root)
