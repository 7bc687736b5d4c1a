"""Rows of a results file as a table for the documents."""

from __future__ import annotations

import csv
from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("columns", nargs=-1, required=True)
@click.option("--where", multiple=True, help="COLUMN=VALUE that rows must have; all of them.")
def main(file: Path, columns: tuple[str, ...], where: tuple[str, ...]) -> None:
    """Print the COLUMNS of a CSV FILE as a Markdown table, in the order of its rows.

    A row that was left out has its reason in place of the first empty cell.
    """
    wanted = [condition.partition("=")[::2] for condition in where]
    with file.open(newline="", encoding="utf-8") as opened:
        reader = csv.DictReader(opened)
        unknown = {*columns, *(name for name, _ in wanted)} - set(reader.fieldnames or ())
        if unknown:
            raise click.UsageError(f"{file} has no column {', '.join(sorted(unknown))}")
        rows = [row for row in reader if all(row[name] == value for name, value in wanted)]
    click.echo(_line(columns))
    click.echo(_line(["---"] * len(columns)))
    for row in rows:
        cells = [row[column] for column in columns]
        if row.get("skipped") and "" in cells:
            cells[cells.index("")] = row["skipped"]
        click.echo(_line(cells))


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
