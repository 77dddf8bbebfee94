"""CPU seconds of models with residual structures: REML, posterior, ladder.

    OMP_NUM_THREADS=1 python benchmarks/residual_structures.py [REPEATS]

Each is run once before it is timed; the best of REPEATS (2) counts. Where Rscript finds nlme, its REML
fits of the same tables are timed after each of ours, and the likelihoods compared.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import hierpool as hp

TWELVE = (
    ["independent", "cs", "ar1", "ar1h", "csh", "toep", "toeph", "us", "ad1", "ad1h", "arma11"],
    ["cs, sigma ~ Sex"],
)

IN_NLME = {  # name of a model below -> nlme's call
    "200 x 10 rows, intercept + AR(1)": "lme(y ~ t + x, random = ~ 1 | g, "
    "correlation = corAR1(form = ~ t | g), data = d)",
    "Orthodont, AR(1)": "gls(distance ~ age * Sex, "
    "correlation = corAR1(form = ~ I(age / 2 - 3) | Subject), data = d)",
    "Orthodont, UN": "gls(distance ~ age * Sex, correlation = corSymm(form = ~ I(age / 2 - 3) | Subject), "
    "weights = varIdent(form = ~ 1 | age), data = d)",
    "Orthodont, intercept, sd by sex": "lme(distance ~ age * Sex, random = ~ 1 | Subject, "
    "weights = varIdent(form = ~ 1 | Sex), data = d)",
    "sleepstudy, intercept + AR(1)": "lme(Reaction ~ Days, random = ~ 1 | Subject, "
    "correlation = corAR1(form = ~ Days | Subject), data = d)",
}
IN_NLME["2000 x 10 rows, intercept + AR(1)"] = IN_NLME["200 x 10 rows, intercept + AR(1)"]
_R = """
suppressMessages(library(nlme)); d <- read.csv("{table}")
fit <- {call}; best <- Inf
for (k in 1:{repeats}) {{ s <- proc.time(); fit <- {call}; best <- min(best, sum((proc.time() - s)[1:2])) }}
cat(sprintf("[%.6f, %.6f]", best, as.numeric(logLik(fit))))
"""


def in_nlme(name: str, table: pd.DataFrame, repeats: int) -> tuple[float, float] | None:
    """CPU seconds and restricted log-likelihood of nlme; None where it is not installed."""
    if shutil.which("Rscript") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/table.csv"
        table.to_csv(path, index=False)
        code = _R.format(table=path, call=IN_NLME[name], repeats=repeats)
        ran = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
    return tuple(json.loads(ran.stdout)) if ran.returncode == 0 else None


def series(n_groups: int) -> pd.DataFrame:
    """Ten occasions a group, AR(1) residuals of correlation .6, 5 % of the rows missing."""
    rng = np.random.default_rng(1)
    g, t = np.repeat(np.arange(n_groups), 10), np.tile(np.arange(10.0), n_groups)
    e = rng.normal(size=(n_groups, 10))
    for k in range(1, 10):
        e[:, k] = 0.6 * e[:, k - 1] + 0.8 * e[:, k]
    x = rng.normal(size=len(g))
    y = 1 + 0.5 * t + x + rng.normal(0, 1.5, n_groups)[g] + 2 * e.ravel()
    return pd.DataFrame({"y": y, "t": t, "x": x, "g": g})[rng.uniform(size=len(g)) > 0.05]


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """CPU seconds of the best of several runs, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main(repeats: int) -> None:
    """Print one line a task."""
    teeth, sleep = hp.datasets.load("Orthodont"), hp.datasets.load("sleepstudy")
    sexes = "distance ~ age * Sex"
    models = {
        f"{n} x 10 rows, intercept + AR(1)": hp.Model(
            "y ~ t + x + (1 | g)", series(n), residual="ar1(t | g)"
        )
        for n in (200, 2000)
    }
    models |= {
        "Orthodont, AR(1)": hp.Model(sexes, teeth, residual="ar1(age | Subject)"),
        "Orthodont, UN": hp.Model(sexes, teeth, residual="us(age | Subject)"),
        "Orthodont, intercept, sd by sex": hp.Model(
            f"{sexes} + (1 | Subject)", teeth, sigma="~ Sex"
        ),
        "sleepstudy, intercept + AR(1)": hp.Model(
            "Reaction ~ Days + (1 | Subject)", sleep, residual="ar1(Days | Subject)"
        ),
    }
    for name, model in models.items():
        reml = seconds(model.reml, repeats)
        beside = in_nlme(name, model.design.frame, repeats)
        posterior = np.nan if "2000" in name else seconds(lambda m=model: m.fit(seed=1), 1)
        peer = "" if beside is None else f"   nlme {beside[0]:7.3f}"
        if beside is not None:
            peer += f"   log likelihood less nlme's {model.reml().loglik - beside[1]:.1e}"
        print(f"{name:36s} REML {reml:7.3f}   posterior {posterior:7.2f}{peer}", flush=True)
    names = [name for part in TWELVE for name in part]
    model = models["Orthodont, UN"]
    ladder = seconds(lambda: hp.residual_ladder(model, names, progress=False), 1)
    print(f"{'ladder of twelve':36s} {ladder:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
