"""The full model: every coefficient explicit, as an ordinary ``pymc.Model``.

It is the definition that the exact engine is held against. Priors live in the coordinates of each
block's ``Coding``, so the free variables do too. Where that coding is not the user's they are
called ``<name>_centred`` (coefficients of centred columns) and ``<name>`` follows from them; where
it is the user's, the free variable is ``<name>`` itself.

Symbols (factor with J levels and q columns, p population columns):
    B     (p, p)    user's population coefficients from those of the centred columns
    T     (q, q)    the same for the factor's columns
    root  (q, q)    D(sd) times the Cholesky factor of the correlation, centred columns
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.distributions.transforms import Interval
from scipy import linalg

from hierpool.algebra.moments import Coordinates
from hierpool.bayes.nuts import residual_structure
from hierpool.bayes.nuts.group_coefficients import Mean, coefficients
from hierpool.bayes.nuts.parameterization import Asked, Near, in_order, noncentered, settled
from hierpool.bayes.nuts.standardized import Standardized
from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.parts.residual_structure import ResidualStructurePart
from hierpool.bayes.parts.scalar import ScalarPart
from hierpool.bayes.parts.thresholds import ThresholdsPart
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.model_priors import ModelPriors, default_priors
from hierpool.bayes.priors.prior import Prior
from hierpool.core.coding import Coding
from hierpool.core.design import Design, GroupDesign
from hierpool.core.families.family import Family
from hierpool.core.results import OBS_DIM, RESPONSE, coords, row_labels
from hierpool.core.theta import Theta

_FAMILIES: dict[str, Any] = {
    "Normal": pm.Normal,
    "StudentT": pm.StudentT,
    "Cauchy": pm.Cauchy,
    "HalfNormal": pm.HalfNormal,
    "HalfStudentT": pm.HalfStudentT,
    "HalfCauchy": pm.HalfCauchy,
    "Exponential": pm.Exponential,
    "Gamma": pm.Gamma,
    "InverseGamma": pm.InverseGamma,
    "LogNormal": pm.LogNormal,
    "Beta": pm.Beta,
    "Uniform": pm.Uniform,
    "Flat": pm.Flat,
    "MvNormal": pm.MvNormal,
}
_LOCATION_SCALE = {
    "Normal": ("mu", "sigma"),
    "StudentT": ("mu", "sigma"),
    "Cauchy": ("alpha", "beta"),
}


def build(
    design: Design,
    priors: ModelPriors,
    parameterization: Asked = "noncentered",
    near: Near | None = None,
) -> pm.Model:
    """PyMC model of a design: ordinary, named, with every coefficient explicit.

    Parameters
    ----------
    design
        Rows and columns.
    priors
        Priors of every parameter, of any family.
    parameterization
        ``"noncentered"`` samples standard normals and scales them; ``"centered"`` samples the
        coefficients of the levels themselves, around the population's; ``"partial"`` samples
        standard normals less what the rows of the level say of them. Of all terms, or by factor,
        or by factor and term; no ``"partial"`` beside ``"centered"`` in one factor.
    near
        Where beta is looked for; samplers see it standardised by this. None: by its priors.

    Returns
    -------
    Model
        Variables and dims as in the vocabulary: ``beta`` (term), ``u_<factor>`` and
        ``coef_<factor>`` (<factor>, <factor>_term), ``sd_<factor>`` (<factor>_term),
        ``corr_<factor>`` (<factor>_term, <factor>_term2), ``sigma`` unless the residual sds
        are known, and the response ``y`` (obs) in the user's units.
    """
    by_term = settled(parameterization, design, lambda: noncentered(design))
    if design.family is None:
        design.check_rows("the PyMC model")
    n, rows = len(design.observations.y), design.observations
    labels = np.arange(n) if design.is_summed else row_labels(design)
    with pm.Model(coords={OBS_DIM: labels, **coords(design.schema)}) as model:
        sigma: Any = 1.0
        if priors.sigma is not None:
            sigma = _each("sigma", [priors.sigma], (), ())
        mean, beta = _population(design, priors, near)
        varying: Any = 0.0
        if priors.unpooled is not None:
            block, (group,) = priors.unpooled.coefficients, design.groups
            common = Coordinates.from_design(design).x
            if design.family is not None and design.family.has_thresholds:
                common = common.uncentred()  # thresholds carry the means of the predictors
            varying = _unpooled(group, block, beta, common)
        else:
            for group in in_order(design):
                words = tuple(by_term[group.factor].values())
                _pooled(group, priors.of_factor(group.factor), beta, sigma, mean, words)
        mu = mean.total() + varying + np.zeros(n) + design.offset
        if design.family is not None:
            _response(design, design.family, priors, mu, sigma, beta)
            return model
        structure = priors.residual_structure
        if structure is not None:
            residual_structure.observed(design, structure, mu, sigma, one_prior)
            return model
        sd = sigma * design.residual.relative_sd
        pm.Normal(RESPONSE, mu=mu, sigma=sd, observed=rows.y, dims=OBS_DIM)
    return model


def one_prior(name: str, prior: Prior) -> Any:
    """A free variable of this name under this prior."""
    return _each(name, [prior], (), ())


def _response(
    design: Design, family: Family, priors: ModelPriors, eta: Any, sigma: Any, beta: Any
) -> None:
    """The response of a family, with the family's own parameters."""
    from hierpool.bayes.nuts.families import observed

    parameters: dict[str, Any] = {"sigma": sigma} if priors.sigma is not None else {}
    for part in priors.parts:
        if isinstance(part, ScalarPart):
            parameters[part.name] = _each(part.name, [part.prior], (), ())
        elif isinstance(part, ThresholdsPart):
            parameters["thresholds"] = _thresholds(design, part, beta)
    observed(
        family,
        RESPONSE,
        eta,
        parameters,
        design.trials,
        design.likelihood_weights if design.is_summed else design.row_weights,
        design.observations.y,
        OBS_DIM,
    )


def _thresholds(design: Design, part: ThresholdsPart, beta: Any) -> Any:
    """Thresholds where the predictors have their means; those where they are 0 get the plain name."""
    shares = np.full(part.n_categories, float(part.prior.parameters["a"]))
    pm.modelcontext(None).add_coord("rating", np.arange(1, part.n_categories + 1))
    probability = pm.Dirichlet("rating_probability", a=shares, dims="rating")
    below = pt.cumsum(probability)[:-1]
    link = (
        pt.log(below) - pt.log1p(-below)
        if part.link == "logit"
        else np.sqrt(2) * pt.erfinv(2 * below - 1)
    )
    centred = pm.Deterministic("thresholds_centred", link, dims="threshold")
    moved = pt.dot(beta, design.schema.coding.means) if design.terms else 0.0
    pm.Deterministic("thresholds", centred + moved, dims="threshold")
    return centred


def _population(design: Design, priors: ModelPriors, near: Near | None) -> tuple[Mean, Any]:
    """The population columns as the mean of the rows so far, and beta in the user's coding."""
    block = priors.population
    rows = design.observations
    known = np.broadcast_to(design.residual.known_sd, rows.y.shape)
    y, precision = rows.y_less_offset, 1 / known**2
    if not design.terms:
        return Mean(np.zeros((len(y), 0)), None, np.zeros(0), y, precision), np.zeros(0)
    coding = block.coding
    if priors.unpooled is not None and not coding.has_constant:
        coding = Coordinates.from_design(design).x
    identity = _is_identity(coding.to_user)
    name = "beta" if identity else "beta_centred"
    default = default_priors(design.schema).population
    typical = coding.to_centred @ default.coding.to_user @ default.mean
    seen = None if near is None else _standardised(near, block, coding)
    if seen is not None:
        typical = seen[0]
    flat = default.priors if block.n_flat else ()
    beta = centred = _each(name, block.priors, block.terms, ("term",), flat, seen)
    if not identity:
        beta = pm.Deterministic("beta", pt.dot(coding.to_user, centred), dims="term")
    return Mean(coding.centre(rows.X), centred, typical, y, precision), beta


def _standardised(
    near: Near, block: CoefficientPriors, coding: Coding
) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and Cholesky factor of the covariance of beta, in ``coding``; normal priors included.

    None where a coefficient has no estimate.
    """
    mean = coding.to_centred @ near.beta
    covariance = coding.to_centred @ near.covariance @ coding.to_centred.T
    sd = np.sqrt(np.diag(covariance))
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all() and (sd > 0).all()):
        return None
    try:  # in units of sd, whatever the units of the columns
        root = np.linalg.cholesky(covariance / np.outer(sd, sd))
        if block.is_normal:
            inverse, known = np.linalg.inv(root), block.precision_root * sd
            precision = inverse.T @ inverse + known.T @ known
            pull = known.T @ (block.precision_root @ (block.mean - mean))
            mean = mean + sd * np.linalg.solve(precision, pull)
            root = np.linalg.cholesky(np.linalg.inv(precision))
    except np.linalg.LinAlgError:
        return None
    return mean, sd[:, None] * root


def _unpooled(group: GroupDesign, block: CoefficientPriors, beta: Any, common: Coding) -> Any:
    """Contribution of each level's own coefficients (no pooling)."""
    name, dims = f"coef_{group.factor}", (group.factor, f"{group.factor}_term")
    T = block.coding.to_user
    # Common columns without a constant of their own are centred too, at the cost of the intercepts.
    moves = not common.has_constant and block.coding.has_constant and common.is_centred
    if _is_identity(T) and not moves:
        centred = _each(name, block.priors, block.terms, dims)
    else:
        centred = _each(f"{name}_centred", block.priors, block.terms, dims)
        coef = pt.dot(centred, T.T)
        if moves:
            coef = coef - pt.dot(beta, common.means) * block.coding.constant
        pm.Deterministic(name, coef, dims=dims)
    return _by_row(group, block.coding.centre(group.Z), centred)


def _pooled(
    group: GroupDesign,
    parts: Sequence[GroupTermPart],
    beta: Any,
    sigma: Any,
    mean: Mean,
    words: Sequence[str],
) -> None:
    """Deviations of the levels (partial pooling), which enter the mean of the rows."""
    factor, dims = group.factor, (group.factor, f"{group.factor}_term")
    T = _to_user(parts)
    root = covariance_root(group, parts, sigma)
    centred = coefficients(group, parts, root, sigma, mean, words)
    u = pm.Deterministic(f"u_{factor}", pt.dot(centred, T.T), dims=dims)
    pm.Deterministic(f"coef_{factor}", u + _population_part(group, beta), dims=dims)


def covariance_root(group: GroupDesign, parts: Sequence[GroupTermPart], sigma: Any) -> Any:
    """Free sds and correlations; gives their root in centred columns, names both for the user."""
    T = _to_user(parts)
    factor, dim = group.factor, f"{group.factor}_term"
    mapped = not _is_identity(T)
    name = f"sd_{factor}{'_centred' * mapped}"
    sd = _sds(name, parts, group.terms, sigma, dim)
    eye = np.eye(len(group.terms))
    if not group.has_correlation:
        return sd[:, None] * eye
    cholesky = _cholesky(factor, parts)
    root = sd[:, None] * cholesky
    user = cholesky
    if mapped:
        user = pt.dot(T, root)
        user_sd = pm.Deterministic(f"sd_{factor}", pt.sqrt((user**2).sum(axis=-1)), dims=dim)
        user = user / user_sd[:, None]
    corr = pt.dot(user, user.T) * (1 - eye) + eye
    pm.Deterministic(f"corr_{factor}", corr, dims=(dim, f"{dim}2"))
    return root


def _sds(
    name: str, parts: Sequence[GroupTermPart], terms: Sequence[str], sigma: Any, dim: str
) -> Any:
    """The standard deviation of each term of a factor."""
    if parts[0].decov is not None:
        return _relative_sds(name, parts, sigma, dim)
    every = [prior for part in parts for prior in part.sd]
    if len(every) == len(terms):
        return _each(name, every, terms, (dim,))
    starts = np.cumsum([0, *(len(part.sd) for part in parts)])
    index = np.concatenate([a + part.sd_index for a, part in zip(starts, parts, strict=False)])
    free = [_each(f"{name}_free_{k}", [prior], (), ()) for k, prior in enumerate(every)]
    return pm.Deterministic(name, pt.stack(free)[index], dims=(dim,))


def _relative_sds(name: str, parts: Sequence[GroupTermPart], sigma: Any, dim: str) -> Any:
    """Sds with decov priors: of each block its size in units of sigma, and shares of its variance."""
    made, factor = [], parts[0].factor
    for k, decov in enumerate(filter(None, (part.decov for part in parts))):
        label, q = f"{factor}_{k}" if len(parts) > 1 else factor, decov.size
        sizes = None if decov.is_joint else q
        size = pm.Gamma(f"size_{label}", alpha=decov.shape, beta=1 / decov.scale, shape=sizes)
        if decov.is_joint:
            shares = pm.Dirichlet(f"shares_{label}", a=np.full(q, decov.concentration))
            size = size * pt.sqrt(q * shares)
        made.append(sigma * size)
    return pm.Deterministic(name, pt.concatenate(made), dims=(dim,))


def _cholesky(factor: str, parts: Sequence[GroupTermPart]) -> Any:
    """Cholesky factor of the correlation of centred columns, block diagonal, under LKJ priors.

    By way of partial correlations, which are independent under an LKJ prior. PyMC's own LKJCorr
    takes twice as long to compile and to evaluate, and before 6.4 its density is wrong for three
    or more terms.
    """
    rows, columns, shape = _pairs(parts)
    terms = [term for block in parts for term in block.terms]
    pair = f"{factor}_pair"
    pm.modelcontext(None).add_coord(
        pair, [f"{terms[j]}, {terms[i]}" for i, j in zip(rows, columns, strict=True)]
    )
    partial = pm.CustomDist(
        f"partial_corr_{factor}",
        shape,
        dist=_symmetric_beta,
        class_name="LKJ",
        dims=pair,
        transform=Interval(-1.0, 1.0),
    )
    given = {(i, j): partial[k] for k, (i, j) in enumerate(zip(rows, columns, strict=True))}
    entries = _factor_entries(given, len(terms), pt.sqrt)
    return pt.stack([pt.stack([pt.as_tensor(x, dtype="float64") for x in row]) for row in entries])


def _factor_entries(
    partial: Mapping[tuple[int, int], Any], q: int, root: Callable[[Any], Any]
) -> list[list[Any]]:
    """Rows of the Cholesky factor of a correlation matrix, from partial correlations by place.

    Entry by entry: for a handful of terms that compiles and runs faster than arrays do. The same
    for the scalars of a model and for arrays of draws.
    """
    entries = []
    for i in range(q):
        left: Any = 1.0
        row: list[Any] = [0.0] * q
        for j in range(i):
            if (i, j) in partial:
                r = partial[i, j]
                row[j] = r * left
                left = left * root((1 - r) * (1 + r))
        row[i] = left
        entries.append(row)
    return entries


def _symmetric_beta(shape: Any, size: Any) -> Any:
    """Beta(shape, shape) stretched to (-1, 1)."""
    return 2 * pm.Beta.dist(shape, shape, size=size) - 1


def _pairs(parts: Sequence[GroupTermPart]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the pairs of terms that correlate, and the beta shape of each."""
    found = [
        (part.columns.start + i, part.columns.start + j, shape)
        for part in parts
        for (i, j), shape in zip(part.pairs, part.beta_shapes, strict=True)
    ]
    rows, columns, shape = (np.array(each) for each in zip(*found, strict=True))
    return rows, columns, shape


def _population_part(group: GroupDesign, beta: Any) -> Any:
    """Population coefficients of the factor's terms, 0 for those that have none."""
    if (group.population < 0).all():
        return np.zeros(len(group.terms))
    if (group.population >= 0).all():
        return beta[group.population]
    return pt.switch(group.population >= 0, beta[np.maximum(group.population, 0)], 0.0)


def _by_row(group: GroupDesign, Z: np.ndarray, coefficients: Any) -> Any:
    """Shape (n,): the rows of Z times the coefficients of their levels."""
    return (Z * coefficients[group.grouping.codes]).sum(axis=-1)


def _to_user(parts: Sequence[GroupTermPart]) -> np.ndarray:
    """Shape (q, q): deviations in the user's coding from those of the blocks' own codings."""
    return np.asarray(linalg.block_diag(*(block.coding.to_user for block in parts)))


def _is_identity(matrix: np.ndarray) -> bool:
    return bool(np.array_equal(matrix, np.eye(len(matrix))))


def _each(
    name: str,
    priors: Sequence[Prior],
    terms: Sequence[str],
    dims: tuple[str, ...],
    typical: Sequence[Prior] = (),
    seen: tuple[np.ndarray, np.ndarray] | None = None,
) -> Any:
    """One variable whose last dim runs over terms, each with its own prior.

    One distribution where all priors are of one family, else one a term, stacked. ``typical``
    says where values of flat priors may be looked for, ``seen`` (mean (k,), Cholesky factor
    (k, k)) where any values may.
    """
    if priors[0].family == "MvNormal":
        return _distribution(name, priors[0].family, priors[0].parameters, dims, seen=seen)
    if not dims:
        return _stated(name, priors[0], priors[0].parameters, ())
    if len({(prior.family, prior.of) for prior in priors}) == 1:
        return _stated(name, priors[0], _columns(priors), dims, _columns(typical), seen)
    parts = [
        # A slash is a path to xarray's DataTree.
        _stated(
            f"{name}[{term.replace('/', '|')}]",
            prior,
            prior.parameters,
            dims[:-1],
            typical[k].parameters if typical else {},
            seen and (seen[0][k], np.sqrt((seen[1][k] ** 2).sum())),
        )
        for k, (term, prior) in enumerate(zip(terms, priors, strict=True))
    ]
    return pm.Deterministic(name, pt.stack(parts, axis=-1), dims=dims)


def _stated(
    name: str,
    prior: Prior,
    parameters: Mapping[str, Any],
    dims: tuple[str, ...],
    typical: Mapping[str, Any] | None = None,
    seen: tuple[Any, Any] | None = None,
) -> Any:
    """A variable with priors of one family; an sd follows from its variance or precision."""
    if prior.of == "sd":
        return _distribution(name, prior.family, parameters, dims, typical, seen)
    of = prior.of.replace("/", "_over_")  # a slash is a path to xarray's DataTree
    free = _distribution(f"{name}_{of}", prior.family, parameters, dims)
    if prior.of == "1/sqrt":
        return pm.Deterministic(name, free**-2, dims=dims or None)
    sd = pt.sqrt(free if prior.of == "variance" else 1 / free)
    return pm.Deterministic(name, sd, dims=dims or None)


def _columns(priors: Sequence[Prior]) -> dict[str, np.ndarray]:
    """Parameters of priors of one family, as arrays."""
    names = priors[0].parameters if priors else ()
    return {name: np.array([prior.parameters[name] for prior in priors]) for name in names}


def _distribution(
    name: str,
    family: str,
    parameters: Mapping[str, Any],
    dims: tuple[str, ...] = (),
    typical: Mapping[str, Any] | None = None,
    seen: tuple[Any, Any] | None = None,
) -> Any:
    """A variable of the model; coefficients are standardised for the sampler."""
    # As arrays: PyTensor would take a plain 50.0 for a float32, and overflow on a plain int.
    arrays = {key: np.asarray(value, dtype=float) for key, value in parameters.items()}
    more: dict[str, Any] = {}
    if seen is not None:
        more |= {"transform": Standardized(*seen, ndim_supp=int(family == "MvNormal"))}
        more["initval"] = seen[0]
    elif family in _LOCATION_SCALE:
        location, scale = (arrays[key] for key in _LOCATION_SCALE[family])
        more["transform"] = Standardized(location, scale)
    elif family == "MvNormal":
        sd = np.sqrt(np.diag(arrays["cov"]))
        more["transform"] = Standardized(arrays["mu"], sd, ndim_supp=1)
    elif family == "Flat" and typical:
        location, scale = np.asarray(typical["mu"]), np.asarray(typical["sigma"])
        more |= {"transform": Standardized(location, scale), "initval": location}
    return _FAMILIES[family](name, **arrays, dims=dims or None, **more)


def theta_of(posterior: xr.Dataset, design: Design, priors: ModelPriors) -> Theta:
    """Theta of every draw of a full model, in the coordinates of the priors.

    Parameters
    ----------
    posterior
        Draws of the model that ``build`` made, with all its variables.
    design, priors
        As given to ``build``.

    Returns
    -------
    Theta
        K = chains x draws values, all draws of the first chain first.
    """
    n = posterior.sizes["chain"] * posterior.sizes["draw"]
    values = {} if priors.sigma is None else {"sigma": _flat(posterior, "sigma")}
    for part in priors.parts:
        if isinstance(part, ScalarPart):
            values[part.name] = _flat(posterior, part.name)
        elif isinstance(part, ThresholdsPart):
            values["thresholds"] = _flat(posterior, "thresholds_centred")
        elif isinstance(part, ResidualStructurePart):
            values |= {name: _flat(posterior, name) for name in part.shapes}
    for factor in priors.factors:
        name, first = f"sd_{factor}", 0
        sds = _flat(posterior, f"{name}_centred" if f"{name}_centred" in posterior else name)
        for part in priors.of_factor(factor):
            own = np.unique(part.sd_index, return_index=True)[1]
            values[f"sd_{part.name}"] = sds[:, part.columns][:, own]
            if part.pairs:
                partial = _flat(posterior, f"partial_corr_{factor}")[:, first:]
                first += len(part.pairs)
                root = part.correlation_root(partial[:, : len(part.pairs)])
                values[f"corr_chol_{part.name}"] = root
    return Theta(n, values)


def _flat(posterior: xr.Dataset, name: str) -> np.ndarray:
    """Draws of one variable, chain-major, shape (K, ...)."""
    values = posterior[name].transpose("chain", "draw", ...).to_numpy()
    return values.reshape(-1, *values.shape[2:])
