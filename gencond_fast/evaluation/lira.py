"""LiRA: is a confidence likelier under models that saw the image, or under those that did not?

Carlini et al. 2022, "Membership Inference Attacks From First Principles" (2112.03570).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SMALLEST = 1e-30  # of a standard deviation, as in the authors' code


def confidences(logits: Tensor, labels: Tensor) -> Tensor:
    """log(p_y / (1 - p_y)) of the true class y, the logit-scaled confidence phi of 2112.03570.

    Computed as z_y - logsumexp of the other logits, so that no probability is rounded to 1.

    Args:
        logits: [N, C], C of 2 or more.
        labels: int64 [N].

    Returns:
        float64 [N].
    """
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own.squeeze(1) - others.logsumexp(1)


def loss_scores(confidence: np.ndarray) -> np.ndarray:
    """The negative cross-entropy of images with these confidences: log p_y = -log(1 + e^-phi).

    The score of the attack by loss (Yeom et al. 2018, 1709.01604).
    """
    return -np.logaddexp(0.0, -confidence)


def online_scores(
    target: np.ndarray, inside: np.ndarray, outside: np.ndarray, *, shared_variance: bool
) -> np.ndarray:
    """log p(phi | with the image) - log p(phi | without it), of Gaussians fitted for each image.

    Args:
        target: confidences [N] by the model under attack.
        inside: confidences [I, N] by shadow models that were trained with the image.
        outside: likewise [O, N] by those that were trained without it.
        shared_variance: see `_deviation`.

    Returns:
        float64 [N]; above 0 where membership is likelier.

    Raises:
        ValueError: there are fewer than two shadow models of a kind.
    """
    with_it = _log_density(target, inside, shared_variance)
    return with_it - _log_density(target, outside, shared_variance)


def offline_scores(target: np.ndarray, outside: np.ndarray, *, shared_variance: bool) -> np.ndarray:
    """z = (phi - mean) / deviation over models without the image.

    The paper's one-sided test is 1 - Pr[Z > phi] = Phi(z). The order is the same, and z is not
    rounded to ties where Phi is 1.

    Args:
        target: confidences [N] by the model under attack.
        outside: confidences [O, N] by shadow models that were trained without the image.
        shared_variance: see `_deviation`.

    Returns:
        float64 [N].

    Raises:
        ValueError: there are fewer than two shadow models.
    """
    return (target - outside.mean(0)) / _deviation(outside, shared_variance)


def _log_density(values: np.ndarray, samples: np.ndarray, shared_variance: bool) -> np.ndarray:
    """Of Gaussians with the moments of samples [S, N], at values [N]; less a constant."""
    deviation = _deviation(samples, shared_variance)
    return -np.log(deviation) - 0.5 * ((values - samples.mean(0)) / deviation) ** 2


def _deviation(samples: np.ndarray, shared: bool) -> np.ndarray:
    """Standard deviation of each column of [S, N], or one for all of them, [N].

    A shared one is of the differences from the mean of the image. The authors' code takes that of
    all confidences together, which also has the differences between images in it.
    """
    if len(samples) < 2:
        raise ValueError(f"a variance needs 2 shadow models or more of a kind, not {len(samples)}")
    variance = samples.var(0, ddof=1)
    if shared:
        variance = np.full_like(variance, variance.mean())
    return np.sqrt(variance) + _SMALLEST
