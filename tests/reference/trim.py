"""Cuts the full reference fits down to the numbers that the tests compare.

    python -m tests.reference.trim ../shared/reference

writes ``lme4``, ``nlme``, ``lmerTest``, ``confint`` and ``rstanarm`` in ``tests/reference`` anew. The
README of this folder says where the full ones come from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DIGITS = {"loglik": 13, "number": 9, "variance": 7}
SEVERAL = ("Chem97", "InstEval", "Pastes", "Penicillin")
BUNDLED = ("Dyestuff2", "Dyestuff", "Exam", "Machines", "Orthodont", "Rail", "radon", "sleepstudy")


def has_one_factor(full: dict[str, Any]) -> bool:
    """Whether a full reference file is an lme4 fit with one grouping factor."""
    return "REML_tight" in full.get("fits", {}) and len(full["groups"]) == 1


def has_several_factors(full: dict[str, Any]) -> bool:
    """Whether a full reference file is an lme4 fit with several grouping factors."""
    return "REML_tight" in full.get("fits", {}) and len(full["groups"]) > 1


def trimmed_several(full: dict[str, Any], most: int = 100) -> dict[str, Any]:
    """The compared numbers of an lme4 reference file with several factors, some levels of each.

    lme4 calls nested factors from the inside out (``cask:batch``, ``a:A``), hierpool the other way.
    """
    return {
        **{key: full[key] for key in ("dataset", "formula", "lme4", "R")},
        **{
            method: {
                **_criterion(full["fits"][f"{method}_tight"]),
                "factors": {
                    _turned(name): _several(effects, full["fits"][f"{method}_tight"], name, most)
                    for name, effects in full["fits"][f"{method}_tight"]["ranef"].items()
                },
            }
            for method in ("REML", "ML")
        },
    }


def _turned(label: str) -> str:
    return ":".join(reversed(label.split(":")))


def _several(effects: dict[str, Any], fit: dict[str, Any], name: str, most: int) -> dict[str, Any]:
    block = fit["VarCorr"][name]
    variances = {
        key: _short(effects[key][:most], "variance")
        for key in ("condVar", "pev", "coef_se")
        if key in effects
    }
    return {
        "levels": [_turned(level) for level in effects["levels"][:most]],
        "sd": _short(block["sd"]),
        "blup": _short(effects["mode"][:most]),
        **variances,
    }


def _criterion(fit: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: _short(fit[key], "loglik") for key in ("logLik", "AIC", "BIC")},
        "sigma": _short(fit["sigma"]),
        "fixef": _short(list(fit["fixef"].values())),
        "se_fixef": _short(list(fit["se_fixef"].values())),
        "is_singular": fit["isSingular"],
    }


def trimmed(full: dict[str, Any]) -> dict[str, Any]:
    """The compared numbers of an lme4 reference file."""
    (effects,) = full["fits"]["REML_tight"]["ranef"].values()
    return {
        "dataset": full["dataset"],
        "formula": full["formula"],
        "lme4": full["lme4"],
        "R": full["R"],
        "group": next(iter(full["groups"])),
        "levels": effects["levels"],
        "X_head": full["X_head"]["rows"],
        "REML": _fit(full["fits"]["REML_tight"]),
        "ML": _fit(full["fits"]["ML_tight"]),
        **({"pooling": _pooling(full["pooling"])} if full.get("pooling") else {}),
    }


def _fit(fit: dict[str, Any]) -> dict[str, Any]:
    (effects,) = fit["ranef"].values()
    blocks = fit["VarCorr"].values()
    low = [
        block["cor"][i][j] for block in blocks for i in range(len(block["sd"])) for j in range(i)
    ]
    condvar = effects.get("condVar_joint", effects.get("condVar"))
    return {
        **_criterion(fit),
        "sd": _short([s for block in blocks for s in block["sd"]]),
        "corr": _short(low),
        "blup": _short(effects["mode"]),
        "condVar": _unique(condvar),
        "pev": _unique(effects["pev"]),
        "coef_se": _unique(effects["coef_se"]),
    }


def _pooling(pooling: dict[str, Any]) -> dict[str, Any]:
    complete, none = pooling["complete_pooling"], pooling["no_pooling"]
    common = pooling["own_intercepts_common_slopes"]
    return {
        "complete": {
            "coef": _short(list(complete["coef"].values())),
            "se": _short(list(complete["se"].values())),
            **{key: _short(complete[key]) for key in ("sigma", "df")},
            "logLik": _short(complete["logLik"], "loglik"),
        },
        "none": {
            **{key: _short(none[key]) for key in ("coef", "se")},
            "level_sigma": _short(none["sigma"]),
            **{key: _short(none[f"pooled_{key}"]) for key in ("sigma", "df")},
        },
        "own_intercepts": {
            "intercepts": _short(common["intercepts"]),
            "common": _short(common["common"]),
            **{key: _short(common[key]) for key in ("sigma", "df")},
        },
    }


def trimmed_stan(full: dict[str, Any]) -> dict[str, Any]:
    """The compared numbers of an rstanarm reference file."""
    params = full["params"]
    kept = [k for k, name in enumerate(params["names"]) if name != "log-posterior"]
    return {
        **{key: full[key] for key in ("dataset", "formula", "chains", "draws_per_chain", "seed")},
        "names": [params["names"][k] for k in kept],
        **{
            key: _short([params[key][k] for k in kept])
            for key in ("mean", "sd", "mcse_mean", "ess_bulk")
        },
        "elpd_loo": _short(full["loo"]["elpd_loo"]),
    }


def trimmed_tests(full: dict[str, Any]) -> dict[str, Any]:
    """The compared numbers of a file of lmerTest and pbkrtest."""
    tables = {
        name: {
            "coef": _short(full[name]["coef"]["table"]),
            "anova": {
                term: _short(row[2:])
                for term, row in zip(
                    full[name]["anova_type_III"]["rows"],
                    full[name]["anova_type_III"]["table"],
                    strict=True,
                )
            },
        }
        for name in ("Satterthwaite", "Kenward-Roger")
    }
    kept = {key: full[key] for key in ("dataset", "formula", "lmerTest", "pbkrtest")}
    return {**kept, **tables, "vcov_adjusted": _short(full["vcov_kenward_roger_adjusted"])}


def trimmed_intervals(full: dict[str, Any]) -> dict[str, Any]:
    """The compared numbers of a file of lme4's confint."""
    return {
        **{key: full[key] for key in ("dataset", "formula")},
        **{
            kind: dict(zip(full[kind]["rows"], _short(full[kind]["table"]), strict=True))
            for kind in ("profile", "wald")
        },
    }


def trimmed_nlme(full: dict[str, Any]) -> dict[str, Any]:
    """The compared numbers of nlme's ``gls`` or ``lme`` with a residual structure."""
    fits = full["fits"]
    return {
        "nlme": full["nlme"],
        "call": fits["REML"]["call"],
        **{
            method: {
                "logLik": _short(fits[method]["logLik"], "loglik"),
                "fixef": _short(list(fits[method]["fixef"].values())),
                "vcov": _short(fits[method]["vcov_fixef"]["matrix"]),
                "cov": _short(fits[method]["marginal_cov"]),
                "cov_of": fits[method]["marginal_cov_of"],
            }
            for method in ("REML", "ML")
        },
    }


def _unique(values: list[Any]) -> dict[str, Any]:
    """Values of levels, equal ones written once: ``unique`` and the position ``of`` each level."""
    short = [_short(v, "variance") for v in values]
    unique: list[Any] = []
    for value in short:
        if value not in unique:
            unique.append(value)
    return {"unique": unique, "of": [unique.index(value) for value in short]}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """Inverse of ``_unique``, as an array with one entry a level."""
    return np.array(packed["unique"], dtype=float)[packed["of"]]


def _short(value: Any, kind: str = "number") -> Any:
    if isinstance(value, dict):
        return {key: _short(v, kind) for key, v in value.items()}
    if isinstance(value, list):
        return [_short(v, kind) for v in value]
    return float(f"{value:.{DIGITS[kind]}g}") if isinstance(value, float) else value


def main(source: Path) -> None:
    """Write every trimmed file."""
    for path in sorted(source.glob("*__*.json")):
        full = json.loads(path.read_text())
        if path.name.startswith("stanlong__"):
            _write(HERE / "rstanarm" / path.name.removeprefix("stanlong__"), trimmed_stan(full))
        elif path.stem.startswith("nlme__") and path.stem.endswith(
            ("symm_homog", "gls_independent")
        ):
            continue  # no such models here
        elif path.name.startswith("nlme__"):
            _write(HERE / "nlme" / path.name.removeprefix("nlme__"), trimmed_nlme(full))
        elif path.name.startswith("ddf__"):
            _write(HERE / "lmerTest" / path.name.removeprefix("ddf__"), trimmed_tests(full))
        elif path.name.startswith("ci__"):
            _write(HERE / "confint" / path.name.removeprefix("ci__"), trimmed_intervals(full))
        elif full.get("dataset") in BUNDLED and has_one_factor(full):
            _write(HERE / "lme4" / path.name, trimmed(full))
        elif full.get("dataset") in (*BUNDLED, *SEVERAL) and has_several_factors(full):
            _write(HERE / "lme4_several" / path.name, trimmed_several(full))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in content.items())
    path.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
