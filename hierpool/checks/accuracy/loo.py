"""Leave-one-out: by row and by group, coefficients integrated out, exact where PSIS cannot.

Given theta the density of each row (or of all rows of a level, jointly) without itself is known in
closed form, so importance sampling is over a handful of variance parameters only. Where its
Pareto k is too high even so, theta is sampled anew without the point, through a ``refit``.

References
----------
Vehtari, Gelman, Gabry (2017), Stat. Comput. 27, 1413-1432.
Merkle, Furr, Rabe-Hesketh (2019), Psychometrika 84, 802-829 (marginal against conditional).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.utils import ELPDDataLOO
from scipy import special

from hierpool.algebra.correlated.model import CorrelatedResiduals
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.arguments import is_word, shown
from hierpool.core.design import Design, Grouping
from hierpool.core.errors import (
    ArgumentError,
    ComparisonError,
    UnsupportedModelError,
    listed,
    nearest,
)
from hierpool.core.families.family import Family
from hierpool.core.families.ordinal import Ordinal
from hierpool.core.group_nouns import noun
from hierpool.core.printable import printable
from hierpool.core.results import OBS_DIM, row_labels
from hierpool.core.theta import WorkingTheta

MOST_ERROR = 0.01  # Monte Carlo error of a family's score from which it is made from more draws
WORST_ERROR = 0.02  # from which it is then computed exactly; that has an error of about .01 itself
HEAVY_K = 0.5  # Pareto k from which that error is too small itself, and MOST_ERROR holds for both
MAX_SCORE_DROP = 0.5  # fall of a score from its plain log mean that needs a Pareto k to be believed
_BLOCK_NUMBERS = 4_000_000  # densities held at once
MOST_BY_NUTS = 5  # scores that are computed exactly where each takes as long as the fit
MOST_ROWS = 20_000_000  # of a table of which only counts are kept, whose scores are held
_DRAWS_OF_PROBABILITIES = 1000  # whose Monte Carlo error is a few thousandths
Refit = Callable[[np.ndarray], float]
"""Positions of rows -> their exact joint log density given all other rows."""
PointsWithout = Callable[[np.ndarray], WorkingTheta]
"""Positions of rows -> draws of theta, and of a family's beta, given all other rows."""
MoreDraws = Callable[[], "tuple[WorkingTheta, float] | None"]
"""More draws of a family's theta and beta, and their efficiency; None where there are no good ones."""


class ScoredLOO(ELPDDataLOO):
    """ArviZ's ELPDData, with what was left out and how many points were scored exactly.

    Attributes
    ----------
    predicts
        What is predicted: a new observation of a known group, or all observations of a new group.
    n_refitted
        Points scored exactly; their ``pareto_k`` is NaN, since nothing was importance sampled.
    n_left
        Draws of theta that were not used because each is expensive (several factors, many
        levels). 0: all were.
    mcse
        Monte Carlo standard error of ``elpd`` where not all draws of theta were used; NaN else.
    n_checked
        Rows, drawn at random, whose scores rest on all draws of theta where those of the others rest
        on a few values of it; ``pareto_k`` is of these. 0: all rows.
    sampling_se
        Standard error of ``elpd`` because of that.
    """

    predicts: str = ""
    n_refitted: int = 0
    n_left: int = 0
    mcse: float = float("nan")
    n_checked: int = 0
    sampling_se: float = 0.0

    def __str__(self) -> str:
        lines = [self.predicts, super().__str__()]
        if self.n_refitted:
            what = f"{self.n_refitted} of {self.n_data_points}"
            lines.append(f"{what} scores computed exactly (importance sampling is too uncertain).")
        if self.n_left:
            total = self.n_samples + self.n_left
            lines.append(
                f"Based on {self.n_samples} of {total} draws of theta, Monte Carlo error "
                f"{self.mcse:.2g}."
            )
        if self.n_checked:
            lines.append(
                f"Rows in a table: corrected by {self.n_checked:,} of {self.n_data_points:,} rows, "
                f"drawn at random, standard error {self.sampling_se:.2g}. Pareto k are of these rows."
            )
        return printable("\n".join(lines))

    __repr__ = __str__


def leave_one_row_out(
    fit: IntegratedPosterior, refit: Refit | None, more: MoreDraws | None = None
) -> ScoredLOO:
    """Score of each row given all others, every coefficient integrated out.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` that can be integrated.
    refit
        Exact score of a set of rows, for points with a high Pareto k; None leaves them.
    more
        Draws by which scores are improved before that is done.
    """
    from hierpool.draws import psis

    design = fit.design
    counts = _rows_alike(design)
    used = _Used.from_fit(fit)
    integrated = fit.integrated
    n, r_eff = len(design.observations.y), used.efficiency
    scores, kept = np.empty((n, 3)), _kept_densities(fit) if not used.n_left else None
    influence, errors = np.zeros(used.n), np.zeros(n)
    marginal = integrated.marginal(used.theta)
    codes = fit.design.groups[0].grouping.codes if fit.design.groups else np.zeros(n)
    by_level = np.argsort(codes, kind="stable")
    # of several factors every call factors every theta again: all rows at once
    pieces = max(1, n * used.n // _BLOCK_NUMBERS) if len(fit.design.groups) <= 1 else 1
    for rows in np.array_split(by_level, pieces):
        if kept is None:
            density = integrated.densities_by_row(used.theta, rows, marginal)
        else:
            density = kept[:, rows].T
        scores[rows] = np.stack(psis.leave_one_out(density, r_eff), axis=1)
        errors[rows] = used.errors(density, fit.design)
        if used.n_left:
            influence += _influence(density, 1.0 if counts is None else counts[rows, None])
    if used.may(refit) is not None and counts is None:

        def of_rows(theta: WorkingTheta, rows: np.ndarray) -> np.ndarray:
            return integrated.densities_by_row(theta, rows, integrated.marginal(theta))

        _improved(scores, errors, used, fit.design, more, of_rows)
    if counts is not None:
        scores, refit, labels = np.repeat(scores, counts, axis=0), None, np.arange(design.n)
        points, errors = [], np.zeros(design.n)
    else:
        points, labels = [np.array([i]) for i in range(n)], row_labels(design)
    predicts = "a new observation of a known group"
    if fit.design.residual_factor:
        predicts += (
            f", given the others of its {noun(fit.design.residual_factor)}, earlier and later"
        )
    named = {OBS_DIM: labels}
    own = used.n, used.may(refit), errors, _most_refits(design)
    return used.said(_scored(scores, points, named, predicts, *own), influence)


def has_row_scores(design: Design) -> bool:
    """Whether scores of single rows can be had: not of sums, but of counts of rows that are alike."""
    return not design.is_summed or (design.family is not None and design.n <= MOST_ROWS)


def _from_table(design: Design) -> tuple[str, ...]:
    """What to type for the score of each row; nothing of too many counts, which no table helps."""
    if design.family is not None:
        return ()
    return ("Pass the table, whose engine scores them: hp.loo_from_table(fit, table)",)


def _rows_alike(design: Design) -> np.ndarray | None:
    """Shape (n,): how many rows of the table each row stands for; None where each is one.

    Their scores are equal: of rows that are alike it is all one which is left out.
    """
    if not has_row_scores(design):
        design.check_rows("the score of each row left out", *_from_table(design))
    counts = design.row_counts
    return None if counts is None else np.rint(counts).astype(np.intp)


@dataclass(frozen=True)
class _Used:
    """The draws of theta that a score is made from: all, or as many as can be afforded."""

    theta: WorkingTheta
    n_left: int
    efficiency: float

    @classmethod
    def from_fit(cls, fit: IntegratedPosterior) -> _Used:
        K, kept = len(fit.theta), fit.thinned_draws.ravel()
        efficiency = fit.efficiency
        if len(kept) < K:
            efficiency = min(1.0, efficiency * K / len(kept))
        return cls(fit.working_theta[kept], K - len(kept), efficiency)

    @property
    def n(self) -> int:
        """How many."""
        return len(self.theta)

    def at_most(self, n: int) -> _Used:
        """So many of them, evenly spaced."""
        picks = np.unique(np.linspace(0, self.n - 1, min(n, self.n)).astype(int))
        efficiency = min(1.0, self.efficiency * self.n / len(picks))
        return _Used(self.theta[picks], self.n_left + self.n - len(picks), efficiency)

    def may(self, refit: Refit | None) -> Refit | None:
        """The refit, unless each would cost as much as the fit itself."""
        return None if self.n_left else refit

    def errors(self, density: np.ndarray, design: Design) -> np.ndarray:
        """Shape (points,): Monte Carlo errors of scores from densities (points, K); 0 of a Gaussian one.

        By the effective number of draws that the weights leave. Theta and beta are sampled for a
        family, which leaves fewer than theta alone; k does not see that.
        """
        if design.family is None:
            return np.zeros(len(density))
        with np.errstate(invalid="ignore"):  # a density of zero: nothing is known of the error
            ratios = np.exp(density.min(axis=1, keepdims=True) - density)
            left = ratios.sum(axis=1) ** 2 / np.square(ratios).sum(axis=1)
            errors = np.sqrt(np.maximum(1 / left - 1 / self.n, 0) / self.efficiency)
        return np.asarray(np.nan_to_num(errors, nan=np.inf))

    def said(self, score: ScoredLOO, influence: np.ndarray) -> ScoredLOO:
        """The score, with the Monte Carlo error that leaving draws out has brought."""
        score.n_left = self.n_left
        if self.n_left:
            score.mcse = float(influence.std() / np.sqrt(self.n * self.efficiency))
        return score


def _influence(density: np.ndarray, counts: np.ndarray | float = 1.0) -> np.ndarray:
    """Shape (K,): what each draw does to the sum of the points' scores; density (points, K)."""
    ratios = np.exp(density.min(axis=1, keepdims=True) - density)
    return np.asarray((counts * (ratios / ratios.mean(axis=1, keepdims=True) - 1)).sum(axis=0))


def _kept_densities(fit: IntegratedPosterior) -> np.ndarray | None:
    """Shape (draws, n): the integrated densities where the fit holds them, None otherwise."""
    group = fit.draws.children.get("log_likelihood")
    if group is None or group.attrs.get("form") != "integrated":
        return None
    return np.asarray(group["y"].to_numpy()).reshape(-1, fit.design.n)


def leave_one_group_out(
    fit: IntegratedPosterior,
    grouping: Grouping,
    refit: Refit | None,
    more: MoreDraws | None = None,
) -> ScoredLOO:
    """Joint score of all rows of each level given all other levels."""
    from hierpool.draws import psis

    used = _Used.from_fit(fit)
    n = grouping.n_levels
    scores, errors, influence = np.empty((n, 3)), np.empty(n), np.zeros(used.n)
    for some, density in densities_by_level(fit, used.theta, grouping):
        scores[some] = np.stack(psis.leave_one_out(density, used.efficiency), axis=1)
        errors[some] = used.errors(density, fit.design)
        if used.n_left:
            influence += _influence(density)
    points = grouping.by_level
    labels = {grouping.factor: [str(v) for v in grouping.levels]}
    predicts = f"all observations of a new {noun(grouping.factor)}"

    def of_levels(theta: WorkingTheta, levels: np.ndarray) -> np.ndarray:
        return fit.integrated.log_density_of_levels(theta, grouping)[levels]

    if used.may(refit) is not None:
        _improved(scores, errors, used, fit.design, more, of_levels)
    own = used.n, used.may(refit), errors, _most_refits(fit.design)
    scored = _scored(scores, points, labels, predicts, *own)
    return used.said(scored, influence)


def densities_by_level(
    fit: IntegratedPosterior, theta: WorkingTheta, grouping: Grouping
) -> Iterator[tuple[slice, np.ndarray]]:
    """Log densities of all rows of each level given the others, (levels, K), some after the other."""
    if fit.design.family is None:
        yield from fit.integrated.densities_by_level(theta, grouping)
        return
    every = fit.integrated.log_density_of_levels(theta, grouping)
    yield slice(0, grouping.n_levels), every


def _most_refits(design: Design) -> float:
    """Points that are scored exactly: few where each takes a run of NUTS."""
    return MOST_BY_NUTS if design.samples_scales else np.inf


def one_step_ahead(fit: IntegratedPosterior, grouping: Grouping, refit: Refit | None) -> ScoredLOO:
    """Score of each row given the earlier rows of its group and all other groups.

    The scores of a group add up to its score of ``leave_one_group_out``: with the weights that take
    a draw of theta to the others' posterior, each is the ratio of the predictive densities of the
    rows up to it and of those before it.

    References
    ----------
    Buerkner, Gabry, Vehtari (2020), J. Stat. Comput. Simul. 90, 2499-2523.
    """
    from arviz_stats.base import array_stats

    algebra, used, design = fit.integrated, _Used.from_fit(fit), fit.design
    structure = design.residual.structure
    if not isinstance(algebra, CorrelatedResiduals) or grouping.factor != design.residual_factor:
        raise UnsupportedModelError(
            f"ahead=True needs rows that are correlated in time within the groups left out: "
            f"{design.spec.formula} has no residual= over {grouping.factor!r}",
            "no-time",
        )
    assert structure is not None
    rows = algebra.densities_ahead(used.theta)
    levels = np.zeros((grouping.n_levels, used.n))
    np.add.at(levels, grouping.codes, rows)
    log_weights, k = array_stats.psislw(levels, r_eff=used.efficiency)
    good_k = min(1 - 1 / np.log10(used.n), 0.7)
    k, elpd, lppd = np.asarray(k), np.empty(design.n), np.empty(design.n)
    for j in range(grouping.n_levels):
        own = np.flatnonzero(grouping.codes == j)
        own = own[np.argsort(structure.places[own], kind="stable")]
        lppd[own] = _steps(rows[own], np.full(used.n, -np.log(used.n)))
        if not k[j] <= good_k and refit is not None:  # later rows left out, one fewer at a time
            exact = [refit(own[t:]) for t in range(len(own))]
            elpd[own], k[j] = -np.diff([*exact, 0.0]), np.nan
        else:
            elpd[own] = _steps(rows[own], np.asarray(log_weights)[j])
    scores = np.column_stack([elpd, k[grouping.codes], lppd])
    labels, points = {OBS_DIM: row_labels(design)}, [np.array([i]) for i in range(design.n)]
    predicts = f"the next observation of a new {noun(grouping.factor)}, given its earlier ones"
    scored = _scored(scores, points, labels, predicts, used.n, None)
    if refit is not None:
        scored.n_refitted, scored.warning = int(np.isnan(k[grouping.codes]).sum()), False
    return scored


def _steps(density: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Shape (rows,): log predictive density of each row given those before it, from (rows, K)."""
    before = np.vstack([np.zeros((1, density.shape[1])), np.cumsum(density, axis=0)])
    return np.diff(special.logsumexp(before + log_weights, axis=1))


def leave_one_row_out_conditional(fit: IntegratedPosterior) -> ScoredLOO:
    """The usual score, p(y_i | coefficients, theta): for comparison; it flatters no pooling."""
    from hierpool.draws import psis

    values = fit.with_log_likelihood("conditional").draws["log_likelihood"]["y"].to_numpy()
    density = values.reshape(-1, fit.design.n).T
    scores = np.stack(psis.leave_one_out(density, fit.efficiency), axis=1)
    points = [np.array([i]) for i in range(fit.design.n)]
    labels = {OBS_DIM: row_labels(fit.design)}
    predicts = "a new observation of a known group, by importance sampling of every coefficient"
    return _scored(scores, points, labels, predicts, density.shape[1], None)


def _improved(
    scores: np.ndarray,
    errors: np.ndarray,
    used: _Used,
    design: Design,
    more: MoreDraws | None,
    density_of: Callable[[WorkingTheta, np.ndarray], np.ndarray],
) -> None:
    """Scores and errors that are not good enough, from more draws, which cost less than a refit each."""
    from hierpool.draws import psis

    bad = np.flatnonzero(_is_bad(scores, used.n) | (errors > MOST_ERROR))
    found = more() if more is not None and len(bad) else None
    if found is None:
        return
    others = _Used(found[0], 0, found[1])
    density = density_of(others.theta, bad)
    scores[bad] = np.stack(psis.leave_one_out(density, others.efficiency), axis=1)
    errors[bad] = others.errors(density, design)


def _is_bad(scores: np.ndarray, n_draws: int) -> np.ndarray:
    """Shape (points,): whether importance sampling cannot be believed, by its Pareto k."""
    elpd, k, lppd = scores.T
    # No k: the tail is too uniform to fit, which is harmless, or one weight leaves the others at zero.
    lost = np.isnan(k) & (lppd - elpd > MAX_SCORE_DROP)
    return np.asarray((k > good_k(n_draws)) | lost)


def good_k(n_draws: int) -> float:
    """The Pareto k up to which importance sampling with so many draws is believed."""
    return min(1 - 1 / np.log10(n_draws), 0.7) if n_draws > 1 else 0.7


def _scored(
    scores: np.ndarray,
    points: list[np.ndarray],
    labels: dict[str, Any],
    predicts: str,
    n_draws: int,
    refit: Refit | None,
    errors: np.ndarray | float = 0.0,
    most_refits: float = np.inf,
) -> ScoredLOO:
    elpd, k, lppd = scores.T.copy()
    is_bad = _is_bad(scores, n_draws)
    has_warning = bool(is_bad.any()) and refit is None
    bad = np.flatnonzero(is_bad | (errors > np.where(k > HEAVY_K, MOST_ERROR, WORST_ERROR)))
    if refit is not None and len(bad) > most_refits:
        refit, has_warning = None, True
    if refit is not None:
        for i in bad:
            elpd[i], k[i] = refit(points[i]), np.nan
    n = len(elpd)
    result = ScoredLOO(
        elpd=float(elpd.sum()),
        se=float(np.sqrt(n) * elpd.std(ddof=1)) if n > 1 else float("nan"),
        p=float((lppd - elpd).sum()),
        n_samples=n_draws,
        n_data_points=n,
        scale="log",
        warning=has_warning,
        good_k=good_k(n_draws),
        elpd_i=xr.DataArray(elpd, coords=labels, dims=list(labels), name="y"),
        pareto_k=xr.DataArray(k, coords=labels, dims=list(labels), name="y"),
    )
    result.predicts = predicts
    result.n_refitted = len(bad) if refit is not None else 0
    return result


def relative_efficiency(fit: IntegratedPosterior) -> float:
    """Mean effective share of the draws of theta, which is all the densities depend on."""
    from arviz_stats.base import array_stats

    posterior = fit.draws["posterior"].to_dataset()
    more = {"sigma", *fit.design.schema.residual_dims}
    names = [v for v in posterior.data_vars if v in more or str(v).startswith("sd_")]
    if fit.design.family is not None:  # beta is sampled too
        of_levels = ("u_", "coef_", "corr_")
        names = [v for v in posterior.data_vars if not str(v).startswith(of_levels)]
    if not names:
        return 1.0
    chains, draws = fit.n_draws
    if chains == 1:
        return 1.0
    each = [posterior[v].transpose("chain", "draw", ...).to_numpy() for v in names]
    values = np.concatenate([own.reshape(chains, draws, -1) for own in each], axis=-1)
    ess = array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean")
    return float(np.clip(np.nanmean(ess) / (chains * draws), 1e-3, 1.5))


def check_rows(design: Design, grouping: Grouping) -> None:
    """Raise where a factor of another model is one of other rows."""
    if len(grouping.codes) != len(design.observations.y):
        raise ComparisonError(
            f"{grouping.factor!r} has {grouping.n_rows.sum()} rows, but {design.spec.formula} was "
            f"fitted to {design.n}. Fit both models to the same rows.",
            "different-rows",
        )


def grouping_for(design: Design, by: str | Grouping) -> Grouping:
    """The factor that ``by`` names or is; ``"group"`` for the only one there is.

    Raises
    ------
    ArgumentError
        No such factor, or several and ``"group"`` does not say which.
    """
    known = design.groupings
    if isinstance(by, Grouping):
        check_rows(design, by)
        return by
    if not is_word(by):
        raise ArgumentError(f"by={shown(by)}: {nearest('', known)}", "unknown-choice")
    if by in known:
        return known[by]
    if by == "group" and len(known) == 1:
        return next(iter(known.values()))
    if by == "group" and not known:
        raise ArgumentError(
            f"{design.spec.formula} has no groups to leave out. Pass group=... when you build the model.",
            "no-groups",
        )
    if by == "group":
        raise ArgumentError(
            f"by='group' is ambiguous: name one of {listed(known)}",
            "unknown-choice",
        )
    raise ArgumentError(f"by={by!r}: {nearest(by, ['row', 'group', *known])}", "unknown-choice")


def loo_pit(fit: IntegratedPosterior, most: int | None = None) -> xr.DataArray:
    """Probability integral transform of each row given all others, dims (obs,); uniform if calibrated.

    The integrated predictive distribution of each row is normal given theta; its cdf at the row is
    averaged over theta with Pareto-smoothed leave-one-out weights.
    A discrete response has two values a row, dims (obs, bound): the cdf below the response and at it,
    between which the transform is uniform (Czado and others 2009).
    With ``most``, so many draws and weights as they are: fast, and enough to judge all rows together.
    """
    from arviz_stats.base import array_stats

    if fit.design.family is not None:
        return _pit_of_family(fit, fit.design.family)
    used = _Used.from_fit(fit)
    picks = np.unique(np.linspace(0, used.n - 1, min(most or used.n, used.n)).astype(int))
    integrated, theta = fit.integrated, used.theta[picks]
    n, r_eff = fit.design.n, used.efficiency
    pit = np.empty(n)
    pieces = max(1, 4 * n * len(theta) // _BLOCK_NUMBERS) if len(fit.design.groups) <= 1 else 1
    for rows in np.array_split(np.arange(n), pieces):
        mean, sd = integrated.prediction_of_rows(theta, rows)
        scaled = (fit.design.y[rows] - mean) / sd
        density = -0.5 * scaled**2 - np.log(sd)
        log_weights = np.full_like(density.T, -np.log(len(theta)))
        if most is not None:
            log_weights = -density.T - special.logsumexp(-density.T, axis=1, keepdims=True)
        elif np.ptp(density, axis=0).any():  # else theta is empty, and every draw says the same
            log_weights, _ = array_stats.psislw(density.T, r_eff=r_eff)
        pit[rows] = (np.exp(log_weights) * special.ndtr(scaled).T).sum(axis=1)
    return xr.DataArray(
        pit, coords={OBS_DIM: row_labels(fit.design)}, dims=[OBS_DIM], name="loo_pit"
    )


def _pit_of_family(fit: IntegratedPosterior, family: Family) -> xr.DataArray:
    """The same of a response that is not Gaussian.

    References
    ----------
    Czado, Gneiting, Held (2009), Biometrics 65, 1254-1261.
    """
    used = _Used.from_fit(fit)
    algebra: Any = fit.integrated  # a QuadratureModel
    rows = np.arange(fit.design.n)
    weights = _weights_without(fit, used, rows)
    below, at = (
        np.clip((weights * cdf).sum(axis=1), 0.0, 1.0)
        for cdf in algebra.cdf_of_rows(used.theta, rows)
    )
    coords = {OBS_DIM: row_labels(fit.design)}
    if not family.is_discrete:
        return xr.DataArray(at, coords, (OBS_DIM,), "loo_pit")
    both = np.column_stack([below, at])
    coords["bound"] = np.array(["below", "at"])
    return xr.DataArray(both, coords, (OBS_DIM, "bound"), "loo_pit")


def _weights_without(fit: IntegratedPosterior, used: _Used, rows: np.ndarray) -> np.ndarray:
    """Shape (rows, K): smoothed weights that turn draws into those of each row left out."""
    from arviz_stats.base import array_stats

    algebra: Any = fit.integrated
    density = algebra.densities_by_row(used.theta, rows)
    log_weights, _ = array_stats.psislw(density, r_eff=used.efficiency)
    return np.asarray(np.exp(log_weights))


def loo_probabilities(fit: IntegratedPosterior, points_without: PointsWithout) -> xr.DataArray:
    """Probability of a success, or of each rating, predicted for each row from all others.

    Parameters
    ----------
    fit
        Of ``family="bernoulli"``, ``"binomial"`` or ``"ordinal"``.
    points_without
        Draws without some rows, for those whose scores are exact.
    """
    design = fit.design
    family = design.family
    if family is None or not (family.takes_trials or family.has_thresholds or _is_binary(family)):
        raise UnsupportedModelError(
            f"{design.spec.response} has no probability to predict: it is not 0 or 1, a number of "
            "successes, or a rating. Use fit.loo_pit() or fit.predict()",
            "no-probabilities",
        )
    scores: ScoredLOO = fit.loo()
    coords: dict[str, Any] = {OBS_DIM: row_labels(design)}
    if _is_binary(family) and design.row_weights is None:  # the scores say it
        of_observed = np.exp(scores.elpd_i.to_numpy())
        p = np.where(design.y == 1, of_observed, 1 - of_observed)
        return xr.DataArray(p, coords, (OBS_DIM,), "probability")
    used, rows = _Used.from_fit(fit).at_most(_DRAWS_OF_PROBABILITIES), np.arange(design.n)
    algebra: Any = fit.integrated
    expected = np.einsum(
        "mrk,rk->rm",
        algebra.probabilities_of_rows(used.theta, rows),
        _weights_without(fit, used, rows),
    )
    if scores.n_refitted:
        for i in np.flatnonzero(np.isnan(scores.pareto_k.to_numpy())):
            point = points_without(np.array([i]))
            expected[i] = algebra.probabilities_of_rows(point, np.array([i])).mean(axis=2)[:, 0]
    if not isinstance(family, Ordinal):
        return xr.DataArray(expected[:, 0], coords, (OBS_DIM,), "probability")
    each = np.diff(expected, axis=1, prepend=0.0, append=1.0)
    coords["rating"] = list(family.labels)
    return xr.DataArray(each, coords, (OBS_DIM, "rating"), "probability")


def _is_binary(family: Family) -> bool:
    return family.name == "bernoulli"
