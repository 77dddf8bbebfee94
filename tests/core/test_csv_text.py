"""Tables as CSV that a spreadsheet shows and does not run."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd

from hierpool.core.csv_text import csv_bytes
from tests.support.cases import each


def cells(table: pd.DataFrame, index: bool = True) -> list[list[str]]:
    return list(csv.reader(io.StringIO(csv_bytes(table, index).decode("utf-8"), newline="")))


@each("name", ["=1+1", "+a", "-a", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "＝1", "-1+2"])
@each("dtype", ["text", "category"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe_wherever_it_stands(name, dtype):
    table = pd.DataFrame(
        {
            name: pd.Categorical([name, "b"])
            if dtype == "category"
            else np.array([name, "b"], object)
        },
        index=pd.Index([name, "b"], name=name),
    )
    safe = f"'{name}"
    assert cells(table) == [[safe, safe], [safe, safe], ["b", "b"]]
    nested = table.set_index(pd.MultiIndex.from_tuples([(name, 1), ("b", 2)], names=[name, "k"]))
    assert cells(nested)[1] == [safe, "1", safe]


def test_numbers_keep_every_digit_and_their_sign():
    values = [-0.1 - 0.2, 1e-300, -5.0, np.nan]
    table = pd.DataFrame({"x": values, "t": ["-5", "+1.5e3", "-.5", None], "n": [-1, 2, 3, -4]})
    written = cells(table, index=False)
    assert [float(row[0]) for row in written[1:4]] == values[:3]
    assert written[4][0] == ""
    assert [row[1] for row in written[1:]] == ["-5", "+1.5e3", "-.5", ""]
    assert [row[2] for row in written[1:]] == ["-1", "2", "3", "-4"]


def test_what_needs_no_apostrophe_is_written_as_pandas_writes_it():
    table = pd.DataFrame(
        {"a": ['say "no"', "b,c"], "when": pd.to_datetime(["2024-01-02", "2024-02-03"])},
        index=pd.Index([3, 4], name="row"),
    )
    assert csv_bytes(table).decode() == table.to_csv(lineterminator="\n")
    assert csv_bytes(table, index=False).decode() == table.to_csv(index=False, lineterminator="\n")
