"""Binomial responses and counts: cattle, seeds, tadpoles, batting averages and roaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

import hierpool as hp

from .analyses import Analysis, bundled, outside
from .bayes import in_full
from .optima import beta, deviance, sd
from .posteriors import Posterior, Values, mean, median, of_beta, of_coef, of_sd, quantile, sampled

Prior = hp.Prior
Fit = Callable[[pd.DataFrame], Posterior]


def family(formula: str, name: str, priors: Mapping[str, Any]) -> Fit:
    """Exact draws of a model with this family."""
    return lambda rows: sampled(hp.Model(formula, rows, priors, family=name))


def each_its_own(formula: str, group: str, prior: hp.Prior) -> Fit:
    """No pooling: a probability for each group, the priors of their logits independent."""

    def fit(rows: pd.DataFrame) -> Posterior:
        priors = {f"coef_{group}": prior}
        return sampled(hp.no_pooling(formula, rows, group=group, priors=priors, family="binomial"))

    return fit


# cattle


@dataclass(frozen=True, slots=True)
class WithRows:
    """A fit and the rows that it was made of."""

    fit: hp.LikelihoodFit
    rows: pd.DataFrame


def saturated(rows: pd.DataFrame) -> float:
    """Log-likelihood with a probability for each row."""
    y, n = rows["incidence"], rows["size"]
    return float(stats.binom.logpmf(y, n, y / n).sum())


def cattle(rows: pd.DataFrame) -> WithRows:
    formula = "incidence / size ~ C(period) + (1 | herd)"
    return WithRows(hp.Model(formula, rows, family="binomial").ml(), rows)


CATTLE = (
    Analysis(
        "cbpp",
        "cbind(incidence,size-incidence) ~ period + (1|herd), binomial",
        "glmer AGQ 9",
        outside("lme4_cbpp"),
        cattle,
        {
            "sd herd": lambda found: sd("herd")(found.fit),
            "(Intercept)": lambda found: beta()(found.fit),
            "deviance (relative)": lambda found: deviance(found.fit) + 2 * saturated(found.rows),
        },
        note="glmer's deviance is relative to a model with a probability for each row.",
    ),
)

# seeds

VAGUE = Prior("Normal", mu=0, sigma=1000)
SEEDS = (
    Analysis(
        "bugs_seeds",
        "r~Bin(p,n); logit p = a0+a1x1+a2x2+a12x1x2+b; sigma~U(0,10)",
        "MultiBUGS posterior",
        outside("bugs_seeds"),
        family(
            "r / n ~ x1 * x2 + (1 | plate)",
            "binomial",
            {"beta": VAGUE, "plate": Prior("Uniform", lower=0, upper=10)},
        ),
        {
            **in_full("alpha0", of_beta()),
            **in_full("alpha1", of_beta("x1")),
            **in_full("alpha12", of_beta("x1:x2")),
            **in_full("alpha2", of_beta("x2")),
            **in_full("sigma", of_sd("plate")),
        },
    ),
)

# tadpoles


def with_tanks(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(tank=range(len(rows)))


TADPOLES = (
    Analysis(
        "reedfrogs",
        "m13.1",
        "posterior mean (PyMC)",
        outside("rethinking_reedfrogs", prepare=with_tanks),
        each_its_own("surv / density ~ 1", "tank", Prior("Normal", mu=0, sigma=1.5)),
        {f"a[{tank}]": mean(of_coef("tank", tank)) for tank in (0, 1, 2, 8, 24, 40, 47)},
    ),
)

# batting averages

BATTERS = bundled("bball1970")
PLAYERS = tuple(hp.datasets.load("bball1970")["Player"])
PRINTED = {"Swaboda": "Swoboda"}  # a misspelling of the table
LOGIT = Prior("Normal", mu=-1, sigma=1)
PERCENT = (10, 50, 90)
one_average = family("Hits / AB ~ 1", "binomial", {"Intercept": LOGIT})
own_averages = each_its_own("Hits / AB ~ 1", "Player", LOGIT)
shrunk_averages = family(
    "Hits / AB ~ 1 + (1 | Player)",
    "binomial",
    {"Intercept": LOGIT, "Player": Prior("Exponential", lam=1)},
)


def average_of(player: str) -> Values:
    return lambda found: special.expit(of_coef("Player", player)(found))


def average_of_all(found: Posterior) -> np.ndarray:
    return special.expit(of_beta()(found))


def best_average(found: Posterior) -> np.ndarray:
    return np.max([average_of(player)(found) for player in PLAYERS], axis=0)


def at_least(values: Values, bound: float) -> Callable[[Posterior], float]:
    return lambda found: float(found.weights @ (values(found) >= bound))


def in_percent(prefix: str, values: Values) -> dict[str, Callable[[Posterior], float]]:
    return {f"{prefix}{p}%": quantile(values, p / 100) for p in PERCENT}


def of_every_player() -> dict[str, Callable[[Posterior], float]]:
    return {
        name: read
        for player in PLAYERS
        for name, read in in_percent(f"{PRINTED.get(player, player)} ", average_of(player)).items()
    }


@dataclass(frozen=True)
class ThreePoolings:
    """The three fits, and how they predict the rest of the season."""

    rows: pd.DataFrame
    complete: Posterior
    partial: Posterior
    none: Posterior

    @cached_property
    def log_densities(self) -> dict[str, np.ndarray]:
        """Of each player's rest of the season (columns), given each draw."""
        own = {name: self._own(getattr(self, name)) for name in ("partial", "none")}
        shared = average_of_all(self.complete)[:, None] * np.ones(len(PLAYERS))
        return {"complete": self._season(shared)} | {k: self._season(p) for k, p in own.items()}

    @cached_property
    def predictive(self) -> list[float]:
        """Log posterior predictive densities, summed over players, the best first."""
        every = self.log_densities.values()
        sums = [float((special.logsumexp(d, axis=0) - np.log(len(d))).sum()) for d in every]
        return sorted(sums, reverse=True)

    @cached_property
    def compared(self) -> pd.DataFrame:
        fits = {k: getattr(self, k).fit for k in ("complete", "partial", "none")}
        scores = {k: fit.loo().elpd_i.to_numpy() for k, fit in fits.items()}
        table = {k: scores[k] - scores["complete"] for k in scores}
        n = len(PLAYERS)
        return pd.DataFrame({k: [d.sum(), np.sqrt(n) * d.std(ddof=1)] for k, d in table.items()})

    def _own(self, found: Posterior) -> np.ndarray:
        return np.stack([average_of(player)(found) for player in PLAYERS], axis=1)

    def _season(self, averages: np.ndarray) -> np.ndarray:
        y, n = self.rows["RemainingHits"].to_numpy(), self.rows["RemainingAB"].to_numpy()
        return stats.binom.logpmf(y, n, averages)


def three_poolings(rows: pd.DataFrame) -> ThreePoolings:
    return ThreePoolings(rows, one_average(rows), shrunk_averages(rows), own_averages(rows))


ARTICLE = "cbind(Hits,AB-Hits) ~ "
BASEBALL = (
    Analysis(
        "baseball_pooling",
        f"{ARTICLE}1, logit, alpha~N(-1,1)",
        "rstanarm complete pooling",
        BATTERS,
        one_average,
        in_percent("", average_of_all),
        is_quick=False,
    ),
    Analysis(
        "baseball_pooling",
        f"{ARTICLE}0 + Player, each N(-1,1)",
        "rstanarm no pooling",
        BATTERS,
        own_averages,
        of_every_player(),
        is_quick=False,
    ),
    Analysis(
        "baseball_pooling",
        f"{ARTICLE}(1|Player), intercept N(-1,1), decov",
        "rstanarm partial pooling",
        BATTERS,
        shrunk_averages,
        of_every_player(),
        note="rstanarm's decov is Exponential(1) for the sd of one effect of a binomial response.",
        is_quick=False,
    ),
    Analysis(
        "baseball_pooling",
        "partial pooling",
        "Pr(theta>=.400|y), Pr(max theta>=.35|y), sd prior decov",
        BATTERS,
        shrunk_averages,
        {
            "Pr(any theta >= 0.350)": at_least(best_average, 0.35),
            "Pr(Clemente >= 0.400)": at_least(average_of("Clemente"), 0.4),
        },
        is_quick=False,
    ),
    Analysis(
        "baseball_pooling",
        "three models",
        "lpd of rest-of-season data, 1 = posterior mean of log p_new",
        BATTERS,
        three_poolings,
        {
            "complete pooling": lambda found: found.log_densities["complete"].sum(1).mean(),
            "partial pooling": lambda found: found.log_densities["partial"].sum(1).mean(),
            "no pooling": lambda found: found.log_densities["none"].sum(1).mean(),
        },
        is_quick=False,
    ),
    Analysis(
        "baseball_pooling",
        "three models",
        "log posterior predictive density of rest-of-season data",
        BATTERS,
        three_poolings,
        {
            "complete or partial (best of sorted list)": lambda found: found.predictive[0],
            "second": lambda found: found.predictive[1],
            "third (no pooling)": lambda found: found.predictive[2],
        },
        note="The article averages densities over draws for each player, then adds logarithms.",
        is_quick=False,
    ),
    Analysis(
        "baseball_pooling",
        "three models",
        "loo_compare",
        BATTERS,
        three_poolings,
        {
            "elpd_diff partial vs complete": lambda found: found.compared.loc[0, "partial"],
            "se_diff partial": lambda found: found.compared.loc[1, "partial"],
            "elpd_diff no pooling vs complete": lambda found: found.compared.loc[0, "none"],
            "se_diff no pooling": lambda found: found.compared.loc[1, "none"],
        },
        is_quick=False,
    ),
)

# roaches


def with_roots(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(
        sqrt_roach1=np.sqrt(rows["roach1"]), roach100=rows["roach1"] / 100, id=range(len(rows))
    )


ROACHES = outside("rstanarm_roaches", prepare=with_roots)
PRIORS = {
    "Intercept": Prior("Normal", mu=0, sigma=5),
    "beta": Prior("Normal", mu=0, sigma=2.5),
    "shape": Prior("Exponential", lam=1),
}
ROOT = "y ~ sqrt_roach1 + treatment + senior + offset(log(exposure2))"
LINEAR = "y ~ roach100 + treatment + senior + offset(log(exposure2))"
negbinomial = family(ROOT, "negbinomial", PRIORS)
in_hundreds = family(LINEAR, "negbinomial", PRIORS)
SCORES: dict[str, Callable[[Posterior], float]] = {
    "elpd_loo": lambda found: found.fit.loo().elpd,
    "se": lambda found: found.fit.loo().se,
    "p_loo": lambda found: found.fit.loo().p,
}
COUNTS = (
    Analysis("roaches", "same, negative binomial", "PSIS-LOO", ROACHES, negbinomial, SCORES),
    Analysis(
        "roaches",
        "negative binomial",
        "PSIS-LOO with k_threshold refit",
        ROACHES,
        in_hundreds,
        SCORES,
    ),
    Analysis(
        "roaches",
        "negative binomial",
        "rstanarm posterior median",
        ROACHES,
        in_hundreds,
        {
            "(Intercept)": median(of_beta()),
            "roach100": median(of_beta("roach100")),
            "treatment": median(of_beta("treatment")),
            "senior": median(of_beta("senior")),
            "reciprocal_dispersion": median(lambda found: found.draws("shape")),
        },
    ),
)

ANALYSES = (*CATTLE, *SEEDS, *TADPOLES, *BASEBALL, *COUNTS)
