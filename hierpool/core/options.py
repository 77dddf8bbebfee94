"""What holds for the whole package: ``hp.options``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

from hierpool.core.arguments import is_inside, shown
from hierpool.core.errors import ArgumentError

DEFAULT_PROB = 0.95

_ELSEWHERE = {"ci_prob", "level", "hdi_prob", "probability", "conf_level", "confidence", "ci"}
_within: ContextVar[float | None] = ContextVar("hierpool_prob", default=None)


class Options:
    """Options of the package: ``hp.options.prob = 0.9``, or ``with hp.options(prob=0.9): ...``.

    An assignment holds for the whole program. A ``with`` holds inside it, for its own thread or
    asynchronous task and for the threads that hierpool starts there; an assignment inside it ends
    with it.

    Attributes
    ----------
    prob
        Probability of the intervals of every table, figure and sentence, 0.95 at first. An argument
        ``prob=`` of a function goes before it. ArviZ's own functions, such as ``az.summary``, keep
        ArviZ's setting.
    """

    __slots__ = ("_prob",)

    def __init__(self) -> None:
        self._prob = DEFAULT_PROB

    @property
    def prob(self) -> float:
        """Probability of intervals."""
        held = _within.get()
        return self._prob if held is None else held

    @prob.setter
    def prob(self, value: float) -> None:
        """Set it, for the program or for the context of a ``with``."""
        value = _checked(value)
        if _within.get() is None:
            self._prob = value
        else:
            _within.set(value)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in {"prob", "_prob"}:
            raise ArgumentError(f"hp.options has no {name!r}; it has prob", "unknown-choice")
        object.__setattr__(self, name, value)

    @contextmanager
    def __call__(self, *, prob: float) -> Iterator[Options]:
        """Context with another probability of intervals."""
        token = _within.set(_checked(prob))
        try:
            yield self
        finally:
            _within.reset(token)

    def __repr__(self) -> str:
        return f"hp.options: prob={self.prob:g} (intervals hold {100 * self.prob:.10g} %)"


options = Options()


def probability_of(prob: float | None = None) -> float:
    """The probability of an interval, checked; None: that of ``hp.options``."""
    if prob is None:
        return options.prob
    return _checked(prob)


def _checked(prob: object) -> float:
    if not is_inside(prob):
        raise ArgumentError(
            f"prob={shown(prob)}: the probability of an interval must lie between 0 and 1, e.g. 0.95",
            "bad-probability",
        )
    return float(prob)


def takes_prob[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: what other packages call ``prob`` is an error that names it."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in _ELSEWHERE & kwargs.keys():
            raise ArgumentError(
                f"{name}={shown(kwargs[name])}: the probability of an interval is prob=, e.g. "
                "prob=0.95",
                "bad-probability",
            )
        return function(*args, **kwargs)

    return checked


def percent(prob: float | None = None) -> str:
    """As in names of columns and in sentences: ``"95"``, ``"99.9"``."""
    return f"{100 * probability_of(prob):.10g}"


def tails(prob: float | None = None) -> tuple[float, float]:
    """Shares below the bounds of a central interval: 0.025 and 0.975 for 0.95."""
    outside = (1 - probability_of(prob)) / 2
    return outside, 1 - outside


def bound_names(kind: str, prob: float | None = None) -> tuple[str, str]:
    """Names of the columns of an interval: ``("ci95_lb", "ci95_ub")``."""
    name = f"{kind}{percent(prob)}"
    return f"{name}_lb", f"{name}_ub"


def bounds_among(columns: Iterable[object]) -> list[str]:
    """Names of those columns of a table that bound an interval, lower and upper."""
    return [str(c) for c in columns if str(c).endswith(("_lb", "_ub"))]
