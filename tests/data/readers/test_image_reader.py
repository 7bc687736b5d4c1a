"""An `ImageReader` never changes: what decodes, skips and caches is settled when it is made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from image_builders import pictures, write_tree

from gencond_fast.data import ImageReader, open_source, stream
from gencond_fast.data.readers import decoding
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.image_cache import ImageCache
from gencond_fast.data.skipping import BadImage, Skipping

FORM = Form(3, 6)


@pytest.fixture
def images(tmp_path):
    return open_source(str(write_tree(tmp_path / "d", pictures(5))), reader="threads").train


@pytest.fixture
def decodes(monkeypatch):
    """Names of the images that were decoded, in the order it happened."""
    seen = []
    decode = decoding.decode

    def counted(data, *, where, **options):
        seen.append(where)
        return decode(data, where=where, **options)

    monkeypatch.setattr(decoding, "decode", counted)
    return seen


def pixels(images):
    batches = stream(images, channels=3, image_size=6, batch_size=4, workers=1)
    return torch.cat([batch.images for batch in batches])


@pytest.mark.parametrize("name", ["split", "reader", "skip", "cache", "labels"])
def test_nothing_is_assigned_from_outside(images, name):
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(images, name, None)


def test_it_has_the_labels_and_places_of_its_split(images):
    assert isinstance(images, ImageReader)
    assert len(images) == len(images.split) == 15
    assert images.labels is images.split.labels
    assert images.shape is None
    rows = np.array([2, 7])
    assert images.origin(rows).tolist() == [2, 7]
    assert images.where(7) == images.split.where(7)


def test_a_cache_belongs_to_the_new_reader_alone(images, decodes):
    cached = images.with_cache(ImageCache(FORM, np.arange(15)))
    for _ in range(2):
        pixels(cached)
    assert len(decodes) == 15
    pixels(images)
    assert len(decodes) == 30


def test_after_a_release_images_are_decoded_again(images, decodes):
    cached = images.with_cache(ImageCache(FORM, np.arange(15)))
    expected = pixels(cached)
    cached.release_cache()
    assert len(cached.cache) == 0
    for _ in range(2):
        assert torch.equal(pixels(cached), expected)
    assert len(decodes) == 45
    images.release_cache()  # there is none


def test_readers_of_a_split_share_what_they_find_undecodable(images):
    told = []
    lenient = replace(images, skip=Skipping(np.array([4]), told.append))
    cached = lenient.with_cache(ImageCache(FORM, np.arange(15)))
    cached.skip_or_raise(7, BadImage("g.png", "is empty (0 bytes)"))
    assert told == ["left out: g.png is empty (0 bytes)"]
    assert lenient.left_out(np.array([4, 5, 7])).tolist() == [True, False, True]
    assert len(pixels(lenient)) == 13


def test_without_a_skip_list_an_undecodable_image_is_an_error(images):
    assert not images.left_out(np.arange(15)).any()
    with pytest.raises(BadImage, match="g.png is empty"):
        images.skip_or_raise(7, BadImage("g.png", "is empty (0 bytes)"))


def test_a_subset_reads_as_the_whole_does(images):
    whole = replace(images, reader="processes", skip=Skipping(np.array([4, 9]), print))
    part = whole.with_cache(ImageCache(FORM, np.arange(15))).subset(np.array([1, 4, 8]), print)
    assert part.reader == "processes"
    assert part.cache is None
    assert part.skip.known.tolist() == [1]
    assert part.labels.tolist() == images.labels[[1, 4, 8]].tolist()
    assert torch.equal(pixels(part), pixels(images)[[1, 8]])
