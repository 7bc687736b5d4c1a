"""DALI pipelines, fed batch by batch: JPEGs and windows in, squares out."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

from gencond_fast.data.batch import Form

_DECODER = "decoders.image"


class Pipelines:
    """Feeds a pipeline, and a new one where the last has failed or is too small.

    Args:
        form: of the squares.
        workers: threads of a pipeline.

    Attributes:
        device: where the squares are: the current GPU where there is one, else the CPU.
    """

    def __init__(self, form: Form, workers: int) -> None:
        self._form = form
        self._workers = workers
        self._all: list[Pipeline] = []
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else _CPU

    def feed(self, data: list[np.ndarray], windows: np.ndarray, room: int) -> Pipeline:
        """Lets a pipeline begin with a batch, whose squares are to be taken from it in this order.

        Args:
            data: JPEGs, upright, uint8 [bytes] each.
            windows: float [n, 4], left, top, right and bottom in pixels.
            room: how many images a batch may have, at least n.
        """
        if not self._all or self._all[-1].failed or self._all[-1].room < room:
            self._all = [each for each in self._all if each.waiting]
            self._all.append(Pipeline(self._form, room, self._workers, self.device))
        self._all[-1].feed(data, windows)
        return self._all[-1]

    def close(self) -> None:
        """Ends all threads, once what has begun is decoded."""
        for each in self._all:
            each.close()


class Pipeline:
    """One pipeline: whole JPEGs are decoded, then their windows are resized as Pillow does it.

    Attributes:
        room: the most images in a batch.
        waiting: batches that were fed and not yet taken.
        failed: whether an image could not be decoded; nothing comes out of it any more.
    """

    def __init__(self, form: Form, room: int, workers: int, device: torch.device) -> None:
        dali: Any = import_module("nvidia.dali")
        fn, types = dali.fn, dali.types
        self.room = room
        self.waiting = 0
        self.failed = False
        self._device = device
        # At a depth of one a run takes one batch; runs may be scheduled ahead all the same.
        self._graph = dali.Pipeline(
            batch_size=room,
            num_threads=workers,
            device_id=device.index,
            prefetch_queue_depth=1,
            exec_dynamic=True,
        )
        with self._graph:
            images = fn.decoders.image(
                fn.external_source(name="data", dtype=types.UINT8, ndim=1),
                device="cpu" if device == _CPU else "mixed",
                output_type=types.GRAY if form.channels == 1 else types.RGB,
                adjust_orientation=False,
                jpeg_fancy_upsampling=True,
            )
            squares = fn.resize(
                images,
                size=[form.size, form.size],
                roi_start=fn.external_source(name="start", dtype=types.FLOAT, ndim=1),
                roi_end=fn.external_source(name="end", dtype=types.FLOAT, ndim=1),
                interp_type=types.INTERP_CUBIC,
                antialias=True,
            )
            self._graph.set_outputs(squares)

    def feed(self, data: list[np.ndarray], windows: np.ndarray) -> None:
        """Begins with a batch, see `Pipelines.feed`."""
        boxes = windows.astype(np.float32)
        self._graph.feed_input("data", data)
        self._graph.feed_input("start", np.ascontiguousarray(boxes[:, [1, 0]]))
        self._graph.feed_input("end", np.ascontiguousarray(boxes[:, [3, 2]]))
        self._graph.schedule_run()
        self.waiting += 1

    def take(self) -> torch.Tensor | None:
        """The next batch, uint8 [n, S, S, channels]; None if it has failed in this or before."""
        self.waiting -= 1
        if self.failed:
            return None
        # Bound to the stream, memory is used anew only after what that stream does with it.
        stream = None if self._device == _CPU else torch.cuda.current_stream(self._device)
        try:
            (squares,) = self._graph.share_outputs(stream)
        except RuntimeError as error:
            if _DECODER not in str(error):
                raise
            self.failed = True
            self.close()
            return None
        images = torch.from_dlpack(squares.as_tensor())
        self._graph.release_outputs()
        return images if self._device == _CPU else images.clone()

    def close(self) -> None:
        """Ends its threads, once what has begun is decoded; what was taken stays as it is."""
        self._graph = None


_CPU = torch.device("cpu")
