"""Arrow files in the layout of `datasets.save_to_disk`: mapped into memory, read on demand."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from gencond_fast.data.contract import Block, Opened, Split
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

_STATE = "state.json"


@dataclass(frozen=True, eq=False)
class _Shard:
    """One file, its column of images mapped and its labels in memory."""

    path: Path
    images: pa.ChunkedArray
    labels: Coded


class ArrowSplit(Split):
    """The rows of one or more files; each image can be read by itself."""

    def __init__(self, shards: list[_Shard], labels: np.ndarray) -> None:
        self._shards = shards
        self._firsts = np.cumsum([0, *(len(shard.images) for shard in shards)])
        self.labels = labels

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        for start in range(0, len(indices), block):
            yield [partial(self._bytes, row) for row in indices[start : start + block].tolist()]

    def where(self, index: int) -> str:
        """See `Split.where`."""
        shard, row = self._place(index)
        return f"row {row} of {shard.path}"

    def _place(self, index: int) -> tuple[_Shard, int]:
        number = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._shards[number], index - int(self._firsts[number])

    def _bytes(self, index: int) -> bytes:
        shard, row = self._place(index)
        try:
            data = shard.images[row].as_py()
        except Exception as error:  # cells raise what they like
            raise _damaged(shard.path, error) from error
        if isinstance(data, dict):
            data = data["bytes"]
        if data is None:
            raise BadImage(self.where(index), "has no image", "fill it in or drop the row")
        return bytes(data)


def open_arrow(found: Found, root: Path, label: str | None) -> Opened:
    """Opens the files of a training split and of splits to test on.

    Args:
        found: the files of each split.
        root: the folder that file names in the fingerprint are relative to.
        label: the column of labels; None looks for one, see `columns.label_column`.

    Raises:
        InputError: a file is damaged or missing, or a column is missing or has another type.
    """
    notes = list(found.notes)
    train = [_scan(path, label, notes, needed=True) for path in found.train]
    tests = {
        name: [_scan(path, label, notes, needed=False) for path in files]
        for name, files in found.tests.items()
    }
    every = [*train, *(shard for shards in tests.values() for shard in shards)]
    for folder in {shard.path.parent for shard in every}:
        _check_state(folder)
    codes, names = merge_codes([(shard.path, shard.labels) for shard in every])
    coded = iter(codes)
    splits = [
        (np.concatenate([next(coded) for _ in shards]), partial(ArrowSplit, shards))
        for shards in (train, *tests.values())
    ]
    return assemble(
        splits[0],
        dict(zip(tests, splits[1:], strict=True)),
        names,
        location=str(every[0].path if len(every) == 1 else root),
        files=[shard.path for shard in every],
        root=root,
        notes=tuple(dict.fromkeys(notes)),
    )


def _scan(path: Path, label: str | None, notes: list[str], *, needed: bool) -> _Shard:
    table = _mapped(path)
    try:
        table.validate(full=True)  # offsets that lead nowhere would end the process
        column = image_column(table.schema, path).removesuffix(".bytes")
        name, note = label_column(table.schema, label, path)
        labels = coded_labels(table.column(name), table.schema, name, path, needed=needed)
    except InputError:
        raise
    except Exception as error:  # columns raise what they like
        raise _damaged(path, error) from error
    notes += [] if note is None else [note]
    return _Shard(path, table.column(column), labels)


def _mapped(path: Path) -> pa.Table:
    try:
        source = pa.memory_map(str(path))
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_file(source).read_all()
    except PermissionError as error:
        raise InputError(f"{path} may not be read; give yourself permission.") from error
    except Exception as error:  # schemas raise what they like
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path} is damaged or no Arrow file ({reason}); write it again.")


def _check_state(folder: Path) -> None:
    """Refuses a folder of `save_to_disk` that lacks a file, or whose rows were chosen later."""
    try:
        state = json.loads((folder / _STATE).read_bytes())
        files = [str(each["filename"]) for each in state["_data_files"]]
        chosen = state.get("_indices_data_files") or state.get("_indices_files")
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / _STATE} is damaged ({error}); write it again.") from error
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        raise InputError(f"{folder} lacks {missing[0]}, which {_STATE} names; fetch it.")
    if chosen:
        raise InputError(
            f"{folder} holds a choice of rows (_indices_data_files); call flatten_indices() before "
            "save_to_disk()."
        )
