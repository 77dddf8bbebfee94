"""Readers of a REML, ML or least-squares fit, and the fits that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

import hierpool as hp

Fit = Callable[[pd.DataFrame], hp.LikelihoodFit]
Reader = Callable[[hp.LikelihoodFit], float]


def reml(formula: str) -> Fit:
    return lambda rows: hp.Model(formula, rows).reml()


def ml(formula: str) -> Fit:
    return lambda rows: hp.Model(formula, rows).ml()


def one_line(formula: str) -> Fit:
    return lambda rows: hp.complete_pooling(formula, rows).reml()


def line_each(formula: str, group: str) -> Fit:
    return lambda rows: hp.no_pooling(formula, rows, group=group).reml()


def of(k: int, read: Reader) -> Callable[[Sequence[hp.LikelihoodFit]], float]:
    """The same of one of several fits."""
    return lambda fits: read(fits[k])


def loglik(fit: hp.LikelihoodFit) -> float:
    return fit.loglik


def deviance(fit: hp.LikelihoodFit) -> float:
    return -2 * fit.loglik


def aic(fit: hp.LikelihoodFit) -> float:
    return fit.aic


def bic(fit: hp.LikelihoodFit) -> float:
    return fit.bic


def beta(term: str = "Intercept") -> Reader:
    return lambda fit: fit.fixed_effects(df="normal").loc[term, "estimate"]


def se(term: str = "Intercept") -> Reader:
    return lambda fit: fit.fixed_effects(df="normal").loc[term, "se"]


def sd(factor: str, term: str = "Intercept") -> Reader:
    return lambda fit: fit.variance_components().loc[(factor, "sd", term, ""), "estimate"]


def var(factor: str, term: str = "Intercept") -> Reader:
    return lambda fit: sd(factor, term)(fit) ** 2


def corr(factor: str, term: str, other: str) -> Reader:
    return lambda fit: fit.variance_components().loc[(factor, "corr", term, other), "estimate"]


def cov(factor: str, term: str, other: str) -> Reader:
    return lambda fit: (
        sd(factor, term)(fit) * sd(factor, other)(fit) * corr(factor, term, other)(fit)
    )


def sigma(fit: hp.LikelihoodFit) -> float:
    return sd("residual", "")(fit)


def sigma2(fit: hp.LikelihoodFit) -> float:
    return sigma(fit) ** 2


def icc(fit: hp.LikelihoodFit) -> float:
    return fit.icc()["icc"].iloc[0]


def blup(factor: str, level: str | int, term: str = "Intercept") -> Reader:
    return lambda fit: fit.random_effects().loc[(factor, level, term), "estimate"]


def coef(factor: str, level: str | int, term: str = "Intercept") -> Reader:
    return lambda fit: fit.coefficients().loc[(factor, level, term), "estimate"]


def log_normal_bound(factor: str, side: int) -> Reader:
    """Bound of the interval of an sd that takes its logarithm for normal, as nlme makes it.

    Pinheiro, Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.3.
    """

    def read(fit: hp.LikelihoodFit) -> float:
        row = fit.variance_components().loc[(factor, "sd", "Intercept", "")]
        return row["estimate"] * np.exp(side * 1.959963985 * row["se"] / row["estimate"])

    return read
