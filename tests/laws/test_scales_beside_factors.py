"""Residual sds of groups beside random effects of others: one density, and what is drawn from it."""

from __future__ import annotations

from typing import Any

import arviz_stats as azs
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pytensor.compile.mode import Mode

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


def gibbs(data: pd.DataFrame, n_draws: int = 12_000) -> tuple[np.ndarray, np.ndarray]:
    """Draws of sd_log_sigma, sigma and the logs (n, pigs), by a sampler that shares no code with ours.

    Of y ~ t + (1 | pig) + (1 | pen) + (1 | day). All coefficients are drawn at once, the rest by Metropolis
    steps; sds between groups have a half-normal prior with sd 10, which is as good as flat here.
    """
    rng = np.random.default_rng(5)
    codes = [pd.factorize(data[name])[0] for name in ("pig", "pen", "day")]
    pig, n = codes[0], np.bincount(codes[0])
    columns = [np.c_[np.ones(len(data)), data.t - data.t.mean()]]
    Z = np.hstack(columns + [np.eye(c.max() + 1)[c] for c in codes])
    blocks = np.split(np.arange(2, Z.shape[1]), np.cumsum([c.max() + 1 for c in codes])[:-1])
    y = data.y.to_numpy() - data.y.mean()
    d, log_sigma, omega, taus = np.zeros(len(n)), np.log(2.0), 0.3, np.array([3.0, 2.0, 1.0])
    found = []

    def step(now: float, size: float, log_density: Any) -> float:
        """A Metropolis step on the log scale."""
        new = now * np.exp(size * rng.normal())
        gain = log_density(new) - log_density(now) + np.log(new / now)
        return new if np.log(rng.random()) < gain else now

    for _ in range(n_draws):
        weight = np.exp(-2 * (log_sigma + d))[pig]
        precision = np.full(Z.shape[1], 1e-6)
        for tau, block in zip(taus, blocks, strict=True):
            precision[block] = tau**-2
        L = np.linalg.cholesky((Z.T * weight) @ Z + np.diag(precision))
        mean = np.linalg.solve(L.T, np.linalg.solve(L, Z.T @ (weight * y)))
        b = mean + np.linalg.solve(L.T, rng.normal(size=len(mean)))
        squares = np.bincount(pig, (y - Z @ b) ** 2)
        for k, block in enumerate(blocks):
            u = b[block]
            taus[k] = step(
                taus[k], 0.5, lambda t, u=u: -len(u) * np.log(t) - u @ u / 2 / t**2 - t**2 / 200
            )

        def of_rows(d: np.ndarray, log_sigma: float, squares: np.ndarray = squares) -> np.ndarray:
            return -n * (log_sigma + d) - squares / 2 * np.exp(-2 * (log_sigma + d))

        for _ in range(3):
            new = d + 0.4 * rng.normal(size=len(d))
            gain = of_rows(new, log_sigma) - of_rows(d, log_sigma) - (new**2 - d**2) / 2 / omega**2
            d = np.where(np.log(rng.random(len(d))) < gain, new, d)
            shifted = log_sigma + 0.1 * rng.normal()
            if np.log(rng.random()) < (of_rows(d, shifted) - of_rows(d, log_sigma)).sum():
                log_sigma = shifted
            omega = step(
                omega, 0.3, lambda o, d=d: -len(d) * np.log(o) - d @ d / 2 / o**2 - 2 * o**2
            )
            z = d / omega  # omega and d together, where omega is near zero
            omega = step(
                omega, 0.3, lambda o, z=z, at=log_sigma: of_rows(o * z, at).sum() - 2 * o**2
            )
            d = omega * z
        found.append(np.r_[omega, np.exp(log_sigma), d])
    kept = np.array(found[n_draws // 10 :])
    return kept.mean(axis=0), kept.std(axis=0)


@pytest.mark.slow
def test_what_is_found_is_what_another_sampler_finds() -> None:
    """These data say .2 of an sd of .5: judged by Gibbs sampling, not by the truth."""
    data, deviation = pigs(24, 10)
    model = hp.Model(CASES[0][0], data, sigma="~ (1 | pig)")
    with pytest.warns(UserWarning, match="sampled by NUTS: the residual sds of pigs"):
        fit = model.fit(seed=1, progress=False)
    assert fit.status.is_trustworthy
    posterior = fit.datatree["posterior"]
    found = posterior["log_sigma_deviation"]
    ours = xr.concat([posterior["sd_log_sigma"], posterior["sigma"]], "level")
    ours = np.concatenate([ours.transpose(..., "level"), found], axis=-1)
    means, sds = gibbs(data)
    assert np.abs(ours.mean(axis=(0, 1)) - means).max() < 0.04
    np.testing.assert_allclose(ours.std(axis=(0, 1)), sds, rtol=0.12)
    assert np.corrcoef(found.mean(("chain", "draw")), deviation)[0, 1] > 0.7
    assert "log_likelihood" in fit.datatree.children
    by_row, by_pig = fit.loo(exact=False), fit.loo(by="pig", exact=False)
    assert by_pig.elpd < by_row.elpd
    assert (by_row.pareto_k < 0.7).all()
    sds = fit.predict(kind="response")["sd"].groupby(data.pig).mean()
    assert np.corrcoef(np.log(sds), deviation)[0, 1] > 0.7
    new = fit.predict(data.head(2).assign(pig="z"), kind="response", groups={"pig": "new"})["sd"]
    assert new.min() > sds.min()
