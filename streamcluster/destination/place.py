"""One file at a time: putting it under a temporary name, giving it its name, taking it away.

Nothing here decides anything, and no function overwrites a file that its caller does not know.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import BinaryIO, Literal

import msgspec

from streamcluster.errors import DestinationError
from streamcluster.runtime.digests import digest_of, file_digest
from streamcluster.runtime.paths import printable, system_path

#: Every file of ours that has not got its name yet begins so; what a kill leaves behind is known by it.
TEMPORARY = ".streamcluster-tmp-"

#: Why a picture cannot be put now.
CHANGED = "changed since ingest"
MISSING = "source is missing"
UNREADABLE = "source cannot be read"
TAKEN = "name taken during the export"
TOUCHED = "touched during the export"
REFUSED = "refused by the system"

Kind = Literal["file", "link", "folder", "other", "temporary"]

#: The destination as a whole takes no more.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSING = _FULL | {errno.EROFS}
_FICLONE = 0x40049409  # linux/fs.h
_PIECE_BYTES = 1 << 20
_SETS_TIMES_OF_OPEN_FILES = os.utime in os.supports_fd
_NO_PRIVILEGE = 1314  # winerror.h, ERROR_PRIVILEGE_NOT_HELD


class Stamp(msgspec.Struct, frozen=True):
    """What tells without reading a file whether it is still the same."""

    kind: Kind
    size: int
    mtime_ns: int


def stamp_of(path: str) -> Stamp | None:
    """Return the stamp of what lies at `path`, of a link itself; None if nothing does."""
    try:
        return stamp_from(os.lstat(system_path(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None


def stamp_from(status: os.stat_result) -> Stamp:
    """Return the stamp that `lstat` gave. Folders have no size and time of their own."""
    if stat.S_ISREG(status.st_mode):
        return Stamp("file", status.st_size, status.st_mtime_ns)
    if stat.S_ISLNK(status.st_mode) or _is_junction(status):
        return Stamp("link", status.st_size, status.st_mtime_ns)
    return Stamp("folder" if stat.S_ISDIR(status.st_mode) else "other", 0, 0)


def _is_junction(status: os.stat_result) -> bool:
    """Whether this is a Windows folder that stands for another; a walk into it may never end."""
    tag: int = getattr(status, "st_reparse_tag", 0)
    return tag != 0 and tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)


def link_digest(target: str) -> bytes:
    """Return what stands for the content of a symbolic link."""
    return digest_of(target.encode("utf-8", "surrogatepass"))


def content_digest(path: str) -> bytes | None:
    """Return the digest of a file's bytes, or of a link's target; None if it cannot be read."""
    try:
        if os.path.islink(system_path(path)):
            return link_digest(os.readlink(system_path(path)))
        return file_digest(path)
    except OSError:
        return None


def is_link_to(path: str, source: str, mode: str) -> bool:
    """Whether `path` is still the hard or symbolic link to `source` that was put there."""
    if mode == "hardlink":
        return same_file(path, source)
    try:
        return os.readlink(system_path(path)) == source
    except OSError:
        return False


def same_file(path: str, other: str) -> bool:
    """Whether both paths name one file; False if either is not there."""
    try:
        return os.path.samefile(system_path(path), system_path(other))
    except OSError:
        return False


@contextmanager
def writing_to(dest: str) -> Iterator[None]:
    """Turn a refused write into an error that names the destination and the way out."""
    try:
        yield
    except DestinationError:
        raise
    except OSError as error:
        way_out = "free some space there" if error.errno in _FULL else "see to its disk and permissions"
        raise DestinationError(
            f"{printable(dest)}: cannot write ({error.strerror or error}); nothing is lost, {way_out} "
            "and run the same command again"
        ) from error


def write_whole(path: str, lines: Iterable[bytes]) -> None:
    """Let `path` be a file of these lines once they are all on the disk, and not before."""
    fill_whole(path, lambda file: file.writelines(lines))


def fill_whole(path: str, fill: Callable[[BinaryIO], None]) -> None:
    """Let `path` be a file of what `fill` writes once all of it is on the disk, and not before."""
    os.replace(system_path(_fill_beside(path, fill)), system_path(path))


def write_beside(path: str, lines: Iterable[bytes]) -> str:
    """Write lines to the disk, and return the temporary name of the file, which is always the same for one `path`."""
    return _fill_beside(path, lambda file: file.writelines(lines))


def _fill_beside(path: str, fill: Callable[[BinaryIO], None]) -> str:
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, TEMPORARY + link_digest(name).hex()[:8])
    with open(system_path(temporary), "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def is_refusal_of_all(error: OSError) -> bool:
    """Whether an error says that the destination as a whole takes no more, rather than that this file may not."""
    return error.errno in _REFUSING


class Stager:
    """Puts pictures under temporary names, from any thread.

    Parameters
    ----------
    mode : {"copy", "hardlink", "symlink"}
        A copy shares its blocks with the source where the file system can; the first refusal is remembered.
    """

    def __init__(self, mode: str) -> None:
        put: dict[str, Callable[[str, str, int, int], Stamp | str]] = {
            "copy": self._copy,
            "hardlink": self._hardlink,
            "symlink": self._symlink,
        }
        self._mode = mode
        self._put = put[mode]
        self._clones = sys.platform == "linux"

    @property
    def shares_blocks(self) -> bool:
        """Whether copies take no space, as far as is known by now."""
        return self._mode == "copy" and self._clones

    def stage(self, source: str, size: int, mtime_ns: int, temporary: str) -> Stamp | str:
        """Put the picture at `source` under the name `temporary`, with its times.

        Returns
        -------
        Stamp or str
            What was put; or why the source cannot be used now, and then nothing is there.

        Raises
        ------
        DestinationError
            The destination does not allow this mode.
        OSError
            The destination refused the write.
        """
        put = _source_fault(source, size, mtime_ns) or self._put(source, temporary, size, mtime_ns)
        if isinstance(put, str):
            discard(temporary)
        return put

    def _copy(self, source: str, temporary: str, size: int, mtime_ns: int) -> Stamp | str:
        try:
            reader = open(system_path(source), "rb", buffering=0)  # noqa: SIM115
        except OSError:
            return UNREADABLE
        with reader, open(system_path(temporary), "xb", buffering=0) as writer:
            whole = self._clone(reader, writer) or _copy_in_kernel(reader, writer, size)
            reason = None if whole else _copy_by_hand(reader, writer)
            reason = reason or _fault(os.fstat(reader.fileno()), size, mtime_ns)
            if reason is None and _SETS_TIMES_OF_OPEN_FILES:
                os.utime(writer.fileno(), ns=(mtime_ns, mtime_ns))
                return stamp_from(os.fstat(writer.fileno()))
        if reason is None:
            os.utime(system_path(temporary), ns=(mtime_ns, mtime_ns))
        return reason or stamp_from(os.lstat(system_path(temporary)))

    def _clone(self, reader: FileIO, writer: FileIO) -> bool:
        if sys.platform != "linux" or not self._clones:
            return False
        import fcntl

        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            self._clones = False
        return self._clones

    def _hardlink(self, source: str, temporary: str, size: int, mtime_ns: int) -> Stamp | str:
        try:
            os.link(system_path(os.path.realpath(source)), system_path(temporary))
        except FileNotFoundError:
            return MISSING
        except OSError as error:
            if error.errno in _REFUSING:
                raise
            raise DestinationError(
                f"{printable(source)} cannot be hard-linked into {printable(os.path.dirname(temporary))} "
                f"({error.strerror}); nothing is lost, use --mode copy"
            ) from error
        return _source_fault(source, size, mtime_ns) or stamp_from(os.lstat(system_path(temporary)))

    def _symlink(self, source: str, temporary: str, size: int, mtime_ns: int) -> Stamp | str:
        try:
            os.symlink(source, system_path(temporary))
        except OSError as error:
            if error.errno in _REFUSING:
                raise
            way_out = "use --mode copy"
            if getattr(error, "winerror", None) == _NO_PRIVILEGE:
                way_out += ", or turn on Windows' developer mode"
            raise DestinationError(
                f"{printable(os.path.dirname(temporary))} takes no symbolic links ({error.strerror}); "
                f"nothing is lost, {way_out}"
            ) from error
        return _source_fault(source, size, mtime_ns) or stamp_from(os.lstat(system_path(temporary)))


def _source_fault(source: str, size: int, mtime_ns: int) -> str | None:
    """Return why the file at `source` is not the one that was ingested, None if it is."""
    try:
        return _fault(os.stat(system_path(source)), size, mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError:
        return UNREADABLE


def _fault(status: os.stat_result, size: int, mtime_ns: int) -> str | None:
    same = stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (size, mtime_ns)
    return None if same else CHANGED


def _copy_in_kernel(reader: FileIO, writer: FileIO, size: int) -> bool:
    """Copy without the bytes passing through this process; False, and nothing written, where that does not work."""
    if sys.platform != "linux":
        return False
    done = 0
    try:
        while done < size and (step := os.copy_file_range(reader.fileno(), writer.fileno(), size - done)):
            done += step
    except OSError as error:
        if error.errno in _REFUSING:
            raise
    if done == size:
        return True
    reader.seek(0)
    writer.seek(0)
    writer.truncate()
    return False


def _copy_by_hand(reader: FileIO, writer: FileIO) -> str | None:
    """Copy through memory; an error on the source's side is a reason, one on the destination's is raised."""
    while True:
        try:
            piece = reader.read(_PIECE_BYTES)
        except OSError:
            return UNREADABLE
        if not piece:
            return None
        view = memoryview(piece)
        while view:
            view = view[writer.write(view) :]


def discard(temporary: str) -> None:
    """Remove a temporary file, if it is there."""
    with suppress(FileNotFoundError):
        os.remove(system_path(temporary))


def name_new(old: str, new: str) -> bool:
    """Rename `old` to `new`; return False, and do nothing, if something has that name."""
    # Rename is the one call that every file system makes at once; POSIX lets it overwrite, so look right before.
    if os.path.lexists(system_path(new)):
        return False
    os.rename(system_path(old), system_path(new))
    return True


def name_over(old: str, new: str) -> None:
    """Rename `old` to `new`, in place of what is there."""
    os.replace(system_path(old), system_path(new))
    # POSIX does nothing if both are hard links to one file, which is then in its place already.
    discard(old)


def remove_file(path: str) -> None:
    """Remove a file or a link."""
    os.remove(system_path(path))


def make_folder(path: str) -> None:
    """Make a folder, if it is not there."""
    os.makedirs(system_path(path), exist_ok=True)


def remove_if_empty(folder: str) -> bool:
    """Remove a folder that holds nothing; return whether it is gone."""
    try:
        os.rmdir(system_path(folder))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
