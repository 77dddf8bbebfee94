"""Related levels are what a dense Gaussian says: density, gradient, coefficients, rows left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import hierpool as hp
from hierpool.algebra import choose
from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.errors import HierpoolError
from hierpool.core.theta import WorkingTheta
from hierpool.core.threads import one_blas_thread
from hierpool.formula.pedigrees import read_pedigree
from hierpool.reml.criterion import Criterion
from tests.laws.dense import normal_log_density, restricted_log_density, wide

FORMULAS = {
    "y ~ x + (1 | animal)": ("animal",),
    "y ~ x + (1 | animal) + (1 | id)": ("animal",),
    "y ~ x + (1 | animal) + (x || litter)": ("animal",),
    "y ~ x + (1 | animal) + (1 | region)": ("animal", "region"),
    "y ~ x + (x | animal)": ("animal",),
}

QUICK = "y ~ x + (1 | animal) + (1 | id)"
EACH = pytest.mark.parametrize(
    "formula", [pytest.param(f, marks=[pytest.mark.slow] * (f != QUICK)) for f in FORMULAS]
)


def pedigree(rng: np.random.Generator, founders: int = 8, young: int = 22) -> pd.DataFrame:
    """Animals with few parents, so that some are inbred, the young first."""
    rows = [(f"a{k}", None, None) for k in range(founders)]
    for k in range(founders, founders + young):
        sire, dam = rng.integers(0, k // 2), rng.integers(k // 2, k)
        rows.append((f"a{k}", f"a{sire}", f"a{dam}" if k % 7 else None))
    return pd.DataFrame(rows, columns=["animal", "sire", "dam"]).iloc[::-1]


def tabular(table: pd.DataFrame) -> pd.DataFrame:
    """The relationship matrix by the tabular method, from the oldest animal to the youngest."""
    old_first = table.iloc[::-1]
    names, place = list(old_first.animal), {None: None}
    A = np.zeros((len(names), len(names)))
    for i, (name, sire, dam) in enumerate(old_first.itertuples(index=False)):
        s, d = place.get(sire), place.get(dam)
        row = sum((0.5 * A[k] for k in (s, d) if k is not None), np.zeros(len(names)))
        A[i], A[:, i] = row, row
        A[i, i] = 1 + (0.5 * A[s, d] if s is not None and d is not None else 0)
        place[name] = i
    return pd.DataFrame(A, names, names)


@pytest.fixture(params=[1000, -1], ids=["turned", "sparse"])
def way(request, monkeypatch) -> str:
    """Both ways to related levels: turned to a diagonal, and by sparse equations."""
    monkeypatch.setattr(choose, "MOST_TURNED", request.param)
    return "turned" if request.param > 0 else "sparse"


@pytest.fixture(scope="module")
def animals() -> tuple[pd.DataFrame, dict[str, object], dict[str, np.ndarray]]:
    """Rows in no order with weights; relationships; and the same as matrices."""
    rng = np.random.default_rng(3)
    table = pedigree(rng)
    n = 60
    data = pd.DataFrame(
        {
            "animal": rng.choice(table.animal[:24], n),  # some without rows
            "litter": rng.integers(0, 6, n),
            "region": rng.choice(list("pqrst"), n),
            "x": rng.normal(2, 1, n),
            "w": rng.uniform(0.5, 2, n),
        }
    )
    data["id"] = data.animal
    A = tabular(table)
    near = np.exp(-np.abs(np.subtract.outer(np.arange(5), np.arange(5))) / 2.0)
    region = pd.DataFrame(near, list("pqrst"), list("pqrst"))
    u = np.linalg.cholesky(A.to_numpy()) @ rng.normal(size=len(A))
    data["y"] = 10 + data.x + u[A.index.get_indexer(data.animal)] + rng.normal(size=n)
    return data, {"animal": table, "region": region}, {"animal": A, "region": region}


def made(animals, formula: str) -> tuple[hp.Model, list[np.ndarray]]:
    """The model, and for each factor the relationship between its levels."""
    data, given, known = animals
    related = {name: given[name] for name in FORMULAS.get(formula, ("animal",))}
    model = hp.Model(formula, data, weights="w", relationship=related)
    matrices = []
    for g in model.design.groups:
        levels = g.grouping.levels
        matrices.append(
            known[g.factor].loc[levels, levels].to_numpy()
            if g.factor in related
            else np.eye(len(levels))
        )
    return model, matrices


def covariance(design, matrices, sigma: float, Lambda: np.ndarray) -> np.ndarray:
    """Of the rows given beta, in working coordinates (those of Lambda)."""
    V = sigma**2 * np.diag(design.residual.relative_sd**2 * np.ones(design.n))
    for g, A, at in zip(design.groups, matrices, design.group_columns, strict=True):
        z = wide(g.schema.coding.work(g.Z), g.grouping.codes, g.grouping.n_levels)
        V += sigma**2 * z @ np.kron(A, Lambda[at, at] @ Lambda[at, at].T) @ z.T
    return V


def test_pedigree_is_what_the_tabular_method_says(animals):
    known = animals[2]
    model, _ = made(animals, "y ~ x + (1 | animal)")
    related = model.design.groups[0].schema.related.relationship
    A = known["animal"].loc[list(related.labels), list(related.labels)].to_numpy()
    every = np.arange(len(A))
    np.testing.assert_allclose(related.between(every, every), A, atol=1e-12)
    np.testing.assert_allclose(related.inbreeding, np.diag(A) - 1, atol=1e-14)
    assert related.inbreeding.max() > 0.1


@EACH
def test_density_and_rows_left_out_are_those_of_a_dense_gaussian(animals, formula, way):
    model, matrices = made(animals, formula)
    design = model.design
    target = LogPosterior.from_design(design, model.priors)
    algebra, K, Q = target.integrated, 3, design.group_columns[-1].stop
    rng = np.random.default_rng(1)
    Lambda = np.stack([np.diag(rng.uniform(0.3, 1.5, Q)) for _ in range(K)])
    if design.groups[0].has_correlation:
        Lambda[:, 1, 0] = [0.5, -0.4, 0.1]
    theta = WorkingTheta(rng.uniform(0.8, 2, K), Lambda)
    X = algebra.coordinates.x.work(design.X)
    y = design.y - algebra.coordinates.y_shift
    prior = np.linalg.inv(algebra.prior.precision)
    mean = X @ algebra.prior.mean
    whole = [
        covariance(design, matrices, s, L) + X @ prior @ X.T
        for s, L in zip(theta.sigma, Lambda, strict=True)
    ]
    dense = [normal_log_density(y, mean, V) for V in whole]
    np.testing.assert_allclose(algebra.log_density(theta), dense, atol=1e-9)
    grouping = design.groups[0].grouping
    by_row, by_level = (
        algebra.log_density_of_rows(theta),
        algebra.log_density_of_levels(theta, grouping),
    )
    for k, V in enumerate(whole):
        inverse, level = np.linalg.inv(V), np.flatnonzero(grouping.codes == 2)
        off = inverse @ (y - mean) / np.diag(inverse)
        rows = -0.5 * (np.log(2 * np.pi / np.diag(inverse)) + off**2 * np.diag(inverse))
        np.testing.assert_allclose(by_row[k], rows, atol=1e-9)
        rest = np.setdiff1d(np.arange(design.n), level)
        without = normal_log_density(y[rest], mean[rest], V[np.ix_(rest, rest)])
        assert by_level[2, k] == pytest.approx(dense[k] - without, abs=1e-8)
    kept = algebra.without(np.arange(5))
    part = [normal_log_density(y[5:], mean[5:], V[5:, 5:]) for V in whole]
    np.testing.assert_allclose(kept.log_density(theta), part, atol=1e-9)


@pytest.mark.parametrize("method", ["REML", "ML"])
@EACH
def test_gradient_is_that_of_differences(animals, formula, method, way):
    model, _ = made(animals, formula)
    criterion = Criterion.from_design(model.design, method)
    at = np.linspace(0.4, 1.1, criterion.n_free)
    value, gradient = criterion.value_and_gradient(at)
    assert value == pytest.approx(criterion.deviance(at[None])[0], abs=1e-9)
    steps = 1e-5 * np.eye(len(at))
    differences = (criterion.deviance(at + steps) - criterion.deviance(at - steps)) / 2e-5
    np.testing.assert_allclose(gradient, differences, atol=1e-6)


@EACH
def test_reml_and_its_breeding_values_are_henderson_s(animals, formula, way):
    model, matrices = made(animals, formula)
    design, fit = model.design, model.reml()
    e, codings = fit.estimate, [g.schema.coding for g in design.groups]
    Lambda = e.relative_covariance_factor
    V = covariance(design, matrices, e.sigma, Lambda)
    assert fit.loglik == pytest.approx(restricted_log_density(design.y, design.X, V), abs=1e-7)
    XV = np.linalg.solve(V, design.X)
    beta = np.linalg.solve(design.X.T @ XV, XV.T @ design.y)
    np.testing.assert_allclose(e.beta, beta, atol=1e-7)
    P = np.linalg.inv(V) - XV @ np.linalg.solve(design.X.T @ XV, XV.T)
    blocks = zip(design.groups, matrices, design.group_columns, codings, strict=True)
    for g, A, at, coding in blocks:
        root = coding.from_working @ Lambda[at, at] * e.sigma
        G = np.kron(A, root @ root.T)
        ZG = wide(g.Z, g.grouping.codes, g.grouping.n_levels) @ G
        own = e.of(g.factor)
        np.testing.assert_allclose(own.u.reshape(-1), ZG.T @ P @ design.y, atol=1e-6)
        error = np.diag(G - ZG.T @ P @ ZG).reshape(own.u.shape)
        np.testing.assert_allclose(np.einsum("jaa->ja", own.u_pev), error, atol=1e-6)


@pytest.mark.slow
def test_draws_have_the_moments_of_the_conditional_normal(animals, way):
    model, matrices = made(animals, "y ~ x + (1 | animal) + (1 | id)")
    design = model.design
    target = LogPosterior.from_design(design, model.priors)
    Lambda = np.broadcast_to(np.diag([0.9, 0.5]), (4000, 2, 2))
    theta = WorkingTheta(np.full(4000, 1.2), Lambda)
    with one_blas_thread():
        drawn = target.integrated.draw(theta, seed=1)["u_animal"][..., 0]
    one = theta[:1]
    mean = target.integrated.mean_coefficients(one)["u_animal"][0, :, 0]
    V = covariance(design, matrices, 1.2, Lambda[0])
    prior = np.linalg.inv(target.integrated.prior.precision)
    X = target.integrated.coordinates.x.work(design.X)
    Z = wide(design.groups[0].Z, design.groups[0].grouping.codes, len(mean))
    ZG = Z @ (1.2**2 * 0.81 * matrices[0])
    whole = V + X @ prior @ X.T
    y = design.y - target.integrated.coordinates.y_shift - X @ target.integrated.prior.mean
    np.testing.assert_allclose(mean, ZG.T @ np.linalg.solve(whole, y), atol=1e-9)
    cov = 1.2**2 * 0.81 * matrices[0] - ZG.T @ np.linalg.solve(whole, ZG)
    z = (drawn.mean(axis=0) - mean) / np.sqrt(np.diag(cov) / 4000)
    assert np.abs(z).max() < 4.5
    assert (
        np.abs(
            np.cov(drawn.T) / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
            - (cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov))))
        ).max()
        < 0.1
    )


@pytest.mark.slow
def test_pymc_model_has_the_same_prior_of_the_levels_and_the_same_rows(animals):
    model, matrices = made(animals, "y ~ x + (1 | animal) + (1 | litter)")
    pymc = model.to_pymc()
    names = ["u_animal", "u_litter", "sd_animal", "sd_litter", "sigma", "beta"]
    own = pymc.logp(vars=[pymc["y"], pymc["z_animal"]], jacobian=False)
    outputs = pymc.replace_rvs_by_values([pymc[name] for name in names])
    compiled = pymc.compile_fn([own, *outputs], inputs=pymc.value_vars, on_unused_input="ignore")
    rng = np.random.default_rng(2)
    start = pymc.initial_point()
    point = {k: np.asarray(v + rng.normal(0, 0.5, np.shape(v))) for k, v in start.items()}
    found, animal, litter, sd, _, sigma, beta = compiled(point)
    d = model.design
    mean = d.X @ beta + animal[d.groups[0].codes, 0] + litter[d.groups[1].codes, 0]
    residual = np.diag((sigma * d.residual.relative_sd) ** 2)
    J = len(animal)
    expected = normal_log_density(d.y, mean, residual)
    expected += normal_log_density(animal[:, 0], np.zeros(J), sd[0] ** 2 * matrices[0])
    expected += J * np.log(sd[0]) + np.linalg.slogdet(matrices[0])[1] / 2  # from u to z
    assert float(found) == pytest.approx(expected, abs=1e-8)


@pytest.mark.slow
def test_identity_as_relationship_is_the_ordinary_model(animals, way):
    data, _, _ = animals
    names = sorted(set(data.animal))
    identity = pd.DataFrame(np.eye(len(names)), names, names)
    plain = hp.Model("y ~ x + (1 | animal) + (1 | litter)", data).reml()
    same = hp.Model(
        "y ~ x + (1 | animal) + (1 | litter)", data, relationship={"animal": identity}
    ).reml()
    assert same.loglik == pytest.approx(plain.loglik, abs=1e-7)
    np.testing.assert_allclose(
        same.fixed_effects(df="satterthwaite")[["estimate", "se", "df"]],
        plain.fixed_effects(df="satterthwaite")[["estimate", "se", "df"]],
        rtol=1e-4,
    )
    np.testing.assert_allclose(same.random_effects(), plain.random_effects(), atol=1e-5)


def test_beef_calves_of_the_textbook():
    """Mrode and Thompson (2014), Linear Models for the Prediction of Animal Breeding Values, example 3.1.

    With variances 20 and 40: effects of sex, breeding values and their standard errors as printed.
    """
    unknown = None
    calves = pd.DataFrame(
        {
            "animal": [4, 5, 6, 7, 8],
            "sire": [1, 3, 1, 4, 3],
            "dam": [unknown, 2, 2, 5, 6],
            "sex": ["M", "F", "F", "M", "M"],
            "gain": [4.5, 2.9, 3.9, 3.5, 5.0],
        }
    )
    model = hp.Model("gain ~ 0 + sex + (1 | animal)", calves, relationship={"animal": calves})
    at = Criterion.from_design(model.design, "REML").algebra.at(np.array([[np.sqrt(20 / 40)]]))
    beta = Criterion.from_design(model.design, "REML").coordinates.beta_to_user(at.marginal.beta[0])
    np.testing.assert_allclose(beta, [3.404, 4.358], atol=6e-4)
    u = at.levels()[0].u[:, 0]
    np.testing.assert_allclose(u, [-0.009, -0.186, 0.177, -0.249, 0.183], atol=6e-4)
    own = LevelPart(np.arange(5), np.arange(5), np.ones((5, 1)))
    error = np.sqrt(40 * at.variance(Combinations(np.zeros((5, 2)), (own,))))
    np.testing.assert_allclose(error, [4.137, 4.138, 4.205, 4.205, 4.109], atol=2e-3)


def test_icar_is_a_precision(animals):
    """Neighbours on a line: the pseudo-inverse of the graph's Laplacian, scaled."""
    names = list("pqrst")
    near = np.diag(np.ones(4), 1) + np.diag(np.ones(4), -1)
    Q = pd.DataFrame(np.diag(near.sum(axis=1)) - near, names, names)
    model = hp.Model("y ~ x + (1 | region)", animals[0], relationship={"region": {"precision": Q}})
    related = model.design.groups[0].schema.related
    K = linalg.pinvh(Q.to_numpy())
    K /= np.exp(np.log(np.diag(K)).mean())
    np.testing.assert_allclose(related.covariance, K, atol=1e-12)
    assert "precision matrix of 5, divided by" in repr(model)
    assert np.isfinite(model.reml().loglik)


def test_breeding_values_of_all_animals_are_those_of_henderson(animals, way):
    """Also of those without rows; from the whole relationship matrix."""
    model, matrices = made(animals, QUICK)
    fit = model.reml()
    e, design = fit.estimate, model.design
    table = hp.breeding_values(fit)
    A = animals[2]["animal"].loc[table.index, table.index].to_numpy()
    Z = (np.array(animals[0].animal)[:, None] == np.array(table.index)).astype(float)
    variance = e.of("animal").sd[0] ** 2
    V = covariance(design, matrices, e.sigma, e.relative_covariance_factor)
    XV = np.linalg.solve(V, design.X)
    P = np.linalg.inv(V) - XV @ np.linalg.solve(design.X.T @ XV, XV.T)
    GZ = variance * A @ Z.T
    np.testing.assert_allclose(table.estimate, GZ @ P @ design.y, atol=1e-6)
    error = np.diag(variance * A - GZ @ P @ GZ.T)
    np.testing.assert_allclose(table.se, np.sqrt(error), atol=1e-6)
    np.testing.assert_allclose(table.reliability, 1 - error / (variance * np.diag(A)), atol=1e-6)
    assert (table.n_rows == 0).sum() > 5
    share = hp.heritability(fit).estimate.iloc[0]
    residual = e.sigma**2 * design.residual.mean_square
    assert share == pytest.approx(variance / (variance + e.of("id").sd[0] ** 2 + residual))


@pytest.mark.slow
def test_posterior_breeding_values_ranks_and_heritability(animals, way):
    data, given, _ = animals
    model = hp.Model("y ~ x + (1 | animal)", data, relationship={"animal": given["animal"]})
    fit = model.fit(seed=1, draws=500)
    assert fit.info["engine"] == "exact"
    table = hp.breeding_values(fit, top=0.2)
    assert table.p_top.sum() == pytest.approx(round(0.2 * len(table)))
    assert table.mean_rank.sum() == pytest.approx(len(table) * (len(table) + 1) / 2)
    own = fit.random_effects(diagnostics=False)["mean"].to_numpy()
    levels = model.design.groups[0].grouping.levels
    np.testing.assert_allclose(table.loc[levels, "mean"], own, atol=0.15 * table["sd"].mean())
    without = table[table.n_rows == 0]
    assert (without["sd"] > 0).all()
    drawn = fit.draws["posterior"]
    h2 = drawn.sd_animal**2 / (drawn.sd_animal**2 + drawn.sigma**2)
    assert hp.heritability(fit)["mean"].iloc[0] == pytest.approx(float(h2.mean()))
    scores = fit.loo()
    assert scores.n_data_points == len(data)


WRONG = {
    "not-in-relationship": (lambda t: t[t.animal != "a10"].replace("a10", None), "a10"),
    "pedigree-loop": (lambda t: t.assign(sire=np.where(t.animal == "a0", "a29", t.sire)), "a0"),
    "bad-pedigree": (lambda t: pd.concat([t, t[t.animal == "a4"]]), "a4"),
    "relationship-not-positive": (lambda t: _matrix(t, 3.0), "eigenvalue"),
    "bad-relationship": (lambda t: _matrix(t, 0.1).iloc[:-1], "same labels"),
}


def _matrix(table: pd.DataFrame, off: float) -> pd.DataFrame:
    n = len(table)
    A = np.eye(n)
    A[0, 1] = A[1, 0] = off
    return pd.DataFrame(A, table.animal.to_numpy(), table.animal.to_numpy())


@pytest.mark.parametrize("code", WRONG)
def test_a_relationship_that_cannot_be_one_is_an_error(animals, code):
    data, given, _ = animals
    wrong, name = WRONG[code]
    rows = data.assign(animal=data.animal.where(data.index != 0, "a10"))
    with pytest.raises(HierpoolError, match=name) as caught:
        hp.Model("y ~ x + (1 | animal)", rows, relationship={"animal": wrong(given["animal"])})
    assert caught.value.code == code


NO_TABLE = {
    "lacks 'dam': if no dam is known, pedigree": lambda t: t.drop(columns="dam"),
    "lacks 'animal': its index is one": lambda t: t.set_index("animal"),
    "lacks 'sire', 'dam'": lambda t: t[["animal"]],
    "name different parents": lambda t: pd.concat([t, t[t.animal == "a28"].assign(dam="a1")]),
    "did you mean 'precision'": lambda t: {"percision": _matrix(t, 0.1)},
    "labels on both axes": lambda t: _matrix(t, 0.1).to_numpy(),
    "this is None": lambda t: None,
    "all cells are equal": lambda t: _matrix(t, 0.1) * 0 + 1,
}


@pytest.mark.parametrize("words", NO_TABLE)
def test_what_is_no_pedigree_and_no_matrix_is_named(animals, words):
    data, given, _ = animals
    with pytest.raises(HierpoolError, match=words):
        hp.Model(
            "y ~ x + (1 | animal)", data, relationship={"animal": NO_TABLE[words](given["animal"])}
        )


def test_parents_read_as_text_are_the_animals_that_are_numbers():
    table = pd.DataFrame({"animal": [1, 2, 3, 4], "sire": [0, 0, 1, 3], "dam": [0, 0, 2, 2]})
    as_text = table.assign(sire=[".", ".", " 1", "3"], dam=[".", ".", "2", "2"])
    one, other = (read_pedigree(t, "animal") for t in (table, as_text))
    assert list(other.labels) == list(one.labels)
    every = np.arange(4)
    assert (other.between(every, every) == one.between(every, every)).all()


def test_a_sire_that_is_a_dam_too_is_told(animals):
    data, given, _ = animals
    table = given["animal"].assign(
        dam=lambda t: np.where(t.animal == "a29", t.sire[t.animal == "a28"], t.dam)
    )
    model = hp.Model("y ~ x + (1 | animal)", data, relationship={"animal": table})
    (told,) = [f for f in model.notices if f.code == "sire-and-dam"]
    assert told.severity == "warning"


def test_an_animal_without_rows_is_not_predicted_as_a_stranger_unasked(animals):
    data, given, _ = animals
    some = data[data.animal != "a20"]
    fit = hp.Model("y ~ x + (1 | animal)", some, relationship={"animal": given["animal"]}).reml()
    with pytest.raises(HierpoolError, match=r"hp\.breeding_values\(fit\) has what relatives tell"):
        fit.predict(data.head(1).assign(animal="a20"))
    with pytest.raises(HierpoolError, match="Write groups='allow new'"):
        fit.predict(data.head(1).assign(animal="b20"))


def test_several_rows_of_an_animal_need_a_term_of_their_own(animals):
    model, _ = made(animals, "y ~ x + (1 | animal)")
    (told,) = [f for f in model.notices if f.code == "repeated-related"]
    assert "add (1 | own_animal)" in told.text
    beside, _ = made(animals, QUICK)
    assert not [f for f in beside.notices if f.code == "repeated-related"]


def test_breeding_values_of_a_lone_slope_are_in_its_own_unit(animals, way):
    model, _ = made(animals, "y ~ x + (0 + x | animal)")
    fit = model.reml()
    own = fit.random_effects().loc["animal"].droplevel("term")
    assert own["se"].min() > 0
    values = hp.breeding_values(fit).loc[own.index]
    np.testing.assert_allclose(values["estimate"], own["estimate"], rtol=1e-7)
    np.testing.assert_allclose(values["se"], own["se"], rtol=1e-6)
