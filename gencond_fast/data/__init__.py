"""Real images: where they come from and how they reach the networks."""

from gencond_fast.data.batch import Batch
from gencond_fast.data.sample import Sample, draw_sample
from gencond_fast.data.skipping import BadImage
from gencond_fast.data.source import Source, Split, open_source
from gencond_fast.data.stream import stream

__all__ = ["BadImage", "Batch", "Sample", "Source", "Split", "draw_sample", "open_source", "stream"]
