"""The program as its user meets it: arguments in, exit code and two streams out."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

# settings under which a condensation of the digits takes a second
TINY = (
    *("--bytes", "8KB", "--steps", "40"),
    *("--set", "networks.width=8", "--set", "networks.train_steps=5"),
    *("--set", "networks.random=1", "--set", "networks.trained=2"),
)


def parsed(group: click.Group, name: str, arguments: list[str]) -> click.Context:
    """A command with its options, as the group would call it.

    A command remembers the names of its help option from the first context that it has, so that
    one without the group would change what later tests see.
    """
    parent = click.Context(group, **group.context_settings)
    return group.commands[name].make_context(name, list(arguments), parent=parent)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def call(*arguments: object) -> Outcome:
    """Runs the program in this process."""
    # not at the top: it imports no kernel before conftest has chosen how they run
    from gencond_fast.cli import main as cli

    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGTERM, before)
    assert isinstance(code, int)
    return Outcome(code, out.getvalue(), err.getvalue())


def command(*arguments: object) -> list[str]:
    """The program as a command line for a process of its own."""
    return [sys.executable, "-m", "gencond_fast", *map(str, arguments)]


def launch(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the program in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def options_of(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder: bytes of files, None for folders."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def refused(done: Outcome, words: str) -> None:
    """One sentence that says what is wrong, and exit code 2."""
    assert done.code == 2, (done.out, done.err)
    assert words in done.err
    assert "Traceback" not in done.err
    progress = ("images: read with ", "kept in memory: ", "tested on ")
    lines = [line for line in done.err.splitlines() if not line.startswith(progress)]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert done.err.endswith(f"{lines[0]}\n")
