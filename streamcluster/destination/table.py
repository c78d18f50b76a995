"""The table of pictures that lies beside the folders: Hugging Face's ImageFolder convention, `file_name` first.

https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from streamcluster.destination.place import writing_to
from streamcluster.errors import DestinationError
from streamcluster.runtime.paths import printable, system_path

COLUMNS = (
    *("file_name", "source", "cluster", "distance", "width", "height"),
    *("brightness", "sharpness", "size", "digest"),
)
_QUOTED = re.compile('[,"\r\n]')
_HEADER = (",".join(COLUMNS) + "\n").encode()


def shown(path: str) -> str:
    r"""Return a path as the table has it: bytes that are no text written with backslashes.

    >>> shown("bad\udcff.png")
    'bad\\udcff.png'
    """
    return path.encode("utf-8", "backslashreplace").decode()


def table_lines(rows: Iterable[tuple[str | int | float, ...]]) -> Iterable[bytes]:
    """Yield the table's lines, the header first."""
    yield _HEADER
    for row in rows:
        yield (",".join(map(_field, row)) + "\n").encode("utf-8", "backslashreplace")


def _field(value: str | int | float) -> str:
    """Return one field; csv.writer would leave a lone carriage return unquoted."""
    if isinstance(value, float):
        return f"{value:.7g}"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def check_table_path(path: str) -> None:
    """Refuse to write a table where something else is.

    Raises
    ------
    DestinationError
        A folder, a file that is not such a table, or the table of an exported folder lies at `path`.
    """
    where = printable(path)
    if os.path.isdir(system_path(path)):
        raise DestinationError(f"{where} is a folder; --manifest-only takes a file, such as {where}/pictures.csv")
    folder, name = os.path.split(path)
    if name == "metadata.csv" and os.path.isdir(system_path(os.path.join(folder, ".streamcluster"))):
        raise DestinationError(f"{where} is the table of an export; give another name")
    with writing_to(path):
        if not os.path.lexists(system_path(path)):
            return
        with open(system_path(path), "rb") as file:
            if file.readline() == _HEADER:
                return
    raise DestinationError(f"{where} is not a table that this command wrote; give another name, or move it away")


def relative_name(source: str, folder: str) -> str:
    """Return what `file_name` is in a table in `folder`: relative if the picture lies below it, else absolute.

    Both load: readers join it to the table's folder, and joining an absolute path gives that path.
    """
    root = os.path.join(folder, "")
    name = source[len(root) :] if source.startswith(root) else source
    return name.replace(os.sep, "/")
