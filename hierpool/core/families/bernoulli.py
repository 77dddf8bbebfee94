"""Yes or no, and numbers of successes in trials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy import special, stats

from hierpool.core.errors import DataError, ResponseError, listed
from hierpool.core.families import codes
from hierpool.core.families.family import LATENT, Family, check_varies

_CODES = {"logit": codes.LOGIT, "probit": codes.PROBIT, "cloglog": codes.CLOGLOG}


@dataclass(frozen=True)
class Binomial(Family):
    """Number of successes in a known number of trials.

    Parameters
    ----------
    link
        ``"logit"``, ``"probit"`` or ``"cloglog"``.
    """

    name: ClassVar[str] = "binomial"
    links: ClassVar[tuple[str, ...]] = tuple(_CODES)
    takes_trials: ClassVar[bool] = True

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return _CODES[self.link]

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Log of the number of ways, shape (n,)."""
        ways = special.gammaln(trials + 1) - special.gammaln(y + 1)
        return np.asarray(ways - special.gammaln(trials - y + 1))

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Probability of a success."""
        return self.inverse_link(eta)

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """Of the number of successes."""
        p = self.inverse_link(eta)
        return np.asarray(trials * p * (1 - p))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        return np.asarray(stats.binom.cdf(y, trials, self.inverse_link(eta)))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Numbers of successes."""
        many = np.broadcast_to(trials, eta.shape).astype(np.int64)
        return rng.binomial(many, self.inverse_link(eta)).astype(float)

    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The same; an error unless 0 <= y <= trials, both whole."""
        assert trials is not None
        for values, what, least in ((trials, "number of trials", 1), (y, "number of successes", 0)):
            wrong = (values < least) | (values != np.floor(values)) | ~np.isfinite(values)
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                raise ResponseError(
                    f"the {what} is {values[row]:g}",
                    "not-counts",
                    after=(
                        f", and must be a whole number of at least {least}. On the left stand counts: "
                        "successes / trials, not a share"
                    ),
                    place=row,
                )
        if (y > trials).any():
            row = int(np.flatnonzero(y > trials)[0])
            raise ResponseError(
                f"{name!r} is {y[row]:g} of {trials[row]:g} trials",
                "trials-below-successes",
                after=(
                    ": more successes than trials. Check the two columns; if the second one counts "
                    "failures, add them: data['n'] = successes + failures"
                ),
                place=row,
            )
        if not (y > 0).any() or not (y < trials).any():
            what = "no trial" if not (y > 0).any() else "every trial"
            raise DataError(
                f"{what} is a success, so there is nothing to explain. Check {name!r} and the rows "
                "with missing values",
                "constant-response",
            )
        return self

    def latent_variance(self, par: np.ndarray, mean: float) -> np.ndarray | None:
        """Of the distribution that the link stands for."""
        return np.full(len(par), LATENT[self.link])


@dataclass(frozen=True)
class Bernoulli(Binomial):
    """Yes or no, 1 or 0, or a column of two labels.

    Parameters
    ----------
    link
        ``"logit"``, ``"probit"`` or ``"cloglog"``.
    event
        Label of what the probability is of. None: 1, True, or the second of two labels in category
        order, else sorted.
    """

    event: Any = None

    name: ClassVar[str] = "bernoulli"
    takes_trials: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = True

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Zero."""
        return np.zeros(len(y))

    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The same; an error unless the response is 0 and 1."""
        values = np.unique(y)
        if not np.isin(values, (0.0, 1.0)).all():
            shown = listed([f"{v:g}" for v in values], most=4)
            two = len(values) == 2
            turn = f"data['event'] = (data[{name!r}] == {values[-1]:g}).astype(int)"
            more = (
                f"say which is the event: {turn}"
                if two
                else (
                    "ratings take family='ordinal', counts family='poisson', successes out of n trials "
                    "family='binomial'"
                )
            )
            raise DataError(
                f"family='bernoulli' takes a response of 0 and 1, and {name!r} is {shown}: {more}",
                "not-binary",
            )
        check_varies(y, name)
        return self

    def from_numbers(
        self, y: np.ndarray, name: str, trials: np.ndarray | None
    ) -> tuple[np.ndarray, Self]:
        """0 and 1, turned round where the event is another number than 1."""
        if self.event is None:
            return y, self.checked(y, name, trials)
        values = np.unique(y)
        if len(values) == 2 and self.event in values:
            y = (y == self.event).astype(float)
            return y, self.checked(y, name, trials)
        raise _no_event(self.event, name, values.tolist())

    def from_labels(self, cells: pd.Series[Any], name: str) -> tuple[np.ndarray, Self]:
        """1 where the label is that of the event."""
        is_category = isinstance(cells.dtype, pd.CategoricalDtype)
        used = pd.Index(cells.unique())
        order = cells.cat.categories[cells.cat.categories.isin(used)] if is_category else used
        labels = list(order) if is_category else sorted(used, key=lambda v: (str(type(v)), v))
        if len(labels) == 1:
            raise DataError(
                f"the response {name!r} is {labels[0]!r} in each of the {len(cells)} rows, so there is "
                "nothing to explain. Check the column and the rows with missing values",
                "constant-response",
            )
        if len(labels) != 2:
            raise DataError(
                f"family='bernoulli' takes two labels, and {name!r} has {len(labels)} different labels: "
                f"{listed(labels, most=4)}. Ordered ratings take family='ordinal'; or make one of "
                f"two, data['event'] = (data[{name!r}] == {labels[-1]!r}).astype(int)",
                "not-binary",
            )
        event = labels[1] if self.event is None else self.event
        if event not in labels:
            raise _no_event(event, name, labels)
        return (cells == event).to_numpy(dtype=float), replace(self, event=event)


def _no_event(event: Any, name: str, labels: list[Any]) -> DataError:
    return DataError(
        f"the event {event!r} is none of the labels of {name!r}: {listed(labels, most=6)}. Write "
        f"family=hp.families.Bernoulli(event={labels[-1]!r})",
        "not-binary",
    )
