"""What every part of a condensation needs to know about the data and the machine."""

from __future__ import annotations

from dataclasses import dataclass

from gencond_fast.config import Config
from gencond_fast.config.steps import with_steps
from gencond_fast.data.normalise import Normalisation, measure
from gencond_fast.data.sample import Sample, draw_sample
from gencond_fast.data.source import Source, open_source
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, has_width
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import derive_seed
from gencond_fast.system.runtime import Runtime, choose_runtime

SAMPLE_BYTES = 512 * 1024**2  # real images held in memory, whatever the size of the data set
_LARGEST_DEFAULT_SIDE = 64


@dataclass(frozen=True, eq=False)
class Setting:
    """One data set to condense, opened, of which no image has been decoded.

    Attributes:
        config: all options.
        source: the data set.
        image_size: side in pixels that everything works at.
        runtime: device, precision, compilation.
        reporter: told of progress.
    """

    config: Config
    source: Source
    image_size: int
    runtime: Runtime
    reporter: Reporter

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.source.class_names)

    @property
    def identity(self) -> dict[str, object]:
        """What anything computed from the real images depends on, for cache keys."""
        left_out, decoder = self.source.left_out, self.source.decoder
        return {
            **({} if left_out is None else {"left_out": left_out}),
            **({} if decoder is None else {"decoder": decoder}),
            "fingerprint": self.source.fingerprint,
            "image_size": self.image_size,
            "seed": self.config.seed,
            "train_images": self.config.networks.train_images,
            "precision": self.runtime.describe(),
        }

    def classifier(self, model: str, *names: str | int) -> Classifier:
        """A network of `networks.width`, if that can be chosen, with first weights of its own.

        Args:
            model: architecture.
            names: of the weights, which depend on them and the seed of the run.

        Raises:
            InputError: the model is unknown or cannot take the images.
        """
        return build_classifier(
            model,
            self.source.channels,
            self.num_classes,
            self.image_size,
            seed=derive_seed(self.config.seed, *names),
            width=self.config.networks.width if has_width(model) else None,
        )

    @property
    def sample_options(self) -> dict[str, int]:
        """Which images are in the sample, as options of `draw_sample`."""
        return {
            "image_size": self.image_size,
            "per_class": self.config.networks.train_images,
            "max_bytes": SAMPLE_BYTES,
            "seed": self.config.seed,
        }


@dataclass(frozen=True, eq=False)
class Task(Setting):
    """A data set that has been measured.

    Attributes:
        sample: real images in memory, in random order within each class.
        normalisation: of the real images.
    """

    sample: Sample
    normalisation: Normalisation


def open_config(config: Config, reporter: Reporter) -> Source:
    """Opens the data of a config, split and restricted as it says.

    Raises:
        InputError: the data cannot be used.
    """
    return open_source(
        config.data,
        val_fraction=config.val_fraction,
        seed=config.seed,
        classes=config.classes,
        label_column=config.label_column,
        transparency=config.transparency,
        on_bad_image=config.on_bad_image,
        reader=config.reader,
        device=config.device,
        tell=reporter.message,
    )


def choose_image_size(config: Config, source: Source) -> int:
    """The side asked for, else the data's own up to 64 pixels."""
    return config.image_size or min(source.native_size, _LARGEST_DEFAULT_SIDE)


def set_up(config: Config, source: Source, image_size: int, reporter: Reporter) -> Setting:
    """Choose the device, and the number of steps where the options leave it open.

    Raises:
        InputError: it is not there.
    """
    runtime = choose_runtime(
        config.device, config.precision, config.compile, image_size, reporter.message
    )
    config = with_steps(config, image_size)
    return Setting(config, source, image_size, runtime, reporter)


def open_task(setting: Setting) -> Task:
    """Read the sample that is held in memory.

    Raises:
        InputError: an image cannot be read.
    """
    sample = draw_sample(setting.source, **setting.sample_options)
    return Task(**vars(setting), sample=sample, normalisation=measure(sample.images))
