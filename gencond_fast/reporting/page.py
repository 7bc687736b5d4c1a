"""The report: one HTML page about finished runs that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from gencond_fast._version import __version__
from gencond_fast.errors import InputError
from gencond_fast.reporting.comparison import accuracy_charts, compare
from gencond_fast.reporting.picture import PICTURE_NAME, accuracy_png
from gencond_fast.reporting.record import read_records
from gencond_fast.reporting.section import Section, make_section
from gencond_fast.reporting.svg import without_control_characters
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.files import write_atomic

PAGE_NAME = "report.html"
_MOST_BYTES = 3_000_000
_PICTURE_BYTES = 2_200_000  # of all runs together


def write_report(
    runs: Sequence[str | Path], out: Path | None = None, data: str | None = None
) -> list[Path]:
    """Writes a page about finished runs, and its charts of accuracies as a PNG beside it.

    Args:
        runs: run directories.
        out: the page; `report.html` in the first run directory when None.
        data: path or name of the data that the runs were condensed from, for real images in the
            feature map.

    Returns:
        The page and, where there are accuracies on test images, `accuracy.png`.

    Raises:
        InputError: a run is not finished, one of its files is damaged, the data is not that of a
            run, or a file cannot be written.
    """
    if not runs:
        raise InputError("there is no run to report on: give run directories")
    records = read_records(runs)
    page = out or records[0].directory / PAGE_NAME
    _refuse_unwritable(page)
    share = _PICTURE_BYTES // len(records)
    sections = [
        make_section(record, f"run{place}", share, data) for place, record in enumerate(records)
    ]
    contents = {page: render(sections).encode()}
    if len(contents[page]) > _MOST_BYTES:
        raise InputError(
            f"a page about {len(records)} runs would weigh more than {format_bytes(_MOST_BYTES)}: "
            "report on fewer of them at a time"
        )
    charts = accuracy_charts(sections)
    if charts:
        contents[page.with_name(PICTURE_NAME)] = accuracy_png(charts)
    for path, content in contents.items():
        _write(path, content)
    return list(contents)


def render(sections: Sequence[Section]) -> str:
    """The page as text."""
    page = (
        _templates()
        .get_template("page.html")
        .render(
            sections=sections,
            comparison=compare(sections) if len(sections) > 1 else None,
            version=__version__,
        )
    )
    return without_control_characters(page)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomic(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be written ({reason}): give another --out") from None


def _refuse_unwritable(path: Path) -> None:
    """Before the work is done."""
    if path.is_dir():
        raise InputError(f"--out {path} is a folder: give the name of a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out {path}: the folder {path.parent} does not exist")
    if path.name == PICTURE_NAME:
        raise InputError(f"--out {path}: so is the chart beside the page called; give another")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("gencond_fast.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = format_bytes
    environment.filters["plain"] = _plain
    return environment


def _plain(value: object) -> str:
    """An option for people."""
    if value is None or value == "":
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
