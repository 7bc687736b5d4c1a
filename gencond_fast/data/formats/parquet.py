"""Parquet files in the layout of the Hugging Face hub: a column of images and one of labels."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gencond_fast.data.contract import (
    MAX_IMAGES,
    Block,
    Load,
    Opened,
    Split,
    files_bytes,
    files_digest,
)
from gencond_fast.data.labels import number_classes
from gencond_fast.data.skipping import BadImage
from gencond_fast.errors import InputError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMN = "label"
_ROWS_AT_ONCE = 64
_READ_BUFFER = 1 << 18


@dataclass(frozen=True)
class _Shard:
    """One file.

    Attributes:
        path: of the file.
        column: of the images.
        first: the row of its first image in the split.
        groups: int64, where its row groups start, and where the last one ends.
        bytes: the size of its images.
    """

    path: Path
    column: str
    first: int
    groups: np.ndarray
    bytes: int


class ParquetSplit(Split):
    """The rows of one or more files; reads one row group after another, a few rows at once."""

    def __init__(self, shards: list[_Shard], labels: np.ndarray) -> None:
        self._shards = shards
        self._firsts = np.array([shard.first for shard in shards])
        self.labels = labels
        self.serial_bytes = sum(shard.bytes for shard in shards) // max(len(labels), 1)

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        loads = self._loads(indices)
        while part := list(islice(loads, block)):
            yield part

    def where(self, index: int) -> str:
        """See `Split.where`."""
        shard = self._shards[int(np.searchsorted(self._firsts, index, side="right")) - 1]
        return f"row {index - shard.first} of {shard.path}"

    def pieces(self) -> np.ndarray:
        """See `Split.pieces`. They are the row groups, which are read from their start."""
        return np.unique(np.concatenate([shard.first + shard.groups for shard in self._shards]))

    def _loads(self, indices: np.ndarray) -> Iterator[Load]:
        edges = np.searchsorted(indices, [*self._firsts, len(self)])
        for shard, start, stop in zip(self._shards, edges[:-1], edges[1:], strict=True):
            if start < stop:
                try:
                    yield from self._loads_of(shard, indices[start:stop] - shard.first)
                except InputError:
                    raise
                except Exception as error:  # pages raise what they like
                    raise _damaged(shard.path, error) from error

    def _loads_of(self, shard: _Shard, rows: np.ndarray) -> Iterator[Load]:
        with _open_file(shard.path) as file:
            edges = np.searchsorted(rows, shard.groups)
            for group in np.flatnonzero(np.diff(edges)):
                wanted = rows[edges[group] : edges[group + 1]]
                first = int(shard.groups[group])
                for batch in file.iter_batches(
                    _ROWS_AT_ONCE, row_groups=[int(group)], columns=[shard.column]
                ):
                    start, stop = np.searchsorted(wanted, [first, first + batch.num_rows])
                    cells = batch.column(0)
                    if pa.types.is_struct(cells.type):
                        cells = cells.field(0)
                    for row in wanted[start:stop].tolist():
                        yield partial(self._bytes, cells[row - first], shard.first + row)
                    first += batch.num_rows
                    if first > wanted[-1]:
                        break
                else:
                    raise _damaged(shard.path, ValueError(f"group {group} has too few rows"))

    def _bytes(self, cell: pa.Scalar, index: int) -> bytes:
        data = cell.as_py()
        if data is None:
            raise BadImage(self.where(index), "has no image", "fill it in or drop the row")
        return data


def open_parquet(train: list[Path], val: list[Path], root: Path) -> Opened:
    """Opens the files of a training split and, where there are any, of a validation split.

    Each file has a column `img` or `image`, binary or struct(bytes, path), and an integer column
    `label`. Class names come from the metadata of the schema; without them they are the labels.

    Args:
        train: files in order, at least one.
        val: files in order, may be empty.
        root: the folder that file names in the fingerprint are relative to.

    Raises:
        InputError: a file is damaged, or a column is missing or has another type.
    """
    shards, labels, names = _scan(train)
    val_shards, val_labels, val_names = _scan(val) if val else ([], None, None)
    if val_names is not None and val_names != names:
        raise InputError(
            f"{val[0]} and {train[0]} name their classes differently; write both with the same "
            "class names in the same order."
        )
    location = str(train[0] if len(train) == 1 and not val else root)
    names, labels, val_labels = number_classes(labels, val_labels, names, location)
    val_split = None if val_labels is None else ParquetSplit(val_shards, val_labels)
    files = [*train, *val]
    digest = files_digest(files, root)
    return Opened(names, ParquetSplit(shards, labels), val_split, digest, files_bytes(files))


def _scan(files: list[Path]) -> tuple[list[_Shard], np.ndarray, tuple[str, ...] | None]:
    shards: list[_Shard] = []
    labels: list[np.ndarray] = []
    names: tuple[str, ...] | None = None
    first = 0
    for path in files:
        with _open_file(path) as file:
            column, sizes, size = _described(file, path)
            shards.append(_Shard(path, column, first, np.cumsum([0, *sizes]), size))
            labels.append(_labels(file, path, sum(sizes)))
            first += sum(sizes)
            names = names or _class_names(file.schema_arrow)
    return shards, np.concatenate(labels), names


def _described(file: pq.ParquetFile, path: Path) -> tuple[str, list[int], int]:
    """The column of images, the rows of each group, and the bytes of all groups."""
    try:
        column = _image_column(file.schema_arrow, path)
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        size = _group_bytes(file.metadata)
    except InputError:
        raise
    except Exception as error:  # schemas raise what they like
        raise _damaged(path, error) from error
    if not all(0 <= rows <= MAX_IMAGES for rows in (*sizes, sum(sizes))):
        raise InputError(f"{path} states {sum(sizes):,} rows; store at most {MAX_IMAGES:,}.")
    return column, sizes, size


def _image_column(schema: pa.Schema, path: Path) -> str:
    found = ", ".join(schema.names) or "none"
    for name in IMAGE_COLUMNS:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return name
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            inner = kind.field("bytes").type
            if pa.types.is_binary(inner) or pa.types.is_large_binary(inner):
                return f"{name}.bytes"
        raise InputError(
            f"{path}: the column `{name}` is {kind}; store encoded images as binary or as "
            "struct(bytes, path)."
        )
    raise InputError(
        f"{path} has no column `img` or `image` (found: {found}); rename the column of images."
    )


def _group_bytes(metadata: pq.FileMetaData) -> int:
    """The decompressed size of all columns, nearly all of which is images.

    pyarrow crashes if it is asked for the size of a single column with damaged metadata.
    """
    groups = range(metadata.num_row_groups)
    return max(sum(metadata.row_group(group).total_byte_size for group in groups), 0)


def _labels(file: pq.ParquetFile, path: Path, count: int) -> np.ndarray:
    schema = file.schema_arrow
    if LABEL_COLUMN not in schema.names:
        found = ", ".join(schema.names)
        raise InputError(
            f"{path} has no column `{LABEL_COLUMN}` (found: {found}); rename the column of labels."
        )
    kind = schema.field(LABEL_COLUMN).type
    if not pa.types.is_integer(kind):
        raise InputError(f"{path}: the column `{LABEL_COLUMN}` is {kind}; store integer labels.")
    try:
        column = file.read(columns=[LABEL_COLUMN]).column(0)
    except Exception as error:  # pages raise what they like
        raise _damaged(path, error) from error
    if len(column) != count:
        raise _damaged(path, ValueError(f"{len(column)} labels for {count} rows"))
    if column.null_count:
        raise InputError(
            f"{path}: {column.null_count} rows have no label; fill them in or drop the rows."
        )
    return column.to_numpy().astype(np.int64)


def _class_names(schema: pa.Schema) -> tuple[str, ...] | None:
    """Class names from the hub's `huggingface` metadata, or from a comma-separated `classes`."""
    metadata = schema.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        names = features[LABEL_COLUMN]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        listed = metadata.get(b"classes", b"").decode(errors="replace")
        names = listed.split(",") if listed else None
    return tuple(str(name) for name in names) if names and isinstance(names, list) else None


def _open_file(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, buffer_size=_READ_BUFFER, pre_buffer=False)
    except PermissionError as error:
        raise InputError(f"{path} may not be read; give yourself permission.") from error
    except Exception as error:  # footers raise what they like
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: Exception) -> InputError:
    first_line = (str(reason).splitlines() or [type(reason).__name__])[0]
    return InputError(f"{path} is damaged or no parquet file ({first_line}); fetch it again.")
