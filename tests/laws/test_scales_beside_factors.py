"""Residual sds of groups beside random effects of others: one density, and what is drawn from it."""

from __future__ import annotations

from typing import Any

import arviz_stats as azs
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pytensor.compile.mode import Mode
from scipy import stats

import hierpool as hp
from hierpool.bayes.nuts import collapsed, engine, pymc_model
from hierpool.bayes.run import SamplerSettings
from hierpool.bayes.theta import integrate
from hierpool.core.errors import UnsupportedModelError

CASES = [
    ("y ~ t + (1 | pig) + (1 | pen) + (1 | day)", "~ t + (1 | pig)", {}),
    ("y ~ t + (t | pig) + (1 | day)", "~ (1 | pig)", {"weights": "w"}),
    ("y ~ t + (t || pen)", "~ (1 | pig)", {"priors": {"t": hp.Prior("Flat")}}),
    ("y ~ 0 + (1 | pig) + (1 | pen)", "~ sow + (1 | day)", {}),
]
SETTINGS = SamplerSettings(1000, 1000, 4, None, 2, "nutpie", None, False, {})


def pigs(n_pigs: int = 8, n_days: int = 5, omega: float = 0.5) -> tuple[pd.DataFrame, np.ndarray]:
    """Pigs in pens, weighed on the same days, and the logs of their residual sds over the average."""
    rng = np.random.default_rng(0)
    rows = [(f"p{j:02d}", f"n{j // 4}", t) for j in range(n_pigs) for t in range(n_days)]
    made = pd.DataFrame(rows, columns=["pig", "pen", "t"])
    pig, pen = np.divmod(np.arange(len(made)), n_days)[0], made.pen.str[1:].astype(int)
    deviation = omega * rng.normal(size=n_pigs)
    y = 20 + 1.5 * made.t + rng.normal(0, 3, n_pigs)[pig] + rng.normal(0, 2, n_pigs)[pen]
    y += rng.normal(0, 1, n_days)[made.t] + rng.normal(size=len(made)) * 2 * np.exp(deviation)[pig]
    made["sow"], made["w"] = np.where(pig % 2, "a", "b"), rng.uniform(0.5, 2, len(made))
    return made.assign(day="d" + made.t.astype(str), y=y), deviation


def at_points(model: Any, outputs: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """Values of a PyMC model's variables at two random points."""
    names, values = list(outputs), model.replace_rvs_by_values(list(outputs.values()))
    mode = Mode(linker="py", optimizer=None)
    compiled = model.compile_fn(values, inputs=model.value_vars, mode=mode)
    rng = np.random.default_rng(3)
    start = model.initial_point()
    every = ({k: v + rng.normal(0, 0.3, np.shape(v)) for k, v in start.items()} for _ in range(2))
    return [dict(zip(names, map(np.asarray, compiled(at)), strict=True)) for at in every]


def theta_at(values: dict[str, np.ndarray], model: hp.Model) -> Any:
    """Those of theta, as of one draw."""
    dims = {k: ("chain", "draw", *(f"{k}{i}" for i in range(v.ndim))) for k, v in values.items()}
    one = xr.Dataset({k: (dims[k], v[None, None]) for k, v in values.items()})
    return pymc_model.theta_of(one, model.design, model.priors)


@pytest.mark.parametrize(("formula", "sigma", "more"), CASES, ids=lambda c: str(c))
def test_density_without_coefficients_is_that_of_the_algebra(
    formula: str, sigma: str, more: dict[str, Any]
) -> None:
    model = hp.Model(formula, pigs()[0], sigma=sigma, **more)
    cells = collapsed.Cells.from_design(model.design, model.priors)
    assert cells is not None
    made = collapsed.build(model.design, model.priors, cells)
    named = {v.name: v for v in [*made.free_RVs, *made.deterministics]}
    points = at_points(made, {"density": made.potentials[0], **named})
    found = np.array([float(at.pop("density")) for at in points])
    algebra, theta_map = integrate(model.design, model.priors)
    each = [algebra.log_density(theta_map.working(theta_at(at, model)))[0] for at in points]
    expected = np.array(each)
    if model.priors.population.n_flat:  # up to a constant
        found, expected = np.diff(found), np.diff(expected)
    assert found == pytest.approx(expected, abs=1e-8)


def test_what_there_is_not_says_what_to_type() -> None:
    data, _ = pigs()
    model = hp.Model(CASES[0][0], data, sigma=CASES[0][1])
    for method in (model.ml, model.reml):
        with pytest.raises(
            UnsupportedModelError, match=r"model\.fit\(\).*y ~ 1 \+ t \+ \(1 \| pig\)"
        ):
            method()
    hp.Model("y ~ 1 + t + (1 | pig)", data, sigma=CASES[0][1]).ml()
    with pytest.raises(UnsupportedModelError, match="of pens and days, so that they cannot"):
        model.fit(engine="exact")
    with pytest.raises(UnsupportedModelError, match="engine='nuts'"):
        hp.calibrate(model, 20)


@pytest.mark.slow
def test_one_factor_by_nuts_is_the_exact_engine() -> None:
    sleep = hp.datasets.load("sleepstudy")
    model = hp.Model("Reaction ~ Days + (Days | Subject)", sleep, sigma="~ (1 | Subject)")
    exact = model.fit(seed=1, progress=False).draws["posterior"]
    run = engine.run_collapsed(model.design, model.priors, SETTINGS)
    assert run is not None
    nuts = run.tree["posterior"]
    for name in ("beta", "sigma", "sd_Subject", "sd_log_sigma", "log_sigma_deviation", "u_Subject"):
        off, both = 0.0, 0.0
        for sign, draws in ((1, exact[name]), (-1, nuts[name])):
            off = off + sign * draws.mean(("chain", "draw")).to_numpy()
            both = both + (draws.var(("chain", "draw")) / azs.ess(draws, method="mean")).to_numpy()
        assert (np.abs(off) < 4.5 * np.sqrt(both)).all(), name


@pytest.mark.slow
def test_truth_is_found_and_predictions_have_the_sds_of_their_groups() -> None:
    data, deviation = pigs(24, 10)
    model = hp.Model(CASES[0][0], data, sigma="~ (1 | pig)")
    with pytest.warns(UserWarning, match="sampled by NUTS: the residual sds of pigs"):
        fit = model.fit(seed=1, progress=False)
    assert fit.status.is_trustworthy
    posterior = fit.datatree["posterior"]
    found = posterior["log_sigma_deviation"]
    mean, sd = found.mean(("chain", "draw")), found.std(("chain", "draw"))
    z = (mean.to_numpy() - deviation) / sd.to_numpy()
    assert stats.chi2.sf((z**2).sum(), len(z)) > 0.001
    assert np.corrcoef(mean, deviation)[0, 1] > 0.7
    summary = fit.summary()
    low, high = (summary.loc["sd_log_sigma", c] for c in ("eti95_lb", "eti95_ub"))
    assert low < 0.5 < high
    assert "log_likelihood" in fit.datatree.children
    by_row, by_pig = fit.loo(exact=False), fit.loo(by="pig", exact=False)
    assert by_pig.elpd < by_row.elpd
    assert (by_row.pareto_k < 0.7).all()
    sds = fit.predict(kind="response")["sd"].groupby(data.pig).mean()
    assert np.corrcoef(np.log(sds), deviation)[0, 1] > 0.7
    new = fit.predict(data.head(2).assign(pig="z"), kind="response", groups={"pig": "new"})["sd"]
    assert new.min() > sds.min()
