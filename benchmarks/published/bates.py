"""Small textbook tables of lme4 and MixedModels.jl, and of Pinheiro and Bates (2000)."""

from __future__ import annotations

import pandas as pd

import hierpool as hp

from .analyses import Analysis, bundled
from .optima import (
    aic,
    beta,
    bic,
    coef,
    corr,
    deviance,
    line_each,
    log_normal_bound,
    loglik,
    ml,
    of,
    reml,
    sd,
    se,
    sigma,
)


def sum_of_leverages(fit: hp.LikelihoodFit) -> float:
    """Trace of the matrix that takes the response to the fitted values, at the fit's theta.

    Times sigma^2 its diagonal is the prediction error variance of the rows' expected values.
    """
    return float((fit.predict()["se"] ** 2).sum()) / sigma(fit) ** 2


def both_machines(rows: pd.DataFrame) -> tuple[hp.LikelihoodFit, hp.LikelihoodFit]:
    """Workers only, and machines within workers."""
    formulas = ("score ~ Machine + (1 | Worker)", "score ~ Machine + (1 | Worker/Machine)")
    first, second = (hp.Model(formula, rows).reml() for formula in formulas)
    return first, second


LME4 = (
    Analysis(
        "dyestuff",
        "Yield ~ 1 + (1|Batch)",
        "ML",
        bundled("Dyestuff"),
        ml("Yield ~ 1 + (1 | Batch)"),
        {
            "-2 log L": deviance,
            "AIC": aic,
            "BIC": bic,
            "intercept": beta(),
            "sd Batch": sd("Batch"),
            "sd Residual": sigma,
            "se intercept": se(),
            "sum of leverages": sum_of_leverages,
        },
        note=(
            "The sum of leverages is that of squared standard errors of the fitted values, "
            "over sigma^2."
        ),
    ),
    Analysis(
        "dyestuff",
        "Yield ~ 1 + (1|Batch)",
        "REML",
        bundled("Dyestuff"),
        reml("Yield ~ 1 + (1 | Batch)"),
        {"REML criterion": deviance, "sd Batch": sd("Batch"), "sd Residual": sigma},
    ),
    Analysis(
        "dyestuff2",
        "Yield ~ 1 + (1|Batch)",
        "ML",
        bundled("Dyestuff2"),
        ml("Yield ~ 1 + (1 | Batch)"),
        {
            "-2 log L": deviance,
            "sd Batch (singular)": sd("Batch"),
            "sd Residual": sigma,
            "se intercept": se(),
            "intercept": beta(),
        },
    ),
    Analysis(
        "dyestuff2",
        "Yield ~ 1 + (1|Batch)",
        "REML",
        bundled("Dyestuff2"),
        reml("Yield ~ 1 + (1 | Batch)"),
        {"REML criterion": deviance, "sd Batch (singular)": sd("Batch"), "sd Residual": sigma},
    ),
    Analysis(
        "penicillin",
        "diameter ~ 1 + (1|plate) + (1|sample)",
        "ML",
        bundled("Penicillin"),
        ml("diameter ~ 1 + (1 | plate) + (1 | sample)"),
        {
            "-2 log L": deviance,
            "intercept": beta(),
            "se intercept": se(),
            "sd plate": sd("plate"),
            "sd sample": sd("sample"),
            "sd Residual": sigma,
        },
    ),
    Analysis(
        "pastes",
        "strength ~ 1 + (1|batch/cask)",
        "ML",
        bundled("Pastes"),
        ml("strength ~ 1 + (1 | batch/cask)"),
        {
            "-2 log L": deviance,
            "intercept": beta(),
            "se intercept": se(),
            "sd cask:batch": sd("batch:cask"),
            "sd batch": sd("batch"),
            "sd Residual": sigma,
        },
    ),
)

RAIL, MACHINES = bundled("Rail"), bundled("Machines")
AGES = "I(age - 11)"

PINHEIRO_BATES = (
    Analysis(
        "pb_rail",
        "travel ~ 1 + (1|Rail)",
        "REML",
        RAIL,
        lambda rows: (
            reml("travel ~ 1 + (1 | Rail)")(rows),
            line_each("travel ~ 1", "Rail")(rows),
        ),
        {
            "intercept": of(0, beta()),
            "se": of(0, se()),
            "sd Rail": of(0, sd("Rail")),
            "sd Residual": of(0, sigma),
            "log restricted L": of(0, loglik),
            "AIC": of(0, aic),
            "no-pooling mean Rail 2": of(1, coef("Rail", "2")),
            "no-pooling mean Rail 4": of(1, coef("Rail", "4")),
            "95% CI sd Rail lower": of(0, log_normal_bound("Rail", -1)),
            "95% CI sd Rail upper": of(0, log_normal_bound("Rail", 1)),
        },
        note=(
            "The interval takes log sd for normal, with the standard error of the observed "
            "information."
        ),
    ),
    Analysis(
        "pb_rail",
        "travel ~ 1 + (1|Rail)",
        "ML",
        RAIL,
        ml("travel ~ 1 + (1 | Rail)"),
        {"sd Rail": sd("Rail"), "se": se(), "log L": loglik, "AIC": aic},
    ),
    Analysis(
        "pb_machines",
        "score ~ Machine + (1|Worker)",
        "REML",
        MACHINES,
        reml("score ~ Machine + (1 | Worker)"),
        {"log restricted L": loglik, "sd Worker": sd("Worker"), "sd Residual": sigma, "AIC": aic},
    ),
    Analysis(
        "pb_machines",
        "score ~ Machine + (1|Worker/Machine)",
        "REML",
        MACHINES,
        both_machines,
        {
            "log restricted L": of(1, loglik),
            "sd Worker": of(1, sd("Worker")),
            "sd Machine in Worker": of(1, sd("Worker:Machine")),
            "sd Residual": of(1, sigma),
            "(Intercept)": of(1, beta()),
            "MachineB": of(1, beta("Machine[T.B]")),
            "MachineC": of(1, beta("Machine[T.C]")),
            "AIC": of(1, aic),
            "LRT vs model 1": lambda fits: 2 * (fits[1].loglik - fits[0].loglik),
        },
    ),
    Analysis(
        "pb_machines",
        "score ~ Machine + (Machine-1|Worker)",
        "REML",
        MACHINES,
        reml("score ~ Machine + (0 + Machine | Worker)"),
        {
            "log restricted L": loglik,
            "sd MachineA": sd("Worker", "Machine[A]"),
            "sd MachineB": sd("Worker", "Machine[B]"),
            "sd MachineC": sd("Worker", "Machine[C]"),
            "corr A,B": corr("Worker", "Machine[A]", "Machine[B]"),
            "corr A,C": corr("Worker", "Machine[A]", "Machine[C]"),
            "AIC": aic,
        },
    ),
    Analysis(
        "pb_orthodont",
        "distance ~ I(age-11) + (I(age-11)|Subject)",
        "REML",
        bundled("Orthodont"),
        reml("distance ~ I(age - 11) + (I(age - 11) | Subject)"),
        {
            "(Intercept)": beta(),
            "I(age - 11)": beta(AGES),
            "sd (Intercept)": sd("Subject"),
            "sd slope": sd("Subject", AGES),
            "corr": corr("Subject", "Intercept", AGES),
            "sd Residual": sigma,
            "log restricted L": loglik,
        },
    ),
)

ANALYSES = (*LME4, *PINHEIRO_BATES)
