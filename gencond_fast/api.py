"""The verbs of the command line as functions: `gf.condense`, `gf.evaluate`, `gf.report` and others.

Options have the names of the config classes, and sections are dicts:

    path = gf.condense("cifar10/", out="runs/c10", ipc=1, losses={"intra": 0.0})
    result = gf.evaluate(path, data="cifar10/", baselines=["random"], seeds=3)

Paths may be strings or `pathlib.Path`, `~` is the home folder, and relative paths are made
absolute, so that a run is recognised from any folder. `config` is a YAML file or a dict of options;
those given by name lie over it. `progress=None` shows a progress bar in a terminal and in a
notebook, `True` also prints lines where there is no place for a bar, `False` shows nothing. Each
verb works in the process that calls it: to share the work among several, start the command line
with torchrun.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gencond_fast.config import AuditConfig, Config, EvaluateConfig, ScoreConfig
from gencond_fast.config.options import merge, parse, read_yaml, resolve, share_networks, to_plain
from gencond_fast.errors import InputError
from gencond_fast.system.files import expanded

if TYPE_CHECKING:
    from gencond_fast.evaluation.auditing import AuditResult
    from gencond_fast.evaluation.result import EvaluationResult
    from gencond_fast.evaluation.score import Scores
    from gencond_fast.system.progress import Reporter

    StrPath = str | os.PathLike[str]
    Layer = StrPath | Mapping[str, Any]

Judging = TypeVar("Judging", EvaluateConfig, ScoreConfig, AuditConfig)

Verb = TypeVar("Verb", bound=Callable[..., Any])

_PATHS = ("run", "out")


def _in_float32(verb: Verb) -> Verb:
    """The verb as it is after `torch.set_default_dtype(torch.float64)` too."""

    @functools.wraps(verb)
    def inside(*arguments: Any, **options: Any) -> Any:
        from gencond_fast.system.default_dtype import float32_default  # imports PyTorch

        with float32_default:
            return verb(*arguments, **options)

    return cast(Verb, inside)


@_in_float32
def condense(
    data: StrPath | Config | None = None,
    out: StrPath | None = None,
    *,
    preset: str | None = None,
    method: str | None = None,
    objective: str | None = None,
    config: Layer | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Path:
    """Condenses a data set into one file, and returns the path of that file.

    Called again with the same options, it continues after an interruption and does nothing after
    completion.

    Args:
        data: image folder, .tar, parquet, .npz or `digits`; or a ready `Config`, which excludes
            all options.
        out: run directory, made if missing.
        preset: `standard` (default), `quick` or `accurate`.
        method: `gencond` (default), or a published system: `dm`, `m3d`, `ncfm`, `sre2l`, `dim`.
        objective: what networks trained on the file shall be good at: `accuracy` (default) or
            `robust`.
        config: YAML file or dict of options under those given by name.
        progress: see the module.
        options: of `Config`: `ipc=1`, `bytes="40KB"`, `seed=1`, `training={"steps": 400}` and so
            on. `networks=6` is a number of feature networks, shared out as the method has them;
            `classes` may be names, or a text as `--classes` takes it.

    Raises:
        InputError: the data, an option or the run directory cannot be used.
        RunError: the optimisation diverged.
    """
    given = {"data": data, "out": out, **options}
    named = {"preset": preset, "method": method, "objective": objective}
    ready = _ready(Config, data, given, config, named) or _condensing(given, config, named)
    from gencond_fast import condensation

    return condensation.condense(ready, make_reporter(progress))


@_in_float32
def plan(
    data: StrPath | Config | None = None,
    *,
    preset: str | None = None,
    method: str | None = None,
    objective: str | None = None,
    config: Layer | None = None,
    **options: Any,
) -> Any:
    """Predicts what a condensation will cost; see `gencond_fast.planning.plan`.

    Args:
        data: as in `condense`, whose options these are; `out` may be left out.
        preset: as in `condense`.
        method: as in `condense`.
        objective: as in `condense`.
        config: as in `condense`.
        options: as in `condense`.

    Raises:
        InputError: the data or an option cannot be used or planned.
    """
    given = {"data": data, **options}
    named = {"preset": preset, "method": method, "objective": objective}
    ready = _ready(Config, data, given, config, named)
    if ready is None:
        # where the file would go does not matter
        ready = _condensing(given, {"out": ""} | _lowest(config), named)
    from gencond_fast import planning

    planner: Any = planning
    return planner.plan(ready)


@_in_float32
def evaluate(
    run: StrPath | EvaluateConfig | None = None,
    data: StrPath | None = None,
    *,
    config: Layer | None = None,
    progress: bool | None = None,
    **options: Any,
) -> EvaluationResult:
    """Trains networks from scratch on a condensed file, and tests them on real images.

    It writes nothing. For `report`, write `result.to_dict()` as JSON into the run directory, as the
    command line does.

    Args:
        run: run directory or condensed file; or a ready `EvaluateConfig`, which excludes all
            options.
        data: the data that the set was condensed from.
        config: YAML file or dict of options under those given by name.
        progress: see the module.
        options: of `EvaluateConfig`: `models=["resnet18"]`, `baselines=["random", "jpeg"]`,
            `seeds=3`, `attack={"names": ["pgd"]}` and so on.

    Raises:
        InputError: the file, the data or an option cannot be used.
        RunError: a network diverged.
    """
    ready = _judging(EvaluateConfig, run, data, config, options)
    from gencond_fast import evaluation

    return evaluation.evaluate(ready, make_reporter(progress))


@_in_float32
def score(
    run: StrPath | ScoreConfig | None = None,
    data: StrPath | None = None,
    *,
    config: Layer | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Scores:
    """Compares stored images with test images in the features of a trained network.

    Args:
        run: run directory or condensed file; or a ready `ScoreConfig`, which excludes all options.
        data: the data that the set was condensed from.
        config: YAML file or dict of options under those given by name.
        progress: see the module.
        options: of `ScoreConfig`: `model="resnet18"`, `epochs=40`, `k=5` and so on.

    Raises:
        InputError: the file, the data or an option cannot be used.
        RunError: the network diverged.
    """
    ready = _judging(ScoreConfig, run, data, config, options)
    from gencond_fast.evaluation import score as scoring

    return scoring.score(ready, make_reporter(progress))


@_in_float32
def audit(
    run: StrPath | AuditConfig | None = None,
    data: StrPath | None = None,
    *,
    config: Layer | None = None,
    progress: bool | None = None,
    **options: Any,
) -> AuditResult:
    """Attacks a condensed file, or its making, by membership inference.

    Args:
        run: run directory or condensed file; or a ready `AuditConfig`, which excludes all options.
        data: the data that the set was condensed from.
        config: YAML file or dict of options under those given by name.
        progress: see the module.
        options: of `AuditConfig`: `shadows=16`, `seeds=3` and so on.

    Raises:
        InputError: the file, the data or an option cannot be used.
        RunError: a condensation or a network diverged.
    """
    ready = _judging(AuditConfig, run, data, config, options)
    from gencond_fast.evaluation import auditing

    return auditing.audit(ready, make_reporter(progress))


@_in_float32
def relabel(
    run: StrPath,
    data: StrPath,
    *,
    out: StrPath | None = None,
    config: Layer | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Path:
    """Gives the samples of a condensed file soft labels, and returns the path of the new file.

    Args:
        run: run directory or condensed file.
        data: the data that the set was condensed from.
        out: file to write; the one that is read if None.
        config: YAML file or dict of options under those given by name.
        progress: see the module.
        options: of `Config`, over those that the file was made with: `store={"soft_labels": 5}`,
            `labels={"source": "full_data"}`, `bytes="130KB"` and so on.

    Raises:
        InputError: the file, the data or an option cannot be used, or the file would exceed its
            budget.
        RunError: a network that gives labels diverged.
    """
    layers = (_readable(Config, _lowest(config)), _readable(Config, options))
    from gencond_fast import condensation

    return condensation.relabel(
        _path(run),
        absolute(data),
        *layers,
        out=None if out is None else _path(out),
        reporter=make_reporter(progress),
    )


@_in_float32
def export(
    run: StrPath, out: StrPath, *, format: str = "imagefolder", per_class: int | None = None
) -> Path:
    """Writes the stored samples as images or arrays, and returns the file or folder written.

    Args:
        run: run directory or condensed file.
        out: folder, made if missing.
        format: `imagefolder`, `npz`, `pt`, `webdataset`, `parquet` or `grid`.
        per_class: samples of each class, all if None.

    Raises:
        InputError: the file or an option cannot be used, or `out` is not empty.
    """
    from gencond_fast.exporting import export as write

    return write(_path(run), _path(out), format=format, per_class=per_class)


@_in_float32
def report(
    runs: StrPath | Sequence[StrPath], out: StrPath | None = None, *, data: StrPath | None = None
) -> list[Path]:
    """Writes one HTML page about finished runs, and returns the paths of the page and its chart.

    Args:
        runs: one run directory, or several to compare.
        out: the page; `report.html` in the first run directory if None.
        data: the data of the runs, for real images in the feature map.

    Raises:
        InputError: a run is not finished, a file is damaged, or the page cannot be written.
    """
    directories = [runs] if isinstance(runs, str | os.PathLike) else runs
    from gencond_fast.reporting.page import write_report

    return write_report(
        [_path(run) for run in directories],
        None if out is None else Path(_path(out)),
        None if data is None else absolute(data),
    )


def absolute(data: StrPath) -> str:
    """A path of data made absolute; names of known data, and paths that lead nowhere, stay."""
    from gencond_fast.data.source import KNOWN_NAMES

    text = os.fspath(data)
    path = expanded(text)
    return str(path.absolute()) if text not in KNOWN_NAMES and path.exists() else text


def make_reporter(progress: bool | None) -> Reporter:
    """A bar in a terminal or a notebook, lines elsewhere if asked for, else nothing."""
    from rich.console import Console

    from gencond_fast.system.progress import PlainReporter, Reporter, RichReporter

    if progress is False:
        return Reporter()
    console = Console(stderr=True)
    # without ipywidgets rich draws no bar in a notebook
    widgets = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    if widgets or (console.is_terminal and not console.is_jupyter):
        return RichReporter(console)
    return PlainReporter() if progress else Reporter()


def _ready(
    kind: type[Any],
    first: object,
    given: Mapping[str, Any],
    config: object,
    named: Mapping[str, str | None],
) -> Any:
    """The first argument if it is a ready config, which nothing else may stand beside."""
    if not isinstance(first, kind):
        return None
    others = {**given, **named, "config": config}
    beside = [name for name, value in others.items() if value is not None and value is not first]
    if beside:
        raise InputError(
            f"a ready {kind.__name__} has all options: give {beside[0]!r} to it, or give options "
            f"alone, without a {kind.__name__}"
        )
    return first


def _condensing(
    given: Mapping[str, Any], config: Layer | None, named: Mapping[str, str | None]
) -> Config:
    layer = _merged(Config, config, given)
    chosen = {name: value for name, value in named.items() if value is not None}
    networks = layer.get("networks")
    if isinstance(networks, int) and not isinstance(networks, bool):
        privacy = layer.get("privacy")
        private = isinstance(privacy, Mapping) and privacy.get("epsilon") is not None
        layer["networks"] = share_networks(networks, chosen.get("method", "gencond"), private)
    return resolve(layer, **chosen)


def _judging(
    kind: type[Judging],
    run: StrPath | Judging | None,
    data: StrPath | None,
    config: Layer | None,
    options: Mapping[str, Any],
) -> Judging:
    given = {"run": run, "data": data, **options}
    ready: Judging | None = _ready(kind, run, given, config, {})
    return parse(kind, _merged(kind, config, given)) if ready is None else ready


def _merged(kind: type[Any], config: Layer | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options given by name over those of the config."""
    layers = (_readable(kind, _lowest(config)), _readable(kind, given))
    return _with_paths(merge(*layers))


def _lowest(config: Layer | None) -> dict[str, Any]:
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    return read_yaml(expanded(config))


def _readable(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as `parse` takes them, from the forms that are handy in Python.

    Raises:
        InputError: an option is unknown, or its text cannot be read.
    """
    from gencond_fast.data.classes import parse_classes
    from gencond_fast.system.bytes import parse_bytes

    _refuse_unknown(kind, given)
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("data", "run", "out") and value is None:
            continue  # it may be in the layer below
        if name == "classes" and isinstance(value, str | os.PathLike):
            value = parse_classes(os.fspath(value))
        if name == "bytes" and isinstance(value, str):
            value = parse_bytes(value)
        if dataclasses.is_dataclass(value):
            value = to_plain(value)
        found[name] = dict(value) if isinstance(value, Mapping) else value
    return found


def _refuse_unknown(kind: type[Any], given: Mapping[str, Any]) -> None:
    """Raises InputError where the name of an option of a section stands outside of it."""
    options = dataclasses.fields(kind)
    within = {
        option.name: [each.name for each in dataclasses.fields(option.default)]
        for option in options
        if dataclasses.is_dataclass(option.default)
    }
    for name, value in given.items():
        homes = [section for section, names in within.items() if name in names]
        if homes and name not in [option.name for option in options]:
            meant = " or ".join(f"{section}={{{name!r}: {value!r}}}" for section in homes)
            raise InputError(f"unknown option {name!r}: did you mean {meant}?")


def _with_paths(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The options with absolute paths, as texts."""
    found = dict(layer)
    for name, value in layer.items():
        if not isinstance(value, str | os.PathLike):
            continue
        if name == "data":
            found[name] = absolute(value)
        elif name in _PATHS and value != "":
            found[name] = _path(value)
    return found


def _path(path: StrPath) -> str:
    return str(expanded(path).absolute())
