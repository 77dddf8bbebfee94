"""Notebooks run from the first cell to the last, and are committed as a reader should see them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import each
from tools.run_notebooks import MOST_KILOBYTES, as_text, complaints, text_of, tidy

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
MACHINE = re.compile(r"/(?:root|work|tmp|home|Users|usr|opt|var)/|[A-Z]:\\|\bat 0x[0-9a-f]+")

each_notebook = each("name", NAMES)


def read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in code(notebook) for output in cell["outputs"]]


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_without_an_error_a_warning_or_a_word_on_stderr(name):
    pytest.importorskip("nbclient")
    import matplotlib.font_manager  # noqa: F401  its cache is built here, not in the notebook's kernel

    script = ROOT / "tools" / "run_notebooks.py"
    ran = subprocess.run(
        [sys.executable, script, "--check", name],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_there_are_notebooks():
    assert len(NAMES) >= 5


def test_readme_names_every_notebook_and_no_other():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+\.ipynb)\)", readme)) == NAMES


@each_notebook
def test_first_cell_is_a_title_and_the_question(name):
    first = read(name)["cells"][0]
    text = "".join(first["source"])
    assert first["cell_type"] == "markdown"
    assert text.startswith("# ")
    assert "?" in text


@each_notebook
def test_notebook_is_committed_with_its_outputs(name):
    notebook = read(name)
    shown = [kind for output in outputs(notebook) for kind in output.get("data", {})]
    assert "image/png" in shown
    assert "text/html" in shown
    silent = [cell["id"] for cell in code(notebook)[1:] if not cell["outputs"]]
    assert len(silent) <= len(code(notebook)) / 2, silent
    assert complaints(notebook) == []


@each_notebook
def test_outputs_say_nothing_of_a_machine(name):
    notebook = read(name)
    texts = [text_of(output) for output in outputs(notebook)]
    texts += ["".join(cell["source"]) for cell in notebook["cells"]]
    assert [match[0] for text in texts for match in MACHINE.finditer(text)] == []


@each_notebook
def test_notebook_is_tidy_and_small(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text == as_text(tidy(read(name))), "run `make notebooks`"
    assert len(text.encode()) <= 1000 * MOST_KILOBYTES
    ids = [cell["id"] for cell in read(name)["cells"]]
    assert len(set(ids)) == len(ids)


def cell(*found: dict[str, Any]) -> dict[str, Any]:
    made = {"cell_type": "code", "id": "a", "metadata": {}, "source": [], "execution_count": 3}
    return {"cells": [made | {"outputs": list(found)}]}


@each(
    "output",
    [
        {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []},
        {"output_type": "stream", "name": "stderr", "text": ["a word"]},
        {"output_type": "stream", "name": "stdout", "text": ["HierpoolWarning: careful"]},
    ],
)
def test_what_a_reader_should_not_see_is_found(output):
    assert len(complaints(cell(output))) == 1


def test_tidying_takes_counts_and_times_away():
    output = {"output_type": "execute_result", "execution_count": 3, "metadata": {"a": 1}}
    untidy = cell(output | {"data": {"text/plain": ["1"]}})
    untidy["cells"][0]["metadata"] = {"execution": {"iopub.status.busy": "2026"}}
    done = tidy(untidy)["cells"][0]
    assert (done["metadata"], done["execution_count"]) == ({}, None)
    assert done["outputs"] == [
        {"output_type": "execute_result", "execution_count": None, "metadata": {}}
        | {"data": {"text/plain": ["1"]}}
    ]
