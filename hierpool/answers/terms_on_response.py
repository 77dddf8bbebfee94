"""What a term of a family says on the scale of the response: probabilities and rates in a sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.expected_values import ExpectedValues, exposure_columns, is_per_unit
from hierpool.answers.linear_predictors import Held
from hierpool.answers.marginal_means import means_of_cells
from hierpool.answers.reference_grid import make_grid
from hierpool.answers.response_scale import ResponseScale, mean_in_words
from hierpool.answers.slopes import slopes_of_cells
from hierpool.answers.summarised import Asked, of_fit
from hierpool.answers.term_sentences import POINTS, Said
from hierpool.core.design import Design
from hierpool.core.fitted import Optimum
from hierpool.core.text import short


def on_response(fit: IntegratedPosterior | Optimum, said: Said, prob: float) -> str:
    """The means of the two categories that a term tells apart, or the slope of the mean."""
    if len(said.of.sides) != 1 or said.largest < 0:
        return ""
    (side,) = said.of.sides
    to = ResponseScale.of(fit.design, "response")
    held = Held.usual(fit.design, None, is_curved=True)
    one_family = np.zeros(len(side.values), dtype=int)
    if side.kind == "difference":
        grid = make_grid(fit.design, [side.column], [], None, "equal")
        asked = means_of_cells(held, grid, to, one_family, [side.column])
        means = of_fit(fit, asked, to, "none", prob).iloc[:, 0].to_numpy()
        k = said.of.chosen[said.largest][0]
        places = [side.values.index(v) for v in side.pairs[k]]
        names = said.pair(side, said.is_negative)
        first, second = (means[p] for p in (places[::-1] if said.is_negative else places))
        told = [_mean(fit.design, v) for v in (first, second)]
        return f"{_subject(fit.design)} is {told[0]} for {names[0]} and {told[1]} for {names[1]}."
    if side.kind != "slope":
        return ""
    made, _, _ = slopes_of_cells(held, side.column, [], None, "equal", to)
    assert isinstance(made, ExpectedValues)
    asked = Asked.of_expected(pd.RangeIndex(1), made, np.zeros(1, dtype=int), is_difference=True)
    table = of_fit(fit, asked, to, "none", prob)
    bounds = [c for c in table if str(c).endswith(("_lb", "_ub"))]
    values = table[[table.columns[0], *bounds]].to_numpy()[0]
    way = "rises" if values[0] >= 0 else "falls"
    values = values if values[0] >= 0 else -values[[0, 2, 1]]
    is_share = _is_share(fit.design)
    middle, low, high = (short(100 * v if is_share else v) for v in values)
    amount = f"{middle}{POINTS if is_share else ''} [{low}, {high}]"
    at = f"per unit of {side.column}, at the mean of {side.column}"
    return f"{_subject(fit.design)} {way} by {amount} {at}."


def _is_share(design: Design) -> bool:
    return design.family is not None and design.family.name in ("bernoulli", "binomial")


def _mean(design: Design, value: float) -> str:
    return f"{short(100 * value)} %" if _is_share(design) else short(value)


def _subject(design: Design) -> str:
    """What is averaged, and over what."""
    word = mean_in_words(design).split(" of ")[0]
    if design.family is not None and "hurdle" in design.family.parameters:
        word = f"{word} of all observations"  # beside the one before zeros are cut off
    per = (
        f" per unit of {' and '.join(exposure_columns(design))}" if is_per_unit(design, ()) else ""
    )
    return f"The {word}{per}"
