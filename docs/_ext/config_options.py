"""`config-options` lists every option from the config classes themselves.

Names, types and defaults come from the fields, the sentences from the `Attributes:` of the
docstrings. A field without a sentence, or a sentence without a field, is a warning, which the
strict build turns into an error.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import gencond_fast.config
from gencond_fast.config import METHODS, OBJECTIVES, PRESETS
from gencond_fast.config.options import flatten

_log = logging.getLogger(__name__)
_ENTRY = re.compile(r"^ {4,8}(?P<names>\w+(?:, \w+)*): (?P<text>.*)$")
_TABLES = {"preset": PRESETS, "method": METHODS, "objective": OBJECTIVES}


def sections(kind: type) -> Iterator[tuple[str, type]]:
    """The options of a config that are configs themselves."""
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.default):
            yield field.name, type(field.default)


def top_level_configs() -> list[type]:
    """The configs that no other one has as a section: one for each kind of work."""
    named = [getattr(gencond_fast.config, name) for name in gencond_fast.config.__all__]
    configs = [value for value in named if isinstance(value, type) and _is_config(value)]
    inner = {section for kind in configs for _, section in sections(kind)}
    return sorted((kind for kind in configs if kind not in inner), key=_most_options_first)


def sentences(kind: type) -> dict[str, str]:
    """What the docstring of a config, and of those it inherits from, says of each option."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        found |= _entries(each.__doc__ or "")
    return found


def _entries(text: str) -> dict[str, str]:
    lines = text.partition("Attributes:\n")[2].splitlines()
    entries: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        entry = _ENTRY.match(line)
        if entry and not line.startswith(" " * 9):
            current = [entry["text"]]
            entries |= dict.fromkeys(entry["names"].split(", "), current)
        elif line.strip():
            current.append(line.strip())
        elif current:
            break
    return {name: " ".join(words) for name, words in entries.items()}


def _is_config(value: type) -> bool:
    return dataclasses.is_dataclass(value) and value.__name__.endswith("Config")


def _most_options_first(kind: type) -> int:
    return -sum(len(dataclasses.fields(inner)) for _, inner in sections(kind))


def type_text(hint: Any) -> str:
    """A type as a user reads it: `1, 2` for choices, `or null` where nothing may be given."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin is typing.Literal:
        return ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(each) for each in arguments)
    if origin is tuple:
        return f"list of {type_text(arguments[0])}"
    if origin is not None:
        return "weights by name"
    names = {int: "whole number", float: "number", str: "text", bool: "true, false"}
    return "null" if hint is types.NoneType else names.get(hint, str(hint))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is dataclasses.MISSING:
        return "required"
    else:
        value = field.default
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()


def _paragraph(text: str) -> nodes.paragraph:
    made = nodes.paragraph()
    for number, piece in enumerate(text.split("`")):
        made += nodes.literal(text=piece) if number % 2 else nodes.Text(piece)
    return made


def table(titles: list[str], rows: list[list[str]], widths: list[int]) -> nodes.table:
    """A table whose cells are text with `code`."""
    group = nodes.tgroup(cols=len(titles))
    group += [nodes.colspec(colwidth=width) for width in widths]
    head, body = nodes.thead(), nodes.tbody()
    for place, cells in [(head, titles), *((body, row) for row in rows)]:
        line = nodes.row()
        for cell in cells:
            line += nodes.entry("", _paragraph(cell))
        place += line
    group += [head, body]
    return nodes.table("", group, classes=["options"])


def _options_table(kind: type, prefix: str) -> nodes.table:
    said = sentences(kind)
    inner = dict(sections(kind))
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = [field for field in dataclasses.fields(kind) if field.name not in inner]
    for name in {field.name for field in fields} - said.keys():
        _log.warning("%s.%s has no sentence in the docstring", kind.__name__, name)
    for name in said.keys() - {field.name for field in dataclasses.fields(kind)}:
        _log.warning("the docstring of %s describes %s, which is gone", kind.__name__, name)
    rows = [
        [
            f"`{prefix}{field.name}`",
            type_text(hints[field.name]),
            f"`{_default(field)}`",
            said.get(field.name, ""),
        ]
        for field in fields
    ]
    return table(["Option", "Type", "Default", "What"], rows, [22, 14, 14, 50])


class ConfigOptions(SphinxDirective):
    """`config-options`: a section for each config, with a table for each of its sections."""

    def run(self) -> list[nodes.Node]:
        """Builds sections and tables."""
        return [self._section(kind) for kind in top_level_configs()]

    def _section(self, kind: type) -> nodes.section:
        made = _titled(kind.__name__, f"options-{kind.__name__.lower()}")
        made += _paragraph((kind.__doc__ or "").partition("\n")[0])
        made += _options_table(kind, "")
        for name, inner in sections(kind):
            part = _titled(name, f"options-{kind.__name__.lower()}-{name}")
            part += _paragraph((inner.__doc__ or "").partition("\n")[0])
            part += _options_table(inner, f"{name}.")
            made += part
        return made


class NamedOptions(SphinxDirective):
    """`named-options:: preset`: which options a preset, a method or an objective sets."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Builds the table."""
        kind = self.arguments[0]
        rows = [
            [f"`--{kind} {name}`", ", ".join(settings(options)) or "the defaults"]
            for name, options in _TABLES[kind].items()
        ]
        return [table([kind.capitalize(), "Sets"], rows, [25, 75])]


def settings(options: dict[str, Any]) -> Iterator[str]:
    """What a preset, method or objective sets, each as `section.option=value`."""
    for name, value in flatten(options).items():
        value = list(value) if isinstance(value, tuple) else value
        yield f"`{name}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"


def _titled(title: str, label: str) -> nodes.section:
    made = nodes.section(ids=[label], names=[label])
    made += nodes.title(text=title)
    return made


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directives."""
    app.add_directive("config-options", ConfigOptions)
    app.add_directive("named-options", NamedOptions)
    return {"parallel_read_safe": True}
