"""CondensedDataset where it is used: in a plain DataLoader."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from store_builders import write_set
from torch.utils.data import DataLoader, Dataset, Subset

import gencond_fast as gf
from gencond_fast.errors import InputError
from gencond_fast.store.artifact import FILE_NAME, load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    write_set(folder / FILE_NAME, names=("a", "b", "c"))
    return folder


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    write_set(folder / FILE_NAME, "pixels", channels=1, image_size=12, code_size=6)
    return folder


def stored_images(run) -> torch.Tensor:
    with torch.no_grad():
        return load(run).store(torch.arange(15))


def test_one_sample(run):
    data = gf.CondensedDataset(run)
    assert isinstance(data, Dataset)
    assert len(data) == 15
    image, label = data[7]
    assert (image.dtype, image.shape, label) == (torch.float32, (3, 12, 12), 1)
    assert type(label) is int
    assert 0 <= image.min() < image.max() <= 1
    assert not image.requires_grad


def test_attributes(run):
    data = gf.CondensedDataset(run)
    metadata = load(run).metadata
    assert data.classes == ["a", "b", "c"]
    assert data.class_to_idx == {"a": 0, "b": 1, "c": 2}
    assert (data.mean, data.std) == (metadata.mean, metadata.std)
    assert data.targets == [0] * 5 + [1] * 5 + [2] * 5
    assert {type(target) for target in data.targets} == {int}


@pytest.mark.parametrize("format", ["generator", "dct"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampling", ["fixed", "fresh"])
def test_in_a_data_loader(tmp_path, format, workers, sampling):
    run = tmp_path / "made"
    write_set(run, format)
    data = gf.CondensedDataset(run, sampling=sampling)
    batches = list(DataLoader(data, batch_size=4, num_workers=workers))
    assert [len(labels) for _, labels in batches] == [4, 4, 4, 3]
    assert all(images.shape[1:] == (3, 12, 12) for images, _ in batches)
    assert torch.cat([labels for _, labels in batches]).tolist() == data.targets
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    difference = (images - stored_images(run)).abs().amax((1, 2, 3))
    if sampling == "fixed":
        assert difference.max() < 1e-6
    else:
        assert (difference > 1e-4).sum() >= 8


@pytest.mark.parametrize("format", ["generator", "dct", "pixels"])
def test_workers_that_are_not_forked_get_it_whole(tmp_path, format):
    write_set(tmp_path / "made", format)
    data = gf.CondensedDataset(tmp_path / "made")
    twin = pickle.loads(pickle.dumps(data))
    assert torch.equal(twin.images(list(range(15))), data.images(list(range(15))))
    assert (twin.classes, twin.mean) == (data.classes, data.mean)
    assert twin[14][1] == 2


def test_in_a_shuffled_data_loader_every_sample_comes_once(run):
    data = gf.CondensedDataset(run)
    images, labels = map(torch.cat, zip(*DataLoader(data, 4, shuffle=True), strict=True))
    want = stored_images(run)
    distance = (images[:, None] - want[None]).abs().amax((2, 3, 4))
    place = distance.argmin(1)
    assert distance.amin(1).max() < 1e-6
    assert sorted(place.tolist()) == list(range(15))
    assert labels.tolist() == [data.targets[i] for i in place]


def test_batches_and_single_samples_agree(run):
    data = gf.CondensedDataset(run)
    want = stored_images(run)
    assert torch.allclose(data.images([3, 14, 0]), want[[3, 14, 0]], atol=1e-6)
    assert torch.allclose(torch.stack([data[i][0] for i in range(15)]), want, atol=1e-6)
    assert torch.allclose(data.images(torch.tensor([1])), want[1:2], atol=1e-6)
    assert data.images([]).shape == (0, 3, 12, 12)


def test_indices_from_the_end_and_beyond(run):
    data = gf.CondensedDataset(run)
    assert data[-1][1] == 2
    assert torch.equal(data[-1][0], data[14][0])
    for index in (15, -16):
        with pytest.raises(IndexError, match=f"index {index} is outside a set of 15"):
            data[index]
    assert len(list(data)) == 15  # iteration ends by IndexError


def test_stream_draws_anew(run):
    data = gf.CondensedDataset(run, sampling="fresh")
    draws = torch.stack([data[6][0] for _ in range(8)])
    assert len(draws.flatten(1).unique(dim=0)) == 8
    assert {data[6][1] for _ in range(3)} == {1}


def test_stream_is_reproducible(run):
    data = gf.CondensedDataset(run, sampling="fresh")
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(torch.cat([images for images, _ in DataLoader(data, 4, num_workers=0)]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_workers_and_epochs_draw_different_streams(tmp_path):
    write_set(tmp_path / "made", num_classes=1)
    data = gf.CondensedDataset(tmp_path / "made", sampling="fresh")
    loader = DataLoader(data, 2, sampler=[0] * 8, num_workers=2)
    draws = torch.cat([images for _ in range(2) for images, _ in loader]).flatten(1)
    # one draw in five mixes a sample with itself; equal workers or epochs would halve the rest
    assert len(draws.unique(dim=0)) > 8


def test_stream_of_one_sample_a_class_is_the_sample(tmp_path):
    write_set(tmp_path / "made", per_class=1)
    stored = gf.CondensedDataset(tmp_path / "made").images([0, 1, 2])
    stream = gf.CondensedDataset(tmp_path / "made", sampling="fresh").images([0, 1, 2])
    assert torch.allclose(stored, stream, atol=1e-6)


def test_stream_mixes_samples_of_the_class_only(tmp_path):
    store = write_set(tmp_path / "made", num_classes=2, per_class=3)
    twin = write_set(tmp_path / "twin", num_classes=2, per_class=3)
    with torch.no_grad():  # as before, but the other class holds quite other codes
        twin.codes[3:] = -store.codes[3:]
    twin_spec = load(tmp_path / "twin").metadata
    gf.save(tmp_path / "twin", twin, twin_spec)
    drawn = []
    for name in ("made", "twin"):
        torch.manual_seed(5)
        data = gf.CondensedDataset(tmp_path / name, sampling="fresh")
        drawn.append(data.images([0, 1, 2] * 20 + [3, 4, 5]))
    assert torch.equal(drawn[0][:60], drawn[1][:60])
    assert not torch.allclose(drawn[0][60:], drawn[1][60:], atol=1e-3)


def test_pixels(pixels):
    data = gf.CondensedDataset(pixels)
    image, label = data[14]
    assert (image.shape, label) == ((1, 12, 12), 2)
    assert 0 <= image.min() < image.max() <= 1
    with pytest.raises(InputError, match="format 'pixels' has no codes to draw a stream from"):
        gf.CondensedDataset(pixels, sampling="fresh")


def test_paths(run, tmp_path):
    for path in (run, str(run), run / FILE_NAME, str(run / FILE_NAME)):
        assert len(gf.CondensedDataset(path)) == 15
    with pytest.raises(InputError, match="does not exist"):
        gf.CondensedDataset(tmp_path)


@pytest.mark.parametrize(
    ("index", "numbers"),
    [
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -7), [14, 7, 0]),
        (slice(20, 30), []),
        ([3, -1, 3], [3, 14, 3]),
        (torch.tensor([0, -15]), [0, 0]),
        (np.array([9, 4]), [9, 4]),
        (torch.arange(15) % 5 == 2, [2, 7, 12]),
        (range(1, 3), [1, 2]),
    ],
    ids=str,
)
def test_many_indices_give_a_batch(run, index, numbers):
    images, labels = gf.CondensedDataset(run)[index]
    assert torch.allclose(images, stored_images(run)[numbers], atol=1e-6)
    assert images.shape == (len(numbers), 3, 12, 12)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [i // 5 for i in numbers]


@pytest.mark.parametrize("index", [7, np.int64(7), torch.tensor(7), -8])
def test_one_integer_of_any_kind_gives_one_sample(run, index):
    image, label = gf.CondensedDataset(run)[index]
    assert (image.shape, label) == ((3, 12, 12), 1)


@pytest.mark.parametrize(
    ("index", "error", "said"),
    [
        ([1, 15], IndexError, "index 15 is outside a set of 15 samples"),
        (torch.tensor([-16]), IndexError, "index -16 is outside"),
        (torch.ones(3, dtype=torch.bool), IndexError, r"a mask of shape \[3\] for 15 samples"),
        ([0.5], TypeError, "indices must be integers, got torch.float32"),
        (1.5, TypeError, "integer"),
    ],
)
def test_wrong_indices(run, index, error, said):
    with pytest.raises(error, match=said):
        gf.CondensedDataset(run)[index]


def test_a_subset_with_indices_from_the_end(run):
    data = gf.CondensedDataset(run)
    part = Subset(data, [0, -1, -6])
    assert [label for _, label in part] == [0, 2, 1]
    ((images, labels),) = DataLoader(part, batch_size=3)
    assert torch.allclose(images, stored_images(run)[[0, 14, 9]], atol=1e-6)
    assert labels.tolist() == [0, 2, 1]
    assert torch.equal(data.images([-1]), data.images([14]))


def test_transforms_are_called_once_for_each_sample(run):
    seen = []

    def cut(image):
        seen.append(image.shape)
        return image[:, 2:10, 2:10] * 2

    data = gf.CondensedDataset(run, transform=cut, target_transform=lambda label: -label)
    want = stored_images(run)[..., 2:10, 2:10] * 2
    image, label = data[14]
    assert torch.allclose(image, want[14], atol=1e-6)
    assert label == -2
    images, labels = data[-3:]
    assert torch.allclose(images, want[-3:], atol=1e-6)
    assert labels.tolist() == [-2] * 3
    images, labels = map(torch.cat, zip(*DataLoader(data, 4), strict=True))
    assert torch.allclose(images, want, atol=1e-6)
    assert labels.tolist() == [-target for target in data.targets]
    assert seen == [(3, 12, 12)] * 19
    assert data.images([0]).shape == (1, 3, 12, 12)


def test_home_folder(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert len(gf.CondensedDataset(f"~/{run.name}")) == 15


def test_unknown_split(run):
    with pytest.raises(InputError, match="unknown sampling 'train': choose fixed or fresh"):
        gf.CondensedDataset(run, sampling="train")
