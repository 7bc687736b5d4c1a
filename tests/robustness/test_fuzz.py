"""Spoilt files in every reader: refused in a sentence, soon, in bounded memory, leaving nothing."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_builders import pictures, png_header, tar_members, write_parquet, write_tar, write_tree

from gencond_fast.condensation.checkpoint import load_checkpoint
from gencond_fast.condensation.state import save_state
from gencond_fast.config import Config
from gencond_fast.config.options import parse, read_yaml
from gencond_fast.data import open_source
from gencond_fast.data.decode import decode
from gencond_fast.data.skipping import BadImage
from gencond_fast.data.stream import stream
from gencond_fast.errors import InputError
from tests.robustness.fuzz import attempt, bounded
from tests.robustness.hostile import spoil
from tests.robustness.readable import TARGETS


@pytest.fixture(autouse=True, scope="module")
def _here(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENCOND_FAST_CACHE", str(tmp_path_factory.mktemp("fuzz-cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "given" / "file"


@pytest.mark.parametrize("name", TARGETS)
def test_spoilt_files(folder, name):
    target = TARGETS[name]
    seeds = target.seeds()
    place = folder / name.replace(", ", "-")
    assert attempt(target, target.seal(seeds[0]), place), "a sound file is taken"

    @given(content=st.sampled_from(seeds), rng=st.randoms(use_true_random=False))
    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    def check(content, rng):
        attempt(target, target.seal(spoil(content, rng, target.edits)), place)

    with bounded():
        check()


def refusal(read, *arguments) -> str:
    with bounded(), pytest.raises(InputError) as caught:
        read(*arguments)
    return str(caught.value)


def read(path) -> None:
    for _ in stream(
        open_source(str(path), reader="threads").train,
        channels=3, image_size=8, batch_size=4, workers=1,
    ):  # fmt: skip
        pass


def arrays(path: Path, header: str, data: bytes = b"", kind: int = zipfile.ZIP_STORED) -> Path:
    """An archive whose images have such a header before such bytes, and six labels."""
    text = f"{header}\n".encode()
    labels = io.BytesIO()
    np.save(labels, np.arange(6) % 2)
    with zipfile.ZipFile(path, "w", kind) as archive:
        lead = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text))
        archive.writestr("images.npy", lead + text + data)
        archive.writestr("labels.npy", labels.getvalue())
    return path


def plain(shape: str) -> str:
    return f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (plain("(6, -8, -8)"), bytes(384)),
        (plain("(6, 100000, 100000)"), b""),
        (plain("(6, 8, 8), []: 1"), bytes(384)),
        (plain("(" * 4000), b""),
        (plain("6"), bytes(6)),
    ],
)
def test_headers_of_arrays_that_lie(tmp_path, header, data):
    refusal(read, arrays(tmp_path / "a.npz", header, data))


def test_arrays_in_folders_of_an_archive_are_no_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("inner/images.npy", b"")
        archive.writestr("inner/labels.npy", b"")
    assert "has no array `images`" in refusal(read, tmp_path / "a.npz")


def test_an_archive_that_claims_to_unfold_without_end(tmp_path):
    path = arrays(tmp_path / "a.npz", plain("(6, 8, 8)"), bytes(384), zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02")
    path.write_bytes(content[: at + 24] + struct.pack("<I", 2**31) + content[at + 28 :])
    assert "claims more than the file holds" in refusal(read, path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unbounded_compression_is_refused(tmp_path, kind):
    path = arrays(tmp_path / "a.npz", plain("(6, 8, 8)"), bytes(384), kind)
    assert "compressed in another way" in refusal(read, path)


@pytest.mark.parametrize("names", [5, "ab", {"a": 1}, "[" * 5000])
def test_class_names_of_a_table_that_are_no_list(tmp_path, names):
    about = json.dumps({"info": {"features": {"label": {"names": names}}}})
    png = pictures(1)[0].png
    path = write_parquet(
        tmp_path / "a.parquet", [png, png], [0, 1],
        metadata={"huggingface": names if isinstance(names, str) and "[" in names else about},
    )  # fmt: skip
    assert open_source(str(path)).class_names == ("0", "1")


def test_every_bit_where_the_footer_of_a_table_begins(folder):
    """Of columns' metadata that are damaged there pyarrow has ended the whole process."""
    target = TARGETS["parquet"]
    content = target.seeds()[0]
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    with bounded():
        for bit in range(8 * 40):
            spoilt = bytearray(content)
            spoilt[footer + bit // 8] ^= 1 << bit % 8
            attempt(target, bytes(spoilt), folder / "bits")


def test_a_table_that_holds_fewer_rows_than_it_did_when_it_was_opened(tmp_path):
    png = pictures(1)[0].png
    path = write_parquet(tmp_path / "a.parquet", [png] * 6, [0, 1] * 3)
    split = open_source(str(path), reader="threads").train
    write_parquet(path, [png] * 2, [0, 1])
    message = refusal(lambda: list(split.split.read(np.arange(3), 2)))
    assert f"{path} is damaged" in message
    assert "group 0 has too few rows" in message


def tar_with(path: Path, member: tarfile.TarInfo) -> Path:
    write_tar(path, tar_members(pictures(2)))
    with tarfile.open(path, "a") as archive:
        archive.addfile(member)
    return path


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "ant/../../x.png"])
def test_paths_out_of_an_archive(tmp_path, name):
    path = tar_with(tmp_path / "a.tar", tarfile.TarInfo(name))
    assert "leaves the archive" in refusal(read, path)
    assert os.listdir(tmp_path) == ["a.tar"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_an_archive(tmp_path, kind):
    member = tarfile.TarInfo("ant/x.png")
    member.type, member.linkname = kind, "/etc/passwd"
    refusal(read, tar_with(tmp_path / "a.tar", member))


@pytest.mark.parametrize("size", [2**33, 2**62, 2**80])
@pytest.mark.parametrize("kind", [b"0", b"L", b"x"])
def test_sizes_beyond_an_archive(tmp_path, kind, size):
    header = bytearray(tarfile.TarInfo("ant/x.png").tobuf(tarfile.USTAR_FORMAT))
    header[156:157] = kind
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    refusal(read, path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_in_a_folder_are_not_read(tmp_path, kind):
    root = write_tree(tmp_path / "set", pictures(2))
    path = root / "ant" / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert f"{path} cannot be read (no plain file)" in refusal(read, root)


def test_an_image_bomb():
    with bounded(), pytest.raises(BadImage, match="pixels"):
        decode(png_header(60_000, 60_000), channels=3, where="bomb")


ALIASES = "\n".join(f"l{n + 1}: &l{n + 1} [{', '.join([f'*l{n}'] * 9)}]" for n in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        "data: 2001-99-99", "data: !!int x", "data: !!timestamp x", "data: !!bool x",
        "data: " + "[" * 5000, "data: " + "- " * 5000, "data: " + "9" * 5000, "data: &a [*a]",
        "steps: 0x" + "f" * 5000,
        "data: !!python/object/apply:os.mkdir [made]", "3: 4", "#" * 300_000,
        f"l1: &l1 [1]\n{ALIASES}\nsteps: *l12", f"l1: &l1 [1]\n{ALIASES}\ndata: *l12",
    ],
)  # fmt: skip
def test_configs(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    message = refusal(lambda: parse(Config, read_yaml(tmp_path / "c.yaml")))
    assert len(message) < 1000 + len(str(tmp_path))
    assert os.listdir(tmp_path) == ["c.yaml"]


def test_aliases_are_not_spelled_out_in_messages(tmp_path):
    text = "\n".join(line.replace("l1: &l1 [1]", "") for line in ALIASES.splitlines())
    bomb = f"[&l1 [1], {', '.join(line.partition(': ')[2] for line in text.splitlines())}]"
    (tmp_path / "c.yaml").write_text(f"data: digits\nout: run\nsteps: {bomb}\n")
    assert "steps" in refusal(lambda: parse(Config, read_yaml(tmp_path / "c.yaml")))


@pytest.mark.parametrize(
    "values",
    [
        {"step": 3}, {"step": "3", "fingerprint": "", "spec": {}, "store": {}, "optimizer": {}},
        {"step": 3, "fingerprint": "", "spec": [], "store": {}, "optimizer": {}},
        {1: torch.ones(1)},
    ],
)  # fmt: skip
def test_states_that_are_no_checkpoint_are_told_of(tmp_path, values):
    save_state(tmp_path / "step-00000003.pt", values)
    told: list[str] = []
    assert load_checkpoint(tmp_path, told.append) is None
    assert told == [f"{tmp_path}/step-00000003.pt is damaged or of another version: not used"]
