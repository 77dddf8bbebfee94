"""How far hierpool's numbers are from those of others and from themselves, got another way.

    python benchmarks/agreement.py        some minutes; the figures of docs/testing.md

Largest differences from lme4's numbers in tests/reference/lme4; NUTS beside the exact engine;
leave-one-out beside refits without each row; ranks of true values over simulated data.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import hierpool as hp

REFERENCE = Path(__file__).parents[1] / "tests" / "reference" / "lme4"
STOPPED_EARLY = "radon__uranium_rs"  # lme4 did, below the optimum; tests/reml/test_reference.py
SEED = 1


def beside_lme4() -> None:
    """Differences of log-likelihoods, and of all else relative to the largest of its kind."""
    worst: dict[str, float] = {}
    fits = 0
    for path in sorted(REFERENCE.glob("*.json")):
        if path.stem == STOPPED_EARLY:
            continue
        ref = json.loads(path.read_text())
        model = hp.Model(ref["formula"], hp.datasets.load(ref["dataset"]))
        for method in ("REML", "ML"):
            if method not in ref:
                continue
            fits += 1
            fit, theirs = getattr(model, method.lower())(), ref[method]
            (own,) = fit.estimate.factors
            pairs = {
                "log-likelihood, absolute": (fit.loglik, theirs["logLik"], 1.0),
                "fixed effects": (fit.estimate.beta, theirs["fixef"], None),
                "their standard errors": (
                    fit.fixed_effects(df="normal")["se"],
                    theirs["se_fixef"],
                    None,
                ),
                "standard deviations": (own.sd, theirs["sd"], None),
                "BLUPs": (own.u, theirs["blup"], None),
            }
            for name, (ours, other, scale) in pairs.items():
                found = _furthest(ours, other, scale)
                worst[name] = max(worst.get(name, 0.0), found)
    print(f"lme4, {fits} fits:")
    for name, value in worst.items():
        print(f"  {name}: {value:.1e}")


def _furthest(ours: object, theirs: object, scale: float | None) -> float:
    a, b = np.atleast_1d(np.asarray(ours, float)), np.atleast_1d(np.asarray(theirs, float))
    apart = float(np.abs(a - b.reshape(a.shape)).max())
    return apart / (scale or float(np.abs(b).max()) or 1.0)


def nuts_beside_exact() -> None:
    """Differences of posterior means in their Monte Carlo errors."""
    sleep = hp.datasets.load("sleepstudy")
    scores = []
    for model in hp.pooling_ladder("Reaction ~ Days", sleep, group="Subject").values():
        nuts = model.fit("nuts", seed=SEED, draws=2500, target_accept=0.95, progress=False)
        exact = model.fit("exact", seed=SEED, draws=2500, progress=False)
        for table in ("summary", "coefficients"):
            if table == "summary" or model.design.groups:
                a, b = getattr(nuts, table)(), getattr(exact, table)()
                error = np.sqrt(a["sd"] ** 2 / a["ess_bulk"] + b["sd"] ** 2 / b["ess_bulk"])
                scores.append((a["mean"] - b["mean"]) / error)
    z = np.concatenate(scores)
    print(f"NUTS: {len(z)} means, root mean square z {np.sqrt(np.mean(z**2)):.2f}, ", end="")
    print(f"largest {np.abs(z).max():.1f}")


def left_out_beside_refits() -> None:
    """Each row left out in turn, and theta drawn anew without it."""
    cases = (
        ("sleepstudy", "Reaction ~ Days", "Subject"),
        ("Dyestuff", "Yield ~ 1", "Batch"),
        ("Dyestuff2", "Yield ~ 1", "Batch"),
    )
    for name, formula, group in cases:
        data = hp.datasets.load(name)
        for rung, model in hp.pooling_ladder(formula, data, group=group).items():
            if rung in ("varying_slope", "varying_intercept", "no_pooling"):
                fit = model.fit(seed=SEED, progress=False)
                refitted = fit.kfold(len(data), seed=SEED, progress=False).elpd
                print(f"{name}, {rung}: refitted {refitted:.2f}, ", end="")
                print(f"integrated {fit.loo().elpd:.2f}, ", end="")
                print(f"conditional {fit.loo(form='conditional').elpd:.2f}")


def ranks() -> None:
    """Simulation-based calibration of three models."""
    for name, formula in (
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
        ("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    ):
        model = hp.Model(formula, hp.datasets.load(name))
        print(f"{name}: {hp.calibrate(model, 400, seed=SEED, progress=False).verdict}")


if __name__ == "__main__":
    beside_lme4()
    nuts_beside_exact()
    left_out_beside_refits()
    ranks()
