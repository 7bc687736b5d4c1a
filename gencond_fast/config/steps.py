"""Steps of a condensation, and bytes of its labeller, where the options leave that open."""

from __future__ import annotations

from dataclasses import replace

from gencond_fast.config.condensing import Config

# Samples that start as coded real images: more steps did not pay for themselves in the accuracy of
# students, and above 32 pixels no step did.
SMALL_SIDE = 32  # pixels
SMALL_STEPS = 100
LARGE_STEPS = 0
LABELLER_SHARE = 0.104  # above that side, where so much gave students three points
# Samples that start as noise, which have to be fitted first.
NOISE_STEPS = 4000
_MOST_SEEN, _LEAST_PASSES = 2_000_000, 4  # images that a labeller sees, passes over very many
LEAST_CODING_STEPS, CODING_STEPS_PER_SAMPLE = 1200, 0.25


def matching_steps(options: Config, image_size: int) -> int:
    """`training.steps` as the options give it, else as many as still improve accuracy.

    Args:
        options: of the condensation.
        image_size: side in pixels.
    """
    if options.training.steps is not None:
        return options.training.steps
    if not options.starts_as_images or options.privacy.on:
        return NOISE_STEPS
    return SMALL_STEPS if image_size <= SMALL_SIDE else LARGE_STEPS


def labeller_share(options: Config, image_size: int) -> float:
    """The share of the bytes that a labeller has; 0 where there is none.

    Args:
        options: of the condensation.
        image_size: side in pixels.
    """
    if options.labels.labeller is not None:
        return options.labels.labeller
    hard = not options.store.soft_labels and not options.privacy.on
    return LABELLER_SHARE if hard and image_size > SMALL_SIDE else 0.0


def labeller_epochs(options: Config, images: int) -> int:
    """Passes of a labeller over so many training images."""
    return min(options.teachers.epochs, max(_LEAST_PASSES, _MOST_SEEN // images))


def coding_steps(options: Config, samples: int) -> int:
    """Steps in which the codes of a generator are fitted to real images; 0 where there are none.

    Args:
        options: of the condensation.
        samples: stored samples of all classes together.
    """
    if not options.codes_images:
        return 0
    wanted = options.training.coding_steps
    return wanted or max(LEAST_CODING_STEPS, round(CODING_STEPS_PER_SAMPLE * samples))


def with_steps(config: Config, image_size: int) -> Config:
    """The config with `training.steps` as a number."""
    steps = matching_steps(config, image_size)
    return replace(config, training=replace(config.training, steps=steps))
