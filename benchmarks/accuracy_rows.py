"""Rows of a table of accuracies: each a condensation and what is taught with it, as YAML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import yaml
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated

from gencond_fast.cli.condense import condense as condense_command
from gencond_fast.cli.main import evaluate as evaluate_command
from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.config.options import (
    changed_options,
    parse,
    parse_assignments,
    read_yaml,
    resolve,
)
from gencond_fast.data.formats.opening import KNOWN_NAMES
from gencond_fast.errors import InputError

_STRICT = ConfigDict(extra="forbid")
_DIGITS = 8
_CHOSEN = ("data", "out", "run")  # by the row and by the runner

Options = dict[str, Any]


@validated(frozen=True, config=_STRICT)
class _Defaults:
    data: str | None = None
    condense: Options = dataclasses.field(default_factory=dict)
    evaluate: Options = dataclasses.field(default_factory=dict)


@validated(frozen=True, config=_STRICT)
class _Entry(_Defaults):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = dataclasses.field(
        kw_only=True
    )


@validated(frozen=True, config=_STRICT)
class _File:
    rows: Annotated[tuple[_Entry, ...], Field(min_length=1)]
    defaults: _Defaults = _Defaults()


@dataclasses.dataclass(frozen=True)
class Row:
    """One condensation and its evaluation.

    Attributes:
        name: in tables and of files.
        data: known name of the data set, or its path below the folder of all data sets.
        preset: of the condensation.
        method: of the condensation.
        condense: its other options, as `section.option: value`.
        evaluate: options of the evaluation.
        config: the whole condensation, without the place of its run directory.
        evaluation: the whole evaluation, without the place of the run.
    """

    name: str
    data: str
    preset: str
    method: str
    condense: Options
    evaluate: Options
    config: Config
    evaluation: EvaluateConfig

    @property
    def key(self) -> str:
        """Names the run directory: rows of the same condensation share it."""
        options = {k: v for k, v in changed_options(self.config).items() if k not in _CHOSEN}
        text = json.dumps([self.data, options], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        return f"{Path(self.data).stem}-{digest}"

    def commands(self, root: Path, run: Path, result: Path) -> tuple[list[str], list[str]]:
        """The arguments of `gencond-fast` that condense, and those that evaluate.

        Args:
            root: the folder of all data sets.
            run: the run directory.
            result: the JSON file of the evaluation.
        """
        data = self.data if self.data in KNOWN_NAMES else str(root / self.data)
        preset = [] if self.preset == "standard" else ["--preset", self.preset]
        method = [] if self.method == "gencond" else ["--method", self.method]
        condense = ["condense", "--data", data, "--out", str(run), *preset, *method]
        evaluate = ["evaluate", str(run), "--data", data, "--json", str(result)]
        return (
            condense + _arguments(condense_command, Config, self.condense),
            evaluate + _arguments(evaluate_command, EvaluateConfig, self.evaluate),
        )


def read_rows(path: Path) -> list[Row]:
    """Reads a file of rows, whose `defaults` each row may override option by option.

    Raises:
        InputError: the file is none, two rows have one name, or an option of a row is unknown or
            has a value it cannot take.
    """
    try:
        file = parse(_File, read_yaml(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    names = [entry.name for entry in file.rows]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path} has several rows with the name {name!r}: rename them")
    rows = []
    for entry in file.rows:
        try:
            rows.append(_row(entry, file.defaults))
        except InputError as error:
            raise InputError(f"{path}, row {entry.name!r}: {error}") from None
    return rows


def _row(entry: _Entry, defaults: _Defaults) -> Row:
    data = entry.data or defaults.data
    if data is None:
        raise InputError("option 'data' is missing")
    condense = {**defaults.condense, **entry.condense}
    evaluate = {**defaults.evaluate, **entry.evaluate}
    for options in (condense, evaluate):
        for name in _CHOSEN:
            if name in options:
                raise InputError(f"option {name!r} is not for a row to choose: leave it out")
    preset, method = condense.pop("preset", "standard"), condense.pop("method", "gencond")
    given = {"data": data}
    config = resolve(_nested(condense), given | {"out": ""}, preset=preset, method=method)
    evaluation = parse(EvaluateConfig, _nested(evaluate) | given | {"run": ""})
    return Row(entry.name, data, preset, method, condense, evaluate, config, evaluation)


def _nested(options: Options) -> Options:
    return parse_assignments(f"{name}={_text(value)}" for name, value in options.items())


def _text(value: Any) -> str:
    """A value as YAML in a line, words without quotation marks."""
    bare = isinstance(value, str) and yaml.safe_load(value) == value
    return value if bare else json.dumps(value)


def _arguments(command: click.Command, kind: type, options: Mapping[str, Any]) -> list[str]:
    """Options of a config by their own flags where they have one, the others by `--set`."""
    fields = {field.name for field in dataclasses.fields(kind)}
    flags = {p.name: p for p in command.params if isinstance(p, click.Option) and p.name in fields}
    arguments = []
    for name, value in options.items():
        flag = flags.get(name)
        if flag and flag.multiple and isinstance(value, list):
            arguments += [part for each in value for part in (flag.opts[0], str(each))]
        elif flag and not flag.multiple and isinstance(value, str | int | float):
            arguments += [flag.opts[0], str(value)]
        else:
            arguments += ["--set", f"{name}={_text(value)}"]
    return arguments
