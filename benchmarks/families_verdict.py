"""The verdict on fits of families as a classifier: does "good" mean right, and is doubt needed?

``python benchmarks/families_verdict.py [SETS] [SEED]`` simulates small tables (few rows, rare events,
complete separation, sds of 0 to 3, counts up to thousands), fits each by the exact engine without a
retry by NUTS, and judges it by dense quadrature over theta and the coefficients. A fit agrees where
means and 5 and 95 % quantiles are within .15 posterior sds of the quadrature's, and the log evidence
within .1.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter

import numpy as np
import pandas as pd
from scipy import special, stats

import hierpool as hp
from hierpool.bayes import choose
from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.bayes.run import JudgedRun, SamplerSettings
from hierpool.core.errors import HierpoolError
from hierpool.model import Model

NEAR, NEAR_EVIDENCE = 0.15, 0.1
FAMILIES = ("bernoulli", "binomial", "poisson", "negbinomial")
Z = np.linspace(-6.5, 6.5, 105)  # of an sd, where its prior is standard normal
Z_SHAPE = np.linspace(-5.5, 5.5, 141)
E = np.arange(-9.0, 9.1, 0.6)  # of each coefficient, in sds of its Laplace approximation


def simulated(rng: np.random.Generator) -> tuple[str, str, pd.DataFrame] | None:
    """Family, formula and a small table; None where the response does not vary."""
    family = FAMILIES[rng.integers(len(FAMILIES))]
    levels, rows = int(rng.integers(3, 9)), int(rng.integers(2, 7))
    n, kind = levels * rows, rng.integers(5)
    x = rng.standard_normal(n)
    sd = float(rng.choice([0.0, 0.5, 1.0, 3.0]))
    codes = np.repeat(np.arange(levels), rows)
    is_count = family in ("poisson", "negbinomial")
    middle = {0: 0.0, 1: -2.5, 2: 0.5, 3: 0.0, 4: 6.0 if is_count else 1.5}[int(kind)]
    eta = middle + 0.7 * x + sd * rng.standard_normal(levels)[codes]
    p, trials = special.expit(eta), 8
    if family == "bernoulli":
        y = (x > 0).astype(int) if kind == 3 else (rng.uniform(size=n) < p).astype(int)
    elif family == "binomial":
        y = rng.binomial(trials, p)
    else:
        spread = rng.gamma(1.5, 1 / 1.5, n) if family == "negbinomial" else 1.0
        y = rng.poisson(np.minimum(np.exp(eta), 5000.0) * spread)
    if kind == 2 and rng.uniform() < 0.3:
        y = np.zeros(n, dtype=int)
        y[0] = 1
    data = pd.DataFrame({"y": y, "x": x, "n": trials, "g": [f"g{j}" for j in codes]})
    with_x = family != "negbinomial" and rng.uniform() < 0.5
    left = "y / n" if family == "binomial" else "y"
    return family, f"{left} ~ {'x' if with_x else '1'} + (1 | g)", data


def dense(model: Model) -> tuple[float, dict[str, np.ndarray]]:
    """Log evidence; mean, sd, 5 and 95 % quantile of each scalar, by quadrature."""
    posterior = FamilyPosterior.from_design(model.design, model.priors)
    d, p = posterior.dimension, posterior.model.n_gamma
    axes = [Z] if d == 1 else [Z_SHAPE, Z]
    if d == 2 and posterior.coordinates.parts[0].shapes.keys() != {"shape"}:
        axes = [Z, Z_SHAPE]
    z = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, d)
    laplace = posterior.laplace(z)
    e = np.stack(np.meshgrid(*[E] * p, indexing="ij"), -1).reshape(-1, p)
    gammas, values = [], []
    # Each value of theta has its nodes shifted: the rule is as good, and quantiles are not stepped.
    shifts = np.random.default_rng(0).uniform(0, E[1] - E[0], (len(z), p))
    for k in range(len(z)):
        root = laplace.root[k]
        gamma = laplace.gamma[k] + np.linalg.solve(root.T, (e + shifts[k]).T).T
        theta = posterior.theta(np.repeat(z[k][None], len(e), axis=0))[1]
        with np.errstate(all="ignore"):
            found = posterior.model.log_density(gamma, theta, finer=True)
            found = found + posterior.log_prior(gamma) - np.log(np.diag(root)).sum()
        gammas.append(gamma)
        values.append(found - 0.5 * z[k] @ z[k] - 0.5 * d * np.log(2 * np.pi))
    values_all = np.concatenate(values)
    cell = np.prod([a[1] - a[0] for a in axes]) * (E[1] - E[0]) ** p
    evidence = float(special.logsumexp(values_all) + np.log(cell))
    weights = np.exp(values_all - special.logsumexp(values_all))
    theta = posterior.coordinates.theta(np.repeat(z, len(e), axis=0))
    beta = posterior.model.coordinates.beta_to_user(np.concatenate(gammas))
    scalars = {f"beta{k}": beta[:, k] for k in range(p)}
    found = {name: _summed(v, weights) for name, v in scalars.items()}
    found["sd"] = _summed(theta.values["sd_g"][:, 0], weights)
    if "shape" in theta.values:
        found["cv"] = _summed(theta.values["shape"] ** -0.5, weights)
    return evidence, found


def _summed(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean = weights @ values
    distinct, place = np.unique(values, return_inverse=True)
    mass = np.bincount(place.reshape(-1), weights)
    upto = np.cumsum(mass) - mass / 2  # half of a node's mass lies on each side of it
    if distinct[0] > 0:  # an sd, whose nodes are far from even: between them by its log
        low, high = np.exp(np.interp([0.05, 0.95], upto, np.log(distinct)))
    else:
        low, high = np.interp([0.05, 0.95], upto, distinct)
    return np.array([mean, np.sqrt(weights @ (values - mean) ** 2), low, high])


def exact(model: Model, seed: int) -> JudgedRun:
    """The exact engine's last word, trusted or not."""
    settings = SamplerSettings(8000, 0, 4, 1, seed, "nutpie", None, False, {})  # little noise
    return choose._exact(model.design, model.priors, settings)


def apart(run: JudgedRun, evidence: float, right: dict[str, np.ndarray]) -> tuple[float, str]:
    """Largest distance in units of what is allowed, and of what."""
    posterior = run.tree["posterior"]
    drawn = {
        f"beta{k}": posterior["beta"].to_numpy()[..., k] for k in range(posterior["beta"].shape[-1])
    }
    drawn["sd"] = posterior["sd_g"].to_numpy()[..., 0]
    if "shape" in posterior:
        drawn["cv"] = posterior["shape"].to_numpy() ** -0.5
    off = {"evidence": abs(run.info["log_marginal_likelihood"] - evidence) / NEAR_EVIDENCE}
    for name, (mean, sd, low, high) in right.items():
        values = drawn[name].ravel()
        found = np.array([values.mean(), *np.quantile(values, [0.05, 0.95])])
        off[name] = float(np.abs(found - [mean, low, high]).max() / sd / NEAR)
    worst = max(off, key=lambda k: off[k])
    return off[worst], worst


def main() -> None:
    """Simulate, fit, judge and count."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    counts: Counter[str] = Counter()
    start = time.perf_counter()
    for k in range(sets):
        rng = np.random.default_rng([seed, k])
        family, formula, data = simulated(rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = hp.Model(formula, data, family=family)
                run = exact(model, k)
        except HierpoolError:
            counts["nothing to fit"] += 1
            continue
        evidence, right = dense(model)
        far, of = apart(run, evidence, right)
        word = "good" if run.status.is_trustworthy else "doubtful"
        outcome = f"{word}, {'right' if far <= 1 else 'wrong'}"
        counts[outcome] += 1
        if outcome in ("good, wrong", "doubtful, right", "doubtful, wrong"):
            print(f"{k} {family} {formula} {outcome}: {of} {far:.2f}; {run.status}", flush=True)
        if (k + 1) % 100 == 0:
            print(k + 1, dict(counts), f"{time.perf_counter() - start:.0f} s", flush=True)
    good = counts["good, right"] + counts["good, wrong"]
    bound = stats.beta.ppf(0.95, counts["good, wrong"] + 1, max(good - counts["good, wrong"], 1))
    print(
        dict(counts), f"false among good: {counts['good, wrong']} of {good}, 95 % below {bound:.4f}"
    )


if __name__ == "__main__":
    main()
