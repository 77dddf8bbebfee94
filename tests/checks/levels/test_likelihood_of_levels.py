"""Own estimates of groups of a family: what maximum likelihood of a group alone gives in closed form."""

import numpy as np
import pandas as pd

import hierpool as hp
from hierpool.checks.levels.likelihood_of_levels import one_line, own_estimates


def own(y: list[float], family: str, par: tuple[float, ...] = (), beta: float = 0.3) -> np.ndarray:
    """Intercepts of three groups of four rows."""
    data = pd.DataFrame({"g": np.repeat(list("abc"), 4), "y": y})
    design = hp.Model("y ~ 1 + (1 | g)", data, family=family).design
    means = {"beta": np.array([beta]), "u_g": np.zeros((3, 1))}
    assert design.family is not None
    return own_estimates(design, design.family, design.groups[0], means, np.array(par))[:, 0]


def test_intercepts_of_counts_are_logs_of_their_means():
    y = [1.0, 2, 3, 4, 0, 0, 1, 3, 7, 5, 9, 11]
    wanted = np.log([2.5, 1, 8])
    np.testing.assert_allclose(own(y, "poisson"), wanted, atol=1e-6)
    np.testing.assert_allclose(own(y, "negbinomial", (2.0,)), wanted, atol=1e-5)


def test_groups_without_events_or_with_nothing_else_have_no_estimate():
    found = own([0.0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1], "bernoulli")
    np.testing.assert_allclose(found[0], np.log(1 / 3), atol=1e-6)
    assert np.isnan(found[1:]).all()


def test_estimates_do_not_depend_on_where_the_fixed_effects_are():
    y = [1.0, 2, 3, 4, 0, 0, 1, 3, 7, 5, 9, 11]
    np.testing.assert_allclose(own(y, "poisson", beta=0.3), own(y, "poisson", beta=-2), atol=1e-6)


def test_one_line_is_the_estimate_of_all_rows():
    data = pd.DataFrame({"g": list("aabb"), "y": [1.0, 2, 3, 6]})
    design = hp.Model("y ~ 1 + (1 | g)", data, family="poisson").design
    assert design.family is not None
    found = one_line(design, design.family, np.zeros(0))
    np.testing.assert_allclose(found, np.log(3), atol=1e-6)
