"""Names and dims of results."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool.core.results import constant_data


@pytest.mark.parametrize(("name", "stored"), [("mg/dl", "mg_dl"), ("obs", "obs_"), ("x", "x")])
def test_predictor_whose_name_a_tree_cannot_hold_is_stored_under_another(name, stored):
    dose = np.arange(30.0) % 7
    data = hp.datasets.load("Dyestuff").assign(**{name: dose})
    held = constant_data(hp.Model(f"Yield ~ `{name}` + (1 | Batch)", data).design)
    np.testing.assert_array_equal(held[stored], dose)
