"""Does NUTS work where the exact engine does: python benchmarks/nuts.py --help

Every rung of the ladder of each bundled table by ``engine="nuts"`` and by the exact engine: the
worst R-hat and ESS of all scalars, divergences, and how far the posterior means of the two are
apart. ``README.md`` explains the columns and holds the last table.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arviz_stats as azs
import numpy as np
import pandas as pd
import xarray as xr
from machine import described

import hierpool as hp

PACKAGES = ("hierpool", "numpy", "pymc", "pytensor", "nutpie", "arviz-stats")
LADDERS = {
    "boars": ("volume ~ time", "boar"),
    "sleepstudy": ("Reaction ~ Days", "Subject"),
    "radon": ("log_radon ~ floor + log_uranium", "county"),
    "Orthodont": ("distance ~ age * Sex", "Subject"),
    "Rail": ("travel ~ 1", "Rail"),
    "Machines": ("score ~ Machine", "Worker"),
    "Dyestuff": ("Yield ~ 1", "Batch"),
    "Dyestuff2": ("Yield ~ 1", "Batch"),
    "ChickWeight": ("weight ~ Time * Diet", "Chick"),
    "cake": ("angle ~ recipe + temp", "replicate"),
    "Exam": ("normexam ~ standLRT", "school"),
    "Chem97": ("score ~ gcsecnt", "school"),
}
MODELS = {
    "eight_schools": ("effect ~ 1 + (1 | school)", {"known_se": "se"}),
    "Pastes": ("strength ~ 1 + (1 | batch / cask)", {}),
    "Penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", {}),
    "InstEval": ("y ~ 1 + (1 | s) + (1 | d)", {}),
}
SLOW = ("Chem97", "InstEval")
PART_OF_INSTEVAL = ("dept", (2, 11))  # NUTS on all 73,421 rows takes hours
FAIL = {"r_hat": 1.01, "ess": 400, "apart": 4.5}
EXACT_DRAWS = 4000


def main() -> None:
    names = [*LADDERS, *MODELS]
    parser = argparse.ArgumentParser(description="NUTS beside the exact engine, rung by rung.")
    parser.add_argument("--data", nargs="*", default=[n for n in names if n not in SLOW])
    parser.add_argument(
        "--csv", nargs=3, metavar=("FILE", "FORMULA", "GROUP"), help="a table of your own as well"
    )
    parser.add_argument("--rungs", nargs="*", help="only these rungs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sampler", default="nutpie")
    given = parser.parse_args()
    print(described(PACKAGES), flush=True)
    print(
        "\n| data | rung | parameterization | CPU, s | R-hat | bulk ESS | tail ESS | div. | apart | met |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for data, rung, model in models(given.data, given.csv):
        if not given.rungs or rung in given.rungs:
            print(line(data, rung, measured(model, given.seed, given.sampler)), flush=True)


def models(names: list[str], csv: list[str] | None) -> Iterator[tuple[str, str, hp.Model]]:
    """Data set, rung and model."""
    ladders = {name: (hp.datasets.load(name), *LADDERS[name]) for name in names if name in LADDERS}
    if csv:
        ladders[Path(csv[0]).stem] = (pd.read_csv(csv[0]), csv[1], csv[2])
    for name, (table, formula, group) in ladders.items():
        for rung, model in hp.pooling_ladder(formula, table, group).items():
            yield name, rung, model
    for name in names:
        if name in MODELS:
            table = hp.datasets.load(name)
            if name == "InstEval":
                column, values = PART_OF_INSTEVAL
                table = table[table[column].isin(values)]
            formula, more = MODELS[name]
            yield name, formula, hp.Model(formula, table, **more)


def measured(model: hp.Model, seed: int, sampler: str) -> dict[str, Any]:
    """The worst of NUTS's diagnostics over all scalars, and how far its means are from the exact."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit("nuts", seed=seed, sampler=sampler, progress=False)
        seconds = time.process_time() - start
        exact = model.fit("exact", draws=EXACT_DRAWS, seed=seed, progress=False)
    names = [str(n) for n in fit.datatree["posterior"].data_vars]
    posterior, judge = (moving(f.datatree["posterior"].to_dataset()[names]) for f in (fit, exact))
    bulk = flat(azs.ess(posterior, method="bulk"))
    error = np.hypot(flat(azs.mcse(posterior)), flat(azs.mcse(judge)))
    apart = (means(posterior) - means(judge)) / error
    return {
        "parameterization": fit.info.get("parameterization", ""),
        "cpu": seconds,
        "r_hat": flat(azs.rhat(posterior)).max(),
        "ess": bulk.min(),
        "tail": flat(azs.ess(posterior, method="tail")).min(),
        "divergences": int(fit.datatree["sample_stats"]["diverging"].sum()),
        "apart": np.abs(apart).max(),
        "scalars": len(bulk),
    }


def moving(posterior: xr.Dataset) -> xr.Dataset:
    """Without correlations of a term with itself, and each pair of terms once."""
    kept = {}
    for name, values in posterior.data_vars.items():
        if str(name).startswith("corr_"):
            rows, columns = np.tril_indices(values.shape[-1], -1)
            if not len(rows):
                continue
            values = xr.DataArray(
                values.to_numpy()[..., rows, columns], dims=("chain", "draw", "pair")
            )
            values = values.loc[..., values.std(("chain", "draw")) > 0]  # independent blocks
        kept[name] = xr.DataArray(
            values.to_numpy(),
            dims=("chain", "draw", *(f"{name}_{k}" for k in range(values.ndim - 2))),
        )
    return xr.Dataset(kept)


def means(posterior: xr.Dataset) -> np.ndarray:
    return flat(posterior.mean(("chain", "draw")))


def flat(values: xr.Dataset) -> np.ndarray:
    return np.concatenate([np.ravel(v) for v in values.data_vars.values()])


def line(data: str, rung: str, found: dict[str, Any]) -> str:
    """One row of the table; "apart" is the largest difference of means in Monte Carlo errors."""
    good = (
        found["r_hat"] <= FAIL["r_hat"]
        and min(found["ess"], found["tail"]) >= FAIL["ess"]
        and not found["divergences"]
        and found["apart"] < FAIL["apart"]
    )
    written = rung.replace("|", "\\|")
    return (
        f"| {data} | {written} | {said(found['parameterization'])} | {found['cpu']:.1f} "
        f"| {found['r_hat']:.4f} | {found['ess']:.0f} | {found['tail']:.0f} "
        f"| {found['divergences']} | {found['apart']:.1f} of {found['scalars']} "
        f"| {'yes' if good else '**no**'} |"
    )


def said(chosen: Any) -> str:
    """Factor by factor, p for partial, c for centered and n for noncentered."""
    if not isinstance(chosen, dict):
        return str(chosen)
    return "; ".join(
        f"{factor}: {' '.join(how[0] for how in terms.values())}"
        for factor, terms in chosen.items()
    )


if __name__ == "__main__":
    main()
