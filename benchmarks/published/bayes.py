"""Posteriors of tutorials in Stan, rstanarm, brms, PyMC3 and BUGS, under their priors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

import hierpool as hp

from .analyses import Analysis, outside
from .growth import GPA
from .posteriors import (
    Posterior,
    drawn,
    mad_sd,
    mean,
    median,
    of_beta,
    of_coef,
    of_corr,
    of_sd,
    of_sigma,
    of_u,
    quantile,
    rstanarm,
    spread,
    squared,
    weighted,
)
from .radon import ARM
from .schools import GCSE
from .shrinkage import SCHOOLS
from .sleep import MAHR

Prior = hp.Prior
MU, TAU = of_beta(), of_sd("school")
SUBJECT, INTERCEPT, DAYS = "Subject", of_beta(), of_beta("Days")
FLAT = Prior("Flat")
WIDE = Prior("Uniform", lower=0, upper=100)


def theta(school: str):
    return of_coef("school", school)


MANY = 20_000  # tau has a long tail, and the fit costs nothing
cauchy_schools = drawn(
    "effect ~ 1 + (1 | school)",
    {"beta": Prior("Normal", mu=0, sigma=5), "school": Prior("HalfCauchy", beta=5)},
    MANY,
    known_se="se",
)


def uniform_schools(rows: pd.DataFrame) -> Posterior:
    """Both hyperparameters uniform from 0 to 30: flat, without the draws that are outside."""
    priors = {"beta": FLAT, "school": Prior("Uniform", lower=0, upper=30)}
    found = drawn("effect ~ 1 + (1 | school)", priors, MANY, known_se="se")(rows)
    mu = MU(found)
    return weighted(found, np.where((mu > 0) & (mu < 30), 0.0, -np.inf))


EIGHT_SCHOOLS = (
    Analysis(
        "eight_schools",
        "y~N(theta,sigma); theta~N(mu,tau); mu~N(0,5); tau~HalfCauchy(0,5)",
        "posterior mean",
        SCHOOLS,
        cauchy_schools,
        {
            **{f"theta[{k}]": mean(theta(school)) for k, school in enumerate("ABCDEFGH", 1)},
            "mu": mean(MU),
            "tau": mean(TAU),
        },
    ),
    Analysis(
        "eight_schools",
        "same priors as posteriordb",
        "Stan posterior mean",
        SCHOOLS,
        cauchy_schools,
        {
            "mu mean": mean(MU),
            "tau mean": mean(TAU),
            **{f"theta[{k}] mean": mean(theta("ABCDEFGH"[k - 1])) for k in (1, 3, 5, 7)},
        },
    ),
    Analysis(
        "eight_schools",
        "same priors as posteriordb",
        "Stan posterior sd",
        SCHOOLS,
        cauchy_schools,
        {
            "mu sd": spread(MU),
            "tau sd": spread(TAU),
            **{f"theta[{k}] sd": spread(theta("ABCDEFGH"[k - 1])) for k in (1, 3, 5, 7)},
        },
    ),
    Analysis(
        "eight_schools",
        "BDA flat-ish priors (mu flat, tau uniform-like)",
        "PyMC3 posterior mean",
        SCHOOLS,
        uniform_schools,
        {
            **{f"theta[{school}]": mean(theta(school)) for school in "ABCDEFGH"},
            "mu": mean(MU),
            "tau": mean(TAU),
        },
        note=(
            "The notebook has mu and tau uniform from 0 to 30. Flat mu, without the draws outside."
        ),
    ),
)


def probability_better(first: int, second: int):
    """Posterior probability that the first school has the larger coefficient."""

    def read(found: Posterior) -> float:
        better = of_coef("school", first)(found) > of_coef("school", second)(found)
        return float(found.weights @ better)

    return read


VARIANCE = squared(of_sd("school"))
SCHOOL_MEANS = (20920, 22520, 22710)

RSTANARM = (
    Analysis(
        "mahr_partial_pooling",
        "Reaction ~ Days + (Days|Subject)",
        "rstanarm stan_glmer, default/normal priors, posterior median",
        MAHR,
        rstanarm("Reaction ~ Days + (Days | Subject)"),
        {
            "(Intercept) median": median(INTERCEPT),
            "Days median": median(DAYS),
            "sigma median": median(of_sigma),
            "sd Subject (Intercept) (posterior mean-ish)": mean(of_sd(SUBJECT)),
            "sd Subject Days": mean(of_sd(SUBJECT, "Days")),
            "(Intercept) MAD_SD": mad_sd(INTERCEPT),
            "Days MAD_SD": mad_sd(DAYS),
        },
    ),
    Analysis(
        "gcsemv_tutorial",
        "course ~ 1 + (1|school)",
        "rstanarm stan_lmer default priors, posterior mean",
        GCSE,
        rstanarm("course ~ 1 + (1 | school)"),
        {
            "(Intercept)": mean(of_beta()),
            "sd (Intercept)": spread(of_beta()),
            "sigma": mean(of_sigma),
            "Sigma school var": mean(VARIANCE),
            "Sigma school var 2.5%": quantile(VARIANCE, 0.025),
            "Sigma school var 97.5%": quantile(VARIANCE, 0.975),
            **{
                f"school {school} posterior mean": mean(of_coef("school", school))
                for school in SCHOOL_MEANS
            },
            "Pr(school 60501 better than 68271)": probability_better(60501, 68271),
        },
    ),
    Analysis(
        "radon_tfp_hlm",
        "y ~ 1 + floor + (0 + log_uranium | county)",
        "rstanarm default priors, posterior median",
        ARM,
        rstanarm("y ~ 1 + floor + (0 + log_uranium | county)"),
        {
            "sd county log_uranium": median(of_sd("county", "log_uranium")),
            "sd Residual": median(of_sigma),
            "(Intercept)": median(of_beta()),
            "floor": median(of_beta("floor")),
        },
    ),
)


def with_county_columns(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Share of upper floors of each county, and its log uranium.

    Uranium is that of the other table: log_uppm of this one is larger by 0.06 to 0.22, with a
    smaller sd over counties.
    """
    out = rows.rename(columns={"county_idx": "county"})
    uranium = others.groupby("county")["u"].first()
    mean_floor = out.groupby("county")["floor"].transform("mean")
    return out.assign(log_u=out["county"].map(uranium), mean_floor=mean_floor)


STAN_RADON = outside("posteriordb_radon_mn", "arm_radon", prepare=with_county_columns)
RADON = (
    Analysis(
        "radon_stan_case_study",
        "y ~ floor + (1|county), flat/uniform sd priors",
        "Stan posterior mean",
        STAN_RADON,
        drawn("log_radon ~ floor + (1 | county)", {"beta": FLAT, "county": WIDE, "sigma": WIDE}),
        {"floor coefficient": mean(of_beta("floor"))},
    ),
    Analysis(
        "radon_stan_case_study",
        "y ~ log_u + floor + mean_floor + (1|county)",
        "Stan posterior mean",
        STAN_RADON,
        drawn(
            "log_radon ~ log_u + floor + mean_floor + (1 | county)",
            {"beta": FLAT, "county": WIDE, "sigma": WIDE},
        ),
        {
            "b log_uranium": mean(of_beta("log_u")),
            "b floor": mean(of_beta("floor")),
            "b county-mean floor": mean(of_beta("mean_floor")),
        },
        note=(
            "Log uranium of data/arm_radon.csv. With log_uppm of the other table, which has "
            "another scale, its coefficient is 0.785."
        ),
    ),
    Analysis(
        "radon_stan_case_study",
        "y ~ floor complete pooling",
        "Stan posterior mean",
        STAN_RADON,
        drawn("log_radon ~ floor", {"beta": FLAT, "sigma": WIDE}),
        {"alpha": mean(of_beta()), "beta": mean(of_beta("floor"))},
    ),
)


def brms_gpa(rows: pd.DataFrame) -> Posterior:
    """brms's priors; that of its intercept, at the mean of the predictors, by weights."""
    half_t = Prior("HalfStudentT", nu=3, sigma=2.5)
    priors = {
        "Intercept": FLAT,
        "occas": Prior("Normal", mu=0, sigma=1),
        "student": half_t,
        "sigma": half_t,
    }
    found = drawn("gpa ~ occas + (occas | student)", priors)(rows)
    centred = of_beta()(found) + rows["occas"].mean() * of_beta("occas")(found)
    return weighted(found, stats.t(3, 2.8, 2.5).logpdf(centred))


GRADES = (
    Analysis(
        "clark_gpa",
        "gpa ~ occas + (occas|student); b~N(0,1), Intercept~t3(2.8,2.5), sd,sigma~t3(0,2.5)+, "
        "LKJ(1)",
        "brms posterior mean",
        GPA,
        brms_gpa,
        {
            "(Intercept)": mean(of_beta()),
            "occas": mean(of_beta("occas")),
            "sd(Intercept)": mean(of_sd("student")),
            "sd(occas)": mean(of_sd("student", "occas")),
            "cor": mean(of_corr("student", "Intercept", "occas")),
            "sigma": mean(of_sigma),
        },
        note="brms's prior of the intercept holds at the mean of occas, and is put on by weights.",
    ),
    Analysis(
        "clark_gpa",
        "gpa ~ occas + (occas|student); priors as above",
        "brms posterior mean of random intercept",
        GPA,
        brms_gpa,
        {f"student {k}": mean(of_u("student", k)) for k in range(1, 11)},
    ),
)


def from_day_22(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(day=rows["age"] - 22.0)


def alpha0(found: Posterior) -> np.ndarray:
    """Expected weight of an average rat on day 0."""
    return of_beta()(found) - 22 * of_beta("day")(found)


def in_full(name: str, values) -> dict:
    """Mean, median, sd and the 95 % interval, as BUGS prints them."""
    return {
        f"{name} mean": mean(values),
        f"{name} median": median(values),
        f"{name} sd": spread(values),
        f"{name} 2.5%": quantile(values, 0.025),
        f"{name} 97.5%": quantile(values, 0.975),
    }


VAGUE = Prior("Gamma", alpha=0.001, beta=0.001, of="precision")
bugs_rats = drawn(
    "weight ~ day + (day || rat)",
    {"beta": Prior("Normal", mu=0, sigma=1000), "rat": VAGUE, "sigma": VAGUE},
)
BUGS = (
    Analysis(
        "bugs_rats",
        "y~N(a_i+b_i(x-22),s_c); a~N,b~N independent; vague gamma(0.001) precisions",
        "MultiBUGS posterior",
        outside("bugs_rats", prepare=from_day_22),
        bugs_rats,
        {
            **in_full("alpha0", alpha0),
            **in_full("beta.c", of_beta("day")),
            **in_full("sigma", of_sigma),
        },
    ),
    Analysis(
        "bugs_rats",
        "same",
        "Mamba.jl posterior mean",
        outside("bugs_rats", prepare=from_day_22),
        bugs_rats,
        {
            "s2_c": mean(squared(of_sigma)),
            "mu_beta": mean(of_beta("day")),
            "alpha0": mean(alpha0),
        },
    ),
)

ANALYSES = (*EIGHT_SCHOOLS, *RSTANARM, *RADON, *GRADES, *BUGS)
