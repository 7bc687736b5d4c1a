"""`public-names` documents every public name of a module, so no list can go stale."""

import dataclasses
import importlib
import inspect
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_KINDS = ("function", "class", "exception")


def kind_of(value: Any) -> str | None:
    """Which autodoc directive documents a value; None for constants and modules."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if callable(value) else None


def entry(kind: str, name: str, value: Any) -> list[str]:
    """The lines that document a name; the options of a config have a page of their own."""
    if kind == "class" and dataclasses.is_dataclass(value) and name.endswith("Config"):
        first = (value.__doc__ or "").partition("\n")[0]
        told = f"   {first} Its options are on the page :doc:`/reference/config`."
        return [f".. py:class:: {name}", "", told, ""]
    return [f".. auto{kind}:: {name}", *(["   :members:"] if kind == "class" else []), ""]


def names_of(module: ModuleType) -> list[str]:
    """The `__all__` of a module; without one, the public classes and functions it defines."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return sorted(getattr(module, "__all__", own), key=str.lower)


class PublicNames(SphinxDirective):
    """`.. public-names:: MODULE`, with `:kind:` function, class or exception."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "kind": lambda text: directives.choice(text, _KINDS),
    }

    def run(self) -> list[nodes.Node]:
        """Writes one autodoc directive a name and lets Sphinx read them."""
        module = importlib.import_module(self.arguments[0])
        kinds = (self.options["kind"],) if "kind" in self.options else _KINDS
        lines = StringList()
        for name in names_of(module):
            kind = kind_of(getattr(module, name))
            if kind in kinds:
                for line in entry(kind, f"{module.__name__}.{name}", getattr(module, name)):
                    lines.append(line, self.get_source_info()[0], self.lineno)
        parent = nodes.container()
        self.state.nested_parse(lines, self.content_offset, parent)
        return parent.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
