"""What sets the project up: finding a Python, building .venv, pins, and nothing of one machine."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIND_PYTHON = ROOT / "tools" / "find-python"
NEEDED = "hierpool needs Python 3.12, 3.13 or 3.14 with venv and ensurepip"
TOOLS = ("sh", "dirname", "cat", "cksum", "rm")  # that tools/environment calls, besides Python


class Machine:
    """A PATH and a home folder with nothing on them but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.bin.mkdir()
        self.home.mkdir()

    def python(
        self, name: str, version: tuple[int, int, int], *, lacks: str = "", first: str = ""
    ) -> Path:
        """Put an interpreter there: this one, under another version, perhaps lacking a module.

        It runs the lines of shell in ``first`` before anything else.
        """
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        change = f"import sys; sys.version_info = {version}; "
        change += f"sys.modules['{lacks}'] = None; " if lacks else ""
        change += f"sys.executable = '{path}'; "
        self._write(path, f'{first}exec "{sys.executable}" -c "{change} exec(sys.argv[2])" "$@"\n')
        return path

    def broken(self, name: str) -> None:
        """Put a shim there that exists and fails, as pyenv's does."""
        self._write(self.bin / name, f'echo "pyenv: {name}: command not found" >&2; exit 127\n')

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        environment = {"PATH": str(self.bin), "HOME": str(self.home), **variables}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    @staticmethod
    def _write(path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def assert_refused(ran: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith(NEEDED)
    assert ran.stderr.count("\n") == 1
    for word in words:
        assert word in ran.stderr


def test_suitable_python_is_found(machine):
    path = machine.python("python3", (3, 13, 1))
    ran = machine.run(FIND_PYTHON)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, str(path), "")


def test_old_python3_is_passed_over_for_a_newer_one(machine):
    machine.python("python3", (3, 11, 7))
    newer = machine.python("python3.12", (3, 12, 4))
    assert machine.run(FIND_PYTHON).stdout.strip() == str(newer)


def test_the_tested_version_is_preferred(machine):
    for minor in (12, 13, 14):
        machine.python(f"python3.{minor}", (3, minor, 0))
    assert machine.run(FIND_PYTHON).stdout.strip().endswith("python3.13")


def test_broken_shim_is_passed_over(machine):
    machine.broken("python3.13")
    works = machine.python("python3", (3, 14, 0))
    assert machine.run(FIND_PYTHON).stdout.strip() == str(works)


def test_shim_that_answers_as_an_older_python_is_passed_over(machine):
    machine.python("python3.13", (3, 11, 7))
    works = machine.python("python", (3, 12, 0))
    assert machine.run(FIND_PYTHON).stdout.strip() == str(works)


def test_python_without_ensurepip_is_passed_over_and_named(machine):
    machine.python("python3", (3, 13, 0), lacks="ensurepip")
    assert_refused(machine.run(FIND_PYTHON), "python3 (is Python 3.13.0 without venv or ensurepip)")


def test_python_newer_than_pymc_takes_is_refused(machine):
    machine.python("python3", (3, 15, 0))
    assert_refused(machine.run(FIND_PYTHON), "python3 (is Python 3.15.0)")


def test_pyenv_versions_off_the_path_are_found(machine):
    machine.python("python3", (3, 11, 7))
    machine.python("../home/.pyenv/versions/3.11.7/bin/python", (3, 11, 7))
    machine.python("../home/.pyenv/versions/3.12.1/bin/python", (3, 12, 1))
    machine.python("../home/.pyenv/versions/3.13.0/bin/python", (3, 13, 0))
    assert "versions/3.13.0/" in machine.run(FIND_PYTHON).stdout


def test_pyenv_root_with_a_space_is_looked_into(machine, tmp_path):
    machine.python("../my pyenv/versions/3.12.1/bin/python", (3, 12, 1))
    found = machine.run(FIND_PYTHON, PYENV_ROOT=str(tmp_path / "my pyenv"))
    assert "my pyenv/versions/3.12.1/" in found.stdout


def test_nothing_suitable_is_one_sentence_with_what_was_found(machine):
    machine.python("python3", (3, 11, 7))
    machine.broken("python3.13")
    assert_refused(
        machine.run(FIND_PYTHON),
        "python3.13 (does not run), python3 (is Python 3.11.7)",
        "PYTHON=/path/to/python",
    )


def test_no_python_at_all_is_one_sentence(machine):
    assert_refused(machine.run(FIND_PYTHON), "found no Python at all")


def test_python_asked_for_is_taken(machine):
    machine.python("python3.13", (3, 13, 0))
    asked = machine.python("mine", (3, 12, 2))
    assert machine.run(FIND_PYTHON, PYTHON="mine").stdout.strip() == str(asked)


@pytest.mark.parametrize(
    ("asked", "reason"), [("python3", "is Python 3.11.7"), ("nowhere", "is not there")]
)
def test_python_asked_for_and_unsuitable_is_refused_though_another_would_do(machine, asked, reason):
    machine.python("python3.13", (3, 13, 0))
    machine.python("python3", (3, 11, 7))
    assert_refused(machine.run(FIND_PYTHON, PYTHON=asked), f"PYTHON={asked} {reason}")


@pytest.fixture
def checkout(machine, tmp_path):
    """The files that set up, in a folder with a space in its name."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "tools", folder / "tools")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for tool in TOOLS:
        (machine.bin / tool).symlink_to(shutil.which(tool))
    return folder, make


@pytest.mark.parametrize("target", ["tour", "test", "lint", "types", "test-all"])
def test_make_stops_with_the_sentence_when_no_python_suits(machine, checkout, target):
    folder, make = checkout
    machine.python("python3", (3, 11, 7))
    ran = machine.run(make, "-C", folder, target)
    assert ran.returncode != 0
    assert ran.stderr.startswith(f"{NEEDED}, but found python3 (is Python 3.11.7)")
    assert not (folder / ".venv").exists()


def test_second_run_installs_nothing_and_a_changed_pin_installs_again(machine, checkout):
    folder, _ = checkout
    machine.python(
        "python3",
        (3, 13, 0),
        first='case "$1 $2" in\n'
        '"-m venv") mkdir -p "$3/bin"; ln -s "$0" "$3/bin/python"; exit ;;\n'
        '"-m pip") echo "pip $*" >>"$PIP_LOG"; exit ;;\n'
        "esac\n",
    )
    for tool in ("mkdir", "ln"):
        (machine.bin / tool).symlink_to(shutil.which(tool))
    log = folder / "pip.log"

    def installs() -> int:
        ran = machine.run(folder / "tools" / "environment", "test", PIP_LOG=str(log))
        assert ran.returncode == 0, ran.stderr
        return len(log.read_text().splitlines())

    assert installs() == 1
    assert installs() == 1
    with (folder / "constraints.txt").open("a") as file:
        file.write("# another pin\n")
    assert installs() == 2
    assert "-c constraints.txt -e .[test]" in log.read_text()

    (folder / ".venv" / "bin" / "python").unlink()
    assert installs() == 3


def test_constraints_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", pin) for pin in pins)
    assert not any("://" in line for line in lines)
    assert pins == sorted(pins, key=str.casefold)


def normal(requirement: str) -> str:
    """Name of a requirement, spelt as registries compare names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]*", requirement)[0]).casefold()


def test_every_requirement_has_a_pin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    names = {normal(requirement) for requirement in (*project["dependencies"], *extras)}
    pinned = {normal(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert names - {"hierpool"} <= pinned


def test_scripts_can_be_run():
    for script in (FIND_PYTHON, ROOT / "tools" / "environment", ROOT / ".ci" / "run"):
        assert os.access(script, os.X_OK), script


def tracked_text() -> dict[str, str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8", errors="ignore")
        for path in paths
        if path.is_file()
    }


def test_no_file_names_a_package_registry_or_a_path_of_one_machine():
    hosts = ["pypi", "pythonhosted", "npmjs", "debian", "anaconda"]
    forbidden = [rf"\b{host}\.(org|com)\b" for host in hosts]
    forbidden += [
        rf"(?<![\w.~}}-])/{folder}/" for folder in ("root", "work", "home/[a-z]+", "Users")
    ]
    forbidden += [rf"file:{'//'}/", rf"extra-{'index'}-url"]
    pattern = re.compile("|".join(forbidden))
    found = {
        f"{name}: {match[0]}"
        for name, text in tracked_text().items()
        for match in pattern.finditer(text)
    }
    assert found == set()
