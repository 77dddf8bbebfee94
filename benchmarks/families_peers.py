"""Families beside Bambi + nutpie, and maximum likelihood beside glmer: one run, one table after the other.

    python benchmarks/families_peers.py --tables FOLDER            # Bambi, twenty minutes on two cores
    python benchmarks/families_peers.py --tables FOLDER --glmer    # lme4 where Rscript finds it
    python benchmarks/families_peers.py --rows 1000000             # a table of 0 and 1, and its posterior

FOLDER holds cbpp, VerbAgg (lme4), epil (MASS), Contraception (mlmRev), roaches (rstanarm) and surgical
(BUGS) as CSV files with the columns of their packages. A fit goes from the table to 4 x 1,000 draws of
everything. The peers of a table run one after the other, each in a process of its own, warmed up, so
that other work on the machine meets both. ``README.md`` holds the last tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from machine import described
from peers import CHAINS, DRAWS, WARM_UP, Fitted, smallest_ess

PACKAGES = ("hierpool", "numpy", "numba", "pymc", "pytensor", "nutpie", "bambi", "arviz")
CLOCK = time.perf_counter  # of the peers of Bambi; or processor seconds, where a machine is shared
LABELS = {"hierpool": "hierpool exact", "bambi": "Bambi + nutpie"}


@dataclass(frozen=True, slots=True)
class Case:
    """A model of one table.

    Attributes
    ----------
    family
        As both programs call it.
    right
        What stands on the right of the formula, in lme4's notation, for both and for glmer.
    left, bambi_left, glmer_left
        The response as each program wants it.
    times_to_reach
        Smallest ESS a second over that of Bambi + nutpie.
    """

    family: str
    right: str
    left: str
    bambi_left: str = ""
    glmer_left: str = ""
    times_to_reach: float = 100.0


CASES = {
    "surgical": Case(
        "binomial", "1 + (1 | hospital)", "r / n", "proportion(r, n)", "cbind(r, n - r)"
    ),
    "cbpp": Case(
        *("binomial", "period + (1 | herd)", "incidence / size"),
        *("proportion(incidence, size)", "cbind(incidence, size - incidence)"),
    ),
    "epil": Case("poisson", "lbase * trt + lage + V4 + (1 | subject)", "y"),
    "roaches": Case(
        "poisson", "roach100 + treatment + senior + offset(log_exposure) + (1 | row)", "y"
    ),
    "Contraception": Case("bernoulli", "age + urban + livch + (1 | district)", "use"),
    "VerbAgg": Case(
        "bernoulli",
        "Anger + Gender + btype + situ + (1 | id) + (1 | item)",
        "r2",
        times_to_reach=30.0,
    ),
}


def table(name: str, folder: Path) -> pd.DataFrame:
    """A table with the columns of its formula."""
    data = pd.read_csv(folder / f"{name}.csv")
    if name == "cbpp":
        data = data.astype({"herd": str}).assign(period="p" + data["period"].astype(str))
    if name == "epil":
        data["lbase"], data["lage"] = np.log(data["base"] / 4), np.log(data["age"])
    if name == "roaches":
        data["roach100"], data["log_exposure"] = data["roach1"] / 100, np.log(data["exposure2"])
        data["row"] = [f"r{i}" for i in range(len(data))]
    if name == "Contraception":
        named = {"0": "none", "1": "one", "2": "two", "3+": "more"}
        data = data.assign(use=(data["use"] == "Y").astype(int), livch=data["livch"].map(named))
    if name == "VerbAgg":
        data = data.assign(r2=(data["r2"] == "Y").astype(int), id="p" + data["id"].astype(str))
    return data


@dataclass(frozen=True, slots=True)
class Run:
    """One timed run. ``compiling`` is within ``wall``; LOO is with the pointwise log likelihood."""

    wall: float
    compiling: float
    ess: float
    r_hat: float
    loo: float
    bad_k: int
    refitted: int
    elpd: float
    verdict: str


def by_hierpool(case: Case, data: pd.DataFrame, seed: int, **_: Any) -> tuple[Fitted, float]:
    import hierpool as hp
    from hierpool.core.errors import FitError

    model = hp.Model(f"{case.left} ~ {case.right}", data, family=case.family)
    try:
        fit = model.fit("exact", seed=seed, draws=DRAWS, chains=CHAINS, progress=False)
    except FitError as error:
        fit = error.fit
    posterior = fit.draws["posterior"].to_dataset()
    names = [n for n in posterior.data_vars if not str(n).startswith("coef_")]
    return Fitted(posterior[names], lambda: (0.0, fit.loo()), verdict=fit.status.word), 0.0


def by_bambi(case: Case, data: pd.DataFrame, seed: int, **options: Any) -> tuple[Fitted, float]:
    import arviz as az
    import bambi as bmb
    import nutpie

    spent, compile_model = [0.0], nutpie.compile_pymc_model

    def clocked(*given: Any, **more: Any) -> Any:
        start = CLOCK()
        try:
            return compile_model(*given, **more)
        finally:
            spent[0] += CLOCK() - start

    nutpie.compile_pymc_model = clocked
    try:
        model = bmb.Model(f"{case.bambi_left or case.left} ~ {case.right}", data, case.family)
        settings = {"draws": DRAWS, "chains": CHAINS, "progressbar": False, **options}
        tree = model.fit(inference_method="nutpie", random_seed=seed, **settings)
    finally:
        nutpie.compile_pymc_model = compile_model

    def loo() -> tuple[float, Any]:
        model.compute_log_likelihood(tree)
        return 0.0, az.loo(tree, pointwise=True)

    posterior = tree["posterior"].to_dataset()
    kept = [n for n in posterior.data_vars if n != "p"]
    return Fitted(posterior[kept], loo), spent[0]


def processor_seconds() -> float:
    """Of this process and of those that it has waited for, as compilers are."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


FITS = {"hierpool": by_hierpool, "bambi": by_bambi}


def timed(peer: str, case: Case, data: pd.DataFrame, seed: int, **options: Any) -> Run:
    """Table to fit, then LOO."""
    start = CLOCK()
    fitted, compiling = FITS[peer](case, data, seed, **options)
    wall = CLOCK() - start
    assert fitted.loo is not None
    start = CLOCK()
    _, score = fitted.loo()
    seconds = CLOCK() - start
    k = score.pareto_k.to_numpy()
    bad, refitted = int((k > score.good_k).sum()), int(getattr(score, "n_refitted", 0))
    ess, r_hat = smallest_ess(fitted.draws)
    found = (seconds, bad, refitted, float(score.elpd), fitted.verdict)
    return Run(wall, compiling, ess, r_hat, *found)


def one(peer: str, name: str, runs: int, folder: Path) -> None:
    """What a process of its own does; its last line is what it measured."""
    warnings.simplefilter("ignore")
    case, data = CASES[name], table(name, folder)
    fitted, _ = FITS[peer](case, data, 0, **(WARM_UP if peer == "bambi" else {}))
    if (
        peer == "hierpool" and fitted.loo is not None
    ):  # compiled loops; arviz-stats refuses so few draws of Bambi's
        fitted.loo()
    done = [asdict(timed(peer, case, data, seed)) for seed in range(1, runs + 1)]
    print(json.dumps(done))


def in_a_process(peer: str, name: str, runs: int, folder: Path, limit: float) -> list[Run] | str:
    """The runs of a peer, or why there are none."""
    command = [sys.executable, __file__, "--one", peer, name, str(runs), "--tables", str(folder)]
    command += ["--processor"] * (CLOCK is processor_seconds)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"not done after {limit:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1]
    return [Run(**run) for run in json.loads(done.stdout.strip().splitlines()[-1])]


def line(name: str, peer: str, found: list[Run] | str) -> str:
    """A row of the table."""
    if isinstance(found, str):
        return f"| {name} | {LABELS[peer]} | failed: {found} |"
    middle = {f: median(getattr(run, f) for run in found) for f in ("wall", "compiling", "loo")}
    bad = [run.bad_k + run.refitted for run in found]
    cells = [
        *(
            name,
            LABELS[peer],
            f"{middle['wall']:.3g}",
            f"{middle['wall'] - middle['compiling']:.3g}",
        ),
        *(f"{median(r.ess for r in found):,.0f}", f"{max(r.r_hat for r in found):.3f}"),
        f"{median(r.ess / r.wall for r in found):,.0f}",
        f"{middle['loo']:.3g}",
        f"{min(bad)} to {max(bad)}" + (f" -> {max(r.bad_k for r in found)}" * (peer == "hierpool")),
        f"{median(r.elpd for r in found):.2f}",
        f"{len(found)}",
    ]
    return "| " + " | ".join(cells) + " |"


def ratios(name: str, ours: list[Run], theirs: list[Run]) -> str:
    """ESS a second over theirs, with their compilation and without it."""
    own = median(r.ess / r.wall for r in ours)
    whole = own / median(r.ess / r.wall for r in theirs)
    bare = own / median(r.ess / (r.wall - r.compiling) for r in theirs)
    reach = CASES[name].times_to_reach
    met = "yes" if whole >= reach else "**no**"
    return f"| {name} | {reach:.0f} | {whole:,.0f} | {bare:,.0f} | {met} |"


def beside_bambi(names: list[str], runs: int, folder: Path, limit: float) -> None:
    print(
        "| data | peer | fit, s | without compiling, s | smallest ESS | R-hat | ESS/s "
        "| LOO, s | bad k | elpd | runs |\n|" + "---|" * 11
    )
    compared = []
    for name in names:
        found = {peer: in_a_process(peer, name, runs, folder, limit) for peer in LABELS}
        for peer, each in found.items():
            print(line(name, peer, each), flush=True)
        ours, theirs = found["hierpool"], found["bambi"]
        if isinstance(ours, list) and isinstance(theirs, list):
            compared.append(ratios(name, ours, theirs))
    print("\n| data | to reach | times | times, compiled before | met |\n|" + "---|" * 5)
    print("\n".join(compared))


GLMER = """
suppressMessages(library(lme4)); d <- read.csv("{file}")
for (i in 1:{runs}) {{
  t <- proc.time()[[3]]
  f <- suppressWarnings(glmer({formula}, d, family = {family}, nAGQ = 1))
  cat(proc.time()[[3]] - t, as.numeric(logLik(f)), "\\n")
}}
"""


def beside_glmer(names: list[str], runs: int, folder: Path) -> None:
    """Maximum likelihood by quadrature, and glmer's with nAGQ = 1 (Laplace)."""
    import hierpool as hp

    print("| data | ml(), s | glmer nAGQ=1, s | log-likelihood | of Laplace |\n|" + "---|" * 5)
    for name in names:
        case, data = CASES[name], table(name, folder)
        file = folder / f"_{name}.csv"
        data.to_csv(file, index=False)
        family = "poisson" if case.family == "poisson" else "binomial"
        formula = f"{case.glmer_left or case.left} ~ {case.right}"
        code = GLMER.format(file=file, formula=formula, family=family, runs=runs)
        done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
        file.unlink()
        theirs = np.array([row.split() for row in done.stdout.splitlines()], dtype=float)
        seconds = []
        for attempt in range(runs + 1):
            start = time.perf_counter()
            try:
                fit = hp.Model(f"{case.left} ~ {case.right}", data, family=case.family).ml()
            except hp.HierpoolError as error:
                print(f"| {name} | {error.code} | {np.median(theirs[:, 0]):.3g} | | |", flush=True)
                break
            if attempt:
                seconds.append(time.perf_counter() - start)
        else:
            own = f"{median(seconds):.3g} | {np.median(theirs[:, 0]):.3g} | {fit.loglik:.3f}"
            print(f"| {name} | {own} | {theirs[0, 1]:.3f} |", flush=True)


def many_rows(n: int, groups: int = 10_000) -> None:
    """A table of 0 and 1, two categories, one number with few values: from the table to draws, LOO."""
    import hierpool as hp

    rng = np.random.default_rng(1)
    g = rng.integers(0, groups, n)
    data = pd.DataFrame({"g": g, "dose": rng.integers(0, 4, n), "arm": rng.choice(["a", "b"], n)})
    eta = -1 + 0.3 * data["dose"] + 0.5 * (data["arm"] == "b") + rng.normal(0, 0.8, groups)[g]
    data["y"] = rng.uniform(size=n) < 1 / (1 + np.exp(-eta))
    data["y"] = data["y"].astype(int)
    hp.Model("y ~ dose + arm + (1 | g)", data[:2000], family="bernoulli").fit(progress=False)
    wall, start = time.perf_counter(), time.process_time()
    model = hp.Model("y ~ dose + arm + (1 | g)", data, family="bernoulli")
    built = time.process_time()
    fit = model.fit("exact", seed=1, progress=False)
    end, elapsed = time.process_time(), time.perf_counter() - wall
    summary = fit.summary()
    print(f"{n:,} rows, {groups:,} groups, processor seconds: model {built - start:.1f}, ", end="")
    print(f"draws {end - built:.1f}, summary {time.process_time() - end:.1f}; ", end="")
    print(f"table to fit {elapsed:.1f} s of wall time, {fit.status.word}")
    print(fit.info)
    print(summary)


def main() -> None:
    global CLOCK
    parser = argparse.ArgumentParser(description="Families beside Bambi + nutpie and glmer.")
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--data", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900, help="seconds of a peer on a table")
    parser.add_argument("--glmer", action="store_true")
    parser.add_argument("--processor", action="store_true", help="processor seconds, not wall time")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.processor:
        CLOCK = processor_seconds
    if given.rows:
        print(described(PACKAGES))
        many_rows(given.rows)
        return
    if given.tables is None:
        parser.error("name the folder of tables: --tables FOLDER")
    if given.one:
        one(given.one[0], given.one[1], int(given.one[2]), given.tables)
        return
    print(described(PACKAGES) + "\n")
    if given.glmer:
        beside_glmer(given.data, given.runs, given.tables)
    else:
        beside_bambi(given.data, given.runs, given.tables, given.timeout)


if __name__ == "__main__":
    main()
