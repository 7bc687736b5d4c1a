"""The image files of a tree of folders, on disk or in an archive."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Listing:
    """The N images of a tree in reading order. Memory: 12 bytes an image, and its file name.

    Attributes:
        folders: the path of every folder below the root as a tuple of names, also of empty ones.
        folder_of: int32 [N], the place of every image's folder in `folders`.
        text: uint8, the names of all files one after the other.
        ends: int64 [N], where every name ends in `text`.
    """

    folders: list[tuple[str, ...]]
    folder_of: np.ndarray
    text: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, index: int) -> bytes:
        """The file name of an image, in the bytes of the file system."""
        return self.text[self.ends[index - 1] if index else 0 : self.ends[index]].tobytes()

    def path(self, index: int) -> str:
        """The path of an image below the root."""
        folder = self.folders[self.folder_of[index]]
        return "/".join((*folder, os.fsdecode(self.name(index))))


class Lister:
    """Makes a `Listing`, image by image."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, ...], int] = {}
        self._folder_of = array("i")
        self._text = bytearray()
        self._ends = array("q")

    def add_folder(self, parts: tuple[str, ...]) -> int:
        """Adds a folder, if it is new, and returns its place."""
        return self._folders.setdefault(parts, len(self._folders))

    def add_image(self, folder: int, name: str) -> None:
        """Adds an image of the folder at place `folder`."""
        self._folder_of.append(folder)
        self._text += os.fsencode(name)
        self._ends.append(len(self._text))

    def listing(self) -> Listing:
        """The listing; nothing may be added after that."""
        return Listing(
            list(self._folders),
            np.frombuffer(self._folder_of, dtype=np.int32),
            np.frombuffer(self._text, dtype=np.uint8),
            np.frombuffer(self._ends, dtype=np.int64),
        )
