"""Sleepstudy: the manuals of lme4 and MixedModels.jl, and Mahr's pictures of partial pooling."""

from __future__ import annotations

import pandas as pd

from .analyses import Analysis, bundled
from .optima import (
    aic,
    beta,
    blup,
    coef,
    corr,
    deviance,
    line_each,
    loglik,
    ml,
    one_line,
    reml,
    sd,
    se,
    sigma,
    sigma2,
    var,
)

SUBJECTS = (  # in order
    *("308", "309", "310", "330", "331", "332", "333", "334", "335"),
    *("337", "349", "350", "351", "352", "369", "370", "371", "372"),
)
TERMS = ("Intercept", "Days")
SLEEP = bundled("sleepstudy")
FORMULA = "Reaction ~ Days + (Days | Subject)"


def with_two_more(rows: pd.DataFrame) -> pd.DataFrame:
    """Mahr's three invented rows of two invented subjects added."""
    more = {"Reaction": [286.0, 288.0, 245.0], "Days": [0, 1, 0], "Subject": ["374", "374", "373"]}
    both = pd.concat([rows.astype({"Subject": str}), pd.DataFrame(more)], ignore_index=True)
    return both.astype({"Subject": "category"})


MAHR = bundled("sleepstudy", with_two_more)
MAHR_FORMULA = "Reaction ~ 1 + Days + (1 + Days | Subject)"

ANALYSES = (
    Analysis(
        "sleepstudy",
        "Reaction ~ Days + (Days|Subject)",
        "REML (lmer)",
        SLEEP,
        reml(FORMULA),
        {
            "REML criterion": deviance,
            "sd Subject (Intercept)": sd("Subject"),
            "sd Subject Days": sd("Subject", "Days"),
            "corr Intercept,Days": corr("Subject", "Intercept", "Days"),
            "sd Residual": sigma,
            "var Subject (Intercept)": var("Subject"),
            "var Subject Days": var("Subject", "Days"),
            "var Residual": sigma2,
            "fixef (Intercept)": beta(),
            "se (Intercept)": se(),
            "fixef Days": beta("Days"),
            "se Days": se("Days"),
        },
    ),
    Analysis(
        "sleepstudy",
        "Reaction ~ Days + (Days|Subject)",
        "REML BLUP",
        SLEEP,
        reml(FORMULA),
        {
            f"BLUP b{k} subject {subject}": blup("Subject", subject, term)
            for subject in SUBJECTS
            for k, term in enumerate(TERMS)
        },
    ),
    Analysis(
        "sleepstudy",
        "Reaction ~ Days + (Days|Subject)",
        "ML",
        SLEEP,
        ml(FORMULA),
        {
            "-2 log L": deviance,
            "log L": loglik,
            "fixef (Intercept)": beta(),
            "fixef Days": beta("Days"),
            "se (Intercept)": se(),
            "se Days": se("Days"),
            "sd Subject (Intercept)": sd("Subject"),
            "sd Subject Days": sd("Subject", "Days"),
        },
    ),
    Analysis(
        "sleepstudy",
        "Reaction ~ Days + (1|Subject) + (0+Days|Subject)",
        "ML",
        SLEEP,
        ml("Reaction ~ Days + (Days || Subject)"),
        {
            "-2 log L": deviance,
            "sd Subject (Intercept)": sd("Subject"),
            "sd Subject Days": sd("Subject", "Days"),
            "sd Residual": sigma,
            "se (Intercept)": se(),
            "se Days": se("Days"),
        },
    ),
    Analysis(
        "sleepstudy",
        "Reaction ~ Days + (0+Days|Subject)",
        "ML",
        SLEEP,
        ml("Reaction ~ Days + (0 + Days | Subject)"),
        {"-2 log L": deviance},
    ),
    Analysis(
        "sleepstudy",
        "Reaction ~ Days per subject",
        "OLS no pooling (lmList)",
        SLEEP,
        line_each("Reaction ~ Days", "Subject"),
        {
            f"{what} subject {subject}": coef("Subject", subject, term)
            for subject in ["308", "309", "310", "330", "331", "332", "335"]
            for what, term in (("intercept", "Intercept"), ("slope", "Days"))
        },
    ),
    Analysis(
        "mahr_partial_pooling",
        "Reaction ~ 1 + Days + (1+Days|Subject)",
        "REML (lmer, arm::display)",
        MAHR,
        reml(MAHR_FORMULA),
        {
            "fixef (Intercept)": beta(),
            "se (Intercept)": se(),
            "fixef Days": beta("Days"),
            "se Days": se("Days"),
            "sd Subject (Intercept)": sd("Subject"),
            "sd Subject Days": sd("Subject", "Days"),
            "corr": corr("Subject", "Intercept", "Days"),
            "sd Residual": sigma,
            "AIC (REML)": aic,
        },
    ),
    Analysis(
        "mahr_partial_pooling",
        "Reaction ~ 1 + Days + (1+Days|Subject)",
        "REML coef",
        MAHR,
        reml(MAHR_FORMULA),
        {
            f"partial-pooling {what} {subject}": coef("Subject", subject, term)
            for subject in SUBJECTS[:6]
            for what, term in (("intercept", "Intercept"), ("slope", "Days"))
        },
    ),
    Analysis(
        "mahr_partial_pooling",
        "Reaction ~ Days",
        "OLS complete pooling",
        MAHR,
        one_line("Reaction ~ Days"),
        {"intercept": beta(), "slope": beta("Days")},
    ),
)
