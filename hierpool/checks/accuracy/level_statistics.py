"""What a grouped model should reproduce: statistics of a response, for many responses at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierpool.checks.residuals.autocorrelation import neighbours, time_of
from hierpool.checks.residuals.null_residuals import by_level_sums
from hierpool.core.design import Design, Grouping

ROWS = "rows"  # factor of statistics that know no levels
_LEAST = 1e-10  # sum of squares of a predictor within a level, of that over all, that tells a slope


@dataclass(frozen=True)
class Statistics:
    """Statistics of responses (n, m), whole or level by level.

    Attributes
    ----------
    design
        Whose rows they are of.
    """

    design: Design

    def whole(self, responses: np.ndarray) -> pd.DataFrame:
        """Index (factor, statistic), one column per response."""
        found: dict[tuple[str, str], np.ndarray] = {}
        for factor, grouping in self.design.groupings.items():
            means = self._means(responses, grouping)
            found[factor, "sd of means"] = means.std(axis=0, ddof=1)
            found[factor, "lowest mean"] = means.min(axis=0)
            found[factor, "highest mean"] = means.max(axis=0)
            for name, slopes in self._slopes(responses, grouping):
                found[factor, f"sd of slopes on {name}"] = slopes.std(axis=0, ddof=1)
                found[factor, f"lowest slope on {name}"] = slopes.min(axis=0)
                found[factor, f"highest slope on {name}"] = slopes.max(axis=0)
            if grouping.n_rows.max() > 1:
                found[factor, "sd within groups"] = self._within(responses, grouping)
            found |= self._serial(responses, grouping)
        found[ROWS, "mean"] = responses.mean(axis=0)
        found[ROWS, "lowest"] = responses.min(axis=0)
        found[ROWS, "highest"] = responses.max(axis=0)
        return _table(found, ["factor", "statistic"])

    def by_level(self, responses: np.ndarray) -> pd.DataFrame:
        """Index (factor, level, statistic), one column per response; NaN where not estimable."""
        tables = []
        for factor, grouping in self.design.groupings.items():
            found = {"mean": self._means(responses, grouping)}
            several = grouping.n_rows > 1
            if several.any():
                found["sd"] = np.where(several[:, None], self._sds(responses, grouping), np.nan)
            for name, values in self._slopes(responses, grouping):
                known, slopes = self._estimable(name, grouping), np.full_like(found["mean"], np.nan)
                slopes[known] = values
                found[f"slope on {name}"] = slopes
            stacked = np.stack(list(found.values()), axis=1)
            index = pd.MultiIndex.from_product(
                [[factor], grouping.levels, list(found)], names=["factor", "level", "statistic"]
            )
            tables.append(pd.DataFrame(stacked.reshape(len(index), -1), index=index))
        return pd.concat(tables)

    def _means(self, responses: np.ndarray, grouping: Grouping) -> np.ndarray:
        ones = np.ones((self.design.n, 1))
        return by_level_sums(ones, responses, grouping)[:, 0] / grouping.n_rows[:, None]

    def _sds(self, responses: np.ndarray, grouping: Grouping) -> np.ndarray:
        centred = responses - self._means(responses, grouping)[grouping.codes]
        squares = by_level_sums(np.ones((self.design.n, 1)), centred**2, grouping)[:, 0]
        return np.asarray(np.sqrt(squares / np.maximum(grouping.n_rows - 1, 1)[:, None]))

    def _within(self, responses: np.ndarray, grouping: Grouping) -> np.ndarray:
        centred = responses - self._means(responses, grouping)[grouping.codes]
        df = self.design.n - grouping.n_levels
        return np.asarray(np.sqrt((centred**2).sum(axis=0) / df))

    def _numbers(self, grouping: Grouping) -> Iterator[tuple[str, np.ndarray]]:
        """Numeric predictors that vary within levels, centred there."""
        for name in self.design.predictors:
            column = self.design.frame[name]
            if name in self.design.groupings or not pd.api.types.is_numeric_dtype(column):
                continue
            x = column.to_numpy(dtype=float)
            yield name, x - self._means(x[:, None], grouping)[grouping.codes, 0]

    def _estimable(self, name: str, grouping: Grouping) -> np.ndarray:
        """Shape (J,): whether a slope is estimable from the rows of a level."""
        x = dict(self._numbers(grouping))[name]
        squares = np.bincount(grouping.codes, x**2, grouping.n_levels)
        return np.asarray(squares > _LEAST * max(squares.max(), np.finfo(float).tiny))

    def _slopes(
        self, responses: np.ndarray, grouping: Grouping
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Least-squares slopes within levels on each predictor alone, shape (levels known, m)."""
        for name, x in self._numbers(grouping):
            known = self._estimable(name, grouping)
            if known.sum() > 1:
                squares = np.bincount(grouping.codes, x**2, grouping.n_levels)[known]
                products = by_level_sums(x[:, None], responses, grouping)[known, 0]
                yield name, products / squares[:, None]

    def _serial(
        self, responses: np.ndarray, grouping: Grouping
    ) -> dict[tuple[str, str], np.ndarray]:
        """Lag-1 correlation of the residuals from the group's own line."""
        name = time_of(self.design, grouping)
        if name is None:
            return {}
        left = responses - self._means(responses, grouping)[grouping.codes]
        x = dict(self._numbers(grouping))[name]
        squares = np.bincount(grouping.codes, x**2, grouping.n_levels)
        slopes = (
            by_level_sums(x[:, None], left, grouping)[:, 0]
            / np.where(squares > 0, squares, np.inf)[:, None]
        )
        left = left - x[:, None] * slopes[grouping.codes]
        first, second = neighbours(self.design, grouping, name)
        total = (left**2).mean(axis=0)
        r = (left[first] * left[second]).mean(axis=0) / np.where(total > 0, total, np.inf)
        return {(grouping.factor, f"lag-1 correlation over {name}"): r}


def _table(found: dict[tuple[str, str], np.ndarray], names: list[str]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(list(found), names=names)
    return pd.DataFrame(np.array(list(found.values())), index=index)
