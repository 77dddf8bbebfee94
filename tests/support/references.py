"""Numbers of other programs: ``tests/reference`` holds them by program and fit."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

import hierpool as hp

FOLDER = Path(__file__).parents[1] / "reference"
SHARED = Path(__file__).parents[3] / "shared"  # where the full reference fits may stand


def names(program: str) -> list[str]:
    """Fits of a program, ``<table>__<model>``."""
    return sorted(path.stem for path in (FOLDER / program).glob("*.json"))


@cache
def reference(program: str, name: str) -> dict[str, Any]:
    """The numbers of one fit."""
    return json.loads((FOLDER / program / f"{name}.json").read_text())


@cache
def model(program: str, name: str) -> hp.Model:
    """The model of one fit, on its table."""
    ref = reference(program, name)
    return hp.Model(ref["formula"], hp.datasets.load(ref["dataset"]))


@cache
def full(name: str) -> dict[str, Any]:
    """The full numbers of one fit, from beside the checkout."""
    return json.loads((SHARED / "reference" / f"{name}.json").read_text())


def full_names() -> list[str]:
    """Full fits, where they stand beside the checkout."""
    return sorted(path.stem for path in (SHARED / "reference").glob("*__*.json"))


def table(name: str) -> pd.DataFrame:
    """A bundled table, or one that stands beside the checkout, with R's order of levels."""
    if name in hp.datasets.names():
        return hp.datasets.load(name)
    about = json.loads((SHARED / "data" / "_meta.json").read_text())[name]["cols"]
    data = pd.read_csv(SHARED / "data" / f"{name}.csv")
    for column, what in about.items():
        if what["type"] in {"factor", "ordered"}:
            data[column] = pd.Categorical(data[column].astype(str), categories=what["levels"])
    return data
