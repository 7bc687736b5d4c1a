"""Every augmentation against loops over pixels, one image at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gencond_fast.config import OPERATIONS
from gencond_fast.data.augment import Augmentation, augment, draw_augmentation

SHAPES = [(3, 8, 8), (1, 7, 7), (3, 32, 32), (2, 9, 12)]
each = pytest.mark.parametrize("operation", OPERATIONS)


def sample(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear, pixel centres at whole numbers, zero outside."""
    total = np.zeros(image.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                total += weight * image[:, row, column]
    return total


def warped(image: np.ndarray, source) -> np.ndarray:
    """Each pixel is taken from where `source` sends it, coordinates in [-1, 1] of the side."""
    _, height, width = image.shape
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y = source((2 * column + 1) / width - 1, (2 * row + 1) / height - 1)
            out[:, row, column] = sample(
                image, ((y + 1) * height - 1) / 2, ((x + 1) * width - 1) / 2
            )
    return out


def color(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    image = image + (u[0] - 0.5)
    gray = image.mean(0)
    image = (image - gray) * (2 * u[1]) + gray
    return (image - image.mean()) * (u[2] + 0.5) + image.mean()


def crop(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    _, height, width = image.shape
    most_y, most_x = int(height / 8 + 0.5), int(width / 8 + 0.5)
    shift_y = int(u[0] * (2 * most_y + 1)) - most_y
    shift_x = int(u[1] * (2 * most_x + 1)) - most_x
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + shift_y, column + shift_x
            if 0 <= y < height and 0 <= x < width:
                out[:, row, column] = image[:, y, x]
    return out


def cutout(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    _, height, width = image.shape
    out = image.copy()
    size_y, size_x = int(height / 2 + 0.5), int(width / 2 + 0.5)
    centre_y = int(u[0] * (height + 1 - size_y % 2))
    centre_x = int(u[1] * (width + 1 - size_x % 2))
    for row in range(centre_y - size_y // 2, centre_y - size_y // 2 + size_y):
        for column in range(centre_x - size_x // 2, centre_x - size_x // 2 + size_x):
            if 0 <= row < height and 0 <= column < width:
                out[:, row, column] = 0
    return out


def flip(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    return image[:, :, ::-1] if u[0] < 0.5 else image


def scale(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    by_x, by_y = (1 / 1.2 + v * (1.2 - 1 / 1.2) for v in u[:2])
    return warped(image, lambda x, y: (by_x * x, by_y * y))


def rotate(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    angle = math.radians((u[0] - 0.5) * 30)
    c, s = math.cos(angle), math.sin(angle)
    return warped(image, lambda x, y: (c * x - s * y, s * x + c * y))


REFERENCES = dict(zip(OPERATIONS, (color, crop, cutout, flip, scale, rotate), strict=True))


def references(images: Tensor, augmentation: Augmentation) -> np.ndarray:
    draws = augmentation.draws.double().expand(len(images), 3).numpy()
    function = REFERENCES[augmentation.operation]
    pairs = zip(images.double().numpy(), draws, strict=True)
    return np.stack([function(image, u) for image, u in pairs])


@each
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("siamese", [True, False])
def test_against_loops(operation, shape, siamese):
    rng = torch.Generator().manual_seed(sum(shape))
    images = torch.randn(3, *shape, generator=rng, dtype=torch.float64)
    drawn = draw_augmentation(operation, rng, batch_size=1 if siamese else 3)
    assert drawn.draws.shape == (1 if siamese else 3, 3)
    got = augment(images, drawn)
    assert got.shape == images.shape
    np.testing.assert_allclose(got.numpy(), references(images, drawn), atol=3e-6)
    single = augment(images.float(), drawn)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), references(images, drawn), atol=2e-5)


@pytest.mark.parametrize("operation", ["crop", "cutout", "flip"])
@given(draws=st.tuples(*[st.floats(0, 1, exclude_max=True, width=32)] * 3))
def test_the_whole_range_of_draws(operation, draws):
    images = torch.arange(1.0, 129.0).view(2, 1, 8, 8)
    drawn = Augmentation(operation, torch.tensor([draws]))
    assert np.array_equal(augment(images, drawn).numpy(), references(images, drawn))


@pytest.mark.parametrize("operation", ["crop", "cutout"])
@pytest.mark.parametrize("edge", [0.0, 1 - 2**-24])
def test_the_ends_of_the_range(operation, edge):
    for side in (7, 8, 30, 32, 224):
        images = torch.rand(1, 1, side, side) + 1
        drawn = Augmentation(operation, torch.full((1, 3), edge))
        assert np.allclose(augment(images, drawn), references(images, drawn))


@each
def test_siamese_means_the_same_for_every_image(operation):
    images = torch.randn(1, 3, 12, 12).expand(5, 3, 12, 12)
    rng = torch.Generator().manual_seed(0)
    shared = augment(images, draw_augmentation(operation, rng))
    assert all(torch.allclose(image, shared[0], atol=1e-6) for image in shared)
    own = augment(images, draw_augmentation(operation, rng, batch_size=5))
    assert not all(torch.allclose(image, own[0], atol=1e-4) for image in own)


@each
def test_an_image_does_not_depend_on_its_neighbours(operation):
    images = torch.randn(4, 3, 12, 12)
    drawn = draw_augmentation(operation, torch.Generator().manual_seed(1), batch_size=4)
    together = augment(images, drawn)
    for i in range(4):
        alone = augment(images[i : i + 1], Augmentation(operation, drawn.draws[i : i + 1]))
        assert torch.allclose(together[i : i + 1], alone, atol=1e-6)


@each
def test_differentiable(operation):
    images = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    for size in (1, 2):
        drawn = draw_augmentation(operation, torch.Generator().manual_seed(size), batch_size=size)
        assert torch.autograd.gradcheck(lambda x, a=drawn: augment(x, a), images)


@each
def test_layout_of_memory_does_not_matter(operation):
    images = torch.randn(2, 3, 8, 8)
    drawn = draw_augmentation(operation, torch.Generator().manual_seed(0), batch_size=2)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(augment(images, drawn), augment(last, drawn), atol=1e-6)


def test_draws_come_from_the_generator():
    one, two = (draw_augmentation("crop", torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.draws, two.draws)
    many = draw_augmentation("crop", torch.Generator().manual_seed(3), batch_size=5000).draws
    assert 0 <= many.min() < 0.01
    assert 0.99 < many.max() < 1
    assert (many.mean(0) - 0.5).abs().max() < 0.02


def test_half_of_the_images_are_mirrored():
    images = torch.arange(8.0).expand(2000, 1, 8, 8)
    drawn = draw_augmentation("flip", torch.Generator().manual_seed(0), batch_size=2000)
    mirrored = augment(images, drawn)[:, 0, 0, 0] == 7
    assert abs(float(mirrored.double().mean()) - 0.5) < 0.04


def test_all_shifts_of_a_crop_come_up_equally_often():
    images = torch.arange(1.0, 65.0).view(1, 1, 8, 8).expand(9000, 1, 8, 8)
    drawn = draw_augmentation("crop", torch.Generator().manual_seed(0), batch_size=9000)
    corner = augment(images, drawn)[:, 0, 4, 4]  # shifted by -1, 0 or 1 row and column
    values, counts = corner.unique(return_counts=True)
    assert values.tolist() == [28, 29, 30, 36, 37, 38, 44, 45, 46]
    assert (counts - 1000).abs().max() < 150


def test_which_way_it_turns_and_how_far():
    spot = torch.zeros(1, 1, 65, 65)
    spot[0, 0, 32, 56] = 1.0  # right of the centre by 24
    for draw, degrees in ((0.0, -15.0), (0.5, 0.0), (1.0, 15.0)):
        turned = augment(spot, Augmentation("rotate", torch.full((1, 3), draw)))[0, 0]
        row, column = divmod(int(turned.argmax()), 65)
        # where the source is turned by +15 degrees, the picture turns by -15
        assert abs(row - 32 + 24 * math.sin(math.radians(degrees))) < 1
        assert abs(column - 32 - 24 * math.cos(math.radians(degrees))) < 1


def test_identity():
    images = torch.randn(3, 1, 4, 4)
    assert torch.equal(augment(images, Augmentation("identity", torch.rand(1, 3))), images)


def test_errors():
    images = torch.randn(3, 1, 4, 4)
    with pytest.raises(ValueError, match="unknown operation 'blur': choose one of"):
        augment(images, Augmentation("blur", torch.rand(1, 3)))
    for operation in (*OPERATIONS, "identity"):
        with pytest.raises(ValueError, match="draws for 2 images do not fit 3 images"):
            augment(images, Augmentation(operation, torch.rand(2, 3)))
