"""Analyses of PROC MIXED: SAS System for Mixed Models (1996), the manual, a listing."""

from __future__ import annotations

import numpy as np
import pandas as pd

import hierpool as hp

from .analyses import Analysis, outside
from .optima import (
    aic,
    beta,
    deviance,
    loglik,
    ml,
    of,
    reml,
    sd,
    se,
    sigma,
    sigma2,
    var,
)


def sas_metal(rows: pd.DataFrame) -> pd.DataFrame:
    """SAS sets the last category, nickel, to zero."""
    return rows.assign(Metal=pd.Categorical(rows["Metal"], ["n", "c", "i"]))


def category(*columns: str):
    return lambda rows: rows.assign(**{c: rows[c].astype(str).astype("category") for c in columns})


def with_start(rows: pd.DataFrame) -> tuple[hp.LikelihoodFit, hp.LikelihoodFit]:
    """The fit, and least squares, where PROC MIXED begins."""
    mixed = hp.Model("distance ~ Sex + (1 | Subject)", rows).reml()
    return mixed, hp.complete_pooling("distance ~ Sex", rows).reml()


def restricted_deviance(fit: hp.LikelihoodFit) -> float:
    """-2 log restricted likelihood of least squares, whose own log-likelihood is not restricted."""
    n, p = fit.design.X.shape
    _, log_det = np.linalg.slogdet(fit.design.X.T @ fit.design.X)
    return (n - p) * (np.log(2 * np.pi * sigma2(fit)) + 1) + log_det


def sas_aic(fit: hp.LikelihoodFit) -> float:
    """As SAS counts under REML: parameters of the covariance only, here two."""
    return -2 * fit.loglik + 2 * 2


def sas_bic(fit: hp.LikelihoodFit) -> float:
    """As SAS counts: subjects, not rows."""
    return -2 * fit.loglik + 2 * np.log(len(fit.random_effects()))


def anova(column: str):
    return lambda fit: fit.anova().loc["Sex", column]


BOND = outside("SAS_Bond", prepare=sas_metal)
MIN_IMPROVEMENT = outside("SAS_AvgDailyGain", prepare=category("Treatment"))
SPLIT_PLOT = outside("sas_splitplot_stroup", prepare=category("A", "B"))
DIVERS = outside("sas_descrtab2_orthodont_divers")

ANALYSES = (
    Analysis(
        "sas_bond",
        "pressure ~ Metal + (1|Ingot), contr.SAS",
        "REML",
        BOND,
        reml("pressure ~ Metal + (1 | Ingot)"),
        {
            "(Intercept)": beta(),
            "Metalc": beta("Metal[T.c]"),
            "Metali": beta("Metal[T.i]"),
            "se (Intercept)": se(),
            "sd Ingot": sd("Ingot"),
            "sd Residual": sigma,
            "var Ingot": var("Ingot"),
            "var Residual": sigma2,
            "log restricted L": loglik,
            "AIC": aic,
        },
    ),
    Analysis(
        "sas_bond",
        "pressure ~ Metal + (1|Ingot), contr.SAS",
        "ML",
        BOND,
        ml("pressure ~ Metal + (1 | Ingot)"),
        {"sd Ingot": sd("Ingot"), "sd Residual": sigma, "log L": loglik, "AIC": aic},
    ),
    Analysis(
        "sas_avgdailygain",
        "adg ~ InitWt + Treatment - 1 + (1|Block)",
        "ML",
        MIN_IMPROVEMENT,
        ml("adg ~ 0 + Treatment + InitWt + (1 | Block)"),
        {
            "InitWt": beta("InitWt"),
            **{f"Treatment{dose}": beta(f"Treatment[{dose}]") for dose in (0, 10, 20, 30)},
            "sd Block": sd("Block"),
            "sd Residual": sigma,
            "log L": loglik,
            "AIC": aic,
        },
    ),
    Analysis(
        "sas_avgdailygain",
        "adg ~ InitWt + Treatment + (1|Block)",
        "REML",
        MIN_IMPROVEMENT,
        reml("adg ~ InitWt + Treatment + (1 | Block)"),
        {"REML criterion": deviance, "sd Block": sd("Block"), "sd Residual": sigma},
    ),
    Analysis(
        "sas_doc_splitplot",
        "Y ~ A*B + (1|Block) + (1|A:Block)",
        "REML PROC MIXED",
        SPLIT_PLOT,
        reml("Y ~ A * B + (1 | Block) + (1 | A:Block)"),
        {"var Block": var("Block"), "var A*Block": var("A:Block"), "var Residual": sigma2},
    ),
    Analysis(
        "sas_real_output_descrtab2",
        "distance ~ Sex + (1|Subject)",
        "REML, SAS 9.4 PROC MIXED listing",
        DIVERS,
        with_start,
        {
            "-2 Res log L": of(0, deviance),
            "-2 Res log L at OLS start": of(1, restricted_deviance),
            "var Intercept": of(0, var("Subject")),
            "var Residual": of(0, sigma2),
            "AIC (SAS: 2 cov parms only)": of(0, sas_aic),
            "BIC (SAS: n subjects)": of(0, sas_bic),
            "F Sex": of(0, anova("F")),
            "p Sex (Satterthwaite, df 2,40)": of(0, anova("p")),
        },
        note=(
            "AIC counts two covariance parameters and BIC 43 subjects, as SAS does. The start "
            "is the restricted likelihood of least squares."
        ),
    ),
)
