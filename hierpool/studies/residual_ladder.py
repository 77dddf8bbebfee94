"""Residual structures of one model compared: likelihood, evidence, scores, and one recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.checks.accuracy.loo import ScoredLOO
from hierpool.core.arguments import check_choice, check_seed
from hierpool.core.correlation import WORDS
from hierpool.core.design import Grouping
from hierpool.core.errors import (
    ArgumentError,
    DataError,
    HierpoolError,
    UnsupportedModelError,
    listed,
    nearest,
)
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.printable import printable
from hierpool.core.progress import named_steps
from hierpool.core.spec import Spec
from hierpool.core.text import capital, joined, number
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import build_design, read_frame
from hierpool.formula.parse import make_like, read_columns, split_factor
from hierpool.formula.residual_terms import with_structure
from hierpool.model import Model
from hierpool.reml import likelihood_ratio as ratio
from hierpool.reml import nesting

INDEPENDENT = "independent"
STRUCTURES = (INDEPENDENT, "cs", "ar1", "toep", "us")
_COLUMNS = (
    "parameters", "neg2_loglik", "aic", "aicc", "bic", "log_evidence", "elpd_row", "elpd_group",
    "elpd_group_diff", "dse",
)  # fmt: skip
CLEARLY_WORSE, ERRORS = 4.0, 2.0  # elpd, and standard errors of a difference
REJECTED = 0.01  # p of a likelihood ratio test against a larger structure


@dataclass(frozen=True)
class ResidualLadder:
    """Residual structures of one model, compared.

    Attributes
    ----------
    table
        One row a structure: ``parameters`` of the covariance, ``neg2_loglik``, ``aic``, ``aicc`` and
        ``bic``, ``log_evidence``, ``elpd`` of rows and of groups (``elpd_group``) with the difference
        from the best of these and its standard error, ``rejected_p`` of a likelihood ratio test against a
        larger structure that predicts no worse, and a note where one could not be fitted.
    recommended
        The structure that is recommended, as in the table.
    factor
        The factor whose groups are independent.
    n_groups
        How many there are: n of BIC.
    method
        ``"ML"`` or ``"REML"``, of the likelihood.
    fits, optima
        Posterior, and fit by likelihood, of each structure.
    dropped
        Which rows were left out, as a structure needs what they lack.
    """

    table: pd.DataFrame
    recommended: str
    factor: str
    n_groups: int
    method: str
    fits: Mapping[str, PosteriorFit]
    optima: Mapping[str, LikelihoodFit]
    dropped: str = ""

    @property
    def reason(self) -> str:
        """What is recommended and why."""
        return f"We recommend {self.recommended}. {self.because()}"

    def because(self, named: Mapping[str, str] | None = None) -> str:
        """Why it is recommended, in a sentence or two; ``named`` has other names of the structures."""
        table = self.table.rename(index=dict(named or {}))
        chosen, simple = ((named or {}).get(k, k) for k in (self.recommended, INDEPENDENT))
        because = _because(table, chosen, nouns(self.factor))
        return because if chosen == simple else because + _says_worse(table, simple)

    @property
    def model(self) -> Model:
        """The model with the structure that is recommended."""
        return Model.from_design(self.fits[self.recommended].design)

    @property
    def shown(self) -> pd.DataFrame:
        """The structures that could be fitted, less columns without an entry."""
        table = self.table.drop(columns="note").dropna(how="all")
        return table if table["rejected_p"].notna().any() else table.drop(columns="rejected_p")

    @property
    def notes(self) -> list[str]:
        """What is to be said of single structures."""
        said = [f"{name}: {note}." for name, note in self.table["note"].items() if note]
        return [*([self.dropped] if self.dropped else []), *said]

    @property
    def foot(self) -> str:
        """What the columns of the table are."""
        aic = "all parameters" if self.method == "ML" else "parameters of the covariance"
        said = (
            f"-2 log likelihood by {self.method}; AIC and AICC count {aic}, and n of BIC is "
            f"{counted(self.n_groups, self.factor)}, as in SAS. elpd_row: a row given all others, "
            f"earlier and later ones of its group too; elpd_group: all rows of a new one of the "
            f"{nouns(self.factor)}. log_evidence depends on the priors."
        )
        if "rejected_p" in self.shown:
            said += (
                " rejected_p: a likelihood ratio test against a larger structure that predicts new "
                f"{nouns(self.factor)} no worse."
            )
        return said

    def __str__(self) -> str:
        table = self.shown.to_string(float_format=number, na_rep="")
        return printable("\n".join([self.reason, "", table, "", self.foot, *self.notes]))

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
        what residual sds depend on: ``"~ sex"``, ``"~ log(week)"``, ``"~ week + (1 | pig)"``.
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

    Notes
    -----
    Groups that differ in their residual sd at random have no REML: with ``method="REML"`` such a
    structure is noted and left out.

    References
    ----------
    SAS/STAT User's Guide, The MIXED Procedure (AIC, BIC).
    """
    check_choice("method", method, ("ML", "REML"))
    check_seed(seed)
    check_takes_structures(model.design.spec)
    frame = model.design.frame if data is None else data
    if isinstance(structures, str) or not structures:
        raise ArgumentError(
            f"structures={structures!r}: a list of names is needed, e.g. ['independent', 'cs', 'ar1']",
            "unknown-residual-structure",
        )
    over, base = over or _own_over(model.design.spec), plain(model.design.spec)
    specs = {name: [structured(base, name, over)] for name in structures}
    try:
        made = fitted_structures(
            specs, frame, over, method, lambda m: m.fit(seed=seed, progress=False), progress
        )
    except DataError as error:
        if error.code != "unknown-column" or data is not None:
            raise
        raise DataError(
            f"{error.message}. A model keeps its own columns only: give the table too, data=...",
            "unknown-column",
        ) from None
    return made.compared()


def check_takes_structures(spec: Spec) -> None:
    """Stop where residual structures make no sense.

    Raises
    ------
    UnsupportedModelError
        A response that is not Gaussian, or whose residual sds are known.
    """
    if spec.family is not None or not spec.residual.has_sigma:
        raise UnsupportedModelError(
            "residual structures are for Gaussian responses whose residual sd is estimated",
            "residual-and-known-se",
        )


@dataclass
class StructureFits:
    """Structures fitted to one table; each is scored once.

    Attributes
    ----------
    over
        What words are over.
    method
        ``"ML"`` or ``"REML"``.
    fits, optima, notes
        By name.
    names
        Those that were asked for, also where they could not be fitted.
    dropped
        Which rows were left out.
    """

    over: str
    method: str
    names: list[str]
    dropped: str = ""
    fits: dict[str, PosteriorFit] = field(default_factory=dict)
    optima: dict[str, LikelihoodFit] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    _by_row: dict[str, ScoredLOO] = field(default_factory=dict)
    _by_group: dict[str, ScoredLOO] = field(default_factory=dict)

    def add(
        self, name: str, fit: PosteriorFit, optimum: LikelihoodFit | None, note: str = ""
    ) -> None:
        """One more model; without an optimum where there is none."""
        self.fits[name] = fit
        if optimum is None:
            self.notes[name] = note or "no maximum likelihood beside several factors"
        else:
            self.optima[name], self.notes[name] = optimum, note or _doubt(optimum)
        if name not in self.names:
            self.names.append(name)

    def compared(self, among: Sequence[str] | None = None, preferred: str = "") -> ResidualLadder:
        """The comparison; one of ``among`` is recommended, of equal ones the preferred."""
        grouping = _grouping(self.fits, self.over)
        for name, fit in self.fits.items():
            if fit.is_integrable and name not in self._by_row:
                self._by_row[name], self._by_group[name] = fit.loo(), fit.loo(by=grouping)
        n = len(np.unique(grouping.codes))
        best = max(self._by_group, key=lambda name: float(self._by_group[name].elpd))
        table = pd.DataFrame(
            [self._row(name, n, self._by_group[best]) for name in self.names],
            index=pd.Index(self.names, name="structure"),
        )
        table["note"] = [self.notes.get(name, "") for name in self.names]
        table["rejected_p"] = [
            _rejected(name, self.optima, table, self.method) for name in self.names
        ]
        chosen = _recommended(table, among, preferred)
        known = self.method, self.fits, self.optima, self.dropped
        return ResidualLadder(table, chosen, grouping.factor, n, *known)

    def _row(self, name: str, n_groups: int, best: ScoredLOO) -> dict[str, float]:
        out: dict[str, float] = dict.fromkeys(_COLUMNS, np.nan)
        if name in self.optima:
            out |= _likelihood(self.optima[name], self.method, n_groups)
        elif name in self.fits:
            out["parameters"] = n_of_covariance(self.fits[name].priors)
        if name in self.fits and "log_marginal_likelihood" in self.fits[name].info:
            out["log_evidence"] = float(self.fits[name].info["log_marginal_likelihood"])
        if name in self._by_row:
            group = self._by_group[name]
            each = group.elpd_i.to_numpy() - best.elpd_i.to_numpy()
            out["elpd_row"], out["elpd_group"] = float(self._by_row[name].elpd), float(group.elpd)
            out["elpd_group_diff"] = float(each.sum())
            out["dse"] = float(np.sqrt(len(each)) * each.std(ddof=1))
        return out


def fitted_structures(
    specs: Mapping[str, Sequence[Spec]],
    frame: Any,
    over: str,
    method: str,
    fitting: Callable[[Model], PosteriorFit],
    progress: bool,
) -> StructureFits:
    """Structures fitted to one table.

    ``specs`` has for each name what is tried: a second one where data cannot tell the structure of
    the first from its random effects.
    """
    frame, dropped = _complete(specs, frame)
    made = StructureFits(over, method, list(specs), dropped)
    with named_steps(len(specs), progress) as begin:
        for name, several in specs.items():
            begin(name)
            try:
                model, note = first_possible(several, frame)
                optimum = None
                if not model.design.samples_scales:
                    optimum = model.ml() if method == "ML" else model.reml()
                made.add(name, fitting(model), optimum, note)
            except HierpoolError as error:
                if error.code == "unknown-column":
                    raise
                made.notes[name] = error.message.split(". ")[0]
    if not made.fits:
        raise UnsupportedModelError(
            f"none of the structures can be fitted: {next(iter(made.notes.values()))}",
            "no-structure",
        )
    return made


def _complete(specs: Mapping[str, Sequence[Spec]], data: Any) -> tuple[pd.DataFrame, str]:
    """The rows that all structures can use, and what is said of the others."""
    terms = [spec.residual for several in specs.values() for spec in several]
    named = [c for t in terms for c in t.columns]
    named += [c for t in terms if t.correlation for c in split_factor(t.correlation.factor)]
    frame = read_frame(data)
    columns = [c for c in dict.fromkeys(named) if c in frame]
    missing = frame[columns].isna().any(axis=1)
    if not missing.any():
        return frame, ""
    kept = frame[~missing]
    kept.attrs.update(frame.attrs)
    return kept, f"{missing.sum()} rows without {listed(columns)} are left out of all structures."


def first_possible(several: Sequence[Spec], frame: Any) -> tuple[Model, str]:
    """The first model that data can tell, and what was given up for it."""
    first, *others = several
    try:
        return Model.from_design(build_design(first, frame)), ""
    except DataError as error:
        if error.code != "cs-beside-intercept" or not others:
            raise
    replaced = " + ".join(map(str, first.groups))
    return Model.from_design(build_design(others[0], frame)), f"in place of {replaced}"


def _own_over(spec: Spec) -> str:
    own = spec.residual.correlation
    return f"{own.time} | {own.factor}" if own is not None else ""


def plain(spec: Spec) -> Spec:
    """The spec with independent residuals of one sd; weights stay."""
    independent = replace(spec.residual, correlation=None, spread="", scale="")
    made = make_like(
        replace(spec, residual=independent), read_columns(spec.without_bars), spec.groups
    )
    return replace(made, grouping=spec.grouping)


def correlation_and_spread(name: str) -> tuple[str, str]:
    """``"cs, sigma ~ sex"`` as ``"cs"`` and ``"sex"``."""
    text, _, spread = name.partition("~")
    return text.strip().removesuffix("sigma").strip().rstrip(",").strip(), spread.strip()


def structured(base: Spec, name: str, over: str) -> Spec:
    """The spec with a structure by its word, in full, or with an sd for each class: ``"~ sex"``."""
    text, spread = correlation_and_spread(name)
    sigma = f"~ {spread}" if spread else None
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
    """The groups that are left out: those of the residuals, else the first factor of the model.

    Where groups with residual sds of their own stand beside others, they are the ones: of those that
    have several of them none can be left out.
    """
    designs = [fit.design for fit in fits.values()]
    named = next((d.residual_factor for d in designs if d.residual_factor), "")
    named = named or next((d.scale_factor for d in designs if d.samples_scales), "")
    for design in designs:
        factor = named or next(iter(design.groupings), "")
        if factor in design.groupings:
            return design.groupings[factor]
    raise ArgumentError(
        "there are no groups to compare the structures by: give them, over='time | pig'", "no-over"
    )


def _likelihood(optimum: LikelihoodFit, method: str, n_groups: int) -> dict[str, float]:
    """Parameters of the covariance, -2 log likelihood and criteria, as PROC MIXED prints them."""
    e, p = optimum.estimate, len(optimum.estimate.beta)
    d = e.n_parameters if method == "ML" else e.n_parameters - p
    n = max(optimum.design.n - (0 if method == "ML" else p), d + 2)
    off = -2 * _loglik(optimum, method)
    return {
        "parameters": e.n_parameters - p,
        "neg2_loglik": off,
        "aic": off + 2 * d,
        "aicc": off + 2 * d * n / (n - d - 1),
        "bic": off + np.log(n_groups) * d,
    }


def n_of_covariance(priors: ModelPriors) -> int:
    """Parameters of the covariance; of groups that differ in their residual sd, the sd between them."""
    own = priors.residual_structure
    return sum(part.size for part in priors.parts) - (0 if own is None else own.n_levels)


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


def _doubt(optimum: LikelihoodFit) -> str:
    word = optimum.status.word
    return "" if word in ("converged", "good") else word


def _recommended(
    table: pd.DataFrame, among: Sequence[str] | None = None, preferred: str = ""
) -> str:
    """The fewest parameters among those not clearly worse for new groups; the better of equals.

    One of ``among``, the preferred where none of them is left, or it is one of equals.
    """
    left = _near(table)
    left = left[~(left["rejected_p"] < REJECTED)]
    if among is not None:
        left = left[left.index.isin(among)]
    if left.empty:
        return preferred
    fewest = left[left["parameters"] == left["parameters"].min()]
    return preferred if preferred in fewest.index else str(fewest["elpd_group"].idxmax())


def _near(table: pd.DataFrame) -> pd.DataFrame:
    """The structures that do not predict new groups clearly worse than the best."""
    scored = table.dropna(subset=["elpd_group"])
    behind = -scored["elpd_group_diff"]
    return scored[~((behind > CLEARLY_WORSE) & (behind > ERRORS * scored["dse"]))]


def _because(table: pd.DataFrame, chosen: str, groups: str) -> str:
    best = str(table["elpd_group_diff"].idxmax())
    few, many = (int(table["parameters"][name]) for name in (chosen, best))
    rejected = _says_rejected(table, few)
    if chosen == best:
        others = table["elpd_group_diff"].drop(best).dropna()
        if not len(others):
            return "It is the only structure that could be compared."
        beside = " and has the fewest parameters" if few == table["parameters"].min() else ""
        return f"It predicts new {groups} best{beside}.{rejected}"
    off, error = (f"{table[c][chosen]:.1f}" for c in ("elpd_group_diff", "dse"))
    fewer = f"fewer parameters ({few} and {many})" if few < many else f"as many parameters ({few})"
    return (
        f"It predicts new {groups} about as well as {best} (difference {off}, standard error {error}) "
        f"with {fewer}.{rejected}"
    )


def _says_worse(table: pd.DataFrame, simple: str) -> str:
    """By how much independent residuals of one sd predict worse."""
    off = float(table["elpd_group_diff"].get(simple, 0.0))
    if not off < 0:
        return ""
    return f" {capital(simple)} is worse by {-off:.1f} (standard error {table['dse'][simple]:.1f})."


def _says_rejected(table: pd.DataFrame, few: int) -> str:
    """That structures with fewer parameters predict about as well, and are rejected all the same."""
    near = _near(table)
    smaller = near[(near["parameters"] < few) & (near["rejected_p"] < REJECTED)]
    if smaller.empty:
        return ""
    largest = float(smaller["rejected_p"].max())
    p = "p < 0.001" if largest < 0.001 else f"p = {largest:.3f}"
    one = len(smaller) == 1
    each = p if one else f"each {p.replace('=', 'at most')}"
    has, are = ("has", "is") if one else ("have", "are")
    return (
        f" {joined(smaller.index)} {has} fewer parameters, and {are} rejected by a likelihood ratio "
        f"test against a larger structure ({each})."
    )
