"""One peer on one data set: warmed up, then timed, in a process of its own.

``posterior.py`` starts it, as ``python peers.py <peer> <data> <runs>``; the last line it prints is
what it measured, as JSON. Packages are imported where they are needed: a peer that is measured for
memory should not pay for the others.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from questions import QUESTIONS, Question

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CHAINS, DRAWS = 4, 1000
WARM_UP = {"draws": 50, "tune": 100}  # of the peers that compile: enough to fill every cache


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit: its draws, its LOO, and how long its parts took.

    Attributes
    ----------
    draws
        Every scalar parameter and coefficient, dims (chain, draw, ...).
    loo
        Gives seconds spent on the pointwise log likelihood, and an ``ELPDData``; None where the
        peer has no LOO.
    parts
        Seconds of named parts of the fit.
    verdict
        What the peer itself says of the draws; empty where it says nothing.
    """

    draws: xr.Dataset
    loo: Callable[[], tuple[float, Any]] | None
    parts: dict[str, float] = field(default_factory=dict)
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What one timed run gave; NaN where a peer does not have it.

    ``loo`` is the time of the score alone; what a peer needs before it, to compute the pointwise
    log likelihood, is ``log_likelihood``. ``refitted`` points were scored exactly, within ``loo``;
    ``bad_k`` are left with a high Pareto k.
    """

    wall: float
    ess: float
    r_hat: float
    log_likelihood: float
    loo: float
    bad_k: float
    refitted: float
    elpd: float
    parts: dict[str, float]
    verdict: str


def fit_hierpool(question: Question, data: pd.DataFrame, seed: int, **options: Any) -> Fitted:
    import hierpool as hp
    from hierpool.core.errors import FitError

    model = hp.Model(question.formula, data)
    settings = {"draws": DRAWS, "chains": CHAINS, "progress": False, **options}
    try:
        fit = model.fit(seed=seed, **settings)
    except FitError as error:
        fit = error.fit
    posterior = fit.draws["posterior"].to_dataset()
    names = [n for n in posterior.data_vars if not str(n).startswith("coef_")]
    return Fitted(posterior[names], lambda: (0.0, fit.loo()), verdict=fit.status.word)


def fit_exact(question: Question, data: pd.DataFrame, seed: int, **_: Any) -> Fitted:
    return fit_hierpool(question, data, seed, engine="exact")


def fit_nuts(question: Question, data: pd.DataFrame, seed: int, **options: Any) -> Fitted:
    return fit_hierpool(question, data, seed, engine="nuts", **options)


def fit_bambi(
    question: Question, data: pd.DataFrame, seed: int, method: str, **options: Any
) -> Fitted:
    import arviz as az
    import bambi as bmb

    model = bmb.Model(question.formula, data)
    settings = {"draws": DRAWS, "chains": CHAINS, "progressbar": False, **options}
    tree = model.fit(inference_method=method, random_seed=seed, **settings)

    def loo() -> tuple[float, Any]:
        start = time.perf_counter()
        model.compute_log_likelihood(tree)
        return time.perf_counter() - start, az.loo(tree, pointwise=True)

    return Fitted(tree["posterior"].to_dataset(), loo)


def fit_bambi_nutpie(question: Question, data: pd.DataFrame, seed: int, **options: Any) -> Fitted:
    return fit_bambi(question, data, seed, "nutpie", **options)


def fit_bambi_pymc(question: Question, data: pd.DataFrame, seed: int, **options: Any) -> Fitted:
    return fit_bambi(question, data, seed, "pymc", **options)


def fit_expert(question: Question, data: pd.DataFrame, seed: int, **options: Any) -> Fitted:
    """A collapsed model by hand, hierpool's priors, for levels that all have the same rows.

    Coefficients are integrated out level by level: with the level's design T = Q R, what is left
    of its rows is Q'y ~ N(R beta, R Sigma R' + sigma^2 I), two numbers, and the residual sum of
    squares. No level coefficients come back, and no LOO.
    """
    import nutpie
    import pymc as pm
    import pytensor.tensor as pt

    start = time.perf_counter()
    wide = data.pivot(index=question.group, columns=question.predictor, values=question.response)
    y, x = wide.to_numpy(), wide.columns.to_numpy(dtype=float)
    z = (x - data[question.predictor].mean()) / data[question.predictor].std()
    Q, R = np.linalg.qr(np.column_stack([np.ones(len(z)), z]))
    w, s = y @ Q, y.std(ddof=1)
    J, m = y.shape
    within, mean = float((y**2).sum() - (w**2).sum()), w.mean(axis=0)
    scatter = (w - mean).T @ (w - mean)
    with pm.Model() as model:
        beta = pm.Normal("beta", mu=[y.mean(), 0.0], sigma=2.5 * s, shape=2)
        sigma = pm.HalfStudentT("sigma", nu=4, sigma=s)
        sd = pm.HalfStudentT("sd", nu=4, sigma=s, shape=2)
        corr = pm.Uniform("corr", -1, 1)
        a, c = sd[0] ** 2, sd[1] ** 2
        b = corr * sd[0] * sd[1]
        v11 = R[0, 0] ** 2 * a + 2 * R[0, 0] * R[0, 1] * b + R[0, 1] ** 2 * c + sigma**2
        v12 = R[1, 1] * (R[0, 0] * b + R[0, 1] * c)
        v22 = R[1, 1] ** 2 * c + sigma**2
        det = v11 * v22 - v12**2
        off = mean - pt.dot(R, beta)
        s11, s22 = scatter[0, 0] + J * off[0] ** 2, scatter[1, 1] + J * off[1] ** 2
        s12 = scatter[0, 1] + J * off[0] * off[1]
        squares = (v22 * s11 - 2 * v12 * s12 + v11 * s22) / det + within / sigma**2
        pm.Potential("y", -0.5 * (J * pt.log(det) + squares) - J * (m - 2) * pt.log(sigma))
    compiled = nutpie.compile_pymc_model(model)
    middle = time.perf_counter()
    settings = {"draws": DRAWS, "chains": CHAINS, "progress_bar": False, **options}
    tree = nutpie.sample(compiled, seed=seed, **settings)
    end = time.perf_counter()
    posterior = tree["posterior"].to_dataset()[["beta", "sigma", "sd", "corr"]]
    return Fitted(posterior, None, {"compile": middle - start, "sample": end - middle})


@dataclass(frozen=True, slots=True)
class Peer:
    """How a peer is called, what must be installed for it, and what its warm-up may leave out."""

    name: str
    label: str
    fit: Callable[..., Fitted]
    packages: tuple[str, ...] = ()
    warm_up: dict[str, int] = field(default_factory=dict)
    data: tuple[str, ...] = tuple(QUESTIONS)


PEERS = {
    p.name: p
    for p in (
        Peer("hierpool", "hierpool exact", fit_exact),
        Peer("hierpool-nuts", "hierpool NUTS (nutpie)", fit_nuts, ("nutpie",), WARM_UP),
        Peer("bambi", "Bambi + nutpie", fit_bambi_nutpie, ("bambi", "nutpie"), WARM_UP),
        Peer("bambi-pymc", "Bambi + PyMC default", fit_bambi_pymc, ("bambi",), WARM_UP),
        Peer(
            "expert",
            "collapsed by hand + nutpie",
            fit_expert,
            ("pymc", "nutpie"),
            WARM_UP,
            ("boars", "sleepstudy"),
        ),
    )
}


def timed(
    peer: Peer, question: Question, data: pd.DataFrame, seed: int
) -> tuple[Run, float | None]:
    """One run, DataFrame to fit, then LOO; and the peak memory so far, taken before any ESS."""
    gc.collect()
    start = time.perf_counter()
    fitted = peer.fit(question, data, seed)
    wall = time.perf_counter() - start
    before = score_seconds = bad_k = refitted = elpd = float("nan")
    if fitted.loo is not None:
        start = time.perf_counter()
        before, score = fitted.loo()
        score_seconds = time.perf_counter() - start - before
        k = score.pareto_k.to_numpy()
        bad_k, elpd = float((k > score.good_k).sum()), float(score.elpd)
        refitted = float(getattr(score, "n_refitted", 0))
    peak = peak_memory()
    ess, r_hat = smallest_ess(fitted.draws)
    run = Run(
        wall,
        ess,
        r_hat,
        before,
        score_seconds,
        bad_k,
        refitted,
        elpd,
        fitted.parts,
        fitted.verdict,
    )
    return run, peak


def smallest_ess(draws: xr.Dataset) -> tuple[float, float]:
    """Smallest bulk ESS and largest R-hat over all scalars that are not constant."""
    import arviz as az
    import xarray as xr

    least, worst = np.inf, -np.inf
    for values in draws.data_vars.values():
        flat = values.transpose("chain", "draw", ...).to_numpy()
        flat = flat.reshape(*flat.shape[:2], -1)
        moves = np.ptp(flat, axis=(0, 1)) > 1e-12 * np.abs(flat).max(axis=(0, 1))
        if not moves.any():
            continue
        scalars = xr.Dataset({"v": (("chain", "draw", "scalar"), flat[..., moves])})
        least = min(least, float(az.ess(scalars, method="bulk")["v"].min()))
        worst = max(worst, float(az.rhat(scalars)["v"].max()))
    return least, worst


def peak_memory() -> float | None:
    """Peak memory of this process and of the largest process it started, in GB; None if unknown."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes elsewhere
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) / unit


def measure(peer: Peer, question: Question, runs: int) -> dict[str, Any]:
    """Warm up, then so many timed runs, as plain data."""
    import hierpool as hp

    data = hp.datasets.load(question.data)
    fitted = peer.fit(question, data, 0, **peer.warm_up)
    if fitted.loo is not None:
        fitted.loo()
    del fitted
    done = [timed(peer, question, data, seed) for seed in range(1, runs + 1)]
    # Of the first run: what comes after it includes the memory that ESS takes.
    return {"runs": [asdict(run) for run, _ in done], "memory": done[0][1]}


def main() -> None:
    name, data, runs = sys.argv[1:]
    warnings.simplefilter("ignore")
    found = measure(PEERS[name], QUESTIONS[data], int(runs))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
