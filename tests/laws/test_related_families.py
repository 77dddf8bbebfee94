"""Related groups of responses that are not Gaussian: PyMC has the model, NUTS its posterior."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.core.errors import HierpoolError
from tests.laws.dense import normal_log_density
from tests.laws.test_relationships import pedigree, tabular


def data() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts, ratings and successes of animals over time; their pedigree."""
    rng = np.random.default_rng(4)
    table = pedigree(rng)
    A = tabular(table)
    u = pd.Series(np.linalg.cholesky(A) @ rng.normal(0, 0.8, len(A)), A.index)
    made = pd.DataFrame({"animal": np.repeat(table.animal[:20].to_numpy(), 4)})
    made["x"] = rng.normal(size=len(made))
    eta = 0.5 * made.x + made.animal.map(u)
    made["count"] = rng.poisson(np.exp(0.5 + eta))
    made["sick"] = (eta + rng.logistic(size=len(made)) > 0).astype(int)
    made["score"] = np.digitize(eta + rng.normal(size=len(made)), [-1, 0, 1]) + 1
    return made, table


FAMILIES = {"count": "poisson", "sick": "bernoulli"}


@pytest.mark.slow
@pytest.mark.parametrize("response", FAMILIES)
def test_pymc_has_the_joint_density(response: str) -> None:
    made, table = data()
    model = hp.Model(
        f"{response} ~ x + (1 | animal)",
        made,
        family=FAMILIES[response],
        relationship={"animal": table},
    )
    pymc = model.to_pymc()
    names = ["u_animal", "sd_animal", "beta"]
    own = pymc.logp(vars=[pymc["y"], pymc["z_animal"]], jacobian=False)
    outputs = pymc.replace_rvs_by_values([pymc[name] for name in names])
    compiled = pymc.compile_fn([own, *outputs], inputs=pymc.value_vars, on_unused_input="ignore")
    rng, start = np.random.default_rng(2), pymc.initial_point()
    point = {k: np.asarray(v + rng.normal(0, 0.5, np.shape(v))) for k, v in start.items()}
    found, u, sd, beta = compiled(point)
    d = model.design
    eta, J = d.X @ beta + u[d.groups[0].codes, 0], len(u)
    if response == "count":
        expected = stats.poisson.logpmf(made["count"], np.exp(eta)).sum()
    else:
        expected = stats.bernoulli.logpmf(made["sick"], 1 / (1 + np.exp(-eta))).sum()
    levels = d.groups[0].grouping.levels
    A = tabular(table).loc[levels, levels].to_numpy()
    expected += normal_log_density(u[:, 0], np.zeros(J), sd[0] ** 2 * A)
    expected += J * np.log(sd[0]) + np.linalg.slogdet(A)[1] / 2  # from u to z
    assert float(found) == pytest.approx(expected, abs=1e-8)


def test_what_is_not_to_be_had_says_what_is() -> None:
    made, table = data()
    formula, given = "count ~ x + (1 | animal)", {"animal": table}
    model = hp.Model(formula, made, family="poisson", relationship=given)
    with pytest.raises(HierpoolError, match=r"no maximum likelihood.*model\.fit\(\)") as caught:
        model.ml()
    assert caught.value.code == "relationship-unsupported"
    with pytest.raises(HierpoolError, match=r"animal are related.*engine='nuts'") as caught:
        model.fit(engine="exact")
    assert caught.value.code == "beyond-quadrature"
    many = pd.DataFrame({"animal": np.arange(1, 3002), "sire": 0, "dam": 0})
    rows = pd.DataFrame({"animal": np.repeat(many.animal, 2), "y": np.arange(6002) % 3})
    rows["time"] = np.arange(6002) % 2
    for more, said in (
        ({"family": "poisson"}, "family='poisson'"),
        ({"residual": "ar1(time | animal)"}, "ar1"),
    ):
        with pytest.raises(HierpoolError, match=rf"{said}.* takes 3,000 related groups.*3,001"):
            hp.Model("y ~ 1 + (1 | animal)", rows, relationship={"animal": many}, **more)


@pytest.mark.samplers
@pytest.mark.slow
def test_threshold_model_has_breeding_values_and_heritability_and_is_saved(tmp_path) -> None:
    made, table = data()
    model = hp.Model(
        "score ~ x + (1 | animal)", made, family="cumulative", relationship={"animal": table}
    )
    fit = model.fit(engine="nuts", draws=300, tune=300, chains=2, seed=1)
    values = hp.breeding_values(fit)
    own = fit.random_effects(diagnostics=False)["mean"].droplevel(["factor", "term"])
    np.testing.assert_allclose(values.loc[own.index, "mean"], own)
    assert (values.loc[values.n_rows == 0, "sd"] > 0).all()
    sd, share = fit.variable("sd_animal").to_numpy(), hp.heritability(fit)
    np.testing.assert_allclose(share["mean"], (sd**2 / (sd**2 + np.pi**2 / 3)).mean(), rtol=1e-6)
    with pytest.raises(HierpoolError, match="related groups") as caught:
        fit.loo()
    assert caught.value.code == "not-integrable"
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    pd.testing.assert_frame_equal(hp.breeding_values(again), values)
    assert np.isfinite(again.predict(made.head(3)).to_numpy(float)).all()
