"""Real images: where they come from and how they reach the networks.

Start at `open_source`, which opens a data set, and at `stream` and `training_batches`, which decode
its images into batches.
"""

from gencond_fast.data.crop import RandomCrop
from gencond_fast.data.mixing import Mixing, cutmix, draw_cutmix
from gencond_fast.data.readers.batch import Batch
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.sample import Sample, draw_sample
from gencond_fast.data.sampling import epoch_order
from gencond_fast.data.skipping import BadImage
from gencond_fast.data.source import Source, Split, open_source
from gencond_fast.data.stream import stream
from gencond_fast.data.training import training_batches

__all__ = [
    "BadImage",
    "Batch",
    "ImageReader",
    "Mixing",
    "RandomCrop",
    "Sample",
    "Source",
    "Split",
    "cutmix",
    "draw_cutmix",
    "draw_sample",
    "epoch_order",
    "open_source",
    "stream",
    "training_batches",
]
