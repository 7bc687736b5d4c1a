"""Trees of many classes, made of few kinds of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from gencond_fast.data.source import open_source
from tests.robustness.looks import HUES, LOOKS, STRIPES, TURNS, looking, main


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds, three photographs of each in both splits."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("a", "b"):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((128, 128)).save(folder / f"{number}.png")
    return root


def invoke(*arguments: object) -> None:
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output


def test_a_tree_is_a_data_set_and_made_again_the_same(photographs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        invoke(photographs, tmp_path / name, "--classes", 6, "--images", 3, "--tests", 2)
    source = open_source(str(tmp_path / "one"))
    assert np.bincount(source.train.labels).tolist() == [3] * 6
    assert source.val is not None
    assert np.bincount(source.val.labels).tolist() == [2] * 6
    files = sorted((tmp_path / "one").rglob("*.jpg"))
    assert len({path.read_bytes() for path in files}) == len(files) == 30
    for path in files:
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert other.read_bytes() == path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_more_classes_than_there_are_looks(photographs: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, [str(photographs), str(tmp_path / "tree"), "--classes", str(2 * LOOKS + 1)]
    )
    assert done.exit_code == 1
    assert f"gives {2 * LOOKS} classes at most" in done.output
    assert not list(tmp_path.iterdir())


def picture() -> Image.Image:
    pixels = np.random.default_rng(1).integers(40, 216, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR)


def off(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, int) - np.asarray(other, int)).mean())


def test_looks_differ_and_the_first_is_none() -> None:
    image = picture()
    seen = [looking(image, look) for look in range(LOOKS)]
    assert off(image, seen[0]) < 3  # what HSV rounds
    least = min(off(a, b) for n, a in enumerate(seen) for b in seen[:n])
    assert least > 6


def test_what_looks_do() -> None:
    image = picture()
    half = looking(image, HUES // 2)
    assert off(looking(half, HUES // 2), image) < 5  # once around the circle of hues
    turned = looking(image, HUES)
    assert off(turned.rotate(TURNS[1]), image) < 3
    striped = np.asarray(looking(image, HUES * len(TURNS) * (len(STRIPES) - 1)).convert("L"), float)
    bright = np.asarray(image.convert("L"), float)
    width = STRIPES[-1]
    assert np.allclose(striped[:width], bright[:width], atol=6)
    assert (striped[width : 2 * width] < 0.6 * bright[width : 2 * width]).all()
