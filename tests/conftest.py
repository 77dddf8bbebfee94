"""Fitted models that tests share: each is built, drawn and optimised at most once in a run.

``fitted["sleepstudy_slopes"].posterior`` draws when it is first asked for, by the exact engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial

import matplotlib as mpl
import pytest

import hierpool as hp
from tests.support import cases

mpl.use("Agg")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--case", default="", help="of tests of many cases, run those with this text")


def pytest_configure(config: pytest.Config) -> None:
    cases.only = config.getoption("--case")


Builder = Callable[[object], hp.Model]


def formula(text: str) -> Builder:
    """Builder of a model from a formula."""
    return partial(hp.Model, text)


def pooled(pooling: str, text: str, group: str) -> Builder:
    """Builder of a model by one of the functions of the face."""
    return lambda data: getattr(hp, pooling)(text, data, group)


MODELS: dict[str, tuple[str, Builder]] = {
    "sleepstudy_complete": ("sleepstudy", pooled("complete_pooling", "Reaction ~ Days", "Subject")),
    "sleepstudy_intercepts": ("sleepstudy", formula("Reaction ~ Days + (1 | Subject)")),
    "sleepstudy_slope_only": ("sleepstudy", formula("Reaction ~ Days + (0 + Days | Subject)")),
    "sleepstudy_uncorrelated": ("sleepstudy", formula("Reaction ~ Days + (Days || Subject)")),
    "sleepstudy_slopes": ("sleepstudy", formula("Reaction ~ Days + (Days | Subject)")),
    "sleepstudy_no_pooling": ("sleepstudy", pooled("no_pooling", "Reaction ~ Days", "Subject")),
    "radon_complete": ("radon", pooled("complete_pooling", "log_radon ~ floor", "county")),
    "radon_intercepts": ("radon", formula("log_radon ~ floor + (1 | county)")),
    "radon_slopes": ("radon", formula("log_radon ~ floor + (floor | county)")),
    "radon_uranium": ("radon", formula("log_radon ~ floor + log_uranium + (1 | county)")),
    "radon_no_pooling": ("radon", pooled("no_pooling", "log_radon ~ floor", "county")),
    "boars_intercepts": ("boars", formula("volume ~ time + (1 | boar)")),
    "boars_slopes": ("boars", formula("volume ~ time + (time | boar)")),
    "boars_no_pooling": ("boars", pooled("no_pooling", "volume ~ time", "boar")),
    "orthodont_slopes": ("Orthodont", formula("distance ~ age + (age | Subject)")),
    "orthodont_sex": ("Orthodont", formula("distance ~ age * Sex + (age | Subject)")),
    "machines_slopes": ("Machines", formula("score ~ Machine + (Machine | Worker)")),
    "dyestuff": ("Dyestuff", formula("Yield ~ 1 + (1 | Batch)")),
    "dyestuff2": ("Dyestuff2", formula("Yield ~ 1 + (1 | Batch)")),
    "rail": ("Rail", formula("travel ~ 1 + (1 | Rail)")),
}


class Fitted:
    """One model of the table with its fits, each made when it is first asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dataset, self._build = MODELS[name]

    @cached_property
    def model(self) -> hp.Model:
        """The model, on its bundled table."""
        return self._build(hp.datasets.load(self.dataset))

    @cached_property
    def posterior(self) -> hp.PosteriorFit:
        """4 x 1000 draws of the exact engine, seed 1."""
        return self.model.fit(engine="exact", seed=1, progress=False)

    @cached_property
    def reml(self) -> hp.LikelihoodFit:
        """REML optimum; least squares for complete and no pooling."""
        return self.model.reml()

    @cached_property
    def ml(self) -> hp.LikelihoodFit:
        """ML optimum; least squares for complete and no pooling."""
        return self.model.ml()


class Table(Mapping[str, Fitted]):
    """Name -> ``Fitted``; an entry is made when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Fitted] = {}

    def __getitem__(self, name: str) -> Fitted:
        if name not in self._made:
            self._made[name] = Fitted(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODELS)

    def __len__(self) -> int:
        return len(MODELS)


@pytest.fixture(scope="session")
def fitted() -> Table:
    """The table of fitted models, by the names of ``MODELS``."""
    return Table()
