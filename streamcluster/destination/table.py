"""The table of pictures that lies beside the folders: Hugging Face's ImageFolder convention, `file_name` first.

https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import BinaryIO

from streamcluster.destination.place import writing_to
from streamcluster.errors import DestinationError
from streamcluster.runtime.paths import printable, system_path

COLUMNS = (
    *("file_name", "source", "cluster", "distance", "width", "height"),
    *("brightness", "sharpness", "size", "digest"),
    *("duplicate_group", "duplicate_kept", "junk_score", "flags"),
)
#: Columns of a row, and of Parquet's table: with a place on the map.
ALL_COLUMNS = (*COLUMNS, "x", "y")
Value = str | int | float | None
Row = tuple[Value, ...]
#: What a table begins with, of older versions too.
_FIRST_COLUMNS = ",".join(COLUMNS[:10]).encode()
_QUOTED = re.compile('[,"\r\n]')
_HEADER = (",".join(COLUMNS) + "\n").encode()


def shown(path: str) -> str:
    r"""Return a path as the table has it: bytes that are no text written with backslashes.

    >>> shown("bad\udcff.png")
    'bad\\udcff.png'
    """
    return path.encode("utf-8", "backslashreplace").decode()


def table_lines(rows: Iterable[Row]) -> Iterable[bytes]:
    """Yield the table's lines, the header first, of rows that may have more columns."""
    yield _HEADER
    for row in rows:
        yield (",".join(map(_field, row[: len(COLUMNS)])) + "\n").encode("utf-8", "backslashreplace")


def _field(value: Value) -> str:
    """Return one field; csv.writer would leave a lone carriage return unquoted."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.7g}"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def is_table(file: BinaryIO) -> bool:
    """Whether this is such a table, of any version."""
    return file.readline().startswith(_FIRST_COLUMNS)


def check_table_path(path: str, is_table: Callable[[BinaryIO], bool] = is_table) -> None:
    """Refuse to write a table where something else is.

    Parameters
    ----------
    path : str
    is_table : callable
        Whether an open file is a table of this command.

    Raises
    ------
    DestinationError
        A folder, a file that is not such a table, or the table of an exported folder lies at `path`.
    """
    where = printable(path)
    if os.path.isdir(system_path(path)):
        raise DestinationError(f"{where} is a folder; --manifest-only takes a file, such as {where}/pictures.csv")
    folder, name = os.path.split(path)
    of_export = os.path.isdir(system_path(os.path.join(folder, ".streamcluster")))
    if of_export and name in ("metadata.csv", "duplicates.csv"):
        raise DestinationError(f"{where} is the table of an export; give another name")
    with writing_to(path):
        if not os.path.lexists(system_path(path)):
            return
        with open(system_path(path), "rb") as file:
            if is_table(file):
                return
    raise DestinationError(f"{where} is not a table that this command wrote; give another name, or move it away")


def relative_name(source: str, folder: str) -> str:
    """Return what `file_name` is in a table in `folder`: relative if the picture lies below it, else absolute.

    Both load: readers join it to the table's folder, and joining an absolute path gives that path.
    """
    root = os.path.join(folder, "")
    name = source[len(root) :] if source.startswith(root) else source
    return name.replace(os.sep, "/")
