"""The table of pictures as Parquet, with each picture's place on the map. The only door to pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from streamcluster.destination.table import ALL_COLUMNS, Row, shown
from streamcluster.errors import MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows in memory at a time, which become a row group. A process that writes 50,000 rows peaks at 183 MiB, of which
#: 91 are pyarrow as it is imported; 199 with twice as many rows in a group, and 203 for 200,000 rows.
GROUP_ROWS: Final = 8_192
ENDING: Final = ".parquet"

#: Arrow's names of the types; any value but the first nine columns' may be missing.
_TYPES: Final = {
    **dict.fromkeys(("file_name", "source", "digest", "flags"), "string"),
    **dict.fromkeys(("cluster", "width", "height"), "int32"),
    **dict.fromkeys(("distance", "brightness", "sharpness", "junk_score", "x", "y"), "float32"),
    **dict.fromkeys(("size", "duplicate_group"), "int64"),
    "duplicate_kept": "bool",
}


def is_parquet_name(path: str) -> bool:
    """Whether a table of this name is to be Parquet."""
    return path.lower().endswith(ENDING)


def check_pyarrow() -> None:
    """Raise MissingExtraError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "give the table a name that ends in .csv") from None


def write_table(rows: Iterable[Row], file: BinaryIO) -> None:
    """Write rows of `ALL_COLUMNS`, a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            columns = zip(*batch, strict=True)
            arrays = [pa.array(map(_text, column), field.type) for field, column in zip(schema, columns, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=GROUP_ROWS)


def is_table(file: BinaryIO) -> bool:
    """Whether this is such a table, of any version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return set(pq.read_schema(file).names) >= {"file_name", "source", "cluster", "digest"}
    except (pa.ArrowException, OSError):
        return False


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(_TYPES[name])) for name in ALL_COLUMNS])


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, GROUP_ROWS)):
        yield batch


def _text(value: Any) -> Any:
    """Return a value as Parquet takes it: text must be UTF-8."""
    return shown(value) if isinstance(value, str) else value
