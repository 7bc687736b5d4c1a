"""The feature map against arithmetic in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gencond_fast.data.normalise import Normalisation
from gencond_fast.models.registry import build_classifier
from gencond_fast.reporting.feature_map import draw_map
from gencond_fast.reporting.features import MODEL, map_features
from gencond_fast.reporting.record import read_record
from gencond_fast.system.rng import derive_seed


@pytest.fixture(scope="module")
def record(tiny_run):
    return read_record(tiny_run)


def reference_features(record, found) -> np.ndarray:
    metadata = record.artifact.metadata
    per_class = metadata.store.per_class
    count = min(24, per_class)
    index = [c * per_class + k * per_class // count for c in range(10) for k in range(count)]
    network = build_classifier(MODEL, 1, 10, 8, seed=derive_seed(0, "report"))
    with torch.no_grad():
        images = record.artifact.store(torch.tensor(index))
        features = network.features(Normalisation(metadata.mean, metadata.std)(images))
    assert found.labels.tolist() == [c for c in range(10) for _ in range(count)]
    return features.double().numpy()


def test_positions_are_principal_components(record):
    found = map_features(record, None)
    features = reference_features(record, found)
    centred = features - features.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    want = u[:, :2] * s[:2]
    signs = np.sign((want * found.generated).sum(0))
    assert np.allclose(found.generated, want * signs, atol=1e-2 * np.abs(want).max())
    share = s[:2] ** 2 / (s**2).sum()
    assert np.allclose(found.explained, share, rtol=1e-2)


def test_distances_between_centres(record):
    found = map_features(record, None)
    features = reference_features(record, found)
    centres = np.stack([features[found.labels == c].mean(0) for c in range(10)])
    spread = np.sqrt(((features - centres[found.labels]) ** 2).sum(1).mean())
    want = np.linalg.norm(centres[:, None] - centres[None], axis=2) / spread
    assert np.allclose(found.distances, want, rtol=1e-4, atol=1e-6)
    assert found.real_distances is None
    assert found.offsets is None
    assert len(found.real) == 0


def test_real_images_are_mapped_beside(record):
    found = map_features(record, "digits")
    assert found.real.shape == (240, 2)
    assert (np.bincount(found.real_labels) == 24).all()
    assert found.real_distances.shape == (10, 10)
    assert np.allclose(found.real_distances, found.real_distances.T)
    assert (found.offsets > 0).all()
    # samples that were made from real digits are nearer to their class than to most others
    assert found.offsets.mean() < np.median(found.distances[~np.eye(10, dtype=bool)])
    # and the map does not depend on the real ones but for its axes
    assert np.allclose(found.distances, map_features(record, None).distances)


def test_every_sample_is_a_dot_and_every_image_a_ring(record):
    found = map_features(record, "digits")
    names = record.artifact.metadata.class_names
    svg = str(draw_map(found, names, "k"))
    assert svg.count("<circle") == len(found.labels) + len(found.real)
    assert svg.count(", stored</title>") == svg.count(", real</title>") == 10
