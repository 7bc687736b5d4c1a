"""What an installation holds, what importing it costs, and how it fares without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LEAN_IMPORT = """
import sys
import gencond_fast
assert "torch" not in sys.modules
import torch
before = set(sys.modules)
import gencond_fast.kernels
gencond_fast.intra_class_loss, gencond_fast.inter_class_loss, gencond_fast.class_moments
added = {name.split(".")[0] for name in set(sys.modules) - before}
assert added - set(sys.stdlib_module_names) == {"gencond_fast"}, added
assert not torch.cuda.is_initialized()
"""

REFERENCE_ONLY = """
import torch
import gencond_fast as gf
from gencond_fast import _ext
from gencond_fast.functional import moments as public
print(public.__file__)
x, labels = torch.randn(30, 4, requires_grad=True), torch.arange(30) % 3
moments = gf.class_moments(x, labels, 3)
torch.testing.assert_close(moments.variance(), x.view(10, 3, 4).var(0, correction=0))
moments.m2.sum().backward()
torch.testing.assert_close(x.grad, 2 * (x - moments.mean[labels]).detach())
torch.library.opcheck(torch.ops.gencond.class_moments.default, (x.detach(), labels, 3))
for kind in ("infonce", "hinge"):
    gf.intra_class_loss(x, labels, kind=kind).backward()
try:
    gf.class_moments(x, labels, 3, impl="fused")
except Exception as error:
    print(type(error).__name__, error)
"""


# an editable install of the package answers for any submodule that the one under test lacks
NO_EDITABLE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
"""


def python(code: str, path: Path | None = None) -> str:
    """Run code in a fresh interpreter far from the checkout, against the package in `path`."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GENCOND_EXT", "PYTHONPATH")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
        code = NO_EDITABLE + code
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_losses_import_torch_alone_and_start_no_device() -> None:
    python(LEAN_IMPORT)


def test_every_public_name_exists() -> None:
    import gencond_fast as gf

    for name in gf.__all__:
        assert getattr(gf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'condensate'"):
        gf.condensate  # noqa: B018


def test_triton_status_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from gencond_fast.kernels import interpreting, triton_status

    status = triton_status()
    assert status.reason.endswith(".")
    assert (status.version is None) <= (not status.available)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert not interpreting()
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert interpreting()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree as git sees it: nothing built, nothing ignored."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("needs the source tree")
    target = tmp_path_factory.mktemp("source") / "gencond_fast"
    built = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "_build.json", "runs"
    )
    shutil.copytree(ROOT, target, ignore=built)
    return target


def build(checkout: Path, out: Path, *options: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *options]
    done = subprocess.run(
        [*command, str(checkout)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shutil.rmtree(checkout / "build", ignore_errors=True)
    return done.returncode, done.stdout


def unpack(out: Path) -> tuple[set[str], Path]:
    (wheel,) = out.glob("*.whl")
    site = out / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        return set(archive.namelist()), site


def python_files(package: str, folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*.py"))
    return {f"{package}/{path.as_posix()}" for path in files}


@pytest.mark.slow
def test_sdist_and_the_wheel_built_from_it(checkout: Path, tmp_path: Path) -> None:
    code, log = build(checkout, tmp_path, GENCOND_EXT="on")
    assert code == 0, log
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("csrc", "kernels", "gencond_fast", "tests"):
        sources = (path for path in (checkout / folder).rglob("*") if path.is_file())
        assert {path.relative_to(checkout).as_posix() for path in sources} <= names
    for file in ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "setup.py"):
        assert file in names
    assert not [name for name in names if name.endswith((".so", ".pyc", "_build.json"))]

    names, site = unpack(tmp_path)
    assert python_files("gencond_fast", checkout / "gencond_fast") <= names
    assert python_files("gencond_fast/kernels", checkout / "kernels") <= names
    templates = (checkout / "gencond_fast/reporting/templates").iterdir()
    assert {f"gencond_fast/reporting/templates/{path.name}" for path in templates} <= names
    assert "gencond_fast/reporting/published.json" in names
    assert [name for name in names if name.startswith("gencond_fast/_C.")]
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    outside = {name.split("/")[0] for name in names} - {"gencond_fast"}
    assert all(name.endswith(".dist-info") for name in outside), outside
    assert not [name for name in names if name.endswith((".cpp", ".h"))]
    said = python(
        "import torch, gencond_fast._ext as e; print(e.__file__, e.build_info())", path=site
    )
    assert str(site) in said
    assert "'extension': 'yes'" in said
    if shutil.which("readelf"):
        (extension,) = site.glob("gencond_fast/_C.*")
        dynamic = subprocess.run(["readelf", "-d", extension], capture_output=True, text=True)
        assert "[$ORIGIN/../torch/lib]" in dynamic.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GENCOND_EXT": "off"}, "no C++ extension"),
        ({"GENCOND_EXT": "auto", "CXX": "/bin/false"}, '"/bin/false" is not able to compile'),
    ],
    ids=["off", "no compiler"],
)
def test_wheel_without_extension(
    checkout: Path, tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    code, log = build(checkout, tmp_path, "--wheel", **environment)
    assert code == 0, log
    names, site = unpack(tmp_path)
    assert not [name for name in names if name.endswith(".so")]
    output = python(REFERENCE_ONLY, path=site)
    assert str(site) in output
    assert "InputError class_moments: impl='fused' cannot run:" in output
    assert said in output


@pytest.mark.slow
def test_extension_on_needs_a_compiler(checkout: Path, tmp_path: Path) -> None:
    code, log = build(checkout, tmp_path, "--wheel", GENCOND_EXT="on", CXX="/bin/false")
    assert code != 0
    assert "the C++ extension was not built: cmake could not configure it" in log
    code, log = build(checkout, tmp_path, "--wheel", GENCOND_EXT="maybe")
    assert code != 0
    assert "GENCOND_EXT must be auto, on or off" in log
