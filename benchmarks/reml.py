"""Time of REML fits beside lme4 and statsmodels: python benchmarks/reml.py --help

lme4 runs where Rscript finds it, statsmodels where it is installed (one factor only). Each program
runs in a process of its own, reads the table, warms up with one fit, and times the fit alone, from
a table in memory to a fit. ``README.md`` holds the last table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from machine import described

RUNS = 5
PACKAGES = ("hierpool", "numpy", "scipy", "numba", "pandas", "statsmodels")


@dataclass(frozen=True, slots=True)
class Question:
    """A model that lme4 and hierpool write alike; ``mixedlm`` has its pieces for statsmodels."""

    data: str
    formula: str
    mixedlm: tuple[str, str, str] | None = None


QUESTIONS = {
    q.data: q
    for q in (
        Question(
            "sleepstudy",
            "Reaction ~ Days + (Days | Subject)",
            ("Reaction ~ Days", "Subject", "~Days"),
        ),
        Question(
            "Exam",
            "normexam ~ standLRT + (standLRT | school)",
            ("normexam ~ standLRT", "school", "~standLRT"),
        ),
        Question(
            "Chem97",
            "score ~ gcsecnt + (gcsecnt | school)",
            ("score ~ gcsecnt", "school", "~gcsecnt"),
        ),
        Question("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        Question("InstEval", "y ~ 1 + (1 | s) + (1 | d) + (1 | dept)"),
    )
}

HIERPOOL = """
import json, sys, time
import pandas as pd
import hierpool as hp
data, formula, runs = pd.read_csv(sys.argv[1]), sys.argv[2], int(sys.argv[3])
hp.Model(formula, data).reml()
walls = []
for _ in range(runs):
    start = time.perf_counter()
    fit = hp.Model(formula, data).reml()
    walls.append(time.perf_counter() - start)
print(json.dumps({"walls": walls, "criterion": -2 * fit.loglik}))
"""

LME4 = """
suppressMessages(library(lme4))
given <- commandArgs(trailingOnly = TRUE)
data <- read.csv(given[1]); formula <- as.formula(given[2]); runs <- as.integer(given[3])
fit <- suppressMessages(lmer(formula, data))
walls <- sapply(seq_len(runs), function(k) system.time(fit <<- suppressMessages(lmer(formula, data)))[["elapsed"]])
cat(sprintf('{"walls": [%s], "criterion": %.8f}', paste(walls, collapse = ", "), REMLcrit(fit)))
"""

MIXEDLM = """
import json, sys, time, warnings
import pandas as pd
import statsmodels.formula.api as smf
warnings.simplefilter("ignore")
data, runs = pd.read_csv(sys.argv[1]), int(sys.argv[3])
fixed, group, varying = json.loads(sys.argv[4])
fit = lambda: smf.mixedlm(fixed, data, groups=data[group], re_formula=varying).fit(reml=True)
fit()
walls = []
for _ in range(runs):
    start = time.perf_counter()
    found = fit()
    walls.append(time.perf_counter() - start)
print(json.dumps({"walls": walls, "criterion": -2 * float(found.llf)}))
"""


def programs(question: Question, table: Path, runs: int) -> dict[str, list[str]]:
    """Command of every program that is here and takes the model."""
    given = [str(table), question.formula, str(runs)]
    out = {"hierpool": [sys.executable, "-c", HIERPOOL, *given]}
    if shutil.which("Rscript"):
        out["lme4"] = ["Rscript", "-e", LME4, *given]
    if question.mixedlm and importlib.util.find_spec("statsmodels"):
        out["statsmodels"] = [sys.executable, "-c", MIXEDLM, *given, json.dumps(question.mixedlm)]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Time REML fits beside lme4 and statsmodels.")
    parser.add_argument("--data", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--timeout", type=float, default=900)
    given = parser.parse_args()
    import hierpool as hp

    lines = ["| data | program | median, s | min to max | REML criterion | times hierpool's |"]
    lines.append("|---|---|---|---|---|---|")
    about = described(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        for question in (QUESTIONS[name] for name in given.data):
            table, base = Path(folder) / f"{question.data}.csv", float("nan")
            hp.datasets.load(question.data).to_csv(table, index=False)
            for name, command in programs(question, table, given.runs).items():
                try:
                    done = subprocess.run(
                        command, capture_output=True, text=True, timeout=given.timeout, check=True
                    )
                except subprocess.SubprocessError as error:
                    lines.append(
                        f"| {question.data} | {name} | failed: {type(error).__name__} | | | |"
                    )
                    continue
                found = json.loads(done.stdout.strip().splitlines()[-1])
                wall = median(found["walls"])
                base = wall if name == "hierpool" else base
                spread = f"{min(found['walls']):.3g} to {max(found['walls']):.3g}"
                lines.append(
                    f"| {question.data} | {name} | {wall:.3g} | {spread} | "
                    f"{found['criterion']:.4f} | {wall / base:.2g} |"
                )
                print(lines[-1], file=sys.stderr, flush=True)
    print(about, "\n".join(lines), sep="\n\n")


if __name__ == "__main__":
    main()
