"""What a sample of the rows tells of a model that was made of sums: residuals, curves, outliers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hierpool.checks.findings import response, rows
from hierpool.core.design import Design
from hierpool.core.errors import HierpoolError
from hierpool.core.findings import Finding
from hierpool.formula.build import build_design
from hierpool.model import best_optimum
from hierpool.studies import remedies
from hierpool.tables.engines import open_table
from hierpool.tables.sample import sample_rows

OF_ROWS = (rows.far_from_zero, rows.collinear, response.not_gaussian)
"""Judgements before a fit that sums do not allow."""


def checked_in_a_sample(design: Design, table: Any, seed: int) -> Iterator[Finding]:
    """Findings about the rows of a model that was made of sums, from a sample of them.

    The model is fitted to the sample by REML, and its residuals there are checked. Each finding says
    of which sample it is.
    """
    sample = sample_rows(design, open_table(table), seed)
    try:
        of_sample = build_design(design.spec, sample.frame)
        found = [f for judge in OF_ROWS for f in judge(of_sample)]
        blup = best_optimum(of_sample)
        found += [] if blup is None else remedies.weighed(blup)
    except HierpoolError as error:
        yield Finding(
            "rows-not-checked",
            "note",
            f"The model was made from sums, and it could not be fitted to {sample.words} to check "
            f"residuals: {error.message.rstrip('.')}.",
            "Fit the model to a sample of whole groups that you choose, and check that fit.",
        )
        return
    where = "" if sample.is_whole else f"In {sample.words}: "
    for finding in found:
        yield replace(finding, text=f"{where}{finding.text}")
    yield Finding(
        "rows-checked-in-sample",
        "note",
        f"The model was made from sums. Residuals were checked in {sample.words}, after fitting the "
        f"model to it by REML (seed {seed}).",
        "" if sample.is_whole else "Single rows and groups outside the sample were not seen.",
    )
