"""What is built is what works: wheel and source package, each in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import hierpool as hp

ROOT = Path(__file__).parents[2]
MINUTES = 10


def run(*command: str | Path, folder: Path) -> str:
    """What a command prints, in a folder that is not the checkout; an error shows all of it."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=60 * MINUTES,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Folder with the wheel and the source package, built in isolation as an index would."""
    folder = tmp_path_factory.mktemp("built")
    maker = folder / "maker"
    venv.create(maker, with_pip=True)
    python = maker / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "build", folder=folder)
    run(python, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    return folder


@pytest.mark.package
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_the_tour_runs_from_what_was_built(built, kind, tmp_path):
    (package,) = built.glob(kind)
    home = tmp_path / "empty"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, package, folder=tmp_path)
    where = run(python, "-c", "import hierpool; print(hierpool.__file__)", folder=tmp_path)
    assert str(home) in where
    said = run(home / "bin" / "hierpool", "tour", folder=tmp_path)
    assert "volume ~ time" in said
    assert hp.__version__ in package.name
    assert sys.version_info >= (3, 12)
