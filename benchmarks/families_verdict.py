"""The verdict on fits of families as a classifier: does "good" mean right, and is doubt needed?

``python benchmarks/families_verdict.py [SETS] [SEED] [FIRST] [KIND]`` simulates small tables (few rows,
rare events, complete separation, sds of 0 to 6, counts up to thousands), fits each by the exact engine as
``fit`` does, without going on to NUTS, and judges it by dense quadrature over theta and the
coefficients. A fit agrees where means and 5 and 95 % quantiles are within .15 posterior sds of the
quadrature's, and the log evidence within .1. Since 4 x 1,000 draws miss .15 in a long tail by chance
now and then, a fit that disagrees is made again with 4 x 4,000 draws, and that one is judged; both
counts are printed. The judge itself is checked on each table: at four draws of the parameters the log
likelihood is worked out anew by brute force.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter

import numpy as np
import pandas as pd
from families_beyond import by_nuts, drawn, simulated_beyond
from families_dense import Right, dense
from families_filled import UnsureError, filled
from scipy import special, stats

import hierpool as hp
from hierpool.bayes import choose
from hierpool.bayes.run import JudgedRun, NoProposalError, SamplerSettings
from hierpool.core.errors import HierpoolError
from hierpool.model import Model

NEAR, NEAR_EVIDENCE = 0.15, 0.1
NEAR_BRUTE_FORCE = 0.03  # of the log likelihood, from which the judge is said to be off
FAMILIES = ("bernoulli", "binomial", "poisson", "negbinomial") * 2
MORE_FAMILIES = ("gamma", "beta", "zero_inflated_poisson")
SDS = (0.0, 0.0, 0.5, 1.0, 3.0, 6.0)
PLAIN, RARE, LONE, SEPARATED, LARGE = range(5)  # kinds of tables


def simulated(rng: np.random.Generator) -> tuple[str, str, pd.DataFrame]:
    """Family, formula and a small table."""
    family = str(rng.choice([*FAMILIES, *MORE_FAMILIES]))
    levels, kind = int(rng.integers(3, 9)), int(rng.integers(5))
    sizes = np.full(levels, rng.integers(1, 7))
    if rng.uniform() < 0.3:
        sizes = rng.integers(1, 7, levels)
    codes = np.repeat(np.arange(levels), sizes)
    n, sd = len(codes), float(rng.choice(SDS))
    x = rng.standard_normal(n)
    is_count = family in ("poisson", "negbinomial", "zero_inflated_poisson")
    middle = {PLAIN: 0.0, RARE: -2.5, LONE: 0.5, SEPARATED: 0.0, LARGE: 6.0 if is_count else 1.5}
    eta = middle[kind] + 0.7 * x + sd * rng.standard_normal(levels)[codes]
    y = _response(rng, family, eta)
    if kind == SEPARATED and family in ("bernoulli", "binomial"):
        y = (x > 0) * (8 if family == "binomial" else 1)
    if kind == LONE and rng.uniform() < 0.3 and family not in ("gamma", "beta"):
        y = np.zeros(n, dtype=int)
        y[0] = 1
    data = pd.DataFrame({"y": y, "x": x, "n": 8, "g": [f"g{j}" for j in codes]})
    with_x = family in ("bernoulli", "binomial", "poisson") and rng.uniform() < 0.5
    left = "y / n" if family == "binomial" else "y"
    return family, f"{left} ~ {'x' if with_x else '1'} + (1 | g)", data


def simulated_two(rng: np.random.Generator) -> tuple[str, str, pd.DataFrame]:
    """The same with an intercept and a slope a group, correlated or not."""
    family = str(rng.choice(["bernoulli", "binomial", "poisson"]))
    levels, sd = int(rng.integers(3, 8)), rng.choice(SDS, 2)
    codes = np.repeat(np.arange(levels), rng.integers(2, 7))
    x, u = rng.standard_normal(len(codes)), sd * rng.standard_normal((levels, 2))
    x -= x.mean()  # the judge's sds are those where predictors have their means
    middle = float(rng.choice([0.0, -2.5, 1.5]))
    y = _response(rng, family, middle + u[codes, 0] + u[codes, 1] * x)
    data = pd.DataFrame({"y": y, "x": x, "n": 8, "g": [f"g{j}" for j in codes]})
    bar = "|" if rng.uniform() < 0.5 else "||"
    return family, f"{'y / n' if family == 'binomial' else 'y'} ~ 1 + (x {bar} g)", data


def simulated_ratings(rng: np.random.Generator) -> tuple[str, str, pd.DataFrame]:
    """Three or four ratings: rare ones, all of a group alike, hardly any in the middle."""
    codes, x, eta = _other(rng)
    cuts = np.sort(rng.choice([0.3, 1.0, 3.0]) * rng.standard_normal(int(rng.integers(2, 4))))
    y = 1 + np.searchsorted(cuts, eta + rng.choice([0.0, 2.5]) + rng.logistic(size=len(eta)))
    y = 1 + np.unique(y, return_inverse=True)[1]  # without gaps
    with_x = y.max() == 3 and rng.uniform() < 0.5
    data = pd.DataFrame({"y": y, "x": x, "g": [f"g{j}" for j in codes]})
    return "ordinal", f"y ~ {'x' if with_x else '1'} + (1 | g)", data


def simulated_tails(rng: np.random.Generator) -> tuple[str, str, pd.DataFrame]:
    """Measurements with light and heavy tails, one outlying row or group, small and large sds."""
    codes, x, eta = _other(rng)
    noise = rng.standard_t(float(rng.choice([1.2, 3.0, 30.0])), len(eta))
    y = rng.choice([0.0, 100.0]) + eta + rng.choice([0.1, 1.0]) * noise
    if rng.uniform() < 0.2:
        y[0] += 20.0
    with_x = rng.uniform() < 0.3
    data = pd.DataFrame({"y": y, "x": x, "g": [f"g{j}" for j in codes]})
    return "student", f"y ~ {'x' if with_x else '1'} + (1 | g)", data


def _other(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups, a predictor with mean 0 and linear predictors of three to eight groups."""
    levels = int(rng.integers(3, 9))
    codes = np.repeat(np.arange(levels), rng.integers(1, 7, levels))
    x = rng.standard_normal(len(codes))
    x -= x.mean()
    return codes, x, 0.7 * x + float(rng.choice(SDS)) * rng.standard_normal(levels)[codes]


KINDS = {
    "one": simulated,
    "two": simulated_two,
    "ratings": simulated_ratings,
    "tails": simulated_tails,
    "beyond": simulated_beyond,
}
FILLED = ("two", "ratings", "tails")  # judged by lattices that are filled


def _response(rng: np.random.Generator, family: str, eta: np.ndarray) -> np.ndarray:
    p, mean, n = special.expit(eta), np.exp(np.minimum(eta, np.log(5000.0))), len(eta)
    spread = float(rng.choice([0.2, 1.5, 30.0]))  # shape; small is widely spread
    match family:
        case "bernoulli":
            return (rng.uniform(size=n) < p).astype(int)
        case "binomial":
            return rng.binomial(8, p)
        case "poisson":
            return rng.poisson(mean)
        case "negbinomial":
            return rng.poisson(mean * rng.gamma(spread, 1 / spread, n))
        case "zero_inflated_poisson":
            return rng.poisson(mean) * (rng.uniform(size=n) < 0.7)
        case "gamma":
            return np.maximum(mean * rng.gamma(spread, 1 / spread, n), 1e-8)
        case _:
            precision = 4 * spread
            drawn = rng.beta(np.maximum(p * precision, 1e-3), np.maximum((1 - p) * precision, 1e-3))
            return np.clip(drawn, 1e-6, 1 - 1e-6)


def exact(model: Model, seed: int, draws: int) -> JudgedRun:
    """The exact engine's last word, trusted or not."""
    settings = SamplerSettings(draws, 0, 4, 1, seed, "nutpie", None, False, {})
    return choose._exact(model.design, model.priors, settings)


def apart(run: JudgedRun, right: Right) -> tuple[float, str]:
    """Largest distance in units of what is allowed, and of what."""
    seen = run.info["log_marginal_likelihood"]
    off = {"evidence": abs(seen - right.evidence) / NEAR_EVIDENCE}
    if np.isnan(right.evidence):  # of NUTS, which has none
        off = {}
    values = drawn(run.tree["posterior"])
    for name, (mean, sd, low, high) in right.scalars.items():
        found = np.array([values[name].mean(), *np.quantile(values[name], [0.05, 0.95])])
        off[name] = float(np.abs(found - [mean, low, high]).max() / sd / NEAR)
    worst = max(off, key=lambda k: off[k] if np.isfinite(off[k]) else np.inf)
    return off[worst], worst


def main() -> None:
    """Simulate, fit, judge and count."""
    given = [*sys.argv[1:], *("200", "1", "0", "one")[len(sys.argv) - 1 :]]
    (sets, seed, first), kind = map(int, given[:3]), given[3]
    counts: Counter[str] = Counter()
    warnings.simplefilter("ignore")
    start = time.process_time()
    for k in range(first, first + sets):
        outcome, said = judged(seed, k, kind)
        counts.update(outcome)
        if said:
            print(f"{k} {said}", flush=True)
        if (k + 1) % 25 == 0:
            print(k + 1, dict(counts), f"{time.process_time() - start:.0f} CPU s", flush=True)
    print(dict(counts))
    good, doubtful = (counts[f"{w}, right"] + counts[f"{w}, wrong"] for w in ("good", "doubtful"))
    print(share("false among good", counts["good, wrong"], good))
    print(share("needless among all", counts["doubtful, right"], good + doubtful))


def _right(model: Model, kind: str) -> Right:
    """What the judge of this kind of tables says."""
    if kind == "beyond":
        return by_nuts(model)
    is_of_zeros = "zero_inflation" in model.design.family.parameters  # dense misses mass of theirs
    return (filled if kind in FILLED or is_of_zeros else dense)(model)


def judged(seed: int, k: int, kind: str = "one") -> tuple[list[str], str]:
    """What to count of a table, and what to print of it where it is worth a look."""
    family, formula, data = KINDS[kind](np.random.default_rng([seed, k]))
    try:
        model = hp.Model(formula, data, family=family)
        run = exact(model, k, 1000)
    except (HierpoolError, NoProposalError) as error:
        return [f"no fit: {getattr(error, 'code', 'no proposal')}"], ""
    try:
        right = _right(model, kind)
    except UnsureError as error:
        is_good = run.status.is_trustworthy
        return [f"{'good' if is_good else 'doubtful'}, judge unsure"], f"{family} {formula} {error}"
    outcome = ["judge off"] if not right.off < NEAR_BRUTE_FORCE else []
    far, of = apart(run, right)
    is_good, again = run.status.is_trustworthy, ""
    if far > 1:
        outcome.append(f"{'good' if is_good else 'doubtful'}, apart with 4 x 1,000 draws")
        again = f" (4 x 1,000: {of} {far:.2f})"
        far, of = apart(exact(model, k + 10**6, 4000), right)
    outcome.append(f"{'good' if is_good else 'doubtful'}, {'right' if far <= 1 else 'wrong'}")
    if outcome == ["good, right"] or outcome == ["good, apart with 4 x 1,000 draws", "good, right"]:
        return outcome, ""
    status = "" if is_good else f"; {run.status}"
    return (
        outcome,
        f"{family} {formula} {outcome}: {of} {far:.2f}{again}; off {right.off:.3f}{status}",
    )


def share(what: str, k: int, n: int) -> str:
    """A share with its exact 95 % interval."""
    low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return f"{what}: {k} of {n}, 95 % interval {100 * low:.2f} to {100 * high:.2f} %"


if __name__ == "__main__":
    main()
