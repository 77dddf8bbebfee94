"""Residual structures of Potthoff and Roy's data, as SAS prints them, and which is recommended."""

from __future__ import annotations

import pandas as pd
import pytest

import hierpool as hp
from hierpool.studies.residual_ladder import _because, _recommended

# SAS/STAT 14.3, PROC MIXED, example 79.2: UN and CS by ML, to all digits that are printed.
PRINTED = {"us": 419.47704812, "cs": 428.63905802}
# -2 log L (ML), AIC, BIC with n = 27 subjects, log p(y), elpd of rows and of subjects
POTTHOFF_ROY = {
    "independent": (478.2, 488.2, 494.7, -254.31, -244.2, -246.6),
    "cs": (428.6, 440.6, 448.4, -231.23, -206.7, -222.9),
    "us": (419.5, 447.5, 465.6, -241.34, -223.0, -232.8),
}


@pytest.mark.slow
def test_potthoff_and_roy() -> None:
    model = hp.Model(
        "distance ~ age * Sex", hp.datasets.load("Orthodont"), residual="us(age | Subject)"
    )
    ladder = hp.residual_ladder(model, list(POTTHOFF_ROY), progress=False)
    table = ladder.table
    for name, (likelihood, aic, bic, evidence, row, group) in POTTHOFF_ROY.items():
        assert table.loc[name, "neg2_loglik"] == pytest.approx(likelihood, abs=0.05)
        assert table.loc[name, "aic"] == pytest.approx(aic, abs=0.05)
        assert table.loc[name, "bic"] == pytest.approx(bic, abs=0.05)
        assert table.loc[name, "log_evidence"] == pytest.approx(evidence, abs=0.05)
        assert table.loc[name, "elpd_row"] == pytest.approx(row, abs=0.4)
        assert table.loc[name, "elpd_group"] == pytest.approx(group, abs=0.4)
    for name, printed in PRINTED.items():
        assert table.loc[name, "neg2_loglik"] == pytest.approx(printed, abs=1e-6)
    assert ladder.recommended == "cs"
    assert "27 subjects" in str(ladder)
    assert ladder.model.design.residual_factor == "Subject"


def scores(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    columns = ["structure", "parameters", "elpd_group_diff", "dse"]
    table = pd.DataFrame(rows, columns=columns).set_index("structure")
    return table.assign(elpd_group=table["elpd_group_diff"] - 100, rejected_p=float("nan"))


def test_the_fewest_parameters_among_those_not_clearly_worse() -> None:
    table = scores(
        ("a", 1, -9.0, 3.0), ("b", 2, -9.0, 5.0), ("c", 2, -3.0, 0.1), ("d", 10, 0.0, 0.0)
    )
    assert _recommended(table) == "c"
    assert "fewer parameters (2 and 10)" in _because(table, "c", "pigs")
    assert _recommended(table.drop("c")) == "b"
    table.loc[["b", "c"], "rejected_p"] = 1e-6
    assert _recommended(table) == "d"
