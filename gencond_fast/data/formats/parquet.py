"""Parquet files in the layout of the Hugging Face hub: a column of images and one of labels."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gencond_fast.data.contract import MAX_IMAGES, Block, Load, Opened, Split
from gencond_fast.data.formats.assembling import assemble
from gencond_fast.data.formats.columns import (
    Coded,
    coded_labels,
    image_column,
    label_column,
    merge_codes,
)
from gencond_fast.data.formats.finding import Found
from gencond_fast.data.skipping import BadImage
from gencond_fast.errors import InputError

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


def open_parquet(found: Found, root: Path, label: str | None) -> Opened:
    """Opens the files of a training split and of splits to test on.

    Args:
        found: the files of each split.
        root: the folder that file names in the fingerprint are relative to.
        label: the column of labels; None looks for one, see `columns.label_column`.

    Raises:
        InputError: a file is damaged, or a column is missing or has another type.
    """
    notes = list(found.notes)
    train = [_scan(path, label, notes, needed=True) for path in found.train]
    tests = {
        name: [_scan(path, label, notes, needed=False) for path in files]
        for name, files in found.tests.items()
    }
    scanned = [*train, *(part for parts in tests.values() for part in parts)]
    codes, names = merge_codes([(part.shard.path, part.labels) for part in scanned])
    coded = iter(codes)
    # the numbering of all files is one, so they are merged together and taken apart again
    pairs = [(parts, [next(coded) for _ in parts]) for parts in (train, *tests.values())]
    splits = [
        (np.concatenate(labels), partial(ParquetSplit, _lined_up(parts))) for parts, labels in pairs
    ]
    files = [part.shard.path for part in scanned]
    return assemble(
        splits[0],
        dict(zip(tests, splits[1:], strict=True)),
        names,
        location=str(files[0] if len(files) == 1 else root),
        files=files,
        root=root,
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(frozen=True, eq=False)
class _Scanned:
    """A file by itself, as the first one of a split, and its labels."""

    shard: _Shard
    labels: Coded


def _lined_up(parts: list[_Scanned]) -> list[_Shard]:
    """The files of a split, each with the row of its first image."""
    firsts = np.cumsum([0, *(len(part.labels.codes) for part in parts)]).tolist()
    return [replace(part.shard, first=first) for part, first in zip(parts, firsts, strict=False)]


def _scan(path: Path, label: str | None, notes: list[str], *, needed: bool) -> _Scanned:
    with _open_file(path) as file:
        column, sizes, size = _described(file, path)
        name, note = label_column(file.schema_arrow, label, path)
        notes += [] if note is None else [note]
        shard = _Shard(path, column, 0, np.cumsum([0, *sizes]), size)
        try:
            labels = file.read(columns=[name]).column(0)
        except Exception as error:  # pages raise what they like
            raise _damaged(path, error) from error
        if len(labels) != sum(sizes):
            raise _damaged(path, ValueError(f"{len(labels)} labels for {sum(sizes)} rows"))
        try:
            coded = coded_labels(labels, file.schema_arrow, name, path, needed=needed)
        except (pa.ArrowException, UnicodeDecodeError) as error:  # texts that are none
            raise _damaged(path, error) from error
        return _Scanned(shard, coded)


def _described(file: pq.ParquetFile, path: Path) -> tuple[str, list[int], int]:
    """The column of images, the rows of each group, and the bytes of all groups."""
    try:
        column = image_column(file.schema_arrow, path)
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        size = _group_bytes(file.metadata)
    except InputError:
        raise
    except Exception as error:  # schemas raise what they like
        raise _damaged(path, error) from error
    if not all(0 <= rows <= MAX_IMAGES for rows in (*sizes, sum(sizes))):
        raise InputError(f"{path} states {sum(sizes):,} rows; store at most {MAX_IMAGES:,}.")
    return column, sizes, size


def _group_bytes(metadata: pq.FileMetaData) -> int:
    """The decompressed size of all columns, nearly all of which is images.

    pyarrow crashes if it is asked for the size of a single column with damaged metadata.
    """
    groups = range(metadata.num_row_groups)
    return max(sum(metadata.row_group(group).total_byte_size for group in groups), 0)


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
