"""Results of the engines as plain labelled data, with the names and dims of all variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.core.design import Design
from hierpool.core.schema import GroupSchema, Schema
from hierpool.core.theta import FamilyTheta, ResidualTheta, WorkingTheta

Word = Literal["good", "converged", "singular", "not identified", "doubtful", "failed"]

CONDITIONAL_MODE = "conditional mode"  # what tables of a family hold where others have a BLUP
OBS_DIM = "obs"
RESPONSE = "y"


@dataclass(frozen=True, slots=True)
class Status:
    """Whether to trust a result: one word and one sentence.

    ``good`` (draws) and ``converged`` (optima) mean yes; ``singular`` is a proper optimum on the
    boundary; ``not identified`` is one of many that fit equally well, and the sentence says what
    holds for all of them; ``doubtful`` and ``failed`` mean no, and the sentence says why.
    """

    word: Word
    sentence: str

    @property
    def is_trustworthy(self) -> bool:
        """Whether the numbers can be used."""
        return self.word in {"good", "converged", "singular"}

    def __str__(self) -> str:
        return f"{self.word}: {self.sentence}"


@dataclass(frozen=True)
class FactorEstimate:
    """What an optimum says of the levels of one factor; everything in the user's coding.

    Attributes
    ----------
    factor
        Its name.
    sd, sd_se, corr, corr_se
        Shapes (q,), (q,), (q, q), (q, q); empty unless partially pooled. Standard errors from the
        observed information, NaN on the boundary.
    u, coef
        Shapes (J, q): deviations (BLUPs) and coefficients of the levels; u is empty for no pooling.
    u_pev, u_condvar, coef_covariance
        Shapes (J, q, q): Henderson's prediction error variance, Var(u | y, theta, beta) (lme4's
        condVar), and the error covariance of the coefficients.
    """

    factor: str
    sd: np.ndarray
    sd_se: np.ndarray
    corr: np.ndarray
    corr_se: np.ndarray
    u: np.ndarray
    coef: np.ndarray
    u_pev: np.ndarray
    u_condvar: np.ndarray
    coef_covariance: np.ndarray


@dataclass(frozen=True)
class FamilyEstimate:
    """What maximum likelihood says beside coefficients and variances where the response has a family.

    D numbers are free in the search: coefficients, entries of the root of the covariance, parameters.

    Attributes
    ----------
    names
        Of the P parameters: ``shape``, ``thresholds[low|high]``.
    par_se
        Shape (P,): standard errors of the estimate's ``par``; NaN at its limit.
    working_par
        Shape (P,): the parameters, thresholds where the predictors have their means.
    eta, slope, curvature
        Shapes (n,): linear predictors at the conditional modes (thresholds aside), and there the slope
        of each row's log density and minus its second derivative, times the row's weight.
    covariance
        Shape (D, D): inverse of the observed information.
    beta_by, par_by
        Shapes (p, D), (P, D): derivatives of coefficients and parameters by the free numbers.
    u_by
        One a factor, shape (J, q, D): derivatives of the conditional modes.
    laplace
        The Laplace approximation of the log-likelihood at the estimate; NaN without groups.
    root_by
        Shape (Q, Q, D): derivatives of the root of the covariance of all factors, in the user's coding.
    """

    names: tuple[str, ...]
    par_se: np.ndarray
    working_par: np.ndarray
    eta: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    covariance: np.ndarray
    beta_by: np.ndarray
    par_by: np.ndarray
    u_by: tuple[np.ndarray, ...]
    laplace: float
    root_by: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))


@dataclass(frozen=True)
class Estimate:
    """An optimum of the criterion, or least squares; everything in the user's coding.

    Attributes
    ----------
    method
        ``"REML"``, ``"ML"`` or ``"least squares"``. ML of a family is by quadrature, or by the Laplace
        approximation where the status says so.
    beta, beta_covariance
        Shapes (p,) and (p, p); NaN where a coefficient cannot be estimated.
    sigma
        Residual sd; 1, and no estimate, where those of the rows are known.
    sigma_se
        Standard error of sigma; NaN where it is no estimate.
    factors
        What belongs to each factor, in the order of the design's groups.
    fitted
        Shape (n,).
    loglik
        Log-likelihood (REML: the restricted one, in the user's coding).
    n_parameters
        Coefficients, variance parameters and sigma.
    relative_factor
        Shape (Q, Q): Lambda in working coordinates at the optimum, block diagonal over the factors.
    status
        Whether to trust it.
    par
        Shape (P,): parameters of a family, as ``Family.parameters`` names them; thresholds of
        ratings, where all predictors are 0. Empty for a Gaussian response.
    threshold_covariance
        Shape (p + C - 1, p + C - 1): of beta and the thresholds of ratings together; None elsewhere.
    family
        What else belongs to the family of the response; None: Gaussian.
    residual_parameters, residual_se
        Shapes (m,) and (r,): parameters of a residual structure, as ``RowStructure`` orders them,
        and standard errors of what is reported of it; None without one.
    """

    method: Literal["REML", "ML", "least squares"]
    beta: np.ndarray
    beta_covariance: np.ndarray
    sigma: float
    sigma_se: float
    factors: tuple[FactorEstimate, ...]
    fitted: np.ndarray
    loglik: float
    n_parameters: int
    relative_covariance_factor: np.ndarray
    status: Status
    par: np.ndarray = field(default_factory=lambda: np.zeros(0))
    threshold_covariance: np.ndarray | None = None
    family: FamilyEstimate | None = None
    residual_parameters: np.ndarray | None = None
    residual_se: np.ndarray | None = None

    @property
    def working_theta(self) -> WorkingTheta:
        """The variances as the algebra takes them (K = 1), with the family's parameters if it has one."""
        if self.family is not None:
            Lambda = self.relative_covariance_factor[None]
            return FamilyTheta(np.ones(1), Lambda, self.family.working_par[None])
        phi = self.residual_parameters
        if phi is not None:
            own = np.array([self.sigma]), self.relative_covariance_factor[None]
            return ResidualTheta(*own, phi[None])
        return WorkingTheta(np.array([self.sigma]), self.relative_covariance_factor[None])

    @property
    def only(self) -> FactorEstimate:
        """What belongs to the one factor of a model that has one."""
        (factor,) = self.factors
        return factor

    def of(self, factor: str) -> FactorEstimate:
        """What belongs to one factor."""
        return next(f for f in self.factors if f.factor == factor)


@dataclass(frozen=True)
class Draws:
    """Draws of one engine, chains x draws first, everything in the user's coding.

    Attributes
    ----------
    variables
        Name (``beta``, ``sigma``, ``u_<factor>``, ...) -> array (chains, draws, *dims).
    theta
        The same for theta in the coordinates of the priors, from which the algebra starts again.
    sample_stats
        Name -> array (chains, draws).
    """

    variables: Mapping[str, np.ndarray]
    theta: Mapping[str, np.ndarray]
    sample_stats: Mapping[str, np.ndarray]


def variable_dims(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Dims of every variable that a model of this design can have, chain and draw left out."""
    dims: dict[str, tuple[str, ...]] = {"sigma": ()} if schema.has_sigma else {}
    if schema.family is not None:
        dims |= dict.fromkeys(schema.family.parameters, ())
        if schema.family.has_thresholds:
            dims["thresholds"] = ("threshold",)
    if schema.terms:
        dims["beta"] = ("term",)
    dims |= schema.residual_dims
    for g in schema.groups:
        f = g.factor
        dims[f"coef_{f}"] = (f, f"{f}_term")
        if g.is_pooled:
            dims[f"u_{f}"] = (f, f"{f}_term")
            dims[f"sd_{f}"] = (f"{f}_term",)
        if g.has_correlation:
            dims[f"corr_{f}"] = (f"{f}_term", f"{f}_term2")
    return dims


def coords(schema: Schema) -> dict[str, Any]:
    """Coordinate labels of every dim of ``variable_dims``, in forms that NetCDF can hold."""
    labels: dict[str, Any] = {}
    if schema.terms:
        labels["term"] = list(schema.terms)
    if schema.family is not None and schema.family.has_thresholds:
        labels["threshold"] = schema.family.threshold_labels
    labels |= {dim: list(own) for dim, own in schema.residual_coords.items()}
    for g in schema.groups:
        labels[g.factor] = level_labels(g)
        labels[f"{g.factor}_term"] = list(g.terms)
        if g.has_correlation:
            labels[f"{g.factor}_term2"] = list(g.terms)
    return labels


def level_labels(group: GroupSchema) -> np.ndarray:
    """Labels of the levels: integers stay integers, everything else becomes text."""
    levels = group.grouping.levels
    if pd.api.types.is_integer_dtype(levels.dtype):
        return levels.to_numpy(dtype=np.int64)
    return np.array([str(v) for v in levels], dtype=object)


def row_labels(design: Design) -> np.ndarray:
    """Labels of the rows for the ``obs`` dim: an integer index as it is, else 0..n-1."""
    return index_labels(design.rows)


def index_labels(index: pd.Index[Any]) -> np.ndarray:
    """Labels of the ``obs`` dim for rows of this index."""
    if pd.api.types.is_integer_dtype(index.dtype) and index.is_unique:
        return index.to_numpy(dtype=np.int64)
    return np.arange(len(index))


def posterior_tree(design: Design, draws: Draws, attrs: Mapping[str, Any]) -> xr.DataTree:
    """DataTree with the ArviZ groups posterior, sample_stats, observed_data, constant_data.

    The last two are left out where there are only sums of the rows.

    ``theta`` is a further group: the parameters in the coordinates of their priors.
    """
    dims, labels = variable_dims(design.schema), coords(design.schema)
    posterior = {
        name: (("chain", "draw", *dims[name]), draws.variables[name])
        for name in dims
        if name in draws.variables
    }
    first = next(iter(draws.variables.values()))
    sampled = {"chain": np.arange(first.shape[0]), "draw": np.arange(first.shape[1])}
    used = {d for name in posterior for d in dims[name]}
    groups = {
        "posterior": xr.Dataset(
            posterior, {**sampled, **{k: v for k, v in labels.items() if k in used}}
        ),
        "sample_stats": xr.Dataset(
            {k: (("chain", "draw"), v) for k, v in draws.sample_stats.items()}, sampled
        ),
        "theta": xr.Dataset({k: _theta_array(k, v) for k, v in draws.theta.items()}, sampled),
    }
    if not design.is_summed:
        groups |= {"observed_data": observed_data(design), "constant_data": constant_data(design)}
    tree = xr.DataTree.from_dict(groups)
    tree.attrs.update(attrs)
    tree["posterior"].attrs.update(attrs)
    return tree


def _theta_array(name: str, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    extra = [f"{name}_dim_{k}" for k in range(values.ndim - 2)]
    return ("chain", "draw", *extra), values


def observed_data(design: Design) -> xr.Dataset:
    """The response, dims (obs,)."""
    return xr.Dataset({RESPONSE: ((OBS_DIM,), design.y)}, {OBS_DIM: row_labels(design)})


def constant_data(design: Design) -> xr.Dataset:
    """Level of each row, the numeric predictors, weights, known sds and offset, dims (obs,).

    Where a tree cannot hold the name of a column it is changed: ``"mg/dl"`` to ``"mg_dl"``.
    """
    data: dict[str, Any] = {}
    for g in design.groups:
        data[f"{g.factor}_index"] = ((OBS_DIM,), g.grouping.codes.astype(np.int64))
    for name in design.predictors:
        column = design.frame[name]
        if pd.api.types.is_numeric_dtype(column):
            data.setdefault(_stored(name), ((OBS_DIM,), column.to_numpy(dtype=float)))
    added = {"offset": design.offset, design.spec.trials: design.observations.trials}
    residual = {design.residual.term.column: design.residual.values}
    for label, values in [*residual.items(), *added.items()]:
        if isinstance(values, np.ndarray):
            data.setdefault(_stored(label), ((OBS_DIM,), values))
    return xr.Dataset(data, {OBS_DIM: row_labels(design)})


def _stored(name: str) -> str:
    """The name of a column as xarray can hold it beside the rows: a slash parts paths there."""
    return f"{name}_" if name == OBS_DIM else name.replace("/", "_")


KEYS = ["factor", "level", "term"]


def root_of_diagonal(covariance: np.ndarray) -> np.ndarray:
    """Square roots of the diagonals, shape (..., k)."""
    return np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))


def level_index(group: GroupSchema) -> pd.MultiIndex:
    """Index (factor, level, term) in C order of an array (J, q)."""
    levels = group.grouping.levels
    return pd.MultiIndex.from_product([[group.factor], levels, group.terms], names=KEYS)


def level_table(group: GroupSchema, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Columns of shape (J, q) as a table over (factor, level, term)."""
    flat = {name: values.reshape(-1) for name, values in columns.items()}
    return pd.DataFrame(flat, index=level_index(group))


def pair_positions(group: GroupSchema) -> list[tuple[int, int]]:
    """Pairs (i, j), j < i, of terms whose correlation is estimated."""
    return [pair for block in group.blocks for pair in block.pairs]


def pair_values(group: GroupSchema, corr: np.ndarray) -> list[float]:
    """Correlations of the estimated pairs, in the order of ``pair_positions``."""
    return [corr[i, j] for i, j in pair_positions(group)]


def variance_component_index(schema: Schema) -> pd.DataFrame:
    """Empty table over (factor, parameter, term, term2), the residual or the response last."""
    keys: list[tuple[str, str, str, str]] = []
    for group in schema.groups:
        if not group.is_pooled:
            continue
        f, terms = group.factor, group.terms
        keys += [(f, "sd", t, "") for t in terms]
        keys += [(f, "corr", terms[j], terms[i]) for i, j in pair_positions(group)]
    if schema.has_sigma:
        keys.append(("residual", "sd", "", ""))
    keys += [key for key, _, _ in residual_entries(schema)]
    if schema.family is not None:
        keys += [("response", name, "", "") for name in schema.family.parameters]
        keys += [("response", "threshold", t, "") for t in schema.family.threshold_labels]
    names = ["factor", "parameter", "term", "term2"]
    return pd.DataFrame(index=pd.MultiIndex.from_tuples(keys, names=names))


def residual_entries(
    schema: Schema,
) -> list[tuple[tuple[str, str, str, str], str, tuple[int, ...]]]:
    """Key, variable and place of every number that is reported of a structure of the residuals."""
    out: list[tuple[tuple[str, str, str, str], str, tuple[int, ...]]] = []
    words = {"corr_residual": "corr", "sd_residual": "sd"}
    sds_first = sorted(schema.residual_dims.items(), key=lambda item: item[0] != "sd_residual")
    for name, dims in sds_first:
        if name == "log_sigma_deviation":  # of each group, as are random effects
            continue
        labels = [schema.residual_coords[dim] for dim in dims]
        for at in np.ndindex(*(len(own) for own in labels)):
            shown = [own[k] for own, k in zip(labels, at, strict=True)]
            if name == "corr_residual" and at[-1] <= at[-2]:
                continue
            by = shown.pop(0) if dims[:1] == ("by",) else ""
            where = f"residual ({by})" if by else "residual"
            term, term2 = (*shown, "", "")[:2]
            out.append(((where, words.get(name, name), term, term2), name, at))
    return out


def variance_component_name(factor: str, parameter: str, term: str, term2: str) -> str:
    """One word for a row of the spread table: ``sd_boar[time]``, ``sigma``."""
    if factor.startswith("residual"):
        if (parameter, term) == ("sd", ""):
            return "sigma"
        inside = ", ".join(filter(None, [factor[10:-1], term, term2]))
        name = f"{parameter}_residual" if parameter in ("sd", "corr") else parameter
        return f"{name}[{inside}]" if inside else name
    if factor == "response":
        return f"thresholds[{term}]" if term else parameter
    inside = f"{term}, {term2}" if term2 else term
    return f"{parameter}_{factor}[{inside}]"
