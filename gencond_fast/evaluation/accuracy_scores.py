"""Scores that are made of accuracies: those of DD-Ranking (2505.13300), and accuracy per bit.

Accuracies are fractions in [0, 1] throughout, never percentages: both scores are exponential.
"""

from __future__ import annotations

import math

from gencond_fast.errors import InputError


def label_robust_score(
    *, real_hard: float, stored_hard: float, stored_any: float, random_any: float, w: float = 0.5
) -> float:
    """(e^a - e^-1) / (e - e^-1) with a = w IOR - (1 - w) HLR, in [0, 1].

    HLR = real_hard - stored_hard is what the condensed set leaves out under hard labels, and
    IOR = stored_any - random_any what it is better by than random real images of the same size
    under whatever labels and training it is made for.

    Args:
        real_hard: accuracy of students trained on all real images with hard labels.
        stored_hard: on the condensed images with hard labels.
        stored_any: on the condensed images with labels and training of the method's choice.
        random_any: on random real images of the same size, trained as those.
        w: weight of IOR, in [0, 1].

    Raises:
        InputError: a value is not within [0, 1].
    """
    _check(real_hard, stored_hard, stored_any, random_any, w)
    return _normalised(w * (stored_any - random_any) - (1 - w) * (real_hard - stored_hard))


def augmentation_robust_score(
    *,
    stored_augmented: float,
    random_augmented: float,
    stored_plain: float,
    random_plain: float,
    gamma: float = 0.5,
) -> float:
    """(e^b - e^-1) / (e - e^-1), in [0, 1].

    b = gamma (stored_augmented - random_augmented) + (1 - gamma) (stored_plain - random_plain).

    Args:
        stored_augmented: accuracy of students trained on the condensed images with augmentation.
        random_augmented: on random real images of the same size, with the same augmentation.
        stored_plain: on the condensed images without any augmentation.
        random_plain: on the random real images without any.
        gamma: weight of the difference with augmentation, in [0, 1].

    Raises:
        InputError: a value is not within [0, 1].
    """
    _check(stored_augmented, random_augmented, stored_plain, random_plain, gamma)
    with_it, without = stored_augmented - random_augmented, stored_plain - random_plain
    return _normalised(gamma * with_it + (1 - gamma) * without)


def accuracy_per_bit(accuracy: float, bits_per_class: float) -> float:
    """Accuracy, as a fraction, over the bits that the file spends on a class.

    Raises:
        InputError: the accuracy is not within [0, 1], or there are no bits.
    """
    _check(accuracy)
    if not bits_per_class > 0:
        raise InputError(f"bits_per_class is {bits_per_class}: it must be above 0")
    return accuracy / bits_per_class


def _normalised(value: float) -> float:
    least = math.exp(-1.0)
    return (math.exp(value) - least) / (math.e - least)


def _check(*values: float) -> None:
    for value in values:
        if not 0.0 <= value <= 1.0:
            raise InputError(f"{value} is not within [0, 1]: give accuracies as fractions")
