"""The time of a study from the shell, report included, by size of the table; and its parts.

    python benchmarks/studies.py [--tables sleepstudy Exam] [--out table.md]

Each line is ``hierpool study FILE FORMULA --group G --report page.html`` in a new process, after a
first one that fills the caches on disk, then the same steps in another process with a clock.
Processor seconds are user and system, of all threads; they say more than the wall where the
machine has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from machine import described
from posterior import PACKAGES, markdown

import hierpool as hp

BUNDLED = {  # table -> formula, groups, wall seconds to stay under
    "sleepstudy": ("Reaction ~ Days", "Subject", 6),
    "Exam": ("normexam ~ standLRT", "school", 20),
}
SIMULATED = {  # name -> rows, groups, wall seconds to stay under
    "35 rows": (35, 5, 6),
    "234 rows": (234, 26, 6),
    "400 rows": (400, 40, 6),
    "7,185 rows": (7185, 160, 20),
    "7,230 rows": (7230, 1721, 20),
    "24,000 rows": (24_000, 80, 30),
}
PARTS = """
import json, os, sys
def cpu():
    spent = os.times()
    return spent.user + spent.system
marks = {"start": cpu()}
import hierpool as hp
hp.study
import hierpool.studies.figures, hierpool.studies.report
marks["imports"] = cpu()
from pathlib import Path
from hierpool.formula.files import read_table
file, formula, group, folder = sys.argv[1:]
data = read_table(Path(file), labels=[group]).frame
marks["reading"] = cpu()
study = hp.study(formula, data, group=group, seed=1, progress=False)
marks["study"] = cpu()
study.tables()
marks["tables"] = cpu()
study.figures()
marks["pictures"] = cpu()
study.save(folder)
marks["saving"] = cpu()
study.report(Path(folder) / "page.html")
marks["report"] = cpu()
study.advice
marks["advice"] = cpu()
print(json.dumps(marks))
"""


def simulated(rows: int, groups: int) -> pd.DataFrame:
    """Lines of groups of unequal size, intercepts that vary by 1 and slopes by 0.3."""
    rng = np.random.default_rng([rows, groups])
    g = np.sort(np.r_[np.arange(groups), rng.integers(0, groups, rows - groups)])
    x = rng.standard_normal(rows)
    slopes = 0.5 + 0.3 * rng.standard_normal(groups)
    y = rng.standard_normal(groups)[g] + slopes[g] * x + rng.standard_normal(rows)
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in g]})


def run(command: list[str]) -> tuple[float, float, str]:
    """Wall and processor seconds of a command, and what it printed."""
    before, start = os.times(), time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.time() - start, os.times()
    if done.returncode:
        raise SystemExit(done.stderr)
    spent = after.children_user + after.children_system
    return wall, spent - before.children_user - before.children_system, done.stdout


def measured(
    data: pd.DataFrame, formula: str, group: str, under: float, warm: bool
) -> dict[str, object]:
    """One line of the table; ``warm`` runs the command once before, to fill the caches."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        data.to_csv(file, index=False)
        shell = [sys.executable, "-m", "hierpool.cli", "study", str(file), formula]
        shell += ["--group", group, "--report", f"{folder}/page.html", "--out", f"{folder}/out"]
        if warm:
            run([*shell, "-q"])
        wall, spent, _ = run([*shell, "-q", "--seed", "1"])
        steps = [sys.executable, "-c", PARTS, str(file), formula, group, f"{folder}/parts"]
        marks = json.loads(run(steps)[2].splitlines()[-1])
    names = list(marks)
    parts = {b: f"{marks[b] - marks[a]:.1f}" for a, b in pairwise(names)}
    sizes = {"rows": f"{len(data):,}", "groups": f"{data[group].nunique():,}"}
    times = {"wall, s": f"{wall:.1f}", "under, s": under, "CPU, s": f"{spent:.1f}"}
    return {**sizes, **times, **parts}


def main() -> None:
    """Measure the tables that are asked for, and print or write the lines."""
    every = [*BUNDLED, *SIMULATED]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", default=every, choices=every)
    parser.add_argument("--warm", action="store_true", help="the caches on disk are filled already")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    head = described(PACKAGES)
    lines: list[dict[str, object]] = []
    for name in arguments.tables:
        if name in BUNDLED:
            formula, group, under = BUNDLED[name]
            data = hp.datasets.load(name)
        else:
            rows, groups, under = SIMULATED[name]
            data, formula, group = simulated(rows, groups), "y ~ x", "g"
        first = not lines and not arguments.warm
        lines.append({"table": name, **measured(data, formula, group, under, first)})
        print(lines[-1], file=sys.stderr)
    cells = [[str(cell) for cell in line.values()] for line in lines]
    text = f"{head}\n\n{markdown(lines[0], cells)}\n"
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
