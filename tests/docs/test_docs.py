"""The documentation builds without a warning, and names only options that exist."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import gencond_fast.config
from gencond_fast.cli.main import cli
from gencond_fast.config import METHODS, OBJECTIVES, PRESETS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LOG = DOCS / "develop" / "experiments.md"  # history, with options that are gone
PAGES = sorted(page for kind in ("*.md", "*.rst") for page in DOCS.rglob(kind) if page != LOG)
# of torchrun, huggingface-cli and pip
FOREIGN = {
    *("--nproc-per-node", "--max-restarts", "--repo-type", "--local-dir", "--no-build-isolation"),
}
FILES = {"csv", "html", "json", "md", "npz", "pt", "py", "svg", "tar", "yaml"}


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


def flags(command: click.Command) -> set[str]:
    return {"--help", *(flag for option in command.params for flag in option.opts)}


COMMANDS = {name: flags(command) for name, command in commands(cli)}


def config_options() -> set[str]:
    """`option` and `section.option` of every config."""
    configs = [getattr(gencond_fast.config, name) for name in gencond_fast.config.__all__]
    names = set()
    for config in filter(dataclasses.is_dataclass, configs):
        for field in dataclasses.fields(config):
            names.add(field.name)
            if dataclasses.is_dataclass(field.default):
                inner = dataclasses.fields(field.default)
                names |= {f"{field.name}.{each.name}" for each in inner}
    return names


def measuring_options() -> set[str]:
    """Options of programs in the repository that are not part of the package."""
    files = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests" / "robustness").glob("*.py")]
    return {flag for file in files for flag in re.findall(r'"(--[a-z-]+)"', file.read_text())}


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def build(source: Path, made: Path) -> subprocess.CompletedProcess[str]:
    options = ("-W", "--keep-going", "-E", "-q", "-b", "html")
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(made)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def extension(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_names_only_flags_that_exist(page):
    known = set().union(*COMMANDS.values()) | FOREIGN | measuring_options()
    assert flags_in(page.read_text()) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_command_line_has_only_flags_of_its_command(page):
    text = page.read_text().replace("\\\n", " ")
    names = "|".join(sorted(COMMANDS, key=len, reverse=True))
    lines = re.findall(rf"(?:gencond-fast|-m gencond_fast) ({names})\b([^`#\n]*)", text)
    wrong = {name: flags_in(rest) - COMMANDS[name] for name, rest in lines}
    assert {name: flags for name, flags in wrong.items() if flags} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_names_only_options_that_exist(page):
    known = config_options()
    sections = "|".join({name.partition(".")[0] for name in known if "." in name})
    text = page.read_text()
    dotted = re.findall(rf"(?<![\w./-])((?:{sections})\.([a-z_]+))\b(?!/)", text)
    named = {name for name, last in dotted if last not in FILES}
    named |= set(re.findall(r"--set \"?([a-z_.]+)=", text))
    assert named - known - {"section.option"} == set()


def test_the_pages_name_flags_and_options():
    text = "".join(page.read_text() for page in PAGES)
    assert {"--ipc", "--baseline", "--soft-labels"} <= flags_in(text)
    assert "losses.intra" in text


@pytest.mark.parametrize(
    ("page", "names"),
    [("budget", PRESETS), ("methods", METHODS)],
    ids=["presets", "methods"],
)
def test_a_table_has_a_row_for_every_choice(page, names):
    rows = re.findall(r"^\| `(\w+)`", (DOCS / "guides" / f"{page}.md").read_text(), re.MULTILINE)
    assert set(names) <= set(rows)


def test_the_picture_of_the_layers_has_every_layer():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    packages = {name for layer in layers for name in layer.split(" | ") if name[0] != "_"}
    picture = (DOCS / "develop" / "layers.svg").read_text()
    assert packages <= set(re.findall(r'class="name"[^>]*>([^<]+)<', picture))


def test_every_option_has_a_sentence_and_every_sentence_an_option(monkeypatch):
    module = extension("config_options", monkeypatch)
    configs = module.top_level_configs()
    for kind in [*configs, *(inner for each in configs for _, inner in module.sections(each))]:
        fields = {field.name for field in dataclasses.fields(kind)}
        inner = {name for name, _ in module.sections(kind)}
        said = module.sentences(kind)
        assert fields - inner <= said.keys() <= fields, kind.__name__


@pytest.mark.parametrize(("kind", "table"), [("method", METHODS), ("objective", OBJECTIVES)])
def test_the_reference_lists_what_a_name_sets(kind, table, monkeypatch):
    module = extension("config_options", monkeypatch)
    settings = {name: ", ".join(module.settings(options)) for name, options in table.items()}
    assert settings.keys() == table.keys()
    assert all(settings[name] or not options for name, options in table.items())


def test_markup_in_docstrings_is_shown_as_it_is(monkeypatch):
    escaped = extension("plain_docstrings", monkeypatch).escaped
    assert escaped("|a|^2 * b_ in `*code_*`") == r"\|a\|^2 \* b\_ in `*code_*`"
    assert escaped("num_classes stays") == "num_classes stays"


def test_a_formula_after_a_colon_stays_in_lines_of_its_own(monkeypatch):
    plain = extension("plain_docstrings", monkeypatch).plain
    made = plain(["The loss is:", "", "    a * b_", "", "for c*d:", "and more"])
    assert made == ["The loss is::", "", "    a * b_", "", r"for c\*d:", "and more"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    done = build(DOCS, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    reference = {
        page: (tmp_path / f"reference/{page}.html").read_text() for page in ("cli", "config")
    }
    assert "--soft-labels" in reference["cli"]
    assert "losses.temperature" in reference["config"]
    assert "intra_class_loss" in (tmp_path / "reference/python.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken", ["[text](missing.md)", "[text](index.md#missing)", "{term}`missing`"]
)
def test_a_broken_link_fails_the_build(broken, tmp_path):
    pytest.importorskip("sphinx")
    source = tmp_path / "source"
    shutil.copytree(DOCS / "_ext", source / "_ext")
    shutil.copy(DOCS / "conf.py", source)
    (source / "index.md").write_text(f"# Title\n\n{broken}\n")
    assert build(source, tmp_path / "made").returncode != 0
