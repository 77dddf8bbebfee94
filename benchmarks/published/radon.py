"""Radon in Minnesota, least squares and REML; the response has several codings, one a source."""

from __future__ import annotations

import pandas as pd

from .analyses import Analysis, bundled, outside
from .optima import (
    aic,
    beta,
    bic,
    blup,
    coef,
    deviance,
    icc,
    line_each,
    loglik,
    one_line,
    reml,
    se,
    sigma2,
    var,
)


def named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.rename(columns={"u": "log_uranium"})


ARM = outside("arm_radon", prepare=named)
RADON = bundled("radon")

ANALYSES = (
    Analysis(
        "radon_arm",
        "log radon ~ floor + (1|county)",
        "REML (nlme lme)",
        ARM,
        reml("y ~ floor + (1 | county)"),
        {"AIC": aic, "BIC": bic, "log restricted L": loglik},
    ),
    Analysis(
        "radon_tfp_hlm",
        "y ~ 1 + floor + (0 + log_uranium | county)",
        "REML (lmer)",
        ARM,
        reml("y ~ 1 + floor + (0 + log_uranium | county)"),
        {
            "REML criterion": deviance,
            "var county log_uranium": var("county", "log_uranium"),
            "var Residual": sigma2,
            "(Intercept)": beta(),
            "se (Intercept)": se(),
            "floor": beta("floor"),
            "se floor": se("floor"),
            **{f"BLUP county {k}": blup("county", k, "log_uranium") for k in range(1, 6)},
        },
    ),
    Analysis(
        "radon_rstanarm",
        "log_radon ~ floor + (1|county)",
        "REML (lmer)",
        RADON,
        reml("log_radon ~ floor + (1 | county)"),
        {
            "(Intercept)": beta(),
            "floor": beta("floor"),
            "sigma^2": sigma2,
            "tau00 county": var("county"),
            "ICC": icc,
        },
    ),
    Analysis(
        "radon_rstanarm",
        "log_radon ~ 1 complete pooling",
        "OLS",
        RADON,
        one_line("log_radon ~ 1"),
        {"mean": beta()},
    ),
    Analysis(
        "radon_rstanarm",
        "log_radon ~ -1 + county",
        "OLS no pooling",
        RADON,
        line_each("log_radon ~ 1", "county"),
        {name: coef("county", name) for name in ("AITKIN", "ANOKA", "BECKER")},
    ),
)
