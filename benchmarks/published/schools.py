"""Pupils in schools: Exam, GCSE course marks, High School and Beyond, and Hox's popularity."""

from __future__ import annotations

import pandas as pd

import hierpool as hp

from .analyses import Analysis, bundled, outside
from .optima import (
    aic,
    beta,
    bic,
    corr,
    cov,
    deviance,
    icc,
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


def with_course(rows: pd.DataFrame) -> pd.DataFrame:
    """Pupils with a course mark, and a column for girls."""
    known = rows.dropna(subset="course")
    return known.assign(female=(known["gender"] == "F").astype(float))


def with_school_columns(pupils: pd.DataFrame, schools: pd.DataFrame) -> pd.DataFrame:
    """Pupils with their school's columns, and their status less the mean of their school's pupils.

    MEANSES is not that mean: the two differ by 0.006.
    """
    out = pupils.drop(columns="MEANSES").merge(
        schools[["School", "Sector", "MEANSES"]], on="School"
    )
    out = out.rename(columns=str.lower)
    catholic = (out["sector"] == "Catholic").astype(float)
    mean = out.groupby("school")["ses"].transform("mean")
    return out.assign(cses=out["ses"] - mean, catholic=catholic)


EXAM = bundled("Exam")
GCSE = outside("mlmRev_Gcsemv", prepare=with_course)
HSB = outside("nlme_MathAchieve", "nlme_MathAchSchool", prepare=with_school_columns)
POPULAR = outside("hox_popular2")
FULL = "popular ~ sex + extrav * texp + (extrav | class)"
NEAR_SINGULAR = (
    "ML (near-singular; lme4 bobyqa stops at logL -2406.27, Nelder_Mead reaches -2405.64)"
)


def with_and_without_interaction(rows: pd.DataFrame) -> tuple[hp.LikelihoodFit, hp.LikelihoodFit]:
    smaller = "popular ~ sex + extrav + texp + (extrav | class)"
    return hp.Model(FULL, rows).ml(), hp.Model(smaller, rows).ml()


MARKS = (
    Analysis(
        "mlmrev_exam",
        "normexam ~ standLRT + sex + type + (1|school)",
        "REML",
        EXAM,
        reml("normexam ~ standLRT + sex + type + (1 | school)"),
        {"REML criterion": deviance, "sd school": sd("school"), "sd Residual": sigma},
    ),
    Analysis(
        "mlmrev_exam",
        "normexam ~ standLRT + sex + type + (standLRT|school)",
        "REML",
        EXAM,
        reml("normexam ~ standLRT + sex + type + (standLRT | school)"),
        {"REML criterion": deviance, "sd school intercept": sd("school"), "sd Residual": sigma},
    ),
    Analysis(
        "gcsemv_tutorial",
        "course ~ 1 + (1|school)",
        "ML",
        GCSE,
        ml("course ~ 1 + (1 | school)"),
        {
            "AIC": aic,
            "log L": loglik,
            "var school": var("school"),
            "var Residual": sigma2,
            "(Intercept)": beta(),
            "se": se(),
        },
    ),
    Analysis(
        "gcsemv_tutorial",
        "course ~ 1 + female + (1|school)",
        "ML",
        GCSE,
        ml("course ~ 1 + female + (1 | school)"),
        {
            "AIC": aic,
            "var school": var("school"),
            "var Residual": sigma2,
            "(Intercept)": beta(),
            "femaleF": beta("female"),
        },
    ),
    Analysis(
        "gcsemv_tutorial",
        "course ~ 1 + female + (1+female|school)",
        "ML",
        GCSE,
        ml("course ~ 1 + female + (1 + female | school)"),
        {
            "AIC": aic,
            "var school intercept": var("school"),
            "var school female": var("school", "female"),
            "corr": corr("school", "Intercept", "female"),
            "var Residual": sigma2,
            "(Intercept)": beta(),
            "femaleF": beta("female"),
        },
    ),
)

HIGH_SCHOOL = (
    Analysis(
        "hsb_raudenbush_bryk",
        "mathach ~ 1 + (1|school)",
        "REML",
        HSB,
        reml("mathach ~ 1 + (1 | school)"),
        {
            "sd school": sd("school"),
            "sd Residual": sigma,
            "AIC": aic,
            "deviance (REML criterion-1 as displayed by arm)": deviance,
        },
    ),
    Analysis(
        "hsb_raudenbush_bryk",
        "mathach ~ meanses + (1|school)",
        "REML",
        HSB,
        reml("mathach ~ meanses + (1 | school)"),
        {
            "(Intercept)": beta(),
            "meanses": beta("meanses"),
            "se (Intercept)": se(),
            "se meanses": se("meanses"),
            "sd school": sd("school"),
            "sd Residual": sigma,
        },
    ),
    Analysis(
        "hsb_raudenbush_bryk",
        "mathach ~ cses + (cses|school)",
        "REML",
        HSB,
        reml("mathach ~ cses + (cses | school)"),
        {
            "(Intercept)": beta(),
            "cses": beta("cses"),
            "se (Intercept)": se(),
            "se cses": se("cses"),
            "sd school intercept": sd("school"),
            "sd school cses": sd("school", "cses"),
            "corr": corr("school", "Intercept", "cses"),
            "sd Residual": sigma,
        },
        note=(
            "cses is SES less the mean of the pupils of the school; MEANSES is the column of "
            "the schools, which differs from that mean by 0.006."
        ),
    ),
    Analysis(
        "hsb_raudenbush_bryk",
        "mathach ~ meanses + sector + cses*(meanses+sector) + (cses|school)",
        "REML",
        HSB,
        reml("mathach ~ meanses + catholic + cses * (meanses + catholic) + (cses | school)"),
        {
            "(Intercept)": beta(),
            "meanses": beta("meanses"),
            "sector": beta("catholic"),
            "cses": beta("cses"),
            "meanses:cses": beta("cses:meanses"),
            "sector:cses": beta("cses:catholic"),
            "sd school intercept": sd("school"),
            "sd school cses": sd("school", "cses"),
            "corr": corr("school", "Intercept", "cses"),
            "sd Residual": sigma,
        },
    ),
)

POPULARITY = (
    Analysis(
        "hox_popularity",
        "popular ~ 1 + (1|class)",
        "REML",
        POPULAR,
        reml("popular ~ 1 + (1 | class)"),
        {
            "REML criterion": deviance,
            "(Intercept)": beta(),
            "se": se(),
            "var class": var("class"),
            "var Residual": sigma2,
            "ICC": icc,
            "AIC": aic,
            "BIC": bic,
        },
    ),
    Analysis(
        "hox_popularity",
        "popular ~ 1 + (1|class)",
        "ML",
        POPULAR,
        ml("popular ~ 1 + (1 | class)"),
        {
            "AIC": aic,
            "BIC": bic,
            "log L": loglik,
            "var class": var("class"),
            "var Residual": sigma2,
        },
    ),
    Analysis(
        "hox_popularity",
        "popular ~ sex + extrav + texp + (sex + extrav|class)",
        NEAR_SINGULAR,
        POPULAR,
        ml("popular ~ sex + extrav + texp + (sex + extrav | class)"),
        {
            "AIC": aic,
            "log L": loglik,
            "(Intercept)": beta(),
            "sex": beta("sex"),
            "extrav": beta("extrav"),
            "texp": beta("texp"),
            "se (Intercept)": se(),
            "se sex": se("sex"),
            "se extrav": se("extrav"),
            "se texp": se("texp"),
            "var class (Intercept)": var("class"),
            "var class extrav": var("class", "extrav"),
            "var Residual": sigma2,
        },
    ),
    Analysis(
        "hox_popularity",
        "popular ~ sex + extrav + texp + (extrav|class)",
        "REML",
        POPULAR,
        reml("popular ~ sex + extrav + texp + (extrav | class)"),
        {
            "AIC": aic,
            "BIC": bic,
            "log restricted L": loglik,
            "(Intercept)": beta(),
            "var class (Intercept)": var("class"),
            "var class extrav": var("class", "extrav"),
            "cov": cov("class", "Intercept", "extrav"),
            "var Residual": sigma2,
        },
    ),
    Analysis(
        "hox_popularity",
        "popular ~ sex + extrav + texp + (1|class)",
        "REML",
        POPULAR,
        reml("popular ~ sex + extrav + texp + (1 | class)"),
        {
            "AIC": aic,
            "log restricted L": loglik,
            "(Intercept)": beta(),
            "var class": var("class"),
            "var Residual": sigma2,
        },
    ),
    Analysis(
        "hox_popularity",
        "popular ~ sex + extrav*texp + (extrav|class)",
        "ML",
        POPULAR,
        with_and_without_interaction,
        {
            "(Intercept)": of(0, beta()),
            "sex": of(0, beta("sex")),
            "extrav": of(0, beta("extrav")),
            "texp": of(0, beta("texp")),
            "extrav:texp": of(0, beta("extrav:texp")),
            "AIC": of(0, aic),
            "BIC": of(0, bic),
            "log L": of(0, loglik),
            "var class (Intercept)": of(0, var("class")),
            "LRT chi2 (1 df) for extrav:texp": lambda fits: 2 * (fits[0].loglik - fits[1].loglik),
        },
    ),
    Analysis(
        "hox_popularity",
        "popular ~ sex + extrav*texp + (extrav|class)",
        "REML",
        POPULAR,
        reml(FULL),
        {
            "AIC": aic,
            "BIC": bic,
            "log restricted L": loglik,
            "var class (Intercept)": var("class"),
        },
    ),
)

ANALYSES = (*MARKS, *HIGH_SCHOOL, *POPULARITY)
