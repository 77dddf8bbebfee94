"""Arguments that many functions take: a seed, a count, a probability, one of some words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeGuard

import numpy as np

from hierpool.core.errors import ArgumentError, listed, nearest


def check_seed(seed: object) -> int:
    """The seed as an integer; an error where it cannot be one."""
    return check_count("seed", seed, 0)


def check_count(name: str, value: object, least: int = 1) -> int:
    """The number as an integer; an error where it is not whole or less than ``least``."""
    if not is_whole(value) or value < least:
        raise ArgumentError(
            f"{name}={shown(value)} must be a whole number of at least {least}", "bad-count"
        )
    return int(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise unless it is one of these words."""
    if not isinstance(value, str):
        raise ArgumentError(
            f"{name}={shown(value)}: choose one of {listed(choices)}", "unknown-choice"
        )
    if value not in choices:
        raise ArgumentError(f"{name}={value!r}: {nearest(value, choices)}", "unknown-choice")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or of NumPy; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_word(value: object) -> bool:
    """Whether it is text; anything else may compare with text in its own way, as tables do."""
    return isinstance(value, str)


def is_inside(value: object) -> TypeGuard[float]:
    """Whether it is a number between 0 and 1."""
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    return is_number and bool(0 < value < 1)  # type: ignore[operator]


def shown(value: object) -> str:
    """As typed; of what is no number or word, such as a table, the type."""
    is_plain = value is None or isinstance(value, (int, float, str, np.number))
    return repr(value) if is_plain else f"<{type(value).__name__}>"


_LEVELS = {  # words of levels=, which groups= replaces
    "known": "own",
    "new": "allow new",
    "all new": "new",
    "population": "average",
    "average": "new",
}


def takes_groups[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: ``levels=`` is an error that says what to write in ``groups=``."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if "levels" in kwargs:
            given: Any = kwargs["levels"]
            word = _LEVELS.get(given, "new") if isinstance(given, str) else "new"
            raise ArgumentError(
                f"levels={shown(given)}: for which groups is said by groups=, e.g. "
                f"groups={word!r}; a label of your own, groups={{'boar': 'b7'}}",
                "bad-groups",
            )
        return function(*args, **kwargs)

    return checked
