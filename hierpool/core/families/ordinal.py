"""Ordered ratings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import special

from hierpool.core.errors import DataError, listed
from hierpool.core.families import codes
from hierpool.core.families.family import LATENT, Family, check_varies


@dataclass(frozen=True)
class Ordinal(Family):
    """Cumulative model of ratings: P(Y <= k) = F(threshold_k - predictor).

    Parameters
    ----------
    link
        ``"logit"`` (proportional odds) or ``"probit"``.
    labels
        The ratings in order, as the rows have them; read from the data.
    """

    labels: tuple[Any, ...] = ()

    name = "ordinal"
    links = ("logit", "probit")
    takes_labels = True
    has_thresholds = True

    @property
    def n_categories(self) -> int:  # type: ignore[override]
        """C, the number of ratings."""
        return len(self.labels)

    @property
    def threshold_labels(self) -> list[str]:
        """Names of the C - 1 thresholds: ``"1|2"``."""
        return [f"{a}|{b}" for a, b in zip(self.labels, self.labels[1:], strict=False)]

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.ORDINAL_LOGIT if self.link == "logit" else codes.ORDINAL_PROBIT

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Zero."""
        return np.zeros(len(y))

    def at_most(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n, C - 1): P(Y <= k), of all ratings but the last."""
        cdf = special.expit if self.link == "logit" else special.ndtr
        par = np.atleast_2d(par)
        return np.asarray(cdf(par[:, None, :] - np.asarray(eta)[..., None]))

    def probabilities(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n, C): of each rating."""
        below = self.at_most(eta, par)
        return np.diff(below, axis=-1, prepend=0.0, append=1.0)

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Mean rating, the first counted as 1."""
        return np.asarray(1 + (1 - self.at_most(eta, par)).sum(axis=-1))

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """Of the rating, counted from 1."""
        p = self.probabilities(eta, par)
        score = np.arange(1.0, p.shape[-1] + 1)
        return np.asarray(p @ score**2 - (p @ score) ** 2)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y), y from 0."""
        below = self.at_most(eta, par)
        below = np.concatenate([below, np.ones((*below.shape[:-1], 1))], axis=-1)
        at = np.broadcast_to(np.asarray(y, dtype=np.intp), below.shape[:-1])
        return np.asarray(np.take_along_axis(below, at[..., None], axis=-1)[..., 0])

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Ratings from 0."""
        uniform = rng.uniform(size=np.shape(eta))[..., None]
        return (uniform > self.at_most(eta, par)).sum(axis=-1).astype(float)

    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The family with its ratings; an error unless these are whole numbers without a gap."""
        values = np.unique(y)
        if (values != np.floor(values)).any():
            wrong = values[values != np.floor(values)][0]
            raise DataError(
                f"ratings are whole numbers or an ordered category, and {name!r} has {wrong:g}. For "
                "measurements leave family= out",
                "not-ratings",
            )
        check_varies(y, name)
        missing = np.setdiff1d(np.arange(values[0], values[-1]), values)
        if len(missing):
            shown = [f"{v:g}" for v in missing]
            raise DataError(
                f"no row of {name!r} has the rating {listed(shown, most=4)}, between {values[0]:g} and "
                f"{values[-1]:g}, so nothing is known of its thresholds. Join it with a neighbour, or "
                f"number the ratings anew: data[{name!r}] = data[{name!r}].rank(method='dense')",
                "ratings-with-gaps",
            )
        if len(values) > 50:
            raise DataError(
                f"{name!r} has {len(values)} different values, too many for ratings. For measurements "
                "leave family= out; for counts use family='poisson'",
                "not-ratings",
            )
        return replace(self, labels=tuple(int(v) for v in values))

    def from_numbers(
        self, y: np.ndarray, name: str, trials: np.ndarray | None
    ) -> tuple[np.ndarray, Self]:
        """Positions of the ratings, from 0."""
        family = self.checked(y, name, trials)
        return y - y.min(), family

    def from_labels(self, cells: pd.Series[Any], name: str) -> tuple[np.ndarray, Self]:
        """Positions of the categories, in their order."""
        is_ordered = isinstance(cells.dtype, pd.CategoricalDtype) and cells.dtype.ordered
        if not is_ordered:
            labels = listed(sorted(map(str, cells.unique())), most=6)
            raise DataError(
                f"the ratings in {name!r} are text ({labels}), which has no order. Give them one, "
                f"lowest first: data[{name!r}] = pandas.Categorical(data[{name!r}], [...], "
                "ordered=True)",
                "ratings-without-order",
            )
        codes = cells.cat.codes.to_numpy()
        used = np.unique(codes)
        between = np.setdiff1d(np.arange(used[0], used[-1]), used)
        if len(between):
            unused = [cells.cat.categories[k] for k in between]
            raise DataError(
                f"no row of {name!r} has the rating {listed(unused, most=4)}, which lies between others, "
                "so nothing is known of its thresholds. Join it with a neighbour: "
                f"data[{name!r}] = data[{name!r}].cat.remove_unused_categories()",
                "ratings-with-gaps",
            )
        if len(used) < 2:
            raise DataError(
                f"the response {name!r} is {cells.cat.categories[used[0]]!r} in every row, so there "
                "is nothing to explain. Check the column and the rows with missing values",
                "constant-response",
            )
        ratings = tuple(map(str, cells.cat.categories[used]))
        return (codes - used[0]).astype(float), replace(self, labels=ratings)

    def latent_variance(self, par: np.ndarray, mean: float) -> np.ndarray | None:
        """Of the distribution that the link stands for."""
        return np.full(len(par), LATENT[self.link])
