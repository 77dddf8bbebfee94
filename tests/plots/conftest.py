"""Small simulated tables, and a judge of drawn texts: none cut off, no two over each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

KEYS = ["factor", "level", "term"]
SLACK = 0.5  # pixels; boxes are rounded outwards to whole pixels


@pytest.fixture
def drawn_texts(monkeypatch) -> Callable[[Figure], list[Text]]:
    """The texts that a figure really draws: visible, not empty, ticks within their axis."""

    def draw(figure: Figure) -> list[Text]:
        drawn: list[Text] = []
        original = Text.draw

        def record(self, renderer, *args, **kwargs):
            if self.get_visible() and self.get_text().strip():
                drawn.append(self)
            return original(self, renderer, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Text, "draw", record)
            figure.draw_without_rendering()
        return drawn

    return draw


@pytest.fixture
def assert_legible(drawn_texts) -> Callable[[Figure], list[str]]:
    """Fail where a text is too small, cut off by the figure's edge or over another; the texts."""

    def judge(figure: Figure) -> list[str]:
        texts = drawn_texts(figure)
        assert texts
        assert all(t.get_fontsize() >= 7 for t in texts)
        boxes = [t.get_window_extent(figure.canvas.get_renderer()) for t in texts]
        extents = np.array([b.extents for b in boxes])
        wide, tall = figure.canvas.get_width_height()
        outside = (extents[:, :2].min(axis=1) < -SLACK) | (extents[:, 2] > wide + SLACK)
        outside |= extents[:, 3] > tall + SLACK
        assert not outside.any(), [texts[k].get_text() for k in np.flatnonzero(outside)]
        assert overlapping(texts, extents) == []
        return [t.get_text() for t in texts]

    return judge


def overlapping(texts: list[Text], extents: np.ndarray) -> list[tuple[str, str]]:
    found = []
    order = np.argsort(extents[:, 0])
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if extents[j, 0] >= extents[i, 2] - SLACK:
                break
            low = max(extents[i, 1], extents[j, 1])
            high = min(extents[i, 3], extents[j, 3])
            if high - low > SLACK:
                found.append((texts[i].get_text(), texts[j].get_text()))
    return found


def long_names(count: int) -> list[str]:
    stems = [
        "Ærøskøbing, søndre afdeling for åben malkekvæg",
        "Χαλκιδική — Πρότυπο Κέντρο Αναπαραγωγής",
        "Новосибирск: станция искусственного осеменения",
        r"$\frac{1}{2}$_boar%_{x}^2 & <b>Ångström</b>",
        "50% off_$5 and $7 <script>alert('Ǻ')</script>",
    ]
    return [f"{stems[k % len(stems)]} nº {k}" for k in range(count)]


@pytest.fixture
def names() -> Callable[[int, str], list[object]]:
    """Labels of levels: numbers, or long names with signs that TeX and HTML would eat."""

    def make(count: int, kind: str) -> list[object]:
        return list(range(101, 101 + count)) if kind == "numbers" else long_names(count)

    return make


@pytest.fixture
def level_index() -> Callable[..., pd.MultiIndex]:
    def make(levels, terms=("Intercept", "time"), factor="boar") -> pd.MultiIndex:
        return pd.MultiIndex.from_product([[factor], levels, terms], names=KEYS)

    return make


@pytest.fixture
def pulled(level_index) -> Callable[..., pd.DataFrame]:
    """A table as hp.shrinkage makes them, own estimates missing for some levels on request."""

    def make(levels, terms=("Intercept", "time"), unknown=0, seed=1) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        q, count = len(terms), len(levels)
        center, spread = np.linspace(200, 5, q), np.linspace(30, 3, q)
        own = center + rng.normal(size=(count, q)) * spread
        own[:unknown, -1] = np.nan
        factor = rng.uniform(0.2, 0.8, size=(count, q))
        pooled = center + (1 - factor) * (np.where(np.isnan(own), center, own) - center)
        columns = {
            "n": np.repeat(rng.integers(1, 30, count), q),
            "own_estimate": own.ravel(),
            "partial_pooling": pooled.ravel(),
            "population": np.tile(center, count),
            "complete_pooling": np.tile(center + 0.1 * spread, count),
            "pooling_factor": factor.ravel(),
        }
        return pd.DataFrame(columns, index=level_index(levels, terms))

    return make


@pytest.fixture
def estimated(level_index) -> Callable[..., tuple[pd.DataFrame, pd.DataFrame]]:
    """Tables of random effects: of a posterior, of BLUPs."""

    def make(levels, terms=("Intercept", "time"), seed=2) -> tuple[pd.DataFrame, pd.DataFrame]:
        rng = np.random.default_rng(seed)
        index = level_index(levels, terms)
        scale = np.tile(np.linspace(30, 3, len(terms)), len(levels))
        mean, sd = rng.normal(size=len(index)) * scale, 0.5 * scale
        bounds = {"eti95_lb": mean - 1.6 * sd, "eti95_ub": mean + 1.6 * sd}
        posterior = pd.DataFrame({"mean": mean, "sd": sd, **bounds, "r_hat": 1.0}, index=index)
        blup = pd.DataFrame({"estimate": mean + 0.05 * sd, "se": 0.95 * sd}, index=index)
        return posterior, blup

    return make


@pytest.fixture
def compared(estimated) -> Callable[..., pd.DataFrame]:
    """A table as hp.compare_blups makes them."""

    def make(levels, terms=("Intercept", "time"), seed=3) -> pd.DataFrame:
        posterior, blup = estimated(levels, terms)
        noise = np.random.default_rng(seed).normal(size=len(posterior)) * 0.1 * posterior["sd"]
        return pd.DataFrame(
            {
                "posterior_mean": blup["estimate"] + noise,
                "posterior_sd": posterior["sd"],
                "mcse": 0.01 * posterior["sd"],
                "blup": blup["estimate"],
                "blup_se": blup["se"],
                "difference": noise,
                "due_to_coefficient_prior": 0.0,
                "due_to_variances": noise,
            }
        )

    return make


@pytest.fixture
def scored() -> Callable[..., pd.DataFrame]:
    """A table as az.compare makes them."""

    def make(models) -> pd.DataFrame:
        diff = -(np.arange(len(models)) ** 1.5)
        columns = {
            "rank": np.arange(len(models)),
            "elpd_diff": diff,
            "dse": 0.4 * np.sqrt(-diff),
            "diag_diff": ["" if k % 2 else "|elpd_diff| < 4" for k in range(len(models))],
            "diag_elpd": ["3 k̂ > 0.70" if k == 1 else "" for k in range(len(models))],
            "p": 3.0,
            "elpd": -861.9 + diff,
            "se": 22.0,
            "weight": 1 / len(models),
        }
        return pd.DataFrame(columns, index=models)

    return make


@pytest.fixture
def growth() -> Callable[..., pd.DataFrame]:
    """Rows of a response over time for each level; ``curve`` bends it."""

    def make(levels, rows=4, curve=0.0, uneven=False, seed=4) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        parts = []
        for k, level in enumerate(levels):
            count = 1 + (k % rows) + rows // 2 if uneven else rows
            time = np.arange(1, count + 1)
            mean = 240 + 30 * rng.normal() + (5 + 8 * rng.normal()) * time + curve * time**2
            volume = mean + 15 * rng.normal(size=count)
            parts.append(pd.DataFrame({"boar": level, "time": time, "volume": volume}))
        return pd.concat(parts, ignore_index=True)

    return make


@pytest.fixture
def poolings() -> Callable[..., dict[str, object]]:
    """Lines by least squares: all rows, each level, and half way between."""

    def make(data: pd.DataFrame, degree=1, terms=("Intercept", "time")) -> dict[str, object]:
        every = np.polyfit(data["time"], data["volume"], degree)[::-1]
        own = {}
        for level, rows in data.groupby("boar"):
            known = rows["time"].nunique() > degree
            fit = (
                np.polyfit(rows["time"], rows["volume"], degree)[::-1] if known else np.nan * every
            )
            own[level] = np.asarray(fit)
        index = pd.MultiIndex.from_product([["boar"], list(own), terms], names=KEYS)
        none = pd.DataFrame({"value": np.concatenate(list(own.values()))}, index=index)
        pull = none["value"].fillna(0) * 0.5 + 0.5 * np.tile(every, len(own))
        return {
            "complete_pooling": pd.Series(every, index=pd.Index(terms, name="term")),
            "no_pooling": none,
            "partial_pooling": pull.to_frame("value"),
        }

    return make
