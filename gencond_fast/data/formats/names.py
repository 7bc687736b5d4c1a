"""Which files are images by their names, and which folders and files are left out for theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from PIL import features

from gencond_fast.data.formats.annotations import NOTES
from gencond_fast.system.words import counted

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".pcx", ".ico", ".sgi", ".rgb", ".bw",
    *((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx") if features.check("jpg_2000") else ()),
    *((".avif",) if "avif" in features.modules and features.check("avif") else ()),
)  # fmt: skip

# what desktops, NAS systems and notebooks put beside files: thumbnails, bins, snapshots
_SYSTEM_FOLDERS = {
    "__macosx", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",
    "$recycle.bin", "system volume information", "lost+found", "thumbnails", "__pycache__",
}  # fmt: skip
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
# texts beside images, which nobody takes for some
_TEXTS = {
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".rst", ".html", ".pdf", ".yaml",
    ".yml", ".toml", ".ini", ".log", ".py", ".ipynb", ".sh", ".md5", ".sha256", ".sha512",
    ".lock", ".names", ".solution", ".cls", ".xmp",
}  # fmt: skip
_SHOWN = 4


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out because of its name."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def is_image(name: str) -> bool:
    """Whether the name of a file is that of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name)


class LeftOut:
    """Counts what is left out for its name, and says so in a line.

    Args:
        counts: as an earlier `counts` has them.
    """

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self.counts = Counter(counts or {})

    def add_file(self, name: str) -> None:
        """Notes a file that is not read as an image, if anybody could take it for one."""
        suffix = PurePosixPath(name).suffix.lower()
        if name.lower() in _SYSTEM_FILES or name in NOTES or name.startswith("._"):
            return
        if is_hidden(name):
            if suffix in IMAGE_SUFFIXES:
                self.counts["hidden images"] += 1
        elif suffix not in _TEXTS:
            self.counts[f"*{suffix}"] += 1

    def add_folder(self, name: str) -> None:
        """Notes a folder that is not looked into."""
        self.counts[f"{name}/"] += 1

    def add(self, other: LeftOut) -> None:
        """Notes what another one has noted."""
        self.counts.update(other.counts)

    def lines(self, location: str) -> tuple[str, ...]:
        """A line about all of it, or none."""
        kinds = [(name, count) for name, count in self.counts.most_common() if name[0] == "*"]
        folders = [name for name in self.counts if name.endswith("/")]
        parts = []
        if kinds:
            total = sum(count for _, count in kinds)
            shown = ", ".join(
                f"{n:,} {name[1:] or 'without a suffix'}" for name, n in kinds[:_SHOWN]
            )
            more = ", …" if len(kinds) > _SHOWN else ""
            parts.append(f"{counted(total, 'file')} of no known image format ({shown}{more})")
        if folders:
            total = sum(self.counts[name] for name in folders)
            more = ", …" if len(folders) > _SHOWN else ""
            hidden = counted(total, "hidden or system folder")
            parts.append(f"{hidden} ({', '.join(folders[:_SHOWN])}{more})")
        if self.counts["hidden images"]:
            parts.append(counted(self.counts["hidden images"], "hidden image"))
        return (f"left out in {location}: {'; '.join(parts)}",) if parts else ()
