"""Every option with its type, default and meaning, taken from the config classes themselves."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic.fields import FieldInfo

from gencond_fast.config.condensing import Config

_NAMES: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "true | false"}
_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}
_ELSEWHERE = "as in `Config`."
_ENTRY = re.compile(r"( *)([a-z_0-9]+(?:, [a-z_0-9]+)*): (.*)")


@dataclass(frozen=True)
class Option:
    """One option of a config.

    Attributes:
        name: as `--set` takes it, such as `training.steps`.
        type: such as `integer >= 1` or `dct | generator | pixels`.
        default: as YAML; empty where there is none.
        text: what it does, from the docstring of its class.
    """

    name: str
    type: str
    default: str
    text: str


def describe_options(config: type, prefix: str = "") -> list[Option]:
    """All options of a config class, those of its sections included.

    Args:
        config: a config dataclass whose docstring has an `Attributes:` section.
        prefix: goes before every name.
    """
    hints = get_type_hints(config, include_extras=True)
    texts = _texts(config)
    found: list[Option] = []
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found += describe_options(hint, f"{prefix}{field.name}.")
        else:
            text = texts.get(field.name, "")
            if text == _ELSEWHERE:
                text = _texts(Config)[field.name]
            found.append(Option(prefix + field.name, _type(hint), _default(field), text))
    return found


def _texts(config: type) -> dict[str, str]:
    """The entries of the `Attributes:` sections of a class and its bases, each in one line."""
    docs = [inspect.cleandoc(each.__doc__ or "") for each in reversed(config.__mro__)]
    lines = [line for doc in docs for line in doc.partition("Attributes:\n")[2].splitlines()]
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        entry = _ENTRY.fullmatch(line)
        if entry and len(entry[1]) == 4:
            names = entry[2].split(", ")
            texts |= dict.fromkeys(names, entry[3])
        elif line.strip():
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def _type(hint: Any) -> str:
    kind, arguments = get_origin(hint), get_args(hint)
    if hint is NoneType:
        return "null"
    if kind is Annotated:
        return " ".join([_type(arguments[0]), *_bounds(arguments[1:])])
    if kind is Literal:
        return " | ".join(map(str, arguments))
    if kind in (Union, UnionType):
        return " | ".join(map(_type, arguments))
    if kind is tuple:
        return f"list of {_type(arguments[0])}"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return f"{_type(arguments[1])} by name"
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def _bounds(metadata: tuple[Any, ...]) -> list[str]:
    limits = [limit for each in metadata if isinstance(each, FieldInfo) for limit in each.metadata]
    found = [
        text.format(_number(getattr(limit, name)))
        for limit in limits
        for name, text in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return [", ".join(found)] if found else []


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return ""
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
