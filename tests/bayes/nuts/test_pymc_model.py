"""The full model is the definition: it and the algebra must tell one story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from pytensor.compile.mode import Mode
from scipy import linalg, stats

from hierpool.algebra.gaussian import condition
from hierpool.algebra.moments import Coordinates, Moments, Rows
from hierpool.bayes.nuts import pymc_model
from hierpool.bayes.nuts.parameterization import Near
from hierpool.bayes.priors.model_priors import ModelPriors, default_priors
from hierpool.bayes.priors.prior import Prior
from hierpool.bayes.theta import ThetaMap, root_of
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError
from hierpool.core.spec import INDEPENDENT, ResidualTerm
from hierpool.core.theta import Theta
from tests.support.cases import each

PLAIN = Mode(linker="py", optimizer=None)  # no compiler: each model is evaluated thrice
N_POINTS = 3

# name -> (population columns, [(columns of a block, covariance)])
SHAPES: dict[str, tuple[list[str], list[tuple[list[str], Any]]]] = {
    "complete pooling": (["1", "x"], []),
    "varying intercept": (["1", "x"], [(["1"], "correlated")]),
    "varying slope": (["1", "x"], [(["1", "x"], "correlated")]),
    "uncorrelated": (["1", "x"], [(["1", "x"], "uncorrelated")]),
    "slope only": (["1", "x"], [(["x"], "correlated")]),
    "no intercept at all": (["x"], [(["x"], "correlated")]),
    "varies but is not common": (["1"], [(["1", "x"], "correlated")]),
    "two blocks": (["1", "x", "w"], [(["1", "x", "w"], "correlated"), (["v"], "uncorrelated")]),
    "two correlated blocks": (["1"], [(["1", "x"], "correlated"), (["v", "w"], "correlated")]),
    "categorical": (["a", "b", "c", "x"], [(["a", "b", "c"], "correlated")]),
    "six terms": (["1", "x"], [(["1", "x", "w", "v", "a", "b"], "correlated")]),
    "no pooling": ([], [(["1", "x"], "none")]),
    "no pooling, common predictor": (["k"], [(["1", "x"], "none")]),
    "no pooling of slopes": (["1"], [(["x"], "none")]),
}
POOLED = [shape for shape, (_, blocks) in SHAPES.items() if blocks and blocks[0][1] != "none"]
WORDS = ("noncentered", "centered", "alternating", "partial", "partial of some")
OTHERS = [(shape, word) for shape in POOLED for word in WORDS[1:]]


def words(design: Design, parameterization: str) -> Any:
    """As it is asked for; "alternating" is every other term centred, "of some" every other."""
    every = {"alternating": "centered", "partial of some": "partial"}
    if parameterization not in every:
        return parameterization
    pair = ("noncentered", every[parameterization])
    return {g.factor: {t: pair[k % 2] for k, t in enumerate(g.terms)} for g in design.groups}


@dataclass(frozen=True)
class Points:
    """Values of every variable of a model, and its joint log density, at random points."""

    design: Design
    priors: ModelPriors
    log_density: np.ndarray
    posterior: xr.Dataset

    def __getitem__(self, name: str) -> np.ndarray:
        return self.posterior[name].to_numpy()[0]


def evaluate(model: pm.Model, design: Design, priors: ModelPriors, seed: int = 1) -> Points:
    """The model at random points; densities are over the variables, without Jacobians."""
    variables = [*model.free_RVs, *model.deterministics]
    outputs = [model.logp(jacobian=False), *model.replace_rvs_by_values(variables)]
    compiled = model.compile_fn(
        outputs, inputs=model.value_vars, mode=PLAIN, on_unused_input="ignore"
    )
    rng = np.random.default_rng(seed)
    start = model.initial_point()
    found = [
        compiled({k: np.asarray(v + rng.normal(0, 0.6, np.shape(v))) for k, v in start.items()})
        for _ in range(N_POINTS)
    ]
    values = {
        v.name: (
            ("chain", "draw", *(model.named_vars_to_dims.get(v.name) or ())),
            np.stack([parts])[:, :],
        )
        for v, *parts in zip(
            variables, *([f[1:][i] for i in range(len(variables))] for f in found), strict=True
        )
    }
    posterior = xr.Dataset(
        values, coords={k: list(v) for k, v in model.coords.items() if k != "obs"}
    )
    return Points(design, priors, np.array([float(f[0]) for f in found]), posterior)


@pytest.fixture(scope="module")
def points(make_design: Callable[..., Design]) -> Callable[[str, str], Points]:
    """Each model built and evaluated at most once."""

    @cache
    def compute(shape: str, parameterization: Any) -> Points:
        columns, varying = SHAPES[shape]
        design = make_design(columns, varying)
        priors = default_priors(design.schema)
        model = pymc_model.build(design, priors, words(design, parameterization))
        return evaluate(model, design, priors)

    return lambda shape, parameterization="noncentered": compute(shape, parameterization)


def population(p: Points) -> tuple[np.ndarray, np.ndarray]:
    """X in the priors' coordinates, and beta at each point."""
    block, d = p.priors.population, p.design
    no_pooling = p.priors.unpooled is not None and not block.coding.has_constant
    X = (Coordinates.from_design(d).x if no_pooling else block.coding).centre(d.X)
    if not d.terms:
        return X, np.zeros((N_POINTS, 0))
    return X, p["beta_centred" if "beta_centred" in p.posterior else "beta"]


def level_roots(p: Points, theta: Theta) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Z in the priors' coordinates, prior mean (q,) of a level, root (K, q, q) of its covariance."""
    group = p.design.groups[0]
    parts = p.priors.group_parts
    Z = np.hstack([part.coding.centre(group.Z[:, columns]) for part, columns in p.priors.places()])
    return Z, np.concatenate([part.mean for part in parts]), root_of(p.priors, theta)


def deviations(p: Points, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level coefficients (K, J, q) in the priors' coordinates, and log |du / d(free variable)|."""
    if p.priors.unpooled is not None:
        name = "coef_boar_centred" if "coef_boar_centred" in p.posterior else "coef_boar"
        return p[name], np.zeros(N_POINTS)
    if "z_boar" in p.posterior:
        z = p["z_boar"]
        return np.einsum("kij,klj->kli", roots, z), z.shape[1] * np.linalg.slogdet(roots)[1]
    to_centred = linalg.block_diag(*(part.coding.to_centred for part in p.priors.group_parts))
    u = p["u_boar"] @ to_centred.T
    jacobian = np.zeros(N_POINTS)
    for k, term in enumerate(p.design.groups[0].terms):
        if f"z_boar[{term}]" in p.posterior:
            jacobian += u.shape[1] * np.log(roots[:, k, k])
    return u, jacobian


def log_conditional(p: Points, theta: Theta) -> tuple[np.ndarray, np.ndarray]:
    """log p(beta, u | theta, y) as one dense normal, and the Jacobian of the free variables."""
    X, beta = population(p)
    d, block = p.design, p.priors.population
    sd = d.residual.relative_sds(len(d.y))
    T, m0, c = X, block.mean, beta
    precision0 = [block.precision_root.T @ block.precision_root] * N_POINTS
    jacobian = np.zeros(N_POINTS)
    if d.groups:
        Z, level_mean, roots = level_roots(p, theta)
        n_levels = d.groups[0].grouping.n_levels
        u, jacobian = deviations(p, roots)
        one_hot = np.eye(n_levels)[d.groups[0].grouping.codes]
        T = np.hstack([X, np.einsum("nj,nq->njq", one_hot, Z).reshape(d.n, -1)])
        m0 = np.concatenate([m0, np.tile(level_mean, n_levels)])
        c = np.hstack([beta, u.reshape(N_POINTS, -1)])
        inverse = [np.linalg.inv(r @ r.T) for r in roots]
        precision0 = [
            linalg.block_diag(P, np.kron(np.eye(n_levels), S))
            for P, S in zip(precision0, inverse, strict=True)
        ]
    out = []
    T, y = T / sd[:, None], (d.y - d.offset) / sd
    for k in range(N_POINTS):
        precision = T.T @ T / theta.sigma[k] ** 2 + precision0[k]
        posterior_mean = np.linalg.solve(
            precision, T.T @ y / theta.sigma[k] ** 2 + precision0[k] @ m0
        )
        away = c[k] - posterior_mean
        out.append(
            0.5
            * (
                np.linalg.slogdet(precision)[1]
                - len(away) * np.log(2 * np.pi)
                - away @ precision @ away
            )
        )
    return np.array(out), jacobian


def log_marginal(p: Points, theta: Theta) -> np.ndarray:
    """log p(y | theta) by the algebra of the exact engine."""
    coordinates = Coordinates.from_design(p.design)
    rows = Rows.from_design(p.design, coordinates)
    mapping = ThetaMap.from_priors(p.priors, coordinates)
    if p.design.groups:
        rows = replace(rows, y=rows.y - rows.Z @ mapping.mean)
    working = mapping.working(theta)
    moments = Moments.from_rows(rows)
    return condition(moments, working.sigma, working.Lambda, mapping.beta).log_density


def log_prior(p: Points, theta: Theta) -> np.ndarray:
    """Log prior of theta over (sigma, sd, partial correlations)."""
    total = np.zeros(N_POINTS)
    if p.priors.sigma is not None:
        total = p.priors.sigma.distribution.logpdf(theta.sigma)
    for part in p.priors.group_terms:
        for k, prior in enumerate(part.sd):
            total = total + prior.distribution.logpdf(part.sds(theta)[:, k])
        if part.eta is not None:
            total = total + log_lkj(theta.values[f"corr_chol_{part.name}"], part.eta)
    return total


def log_lkj(cholesky: np.ndarray, eta: float) -> np.ndarray:
    """LKJ density det(R)^(eta - 1) of the correlations, taken to partial correlations.

    R -> Cholesky factor: prod_i L_ii^(q - i), i = 1..q. Rows of the factor -> partial
    correlations: each is one times the length that is left before it.
    """
    q = cholesky.shape[-1]
    diagonal = np.diagonal(cholesky, axis1=1, axis2=2)
    total = (np.log(diagonal) * (2 * eta - 2 + q - np.arange(1, q + 1))).sum(axis=-1)
    for i in range(1, q):
        left = np.sqrt(1 - np.cumsum(cholesky[:, i, : i - 1] ** 2, axis=-1))
        total = total + np.log(left).sum(axis=-1)
    return total


def gap(p: Points) -> np.ndarray:
    """What must be one constant."""
    theta = pymc_model.theta_of(p.posterior, p.design, p.priors)
    conditional, jacobian = log_conditional(p, theta)
    return p.log_density - jacobian - conditional - log_marginal(p, theta) - log_prior(p, theta)


@each("shape", SHAPES)
def test_joint_density_is_that_of_the_exact_engine(points: Callable[..., Points], shape: str):
    assert_one_constant(points(shape))


@pytest.mark.slow
@each(("shape", "parameterization"), OTHERS, ids=" ".join)
def test_every_parameterization_has_the_same_joint_density(
    points: Callable[..., Points], shape: str, parameterization: str
):
    assert_one_constant(points(shape, parameterization))
    assert_same_mean(points(shape, parameterization))


def assert_one_constant(p: Points) -> None:
    found = gap(p)
    np.testing.assert_allclose(found, found[0], rtol=0, atol=1e-8)


TERMS = {
    "weights": ResidualTerm("weights", "w"),
    "known_se": ResidualTerm("known_se", "se"),
    "offset": INDEPENDENT,
    "weights and offset": ResidualTerm("weights", "w"),
}


def of_rows(n: int) -> dict[str, dict[str, Any]]:
    """What can be known of the rows, by name."""
    rng = np.random.default_rng(3)
    weights, offset = rng.uniform(0.1, 8.0, n), rng.normal(20.0, 5.0, n)
    return {
        "weights": {"residual_values": weights},
        "known_se": {"residual_values": rng.uniform(0.5, 3.0, n)},
        "offset": {"offset": offset},
        "weights and offset": {"residual_values": weights, "offset": offset},
    }


@each("known", ["weights", "known_se", "offset", "weights and offset"])
@each("shape", ["complete pooling", "varying slope", "no pooling, common predictor"])
def test_weights_known_sds_and_offsets_keep_the_identity(
    make_design: Callable[..., Design], shape: str, known: str
) -> None:
    design = make_design(*SHAPES[shape])
    rows = replace(design.observations, **of_rows(design.n)[known])
    schema = replace(design.schema, spec=replace(design.spec, residual=TERMS[known]))
    design = Design(schema, rows).with_response(rows.y)
    priors = default_priors(design.schema)
    p = evaluate(pymc_model.build(design, priors), design, priors)
    assert ("sigma" in p.posterior) == (known != "known_se")
    np.testing.assert_allclose(gap(p), np.zeros(N_POINTS) + gap(p)[0], rtol=0, atol=1e-8)
    assert abs(gap(p)[0] - _lkj_normaliser(p.priors)) < 1e-7


@pytest.mark.slow
@each("shape", SHAPES)
def test_where_beta_is_looked_for_changes_no_density(
    make_design: Callable[..., Design], shape: str
) -> None:
    design = make_design(*SHAPES[shape])
    p = len(design.terms)
    root = np.eye(p) + 0.3 * np.arange(p)[:, None]
    near = Near(np.arange(1.0, p + 1), root @ root.T)
    priors = default_priors(design.schema)
    found = gap(evaluate(pymc_model.build(design, priors, near=near), design, priors))
    np.testing.assert_allclose(found, _lkj_normaliser(priors), rtol=0, atol=1e-7)


@pytest.mark.slow
@each("shape", ["varying intercept", "varying slope", "uncorrelated", "six terms"])
def test_partial_is_standard_normal_with_the_levels_integrated_out(
    make_design: Callable[..., Design], shape: str
) -> None:
    """Given theta and beta, what samplers see of the levels is standard normal; Jacobian included."""
    design = make_design(*SHAPES[shape])
    model = pymc_model.build(design, default_priors(design.schema), "partial")
    of_levels = [v for v in model.free_RVs if v.name.startswith("z_boar")]
    others = [v for v in model.free_RVs if v not in of_levels]
    values = [model[name] for name in ("sigma", "beta", "sd_boar")]
    if "corr_boar" in model.named_vars:
        values.append(model["corr_boar"])
    outputs = [model.logp(), model.logp(vars=others), *model.replace_rvs_by_values(values)]
    compiled = model.compile_fn(outputs, inputs=model.value_vars, mode=PLAIN)
    rng = np.random.default_rng(4)
    for _ in range(N_POINTS):
        seen = {k: v + rng.normal(0, 0.6, v.shape) for k, v in model.initial_point().items()}
        log_density, log_prior, sigma, beta, sd, *corr = compiled(seen)
        Z, codes = design.groups[0].Z * sd, design.groups[0].grouping.codes
        of_rows = Z @ (corr[0] if corr else np.eye(len(sd))) @ Z.T * (codes[:, None] == codes)
        V = of_rows + np.diag(sigma**2 * np.ones(design.n))
        marginal = stats.multivariate_normal(design.X @ beta + design.offset, V).logpdf(design.y)
        normals = sum(stats.norm.logpdf(seen[model.rvs_to_values[v].name]).sum() for v in of_levels)
        np.testing.assert_allclose(log_density, normals + log_prior + marginal, atol=1e-7)


@each("shape", SHAPES)
def test_the_constant_is_the_normaliser_of_lkj(points: Callable[..., Points], shape: str) -> None:
    p = points(shape)
    np.testing.assert_allclose(gap(p), _lkj_normaliser(p.priors), rtol=0, atol=1e-7)


def _lkj_normaliser(priors: ModelPriors) -> float:
    """Log densities at 0, on (-1, 1), of the partial correlations."""
    return float(sum(np.log(stats.beta(b, b).pdf(0.5) / 2) for b in _beta_shapes(priors)))


def _beta_shapes(priors: ModelPriors) -> list[float]:
    return [
        block.eta + (len(block.terms) - 2 - j) / 2
        for block in priors.group_terms
        if block.eta is not None
        for i in range(1, len(block.terms))
        for j in range(i)
    ]


def test_a_doubled_prior_breaks_the_identity(points: Callable[..., Points]) -> None:
    p = points("varying slope")
    block = p.priors.group_terms[0]
    doubled = Prior("HalfStudentT", nu=4, sigma=2 * block.sd[0].parameters["sigma"])
    wrong = replace(
        p.priors,
        parts=tuple(
            replace(block, sd=(doubled, block.sd[1])) if part is block else part
            for part in p.priors.parts
        ),
    )
    q = evaluate(pymc_model.build(p.design, wrong), p.design, p.priors)
    assert np.ptp(gap(q)) > 1e-3


@each("shape", SHAPES)
def test_reported_coefficients_give_the_same_mean_in_the_users_coding(
    points: Callable[..., Points], shape: str
):
    assert_same_mean(points(shape))


def assert_same_mean(p: Points) -> None:
    d, theta = p.design, pymc_model.theta_of(p.posterior, p.design, p.priors)
    mean = np.zeros((N_POINTS, d.n)) + (p["beta"] @ d.X.T if d.terms else 0.0)
    X, beta = population(p)
    expected = beta @ X.T
    if d.groups:
        group = d.groups[0]
        name = "coef_boar" if p.priors.unpooled is not None else "u_boar"
        mean += np.einsum("nq,knq->kn", group.Z, p[name][:, group.grouping.codes])
        Z, _, roots = level_roots(p, theta)
        expected = expected + np.einsum(
            "nq,knq->kn", Z, deviations(p, roots)[0][:, group.grouping.codes]
        )
    np.testing.assert_allclose(mean, expected, atol=1e-8)


@pytest.mark.parametrize(
    "shape", ["varying slope", "two blocks", "two correlated blocks", "categorical"]
)
def test_sds_and_correlations_are_those_of_the_exact_engine(
    points: Callable[..., Points], shape: str
) -> None:
    p = points(shape)
    mapping = ThetaMap.from_priors(p.priors, Coordinates.from_design(p.design))
    sd, corr = mapping.sd_and_corr(pymc_model.theta_of(p.posterior, p.design, p.priors))
    np.testing.assert_allclose(p["sd_boar"], sd, rtol=1e-10)
    np.testing.assert_allclose(p["corr_boar"], corr, atol=1e-10)


def test_coefficients_are_population_plus_deviation_on_the_terms_that_vary(
    points: Callable[..., Points],
) -> None:
    p = points("varies but is not common")
    expected = p["u_boar"] + np.stack([p["beta"][:, [0]], np.zeros((N_POINTS, 1))], axis=-1)
    np.testing.assert_allclose(p["coef_boar"], expected)


def variables(design: Design, parameterization: Any = "noncentered") -> tuple[set[str], set[str]]:
    model = pymc_model.build(design, default_priors(design.schema), parameterization)
    return {v.name for v in model.free_RVs}, {v.name for v in model.deterministics}


def test_variables_of_a_varying_slope(make_design: Callable[..., Design]) -> None:
    design = make_design(*SHAPES["varying slope"])
    free, made = variables(design)
    assert free == {"sigma", "beta_centred", "sd_boar_centred", "partial_corr_boar", "z_boar"}
    assert made == {"beta", "sd_boar", "corr_boar", "u_boar", "coef_boar"}
    free, _ = variables(design, "centered")
    assert free == {
        "sigma",
        "beta_centred",
        "sd_boar_centred",
        "partial_corr_boar",
        "coef_boar_centred[1]",
        "coef_boar_centred[x]",
    }


def test_no_variable_twice_where_the_coding_is_the_users(
    make_design: Callable[..., Design],
) -> None:
    assert variables(make_design(["x"], [(["x"], "correlated")]), "centered") == (
        {"sigma", "beta", "sd_boar", "coef_boar[x]"},
        {"u_boar", "coef_boar"},
    )
    assert variables(make_design(["1"], [(["1"], "none")])) == (
        {"sigma", "beta", "coef_boar"},
        set(),
    )


def test_no_pooling_has_own_coefficients_only(make_design: Callable[..., Design]) -> None:
    assert variables(make_design(*SHAPES["no pooling"])) == (
        {"sigma", "coef_boar_centred"},
        {"coef_boar"},
    )


def test_dims_and_labels_are_those_of_the_vocabulary(make_design: Callable[..., Design]) -> None:
    design = make_design(*SHAPES["varying slope"], levels=[11, 12, 13, 14, 15])
    model = pymc_model.build(design, default_priors(design.schema))
    dims = model.named_vars_to_dims
    assert dims["beta"] == ("term",)
    assert dims["u_boar"] == dims["coef_boar"] == ("boar", "boar_term")
    assert dims["sd_boar"] == ("boar_term",)
    assert dims["corr_boar"] == ("boar_term", "boar_term2")
    assert dims["y"] == ("obs",)
    assert list(model.coords["boar"]) == [11, 12, 13, 14, 15]
    assert list(model.coords["boar_term"]) == ["1", "x"]
    assert "corr_boar" not in variables(make_design(*SHAPES["uncorrelated"]))[1]


def with_first_part(priors: ModelPriors, **changed: Any) -> ModelPriors:
    """The priors with some fields of the first part of theta changed."""
    return replace(priors, parts=(replace(priors.parts[0], **changed), *priors.parts[1:]))


SKEWED = (Prior("Exponential", lam=0.5), Prior("Gamma", alpha=2, beta=1))
COVARIANCE = ((900.0, 30.0), (30.0, 25.0))
OTHER_PRIORS: dict[str, Callable[[ModelPriors], ModelPriors]] = {
    "sds of two families": lambda p: with_first_part(p, sd=SKEWED),
    "another eta": lambda p: with_first_part(p, eta=2.5),
    "joint": lambda p: with_population(p, (Prior("MvNormal", mu=(9, 1), cov=COVARIANCE),) * 2),
    "flat": lambda p: with_population(p, (Prior("Flat"), Prior("Flat"))),
    "flat slope": lambda p: with_population(p, (p.population.priors[0], Prior("Flat"))),
    "user's own scale": lambda p: replace(
        p, population=replace(p.population, coding=p.population.coding.uncentred())
    ),
}


def with_population(p: ModelPriors, priors: tuple[Prior, ...]) -> ModelPriors:
    return replace(p, population=replace(p.population, priors=priors))


@pytest.mark.parametrize("name", OTHER_PRIORS)
def test_other_priors_keep_the_identity(make_design: Callable[..., Design], name: str) -> None:
    design = make_design(*SHAPES["varying slope"])
    priors = OTHER_PRIORS[name](default_priors(design.schema))
    found = gap(evaluate(pymc_model.build(design, priors), design, priors))
    np.testing.assert_allclose(found, found[0], rtol=0, atol=1e-8)


def test_priors_of_mixed_families_are_stacked(make_design: Callable[..., Design]) -> None:
    design = make_design(*SHAPES["varying slope"])
    priors = default_priors(design.schema)
    normal = priors.population.priors[0]
    mixed = with_population(priors, (normal, Prior("StudentT", nu=3, mu=0, sigma=2)))
    p = evaluate(pymc_model.build(design, mixed), design, mixed)
    plain = evaluate(pymc_model.build(design, priors), design, priors)
    assert p.posterior["beta_centred"].dims == plain.posterior["beta_centred"].dims
    np.testing.assert_array_equal(p["beta_centred"][:, 1], p["beta_centred[x]"])


@each(
    "prior",
    [
        Prior("Normal", mu=1, sigma=2),
        Prior("StudentT", nu=3, mu=1, sigma=2),
        Prior("Cauchy", alpha=1, beta=2),
        Prior("HalfNormal", sigma=2),
        Prior("HalfStudentT", nu=4, sigma=2),
        Prior("HalfCauchy", beta=2),
        Prior("Exponential", lam=0.5),
        Prior("Gamma", alpha=2, beta=3),
        Prior("InverseGamma", alpha=2, beta=3),
        Prior("LogNormal", mu=0.1, sigma=0.7),
        Prior("Uniform", lower=0, upper=4),
    ],
    ids=lambda prior: prior.family,
)
def test_families_have_the_densities_of_the_priors(prior: Prior) -> None:
    family = pymc_model._FAMILIES[prior.family]
    at = np.array([0.2, 1.0, 3.1])
    exact = {name: np.asarray(value) for name, value in prior.parameters.items()}
    found = pm.logp(family.dist(**exact), at).eval(mode=PLAIN)
    np.testing.assert_allclose(found, prior.distribution.logpdf(at), rtol=1e-8)


def test_response_and_predictors_at_1e9_lose_nothing(make_design: Callable[..., Design]) -> None:
    near, far = (
        make_design(*SHAPES["varying slope"], response_shift=s, predictor_shift=s)
        for s in (0.0, 1e9)
    )
    values = [
        evaluate(
            pymc_model.build(d, default_priors(d.schema)), d, default_priors(d.schema)
        ).log_density
        for d in (near, far)
    ]
    np.testing.assert_allclose(values[0], values[1], atol=1e-3)


def test_unknown_parameterization_is_answered_with_the_nearest(
    make_design: Callable[..., Design],
) -> None:
    design = make_design()
    with pytest.raises(ArgumentError, match="did you mean 'noncentered'"):
        pymc_model.build(design, default_priors(design.schema), "non-centred")  # type: ignore[arg-type]


def test_a_word_can_be_given_by_factor_and_term(make_design: Callable[..., Design]) -> None:
    design = make_design(*SHAPES["varying slope"])
    free, _ = variables(design, {"boar": {"1": "centered", "x": "noncentered"}})
    assert {"coef_boar_centred[1]", "z_boar[x]"} <= free
    free, _ = variables(design, {"boar": {"1": "partial", "x": "noncentered"}})
    assert {"z_boar[1]", "z_boar[x]"} <= free
    with pytest.raises(ArgumentError, match="both 'centered' and 'partial'"):
        variables(design, {"boar": {"1": "partial", "x": "centered"}})
    for wrong in ({"bear": "centered"}, {"boar": {"y": "centered"}}):
        with pytest.raises(ArgumentError, match="parameterization names no"):
            variables(design, wrong)
