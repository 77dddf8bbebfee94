"""Residual structures of one model compared: likelihood, evidence, scores, and one recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from hierpool.checks.accuracy.loo import ScoredLOO
from hierpool.core.arguments import check_choice, check_seed
from hierpool.core.correlation import WORDS
from hierpool.core.design import Grouping
from hierpool.core.errors import (
    ArgumentError,
    DataError,
    HierpoolError,
    UnsupportedModelError,
    nearest,
)
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.printable import printable
from hierpool.core.progress import named_steps
from hierpool.core.spec import Spec
from hierpool.core.text import number
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import build_design
from hierpool.formula.parse import make_like, read_columns
from hierpool.formula.residual_terms import with_structure
from hierpool.model import Model
from hierpool.reml import likelihood_ratio as ratio
from hierpool.reml import nesting

INDEPENDENT = "independent"
STRUCTURES = (INDEPENDENT, "cs", "ar1", "toep", "us")
CLEARLY_WORSE, ERRORS = 4.0, 2.0  # elpd, and standard errors of a difference
REJECTED = 0.01  # p of a likelihood ratio test against a larger structure


@dataclass(frozen=True)
class ResidualLadder:
    """Residual structures of one model, compared.

    Attributes
    ----------
    table
        One row a structure: ``parameters`` of the covariance, ``neg2_loglik``, ``aic`` and ``bic``,
        ``log_evidence``, ``elpd`` of rows and of groups (``elpd_group``) with the difference from the
        best of these and its standard error, ``rejected_p`` of a likelihood ratio test against a
        larger structure that predicts no worse, and a note where one could not be fitted.
    recommended
        The structure that is recommended, as in the table.
    reason
        Why, in a sentence or two.
    factor
        The factor whose groups are independent.
    n_groups
        How many there are: n of BIC.
    method
        ``"ML"`` or ``"REML"``, of the likelihood.
    fits, optima
        Posterior, and fit by likelihood, of each structure.
    """

    table: pd.DataFrame
    recommended: str
    reason: str
    factor: str
    n_groups: int
    method: str
    fits: Mapping[str, PosteriorFit]
    optima: Mapping[str, LikelihoodFit]

    @property
    def model(self) -> Model:
        """The model with the structure that is recommended."""
        return Model.from_design(self.optima[self.recommended].design)

    def __str__(self) -> str:
        shown = self.table.drop(columns="note").dropna(how="all")
        notes = [f"{name}: {note}" for name, note in self.table["note"].items() if note]
        aic = "all parameters" if self.method == "ML" else "parameters of the covariance"
        foot = (
            f"-2 log likelihood by {self.method}; AIC counts {aic}, and n of BIC is "
            f"{counted(self.n_groups, self.factor)}, as in SAS. elpd_row: a row given all others, "
            f"earlier and later ones of its group too; elpd_group: all rows of a new one of the "
            f"{nouns(self.factor)}. log_evidence depends on the priors."
        )
        if shown["rejected_p"].notna().any():
            foot += (
                " rejected_p: a likelihood ratio test against a larger structure that predicts new "
                f"{nouns(self.factor)} no worse."
            )
        table = shown.to_string(float_format=number, na_rep="")
        return printable("\n".join([self.reason, "", table, "", foot, *notes]))

    __repr__ = __str__


def residual_ladder(
    model: Model,
    structures: Sequence[str] = STRUCTURES,
    *,
    over: str | None = None,
    data: Any = None,
    method: str = "ML",
    seed: int = 1,
    progress: bool = True,
) -> ResidualLadder:
    """Residual structures of a model compared by likelihood, evidence and prediction.

    The fixed and random effects are those of the model; a structure that data cannot tell from its
    random effects is noted and left out. Among the structures that do not predict new groups clearly
    worse than the best (by more than 4 and two standard errors), that with the fewest parameters of
    the covariance is recommended, unless a likelihood ratio test rejects it (p below 0.01) for a
    larger one that predicts no worse.

    Parameters
    ----------
    model
        Its own residual structure, if it has one, says ``over``.
    structures
        ``"independent"``, a word (``"ar1"``), a structure in full (``"ar1(week | pig, by=sex)"``), or
        an sd for each class (``"~ sex"``).
    over
        What words are over, ``"time | pig"``: the column of times and the groups.
    data
        The table, where structures need columns that the model does not.
    method
        ``"ML"`` or ``"REML"``: of the likelihood, AIC and BIC, as SAS prints them for either.
    seed
        Of the posteriors.
    progress
        Show a bar on anything over a second.

    Raises
    ------
    ArgumentError
        An unknown structure, or words without ``over``.
    UnsupportedModelError
        A response that is not Gaussian, or none of the structures can be fitted.

    References
    ----------
    SAS/STAT User's Guide, The MIXED Procedure (AIC, BIC).
    """
    check_choice("method", method, ("ML", "REML"))
    check_seed(seed)
    if model.design.family is not None or not model.design.residual.has_sigma:
        raise UnsupportedModelError(
            "residual structures are for Gaussian responses whose residual sd is estimated",
            "residual-and-known-se",
        )
    frame = model.design.frame if data is None else data
    over, base = over or _own_over(model.design.spec), _base(model.design.spec)
    specs = {name: _spec(base, name, over) for name in structures}
    fits, optima, notes = {}, {}, {}
    with named_steps(len(specs), progress) as begin:
        for name, spec in specs.items():
            begin(name)
            try:
                made = Model.from_design(build_design(spec, frame))
                optima[name] = made.ml() if method == "ML" else made.reml()
                fits[name] = made.fit(seed=seed, progress=False)
            except HierpoolError as error:
                if error.code == "unknown-column" and data is None:
                    raise DataError(
                        f"{error.message}. A model keeps its own columns only: give the table too, "
                        "data=...",
                        "unknown-column",
                    ) from None
                notes[name] = error.message.split(". ")[0]
                optima.pop(name, None)
    if not fits:
        raise UnsupportedModelError(
            f"none of the structures can be fitted: {next(iter(notes.values()))}",
            "no-structure",
        )
    grouping = _grouping(fits, over)
    return _compared(fits, optima, notes, list(specs), grouping, method)


def _own_over(spec: Spec) -> str:
    own = spec.residual.correlation
    return f"{own.time} | {own.factor}" if own is not None else ""


def _base(spec: Spec) -> Spec:
    """The spec with independent residuals of one sd; weights stay."""
    plain = replace(spec.residual, correlation=None, spread="")
    made = make_like(replace(spec, residual=plain), read_columns(spec.population), spec.groups)
    return replace(made, grouping=spec.grouping)


def _spec(base: Spec, name: str, over: str) -> Spec:
    text, _, spread = name.partition("~")
    text = text.strip().removesuffix("sigma").strip().rstrip(",").strip()
    sigma = f"~ {spread.strip()}" if spread else None
    if text in ("", INDEPENDENT):
        return with_structure(base, None, sigma)
    if "(" not in text:
        if text not in WORDS:
            raise ArgumentError(
                f"there is no structure {text!r}: {nearest(text, (INDEPENDENT, *WORDS))}",
                "unknown-residual-structure",
            )
        if not over:
            raise ArgumentError(
                f"{text!r} of what? Give the column of times and the groups, over='time | pig', or "
                f"write the structure in full, '{text}(time | pig)'",
                "no-over",
            )
        text = f"{text}({over})"
    return with_structure(base, text, sigma)


def _grouping(fits: Mapping[str, PosteriorFit], over: str) -> Grouping:
    """The groups that are left out: those of the residuals, else the first factor of the model."""
    designs = [fit.design for fit in fits.values()]
    named = next((d.residual_factor for d in designs if d.residual_factor), "")
    for design in designs:
        factor = named or next(iter(design.groupings), "")
        if factor in design.groupings:
            return design.groupings[factor]
    raise ArgumentError(
        "there are no groups to compare the structures by: give them, over='time | pig'", "no-over"
    )


def _compared(
    fits: Mapping[str, PosteriorFit],
    optima: Mapping[str, LikelihoodFit],
    notes: Mapping[str, str],
    names: Sequence[str],
    grouping: Grouping,
    method: str,
) -> ResidualLadder:
    rows = {name: fit.loo() for name, fit in fits.items() if fit.is_integrable}
    groups = {name: fit.loo(by=grouping) for name, fit in fits.items() if fit.is_integrable}
    best = max(groups, key=lambda name: float(groups[name].elpd))
    n = len(np.unique(grouping.codes))
    table = pd.DataFrame(
        [
            _row(fits.get(k), optima.get(k), rows.get(k), groups.get(k), groups[best], n, method)
            for k in names
        ],
        index=pd.Index(names, name="structure"),
    )
    table["note"] = [notes.get(name, _doubt(optima.get(name))) for name in names]
    table["rejected_p"] = [_rejected(name, optima, table, method) for name in names]
    chosen = _recommended(table)
    reason = _reason(table, chosen, best, nouns(grouping.factor))
    return ResidualLadder(table, chosen, reason, grouping.factor, n, method, fits, optima)


def _row(
    fit: PosteriorFit | None,
    optimum: LikelihoodFit | None,
    row: ScoredLOO | None,
    group: ScoredLOO | None,
    best: ScoredLOO,
    n_groups: int,
    method: str,
) -> dict[str, float]:
    out = dict.fromkeys(
        ("parameters", "neg2_loglik", "aic", "bic", "log_evidence", "elpd_row", "elpd_group")
    )
    numbers: dict[str, float] = dict.fromkeys(out, np.nan)
    numbers |= {"elpd_group_diff": np.nan, "dse": np.nan}
    if optimum is not None:
        e, p = optimum.estimate, len(optimum.estimate.beta)
        numbers["parameters"] = e.n_parameters - p
        d = e.n_parameters if method == "ML" else e.n_parameters - p
        off = -2 * _loglik(optimum, method)
        numbers["neg2_loglik"] = off
        numbers |= {"aic": off + 2 * d, "bic": off + np.log(n_groups) * d}
    if fit is not None and "log_marginal_likelihood" in fit.info:
        numbers["log_evidence"] = float(fit.info["log_marginal_likelihood"])
    if row is not None:
        numbers["elpd_row"] = float(row.elpd)
    if group is not None:
        each = group.elpd_i.to_numpy() - best.elpd_i.to_numpy()
        numbers["elpd_group"] = float(group.elpd)
        numbers["elpd_group_diff"] = float(each.sum())
        numbers["dse"] = float(np.sqrt(len(each)) * each.std(ddof=1))
    return numbers


def _loglik(optimum: LikelihoodFit, method: str) -> float:
    return ratio.loglik_by((optimum.design, optimum.estimate), "ML" if method == "ML" else "REML")


def _rejected(
    name: str, optima: Mapping[str, LikelihoodFit], table: pd.DataFrame, method: str
) -> float:
    """Smallest p of a test against a larger structure that predicts new groups no worse; NaN: none."""
    found = []
    for other in optima:
        better = table["elpd_group"][other] >= table["elpd_group"][name]
        if other == name or name not in optima or not better:
            continue
        try:
            more = nesting.step(optima[name].design, optima[other].design)
        except HierpoolError:  # not nested
            continue
        gain = 2 * (_loglik(optima[other], method) - _loglik(optima[name], method))
        found.append(float(special.chdtrc(more.df, max(gain, 0.0))))
    return min(found, default=np.nan)


def _doubt(optimum: LikelihoodFit | None) -> str:
    if optimum is None or optimum.status.word in ("converged", "good"):
        return ""
    return optimum.status.word


def _recommended(table: pd.DataFrame) -> str:
    """The fewest parameters among those not clearly worse for new groups; the better of equals."""
    scored = table.dropna(subset=["elpd_group"])
    worse = scored["elpd_group_diff"]
    clearly = (-worse > CLEARLY_WORSE) & (-worse > ERRORS * scored["dse"])
    left = scored[~clearly & ~(scored["rejected_p"] < REJECTED)]
    fewest = left[left["parameters"] == left["parameters"].min()]
    return str(fewest["elpd_group"].idxmax())


def _reason(table: pd.DataFrame, chosen: str, best: str, groups: str) -> str:
    if chosen == best:
        others = table["elpd_group_diff"].drop(best).dropna()
        fewer = table["parameters"][best] == table["parameters"].min()
        if not len(others):
            return f"We recommend {chosen}: it is the only structure that could be compared."
        beside = " and has the fewest parameters" if fewer else ""
        return f"We recommend {chosen}. It predicts new {groups} best{beside}."
    off, error = (number(float(table[c][chosen])) for c in ("elpd_group_diff", "dse"))
    few, many = (int(table["parameters"][name]) for name in (chosen, best))
    return (
        f"We recommend {chosen}. It predicts new {groups} about as well as {best} (difference {off}, "
        f"standard error {error}) with fewer parameters ({few} and {many})."
    )
