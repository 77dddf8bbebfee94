"""Growth curves: adolescents' alcohol use (Singer and Willett 2003), grade points of students."""

from __future__ import annotations

import pandas as pd

import hierpool as hp

from .analyses import Analysis, outside
from .optima import (
    aic,
    beta,
    bic,
    blup,
    coef,
    corr,
    deviance,
    icc,
    ml,
    one_line,
    reml,
    sd,
    se,
    sigma,
    sigma2,
    var,
)


def years_from_14(rows: pd.DataFrame) -> pd.DataFrame:
    """Short names, age from 14, and the peers' use also from 1.018."""
    short = {"child_of_alcoholic": "coa", "peer_alcohol_use": "peer"}
    out = rows.rename(columns=short)
    return out.assign(year=out["age"] - 14, from_mean=out["peer"] - 1.018)


def students_by_number(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.astype({"student": int})


ALCOHOL = outside("alda_alcohol_use_1", prepare=years_from_14)
GPA = outside("hox_gpa2long", prepare=students_by_number)


def conditional_se_of_blups(fit: hp.LikelihoodFit) -> float:
    """Largest of lme4's conditional standard errors of the first five students."""
    return fit.random_effects(conditional=True)["se"].iloc[:5].max()


ALCOHOL_USE = (
    Analysis(
        "alda_alcohol",
        "Model A: alcohol_use ~ 1 + (1|id)",
        "ML",
        ALCOHOL,
        ml("alcohol_use ~ 1 + (1 | id)"),
        {
            "(Intercept)": beta(),
            "se": se(),
            "var id": var("id"),
            "var Residual": sigma2,
            "Deviance": deviance,
            "AIC": aic,
            "BIC": bic,
        },
    ),
    Analysis(
        "alda_alcohol",
        "Model B: alcohol_use ~ (age-14) + (age-14|id)",
        "ML",
        ALCOHOL,
        ml("alcohol_use ~ year + (year | id)"),
        {
            "(Intercept)": beta(),
            "age-14": beta("year"),
            "var id": var("id"),
            "var slope": var("id", "year"),
            "corr": corr("id", "Intercept", "year"),
            "var Residual": sigma2,
            "Deviance": deviance,
            "AIC": aic,
        },
    ),
    Analysis(
        "alda_alcohol",
        "Model C: alcohol_use ~ (age-14)*coa + (age-14|id)",
        "ML",
        ALCOHOL,
        ml("alcohol_use ~ year * coa + (year | id)"),
        {
            "(Intercept)": beta(),
            "age-14": beta("year"),
            "coa": beta("coa"),
            "age:coa": beta("year:coa"),
            "var id": var("id"),
            "Deviance": deviance,
        },
    ),
    Analysis(
        "alda_alcohol",
        "Model D: alcohol_use ~ (age-14)*(coa+peer) + (age-14|id)",
        "ML",
        ALCOHOL,
        ml("alcohol_use ~ year * (coa + peer) + (year | id)"),
        {
            "(Intercept)": beta(),
            "peer": beta("peer"),
            "coa": beta("coa"),
            "age-14": beta("year"),
            "var id": var("id"),
            "var slope": var("id", "year"),
            "Deviance": deviance,
        },
    ),
    Analysis(
        "alda_alcohol",
        "Model E: alcohol_use ~ (age-14)*peer + coa + (age-14|id)",
        "ML",
        ALCOHOL,
        ml("alcohol_use ~ year * peer + coa + (year | id)"),
        {
            "(Intercept)": beta(),
            "peer": beta("peer"),
            "coa": beta("coa"),
            "age:peer": beta("year:peer"),
            "Deviance": deviance,
            "AIC": aic,
        },
    ),
    Analysis(
        "alda_alcohol",
        "Model F: as E, peer centred at 1.018",
        "ML",
        ALCOHOL,
        ml("alcohol_use ~ year * from_mean + coa + (year | id)"),
        {"(Intercept)": beta(), "age-14": beta("year")},
    ),
)

GRADE_POINTS = (
    Analysis(
        "clark_gpa",
        "gpa ~ occas",
        "OLS complete pooling",
        GPA,
        one_line("gpa ~ occas"),
        {
            "(Intercept)": beta(),
            "occas": beta("occas"),
            "se (Intercept)": se(),
            "se occas": se("occas"),
            "residual sd": sigma,
        },
    ),
    Analysis(
        "clark_gpa",
        "gpa ~ occas + (1|student)",
        "REML",
        GPA,
        reml("gpa ~ occas + (1 | student)"),
        {
            "se (Intercept)": se(),
            "se occas": se("occas"),
            "sd student": sd("student"),
            "sd Residual": sigma,
            "ICC": icc,
        },
    ),
    Analysis(
        "clark_gpa",
        "gpa ~ occas + (1|student)",
        "REML BLUP",
        GPA,
        reml("gpa ~ occas + (1 | student)"),
        {
            **{f"BLUP student {k}": blup("student", k) for k in range(1, 6)},
            "conditional se of each BLUP (students 1-5)": conditional_se_of_blups,
        },
    ),
    Analysis(
        "clark_gpa",
        "gpa ~ occas + (1|student)",
        "REML coef",
        GPA,
        reml("gpa ~ occas + (1 | student)"),
        {f"student {k} intercept": coef("student", k) for k in range(1, 6)},
    ),
    Analysis(
        "clark_gpa",
        "gpa ~ occas + (occas|student)",
        "REML",
        GPA,
        reml("gpa ~ occas + (occas | student)"),
        {
            "REML criterion": deviance,
            "(Intercept)": beta(),
            "occas": beta("occas"),
            "se (Intercept)": se(),
            "se occas": se("occas"),
            "sd student (Intercept)": sd("student"),
            "sd student occas": sd("student", "occas"),
            "corr": corr("student", "Intercept", "occas"),
            "sd Residual": sigma,
        },
    ),
)

ANALYSES = (*ALCOHOL_USE, *GRADE_POINTS)
