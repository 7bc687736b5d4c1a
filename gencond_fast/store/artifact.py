"""The condensed file: one safetensors file, no pickle, validated on load, written atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated
from safetensors import torch as safetensors_torch
from torch import Tensor

from gencond_fast.errors import InputError, RunError
from gencond_fast.store.labeller import Labeller, LabellerSpec, labeller_layout
from gencond_fast.store.soft_labels import check_soft_labels
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet
from gencond_fast.store.stores import build_store, storage_layout
from gencond_fast.system.default_dtype import float32_default
from gencond_fast.system.files import write_atomic

FORMAT_VERSION = 5  # the latest that is read
FILE_NAME = "condensed.safetensors"
_KEY = "gencond_fast"
# in the order in which safetensors writes tensors
_SAFETENSORS_TYPES = {
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int8: "I8",
    torch.uint8: "U8",
}
_ORDER = list(_SAFETENSORS_TYPES)
# of a stored set, by the version that they came with
_LATER_SIZES = {2: ("soft_labels", "coefficients", "stream_bytes"), 3: ("label_bytes",)}
_MAX_HEADER = 100_000_000  # safetensors' own bound


@validated(frozen=True, config=ConfigDict(extra="ignore"))
class Metadata:
    """What the file says about itself. Unknown entries of a later version are ignored.

    Attributes:
        store: shapes and format of the stored set.
        class_names: one name a class.
        mean: of the real training images, one number a channel, images in [0, 1].
        std: likewise.
        budget: bytes the file was allowed to weigh.
        made: how it was made: options that differ from the defaults, versions, data fingerprint or
            privacy guarantee.
        labeller: of the network in the file that labels augmented views; None where there is none.
    """

    store: StoreSpec
    class_names: tuple[str, ...]
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    std: tuple[Annotated[float, Field(gt=0.0, allow_inf_nan=False)], ...]
    budget: Annotated[int, Field(ge=1)]
    made: dict[str, Any] = field(default_factory=dict)
    labeller: LabellerSpec | None = None

    def __post_init__(self) -> None:
        if len(self.class_names) != self.store.num_classes:
            raise ValueError("there is not one class name for each class")
        if not len(self.mean) == len(self.std) == self.store.channels:
            raise ValueError("mean and std must have one number a channel")

    @property
    def version(self) -> int:
        """Of the format: the first whose readers look for all that there is."""
        if self.labeller is not None:
            return 5
        if self.store.format == "generator":
            return 4
        if self.store.label_bytes:
            return 3
        return 2 if self.store.soft_labels or self.store.format == "dct" else 1


@dataclass(frozen=True)
class Artifact:
    """A condensed set in memory.

    Attributes:
        metadata: what the file says about itself.
        store: decodes the stored samples.
        size: bytes on disk.
        labeller: the network that labels augmented views, if there is one.
    """

    metadata: Metadata
    store: StoredSet
    size: int
    labeller: Labeller | None = None

    def require_soft_labels(self, path: str | Path, *, stored: bool = False) -> None:
        """Raises InputError, naming the file, unless it holds soft labels, or a labeller.

        Args:
            path: of the file.
            stored: whether a labeller will not do.
        """
        if not self.metadata.store.soft_labels and (stored or self.labeller is None):
            raise InputError(
                f"{path} holds hard labels alone: add soft ones with `gencond-fast relabel`, or "
                "condense with --soft-labels"
            )


def save(
    path: str | Path, store: StoredSet, metadata: Metadata, labeller: Labeller | None = None
) -> int:
    """Writes a condensed file atomically and returns its size in bytes.

    `labeller` is there where the metadata describe one.

    Raises:
        RunError: the set holds numbers that are not finite, which no reader would take.
        OSError: the place cannot be written or the disk is full; nothing is left behind.
    """
    _refuse_infinite(store.state_dict())  # before they are rounded to whole numbers
    stored = store.to_storage() | (labeller.to_storage() if labeller else {})
    tensors = {name: tensor.cpu().contiguous() for name, tensor in stored.items()}
    _refuse_infinite(tensors)  # and what float16 does not reach
    header = {_KEY: _encode(metadata, _checksum(metadata, tensors))}
    target = Path(path)
    # save_file would not raise OSError when the disk is full
    content = safetensors_torch.save(tensors, header)
    write_atomic(target, lambda temporary: temporary.write_bytes(content))
    return target.stat().st_size


def load(path: str | Path) -> Artifact:
    """Opens a condensed file, or the one in a run directory.

    Nothing in the file is executed, and no more is allocated than it carries or, of coded
    frequencies and labels, than `StoreSpec` allows for the bytes that it carries.

    Raises:
        InputError: it is missing, truncated, damaged, of a later format, or something else.
    """
    target = Path(path)
    if target.is_dir():
        target = target / FILE_NAME
    if not target.is_file():
        raise InputError(f"{target} does not exist: condense first, or give the path of a run")
    try:
        content = target.read_bytes()
        text = _read_header(content).get("__metadata__", {}).get(_KEY)
        if text is None:
            raise ValueError("it was not written by gencond-fast")
        fields = json.loads(text)
        version = fields["version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise InputError(
                f"{target} is of format version {version}, this program reads up to "
                f"{FORMAT_VERSION}: upgrade gencond-fast"
            )
        if type(version) is int and 1 <= version < 4 and fields["store"]["format"] == "generator":
            raise InputError(
                f"{target} holds a decoder of an earlier gencond-fast, which this version does not "
                "read any more: condense again"
            )
        metadata: Metadata = TypeAdapter(Metadata).validate_python(fields)
        if version != metadata.version:
            raise ValueError("its version does not fit its content")
        tensors = safetensors_torch.load(content)
        _check(metadata, tensors, fields.get("checksum"))
        with float32_default:
            store = build_store(metadata.store)
            store.load_storage(tensors)
            labeller = _labeller(metadata, tensors)
    except OSError as error:
        raise InputError(f"{target} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise _damaged(target, f"{place}: {problem['msg']}") from None
    except InputError:
        raise
    except Exception as error:  # parsers raise nearly anything on hostile bytes
        raise _damaged(target, str(error).splitlines()[0] if str(error) else "no content") from None
    return Artifact(metadata, store.eval().requires_grad_(False), len(content), labeller)


def file_size(metadata: Metadata) -> int:
    """Exact bytes of the file that `save` writes for a set described so, without building it."""
    layout = _layout(metadata)
    entries: dict[str, Any] = {"__metadata__": {_KEY: _encode(metadata, "0" * 16)}}
    start = 0
    for name, tensor in sorted(layout.items(), key=lambda i: (_ORDER.index(i[1].dtype), i[0])):
        end = start + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _SAFETENSORS_TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    header = len(json.dumps(entries, separators=(",", ":")))
    return 8 + (header + 7) // 8 * 8 + start


def _layout(metadata: Metadata) -> dict[str, Tensor]:
    layout = storage_layout(metadata.store)
    return layout | labeller_layout(metadata.labeller, metadata.store)


def _labeller(metadata: Metadata, tensors: dict[str, Tensor]) -> Labeller | None:
    if metadata.labeller is None:
        return None
    labeller = Labeller(metadata.labeller, metadata.store)
    labeller.load_storage(tensors)
    return labeller


def _read_header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(_MAX_HEADER, len(content) - 8):
        raise ValueError("it is cut short or no safetensors file")
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError("its header is not an object")
    return header


def _refuse_infinite(tensors: Mapping[str, Tensor]) -> None:
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise RunError(
            "the stored set holds numbers that are not finite: lower training.match_lr or "
            "training.warm_lr and start in a new directory"
        )


def _check(metadata: Metadata, tensors: dict[str, Tensor], checksum: object) -> None:
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    layout = _layout(metadata)
    if found != {name: (tensor.dtype, tensor.shape) for name, tensor in layout.items()}:
        raise ValueError("its tensors do not have the shapes that it states")
    if checksum != _checksum(metadata, tensors):
        raise ValueError("its checksum does not match its content")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("it holds numbers that are not finite")
    check_soft_labels(metadata.store, tensors)


def _checksum(metadata: Metadata, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(_dump(_fields(metadata)))
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()[:16]


def _encode(metadata: Metadata, checksum: str) -> str:
    return _dump(_fields(metadata) | {"checksum": checksum}).decode()


def _fields(metadata: Metadata) -> dict[str, Any]:
    fields = TypeAdapter(Metadata).dump_python(metadata, mode="json")
    if metadata.labeller is None:
        del fields["labeller"]
    for version, names in _LATER_SIZES.items():
        if metadata.version < version:  # had no such fields, and its readers want none
            for name in names:
                del fields["store"][name]
    return fields | {"version": metadata.version}


def _dump(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), sort_keys=True).encode()


def _damaged(path: Path, reason: str) -> InputError:
    # the reason may quote the file: a stranger's text is kept short and on one line
    reason = "".join(c if c.isprintable() else "?" for c in reason[:200])
    return InputError(f"{path} is no usable condensed file ({reason}): fetch or condense it again")
