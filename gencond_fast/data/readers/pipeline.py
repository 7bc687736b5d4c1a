"""DALI pipelines: encoded JPEGs go in; whole images come out on a CPU, resized squares on a GPU."""

from __future__ import annotations

from collections import deque
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from gencond_fast.data.readers.batch import Form

_CPU = torch.device("cpu")
_DECODER = "decoders.image"
_PIXELS_AT_ONCE = 2**26  # 200 MB in colour, at their full size


class Pipelines:
    """Feeds batches to a pipeline, and makes a new one if the last has failed or is too small.

    Args:
        form: of the squares.
        workers: threads of a pipeline.

    Attributes:
        device: where images are decoded: the current GPU where there is one, else the CPU.
    """

    def __init__(self, form: Form, workers: int) -> None:
        self._form = form
        self._workers = workers
        self._all: list[Pipeline] = []
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else _CPU

    def feed(
        self, data: list[np.ndarray], sizes: np.ndarray, windows: np.ndarray, room: int
    ) -> Pipeline:
        """Lets a pipeline begin with a batch. Batches are taken from it in the order they were fed.

        Args:
            data: n upright JPEGs, uint8 [bytes] each.
            sizes: their widths and heights, int [n, 2].
            windows: int [n, 4], left, top, right and bottom in pixels.
            room: the most images that a batch may have, at least n.
        """
        if not self._all or self._all[-1].failed or self._all[-1].room < room:
            for each in self._all:
                if not each.runs:
                    each.close()
            self._all = [each for each in self._all if each.runs]
            self._all.append(Pipeline(self._form, room, self._workers, self.device))
        self._all[-1].feed(data, sizes, windows)
        return self._all[-1]

    def close(self) -> None:
        """Ends all threads, once what has begun is decoded."""
        for each in self._all:
            each.close()


class Pipeline:
    """One pipeline. It decodes whole JPEGs, and on a GPU resizes their windows.

    On a CPU `resize.fit` resizes instead, which is faster and gives all readers the same bits.

    Attributes:
        room: the most images in a batch.
        runs: the number of runs for each batch that was fed and not taken yet.
        failed: whether an image could not be decoded; the pipeline gives no batch after that.
    """

    def __init__(self, form: Form, room: int, workers: int, device: torch.device) -> None:
        dali: Any = import_module("nvidia.dali")
        fn, types = dali.fn, dali.types
        self.room = room
        self.runs: deque[int] = deque()
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
            if device != _CPU:
                images = fn.resize(
                    images,
                    size=[form.size, form.size],
                    roi_start=fn.external_source(name="start", dtype=types.FLOAT, ndim=1),
                    roi_end=fn.external_source(name="end", dtype=types.FLOAT, ndim=1),
                    interp_type=types.INTERP_CUBIC,
                    antialias=True,
                )
            self._graph.set_outputs(images)

    def feed(self, data: list[np.ndarray], sizes: np.ndarray, windows: np.ndarray) -> None:
        """Begins with a batch, see `Pipelines.feed`.

        Large images are decoded in several runs, so that memory does not grow with the batch.
        """
        boxes = windows.astype(np.float32)
        parts = np.cumsum(sizes.prod(axis=1)) // _PIXELS_AT_ONCE
        edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(data)]
        for start, stop in pairwise(edges):
            self._graph.feed_input("data", data[start:stop])
            if self._device != _CPU:
                self._graph.feed_input("start", np.ascontiguousarray(boxes[start:stop, [1, 0]]))
                self._graph.feed_input("end", np.ascontiguousarray(boxes[start:stop, [3, 2]]))
            self._graph.schedule_run()
        self.runs.append(len(edges) - 1)

    def take(self) -> torch.Tensor | list[np.ndarray] | None:
        """The next batch, None if it has failed in this or before.

        On a CPU whole images, uint8 [H, W, channels]; on a GPU squares, uint8 [n, S, S, channels].
        """
        runs = self.runs.popleft()
        if self.failed:
            return None
        try:
            if self._device == _CPU:
                return [image for _ in range(runs) for image in self._images()]
            taken = [self._squares() for _ in range(runs)]
        except RuntimeError as error:
            if _DECODER not in str(error):
                raise
            self.failed = True
            self.close()
            return None
        return taken[0] if runs == 1 else torch.cat(taken)

    def _images(self) -> list[np.ndarray]:
        (images,) = self._graph.share_outputs()
        taken = [torch.from_dlpack(images.at(at)).numpy() for at in range(len(images))]
        self._graph.release_outputs()
        return taken

    def _squares(self) -> torch.Tensor:
        # Bound to this stream, memory is not used anew before the copy is made.
        (squares,) = self._graph.share_outputs(torch.cuda.current_stream(self._device))
        copied = torch.from_dlpack(squares.as_tensor()).clone()
        self._graph.release_outputs()
        return copied

    def close(self) -> None:
        """Ends its threads, once what has begun is decoded; what was taken stays as it is."""
        self._graph = None
