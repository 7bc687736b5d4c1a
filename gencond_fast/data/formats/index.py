"""The index of a tree of image files: made by a scan that opens no file, and kept in the cache.

A cached index is used as long as it is true. To find out, every folder and every file is looked up
again (name, size, time of modification). So a changed tree is noticed as by a scan, but listing,
sorting and hashing are saved. Neither notices a file whose content changed while its size and its
time of modification, in nanoseconds, did not.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from gencond_fast.data.formats.scan import THREADS, Index, scan, stat_files
from gencond_fast.data.formats.tree import Listing
from gencond_fast.system.cache import cache_directory, cache_key, load_tensors, save_tensors

_SETTLED = 2 * 10**9  # ns; a tree may change again within one tick of its clock


def read_index(root: Path) -> Index:
    """The index of a tree, from the cache if it is there and still true, else from a scan.

    Raises:
        InputError: a folder or file cannot be read, or a folder links to one around it.
    """
    path = _path(root)
    kept = None if path is None else _load(path)
    if kept is not None and _is_true(kept, root):
        return kept
    started = time.time_ns()
    index = scan(root)
    newest = max(int(index.stamps.max()), int(index.times.max(initial=0)))
    if path is not None and newest < started - _SETTLED:
        _keep(index, path)
    return index


def _is_true(index: Index, root: Path) -> bool:
    """Whether no folder and no file has changed."""
    listing = index.listing
    if index.stamps[-1] != _stamp(os.fspath(root)):
        return False
    # the files of a folder are neighbours in the listing
    starts = np.flatnonzero(np.diff(listing.folder_of, prepend=-1))
    stops = np.append(starts[1:], len(listing))
    spans = dict(
        zip(listing.folder_of[starts].tolist(), zip(starts, stops, strict=True), strict=True)
    )

    def unchanged(place: int) -> bool:
        path = "/".join((os.fspath(root), *listing.folders[place]))
        if index.stamps[place] != _stamp(path):
            return False
        start, stop = spans.get(place, (0, 0))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                sizes, times = stat_files((listing.name(row) for row in range(start, stop)), handle)
            finally:
                os.close(handle)
        except OSError:
            return False
        return np.array_equal(index.sizes[start:stop], sizes) and np.array_equal(
            index.times[start:stop], times
        )

    with ThreadPoolExecutor(THREADS, thread_name_prefix="gencond-index") as pool:
        answers = pool.map(unchanged, range(len(listing.folders)))
        try:
            return all(answers)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _stamp(folder: str) -> int | None:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return None


def _path(root: Path) -> Path | None:
    """The file of the index of a tree; None where there is no cache."""
    try:
        directory = cache_directory("index")
    except OSError:
        return None
    return directory / f"{cache_key(kind='index', root=os.path.abspath(root))}.safetensors"


def _keep(index: Index, path: Path) -> None:
    about = bytearray(
        json.dumps([index.listing.folders, index.digest, index.compared, index.left_out]), "ascii"
    )
    arrays = {
        "about": np.frombuffer(about, dtype=np.uint8),
        "text": index.listing.text,
        "ends": index.listing.ends,
        "folder_of": index.listing.folder_of,
        "sizes": index.sizes,
        "times": index.times,
        "stamps": index.stamps,
    }
    with suppress(OSError):  # it would only have saved time
        save_tensors(path, {name: torch.from_numpy(array) for name, array in arrays.items()})


def _load(path: Path) -> Index | None:
    tensors = load_tensors(path)
    if tensors is None:
        return None
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        folders, *about = json.loads(arrays["about"].tobytes())
        digest, compared, left_out = about
        listing = Listing(
            [tuple(parts) for parts in folders], arrays["folder_of"], arrays["text"], arrays["ends"]
        )
        times, stamps = arrays["times"], arrays["stamps"]
        index = Index(listing, arrays["sizes"], times, stamps, digest, compared, left_out)
        return index if _goes_together(index) else None
    except (KeyError, ValueError, TypeError, RecursionError):
        return None


def _goes_together(index: Index) -> bool:
    """Whether the arrays fit together and point inside each other."""
    listing = index.listing
    starts = np.concatenate([[0], listing.ends[:-1]])
    return bool(
        len(listing.folder_of) == len(listing) == len(index.sizes) == len(index.times) > 0
        and len(index.stamps) == len(listing.folders) + 1
        and (starts < listing.ends).all()
        and listing.ends[-1] == len(listing.text)
        and (np.diff(listing.folder_of, prepend=0) >= 0).all()
        and listing.folder_of[-1] < len(listing.folders)
        and all(isinstance(part, str) for parts in listing.folders for part in parts)
        and isinstance(index.digest, str)
        and isinstance(index.compared, str)
        and isinstance(index.left_out, dict)
        and all(isinstance(count, int) for count in index.left_out.values())
    )
