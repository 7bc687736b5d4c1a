"""From what users write (YAML, `key=value`, presets) to a config, and back."""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from gencond_fast.config import METHODS, OBJECTIVES, PRESETS, PRIVATE, Config, NetworkConfig
from gencond_fast.config.presets import METHOD_STEPS
from gencond_fast.config.renamed import GONE, current_names
from gencond_fast.errors import InputError

T = TypeVar("T")

_DEEPEST = 20  # brackets within brackets; the time that YAML takes grows with their square
_LONGEST = 1 << 18  # bytes of a config file; ours are a few thousand
_quoted = reprlib.Repr()  # values in messages: aliases of YAML can stand for any number of others
_quoted.maxlevel = 2
_quoted.maxstring = _quoted.maxother = _quoted.maxlong = 120


class _Loader(yaml.SafeLoader):
    """Plain values alone, and none that takes long to read."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= _DEEPEST:
            raise yaml.YAMLError(f"there are more than {_DEEPEST} brackets within brackets")
        super().fetch_flow_collection_start(token)


def _whole_number(loader: yaml.SafeLoader, node: Any) -> int:
    value = loader.construct_yaml_int(node)
    if abs(value) >= 1 << 63:
        raise yaml.YAMLError("a number is too large")
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def parse(kind: type[T], values: Mapping[str, Any]) -> T:
    """Builds a config from nested plain values.

    Raises:
        InputError: an option is unknown, or has a value it cannot take.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise InputError(_first_problem(kind, error)) from None


def resolve(
    *layers: Mapping[str, Any],
    preset: str = "standard",
    method: str = "gencond",
    objective: str = "accuracy",
) -> Config:
    """Defaults, then the preset, the method, the objective, and each layer over the one before.

    Where a layer asks for privacy, what that needs comes after the method.

    Raises:
        InputError: as `parse`, or the preset, the method or the objective is unknown, or knows no
            privacy.
    """
    merged: dict[str, Any] = {}
    named = [
        {} if method == "gencond" else METHOD_STEPS,
        _named("preset", preset, PRESETS),
        _named("method", method, METHODS),
        _named("objective", objective, OBJECTIVES),
    ]
    if any(_asks_for_privacy(layer.get("privacy")) for layer in layers):
        _refuse_unprivate(preset, method, objective)
        named.append(PRIVATE)
    for layer in (*named, *layers):
        merged = merge(merged, layer)
    return parse(Config, merged)


def to_plain(config: Any) -> dict[str, Any]:
    """A config as nested plain values, fit for YAML and JSON."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _asks_for_privacy(section: object) -> bool:
    return isinstance(section, Mapping) and section.get("epsilon") is not None


def _refuse_unprivate(preset: str, method: str, objective: str) -> None:
    refused = {
        "preset": (preset, preset == "accurate"),
        "method": (method, method != "gencond"),
        "objective": (objective, objective != "accuracy"),
    }
    for kind, (name, looks) in refused.items():
        if looks:
            raise InputError(
                f"{kind} {name!r} looks at real images again and again, which --dp-epsilon does "
                f"not allow: leave --{kind} out"
            )


def changed_options(config: Any) -> dict[str, Any]:
    """The options that differ from their defaults, flat, as `section.option: value`."""
    defaults = flatten({f.name: _default(f) for f in dataclasses.fields(config)})
    return {k: v for k, v in flatten(to_plain(config)).items() if defaults.get(k) != v}


def differences(one: Any, other: Any) -> list[str]:
    """Sentences such as `training.steps is 100, was 50` for two configs of one kind."""
    now, before = flatten(to_plain(one)), flatten(to_plain(other))
    return [
        f"{key} is {now.get(key)}, was {before.get(key)}"
        for key in sorted(now.keys() | before.keys())
        if now.get(key) != before.get(key)
    ]


def share_networks(total: int, method: str = "gencond", private: bool = False) -> dict[str, int]:
    """The options of a number of feature networks, random and trained as a method has them.

    Of the default one a third is random. A private run has random ones alone, since trained ones
    have looked at real images. Trained networks take what cannot be shared evenly.

    Raises:
        InputError: the number is below 1, or the method is unknown.
    """
    if total < 1:
        raise InputError(f"there must be at least 1 feature network, not {total}")
    if private:
        return {"random": total}
    options = NetworkConfig(**_named("method", method, METHODS).get("networks", {}))
    all_of_them = options.random + options.trained + options.interpolated
    random = total * options.random // all_of_them
    interpolated = total * options.interpolated // all_of_them
    trained = total - random - interpolated
    return {"random": random, "trained": trained, "interpolated": interpolated}


def parse_discrepancies(texts: Iterable[str]) -> dict[str, float]:
    """Turns `NAME` or `NAME:WEIGHT` strings into weights by name; a weight left out is 1.

    Raises:
        InputError: a weight is no number, or a name comes twice.
    """
    weights: dict[str, float] = {}
    for text in texts:
        name, colon, weight = text.partition(":")
        if name in weights:
            raise InputError(f"--discrepancy {name} is given twice: give one weight")
        try:
            weights[name] = float(weight) if colon else 1.0
        except ValueError:
            raise InputError(
                f"--discrepancy {text!r}: {weight!r} is no number, give NAME or NAME:WEIGHT"
            ) from None
    return weights


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a config file.

    Raises:
        InputError: the file is missing, too long, is no YAML, or does not hold named options.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ValueError(f"it is longer than {_LONGEST:,} bytes")
        values = yaml.load(content.decode("utf-8"), _Loader)
    except FileNotFoundError:
        raise InputError(f"config file {path} does not exist") from None
    except Exception as error:  # values such as dates and numbers raise what they like
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"config file {path} cannot be read as YAML: {reason}") from None
    if not isinstance(values or {}, dict):
        raise InputError(f"config file {path} must hold lines of `option: value`")
    return {name: value for name, value in (values or {}).items() if value is not None}


def read_run_config(path: Path) -> Config:
    """The options of a run from its `config.yaml`, whichever version wrote it.

    Raises:
        InputError: the file is missing, damaged, or holds options that no version had.
    """
    return parse(Config, _nested(current_names(flatten(read_yaml(path)))))


def parse_assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """Turns `section.option=value` strings into nested values; values are read as YAML.

    Raises:
        InputError: a string has no `=`, or its value is no YAML.
    """
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key.strip():
            raise InputError(f"--set {pair!r} is not of the form key=value")
        try:
            value = yaml.load(text, _Loader)
        except Exception:  # as above
            raise InputError(f"--set {pair!r}: {text!r} cannot be read as a value") from None
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        nested = merge(nested, value, whole=())
    return nested


def _named(kind: str, name: str, table: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    if name not in table:
        raise InputError(f"unknown {kind} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def merge(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    # the discrepancies are a choice, not a section: naming one replaces the default
    whole: Collection[str] = ("discrepancies",),
) -> dict[str, Any]:
    """Nested values with others over them; those of a name in `whole` replace what was there."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        replace = not nested or key in whole
        merged[key] = value if replace else merge(merged[key], value, whole)
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their paths, as `section.option: value`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `flatten`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def _default(option: dataclasses.Field[Any]) -> Any:
    value = option.default if option.default is not dataclasses.MISSING else None
    return to_plain(value) if dataclasses.is_dataclass(value) else value


def _first_problem(kind: type, error: ValidationError) -> str:
    problems = error.errors()
    unknown = (each for each in problems if each["type"] == "unexpected_keyword_argument")
    problem = next(unknown, problems[0])
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        if place in GONE:
            return f"option {place!r} is gone: {GONE[place]}"
        close = difflib.get_close_matches(place, _option_names(kind), n=1, cutoff=0.5)
        hint = f": did you mean {close[0]!r}?" if close else ""
        return f"unknown option {place!r}{hint}"
    if problem["type"] == "missing":
        return f"option {place!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not place:
        return message
    return f"option {place!r} cannot be {_quoted.repr(problem['input'])}: {message}"


def _option_names(kind: type, prefix: str = "") -> list[str]:
    names: list[str] = []
    for option in dataclasses.fields(kind):
        names.append(prefix + option.name)
        if dataclasses.is_dataclass(option.default):
            names += _option_names(type(option.default), f"{prefix}{option.name}.")
    return names
