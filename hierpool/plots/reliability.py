"""Reliability diagram: whether predicted probabilities are the shares that happen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from hierpool.checks.accuracy.scores import brier
from hierpool.core.arguments import check_seed
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.fitted import Posterior
from hierpool.core.options import options, tails
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import WIDTH, dress, settle, sheet, titled, write_axis_labels
from hierpool.plots.sheet.style import FAINT, PARTIAL, RULE, styled

_SIMULATED = 1000  # sets of outcomes of which the band is made
_MOST_NUMBERS = 20_000_000
_LEAST = 100  # simulated sets of many rows
_HEIGHT, _STRIP = 3.4, 0.18  # of the panels in inches; share of the histogram
_BINS = 40
_WIDE = 0.6  # range of probabilities from which the axes go from 0 to 1


@dataclass(frozen=True)
class Reliability:
    """Isotonic regression of outcomes on their predicted probabilities (CORP).

    Attributes
    ----------
    probability
        Shape (m,): different predicted probabilities, ascending.
    trials, share
        Shape (m,): how many trials have each, and the isotonic share of successes there.
    lower, upper
        Shape (m,): bounds of the band of shares if the probabilities hold.
    score, miscalibration, discrimination, uncertainty
        The Brier score, which is miscalibration - discrimination + uncertainty.
    """

    probability: np.ndarray
    trials: np.ndarray
    share: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def reliability(fit: Posterior, *, seed: int = 0) -> Figure:
    """Reliability diagram of a response of 0 and 1, or of successes in trials.

    Each row is predicted from all others (``fit.loo_probabilities()``). The line is the share of
    successes at each predicted probability, by isotonic regression (CORP): it should follow the
    diagonal. It is steeper than the diagonal if the predictions are too cautious, flatter if they
    are too extreme. The band holds such lines, at each probability, if the predictions are
    calibrated and the rows independent. Below: how many trials have which probability.

    Parameters
    ----------
    fit
        A posterior of ``family="bernoulli"`` or ``"binomial"``.
    seed
        Of the outcomes that are simulated for the band.

    Raises
    ------
    UnsupportedModelError
        A fit that has no draws, or another response.

    References
    ----------
    Dimitriadis, Gneiting, Jordan (2021), Proc. Natl. Acad. Sci. 118, e2016191118.
    """
    line.check_has_draws(fit, "reliability(fit)")
    design, family = fit.design, fit.design.family
    if family is None or family.name not in ("bernoulli", "binomial"):
        raise UnsupportedModelError(
            f"a reliability diagram is of 0 and 1 or of successes in trials, and {design.spec.response} "
            "is neither. Use hp.plots.loo_pit(fit), or hp.plots.rootogram(fit) of counts",
            "no-probabilities",
        )
    trials = np.broadcast_to(np.asarray(design.trials, dtype=float), (design.n,))
    p = fit.loo_probabilities().to_numpy()
    found = corp(p, design.y, trials, np.random.default_rng(check_seed(seed)))
    with styled():
        return _draw(found, fit, (p, trials))


def corp(p: np.ndarray, y: np.ndarray, trials: np.ndarray, rng: np.random.Generator) -> Reliability:
    """Isotonic regression of successes y in trials on probabilities p, shapes (n,), with its band."""
    values, where = np.unique(np.round(p, 12), return_inverse=True)
    many = np.bincount(where, trials)
    happened = np.bincount(where, y)

    def isotonic(successes: np.ndarray) -> np.ndarray:
        return np.asarray(isotonic_regression(successes / many, weights=many).x)

    share = isotonic(happened)
    sets = int(np.clip(_MOST_NUMBERS // len(values), _LEAST, _SIMULATED))
    drawn = rng.binomial(many.astype(np.int64), np.clip(values, 0, 1), (sets, len(values)))
    lower, upper = np.quantile([isotonic(each) for each in drawn], tails(), axis=0)
    average = np.full(len(values), happened.sum() / many.sum())

    def score(of: np.ndarray) -> float:
        return float((many * brier(of, happened, many)).sum() / many.sum())

    own, again, base = score(values), score(share), score(average)
    parts = own, own - again, base - again, base
    return Reliability(values, many, share, lower, upper, *parts)


def _draw(found: Reliability, fit: Posterior, rows: tuple[np.ndarray, np.ndarray]) -> Figure:
    response = fit.design.spec.response
    figure = sheet(
        titled(f"Reliability of the predicted probabilities of {response}", fit.design.label),
        _HEIGHT,
        caption=_caption(found, fit),
    )
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[1 - _STRIP, _STRIP])
    ends = _range(found)
    _draw_line(top, found, ends)
    write_axis_labels(top, "", "share of successes", WIDTH, (1 - _STRIP) * _HEIGHT)
    dress(below)
    below.hist(rows[0], _BINS, range=ends, weights=rows[1], color=PARTIAL.color, alpha=0.6)
    write_axis_labels(below, "predicted probability", _counted(fit), WIDTH, _STRIP * _HEIGHT)
    settle(figure)
    return figure


def _range(found: Reliability) -> tuple[float, float]:
    """Ends of both axes: 0 and 1, or less where the probabilities are close to each other."""
    shown = np.concatenate([found.probability, found.share, found.lower, found.upper])
    low, high = float(shown.min()), float(shown.max())
    room = 0.05 * (high - low)
    return (0.0, 1.0) if high - low > _WIDE else (max(0.0, low - room), min(1.0, high + room))


def _counted(fit: Posterior) -> str:
    """What the probabilities are of."""
    family = fit.design.family
    return "trials" if family is not None and family.takes_trials else "rows"


def _draw_line(ax: Axes, found: Reliability, ends: tuple[float, float]) -> None:
    dress(ax)
    x = found.probability
    ax.fill_between(x, found.lower, found.upper, color=FAINT, linewidth=0, zorder=1)
    ax.plot([0, 1], [0, 1], color=RULE, linewidth=0.6, zorder=2)
    ax.plot(x, found.share, color=PARTIAL.color, linewidth=1.4, zorder=3)
    room = 0.02 * (ends[1] - ends[0])
    ax.set_xlim(*ends)
    ax.set_ylim(ends[0] - room, ends[1] + room)


def _caption(found: Reliability, fit: Posterior) -> str:
    outside = (found.share < found.lower) | (found.share > found.upper)
    where = float(found.trials[outside].sum() / found.trials.sum())
    return (
        f"Each of {fit.design.n} rows is predicted from all others. The line is the share of successes "
        f"at each predicted probability (isotonic regression); grey: {100 * options.prob:.0f} % of "
        "such lines, at each probability, if the predictions are calibrated. "
        f"Outside: {100 * where:.0f} % of the {_counted(fit)}. "
        f"Brier score {found.score:.3f} = miscalibration {found.miscalibration:.3f} − discrimination "
        f"{found.discrimination:.3f} + uncertainty {found.uncertainty:.3f}."
    )
