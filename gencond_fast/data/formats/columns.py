"""Tables of images and labels: which column is which, and what the labels of a column mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gencond_fast.data.text import clean_name, decode_text
from gencond_fast.errors import InputError
from gencond_fast.system.words import counted

IMAGE_COLUMNS = ("image", "img", "pixel_values", "images", "png", "jpg", "jpeg", "webp")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "targets", "class", "category", "cls")


@dataclass(frozen=True, eq=False)
class Coded:
    """The labels of one file.

    Attributes:
        codes: int64 [N]; -1 where a row has none.
        names: what the codes stand for; None where they stand for themselves.
        closed: whether the file lists all classes, and not just those of its rows.
    """

    codes: np.ndarray
    names: tuple[str, ...] | None
    closed: bool


def image_column(schema: pa.Schema, path: Path) -> str:
    """The column of encoded images, with `.bytes` behind it where they lie in a structure.

    That is one of `IMAGE_COLUMNS`, else the one that the hub's metadata calls an image, else the
    only one of bytes.

    Raises:
        InputError: there is none, or its type holds no encoded images.
    """
    known = [name for name in IMAGE_COLUMNS if name in schema.names]
    features = _features(schema)
    known += [name for name in schema.names if _type_of(features, name) == "Image"]
    binary = [name for name in schema.names if _holds_bytes(schema.field(name).type)]
    if not known and len(binary) != 1:
        raise InputError(
            f"{path} has no column of images such as `image` or `img` (found: "
            f"{', '.join(schema.names) or 'none'}); rename the column of images."
        )
    name = next((each for each in known if each in binary), known[0] if known else binary[0])
    if name not in binary:
        raise InputError(
            f"{path}: the column `{name}` is {schema.field(name).type}; store encoded images as "
            "binary or as struct(bytes, path)."
        )
    return f"{name}.bytes" if pa.types.is_struct(schema.field(name).type) else name


def label_column(schema: pa.Schema, wanted: str | None, path: Path) -> tuple[str, str | None]:
    """The column of labels, and a line about others that might be meant.

    That is the one wanted, else one of `LABEL_COLUMNS`, else the only one that the hub's metadata
    calls a class label.

    Raises:
        InputError: there is none, or the one wanted is missing.
    """
    names = schema.names
    if wanted is not None:
        if wanted in names:
            return wanted, None
        raise InputError(f"{path} has no column {wanted!r} (found: {', '.join(names)}).")
    features = _features(schema)
    marked = [name for name in names if _type_of(features, name) == "ClassLabel"]
    known = [name for name in LABEL_COLUMNS if name in names]
    if not known and len(marked) != 1:
        raise InputError(
            f"{path} has no column of labels such as `label` (found: {', '.join(names)}); name it "
            "with --label-column."
        )
    chosen = (known or marked)[0]
    others = sorted({*known, *marked} - {chosen})
    if not others:
        return chosen, None
    return chosen, (
        f"labels: from the column {chosen}; {', '.join(others)} would do as well "
        "(--label-column chooses)"
    )


def coded_labels(
    column: pa.ChunkedArray, schema: pa.Schema, name: str, path: Path, *, needed: bool
) -> Coded:
    """The labels of a column of integers, truth values, texts or categories.

    Args:
        column: the labels.
        schema: of the file.
        name: of the column.
        path: of the file, for messages.
        needed: whether each row needs a label.

    Raises:
        InputError: the column has another type, or a label that is needed is missing.
    """
    kind = column.type
    if column.null_count and needed:
        raise InputError(
            f"{path}: {counted(column.null_count, 'row')} without a label; fill them in or drop "
            "them."
        )
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind):
        filled = column.fill_null(-1) if column.null_count else column
        listed = _class_names(schema, name)
        return Coded(filled.to_numpy().astype(np.int64), listed, listed is not None)
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = [None if value is None else str(value) for value in column.to_pylist()]
        names = tuple(sorted({value for value in values if value is not None}))
        code: dict[str | None, int] = {value: k for k, value in enumerate(names)}
        codes = np.array([code.get(value, -1) for value in values], dtype=np.int64)
        return Coded(codes, names, False)
    raise InputError(
        f"{path}: the column `{name}` is {kind}; store integer labels or names of classes."
    )


def merge_codes(
    parts: Sequence[tuple[Path, Coded]],
) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
    """The labels of several files with one numbering, and the names in its order.

    Files that list the same classes in another order are renumbered by name.

    Raises:
        InputError: two files list different classes.
    """
    named = [(path, part) for path, part in parts if part.names is not None]
    if not named:
        return [part.codes for _, part in parts], None
    first_path, first = next(((path, part) for path, part in named if part.closed), named[0])
    assert first.names is not None
    names = first.names
    if not first.closed:
        names = tuple(sorted({name for _, part in named for name in part.names or ()}))
    number = {name: k for k, name in enumerate(names)}
    merged = []
    for path, part in parts:
        if part.names is None or part.names == names:
            merged.append(part.codes)
            continue
        # names that stand twice cannot tell where a number belongs
        same = sorted(part.names) == sorted(number) if part.closed else set(part.names) <= {*number}
        if not same:
            raise InputError(
                f"{path} and {first_path} name different classes; write both with the same class "
                "names."
            )
        places = [number[name] for name in part.names]
        merged.append(np.array([*places, -1], dtype=np.int64)[part.codes])
    return merged, names


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What the hub's metadata says about the columns; empty where there is none."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _type_of(features: dict[str, Any], name: str) -> object:
    feature = features.get(name)
    return feature.get("_type") if isinstance(feature, dict) else None


def _class_names(schema: pa.Schema, name: str) -> tuple[str, ...] | None:
    """Class names from the hub's metadata, or from a comma-separated `classes`."""
    feature = _features(schema).get(name)
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list):
        listed = decode_text((schema.metadata or {}).get(b"classes", b""))
        names = listed.split(",") if listed else None
    return tuple(clean_name(str(each)) for each in names) if names else None
