"""Exports that are a single file in a folder."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gencond_fast.exporting.figures import sample_grid, save_png
from gencond_fast.exporting.samples import Samples
from gencond_fast.system.files import write_atomic


def write_npz(samples: Samples, out: Path) -> Path:
    """OUT/samples.npz; see `export`."""
    arrays = {
        "images": np.concatenate(list(samples.pixels())),
        "labels": samples.labels.numpy(),
        "classes": np.array(samples.metadata.class_names),
    }
    soft = samples.soft_labels()
    if soft is not None:
        arrays["soft_labels"] = soft

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    return _write(out, "samples.npz", write)


def write_webdataset(samples: Samples, out: Path) -> Path:
    """OUT/samples.tar; see `export`. One set gives the same bytes each time."""

    def write(temporary: Path) -> None:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in _members(samples):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    return _write(out, "samples.tar", write)


def _members(samples: Samples) -> Iterator[tuple[str, bytes]]:
    names, soft = samples.metadata.class_names, samples.soft_labels()
    pngs = itertools.chain.from_iterable(samples.pngs())
    for place, (label, png) in enumerate(zip(samples.labels.tolist(), pngs, strict=True)):
        key = f"{place:08d}"
        yield f"{key}.png", png
        yield f"{key}.cls", str(label).encode()
        yield (
            f"{key}.txt",
            names[label].encode(errors="surrogateescape"),
        )  # bytes of a name that is no UTF-8
        if soft is not None:
            array = io.BytesIO()
            np.save(array, soft[place])
            yield f"{key}.soft.npy", array.getvalue()


def write_parquet(samples: Samples, out: Path) -> Path:
    """OUT/train-00000-of-00001.parquet; see `export`."""
    soft = samples.soft_labels()
    schema = _schema(samples, soft is not None)
    labels = samples.labels.numpy()

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
            done = 0
            for pngs in samples.pngs():
                rows = slice(done, done + len(pngs))
                done += len(pngs)
                cells = [
                    {"bytes": png, "path": f"{rows.start + i:08d}.png"}
                    for i, png in enumerate(pngs)
                ]
                columns = {"image": cells, "label": labels[rows]}
                if soft is not None:
                    columns["soft_label"] = list(soft[rows])
                writer.write_table(pa.table(columns, schema))

    return _write(out, "train-00000-of-00001.parquet", write)


def _schema(samples: Samples, soft: bool) -> pa.Schema:
    """Columns, and what the hub's `datasets` takes them for."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [("image", kind), ("label", pa.int64())]
    names = list(samples.metadata.class_names)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    if soft:
        fields.append(("soft_label", pa.list_(pa.float32())))
        value = {"dtype": "float32", "_type": "Value"}
        features["soft_label"] = {"feature": value, "_type": "Sequence"}
    described = json.dumps({"info": {"features": features}})
    return pa.schema(fields, metadata={"huggingface": described})


def write_grid(samples: Samples, out: Path) -> Path:
    """OUT/samples.png; see `export`."""
    names, store = samples.metadata.class_names, samples.artifact.store
    out.mkdir(parents=True, exist_ok=True)
    save_png(sample_grid(store, names, columns=samples.per_class), out / "samples.png")
    return out / "samples.png"


def _write(out: Path, name: str, write: Callable[[Path], None]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / name, write)
    return out / name
